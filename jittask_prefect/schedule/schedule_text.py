"""Slots: the schedules of a deployment in prefect.yaml's form, the text of their rules, and from when a text holds.

The text changes once a month (once a week, a day or some hours where occurrences are dense), not with every `now`: a
change deletes a deployment's future runs, so what need not change should not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from dateutil import tz

from jittask_prefect.schedule.instants import DAY

SLUGS = ("s1", "s2", "s3", "s4")
LONGEST = 6500  # prefect/_internal/schemas/validators.py: MAX_RRULE_LENGTH
NEVER = "DTSTART:20000101T000000\nRDATE:20000101T000000"
WINDOW = 365 * DAY
"""A window of BYYEARDAY rules: in a longer one a day of the year would come twice."""
WALKED = 170
"""Candidates between DTSTART and now at most: 19 µs each."""
SLACK = timedelta(minutes=5)
"""How long before `now` the text holds at least."""

ScheduleSlot = dict[str, Any]


def fixed_slots(active: list[ScheduleSlot]) -> list[ScheduleSlot]:
    """Some schedules in the fixed slots s1 to s4; the unused ones are there too, inactive."""
    idle = {"active": False, "rrule": NEVER, "timezone": "UTC"}
    filled = [{"active": True, **slot} for slot in active] + [idle] * (
        len(SLUGS) - len(active)
    )
    return [{"slug": slug, **slot} for slug, slot in zip(SLUGS, filled, strict=True)]


def on_server(wall: datetime, zone: ZoneInfo) -> datetime:
    """The instant (UTC) that the server makes of a wall time: the one that dateutil's zone has for it.

    In zones whose winter time is a daylight-saving time of minus an hour (Dublin, Casablanca) dateutil takes the hour
    after the clocks go back for the one before.
    """
    return wall.replace(tzinfo=tz.gettz(zone.key)).astimezone(UTC)


def rule(
    lines: Iterable[str],
    extra: Iterable[datetime],
    without: Iterable[datetime],
    zone: str,
    start: datetime,
) -> ScheduleSlot:
    """A schedule of RRULE lines, with what is added and taken out; all times are wall times of the zone."""
    text = [f"DTSTART:{stamp(start)}", *lines]
    for name, times in (("EXDATE", sorted(without)), ("RDATE", sorted(extra))):
        if times:
            text.append(f"{name}:{','.join(map(stamp, times))}")
    return {"rrule": "\n".join(text), "timezone": zone}


def stamp(wall: datetime) -> str:
    """A wall time as RFC 5545 writes it, without a zone."""
    return f"{wall.year:04}{wall:%m%dT%H%M%S}"


def quantum(now: datetime, per_day: float) -> datetime:
    """The instant from which the text holds: SLACK before `now` at least, the same for a month, week, day or less."""
    at = (now - SLACK).astimezone(UTC)
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if per_day * 31 <= WALKED:
        return midnight.replace(day=1)
    if per_day * 7 <= WALKED:
        return midnight - midnight.weekday() * DAY
    hours = next((n for n in (24, 12, 4, 2) if per_day * n <= WALKED * 24), 1)
    return midnight + at.hour // hours * hours * timedelta(hours=1)


def span(numbers: Iterable[int]) -> str:
    """Numbers as a BY part lists them."""
    return ",".join(map(str, numbers))


def each_day(first: date, last: date) -> Iterator[date]:
    """The days from first to last, both included."""
    return map(date.fromordinal, range(first.toordinal(), last.toordinal() + 1))
