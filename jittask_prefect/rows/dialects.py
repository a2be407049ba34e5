"""What the kinds of databases spell differently: dates, days of the year, and keys, as the ledger has them.

Where a spelling differs from the ledger's in some corner, a row is looked at more often than it need be, never less.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, timedelta
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
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.types import DateTime, TypeDecorator

from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.filters.binding import Column, Kind
from jittask_prefect.ledger.keys import python_type
from jittask_prefect.ledger.tables import ColumnDateTime

Days = Collection[tuple[int, int]]
FIRST_TEXT, LAST_TEXT = "0001-01-01", "9999-12-31T99"
BEHIND = "~"
"""With this at its end, a day comes behind all texts that begin with the day."""


def stored(value: Any, held: Column) -> datetime | None:
    """A row's date as the ledger keeps it beside a task."""
    if value is None:
        return None
    if held.kind is Kind.DATE or not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    at = value.astimezone(UTC) if value.tzinfo is not None and held.aware else value
    return at.replace(tzinfo=None, fold=0)


def kept(value: Any, held: Column, dialect: str) -> Any:
    """A value as the column will give it back: MariaDB's times have whole seconds, unless their type says otherwise."""
    of = held.type.impl_instance if isinstance(held.type, TypeDecorator) else held.type
    if (
        dialect not in ("mysql", "mariadb")
        or not isinstance(value, datetime)
        or getattr(of, "fsp", None)
    ):
        return value
    return value.replace(microsecond=0)


def dates(
    template: DateFieldType, start: Any, end: Any
) -> tuple[datetime | None, datetime | None]:
    """A row's dates as the ledger keeps them."""
    cfg = template.timer.cfg
    ends = cfg.end_field and cfg.end_time_type == 2
    return stored(start, template.field_column(str(cfg.start_field))), (
        stored(end, template.field_column(str(cfg.end_field))) if ends else None
    )


def same_date(
    kept: Any, field: Any, held: Column, dialect: str, *, null: bool = False
) -> ColumnElement[bool]:
    """Whether the ledger's copy of a date is what a row's column holds now."""
    at: Any
    if dialect == "sqlite":
        text = type_coerce(field, String)
        if held.kind is Kind.DATE:
            at = func.substr(text, 1, 10).concat(" 00:00:00.000000")
        else:
            at = func.substr(func.replace(text, "T", " ").concat(".000000"), 1, 26)
        kept = type_coerce(kept, String)
    elif dialect == "postgresql":
        at = cast(field, TIMESTAMP) if held.kind is Kind.DATE else field
        if held.kind is not Kind.DATE and getattr(held.type, "timezone", False):
            at = func.timezone(literal_column("'UTC'"), field)
        at = type_coerce(at, DateTime())
        kept = type_coerce(kept, DateTime())
    else:
        at = type_coerce(
            cast(field, DateTime()) if held.kind is Kind.DATE else field,
            ColumnDateTime(),
        )
    same: ColumnElement[bool] = kept == at
    return or_(same, kept.is_(None) & field.is_(None)) if null else same


def at_least(field: Any, held: Column, value: Any, dialect: str) -> Any:
    """A date's lower bound. SQLite's text `2026-02-30` is met from March 1 on: what is no date is met as well."""
    if dialect != "sqlite" or held.kind is not Kind.DATE or value == date.min:
        return field >= value
    return type_coerce(field, String) > f"{value - timedelta(1)}{BEHIND}"


def at_most(field: Any, held: Column, value: Any, dialect: str) -> Any:
    """A date's upper bound. In SQLite dates are texts, and `2026-03-02T05:00` comes after `2026-03-02 09:00`."""
    if dialect != "sqlite":
        return field <= value
    text = type_coerce(field, String)
    if held.kind is Kind.DATE:
        return text <= f"{value}{BEHIND}"
    naive = stored(value, held)
    assert naive is not None
    with_t = func.substr(
        text, literal_column("11"), literal_column("1")
    ) == literal_column("'T'")
    return (text <= naive.isoformat("T", "microseconds")) & ((field <= value) | with_t)


def below_dates(field: Any, dialect: str) -> ColumnElement[bool]:
    """Whether what is no date comes before all dates, or before those of its month."""
    if dialect == "sqlite":
        return type_coerce(field, String) < FIRST_TEXT
    # MariaDB's zero dates; on PostgreSQL `-infinity` is a date.
    return extract("day", field) == 0 if dialect in ("mysql", "mariadb") else false()


def above_dates(field: Any) -> ColumnElement[bool]:
    """Whether a text of SQLite, or a blob, comes after all dates."""
    return type_coerce(field, String) > LAST_TEXT


def on_days(field: Any, held: Column, days: Days, dialect: str) -> ColumnElement[bool]:
    """Whether a date lies on one of these (month, day); month 0 is any month, day 0 any day."""
    if held.aware:
        days = _around(days)  # the database holds UTC
    if not days:
        return false()
    parts = []
    for months, numbers in ((True, True), (False, True), (True, False)):
        chosen = sorted(
            {(m, d) for m, d in days if bool(m) is months and bool(d) is numbers}
        )
        if not chosen:
            continue
        part = day_of(field, held, dialect, month=months, number=numbers)
        if dialect == "sqlite":
            parts.append(
                part.in_(
                    [
                        f"{m:02d}-{d:02d}" if m and d else f"{m or d:02d}"
                        for m, d in chosen
                    ]
                )
            )
        else:
            parts.append(
                part.in_([m * 100 + d if m and d else m or d for m, d in chosen])
            )
    return or_(*parts)


def day_of(field: Any, held: Column, dialect: str, *, month: bool, number: bool) -> Any:
    """The month and day of a date, as the index that `doctor` proposes has it."""
    if dialect == "sqlite":
        first, length = (6, 5) if month and number else (6, 2) if month else (9, 2)
        return func.substr(
            type_coerce(field, String),
            literal_column(str(first)),
            literal_column(str(length)),
        )
    if (
        dialect == "postgresql"
        and held.kind is not Kind.DATE
        and getattr(held.type, "timezone", False)
    ):
        field = func.timezone(literal_column("'UTC'"), field)
    asked = [what for what, wanted in (("month", month), ("day", number)) if wanted]
    if dialect == "postgresql":
        parts: list[Any] = [
            func.date_part(literal_column(f"'{what}'"), field) for what in asked
        ]
    else:
        parts = [extract(what, field) for what in asked]
    return parts[0] * literal_column("100") + parts[1] if len(parts) == 2 else parts[0]


def _around(days: Days) -> Days:
    """The days and their neighbours, in leap years and others."""
    found = set()
    for month, day in days:
        if not day:
            found |= {(number % 12 + 1, 0) for number in (month - 2, month - 1, month)}
        elif not month:
            found |= {
                (0, number) for number in (day - 1, day, day + 1) if 1 <= number <= 31
            }
            found |= {
                (0, number)
                for number in (
                    (1,) if day >= 28 else (28, 29, 30, 31) if day == 1 else ()
                )
            }
        else:
            first = datetime(2024, month, 1) + timedelta(day - 1)
            near = (first + timedelta(by) for by in (-2, -1, 0, 1, 2))
            found |= {(at.month, at.day) for at in near}
    return found


def leaves_most_in(part: Any, dialect: str) -> Any:
    """A bound that most rows meet: SQLite, which has no statistics, must not take an index for its sake."""
    return func.likely(part) if dialect == "sqlite" else part


def key(columns: Sequence[Any], dialect: str) -> Any:
    """A row's key as the ledger's text; None where the database cannot say it."""
    plain = [_plain(column, dialect) for column in columns]
    if any(part is None for part in plain):
        return None
    if len(plain) == 1:
        return plain[0]
    listed: list[Any] = [literal_column("'['")]
    for of, part in zip(columns, plain, strict=True):
        number = issubclass(python_type(of.type), int)
        listed += [part if number else _quoted(part, dialect), literal_column("','")]
    return _joined([*listed[:-1], literal_column("']'")], dialect)


def _quoted(text: Any, dialect: str) -> Any:
    """A text as JSON."""
    return (
        cast(func.to_json(cast(text, Text)), Text)
        if dialect == "postgresql"
        else func.json_quote(text)
    )


def _joined(parts: Sequence[Any], dialect: str) -> Any:
    return (
        func.concat(*parts)
        if dialect in ("mysql", "mariadb")
        else reduce(lambda a, b: a.concat(b), parts)
    )


def _plain(column: Any, dialect: str) -> Any:
    kind = python_type(column.type)
    if kind is str:
        return (
            cast(column, Text)
            if dialect == "postgresql"
            else type_coerce(column, String)
        )  # a CHAR without padding
    if kind is int:
        return cast(column, Text if dialect in ("sqlite", "postgresql") else String(20))
    if kind is uuid.UUID:
        if dialect in ("postgresql", "mariadb"):
            return cast(column, Text if dialect == "postgresql" else String(36))
        # MariaDB's own UUID has its dashes already (SQLAlchemy 2.1); elsewhere 32 digits are kept.
        text, parts = (
            func.replace(
                type_coerce(column, String), literal_column("'-'"), literal_column("''")
            ),
            [],
        )
        for start, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12)):
            parts += [func.substr(text, start, length), literal_column("'-'")]
        return _joined(parts[:-1], dialect)
    return None
