"""Levels: several named due times of a row's date, each with an offset of its own; a repeat goes on from the last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from heapq import merge
from operator import itemgetter
from typing import TYPE_CHECKING

from jittask_prefect.schedule.explanation import Explained
from jittask_prefect.schedule.instants import LATEST, clamped, midnight, wall_time
from jittask_prefect.schedule.offset import Level
from jittask_prefect.schedule.reach import Reach, union
from jittask_prefect.schedule.series import Occurrence, Series

if TYPE_CHECKING:
    from jittask_prefect.schedule.timer import Field, Timer

Rank = tuple[datetime, int, bool, datetime]
"""What decides between occurrences of one instant: due, place of the level, whether moved, nominal."""
Question = tuple[datetime, int, datetime, int, bool]
"""A window, each end with its fold; and whether values are dates."""


class Part:
    """The occurrences of a level, worked out when somebody asks.

    Args:
        level: The level's name.
        place: Its place in the list.
        timer: The timer of the level's own time, or of the repeat that goes on from there.
        start: The row's value of `startField`.
        end: The row's value of `endField`.
        after: Of a repeat, the instant (UTC) after which its nominal times begin; None for a level's own time.
    """

    __slots__ = ("_of", "_series", "after", "level", "place")

    def __init__(
        self,
        level: str,
        place: int,
        timer: Timer,
        start: date,
        end: Field,
        after: datetime | None = None,
    ) -> None:
        self.level, self.place, self.after = level, place, after
        self._of = timer, start, end
        self._series: Series | None = None

    @property
    def series(self) -> Series:
        """The level's time; or the repeat, that time included."""
        if self._series is None:
            timer, start, end = self._of
            self._series = timer.series(start, end)
            assert self._series is not None
        return self._series

    def has(self, nominal: datetime) -> bool:
        """Whether a nominal time of the series belongs to the part."""
        return self.after is None or _utc(nominal) > self.after

    def named(self, found: Occurrence) -> Occurrence:
        """An occurrence with the level's name."""
        return Occurrence(found.nominal, found.due, found.moved, self.level)

    def ranked(self, found: Occurrence) -> tuple[Rank, Occurrence]:
        """An occurrence with the level's name, and its rank."""
        is_moved = found.moved is not None
        rank = _utc(found.due), self.place, is_moved, _utc(found.nominal)
        return rank, self.named(found)

    def between(self, after: datetime, before: datetime) -> Iterator[Occurrence]:
        """The occurrences due in [after, before), without the level's name."""
        found = self.series.between(after, before)
        return (each for each in found if self.has(each.nominal))

    def next(self, after: datetime) -> tuple[Rank, Occurrence] | None:
        """The first occurrence due after an instant."""
        found = self.series.next(after)
        while found is not None and not self.has(found.nominal):
            found = self.series.next(found.due)
        return None if found is None else self.ranked(found)

    def explained(
        self, after: datetime, before: datetime
    ) -> Iterator[tuple[datetime, Explained]]:
        """The explanations, each with its nominal time."""
        for found in self.series.explained(after, before):
            if self.has(found.nominal):
                yield _utc(found.nominal), replace(found, level=self.level)


class LevelSeries(Series):
    """The occurrences of a row with levels. Of several due at one instant, the level that is named first stands.

    Args:
        levels: The levels of the timer.
        value: The row's value of `startField`.
        parts: In the order of the list; the repeat last.
    """

    __slots__ = ("_levels", "_value", "parts")

    def __init__(self, levels: Levels, value: date, parts: Sequence[Part]) -> None:
        super().__init__(*levels.rules)
        self._levels, self._value = levels, value
        self.parts = parts

    @property
    def anchor(self) -> datetime:
        found = (part.series.anchor for part in self.parts if not part.series.never)
        return next(found, LATEST)

    @property
    def never(self) -> bool:
        return all(part.series.never for part in self.parts)

    def starts_of(self, level: str | None) -> tuple[datetime, ...]:
        places = self._levels.places
        if level in places:
            return (_utc(self.parts[places[level]].series.anchor),)
        return tuple(_utc(self.parts[n].series.anchor) for n in places.values())

    def has_level(self, level: str | None) -> bool:
        return level in self._levels.places

    @property
    def listed(self) -> bool:
        last = self.parts[-1]
        return last.after is None or last.series.listed

    def between(self, after: datetime, before: datetime) -> Iterator[Occurrence]:
        parts = self._levels.near(self.parts, self._value, after, before)
        if len(parts) == 1:
            return map(parts[0].named, parts[0].between(after, before))
        return self._merged(parts, after, before)

    def _merged(
        self, parts: Sequence[Part], after: datetime, before: datetime
    ) -> Iterator[Occurrence]:
        found = [map(part.ranked, part.between(after, before)) for part in parts]
        last: datetime | None = None
        for (due, *_), each in merge(*found, key=itemgetter(0)):
            if due != last:
                yield each
            last = due

    def _next(self, after: datetime) -> Occurrence | None:
        found = (part.next(after) for part in self.parts)
        first = min((each for each in found if each), key=itemgetter(0), default=None)
        return None if first is None else first[1]

    def moved_before(self, at: datetime) -> list[Occurrence]:
        moment = clamped(at, self.zone)
        carried = {
            _utc(found.due)
            for part in self.parts
            for found in part.series.moved_before(at)
            if part.has(found.nominal)
        }
        stand = [self.due_at(due) for due in sorted(carried)]
        return [each for each in stand if each and _utc(each.nominal) > moment]

    def at_nominal(self, nominal: datetime) -> Occurrence | None:
        for part in self.parts:
            found = part.series.at_nominal(nominal)
            if found is None or not part.has(found.nominal):
                continue

            stands = self.due_at(found.due)
            if stands is not None and _utc(stands.nominal) == _utc(found.nominal):
                return stands

        return None

    def explained(self, after: datetime, before: datetime) -> Iterator[Explained]:
        parts = [part.explained(after, before) for part in self.parts]
        for _, found in merge(*parts, key=itemgetter(0)):
            yield self._joined(found)

    def _joined(self, found: Explained) -> Explained:
        """An explanation; without a due time where another occurrence stands at that instant."""
        stands = None if found.due is None else self.due_at(found.due)
        if stands is None:
            return found

        same_time = _utc(stands.nominal) == _utc(found.nominal)
        if same_time and stands.level == found.level:
            return found

        at = f"{stands.nominal:%Y-%m-%d %H:%M}, level {stands.level}"
        note = "; ".join(filter(None, (found.note, f"one with the occurrence of {at}")))
        return replace(found, due=None, note=note)

    def dropped(self, after: datetime, before: datetime) -> Iterator[Explained]:
        found = [
            replace(item, level=part.level)
            for part in self.parts
            for item in part.series.dropped(after, before)
            if part.has(item.nominal)
        ]
        return iter(sorted(found, key=lambda item: _utc(item.nominal)))


def _utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC)


# The levels of a timer


class Levels:
    """The levels of a timer, each as a timer of its own.

    Args:
        timer: A timer with levels.

    Attributes:
        names: The names, in the order of the list.
        places: The place of each name.
        once: By level, the timer of its time alone.
        onward: By level, the timer of the repeat from there on; none without a repeat.
        rules: Zone, holiday rule and opening hours of each.
        last: The places of the levels that may be the last of a row.
        timers: Timers whose occurrences together are those of each row, and more: any level that may be the last repeats.
    """

    def __init__(self, timer: Timer) -> None:
        levels = timer.cfg.levels
        repeats = timer.cfg.repeat.repeat_type != "normal"
        self.names = tuple(level.name for level in levels)
        self.places: dict[str | None, int] = {
            name: place for place, name in enumerate(self.names)
        }
        self.once = tuple(timer.of_level(level, repeats=False) for level in levels)
        self.onward = tuple(
            timer.of_level(level, repeats=True) for level in levels if repeats
        )
        self.last = _last_ones(levels)
        self.timers = *self.once, *(self.onward[n] for n in self.last if repeats)
        self.rules = timer.zone, timer.moves, timer.windows
        self._near: tuple[Question, list[Reach] | None] | None = None

    def series(self, start: date, end: Field) -> LevelSeries:
        """The occurrences of a row."""
        parts = [
            Part(name, place, timer, start, end)
            for place, (name, timer) in enumerate(
                zip(self.names, self.once, strict=True)
            )
        ]
        if not self.onward:
            return LevelSeries(self, start, parts)

        ends = [parts[place] for place in self.last]
        coming = [part for part in ends if not part.series.never] or parts
        last = max(coming, key=lambda part: (_utc(part.series.anchor), -part.place))
        begin = _utc(last.series.anchor)
        timer = self.onward[last.place]
        parts.append(Part(last.level, last.place, timer, start, end, begin))
        return LevelSeries(self, start, parts)

    def near(
        self, parts: Sequence[Part], value: date, after: datetime, before: datetime
    ) -> Sequence[Part]:
        """The parts of a row that may be due in a window. A sync asks many rows for one window: their dates tell."""
        if len(parts) != len(self.timers):
            return parts

        whole_days = not isinstance(value, datetime)
        question = after, after.fold, before, before.fold, whole_days
        known = self._near
        if known is None or known[0] != question:
            self._near = question, None
            return parts

        reaches = known[1]
        if reaches is None:
            window = after, before
            reaches = [
                timer.reach(*window, whole_days=whole_days) for timer in self.timers
            ]
            self._near = question, reaches

        wall = value if isinstance(value, datetime) else midnight(value)
        if wall.tzinfo is not None:
            wall = wall_time(wall, self.rules[0])
        pairs = zip(parts, reaches, strict=True)
        return [part for part, reach in pairs if reach.may_hold(wall)]

    def next_times(
        self, starts: Iterable[Field], now: datetime, ends: Iterable[Field] | None
    ) -> list[datetime | None]:
        """Of each row the first due time after `now`; see `bulk.next_times`."""
        rows = list(starts)
        until = None if ends is None else list(ends)
        if self.onward and len(self.last) > 1:
            each = [None] * len(rows) if until is None else until
            return [self._next(*row, now) for row in zip(rows, each, strict=True)]

        return [
            min((at for at in times if at is not None), key=_utc, default=None)
            for times in zip(
                *(timer.next_times(rows, now, until) for timer in self.timers),
                strict=True,
            )
        ]

    def _next(self, start: Field, end: Field, now: datetime) -> datetime | None:
        found = None if start is None else self.series(start, end).next(now)
        return None if found is None else found.due

    def reach(self, after: datetime, before: datetime, whole_days: bool) -> Reach:
        """Which values of `startField` can have an occurrence of some level due in [after, before)."""
        found = (
            each.reach(after, before, whole_days=whole_days) for each in self.timers
        )
        return union(found)


def _last_ones(levels: Sequence[Level]) -> tuple[int, ...]:
    """The places of the levels that may be the last: not surely before some other."""
    spans = [_days(level) for level in levels]
    least = max(low for low, _ in spans)
    return tuple(place for place, (_, high) in enumerate(spans) if high >= least)


def _days(level: Level) -> tuple[float, float]:
    """The least and the greatest number of days that an offset goes, wherever it starts."""
    if (duration := level.duration) is not None:
        days = duration.total_seconds() / 86400
        return days - 1, days + 1
    if n := level.workdays:
        # Nobody knows how many days off lie between.
        return (n - 1, float("inf")) if n > 0 else (float("-inf"), n + 1)

    days, months = level.days, level.months
    shortest, longest = sorted((28 * months, 31 * months))
    return days + shortest - 1, days + longest + 1
