"""The fields of a row that decide when its tasks are due: dates, and the row's own zone and calendar."""

from __future__ import annotations

import hashlib
from datetime import date, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from sqlalchemy.orm.exc import DetachedInstanceError

from jittask_prefect.elements.original.jit_rows import plain_row
from jittask_prefect.elements.row_timers import (
    RowTimers,
    RowTimes,
    as_kept,
    own_column,
)
from jittask_prefect.errors import ArgumentError
from jittask_prefect.errors.column_paths import read_path
from jittask_prefect.filters.columns import Column, ColumnKind, column
from jittask_prefect.schedule.instants import midnight
from jittask_prefect.schedule.timer import Timer

if TYPE_CHECKING:
    from jittask_prefect.elements.app import App


class RowFields:
    """The fields of a row that decide when its tasks are due, of an instance and as columns, and the row's timer.

    Attributes:
        timer: The task's own timer.
        own_fields: The paths of the columns of a row's own zone and calendar, by `timezoneField` and `calendarField`.
    """

    app: App
    timer: Timer
    if TYPE_CHECKING:

        @property
        def model(self) -> type[Any]: ...

    def __init__(self, app: App, timer: Timer) -> None:
        self.row_timers = RowTimers(app, timer)
        self._columns: dict[str, Column] = {}
        named = {
            "timezoneField": timer.cfg.timezone_field,
            "calendarField": timer.cfg.calendar_field,
        }
        self.own_fields = {key: path for key, path in named.items() if path is not None}

    def timer_of(self, zone: str | None, calendar: str | None) -> Timer:
        """The timer of the rows that name a zone and a calendar.

        Args:
            zone: The value of a row's `timezoneField`; None, empty or unknown: the task's own zone.
            calendar: The value of a row's `calendarField`, likewise.
        """
        return self.row_timers.timer(zone, calendar) if self.own_fields else self.timer

    @property
    def heeds_calendars(self) -> bool:
        """Whether rows name calendars of their own, and a rule asks them."""
        cfg = self.timer.cfg
        return cfg.calendar_field is not None and cfg.asks_calendar

    def calendar_timers(self) -> list[Timer]:
        """The timers of the calendars that the app describes, where rows name calendars of their own."""
        if not self.heeds_calendars:
            return []
        found = [self.timer_of(None, name) for name in self.app.calendars()]
        return [timer for timer in found if timer is not self.timer]

    @property
    def days_digest(self) -> str:
        """A short text that changes with the days that decide about due times: of each calendar that a row may name."""
        own = self.timer.days_digest
        if not self.heeds_calendars:
            return own
        parts = [own, version("holidays")]
        for name in self.app.calendars():
            parts += [name, self.timer_of(None, name).days_digest]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]

    def row_timer(self, row: Any = None) -> Timer:
        """The timer of a row; the task's own without a row."""
        if row is None or not self.own_fields:
            return self.timer
        times = self.times(row)
        return self.timer_of(times.zone, times.calendar)

    def zone_of(self, value: str | None) -> ZoneInfo:
        """The zone of the rows that name one by `timezoneField`; the task's own where it is empty or unknown."""
        return self.row_timers.zone(value) or self.timer.zone

    def own_notes(self, zone: str | None, calendar: str | None) -> list[str]:
        """Why the task's own zone or calendar counts for a row with these values of its two fields; sentences."""
        return list(self.row_timers.notes(zone, calendar))

    def times(self, row: Any) -> RowTimes:
        """The row's values that decide when its tasks are due, as the database would keep them."""
        own = {key: self._own(row, key, path) for key, path in self.own_fields.items()}
        zone, calendar = own.get("timezoneField"), own.get("calendarField")
        return RowTimes(*self.dates(row), zone, calendar)

    def _own(self, row: Any, key: str, path: str) -> str:
        """The value of the column of a row's own zone or calendar, as the ledger keeps it."""
        value = plain_row(row)
        try:
            for name in read_path(path):
                value = getattr(value, name) if value is not None else None
        except DetachedInstanceError as error:
            allowed = "a row of an open session, or one with its related rows loaded"
            raise ArgumentError(
                f"a row whose {path} is not loaded; allowed: {allowed}"
            ) from error
        return as_kept(self.own_column(key), key, value)

    def dates(self, row: Any) -> tuple[date | None, date | None]:
        """The row's start and end field, as the timer takes them."""
        cfg = self.timer.cfg
        start, end = self._as_stored(row, str(cfg.start_field)), None
        if cfg.end_field and cfg.end_time_type == 2:
            end = self._as_stored(row, cfg.end_field)
        return start, end

    def _as_stored(self, row: Any, field: str) -> Any:
        """A field's value as the database keeps it, whatever was assigned: else a save and a sync would differ."""
        row = plain_row(row)
        try:
            value = getattr(row, field)
        except AttributeError:
            self.field_column(field)  # its error names the columns
            raise

        if not isinstance(value, date):
            return value

        found = self.field_column(field)
        if not isinstance(value, datetime):
            return value if found.kind is ColumnKind.DATE else midnight(value)
        if found.kind is ColumnKind.DATE:
            return value.date()

        return value if found.aware else value.replace(tzinfo=None)

    def own_column(self, key: str) -> Column:
        """The column that `timezoneField` or `calendarField` names."""
        path = self.own_fields[key]
        if path not in self._columns:
            self._columns[path] = own_column(self.model, path)
        return self._columns[path]

    def field_column(self, field: str) -> Column:
        """The column of a field."""
        if field not in self._columns:
            self._columns[field] = column(self.model, field)
        return self._columns[field]
