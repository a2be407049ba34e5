"""Until when late work waits for the opening hours of its task."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.schedule.timer import Timer


def timer_of_task(template: Meta, entry: Entry) -> Timer:
    """The timer of a task: that of its row's own zone and calendar, where the row has them."""
    if isinstance(template, DateFieldType):
        return template.timer_of(entry.zone_value, entry.calendar_value)
    return template.timer


def opening_of(template: Meta, entry: Entry, now: datetime) -> datetime | None:
    """Until when a pending task has to wait for its opening hours.

    A task that is on time begins, also where the hours have closed within `missed.grace`. A task beside the schedule
    waits only where its caller asked for the hours: then it has an opening from the beginning.

    Args:
        template: Its template.
        entry: The task.
        now: The instant at which it would begin, aware.

    Returns:
        The opening, UTC; None where the task may begin.
    """
    if entry.outside_schedule and entry.not_before is None:
        return None

    opening = next_opening(template, entry, now)
    late = now - entry.late_from > timedelta(seconds=template.cfg.missed.grace)
    return opening if late or entry.attempt else None


def next_opening(template: Meta, entry: Entry, now: datetime) -> datetime | None:
    """The next opening of a task's hours, UTC; None within the hours, and where they never open again."""
    windows, at = timer_of_task(template, entry).windows, now.astimezone(UTC)
    opening = windows.opening(at)
    return None if opening == at else opening


def waits_text(template: Meta, entry: Entry, opening: datetime) -> str:
    """Why a task waits, for people."""
    zone = timer_of_task(template, entry).zone
    at = opening.astimezone(zone)
    return f"outside its opening hours: waits until {at:%Y-%m-%d %H:%M} ({zone.key})"
