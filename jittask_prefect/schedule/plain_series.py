"""Plain series: the occurrences of one start under one rule, with an end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from jittask_prefect.schedule.candidates import Candidate, Candidates
from jittask_prefect.schedule.cycle import Cycle
from jittask_prefect.schedule.explanation import Explained, dropped, explained
from jittask_prefect.schedule.holiday_moves import HolidayMoves
from jittask_prefect.schedule.instants import (
    DAY,
    LATEST,
    TICK,
    clamped,
    near_day,
    shifted,
    wall_time,
)
from jittask_prefect.schedule.recur import ListedTimes, recurrence
from jittask_prefect.schedule.series import (
    Exhausted,
    Occurrence,
    Series,
)
from jittask_prefect.schedule.spec import Repeat
from jittask_prefect.schedule.windows import Windows

NEVER = ListedTimes(datetime.max, ())
"""The cycle of a start beyond the calendar."""
WIDEST_WINDOW = timedelta(2000)
NEARBY = 3
"""Empty windows, each four times as wide, before a search asks where it may go on."""


class PlainSeries(Series):
    """A single cycle from a start on.

    Attributes:
        stop: The last instant on which there may be an occurrence, UTC; None without an end.
    """

    __slots__ = (
        "_begin",
        "_candidates",
        "_ends",
        "_rule",
        "anchor",
        "counted_from",
        "exhausted",
        "start",
        "stop",
        "wall",
    )

    def __init__(
        self,
        zone: ZoneInfo,
        repeat: Repeat,
        moves: HolidayMoves,
        windows: Windows,
        wall: datetime | None,
        anchor: datetime | None,
        start: datetime | None,
        stop: datetime | None,
        day: int | None = None,
    ) -> None:
        super().__init__(zone, moves, windows)
        self.stop = stop
        self.exhausted: Exhausted | None = None
        self.counted_from: date | None = None
        """The value from which working days are counted; None where none are."""
        self.start = start
        self.anchor: datetime = LATEST
        self.wall = wall or datetime.max
        self._rule = repeat, day
        self._begin: datetime | None = None
        """The start, UTC; None beyond the calendar."""
        self._candidates: Candidates | None = None
        self._ends: tuple[datetime, datetime] | None = None
        if wall is not None and anchor is not None:
            try:
                self.anchor = anchor.astimezone(zone)
            except OverflowError:
                return

            self._begin = anchor

    @property
    def candidates(self) -> Candidates:
        """The nominal times with their due times, made when somebody asks: a sync asks few of its many rows."""
        if self._candidates is None:
            self._candidates = self._made()
        return self._candidates

    def _made(self) -> Candidates:
        zone, rules, begin = self.zone, (self.moves, self.windows), self._begin
        if begin is None:
            return Candidates(NEVER, *rules, zone, zone)

        repeat, day = self._rule
        elapsed = repeat.repeat_type in ("minute", "hour")
        clock = UTC if elapsed else zone
        wall = wall_time(begin, UTC) if elapsed else self.wall
        cycle = recurrence(repeat, wall, self.moves.calendar, day)
        return Candidates(cycle, *rules, zone, clock, self.wall, begin)

    @property
    def cycle(self) -> Cycle:
        """The nominal times; none for a start beyond the calendar."""
        return self.candidates.cycle

    @property
    def never(self) -> bool:
        return self._begin is None

    @property
    def _single(self) -> bool:
        """Whether the start is the only occurrence, and nothing moves it."""
        once = self._rule[0].repeat_type == "normal" and self.start is None
        moved = self.moves.active or self.windows.active
        return once and not moved and self._begin is not None

    @property
    def listed(self) -> bool:
        return isinstance(self.cycle, ListedTimes)

    @property
    def first(self) -> datetime:
        """The instant before which no occurrence is due."""
        return self._span()[0]

    @property
    def last(self) -> datetime:
        """The instant from which on no occurrence is due."""
        return self._span()[1]

    def _span(self) -> tuple[datetime, datetime]:
        if self._ends is None:
            begin = self._begin
            self._ends = (LATEST, LATEST) if begin is None else self._found_span(begin)
        return self._ends

    def _found_span(self, begin: datetime) -> tuple[datetime, datetime]:
        first = self.start or begin
        if self.start is None and self.moves.moves_back:
            day = self.anchor.date()
            first = min(near_day(self.moves.arrivals(day, day)[0], -2), begin)

        last = LATEST if self.stop is None else shifted(self.stop, TICK)
        if (final := self.cycle.last) is not None:
            day = final.date()
            over = near_day(self.moves.arrivals(day, day)[1], 4)
            opening = self.windows.opening(over) or LATEST
            last = min(last, shifted(opening, TICK))

        return first, last

    # Occurrences

    def between(self, after: datetime, before: datetime) -> Iterator[Occurrence]:
        low, high = clamped(after, self.zone), clamped(before, self.zone)
        if self._single:
            return self._only(low, high)
        return map(self._occurrence, self._due(low, high))

    def _only(self, low: datetime, high: datetime) -> Iterator[Occurrence]:
        """The occurrences between two instants where the start is the only occurrence, as of most rows."""
        begin = self._begin
        assert begin is not None
        ended = self.stop is not None and begin > self.stop
        if low <= begin < high and not ended:
            yield Occurrence(self.anchor, self.anchor)

    def _next(self, after: datetime) -> Occurrence | None:
        low = max(clamped(after, self.zone) + TICK, self.first)
        known = self.exhausted
        if known is not None and low >= known.since.get(known.phase, LATEST):
            return None

        found = next(self._due(low, LATEST), None)
        if found is not None:
            return self._occurrence(found)
        if known is None or self.stop is not None:
            return None
        if self.candidates.ahead(low) >= LATEST:
            known.since[known.phase] = low

        return None

    def moved_before(self, at: datetime) -> list[Occurrence]:
        at = clamped(at, self.zone)
        low = self.moves.earliest_due_after(at, self.zone)
        if low >= at or self.candidates.sub_daily:
            return []

        return [found for found in self.between(low, at + TICK) if found.nominal > at]

    def at_nominal(self, nominal: datetime) -> Occurrence | None:
        at = clamped(nominal, self.zone)
        for candidate in self.candidates.within(at, at + TICK, nominal=True):
            due = candidate.due
            if candidate.nominal != at or due is None:
                continue

            stands = next(self._due(due, due + TICK), None)
            if stands is not None and stands.nominal == at:
                return self._occurrence(stands)

        return None

    def _due(self, low: datetime, high: datetime) -> Iterator[Candidate]:
        """The standing candidates due in [low, high), in order.

        The search goes on in windows: narrow ones, each four times as wide, up to the first that holds any.
        """
        low, high = max(low, self.first), min(high, self.last)
        candidates = self.candidates
        width, sub_daily = self.cycle.pace, candidates.sub_daily
        searching, empty = True, 0
        while low < high:
            upto = min(shifted(low, width), high)
            if searching and sub_daily:
                upto = self._after_first(low, upto)

            found = self.standing(candidates.within(low, upto), low, upto)
            yield from found
            if found:
                searching, empty = False, 0
                width = DAY if sub_daily else 400 * DAY
                low = upto
            else:
                empty += 1
                width = max(width, min(width * 4, WIDEST_WINDOW))
                low = candidates.ahead(upto) if empty > NEARBY else upto

    def _after_first(self, low: datetime, high: datetime) -> datetime:
        """The end of a window that holds the first occurrence only.

        Times of a cycle finer than a day come in order, but for a clock change: up to the first, all are looked at
        again.
        """
        for candidate in self.candidates.within(low, high):
            due = candidate.due
            if due is not None and low <= due < high and not self.beyond(candidate):
                return due + TICK

        return high

    def standing(
        self, candidates: Iterable[Candidate], low: datetime, high: datetime
    ) -> list[Candidate]:
        """The candidates due in [low, high) within start and end, the best of each instant, in order."""
        best: dict[datetime, Candidate] = {}
        for candidate in candidates:
            due = candidate.due
            if due is None or not low <= due < high or self.beyond(candidate):
                continue
            if due not in best or candidate.rank() < best[due].rank():
                best[due] = candidate

        return [best[due] for due in sorted(best)]

    def beyond(self, candidate: Candidate) -> str | None:
        """Why a candidate lies beyond start or end; None where it stands."""
        nominal, due = candidate.nominal, candidate.due
        if self.stop is not None:
            if nominal > self.stop:
                return "the end comes first"
            if due is not None and due > self.stop:
                return f"{_mover(candidate)} past the end"

        if due is not None and self.start is not None and due < self.start:
            return f"{_mover(candidate)} before the start"

        return None

    def _occurrence(self, candidate: Candidate) -> Occurrence:
        assert candidate.due is not None
        nominal, due = candidate.nominal, candidate.due
        return Occurrence(
            nominal.astimezone(self.zone),
            due.astimezone(self.zone),
            candidate.moved_by,
        )

    # Explanations

    def explained(self, after: datetime, before: datetime) -> Iterator[Explained]:
        return explained(self, after, before)

    def dropped(self, after: datetime, before: datetime) -> Iterator[Explained]:
        return dropped(self, after, before)


def _mover(candidate: Candidate) -> str:
    """The move of a candidate to its due time."""
    return "the next opening lies" if candidate.waits else "the holiday move carries it"
