"""Explanations: the fate of each nominal occurrence of a series, and the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from jittask_prefect.schedule.candidates import Candidate
from jittask_prefect.schedule.instants import (
    DAY,
    LATEST,
    TICK,
    clamped,
    near_day,
    shifted,
    wall_time,
)

if TYPE_CHECKING:
    from jittask_prefect.schedule.plain_series import PlainSeries

DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Explained:
    """The fate of a nominal occurrence.

    Args:
        nominal: Aware, in the task's zone.
        due: When the occurrence takes place, aware; None where it does not.
        moved_from: The day of the move, or of the drop.
        because: The holiday's name, "weekend", or "opening hours".
        zone: IANA name of the task's zone.
        note: More to say: dropped, joined with another, a clock change, beyond the published calendar.
        origin: Of a row's task, the value and the offset that the first nominal time comes from.
        level: The name of that offset, where a timer has several; else None.
    """

    nominal: datetime
    due: datetime | None
    moved_from: date | None
    because: str | None
    zone: str
    note: str
    origin: str = ""
    level: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON values, times in ISO 8601 with their offset from UTC."""
        at = self.due or self.nominal
        return {
            "nominal": self.nominal.isoformat(),
            "due": self.due.isoformat() if self.due else None,
            "offset": at.isoformat()[-6:],
            "movedFrom": self.moved_from.isoformat() if self.moved_from else None,
            "because": self.because,
            "zone": self.zone,
            "note": self.note,
            **({"origin": self.origin} if self.origin else {}),
            **({"level": self.level} if self.level else {}),
        }


def explained(
    series: PlainSeries, after: datetime, before: datetime
) -> Iterator[Explained]:
    """Every nominal occurrence that lies in, or moves into, [after, before); see `Series.explain`."""
    candidates = series.candidates
    width = DAY
    if not candidates.sub_daily:
        width = max(candidates.cycle.pace, 400 * DAY)

    low = first = max(clamped(after, series.zone), series.first)
    high = min(clamped(before, series.zone), series.last)
    while low < high:
        upto = min(shifted(low, width), high)
        found = list(candidates.within(low, upto, nominal=True))
        found.sort(key=lambda candidate: candidate.nominal)
        standing = _standing(series, found)
        empty = True
        for candidate in found:
            # Each candidate in the first window that has its nominal or its due time.
            times = (candidate.nominal, candidate.due or candidate.nominal)
            if low <= min((at for at in times if at >= first), default=high) < upto:
                empty = False
                yield _explained(series, candidate, standing)

        low = candidates.ahead(upto, left_out=True) if empty else upto


def dropped(
    series: PlainSeries, after: datetime, before: datetime
) -> Iterator[Explained]:
    """The occurrences of [after, before) that a move would carry past the end or before the start."""
    candidates, moves, zone = series.candidates, series.moves, series.zone
    windows = series.windows
    if candidates.sub_daily or not (moves.active or windows.active):
        return

    days = [wall_time(clamped(at, zone), zone).date() for at in (after, before)]
    first, last = moves.arrivals(*days)
    low, high = near_day(first, -2), near_day(last, 2)
    high = windows.opening(high) or LATEST
    ends = [at for at in (series.start, series.stop) if at is not None]
    if any(low <= at <= high for at in ends):
        for item in explained(series, after, before):
            if item.note.startswith(DROPPED):
                yield item


def _standing(
    series: PlainSeries, found: list[Candidate]
) -> dict[datetime | None, Candidate]:
    """By due time the candidates that stand."""
    dues = [candidate.due for candidate in found if candidate.due is not None]
    if not dues:
        return {}

    first, last = min(dues), max(dues) + TICK
    others = series.candidates.within(first, last)
    return {other.due: other for other in series.standing(others, first, last)}


def _explained(
    series: PlainSeries,
    candidate: Candidate,
    standing: dict[datetime | None, Candidate],
) -> Explained:
    zone, due, notes = series.zone, candidate.due, list[str]()
    if due is None:
        notes.append("skipped")
    elif (why := series.beyond(candidate)) is not None:
        due = None
        notes.append(f"{DROPPED}: {why}")
    elif (other := standing.get(due)) and other.nominal != candidate.nominal:
        due = None
        at = other.nominal.astimezone(zone)
        notes.append(f"one with the occurrence of {at:%Y-%m-%d %H:%M}")

    if candidate.wall is not None and due is not None:
        notes += _clock_change(candidate.wall, due.astimezone(zone))
    if series.moves.holidays or series.counted_from is not None:
        notes += _unpublished(series, candidate.day)

    return Explained(
        candidate.nominal.astimezone(zone),
        due.astimezone(zone) if due else None,
        candidate.day if candidate.moved_by else None,
        candidate.moved_by,
        zone.key,
        "; ".join(notes),
    )


def _clock_change(wall: datetime, due: datetime) -> Iterator[str]:
    """The effect of a clock change on a wall time: the time is skipped, or comes twice."""
    if due.replace(tzinfo=None, fold=0) != wall:
        yield f"clocks go forward over {wall:%H:%M}"
    elif not due.fold and due.utcoffset() != due.replace(fold=1).utcoffset():
        yield f"clocks go back: the first {wall:%H:%M} of two"


def _unpublished(series: PlainSeries, day: date) -> Iterator[str]:
    """That the holidays of a day are not known, or not published yet."""
    calendar = series.moves.calendar
    known = calendar.reliable_until
    if known is not None and day.year not in calendar.known_years:
        yield "no holidays are known for this year"
    elif known is not None and day > known:
        yield f"holidays are not published beyond {known}"
    elif known is not None and _counted_to(series) > known:
        yield f"working days are counted beyond {known}, where holidays are not published"


def _counted_to(series: PlainSeries) -> date:
    """The last day that an offset in working days has counted over; the first of the calendar where none are counted."""
    value, zone = series.counted_from, series.zone
    if value is None or series.never:
        return date.min
    if isinstance(value, datetime):
        value = (wall_time(value, zone) if value.tzinfo else value).date()
    return max(value, series.wall.date())
