"""Verdicts carried out: each is a transition, with its own condition, so a verdict that comes too late does nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from jittask_prefect.ledger import handover_marks, transitions
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.tables import FINAL
from jittask_prefect.ledger.verdict import Verdict
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.api import BY_HAND

RESTORED = "according to Prefect; the ledger is older than that"


@dataclass(frozen=True)
class Ending:
    """How a task ended, according to Prefect; `attempt`: of a batch's row, in which attempt."""

    status: str
    outcome: str
    message: str
    attempt: int = 1


def recorded_endings(table: Sequence[Mapping[str, Any]]) -> dict[str, Ending]:
    """The endings in the table that a batch keeps of its rows, by task id."""
    found = {}
    for row in table:
        status, outcome = str(row.get("status")), str(row.get("outcome"))
        if status in FINAL:
            message = f"{row.get('reason') or 'done'} ({RESTORED})"
            attempt = int(row.get("attempt", 1))
            ended = Ending(status, outcome, message, attempt)
            found[str(row.get("taskId"))] = ended
    return found


def ending(verdict: Verdict, run: FlowRun | None, message: str = "") -> Ending | None:
    """How a task ended by a verdict; None where the task goes on, or ends by its worker's death."""
    why = run.message if run else ""
    match verdict:
        case Verdict.DONE:
            return Ending("completed", "completed", f"done {RESTORED}")
        case Verdict.FAILED:
            return Ending("error", "failed", f"{why} ({RESTORED})")
        case Verdict.TIMED_OUT:
            return Ending("error", "timeout", f"{why} ({RESTORED})")
        case Verdict.MARK:
            return Ending("ended", "forced", "ended: marked as completed in Prefect")
        case Verdict.CANCEL:
            return Ending("ended", "forced", message or BY_HAND)
    return None


def carry_out(
    connection: Connection,
    verdict: Verdict,
    entry: Entry,
    run: FlowRun | None,
    now: datetime,
    *,
    retries: int = 0,
    recorded: Mapping[str, Ending] | None = None,
    message: str = "",
    shown: bool = False,
) -> bool:
    """Carry a verdict out; whether the task has ended thereby, so that `afterReturn` and the next occurrence follow.

    Args:
        connection: In a transaction.
        verdict: The verdict. `ENTER` is left to the caller: a new entry needs the template.
        entry: The task as read before the verdict.
        run: Its flow run.
        now: The present instant.
        retries: How often the task may be tried again.
        recorded: The endings in the batch's table, by task id.
        message: Why a cancelled task ends; absent: that its run was cancelled in Prefect.
        shown: Prefect shows the end already.
    """
    how = ending(verdict, run, message)
    if verdict is Verdict.RECORDED:
        how = _unknown_ending(entry, recorded or {})
    if how is not None and how.outcome == "forced":
        return transitions.end(
            connection,
            entry.task_id,
            outcome=how.outcome,
            message=how.message,
            now=now,
            within=(entry.status,),
            dirty=not shown,
        )
    if how is not None and run is not None:
        transitions.restore(
            connection,
            entry.task_id,
            status=how.status,
            outcome=how.outcome,
            message=how.message,
            run_id=run.id,
            started=run.start_time or now,
            finished=run.end_time or now,
        )
    elif verdict in (Verdict.ANOTHER, Verdict.RECORDED):
        handover_marks.run_lost(connection, entry.task_id, entry.flow_run_id)
    elif verdict is Verdict.RETRY:
        transitions.retry(connection, entry, retries)
    elif verdict is Verdict.FAIL:
        return transitions.fail(connection, entry, now, dirty=not shown)
    return False


def _unknown_ending(entry: Entry, recorded: Mapping[str, Ending]) -> Ending | None:
    """A row's recorded ending in an attempt that the ledger does not know.

    Of a known attempt the ledger had the ending too: somebody has pressed Retry since.
    """
    how = recorded.get(entry.task_id)
    return how if how is not None and how.attempt > entry.attempt else None
