"""Opening hours of decorated tasks: when a task may begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jittask_prefect.elements.decorated.pieces import Clock, Piece, frozen
from jittask_prefect.elements.decorated.repeats import Weekday


@dataclass(frozen=True, repr=False, init=False)
class Window(Piece):
    """When a task may begin: `Window("08:00", "18:00", workdays=True)`; an occurrence outside waits for the next opening.

    Args:
        opens: The clock time in the task's zone from which the task may begin, in whole minutes.
        closes: The clock time from which it may not, up to `"24:00"`; a time before `opens` is on the next day.
        weekdays: The days on which the window opens, `"mon"` to `"sun"` or in full; absent: every day.
        workdays: Only on the working days of the task's calendar.
    """

    opens: Clock = ""
    closes: Clock = ""
    weekdays: Sequence[Weekday] | None = None
    workdays: bool = False

    def __init__(
        self,
        opens: Clock,
        closes: Clock,
        *,
        weekdays: Sequence[Weekday] | None = None,
        workdays: bool = False,
    ) -> None:
        self._keep(opens=opens, closes=closes, weekdays=frozen(weekdays))
        self._keep(workdays=workdays)
