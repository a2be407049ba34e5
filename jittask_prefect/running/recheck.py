"""The look at the due moment: whether a task that is claimed is still to be run."""

from __future__ import annotations

from datetime import datetime, timedelta

from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.rows.plan import NOT_MET, stands
from jittask_prefect.rows.row_reading import DueRow
from jittask_prefect.schedule.timer import Series


class NotRun(Exception):
    """The function is not called: the task ends as superseded or missed.

    Attributes:
        outcome: `superseded` or `missed`.
        moved: Whether the row's date is no longer the task's, so that the row
            is planned anew: a change that no hook saw.
    """

    def __init__(self, outcome: str, message: str, *, moved: bool = False) -> None:
        super().__init__(message)
        self.outcome, self.message, self.moved = outcome, message, moved


def check_scheduled(template: Meta, entry: Entry, now: datetime) -> None:
    """Check a run of the schedule.

    Raises:
        NotRun: The task is disabled, the due time is no occurrence any more, or missed.
    """
    if entry.func_name is not None or entry.nominal is None:
        return  # outside the schedule: a person's run, or `createTimerTask`
    if not template.enable:
        raise NotRun("superseded", "ended: the task is disabled")
    if type(template).getNextRunTime is not Meta.getNextRunTime:
        return  # the Type decides when, not the timer
    series = template.series()
    if series is None or series.due_at(entry.due) is None:
        raise NotRun("superseded", "ended: no longer an occurrence of the schedule")
    _check_missed(template, entry, series, entry.due, now)


def check_row(
    template: DateFieldType, entry: Entry, found: DueRow | None, now: datetime
) -> None:
    """Check the task of a row against the row in the database; None: no row.

    Raises:
        NotRun: The row is gone, does not meet the filter, has another date; or missed.
    """
    if found is None:
        raise NotRun("superseded", "superseded: the row is gone")
    if not template.enable:
        raise NotRun("superseded", "ended: the task is disabled")
    series = found.series
    if series is None:
        raise NotRun("superseded", f"superseded: {NOT_MET}")
    if not stands(entry, series):
        message = "superseded: the row's date is another one now"
        raise NotRun("superseded", message, moved=True)
    _check_missed(template, entry, series, max(entry.due, entry.created), now)


def _check_missed(
    template: Meta, entry: Entry, series: Series, known: datetime, now: datetime
) -> None:
    """Apply `missed` to a first attempt that begins later than `grace` allows."""
    missed = template.cfg.missed
    late = now - known
    if late <= timedelta(seconds=missed.grace) or entry.attempt > 1:
        return
    if missed.policy == "none":
        seconds = late.total_seconds()
        raise NotRun(
            "missed", f"missed: {seconds:.0f} s late, and missed.policy is none"
        )
    later = series.next(entry.due)
    if missed.policy == "latest" and later is not None and later.due <= now:
        raise NotRun("missed", "missed: a later occurrence is due too")
