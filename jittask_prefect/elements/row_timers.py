"""The timers of a template's rows: a row's own zone and calendar, where the row names them.

`timezoneField` and `calendarField` name a column each, of the row or of a related row. A value that is empty or unknown
stands for the task's own zone or calendar; a note says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from jittask_prefect.errors import ConfigError
from jittask_prefect.filters.columns import (
    Column,
    ColumnKind,
    column,
    columns,
    mapper_of,
    unpadded,
)
from jittask_prefect.filters.paths import single_column
from jittask_prefect.filters.tree import refuse
from jittask_prefect.schedule.calendar import Calendar
from jittask_prefect.schedule.timer import Timer
from jittask_prefect.schedule.zones import find_zone
from jittask_prefect.validation import quoted

if TYPE_CHECKING:
    from jittask_prefect.elements.app import App

T = TypeVar("T")

LONGEST = {"timezoneField": 64, "calendarField": 80}
"""Characters of a value that the ledger keeps, by the key of the column. No known name is that long."""
KINDS = {"timezoneField": "time zone", "calendarField": "calendar"}
MOST_VALUES = 10_000
"""Values whose meaning a process remembers; then it begins anew."""


class RowTimes(NamedTuple):
    """The values of a row that decide when its tasks are due.

    Attributes:
        start: The value of `startField`, as the database has it; None where no task is due.
        end: The value of `endField`; None where the row has no end.
        zone: The value of `timezoneField` as the ledger keeps it: empty where the row has none. None where the task has no
            such field.
        calendar: The value of `calendarField`, likewise.
    """

    start: Any
    end: Any = None
    zone: str | None = None
    calendar: str | None = None


NO_TIMES = RowTimes(None)
"""Of a row that has no task."""


def own_column(model: type, path: str) -> Column:
    """The column that `timezoneField` or `calendarField` names.

    Raises:
        FilterError: The path leads to no text of the row or of a single related row.
    """
    found = single_column(model, path)
    if found.kind is not ColumnKind.TEXT:
        holder = found.hops[-1].mapper.class_ if found.hops else model
        every = sorted(columns(mapper_of(holder)))
        texts = [n for n in every if column(holder, n).kind is ColumnKind.TEXT]
        known = ", ".join(texts) or "it has none"
        allowed = f"a text column of {holder.__name__}: {known}"
        raise refuse(f"{path}, which is no text", allowed)
    return found


def as_kept(column: Column, key: str, value: Any) -> str:
    """A value of a row's column as the ledger keeps it.

    Args:
        column: The column.
        key: `timezoneField` or `calendarField`.
        value: The value that the database has.
    """
    if value is None:
        return ""
    text = value if isinstance(value, str) else str(value)
    return unpadded(column.type, text)[: LONGEST[key]]


class RowTimers:
    """The timers of a template's rows, each made once.

    Args:
        app: The app, which knows the calendars.
        usual: The task's own timer.
    """

    def __init__(self, app: App, usual: Timer) -> None:
        self._app, self._usual = app, usual
        self._zones: dict[str, ZoneInfo | None] = {}
        self._calendars: dict[str, Calendar | None] = {}
        self._timers: dict[tuple[str, Calendar | None], Timer] = {}

    def timer(self, zone: str | None, calendar: str | None) -> Timer:
        """The timer of the rows with these values.

        Args:
            zone: The value of the row's `timezoneField`; None or empty: the row has none.
            calendar: The value of its `calendarField`, likewise.
        """
        usual = self._usual
        own = self.zone(zone) or usual.zone
        days = self._calendar(calendar) or usual.calendar
        if own.key == usual.zone.key and days is usual.calendar:
            return usual
        name = own.key, days
        if name not in self._timers:
            self._timers[name] = usual.elsewhere(own.key, days)
        return self._timers[name]

    def zone(self, value: str | None) -> ZoneInfo | None:
        """The zone that a row names; None where the row names none that is known."""
        if not value or self._usual.cfg.timezone_field is None:
            return None
        return _remembered(self._zones, value, find_zone)

    def _calendar(self, value: str | None) -> Calendar | None:
        """The calendar that a row names; None where it is unknown, or no rule asks a calendar."""
        cfg = self._usual.cfg
        if not value or cfg.calendar_field is None or not cfg.asks_calendar:
            return None
        return _remembered(self._calendars, value, self._calendar_named)

    def _calendar_named(self, name: str) -> Calendar | None:
        if name != name.strip() or len(name) >= LONGEST["calendarField"]:
            return None
        try:
            return self._app.calendar_named(name)
        except ConfigError:
            return None

    def notes(self, zone: str | None, calendar: str | None) -> Iterator[str]:
        """Why the task's own zone or calendar counts for a row that should have its own; a sentence each.

        Args:
            zone: The value of the row's `timezoneField`, as the ledger keeps it; None: not known.
            calendar: The value of its `calendarField`, likewise.
        """
        cfg = self._usual.cfg
        for key, path, value in (
            ("timezoneField", cfg.timezone_field, zone),
            ("calendarField", cfg.calendar_field, calendar),
        ):
            if path is None or value is None or not self.unknown(key, value):
                continue
            told = f"is {quoted(value)}, no known {KINDS[key]}" if value else "is empty"
            yield f"`{path}` {told}; the task's own counts, {self.usual_text(key)}"

    def unknown(self, key: str, value: str) -> bool:
        """Whether a value of the column of `timezoneField` or `calendarField` names nothing that is known."""
        if key == "timezoneField":
            return self.zone(value) is None
        return self._usual.cfg.asks_calendar and self._calendar(value) is None

    def usual_text(self, key: str) -> str:
        """The task's own zone, or its own calendar."""
        usual = self._usual
        if key == "timezoneField":
            return usual.zone.key
        return usual.calendar.label if usual.calendar else "Monday to Friday"


def _remembered(
    known: dict[str, T | None], name: str, find: Callable[[str], T | None]
) -> T | None:
    """The meaning of a value, found once."""
    if name not in known:
        if len(known) >= MOST_VALUES:
            known.clear()
        known[name] = find(name)
    return known.get(name)
