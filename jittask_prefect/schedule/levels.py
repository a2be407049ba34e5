"""Levels: several named due times of a row's date, each with an offset of its own; a repeat goes on from the last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import merge
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from jittask_prefect.schedule.explanation import Explained
from jittask_prefect.schedule.instants import clamped
from jittask_prefect.schedule.offset import Level
from jittask_prefect.schedule.reach import Reach, union
from jittask_prefect.schedule.series import Occurrence, Series

if TYPE_CHECKING:
    from jittask_prefect.schedule.timer import Field, Timer

Rank = tuple[datetime, int, bool, datetime]
"""What decides between occurrences of one instant: due, place of the level, whether moved, nominal."""


class Part(NamedTuple):
    """The occurrences of a level.

    Attributes:
        level: The level's name.
        place: Its place in the list.
        series: Its time; or the repeat that goes on from there.
        after: Of a repeat, the instant (UTC) after which its nominal times begin; None for a level's own time.
    """

    level: str
    place: int
    series: Series
    after: datetime | None = None

    def has(self, nominal: datetime) -> bool:
        """Whether a nominal time of the series belongs to the part."""
        return self.after is None or _utc(nominal) > self.after

    def ranked(self, found: Occurrence) -> tuple[Rank, Occurrence]:
        """An occurrence with the level's name, and its rank."""
        named = Occurrence(found.nominal, found.due, found.moved, self.level)
        is_moved = found.moved is not None
        return (_utc(found.due), self.place, is_moved, _utc(found.nominal)), named

    def between(
        self, after: datetime, before: datetime
    ) -> Iterator[tuple[Rank, Occurrence]]:
        """The occurrences due in [after, before)."""
        found = self.series.between(after, before)
        return (self.ranked(each) for each in found if self.has(each.nominal))

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
        parts: In the order of the list; the repeat last.
        anchor: The part whose anchor stands for the row's date: the part that repeats, else the sharpest.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[Part], anchor: Part) -> None:
        of = anchor.series
        super().__init__(of.zone, of.moves, of.windows, of.stop)
        self.parts = parts
        self.anchor = of.anchor

    @property
    def never(self) -> bool:
        return all(part.series.never for part in self.parts)

    @property
    def starts(self) -> Mapping[str, datetime]:
        repeated = {part.level for part in self.parts if part.after is not None}
        return {
            part.level: _utc(part.series.anchor)
            for part in self.parts
            if part.level not in repeated
        }

    @property
    def listed(self) -> bool:
        return all(part.series.listed for part in self.parts)

    def between(self, after: datetime, before: datetime) -> Iterator[Occurrence]:
        parts = [part.between(after, before) for part in self.parts]
        last: datetime | None = None
        for (due, *_), found in merge(*parts, key=itemgetter(0)):
            if due != last:
                yield found
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


@dataclass(frozen=True)
class Levels:
    """The levels of a timer, each as a timer of its own.

    Attributes:
        names: The names, in the order of the list.
        once: By level, the timer of its time alone.
        onward: By level, the timer of the repeat from there on; none without a repeat.
        last: The places of the levels that may be the last of a row.
        sharpest: The places, first that of the level whose time tells most dates of rows apart.
    """

    names: tuple[str, ...]
    once: tuple[Timer, ...]
    onward: tuple[Timer, ...]
    last: tuple[int, ...]
    sharpest: tuple[int, ...]

    @classmethod
    def of(cls, timer: Timer) -> Levels | None:
        """The levels of a timer; None for a timer with a single offset, or none."""
        levels = timer.cfg.levels
        if not levels:
            return None

        repeats = timer.cfg.repeat.repeat_type != "normal"
        places = range(len(levels))
        return cls(
            tuple(level.name for level in levels),
            tuple(timer.of_level(level, repeats=False) for level in levels),
            tuple(timer.of_level(level, repeats=True) for level in levels if repeats),
            _last_ones(levels),
            tuple(sorted(places, key=lambda place: _bluntness(levels[place]))),
        )

    @property
    def timers(self) -> tuple[Timer, ...]:
        """Timers whose occurrences together are those of each row, and more: any level that may be the last repeats."""
        repeats = (self.onward[place] for place in self.last if self.onward)
        return *self.once, *repeats

    def series(self, start: Field, end: Field) -> LevelSeries:
        """The occurrences of a row that has a start."""
        parts = [
            Part(name, place, series)
            for place, (name, timer) in enumerate(
                zip(self.names, self.once, strict=True)
            )
            if (series := timer.series(start, end)) is not None
        ]
        coming = [part for part in parts if not part.series.never] or parts
        if not self.onward:
            sharpest = min(coming, key=lambda part: self.sharpest.index(part.place))
            return LevelSeries(parts, sharpest)

        last = max(coming, key=lambda part: (_utc(part.series.anchor), -part.place))
        onward = self.onward[last.place].series(start, end)
        if onward is not None:
            begin = _utc(last.series.anchor)
            parts.append(Part(last.level, last.place, onward, begin))

        return LevelSeries(parts, last)

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


def _bluntness(level: Level) -> tuple[bool, bool]:
    """Less for a level whose time tells more dates of rows apart: rows of a day, of a month's end, of a weekend."""
    return bool(level.months or level.workdays), level.time is not None
