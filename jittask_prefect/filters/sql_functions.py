"""Functions named by their meaning, and how each database spells them.

Collations, exact numbers, ISO weeks, the clock of a zone, and SQLite's texts that stand for times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import InternalTraversal
from sqlalchemy.types import TypeEngine

from jittask_prefect.filters.columns import Column

_BYTES = "CAST(CONVERT({0} USING utf8mb4) AS BINARY)"
# SQLite's strftime has %V only from 3.46 on: the week of ISO 8601 is that of its Thursday.
_THURSDAY = "strftime('%j', {0}, '-3 days', 'weekday 4')"
_SPELLINGS: Mapping[str, Mapping[str, str]] = {
    # A text compared by code point, whatever the column's collation. MariaDB's bytes of UTF-8 sort by code point;
    # even its _bin collations ignore spaces at the end.
    "code points": {
        "sqlite": "({0} COLLATE BINARY)",
        "postgresql": '(CAST({0} AS TEXT) COLLATE "C")',
        "mysql": _BYTES,
    },
    # The same for = and IN only: PostgreSQL's ordinary collations tell texts apart, and an index serves.
    "exact": {"sqlite": "({0} COLLATE BINARY)", "mysql": _BYTES},
    # Where the second text begins in the first, from 1; 0: nowhere.
    "position": {
        "sqlite": "instr({0}, {1})",
        "postgresql": "strpos({0}, {1})",
        "mysql": "instr({0}, {1})",
    },
    # The end of the first text, as long as the second.
    "ending": {
        "sqlite": "(substr({0}, -length({1})) COLLATE BINARY)",
        "postgresql": "right({0}, length({1}))",
        "mysql": "right({0}, length({1}))",
    },
    # A time; SQLite's is a text, which raw SQL may have left shorter than SQLAlchemy writes a time.
    "datetime": {
        "sqlite": "(replace({0}, 'T', ' ') || substr(' 00:00:00.000000', length({0}) - 9))"
    },
    "time": {
        "sqlite": "(replace({0}, 'T', ' ') || substr('00:00:00.000000', length({0}) + 1))"
    },
    # A decimal as it is read; SQLite holds the nearest double, with more digits than the column has.
    "rounded": {"sqlite": "round({0}, {1})"},
    # A float as it is read: of a single-precision 1.1 the double 1.1, not the nearest single.
    "float": {"mysql": "(CONCAT({0}) + 0e0)"},
    "single float": {
        "postgresql": "CAST(CAST({0} AS TEXT) AS DOUBLE PRECISION)",
        "mysql": "(CONCAT({0}) + 0e0)",
    },
    "iso week": {
        "sqlite": f"(({_THURSDAY} - 1) / 7 + 1)",
        "postgresql": "EXTRACT(week FROM {0})",
        "mysql": "WEEK({0}, 3)",
    },
}


class Spelled(FunctionElement[Any]):
    """A function that each database spells differently; a database without a spelling takes the first argument.

    Args:
        meaning: A key of `_SPELLINGS`.
        arguments: The arguments.
        type_: The type of the result; absent: no type.
    """

    inherit_cache = True
    _traverse_internals: Any = (
        *FunctionElement._traverse_internals,
        ("meaning", InternalTraversal.dp_string),
    )

    def __init__(
        self, meaning: str, *arguments: Any, type_: TypeEngine[Any] | None = None
    ) -> None:
        super().__init__(*arguments)
        self.meaning = meaning
        if type_ is not None:
            self.type = type_


class WallClock(FunctionElement[Any]):
    """An instant as the wall clock of a zone. A database without zones holds UTC, or else that wall clock already."""

    type = sa.DateTime()
    inherit_cache = True
    _traverse_internals: Any = (
        *FunctionElement._traverse_internals,
        ("about", InternalTraversal.dp_string),
    )

    def __init__(self, value: Any, column: Column, zone: ZoneInfo) -> None:
        super().__init__(value)
        self.column, self.zone = column, zone
        self.about = f"{zone.key} {column.zoned} {column.utc}"


def stored_time(value: Any, type_: TypeEngine[Any]) -> Spelled:
    """A time or datetime as the database's other values of the column are spelled."""
    meaning = "time" if isinstance(type_, sa.Time) else "datetime"
    return Spelled(meaning, value, type_=type_)


def rounded(value: Any, type_: TypeEngine[Any]) -> Spelled:
    """A decimal with the digits of its column."""
    digits = 10
    if isinstance(type_, sa.Numeric):
        digits = type_._effective_decimal_return_scale
    return Spelled("rounded", value, sa.literal_column(str(digits)), type_=type_)


def shortest(value: Any, type_: TypeEngine[Any]) -> Spelled:
    """A float as its shortest decimal reads."""
    precision = getattr(type_, "precision", None) or 0
    single = isinstance(type_, sa.REAL) or 0 < precision <= 24
    return Spelled("single float" if single else "float", value, type_=type_)


@compiles(Spelled)
def _spelled(element: Spelled, compiler: SQLCompiler, **kw: Any) -> str:
    arguments = [compiler.process(clause, **kw) for clause in element.clauses]
    dialect = "mysql" if compiler.dialect.name == "mariadb" else compiler.dialect.name
    spelling = _SPELLINGS[element.meaning].get(dialect, "{0}")
    return re.sub(r"\{(\d)\}", lambda found: arguments[int(found[1])], spelling)


@compiles(WallClock)
def _wall_clock(element: WallClock, compiler: SQLCompiler, **kw: Any) -> str:
    [value] = [compiler.process(clause, **kw) for clause in element.clauses]
    column, zone, dialect = element.column, element.zone, compiler.dialect.name
    if dialect == "postgresql":
        instant = value if column.zoned else f"timezone('UTC', {value})"
        name = compiler.render_literal_value(str(zone), sa.String())
        return f"timezone({name}, {instant})"
    if not column.utc:
        return value
    if dialect == "sqlite":
        shift = _offset(value, zone, "'{:+d} seconds'".format)
        return f"datetime({value}, {shift})"
    return f"({value} + INTERVAL ({_offset(value, zone, str)}) SECOND)"


def _offset(value: str, zone: ZoneInfo, unit: Callable[[int], str]) -> str:
    """A zone's offset at a UTC wall clock, as nested CASEs: a search by halves through the zone's changes."""
    starts, offsets = _changes(zone)

    def between(low: int, high: int) -> str:
        if low == high:
            return unit(offsets[low])
        middle = (low + high + 1) // 2
        earlier, later = between(low, middle - 1), between(middle, high)
        return f"CASE WHEN {value} < '{starts[middle]}' THEN {earlier} ELSE {later} END"

    return between(0, len(offsets) - 1)


@lru_cache(maxsize=16)
def _changes(zone: ZoneInfo) -> tuple[list[str], list[int]]:
    """The instants (UTC) at which a zone's offset changes, 1970 to 2100, and the offset in seconds from each on."""

    def offset(moment: datetime) -> int:
        local = moment.replace(tzinfo=UTC).astimezone(zone).utcoffset()
        return 0 if local is None else int(local.total_seconds())

    moment, end = datetime(1970, 1, 1), datetime(2100, 1, 1)
    starts, offsets = [str(moment)], [offset(moment)]
    while moment < end:
        low, high = moment, moment + timedelta(days=1)
        moment = high
        if offset(high) == offsets[-1]:
            continue
        while high - low > timedelta(seconds=1):
            middle = (low + (high - low) // 2).replace(microsecond=0)
            changed = offset(middle) != offsets[-1]
            low, high = (low, middle) if changed else (middle, high)
        starts.append(str(high))
        offsets.append(offset(high))
    return starts, offsets
