"""Series: the occurrences of a start, which is the scheduled task itself or a row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from jittask_prefect.schedule.explanation import Explained
from jittask_prefect.schedule.holiday_moves import HolidayMoves
from jittask_prefect.schedule.instants import (
    TICK,
    clamped,
)
from jittask_prefect.schedule.windows import Windows


@dataclass(frozen=True, slots=True)
class Occurrence:
    """An occurrence: its due time and its nominal time.

    Compare and store these in UTC. Within an overlap Python finds no datetime of a zone equal to a datetime in UTC
    (PEP 495). Of two datetimes in the same zone Python compares the wall clocks.

    Args:
        nominal: Before all moves; aware, in the task's zone. Part of a task's identity.
        due: When it takes place; aware, in the task's zone.
        moved: Why `due` is another time, e.g. "National Day", "opening hours"; None without a move.
        level: The name of its offset, where a timer has several; else None.
    """

    nominal: datetime
    due: datetime
    moved: str | None = None
    level: str | None = None


Instant = tuple[datetime, int]
"""A datetime with its fold, which Python's comparison leaves out."""


class Exhausted(NamedTuple):
    """Shared by the rows of a timer: from when on holidays take away the rest of a phase."""

    since: dict[object, datetime]
    phase: object


class Series(ABC):
    """The occurrences of a start; `Timer.series` makes a series.

    Attributes:
        zone: The task's zone.
        moves: The holiday rule.
        windows: The opening hours.
    """

    __slots__ = ("_answers", "moves", "windows", "zone")

    def __init__(self, zone: ZoneInfo, moves: HolidayMoves, windows: Windows) -> None:
        self.zone, self.moves, self.windows = zone, moves, windows
        self._answers: dict[str, tuple[Instant, Occurrence | None]] = {}

    def __repr__(self) -> str:
        return f"Series(anchor={self.anchor.isoformat()!r}, zone={self.zone.key!r})"

    @property
    @abstractmethod
    def anchor(self) -> datetime:
        """The start with offset and clock time, before repeat and holidays; aware, in the task's zone."""

    @property
    @abstractmethod
    def never(self) -> bool:
        """Whether the start lies beyond the calendar."""

    def starts_of(self, level: str | None) -> tuple[datetime, ...]:
        """The start (UTC) of a level: the date with the level's offset; several where no level has that name."""
        return (self.anchor.astimezone(UTC),)

    def has_level(self, level: str | None) -> bool:
        """Whether tasks with that name, None of a plain offset, are planned."""
        return level is None

    @property
    @abstractmethod
    def listed(self) -> bool:
        """Whether the occurrences are a list that ends by itself, such as a single date."""

    @abstractmethod
    def between(self, after: datetime, before: datetime) -> Iterator[Occurrence]:
        """The occurrences due in [after, before), in order, each instant once.

        Args:
            after: First instant, inclusive; aware, or naive in the task's zone.
            before: Last instant, exclusive; likewise.
        """

    def next(self, after: datetime) -> Occurrence | None:
        """The first occurrence due after an instant; None otherwise."""
        return self._answer("next", self._next, after)

    def _answer(
        self,
        name: str,
        find: Callable[[datetime], Occurrence | None],
        at: datetime,
    ) -> Occurrence | None:
        """The answer to a question; rows of one instant share a series, and ask the same again and again."""
        question: Instant = (at, at.fold)
        known = self._answers.get(name)
        if known is None or known[0] != question:
            known = self._answers[name] = question, find(at)
        return known[1]

    @abstractmethod
    def _next(self, after: datetime) -> Occurrence | None:
        """The first occurrence due after an instant."""

    def due_at(self, due: datetime) -> Occurrence | None:
        """The occurrence that is due exactly then; None otherwise."""
        return self._answer("due_at", self._due_at, due)

    def _due_at(self, due: datetime) -> Occurrence | None:
        at = clamped(due, self.zone)
        return next(self.between(at, at + TICK), None)

    @abstractmethod
    def moved_before(self, at: datetime) -> list[Occurrence]:
        """The occurrences whose nominal time comes after an instant, and that a holiday move carries before it.

        Args:
            at: The instant, aware; an occurrence due then counts as carried before.
        """

    @abstractmethod
    def at_nominal(self, nominal: datetime) -> Occurrence | None:
        """The occurrence of a nominal time, wherever holidays and opening hours put it; None otherwise."""

    # Explanations

    def explain(self, after: datetime, before: datetime) -> list[Explained]:
        """Every nominal occurrence that lies in, or moves into, [after, before), with its fate and the reason.

        Args:
            after: First instant, inclusive; aware, or naive in the task's zone.
            before: Last instant, exclusive; likewise.

        Returns:
            By nominal time; an occurrence that moves back out of a later window into an earlier stands with the earlier.
        """
        return list(self.explained(after, before))

    @abstractmethod
    def explained(self, after: datetime, before: datetime) -> Iterator[Explained]:
        """The same as `explain`, each as soon as it is found."""

    @abstractmethod
    def dropped(self, after: datetime, before: datetime) -> Iterator[Explained]:
        """The occurrences of [after, before) that a move would carry past the end or before the start."""
