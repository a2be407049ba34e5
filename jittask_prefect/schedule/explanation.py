"""Explanations: the fate of each nominal occurrence of a series, and the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from jittask_prefect.schedule.candidates import Candidate, Candidates
from jittask_prefect.schedule.instants import (
    DAY,
    TICK,
    clamped,
    near_day,
    shifted,
    wall_time,
)
from jittask_prefect.schedule.recur import Elapsed

if TYPE_CHECKING:
    from jittask_prefect.schedule.series import Series

DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Explained:
    """The fate of a nominal occurrence.

    Args:
        nominal: Aware, in the task's zone.
        due: When the occurrence takes place, aware; None where it does not.
        moved_from: The day of the move, or of the drop.
        because: The holiday's name, or "weekend".
        zone: IANA name of the task's zone.
        note: More to say: dropped, joined with another, a clock change, beyond the published calendar.
        origin: Of a row's task, the value and the offset that the first nominal time comes from.
    """

    nominal: datetime
    due: datetime | None
    moved_from: date | None
    because: str | None
    zone: str
    note: str
    origin: str = ""

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
        }


def explained(series: Series, after: datetime, before: datetime) -> Iterator[Explained]:
    """Every nominal occurrence that lies in, or moves into, [after, before); see `Series.explain`."""
    candidates = series.candidates
    if candidates is None:
        return

    width = DAY
    if not isinstance(candidates.cycle, Elapsed) and not candidates.sub_daily:
        width = max(candidates.cycle.pace, 400 * DAY)

    low = max(clamped(after, series.zone), series.first)
    high = min(clamped(before, series.zone), series.last)
    told: set[datetime] = set()
    while low < high:
        upto = min(shifted(low, width), high)
        empty, again = True, set[datetime]()
        for candidate, standing in _explainable(series, candidates, low, upto):
            empty = False
            if candidate.nominal not in told:
                yield _explained(series, candidate, standing)

            due = candidate.due
            if candidate.nominal >= upto or (due is not None and due >= upto):
                again.add(candidate.nominal)  # the next window has the candidate too

        told |= again
        low = candidates.ahead(upto, left_out=True) if empty else upto


def dropped(series: Series, after: datetime, before: datetime) -> Iterator[Explained]:
    """The occurrences of [after, before) that a holiday move would carry past the end or before the start."""
    candidates, moves, zone = series.candidates, series.moves, series.zone
    if candidates is None or candidates.sub_daily or not moves.active:
        return

    days = [wall_time(clamped(at, zone), zone).date() for at in (after, before)]
    first, last = moves.arrivals(*days)
    low, high = near_day(first, -2), near_day(last, 2)
    ends = [at for at in (series.start, series.stop) if at is not None]
    if any(low <= at <= high for at in ends):
        for item in explained(series, after, before):
            if item.note.startswith(DROPPED):
                yield item


def _explainable(
    series: Series, candidates: Candidates, low: datetime, high: datetime
) -> Iterator[tuple[Candidate, dict[datetime, Candidate]]]:
    """The candidates of a window by nominal time, each with the standing candidates by due time."""
    found = list(candidates.within(low, high, nominal=True))
    found.sort(key=lambda candidate: candidate.nominal)
    dues = [candidate.due for candidate in found if candidate.due is not None]
    standing: dict[datetime, Candidate] = {}
    if dues:
        first, last = min(dues), max(dues) + TICK
        for other in series.standing(candidates.within(first, last), first, last):
            if other.due is not None:
                standing[other.due] = other

    for candidate in found:
        due = candidate.due
        if low <= candidate.nominal < high or (due is not None and low <= due < high):
            yield candidate, standing


def _explained(
    series: Series, candidate: Candidate, standing: dict[datetime, Candidate]
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
    if series.moves.holidays:
        notes += _unpublished(series, candidate.day)

    return Explained(
        candidate.nominal.astimezone(zone),
        due.astimezone(zone) if due else None,
        candidate.day if candidate.reason else None,
        candidate.reason,
        zone.key,
        "; ".join(notes),
    )


def _clock_change(wall: datetime, due: datetime) -> Iterator[str]:
    """The effect of a clock change on a wall time: the time is skipped, or comes twice."""
    if due.replace(tzinfo=None, fold=0) != wall:
        yield f"clocks go forward over {wall:%H:%M}"
    elif not due.fold and due.utcoffset() != due.replace(fold=1).utcoffset():
        yield f"clocks go back: the first {wall:%H:%M} of two"


def _unpublished(series: Series, day: date) -> Iterator[str]:
    """That the holidays of a day are not known, or not published yet."""
    calendar = series.moves.calendar
    known = calendar.reliable_until
    if known is not None and day.year not in calendar.known_years:
        yield "no holidays are known for this year"
    elif known is not None and day > known:
        yield f"holidays are not published beyond {known}"
