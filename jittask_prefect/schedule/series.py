"""Series: the occurrences of one start, which is the scheduled task itself or one row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from jittask_prefect.schedule.holiday_moves import HolidayMoves
from jittask_prefect.schedule.instants import (
    DAY,
    EARLIEST,
    LATEST,
    TICK,
    clamped,
    day_after,
    near,
    resolve,
    shifted,
)
from jittask_prefect.schedule.recur import Elapsed, Recurrence, midnight, recurrence
from jittask_prefect.schedule.search import ahead
from jittask_prefect.schedule.spec import Repeat

FIRST_LOOK = timedelta(hours=1)
WIDEST = timedelta(2000)
NEARBY = 3
"""Empty windows, each four times as wide, before a search asks where it may go on."""
DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One occurrence: when it is due, and of which nominal time.

    Compare and store these in UTC: within an overlap Python finds no datetime of a zone equal to one in UTC (PEP 495),
    and of two in one zone it compares the wall clocks.

    Args:
        nominal: Before the holiday move; aware, in the task's zone. Part of a task's identity.
        due: When it takes place; aware, in the task's zone.
        moved: Why `due` is another day, e.g. "National Day"; None where it is not.
    """

    nominal: datetime
    due: datetime
    moved: str | None = None


@dataclass(frozen=True, slots=True)
class Explained:
    """What became of one nominal occurrence.

    Args:
        nominal: Aware, in the task's zone.
        due: When it takes place, aware; None where it does not.
        moved_from: The day it was moved away from, or dropped on.
        because: The holiday's name, or "weekend".
        zone: IANA name of the task's zone.
        note: What else there is to say: dropped, one with another, a clock change, beyond the published calendar.
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


@dataclass(frozen=True, slots=True)
class _Plan:
    """A nominal instant and where the holiday rule puts it, both UTC; `due` None: it is skipped.

    `wall` is the wall time that `due` was to be; None for elapsed time.
    """

    nominal: datetime
    due: datetime | None
    day: date
    why: str | None
    wall: datetime | None = None

    def rank(self) -> tuple[bool, datetime]:
        """Of occurrences that arrive at one instant, the one that was there anyway stands; else the earliest."""
        return self.why is not None, self.nominal


class Over(NamedTuple):
    """What the rows of a timer know of each other: from when on holidays take away all that a phase still has."""

    known: dict[int, datetime]
    phase: int


class Series:
    """The occurrences of one start; `Timer.series` makes it."""

    __slots__ = (
        "_anchor",
        "_moves",
        "_start",
        "anchor",
        "cycle",
        "over",
        "stop",
        "wall",
        "zone",
    )

    def __init__(
        self,
        zone: ZoneInfo,
        repeat: Repeat,
        moves: HolidayMoves,
        wall: datetime | None,
        anchor: datetime | None,
        start: datetime | None,
        stop: datetime | None,
        day: int | None = None,
    ) -> None:
        self.zone = zone
        self._moves = moves
        self.wall = wall or datetime.max
        self._anchor = anchor
        self._start = start
        self.stop = stop
        self.cycle: Recurrence | Elapsed | None = None
        self.anchor: datetime = LATEST
        """The start with offset and clock time, before repeat and holidays; aware, in the task's zone."""
        self.over: Over | None = None
        if wall is not None and anchor is not None:
            self.cycle = recurrence(repeat, wall, day)
            try:
                self.anchor = anchor.astimezone(zone)
            except OverflowError:
                self.cycle = None

    def __repr__(self) -> str:
        return f"Series(anchor={self.anchor.isoformat() if self.cycle else None!r}, zone={self.zone.key!r})"

    @property
    def _fine(self) -> bool:
        """Whether a holiday drops occurrences instead of moving them."""
        return self.cycle is not None and (
            isinstance(self.cycle, Elapsed) or self.cycle.sub_daily
        )

    def between(self, after: datetime, before: datetime) -> Iterator[Occurrence]:
        """The occurrences due in [after, before), in order, each instant once.

        Args:
            after: First instant, inclusive; aware, or naive in the task's zone.
            before: Last instant, exclusive; likewise.
        """
        low, high = (
            max(clamped(after, self.zone), self._first()),
            min(clamped(before, self.zone), self._last()),
        )
        while self.cycle is not None and low < high:
            upto = min(shifted(low, DAY if self._fine else 400 * DAY), high)
            found = self._standing(self._plans(low, upto), low, upto)
            yield from map(self._occurrence, found)
            low = upto if found else self._ahead(upto)

    def next(self, after: datetime) -> Occurrence | None:
        """The first occurrence due after an instant; None where there is none."""
        cycle, last = self.cycle, self._last()
        if cycle is None:
            return None
        begin = low = max(clamped(after, self.zone) + TICK, self._first())
        if self.over is not None and low >= self.over.known.get(
            self.over.phase, LATEST
        ):
            return None
        width = (
            FIRST_LOOK if isinstance(cycle, Elapsed) or cycle.sub_daily else cycle.pace
        )
        empty = 0
        while low < last:
            high = min(shifted(low, width), last)
            if self._fine:
                # Times of a fine cycle come in order but for a DST change: up to the first, all are looked at again.
                for plan in self._plans(low, high):
                    if (
                        plan.due is not None
                        and low <= plan.due < high
                        and not self._beyond(plan)
                    ):
                        high = plan.due + TICK
                        break
            if found := self._standing(self._plans(low, high), low, high):
                return self._occurrence(found[0])
            empty += 1
            low = self._ahead(high) if empty > NEARBY else high
            width = max(width, min(width * 4, WIDEST))
        if self.over is not None and self.stop is None and self._ahead(begin) >= LATEST:
            self.over.known[self.over.phase] = begin
        return None

    def due_at(self, due: datetime) -> Occurrence | None:
        """The occurrence that is due exactly then; None where there is none."""
        at = clamped(due, self.zone)
        return next(self.between(at, at + TICK), None)

    def moved_before(self, at: datetime) -> list[Occurrence]:
        """The occurrences whose nominal time comes after an instant, and that a holiday move has carried before it.

        Args:
            at: The instant, aware; an occurrence due then counts as carried.
        """
        if self._fine:
            return []
        at = clamped(at, self.zone)
        low = self._moves.earliest_due_after(at, self.zone)
        return (
            [found for found in self.between(low, at + TICK) if found.nominal > at]
            if low < at
            else []
        )

    def at_nominal(self, nominal: datetime) -> Occurrence | None:
        """The occurrence of a nominal time, wherever a holiday move puts it; None where there is none."""
        at = clamped(nominal, self.zone)
        for plan, standing in self._explainable(at, at + TICK):
            if (
                plan.nominal == at
                and plan.due in standing
                and standing[plan.due].nominal == at
            ):
                return self._occurrence(plan)
        return None

    def single(self) -> Occurrence | None:
        """The occurrence of a series that does not repeat, wherever a holiday move puts it; None without one."""
        return next(self.between(EARLIEST, LATEST), None)

    def explain(self, after: datetime, before: datetime) -> list[Explained]:
        """Every nominal occurrence that lies in, or moves into, [after, before), with what became of it and why.

        Args:
            after: First instant, inclusive; aware, or naive in the task's zone.
            before: Last instant, exclusive; likewise.

        Returns:
            By nominal time; what moves back out of a later window into an earlier one stands with the earlier.
        """
        return list(self.explained(after, before))

    def explained(self, after: datetime, before: datetime) -> Iterator[Explained]:
        """The same, one by one as they are found."""
        cycle = self.cycle
        if cycle is None:
            return
        width = (
            DAY
            if isinstance(cycle, Elapsed) or cycle.sub_daily
            else max(cycle.pace, 400 * DAY)
        )
        low, high = (
            max(clamped(after, self.zone), self._first()),
            min(clamped(before, self.zone), self._last()),
        )
        told: set[datetime] = set()
        while low < high:
            upto = min(shifted(low, width), high)
            again: set[datetime] = set()
            empty = True
            for plan, standing in self._explainable(low, upto):
                empty = False
                if plan.nominal >= upto or (plan.due is not None and plan.due >= upto):
                    again.add(plan.nominal)  # the next window sees it too
                if plan.nominal not in told:
                    yield self._explained(plan, standing)
            low, told = (
                self._ahead(upto, left_out=True) if empty else upto,
                told | again,
            )

    def dropped(self, after: datetime, before: datetime) -> Iterator[Explained]:
        """The occurrences of [after, before) that a holiday move would carry past the end or before the start."""
        ends = [
            clamped(at, self.zone).astimezone(self.zone).date()
            for at in (after, before)
        ]
        first, last = self._moves.around(ends[0], ends[1])
        low, high = near(first, -2), near(last, 2)
        some = any(
            low <= wall <= high for wall in (self._start, self.stop) if wall is not None
        )
        if some and self._moves.active and not self._fine:
            yield from (
                item
                for item in self.explained(after, before)
                if item.note.startswith(DROPPED)
            )

    def _explainable(
        self, low: datetime, high: datetime
    ) -> Iterator[tuple[_Plan, dict[datetime, _Plan]]]:
        """The plans of a window by nominal time, each with what stands at the instants that they arrive at."""
        plans = sorted(
            self._plans(low, high, nominal=True), key=lambda plan: plan.nominal
        )
        dues = [plan.due for plan in plans if plan.due is not None]
        standing: dict[datetime, _Plan] = {}
        if dues:
            first, last = min(dues), max(dues) + TICK
            standing = {
                p.due: p
                for p in self._standing(self._plans(first, last), first, last)
                if p.due is not None
            }
        for plan in plans:
            if low <= plan.nominal < high or (
                plan.due is not None and low <= plan.due < high
            ):
                yield plan, standing

    def _explained(self, plan: _Plan, standing: dict[datetime, _Plan]) -> Explained:
        due, notes = plan.due, []
        if due is None:
            notes.append("skipped")
        elif (wall := self._beyond(plan)) is not None:
            due, notes = None, [f"{DROPPED}: {wall}"]
        elif (other := standing.get(due)) is not None and other.nominal != plan.nominal:
            due, notes = (
                None,
                [
                    f"one with the occurrence of {other.nominal.astimezone(self.zone):%Y-%m-%d %H:%M}"
                ],
            )
        notes += self._clock_change(plan.wall, due)
        known = self._moves.calendar.reliable_until if self._moves.holidays else None
        if known is not None and plan.day.year not in self._moves.calendar.known_years:
            notes.append("no holidays are known for this year")
        elif known is not None and plan.day > known:
            notes.append(f"holidays are not published beyond {known}")
        return Explained(
            plan.nominal.astimezone(self.zone),
            due.astimezone(self.zone) if due else None,
            plan.day if plan.why else None,
            plan.why,
            self.zone.key,
            "; ".join(notes),
        )

    def _clock_change(
        self, wall: datetime | None, due: datetime | None
    ) -> Iterator[str]:
        """What a clock change makes of a wall time: it is skipped, or comes twice."""
        if wall is None or due is None:
            return
        local = due.astimezone(self.zone)
        if local.replace(tzinfo=None, fold=0) != wall:
            yield f"clocks go forward over {wall:%H:%M}"
        elif not local.fold and local.utcoffset() != local.replace(fold=1).utcoffset():
            yield f"clocks go back: the first {wall:%H:%M} of two"

    def _beyond(self, plan: _Plan) -> str | None:
        """Which wall an occurrence lies beyond; None where it stands."""
        for at in (plan.nominal, plan.due):
            if at is not None and self.stop is not None and at > self.stop:
                return (
                    "the end comes first"
                    if at is plan.nominal
                    else "the holiday move carries it past the end"
                )
        if plan.due is not None and self._start is not None and plan.due < self._start:
            return "the holiday move carries it before the start"
        return None

    def _standing(
        self, plans: Iterable[_Plan], low: datetime, high: datetime
    ) -> list[_Plan]:
        """Those due in [low, high) and within the walls, one for each instant, in order."""
        best: dict[datetime, _Plan] = {}
        for plan in plans:
            if plan.due is None or not low <= plan.due < high or self._beyond(plan):
                continue
            if plan.due not in best or plan.rank() < best[plan.due].rank():
                best[plan.due] = plan
        return [best[due] for due in sorted(best)]

    def _occurrence(self, plan: _Plan) -> Occurrence:
        assert plan.due is not None
        return Occurrence(
            plan.nominal.astimezone(self.zone), plan.due.astimezone(self.zone), plan.why
        )

    def _first(self) -> datetime:
        """No occurrence is due before this."""
        if self._anchor is None:
            return LATEST
        if (
            self._start
            or not self._moves.active
            or self._moves.policy not in ("previous", "nearest")
        ):
            return self._start or self._anchor
        day = self._anchor.astimezone(self.zone).date()
        return min(near(self._moves.around(day, day)[0], -2), self._anchor)

    def _last(self) -> datetime:
        """No occurrence is due from this on."""
        ends = [LATEST]
        if self.stop is not None:
            ends.append(shifted(self.stop, TICK))
        if (
            self.cycle is not None
            and not isinstance(self.cycle, Elapsed)
            and self.cycle.last is not None
        ):
            day = self.cycle.last.date()
            ends.append(near(self._moves.around(day, day)[1], 4))
        return min(ends)

    def _ahead(self, at: datetime, left_out: bool = False) -> datetime:
        assert self.cycle is not None and self._anchor is not None
        return ahead(self.cycle, self._moves, self.zone, self._anchor, at, left_out)

    def _plans(
        self, low: datetime, high: datetime, nominal: bool = False
    ) -> Iterator[_Plan]:
        """At least every plan due in [low, high); with `nominal`, or whose nominal time lies there."""
        cycle = self.cycle
        if cycle is None or high <= low:
            return
        if isinstance(cycle, Elapsed):
            yield from self._elapsed(cycle.step, low, high, every=nominal)
        elif cycle.sub_daily:
            yield from self._finer(cycle, low, high, every=nominal)
        else:
            first, last = (
                low.astimezone(self.zone).date() - DAY,
                high.astimezone(self.zone).date() + DAY,
            )
            begin, end = self._moves.reach(first, last)
            over = midnight(min(max(end, last), date.max - DAY)) + DAY
            for wall in cycle.wall(midnight(min(begin, first)), over):
                plan = self._moved(wall)
                if plan is not None:
                    yield plan

    def _moved(self, wall: datetime) -> _Plan | None:
        """The plan of a wall time of a cycle of days."""
        try:
            assert self._anchor is not None
            nominal = self._anchor if wall == self.wall else resolve(wall, self.zone)
            why = self._moves.blocked(wall.date()) if self._moves.active else None
            if why is None:
                return _Plan(nominal, nominal, wall.date(), None, wall)
            day = self._moves.target(wall.date())
            target = None if day is None else datetime.combine(day, wall.time())
            due = None if target is None else resolve(target, self.zone)
            return _Plan(nominal, due, wall.date(), why, target)
        except OverflowError:
            return None

    def _finer(
        self, cycle: Recurrence, low: datetime, high: datetime, every: bool
    ) -> Iterator[_Plan]:
        """The plans of a custom cycle finer than a day: a holiday drops them (told once a day, or every one)."""
        # A gap or an overlap near the edges moves wall times by as much as the zone's offset changes there.
        around = [
            (shifted(at, step).astimezone(self.zone).utcoffset() or timedelta())
            for at in (low, high)
            for step in (-1.5 * DAY, 1.5 * DAY)
        ]
        begin = _wall(low, self.zone) - abs(around[0] - around[1])
        end = _wall(high, self.zone) + abs(around[2] - around[3])
        while begin < end:
            upto = end
            for wall in cycle.wall(begin, end):
                instant = resolve(wall, self.zone)
                why = self._moves.blocked(wall.date()) if self._moves.active else None
                yield _Plan(
                    instant, instant if why is None else None, wall.date(), why, wall
                )
                if why is not None and not every:
                    upto = midnight(wall.date()) + DAY
                    break
            begin = upto

    def _elapsed(
        self, step: timedelta, low: datetime, high: datetime, every: bool
    ) -> Iterator[_Plan]:
        """The plans of minute and hour: elapsed time from the anchor, a holiday drops them (told once a day)."""
        assert self._anchor is not None
        known: date | None = None
        why: str | None = None
        over = at = self._anchor
        try:
            at += max(0, -((at - low) // step)) * step
            while at < high:
                day = at.astimezone(self.zone).date()
                if self._moves.active and day != known:
                    known, why, over = (
                        day,
                        self._moves.blocked(day),
                        day_after(day, self.zone),
                    )
                yield _Plan(at, at if why is None else None, day, why)
                skipped = 1 if why is None or every else max(1, -((at - over) // step))
                at += skipped * step
        except OverflowError:
            return


def _wall(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None, fold=0)
