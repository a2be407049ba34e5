"""How executions end: of a task, and of a flow run with all its tasks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from jittask_prefect.elements.app import App
from jittask_prefect.errors import PrefectApiError
from jittask_prefect.errors.printable import escape_controls
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.planned_rows import Row
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.rows.row_labels import row_labels, row_of

log = logging.getLogger("jittask")


@dataclass(frozen=True)
class Run:
    """The flow run that executes.

    Attributes:
        id: The flow run's id.
        due: When the flow run was to start; aware.
        auto: Whether the schedule of a deployment made the flow run.
        begun: When the flow run began for the first time, where it is not the first time now; aware.
    """

    id: str
    due: datetime
    auto: bool = False
    begun: datetime | None = None


@dataclass(frozen=True)
class Outcome:
    """How a task ended in this flow run.

    Attributes:
        status: `completed`, `error` or `ended`.
        outcome: As in the ledger: completed, failed, timeout, superseded, skipped, …
        message: The reason; empty where the function returned.
        result: The function's result.
    """

    status: str
    outcome: str
    message: str
    result: Any = None


LEFT = Outcome("ended", "left", "put back: its worker stops, and it had not begun")
"""The task waits, in the same flow run, for another worker."""
TAKEN = Outcome("ended", "forced", "ended: the execution is no longer this worker's")


def label_of(outcome: Outcome) -> str | None:
    """The label of a flow run that ends without the function by our own doing.

    Returns:
        The reason; None where the function ran, or somebody ended the task.
    """
    if outcome == TAKEN:
        return "taken"
    ours = outcome.status == "ended" and outcome.outcome != "forced"
    return outcome.outcome if ours else None


def not_run(reason: str) -> Outcome:
    """The outcome of a flow run that leaves its task alone."""
    return Outcome("ended", "skipped", f"not run: {reason}")


def broken_message(name: str, reason: str) -> str:
    """Why a flow run does nothing for a broken template; another flow run follows."""
    return (
        f"not run: {name} is broken, its tasks wait until it is mended "
        f"(`jittask check`): {reason}"
    )


@dataclass
class Summary:
    """The tasks of a flow run, with their outcomes.

    Attributes:
        tasks: The tasks that ended, in order, each with its outcome.
        queued: Why the other tasks wait for a slot, in another flow run.
        left: How many tasks go on in another flow run, since the worker stops.
        broken: Why no task was begun: a part of the template cannot be read.
        before: Where no task was left, how many of this flow run's tasks had ended
            before, by status.
    """

    tasks: list[tuple[Entry, Outcome]] = field(default_factory=list)
    queued: str = ""
    left: int = 0
    broken: str = ""
    before: Mapping[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> list[tuple[Entry, Outcome]]:
        """The tasks whose function failed."""
        return [each for each in self.tasks if each[1].status == "error"]

    @property
    def done(self) -> bool:
        """Whether the flow run counts as completed."""
        if self.failed or self.broken:
            return False
        waits = self.queued or self.left or self.before.keys() == {"ended"}
        return bool(self.tasks) or not waits

    @property
    def label(self) -> str:
        """The label of a flow run that is neither failed nor done."""
        if self.left:
            return "left"
        return "broken" if self.broken else "queued" if self.queued else "skipped"

    def table(self, labels: Mapping[Row, str]) -> list[dict[str, Any]]:
        """The tasks as rows of the flow run's table, the failed ones first; with labels and levels where there are any.

        Args:
            labels: The labels of the rows.
        """
        ordered = sorted(self.tasks, key=lambda each: each[1].status != "error")
        levels = any(entry.level for entry, _ in ordered)
        return [
            {
                "row": entry.row_key,
                **({"label": labels.get(row_of(entry), "")} if labels else {}),
                **({"level": entry.level or ""} if levels else {}),
                "status": outcome.status,
                "outcome": outcome.outcome,
                "reason": escape_controls(outcome.message),
                "attempt": entry.attempt,
                "taskId": entry.task_id,
            }
            for entry, outcome in ordered
        ]

    def __str__(self) -> str:
        if self.broken:
            return self.broken
        left = f"{self.left} go on in another run, since the worker stops"
        if not self.tasks and self.left:
            return f"not run: {left}"
        if not self.tasks and self.queued:
            return f"not run: queued: {self.queued}"
        if not self.tasks and self.before:
            before = sorted(self.before.items())
            counts = ", ".join(f"{number} {status}" for status, number in before)
            kind = "nothing ran" if self.done else "not run"
            return f"{kind}: the rows of this run have ended before: {counts}"
        number = Counter(outcome.status for _, outcome in self.tasks)
        words = {"completed": "done", "error": "failed", "ended": "not run"}
        counts = ", ".join(
            f"{number[status]} {word}"
            for status, word in words.items()
            if number[status]
        )
        rows = "1 row" if len(self.tasks) == 1 else f"{len(self.tasks)} rows"
        queued = f"; the others are queued: {self.queued}" if self.queued else ""
        more = f"; {left}" if self.left else queued
        return f"{rows}: {counts or 'nothing left to do'}{more}"


def keep_table(app: App, api: Api, run_id: str, summary: Summary) -> None:
    """Keep the outcomes of a batch's rows as a table of the flow run.

    The ledger is the record; a ledger that is restored from an older copy reads this table.
    """
    labels = row_labels(app, [row_of(entry) for entry, _ in summary.tasks])
    rows = summary.table(labels)
    if not rows:
        return
    try:
        api.put_table(run_id, f"rows-{run_id}", rows, str(summary))
    except PrefectApiError as error:
        log.warning("the table of the batch's rows could not be kept: %s", error)
