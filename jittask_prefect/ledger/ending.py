"""What the end of a flow run means for a task that the ledger still has as waiting.

In one timeline the ledger is always first: it has a task as done before Prefect has its run as completed. So where a
run ended by itself and its task waits, the ledger is an older copy, and what was done stays done.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from jittask_prefect.ledger import transitions
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.client import Api

# What a run takes at most from Pending to its claim: where its process, or container, is started only then; and in a
# pool of ours, whose worker has a process ready beforehand. With a sync each minute the latter is taken up in 80 s.
TO_BEGIN, TO_BEGIN_WARM = timedelta(minutes=3), timedelta(seconds=20)
WARM = "jittask"  # the type of a work pool of ours
RESTORED = "according to Prefect; the ledger is older than that"


def came_to_nothing(run: FlowRun | None) -> bool:
    """Whether a waiting task's run is gone, or ended without the task: another one is made."""
    if run is None:
        return True
    kind = run.state_type
    if kind == "CANCELLED":
        return by_itself(run)
    return kind == "CRASHED" or (kind == "FAILED" and ending_of(run) is None)


def by_itself(run: FlowRun) -> bool:
    """Whether the run was ended, or gave up, by our own doing: where its task waits, the ledger is an older copy.

    A label says so. The reason does not: whoever cancels a run may write whatever they like.
    """
    return run.ended_by_us


class Patience:
    """How long a run may take to begin: by the type of its work pool, which is asked for once, where it matters.

    Args:
        api: Prefect.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._kinds: dict[str, str | None] = {}

    def over(self, run: FlowRun, waited: timedelta) -> bool:
        """Whether a run that has waited so long will not begin any more."""
        if waited <= TO_BEGIN_WARM or waited > TO_BEGIN:
            return waited > TO_BEGIN
        pool = run.work_pool_name
        if pool and pool not in self._kinds:
            self._kinds[pool] = self._api.pool_kind(pool)
        return bool(pool) and self._kinds[str(pool)] == WARM


def never_begun(
    run: FlowRun | None, due: datetime, now: datetime, patience: Patience
) -> bool:
    """Whether the worker of a waiting task's run died before it claimed the task: another run is made.

    One that is only slow is refused: the claim lets one execution through.
    """
    if run is None or run.state_type not in ("PENDING", "RUNNING"):
        return False
    return patience.over(run, now - max(due, since(run)))


def since(run: FlowRun) -> datetime:
    """Since when a run is in its state; its due time where that is not said."""
    return run.state_time or run.expected_start_time


def ending_of(run: FlowRun) -> tuple[str, str, str] | None:
    """Status, outcome and message of a waiting task by the end of its run; None where that is no end of the task."""
    kind, said, ran = run.state_type, _said(run), bool(run.start_time)
    if kind == "COMPLETED":
        # One that ran was done, by a ledger that is an older copy now; a person can only mark it.
        return (
            ("completed", "completed", f"done {RESTORED}")
            if ran
            else _forced("marked as completed")
        )
    if kind == "FAILED" and ran and not by_itself(run):
        timeout = run.state_name == "TimedOut"
        return "error", "timeout" if timeout else "failed", f"{said} ({RESTORED})"
    if kind == "CANCELLED" and not came_to_nothing(run):
        return _forced("cancelled")
    return None


def _forced(what: str) -> tuple[str, str, str]:
    return "ended", "forced", f"ended: {what} in Prefect"


def _said(run: FlowRun) -> str:
    return run.message


def settle(
    connection: Connection,
    task_id: str,
    run: FlowRun,
    ending: tuple[str, str, str],
    now: datetime,
) -> bool:
    """Close a waiting task as its run ended; whether that is news, of which `afterReturn` is still to be told."""
    status, outcome, message = ending
    if outcome == "forced":
        return transitions.end(
            connection, task_id, outcome=outcome, message=message, now=now
        )
    assert run.start_time is not None
    transitions.restore(
        connection,
        task_id,
        status=status,
        outcome=outcome,
        message=message,
        run_id=run.id,
        started=run.start_time,
        finished=run.end_time or now,
    )
    return False
