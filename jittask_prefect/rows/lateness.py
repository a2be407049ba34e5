"""Late occurrences of a row, by the template's `missed`: those that are recorded and not run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from jittask_prefect.elements.config import Missed
from jittask_prefect.schedule.series import Occurrence


def not_to_run(
    occurrences: Sequence[Occurrence],
    now: datetime,
    missed: Missed,
    known: datetime | None,
    moved: Collection[datetime],
    shut: bool,
) -> dict[datetime, str]:
    """Which due times (UTC) are not to run, with the reason.

    Args:
        occurrences: Of a row.
        now: The present instant.
        missed: The template's `missed`.
        known: An occurrence due until then became due by a change of the row.
        moved: Due times (UTC) that another calendar has made.
        shut: The task is outside its opening hours: late occurrences wait for the opening, and count as due then.
    """
    dues = [o.due.astimezone(UTC) for o in occurrences if o.due <= now]
    reasons = {}
    for due in dues:
        age = (now - due).total_seconds()
        new = due in moved or (known is not None and due <= known)
        if age <= missed.grace:
            continue
        if new and age > missed.lookback:
            reasons[due] = f"missed: more than {missed.lookback:g} s ago"
        elif missed.policy == "none" and not new and not shut:
            reasons[due] = "missed: late, and missed.policy is none"
        elif missed.policy != "all" and due != max(dues):
            reasons[due] = "missed: a later occurrence is due too"
    return reasons
