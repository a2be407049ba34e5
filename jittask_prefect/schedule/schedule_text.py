"""The schedule slots of a deployment in prefect.yaml's form: the text of their rules, and from when a text holds.

The text changes once a month (once a week, a day or some hours where occurrences are dense), not with every `now`. Each
change deletes a deployment's future runs, so a text should not change without need.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from dateutil import tz

from jittask_prefect.schedule.instants import DAY, midnight

SLUGS = ("s1", "s2", "s3", "s4")
NEVER = "DTSTART:20000101T000000\nRRULE:FREQ=YEARLY;UNTIL=20000101T000000"
"""An unused slot: the UI says `every year until January 1, 2000`, and of a text with EXDATE or RDATE `every year`."""
WINDOW = 365 * DAY
"""A window of BYYEARDAY rules: in a longer window a day of the year would come twice."""
MAX_WALKED = 170
"""Candidates between DTSTART and now at most: 19 µs each."""
SLACK = timedelta(minutes=5)
"""How long before `now` the text holds at least."""

ScheduleSlot = dict[str, Any]


def fixed_slots(active: list[ScheduleSlot]) -> list[ScheduleSlot]:
    """Schedules in the fixed slots s1 to s4; the slots without a schedule are there too, inactive."""
    idle = {"active": False, "rrule": NEVER, "timezone": "UTC"}
    unused = len(SLUGS) - len(active)
    filled = [{"active": True, **slot} for slot in active] + [idle] * unused
    return [{"slug": slug, **slot} for slug, slot in zip(SLUGS, filled, strict=True)]


def on_server(wall: datetime, zone: ZoneInfo) -> datetime:
    """The instant (UTC) that the server makes of a wall time: that of dateutil's zone.

    In some zones (Dublin, Casablanca) winter time is a daylight-saving time of minus an hour. There dateutil takes the
    hour after the clocks go back for the hour before.
    """
    return wall.replace(tzinfo=tz.gettz(zone.key)).astimezone(UTC)


def rule_slot(
    lines: Iterable[str],
    zone: str,
    start: datetime,
    extra: Collection[datetime] = (),
    without: Collection[datetime] = (),
) -> ScheduleSlot:
    """A schedule of RRULE lines.

    Args:
        lines: The lines.
        zone: IANA name of the zone of all wall times.
        start: DTSTART.
        extra: Times to add.
        without: Times to leave out.
    """
    rules, dates = list(lines), sorted(extra)
    if not rules and len(dates) == 1:
        rules, dates = [single_date(dates[0])], []
    text = [f"DTSTART:{stamp(start)}", *rules]
    for name, times in (("EXDATE", sorted(without)), ("RDATE", dates)):
        if times:
            text.append(f"{name}:{','.join(map(stamp, times))}")

    return {"rrule": "\n".join(text), "timezone": zone}


def single_date(wall: datetime) -> str:
    """A rule with a single time. The UI says `every December on the 24th until December 24, 2026`, of an RDATE `every year`."""
    day = f"BYMONTH={wall.month};BYMONTHDAY={wall.day}"
    return f"RRULE:FREQ=YEARLY;{day}{until(wall)}"


def stamp(wall: datetime) -> str:
    """A wall time as RFC 5545 writes it, without a zone."""
    return f"{wall.year:04}{wall:%m%dT%H%M%S}"


def until(last: datetime | None) -> str:
    """The UNTIL part of a rule; empty without an end."""
    return "" if last is None else f";UNTIL={stamp(last)}"


def holds_from(now: datetime, per_day: float) -> datetime:
    """The instant from which the text holds: SLACK before `now` at least, the same for a month, week, day or less.

    Args:
        now: The present instant.
        per_day: Candidates a day.
    """
    at = (now - SLACK).astimezone(UTC)
    begin = midnight(at.date()).replace(tzinfo=UTC)
    if per_day * 31 <= MAX_WALKED:
        return begin.replace(day=1)
    if per_day * 7 <= MAX_WALKED:
        return begin - begin.weekday() * DAY

    hours = next((n for n in (24, 12, 4, 2) if per_day * n <= MAX_WALKED * 24), 1)
    return begin + at.hour // hours * hours * timedelta(hours=1)
