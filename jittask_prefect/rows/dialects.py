"""How the kinds of databases spell dates, days of the year, and row keys, as the ledger has them.

Where a spelling differs from the ledger's in some corner, a row is read more often than needed, never less.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import reduce
from typing import Any

from sqlalchemy import (
    ColumnElement,
    String,
    Text,
    cast,
    extract,
    false,
    func,
    literal_column,
    or_,
    type_coerce,
)
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op
from sqlalchemy.types import TIMESTAMP, DateTime

from jittask_prefect.elements.row_timers import RowTimes
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.filters.columns import Column, ColumnKind
from jittask_prefect.ledger.keys import python_type
from jittask_prefect.ledger.planned_rows import KeptTimes
from jittask_prefect.ledger.tables import ColumnDateTime
from jittask_prefect.rows.row_reading import date_columns

Days = Collection[tuple[int, int]]
"""Month and day; month 0 is any month, day 0 any day."""
MARIADB = ("mysql", "mariadb")
FIRST_TEXT, LAST_TEXT = "0001-01-01", "9999-12-31T99"
AFTER_DAY = "~"
"""With this at its end, a day comes after all texts that begin with the day."""


def stored(value: Any, column: Column) -> datetime | None:
    """A row's date as the ledger keeps it beside a task."""
    if value is None:
        return None
    if column.kind is ColumnKind.DATE or not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    aware = value.tzinfo is not None and column.aware
    at = value.astimezone(UTC) if aware else value
    return at.replace(tzinfo=None, fold=0)


def kept(template: DateFieldType, times: RowTimes) -> KeptTimes:
    """A row's values as the ledger keeps them."""
    first, *last = date_columns(template)
    end = stored(times.end, last[0]) if last else None
    return KeptTimes(stored(times.start, first), end, times.zone, times.calendar)


def same_date(
    kept: Any, field: Any, column: Column, dialect: str, *, null: bool = False
) -> ColumnElement[bool]:
    """Whether the ledger's copy of a date is the value of a row's column now."""
    whole_days, at = column.kind is ColumnKind.DATE, field
    if dialect == "sqlite":
        text = type_coerce(field, String)
        if whole_days:
            at = func.substr(text, 1, 10).concat(" 00:00:00.000000")
        else:
            at = func.substr(func.replace(text, "T", " ").concat(".000000"), 1, 26)
        kept = type_coerce(kept, String)
    elif dialect == "postgresql":
        if whole_days:
            at = cast(field, TIMESTAMP)
        elif column.zoned:
            at = _in_utc(field)
        at, kept = type_coerce(at, DateTime()), type_coerce(kept, DateTime())
    else:
        at = cast(field, DateTime()) if whole_days else field
        at = type_coerce(at, ColumnDateTime())
    same: ColumnElement[bool] = kept == at
    return or_(same, kept.is_(None) & field.is_(None)) if null else same


def at_least(field: Any, column: Column, value: Any, dialect: str) -> Any:
    """A date's lower bound. SQLite's text `2026-02-30`, no date, is met too: from March 1 on."""
    if dialect != "sqlite":
        return field >= value
    if column.kind is not ColumnKind.DATE:
        return type_coerce(field, String) >= _shortest(stored(value, column))
    if value == date.min:
        return field >= value
    return type_coerce(field, String) > f"{value - timedelta(1)}{AFTER_DAY}"


def _shortest(wall: datetime | None) -> str:
    """The shortest text of a time in SQLite: raw SQL may leave out the fraction, and at midnight the clock time."""
    assert wall is not None
    if wall.time() == time():
        return wall.isoformat()[:10]
    return wall.isoformat(" ", "microseconds" if wall.microsecond else "seconds")


def at_most(field: Any, column: Column, value: Any, dialect: str) -> Any:
    """A date's upper bound. SQLite's dates are texts, and `2026-03-02T05:00` comes after `2026-03-02 09:00`."""
    if dialect != "sqlite":
        return field <= value
    text = type_coerce(field, String)
    if column.kind is ColumnKind.DATE:
        return text <= f"{value}{AFTER_DAY}"
    naive = stored(value, column)
    assert naive is not None
    eleventh = func.substr(text, literal_column("11"), literal_column("1"))
    with_t = eleventh == literal_column("'T'")
    return (text <= naive.isoformat("T", "microseconds")) & ((field <= value) | with_t)


def below_dates(field: Any, dialect: str) -> ColumnElement[bool]:
    """Whether a value that is no date comes before all dates, or before the dates of its month."""
    if dialect == "sqlite":
        return type_coerce(field, String) < FIRST_TEXT
    # MariaDB's zero dates; on PostgreSQL `-infinity` is a date.
    return extract("day", field) == 0 if dialect in MARIADB else false()


def above_dates(field: Any) -> ColumnElement[bool]:
    """Whether a text of SQLite, or a blob, comes after all dates."""
    return type_coerce(field, String) > LAST_TEXT


def on_days(
    field: Any, column: Column, days: Days, dialect: str
) -> ColumnElement[bool]:
    """Whether a date lies on any of some days."""
    if column.aware:
        days = _around(days)  # the database holds UTC
    parts = []
    for month, number in ((True, True), (False, True), (True, False)):
        chosen = sorted(
            {(m, d) for m, d in days if bool(m) is month and bool(d) is number}
        )
        if chosen:
            part = day_of(field, column, dialect, month=month, number=number)
            parts.append(part.in_([_day(*day, dialect) for day in chosen]))
    return or_(false(), *parts)


def _day(month: int, number: int, dialect: str) -> str | int:
    both = bool(month and number)
    if dialect == "sqlite":
        return f"{month:02d}-{number:02d}" if both else f"{month or number:02d}"
    return month * 100 + number if both else month or number


def day_of(
    field: Any, column: Column, dialect: str, *, month: bool, number: bool
) -> Any:
    """The month and day of a date, in the spelling of the index that `doctor` proposes."""
    if dialect == "sqlite":
        first, length = (6, 5) if month and number else (6, 2) if month else (9, 2)
        place: Any = (literal_column(str(first)), literal_column(str(length)))
        return func.substr(type_coerce(field, String), *place)
    names = ["month"] * month + ["day"] * number
    if dialect == "postgresql":
        at = _in_utc(field) if column.zoned else field
        parts: list[Any] = [
            func.date_part(literal_column(f"'{name}'"), at) for name in names
        ]
    else:
        parts = [extract(name, field) for name in names]
    return parts[0] * literal_column("100") + parts[1] if len(parts) == 2 else parts[0]


def _in_utc(field: Any) -> Any:
    return func.timezone(literal_column("'UTC'"), field)


def _around(days: Days) -> Days:
    """The days and their neighbours, in leap years and others."""
    return {near for day in days for near in _near(*day)}


def _near(month: int, day: int) -> Iterator[tuple[int, int]]:
    if not day:
        for by in (-1, 0, 1):
            yield (month - 1 + by) % 12 + 1, 0
    elif not month:
        ends = (1,) if day >= 28 else (28, 29, 30, 31) if day == 1 else ()
        for number in (day - 1, day, day + 1, *ends):
            if 1 <= number <= 31:
                yield 0, number
    else:
        first = datetime(2024, month, 1) + timedelta(day - 1)
        for by in (-2, -1, 0, 1, 2):
            at = first + timedelta(by)
            yield at.month, at.day


def leaves_most_in(part: Any, dialect: str) -> Any:
    """A bound that most rows meet: SQLite, which has no statistics, must not take an index for its sake."""
    return func.likely(part) if dialect == "sqlite" else part


def by_no_index(column: Any, dialect: str) -> Any:
    """A column to order by; SQLite, which would rather read a table in the order of its keys, must sort instead."""
    if dialect != "sqlite":
        return column
    return UnaryExpression(column, operator=custom_op("+"), type_=column.type)


# Row keys


def key(columns: Sequence[Any], dialect: str) -> Any:
    """A row's key as the ledger's text; None where the database cannot write the text."""
    plain = [_plain(column, dialect) for column in columns]
    if any(part is None for part in plain):
        return None
    if len(plain) == 1:
        return plain[0]
    listed: list[Any] = [literal_column("'['")]
    for column, part in zip(columns, plain, strict=True):
        number = issubclass(python_type(column.type), int)
        listed += [part if number else _quoted(part, dialect), literal_column("','")]
    return _joined([*listed[:-1], literal_column("']'")], dialect)


def _quoted(text: Any, dialect: str) -> Any:
    """A text as JSON."""
    if dialect == "postgresql":
        return cast(func.to_json(cast(text, Text)), Text)
    return func.json_quote(text)


def _joined(parts: Sequence[Any], dialect: str) -> Any:
    if dialect in MARIADB:
        return func.concat(*parts)
    return reduce(lambda a, b: a.concat(b), parts)


def _plain(column: Any, dialect: str) -> Any:
    kind = python_type(column.type)
    if kind is str and dialect != "postgresql":
        return type_coerce(column, String)
    if kind is str:
        return cast(column, Text)  # a CHAR without padding
    if kind is int:
        return cast(column, String(20) if dialect in MARIADB else Text)
    if kind is not uuid.UUID:
        return None
    if dialect == "postgresql":
        return cast(column, Text)
    if dialect == "mariadb":
        return cast(column, String(36))
    # 32 digits are kept; MariaDB's own UUID has its dashes already (SQLAlchemy 2.1).
    dash: Any = literal_column("'-'")
    text = func.replace(type_coerce(column, String), dash, literal_column("''"))
    parts: list[Any] = []
    for start, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12)):
        parts += [func.substr(text, start, length), dash]
    return _joined(parts[:-1], dialect)
