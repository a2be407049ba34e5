"""Timer + window → the query for the rows that can be due in it, and reading them.

A query asks for the dates of rows, never for whole rows: planning needs no more. Rows whose dates the ledger has
planned already are left out by the database itself. What is no date in a date column spoils its own row only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    false,
    or_,
    select,
    tuple_,
)
from sqlalchemy import inspect as sa_inspect
from sqlmodel import Session

from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.filters.binding import Column, Kind, column
from jittask_prefect.ledger.keys import NoKey, key_text, key_value
from jittask_prefect.ledger.savepoint import nested
from jittask_prefect.ledger.tables import entries
from jittask_prefect.rows import dialects
from jittask_prefect.schedule.reach import Reach

PIECE = 20_000
"""Rows that are read, planned and applied at once: what bounds the memory of a sync."""
CHUNK = 500
TICK = timedelta(microseconds=1)
Window = tuple[datetime, datetime]
_by_key: WeakKeyDictionary[type[Any], Select[Any]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Dated:
    """A row as planning sees it: its key as the ledger has it, and its dates as the database has them."""

    key: str
    start: Any
    end: Any


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that is in a window and cannot be read, and why."""

    key: str
    why: str


class Scan:
    """The rows of one template.

    Args:
        template: The date-field template.
        now: The present instant, for `Q.today` and `Q.now`.
        dialect: The name of the database's kind.
    """

    def __init__(self, template: DateFieldType, now: datetime, dialect: str) -> None:
        cfg = template.timer.cfg
        self.template, self.now, self.dialect = template, now, dialect
        self.model: Any = template.model
        self.keys = list(sa_inspect(self.model).primary_key)
        self.start = column(self.model, str(cfg.start_field))
        self.start_column: Any = getattr(self.model, str(cfg.start_field))
        ends = cfg.end_field and cfg.end_time_type == 2
        self.end = column(self.model, str(cfg.end_field)) if ends else None
        self.end_column: Any = getattr(self.model, str(cfg.end_field)) if ends else None
        dates = [self.start_column, *([self.end_column] if ends else [])]
        self.columns = [
            *self.keys,
            *(c.label(f"jittask_date_{n}") for n, c in enumerate(dates)),
        ]

    # What is asked for

    def condition(self, window: Window) -> ColumnElement[bool] | None:
        """What a row must meet to be due in (after, before]; None where none can be."""
        after, before = window
        found = self.template.timer.reach(
            after + TICK, before + TICK, whole_days=self.start.kind is Kind.DATE
        )
        if not found.spans:
            return None
        return and_(self._on(found), self._filter())

    def _on(self, found: Reach) -> ColumnElement[bool]:
        zone = self.template.timer.zone
        spans = []
        for low, high in found.spans:
            parts = [self.start_column.is_not(None)]
            if low is not None:
                lower = bounded(self.start, low, zone, first=True)
                parts.append(
                    dialects.at_least(
                        self.start_column, self.start, lower, self.dialect
                    )
                )
            if high is not None:
                upper = dialects.at_most(
                    self.start_column,
                    self.start,
                    bounded(self.start, high, zone, first=False),
                    self.dialect,
                )
                # Half a table is read faster in its own order than by way of an index.
                parts.append(
                    upper
                    if low is not None
                    else dialects.leaves_most_in(upper, self.dialect)
                )
            spans.append(and_(*parts))
        parts = [or_(*spans) if len(spans) > 1 else spans[0]]
        if found.days is not None:
            parts.append(
                dialects.on_days(
                    self.start_column, self.start, found.days, self.dialect
                )
            )
        if found.end is not None and self.end is not None:
            least = bounded(self.end, found.end, zone, first=True)
            bad = dialects.below_dates(self.end_column, self.dialect)
            parts.append(or_(self.end_column.is_(None), self.end_column >= least, bad))
        return and_(*parts)

    def unplanned(self, window: Window) -> ColumnElement[bool] | None:
        """That the ledger has no task of the row, planned from these dates and (of a repeat) due in the window.

        None where the database cannot write the row's key as the ledger does: then all are looked at.
        """
        key = dialects.key(self.keys, self.dialect)
        if key is None:
            return None
        parts = [
            entries.c.template == self.template.fullName,
            entries.c.row_key == key,
            dialects.same_date(
                entries.c.start_value, self.start_column, self.start, self.dialect
            ),
        ]
        if self.end is not None:
            parts.append(
                dialects.same_date(
                    entries.c.end_value,
                    self.end_column,
                    self.end,
                    self.dialect,
                    null=True,
                )
            )
        if self.template.timer.cfg.repeat.repeat_type != "normal":
            parts += [entries.c.due > window[0], entries.c.due <= window[1]]
        return (
            ~select(sa.literal_column("1")).select_from(entries).where(*parts).exists()
        )

    def query(
        self,
        condition: ColumnElement[bool],
        after: Sequence[Any] | None = None,
        most: int = PIECE,
    ) -> Select[Any]:
        """The rows that meet a condition, in the order of their keys, from behind a key on."""
        found = select(*self.columns).where(condition).order_by(*self.keys).limit(most)
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

    def of_keys(
        self, connection: Connection, keys: Sequence[str]
    ) -> list[Dated | Unreadable]:
        """Those of some rows that are there and meet the filter."""
        values, unread = [], []
        for key in keys:
            try:
                values.append(key_value(self.model, key, self.dialect))
            except NoKey as error:  # not known to be gone
                unread.append(Unreadable(key, str(error)))
        matching = and_(self._one_of(values), self._filter())
        return [
            *unread,
            *self._read(connection, self.query(matching, most=max(1, len(keys))))[0],
        ]

    def _filter(self) -> ColumnElement[bool]:
        return self.template.filter.condition(
            self.model, self.now, self.template.timer.zone
        )

    def _one_of(self, values: Sequence[Sequence[Any]]) -> ColumnElement[bool]:
        if not values:
            return false()
        chosen: ColumnElement[bool] = (
            self.keys[0].in_([value[0] for value in values])
            if len(self.keys) == 1
            else tuple_(*self.keys).in_([tuple(value) for value in values])
        )
        return chosen

    def _read(
        self, connection: Connection, query: Select[Any]
    ) -> tuple[list[Dated | Unreadable], Sequence[Any] | None, int]:
        """The rows of a query, the last one's key, and their number."""
        try:
            with nested(connection):
                records = connection.execute(query).all()
        except UNREADABLE:
            # Some row holds what is no date. Keys are read without it, and then the rows one by one where need be.
            with nested(connection):
                keys = [
                    tuple(record)
                    for record in connection.execute(
                        query.with_only_columns(*self.keys)
                    )
                ]
            found: list[Dated | Unreadable] = []
            for start in range(0, len(keys), CHUNK):
                found += self._by_halves(connection, keys[start : start + CHUNK])
            return found, keys[-1] if keys else None, len(keys)
        count = len(self.keys)
        return (
            [self._dated(r) for r in records],
            tuple(records[-1][:count]) if records else None,
            len(records),
        )

    def _by_halves(
        self, connection: Connection, values: list[tuple[Any, ...]]
    ) -> Iterator[Dated | Unreadable]:
        try:
            with nested(connection):
                found = connection.execute(
                    select(*self.columns).where(self._one_of(values))
                ).all()
        except UNREADABLE as error:
            if len(values) == 1:
                why = (
                    str(getattr(error, "orig", None) or error)
                    .strip()
                    .partition("\n")[0]
                )
                yield Unreadable(
                    self._key(values[0]),
                    f"its date cannot be read: {type(error).__name__}: {why}",
                )
                return
            half = len(values) // 2
            yield from self._by_halves(connection, values[:half])
            yield from self._by_halves(connection, values[half:])
            return
        for record in found:
            yield self._dated(record)

    def unsorted(self) -> ColumnElement[bool] | None:
        """What is no date and, as text, comes before or after all dates; None where a database has true dates."""
        if self.dialect != "sqlite":
            return None
        field = self.start_column
        return and_(
            or_(dialects.below_dates(field, self.dialect), dialects.above_dates(field)),
            self._filter(),
        )

    def texts(
        self, connection: Connection, condition: ColumnElement[bool], most: int
    ) -> list[tuple[str, str]]:
        """The keys of some rows, and their date as it stands there."""
        query = (
            select(*self.keys, sa.type_coerce(self.start_column, sa.String))
            .where(condition)
            .limit(most)
        )
        return [
            (_shown(tuple(record[:-1])), str(record[-1]))
            for record in connection.execute(query)
        ]

    def _key(self, values: Sequence[Any]) -> str:
        try:
            return key_text(self.keys, values, self.dialect)
        except ValueError:
            return _shown(values)

    def _dated(self, record: Any) -> Dated | Unreadable:
        count = len(self.keys)
        values = tuple(record[:count])
        try:
            key = key_text(self.keys, values, self.dialect)
        except ValueError as error:
            return Unreadable(_shown(values), str(error))
        for date_, held in zip(record[count:], (self.start, self.end), strict=False):
            if (
                held is not None
                and not held.aware
                and getattr(date_, "tzinfo", None) is not None
            ):
                return Unreadable(
                    key,
                    f"{date_.isoformat(' ')} in {held.key}, a column of times without a zone",
                )
        return Dated(
            key, record[count], record[count + 1] if self.end is not None else None
        )


# What a driver, or SQLAlchemy's own reading of SQLite's texts, raises for what is no date.
UNREADABLE = (
    ValueError,
    TypeError,
    OverflowError,
    AttributeError,
    sa.exc.DataError,
    sa.exc.StatementError,
)


def bounded(
    held: Column, wall: datetime, zone: ZoneInfo, *, first: bool
) -> date | datetime:
    """A wall time of the task's zone as a value of a column, as the first or the last of a range."""
    if held.kind is Kind.DATE:
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


def load(session: Session, template: DateFieldType, key: str) -> Any:
    """The row of a key, fresh from the database; None where there is none.

    Raises:
        NoKey: The key is none of the model's, or its type cannot read it: whether there is a row is not known.
    """
    values = key_value(template.model, key, session.get_bind().dialect.name)
    # Not `session.get`, which makes this statement anew each time: twice the work for each row of a batch.
    if template.model not in _by_key:
        columns = sa_inspect(template.model).primary_key
        mine = [
            column == sa.bindparam(f"key_{place}", type_=column.type)
            for place, column in enumerate(columns)
        ]
        _by_key[template.model] = (
            select(template.model)
            .where(*mine)
            .execution_options(populate_existing=True)
        )
    found = session.execute(
        _by_key[template.model],
        {f"key_{place}": value for place, value in enumerate(values)},
    )
    return found.unique().scalar_one_or_none()


def gone(connection: Connection, model: type[Any], keys: Sequence[str]) -> list[str]:
    """Those of some keys of which a model's table has no row, whatever a filter says; none that cannot be read."""
    columns = list(sa_inspect(model).primary_key)
    values = {}
    for key in keys:
        try:
            values[key] = key_value(model, key, connection.dialect.name)
        except NoKey:
            continue
    chosen = tuple_(*columns).in_([tuple(value) for value in values.values()])
    query = select(*columns).where(
        chosen if len(columns) > 1 else columns[0].in_([v[0] for v in values.values()])
    )
    found = connection.execute(query) if values else ()
    there = {
        key_text(columns, tuple(record), connection.dialect.name) for record in found
    }
    return [key for key in values if key not in there]
