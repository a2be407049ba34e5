"""What the databases say differently: SQL elements named by their meaning, and their compilers.

Collations, exact numbers, ISO weeks, the clock of a zone, and SQLite's texts that stand for times.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from jittask_prefect.filters.columns import Column


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
            middle = low + (high - low) // 2
            middle = middle.replace(microsecond=0)
            low, high = (
                (middle, high) if offset(middle) == offsets[-1] else (low, middle)
            )
        starts.append(str(high))
        offsets.append(offset(high))
    return starts, offsets


class _Element(FunctionElement[Any]):
    """Base: one expression that each dialect spells its own way."""

    inherit_cache = True

    def __init__(self, *clauses: Any, type_: TypeEngine[Any] | None = None) -> None:
        super().__init__(*clauses)
        if type_ is not None:
            self.type = type_


class CodePoints(_Element):
    """A text compared by code point, whatever the column's collation."""

    name = "q_code_points"
    type = sa.String()
    inherit_cache = True


class Exact(_Element):
    """The same for = and IN only: PostgreSQL's ordinary collations tell texts apart, and an index serves."""

    name = "q_exact"
    type = sa.String()
    inherit_cache = True


class Position(_Element):
    """Where the second text begins in the first, from 1; 0: nowhere."""

    name = "q_position"
    type = sa.Integer()
    inherit_cache = True


class Ending(_Element):
    """The end of the first text, as long as the second."""

    name = "q_ending"
    type = sa.String()
    inherit_cache = True


class Stored(_Element):
    """A time; in SQLite it is a text, which raw SQL may have left shorter than SQLAlchemy writes it."""

    name = "q_stored"
    inherit_cache = True


class WallClock(_Element):
    """An instant as the wall clock of a zone. A database without zones holds UTC, or else that wall clock already."""

    name = "q_wall_clock"
    type = sa.DateTime()
    inherit_cache = False  # the zone is no part of the key

    def __init__(self, value: Any, column: Column, zone: ZoneInfo) -> None:
        super().__init__(value)
        self.column, self.zone = column, zone

    def offset(self, value: str, unit: Callable[[int], str]) -> str:
        """The zone's offset at a UTC wall clock, as nested CASEs: a search by halves through the zone's changes."""
        starts, offsets = _changes(self.zone)

        def between(low: int, high: int) -> str:
            if low == high:
                return unit(offsets[low])
            middle = (low + high + 1) // 2
            earlier, later = between(low, middle - 1), between(middle, high)
            return f"CASE WHEN {value} < '{starts[middle]}' THEN {earlier} ELSE {later} END"

        return between(0, len(offsets) - 1)


class IsoWeek(_Element):
    """The week of ISO 8601: that of its Thursday."""

    name = "q_iso_week"
    type = sa.Integer()
    inherit_cache = True


class Rounded(_Element):
    """A decimal as it is read; SQLite holds the nearest double, with more digits than the column has."""

    name = "q_rounded"
    inherit_cache = True


class Shortest(_Element):
    """A float as it is read: of a single-precision 1.1 the double 1.1, not the nearest single."""

    name = "q_shortest"
    inherit_cache = True


def _sql(compiler: SQLCompiler, element: _Element, **kw: Any) -> list[str]:
    return [compiler.process(clause, **kw) for clause in element.clauses]


@compiles(CodePoints)
@compiles(Exact)
@compiles(Stored)
@compiles(WallClock)
@compiles(Rounded)
@compiles(Shortest)
def _as_it_is(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    return _sql(compiler, element, **kw)[0]


@compiles(CodePoints, "sqlite")
@compiles(Exact, "sqlite")
def _sqlite_text(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    return f"({_sql(compiler, element, **kw)[0]} COLLATE BINARY)"


@compiles(CodePoints, "postgresql")
def _postgresql_text(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    return f'(CAST({_sql(compiler, element, **kw)[0]} AS TEXT) COLLATE "C")'


@compiles(CodePoints, "mysql", "mariadb")
@compiles(Exact, "mysql", "mariadb")
def _mysql_text(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    """As bytes of UTF-8, which sort by code point; even a _bin collation ignores spaces at the end."""
    return f"CAST(CONVERT({_sql(compiler, element, **kw)[0]} USING utf8mb4) AS BINARY)"


@compiles(Position)
def _position(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    return "instr({}, {})".format(*_sql(compiler, element, **kw))


@compiles(Position, "postgresql")
def _postgresql_position(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    return "strpos({}, {})".format(*_sql(compiler, element, **kw))


@compiles(Ending)
def _ending(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    text, part = _sql(compiler, element, **kw)
    return f"right({text}, length({part}))"


@compiles(Ending, "sqlite")
def _sqlite_ending(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    text, part = _sql(compiler, element, **kw)
    return f"(substr({text}, -length({part})) COLLATE BINARY)"


@compiles(Stored, "sqlite")
def _sqlite_stored(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    text = _sql(compiler, element, **kw)[0]
    full, shortest = (
        ("00:00:00.000000", 0)
        if isinstance(element.type, sa.Time)
        else (" 00:00:00.000000", 10)
    )
    return f"(replace({text}, 'T', ' ') || substr('{full}', length({text}) - {shortest - 1}))"


@compiles(WallClock, "postgresql")
def _postgresql_wall_clock(element: WallClock, compiler: SQLCompiler, **kw: Any) -> str:
    value = _sql(compiler, element, **kw)[0]
    instant = (
        value
        if getattr(element.column.type, "timezone", False)
        else f"timezone('UTC', {value})"
    )
    return f"timezone({compiler.render_literal_value(str(element.zone), sa.String())}, {instant})"


@compiles(WallClock, "sqlite")
def _sqlite_wall_clock(element: WallClock, compiler: SQLCompiler, **kw: Any) -> str:
    value = _sql(compiler, element, **kw)[0]
    shift = (
        element.offset(value, "'{:+d} seconds'".format) if element.column.utc else ""
    )
    return f"datetime({value}, {shift})" if shift else value


@compiles(WallClock, "mysql", "mariadb")
def _mysql_wall_clock(element: WallClock, compiler: SQLCompiler, **kw: Any) -> str:
    value = _sql(compiler, element, **kw)[0]
    return (
        f"({value} + INTERVAL ({element.offset(value, str)}) SECOND)"
        if element.column.utc
        else value
    )


@compiles(IsoWeek)
def _iso_week(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    return f"EXTRACT(week FROM {_sql(compiler, element, **kw)[0]})"


@compiles(IsoWeek, "mysql", "mariadb")
def _mysql_iso_week(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    return f"WEEK({_sql(compiler, element, **kw)[0]}, 3)"


@compiles(IsoWeek, "sqlite")
def _sqlite_iso_week(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    """By the Thursday: strftime has %V only from SQLite 3.46 on."""
    return f"((strftime('%j', {_sql(compiler, element, **kw)[0]}, '-3 days', 'weekday 4') - 1) / 7 + 1)"


@compiles(Rounded, "sqlite")
def _sqlite_rounded(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    digits = (
        element.type._effective_decimal_return_scale
        if isinstance(element.type, sa.Numeric)
        else 10
    )
    return f"round({_sql(compiler, element, **kw)[0]}, {digits})"


@compiles(Shortest, "postgresql")
def _postgresql_shortest(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    text = _sql(compiler, element, **kw)[0]
    single = (
        isinstance(element.type, sa.REAL)
        or 0 < (getattr(element.type, "precision", None) or 0) <= 24
    )
    return f"CAST(CAST({text} AS TEXT) AS DOUBLE PRECISION)" if single else text


@compiles(Shortest, "mysql", "mariadb")
def _mysql_shortest(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(CONCAT({_sql(compiler, element, **kw)[0]}) + 0e0)"
