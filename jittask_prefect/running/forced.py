"""A forced end: the task is closed in the ledger, and its process is gone before the caller goes on."""

from __future__ import annotations

import os
import socket
import time

from ..elements.app import App
from ..errors import JittaskError, UnknownTask
from ..prefect_api import TERMINAL, Api
from ..rows import ledger
from ..rows.handover import hand_over
from ..rows.ledger import Entry
from ..rows.plan import Report
from .lease import Clock
from .task import after_return, next_of_row

END_SECONDS = 40.0  # the stock worker: 8 s until it sees the end, 30 s of grace for the process
LOOK_SECONDS = 0.2


def end(app: App, api: Api, database: str, entry: Entry, message: str, clock: Clock) -> tuple[str, bool]:
    """End a task, with what follows: `afterReturn`, and the next occurrence of its row.

    Args:
        app: The app.
        api: Prefect.
        database: Where the task's entry is.
        entry: The task, which is open.
        message: Why it ends.
        clock: Gives the present instant.

    Returns:
        The task's status now, and whether it is this that ended it.

    Raises:
        PrefectApiError: Prefect cannot be reached.
        JittaskError: The process did not end in time.
    """
    if entry.status == "executing" and entry.flow_run_id and entry.batch is None:
        # In a batch the process notices by itself: the flow run is not this row's alone.
        api.set_state(entry.flow_run_id, "CANCELLING", message=message)
    about = {"outcome": "forced", "message": message, "now": clock()}
    with app.engine(database).begin() as connection:
        changed = ledger.close(connection, entry.task_id, **about, within=ledger.OPEN)  # type: ignore[arg-type]
    if entry.status == "executing" and (changed or entry.batch is None):
        await_gone(api, entry, message, clock)
    with app.engine(database).connect() as connection:
        ended = ledger.find(connection, entry.task_id)
    if ended is None:
        raise UnknownTask(f"there is no such task: {entry.task_id!r}")
    # The process may have been faster: told to end by Prefect, it has written so itself.
    changed = changed or (entry.status == "executing" and ended.outcome == "forced")
    if changed:
        after_return(app, database, entry.task_id)
        next_of_row(app, database, entry, clock())
        hand_over(app, database, api, clock(), Report())
    return ended.status, changed


def await_gone(api: Api, entry: Entry, message: str, clock: Clock) -> None:
    """Wait until the process is gone: it watches for its end itself, and the worker kills it.

    Raises:
        JittaskError: It is still there after 40 seconds.
    """
    if not entry.flow_run_id:
        return
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        run = api.run(entry.flow_run_id)
        here = _process(entry)
        if (run is None or run.get("state_type") in TERMINAL) and here is not True:
            return
        gone = here is False or (here is None and _lease_over(entry, clock))
        if entry.batch is not None:
            if gone:
                return
        else:
            # Never begun, and the ledger lets nobody begin it.
            waits = run is not None and run.get("state_type") in ("SCHEDULED", "PENDING", "CANCELLING")
            if gone or (entry.owner is None and waits):
                api.set_state(entry.flow_run_id, "CANCELLED", message=message, force=True)
                return
        time.sleep(LOOK_SECONDS)
    raise JittaskError(
        f"task {entry.task_id} is ended, but its process ({entry.owner}) was still there after {END_SECONDS:g} s"
    )


def _process(entry: Entry) -> bool | None:
    """Whether the process that executes is there: None where it is on another host, or none is known."""
    host, _, rest = (entry.owner or "").partition(":")
    if host != socket.gethostname():
        return None
    pid = int(rest.partition(":")[0])
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _zombie(pid)


def _zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def _lease_over(entry: Entry, clock: Clock) -> bool:
    return entry.owner is not None and entry.lease_until is not None and entry.lease_until < clock()
