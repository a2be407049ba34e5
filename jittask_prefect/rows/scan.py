"""Timer + window → the query for the rows that can be due in the window, and reading these rows.

A query asks for the dates of rows, never for whole rows. The database itself leaves out the rows whose dates the ledger
has planned already. A value that is no date spoils its own row only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, or_, select
from sqlalchemy import inspect as sa_inspect

from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.filters.columns import Column, ColumnKind
from jittask_prefect.ledger.keys import key_text
from jittask_prefect.ledger.savepoint import nested
from jittask_prefect.ledger.tables import entries
from jittask_prefect.rows import dialects
from jittask_prefect.rows.own_columns import Own, OwnColumns, any_of
from jittask_prefect.rows.plan import TICK
from jittask_prefect.rows.row_reading import (
    UNREADABLE,
    Dated,
    Unreadable,
    dated_rows,
    key_attributes,
    row_columns,
)
from jittask_prefect.schedule.reach import Reach
from jittask_prefect.schedule.timer import Timer
from jittask_prefect.schedule.wide_reach import wide_reach

PIECE = 20_000
"""Rows that are read, planned and applied at once: the limit of a sync's memory."""
CHUNK = 500
Window = tuple[datetime, datetime]


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """Rows and ledger are read as of one moment: a row as it was before a save would undo what the save planned."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        elif engine.dialect.name == "sqlite":
            # The driver itself begins a transaction with the first write only.
            connection.exec_driver_sql("BEGIN")
        yield connection


class Scan:
    """The rows of a template.

    Args:
        template: The date-field template.
        now: The present instant, for `Q.today` and `Q.now`.
        dialect: The name of the database's kind.
    """

    def __init__(self, template: DateFieldType, now: datetime, dialect: str) -> None:
        self.template, self.now, self.dialect = template, now, dialect
        self.model: Any = template.model
        self._open = False
        """Whether a condition of this scan has a span without a beginning or an end: half a table may meet it."""
        self.key_columns = sa_inspect(self.model).primary_key
        self.keys = key_attributes(self.model)
        self._row = row_columns(template)
        self.dates = self._row.dates
        self.start = self.dates[0]
        self.end = self.dates[1] if len(self.dates) == 2 else None
        self.own = OwnColumns(template) if self._row.own else None
        asked = self._row.asked(self.model)
        self.columns = [
            *self.keys,
            *(field.label(f"jittask_date_{n}") for n, field in enumerate(asked)),
        ]

    def _field(self, column: Column) -> Any:
        return getattr(self.model, column.key)

    # The conditions

    def condition(
        self, window: Window, pairs: Sequence[Own] | None = None
    ) -> ColumnElement[bool] | None:
        """The condition of a row that can be due in (after, before]; None where no row can.

        Args:
            window: After an instant, up to another.
            pairs: Of rows with a zone or a calendar of their own, the values that occur, from `pairs`; None: the condition
                holds for more rows than can be due.
        """
        if self.own is not None:
            return self._own_condition(self.own, window, pairs)
        found = self._reach(self.template.timer, window)
        if not found.spans:
            return None
        return and_(self._reached(found, self.template.timer.zone), self._filter())

    def _reach(self, timer: Timer, window: Window) -> Reach:
        after, before = window
        whole_days = self.start.kind is ColumnKind.DATE
        return timer.reach(after + TICK, before + TICK, whole_days=whole_days)

    def pairs(self, connection: Connection, window: Window) -> list[Own] | None:
        """The values of zone and calendar of the rows that may be due in a window; None without such columns."""
        if self.own is None or (condition := self.condition(window)) is None:
            return None
        return self.own.pairs(connection, condition)

    def _own_condition(
        self, own: OwnColumns, window: Window, pairs: Sequence[Own] | None
    ) -> ColumnElement[bool] | None:
        """The condition of rows with a zone or a calendar of their own: a wide one that an index answers, and the exact."""
        wide = self._wide(window)
        if not wide.spans:
            return None
        parts = [self._reached(wide, self.template.timer.zone), self._filter()]
        if pairs is None:
            return and_(*parts)
        exact = [
            and_(own.among(same), self._reached(found, zone))
            for same, found, zone in self._groups(window, pairs)
        ]
        if not exact:
            return None
        return and_(*parts, dialects.leaves_most_in(any_of(exact), self.dialect))

    def _groups(
        self, window: Window, pairs: Sequence[Own]
    ) -> Iterator[tuple[list[Own], Reach, ZoneInfo]]:
        """The pairs whose rows can be due, together where the same dates are due."""
        reaches: dict[Timer, Reach] = {}
        groups: dict[object, tuple[list[Own], Reach, ZoneInfo]] = {}
        for pair in pairs:
            timer = self.template.timer_of(*pair)
            if timer not in reaches:
                reaches[timer] = self._reach(timer, window)
            found = reaches[timer]
            if found.spans:
                of_zone = timer.zone.key if self._depends_on_zone else ""
                first = groups.setdefault((found, of_zone), ([], found, timer.zone))
                first[0].append(pair)
        yield from groups.values()

    @property
    def _depends_on_zone(self) -> bool:
        """Whether a wall time means another value of a column in another zone."""
        return any(column.aware for column in self.dates)

    def _wide(self, window: Window) -> Reach:
        """The dates of rows that can be due by some zone and calendar."""
        template = self.template
        of_calendars = template.calendar_timers()
        return wide_reach(
            [template.timer, *of_calendars],
            window[0] + TICK,
            window[1] + TICK,
            whole_days=self.start.kind is ColumnKind.DATE,
            instants=self.start.aware,
            any_calendar=template.heeds_calendars,
        )

    def _filter(self) -> ColumnElement[bool]:
        zone = self.template.timer.zone
        return self.template.filter.condition(self.model, self.now, zone)

    def _reached(self, found: Reach, zone: ZoneInfo) -> ColumnElement[bool]:
        return any_of([self._reached_by(part, zone) for part in found.parts])

    def _reached_by(self, found: Reach, zone: ZoneInfo) -> ColumnElement[bool]:
        """That a row is in one part of a reach."""
        field = self._field(self.start)
        spans = [and_(*self._span(low, high, zone)) for low, high in found.spans]
        parts = [any_of(spans)]
        if found.days is not None:
            parts.append(dialects.on_days(field, self.start, found.days, self.dialect))
        if found.end is not None and self.end is not None:
            end = self._field(self.end)
            least = bounded(self.end, found.end, zone, first=True)
            bad = dialects.below_dates(end, self.dialect)
            parts.append(or_(end.is_(None), end >= least, bad))
        return and_(*parts)

    def _span(
        self, low: datetime | None, high: datetime | None, zone: ZoneInfo
    ) -> Iterator[ColumnElement[bool]]:
        field, dialect = self._field(self.start), self.dialect
        self._open = self._open or low is None or high is None
        yield field.is_not(None)
        if low is not None:
            least = bounded(self.start, low, zone, first=True)
            yield dialects.at_least(field, self.start, least, dialect)
        if high is not None:
            most = bounded(self.start, high, zone, first=False)
            upper = dialects.at_most(field, self.start, most, dialect)
            # Half a table is read faster in its own order than by way of an index.
            if low is None:
                upper = dialects.leaves_most_in(upper, dialect)
            yield upper

    def unplanned(self, window: Window) -> ColumnElement[bool] | None:
        """That the ledger has no task of the row, planned from its present values and due in the window.

        None where the database cannot write the row's key as the ledger does: then all rows are read.
        """
        key = dialects.key(self.keys, self.dialect)
        if key is None:
            return None
        c = entries.c
        parts = [
            c.app == self.template.app.name,
            c.template == self.template.fullName,
            c.row_key == key,
            c.due > window[0],
            c.due <= window[1],
        ]
        kept = (c.start_value, c.end_value)
        for held, column in zip(kept, self.dates, strict=False):
            field, null = self._field(column), column is self.end
            same = dialects.same_date(held, field, column, self.dialect, null=null)
            parts.append(same)
        parts += self.own.unchanged() if self.own is not None else ()
        one: Select[Any] = select(sa.literal_column("1")).select_from(entries)
        return ~one.where(*parts).exists()

    def unsorted(self) -> ColumnElement[bool] | None:
        """That a value is no date and, as text, comes before or after all dates; None for a database with true dates."""
        if self.dialect != "sqlite":
            return None
        field = self._field(self.start)
        outside = (
            dialects.below_dates(field, self.dialect),
            dialects.above_dates(field),
        )
        return and_(or_(*outside), self._filter())

    def query(
        self,
        condition: ColumnElement[bool],
        after: Sequence[Any] | None = None,
        most: int = PIECE,
    ) -> Select[Any]:
        """The rows that meet a condition, in the order of their keys, from behind a key on."""
        keys = self.keys
        if not self._open:  # few rows: read by the index of the dates, then sorted
            keys = [dialects.by_no_index(key, self.dialect) for key in keys]
        found = select(*self.columns).where(condition).order_by(*keys).limit(most)
        return found if after is None else found.where(_behind(self.keys, after))

    # Reading

    def rows(
        self,
        connection: Connection,
        condition: ColumnElement[bool],
        after: Sequence[Any] | None,
    ) -> tuple[list[Dated | Unreadable], Sequence[Any] | None]:
        """At most PIECE rows that meet a condition, from behind a key on; and the last key where there may be more."""
        query = self.query(condition, after, PIECE)
        found, last, count = self._read(connection, query)
        return found, last if count == PIECE else None

    def _read(
        self, connection: Connection, query: Select[Any]
    ) -> tuple[list[Dated | Unreadable], Sequence[Any] | None, int]:
        """The rows of a query, the last row's key, and their number."""
        try:
            with nested(connection):
                records = connection.execute(query).all()
            found = [self._dated(record) for record in records]
        except UNREADABLE:
            # Some row holds no date in a date column: keys are read without dates, then the dates by key.
            with nested(connection):
                records = connection.execute(query.with_only_columns(*self.keys)).all()
            found = []
            for start in range(0, len(records), CHUNK):
                found += self._by_key(connection, records[start : start + CHUNK])
        last = tuple(records[-1][: len(self.keys)]) if records else None
        return found, last, len(records)

    def _by_key(
        self, connection: Connection, records: Sequence[Any]
    ) -> list[Dated | Unreadable]:
        named: dict[str, tuple[Any, ...]] = {}
        unread: list[Dated | Unreadable] = []
        for record in records:
            try:
                named[key_text(self.key_columns, record, self.dialect)] = tuple(record)
            except ValueError as error:
                unread.append(Unreadable(_shown(record), str(error)))
        return unread + dated_rows(connection, self.template, named, self.now)

    def texts(
        self, connection: Connection, condition: ColumnElement[bool], most: int
    ) -> list[tuple[str, str]]:
        """The keys of some rows, and the texts in their date column."""
        query = (
            select(*self.keys, sa.type_coerce(self._field(self.start), sa.String))
            .where(condition)
            .limit(most)
        )
        return [
            (_shown(tuple(record[:-1])), str(record[-1]))
            for record in connection.execute(query)
        ]

    def _dated(self, record: Any) -> Dated | Unreadable:
        count = len(self.keys)
        try:
            key = key_text(self.key_columns, record[:count], self.dialect)
        except ValueError as error:
            return Unreadable(_shown(record[:count]), str(error))
        try:
            return Dated(key, self._row.times(record[count:]))
        except ValueError as error:
            return Unreadable(key, str(error))


def bounded(
    held: Column, wall: datetime, zone: ZoneInfo, *, first: bool
) -> date | datetime:
    """A wall time of the task's zone as a value of a column, as the first or the last of a range."""
    if held.kind is ColumnKind.DATE:
        begun = wall.date()
        return (
            begun + timedelta(1)
            if first and wall.time() > wall.min.time() and begun < date.max
            else begun
        )
    if not held.aware:
        return wall
    both = [wall.replace(tzinfo=zone, fold=fold) for fold in (0, 1)]
    try:
        instants = [at.astimezone(UTC) for at in both]
    except OverflowError:
        instants = [at.replace(tzinfo=UTC) for at in both]
    return min(instants) if first else max(instants)


def _behind(keys: Sequence[Any], last: Sequence[Any]) -> ColumnElement[bool]:
    """That a row's key comes after another, column by column."""
    parts = []
    for number, (key, value) in enumerate(zip(keys, last, strict=True)):
        same = [k == v for k, v in zip(keys[:number], last[:number], strict=True)]
        parts.append(and_(*same, key > value))
    return or_(*parts)


def _shown(values: Sequence[Any]) -> str:
    return ", ".join(str(value) for value in values)[:100]
