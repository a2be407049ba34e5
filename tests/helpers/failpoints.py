"""Where a process may be killed: named calls of the package, the process ends before or after the n-th one.

The package knows nothing of this: a child process wraps the function before it begins its work.
"""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Callable
from typing import Any

from jittask_prefect.errors import PrefectApiError

SYNC = {
    "before-lease": ("ledger.state_table:take_lease", "before"),
    "after-lease": (
        "rows.sync:versions.require",
        "before",
    ),  # the second one: the lease is committed, nothing is planned
    "after-plan": ("rows.sync:apply_all", "before"),
    "after-apply": ("rows.sync:apply_all", "after"),
    "after-memory": ("ledger.watermarks:remember", "after"),
    "before-close": ("ledger.planned_rows:supersede", "before"),
    "after-close": ("ledger.planned_rows:supersede", "after"),
    "before-insert": ("ledger.planned_rows:plan", "before"),
    "after-insert": ("ledger.planned_rows:plan", "after"),
    "before-watermark": ("ledger.state_table:put", "before"),
    "after-watermark": ("ledger.state_table:put", "after"),
    "before-recover": ("rows.sync:settle_dead", "before"),
    "after-recover": ("rows.sync:settle_dead", "after"),
    "after-settle": ("rows.sync:settle_waiting", "after"),
    "before-end": ("api:set_state", "before"),
    "after-end": ("api:set_state", "after"),
    "before-create": ("api:create_run", "before"),
    "after-create": ("api:create_run", "after"),
    "between-create-and-mark": ("ledger.handover_marks:runs_made", "before"),
    "after-mark": ("ledger.handover_marks:runs_made", "after"),
    "before-free": ("ledger.state_table:free_lease", "before"),
    "after-free": ("ledger.state_table:free_lease", "after"),
}
EXECUTION = {
    "before-claim": ("ledger.transitions:claim", "before"),
    "uncommitted-claim": ("ledger.transitions:claim", "after"),
    "before-begin": ("ledger.transitions:begin", "before"),
    "uncommitted-begin": ("ledger.transitions:begin", "after"),
    "after-begin": ("running.attempt:Attempt.run", "before"),
    "before-function": ("running.attempt:call_function", "before"),
    "after-function": ("running.attempt:call_function", "after"),
    "before-finish": ("ledger.transitions:finish", "before"),
    "after-finish": ("ledger.transitions:finish", "after"),
    "before-commit": ("elements.row_session:RowSession.finish", "before"),
    "after-commit": ("elements.row_session:RowSession.finish", "after"),
    "before-return": ("running.executor:Executor._follow_up", "before"),
    "before-state": ("api:set_state", "before"),
}
BATCH_SYNC = {
    "between-batch-and-mark": ("ledger.handover_marks:batch_joined", "before"),
    "after-batch-mark": ("ledger.handover_marks:batch_joined", "after"),
}
BATCH_EXECUTION = {
    "before-table": ("api:put_table", "before"),
    "after-table": ("api:put_table", "after"),
}
EVERY = {**SYNC, **EXECUTION, **BATCH_SYNC, **BATCH_EXECUTION}
STOPS = (
    "after-plan",
    "before-recover",
    "after-recover",
    "after-settle",
    "before-create",
    "after-create",
)
"""Where a process may also stand still: outside a transaction, whose locks would keep everybody waiting."""
SKIP = {"after-lease": 1}
"""How many calls come before the one that is meant."""


def _holder(target: str, api: Any) -> tuple[Any, str]:
    """The object whose attribute is the function, and the attribute's name."""
    module, _, path = target.partition(":")
    holder = (
        api if module == "api" else importlib.import_module(f"jittask_prefect.{module}")
    )
    *outer, name = path.split(".")
    for part in outer:
        holder = getattr(holder, part)
    getattr(holder, name)
    return holder, name


def absent(api: Any) -> list[str]:
    """The failpoints whose function the package does not have any more: this table is to be brought up to date."""
    missing = []
    for name, (target, _) in EVERY.items():
        try:
            _holder(target, api)
        except (AttributeError, ImportError):
            missing.append(name)
    return missing


def arm(name: str, nth: int, api: Any, what: int = signal.SIGKILL) -> None:
    """Have this process killed (or stopped) at a failpoint's n-th call (from 1)."""
    target, when = EVERY[name]
    left = [nth + SKIP.get(name, 0)]

    def die() -> None:
        os.kill(os.getpid(), what)

    def around(real: Callable[..., Any], *args: Any, **keys: Any) -> Any:
        left[0] -= 1
        meant = left[0] == 0  # the function may call itself
        if meant and when == "before":
            die()
        found = real(*args, **keys)
        if meant and when == "after":
            die()
        return found

    _wrap(target, api, around)


def lose_answers(api: Any, often: Callable[[], bool]) -> None:
    """Have some answers of the server be lost, after it has done what it was asked."""

    def around(real: Callable[..., Any], *args: Any, **keys: Any) -> Any:
        found = real(*args, **keys)
        if often():
            raise PrefectApiError("the answer was lost")
        return found

    _wrap("api:create_run", api, around)


def _wrap(target: str, api: Any, around: Callable[..., Any]) -> None:
    holder, name = _holder(target, api)
    real = getattr(holder, name)
    if isinstance(holder, type):
        setattr(
            holder, name, lambda self, *args, **keys: around(real, self, *args, **keys)
        )
    else:
        setattr(holder, name, lambda *args, **keys: around(real, *args, **keys))
