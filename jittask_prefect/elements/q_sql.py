"""A bound filter as a SQLAlchemy condition that means the same on SQLite, PostgreSQL, MariaDB and MySQL.

Where a database's own comparison differs from Python's (collations, exact numbers, ISO weeks, texts that stand for
times), an element below names the meaning, and its compilers say it in each dialect.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy import ColumnElement
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import RelationshipProperty, aliased
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from .q_bind import Check, Column, Kind, date_of, instant_of, to_many, wall_of
from .q_tree import And, Node, Not, Or

Hops = tuple[RelationshipProperty[Any], ...]
Reach = Callable[[Callable[[Any], Any]], Any]
"""Takes what to make of the column beside it, gives the value as the filter's model sees it."""
_CHUNK = 100
_ORDERS: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "=": lambda a, b: a == b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
}


def condition(node: Node, model: Any, now: datetime, zone: ZoneInfo) -> ColumnElement[bool]:
    """The condition of a bound tree.

    Args:
        node: What `bind` returned.
        model: The table class, or an alias of it.
        now: The instant that `Q.now()` means, aware.
        zone: The task's zone.
    """
    match node:
        case And(parts):
            return sa.and_(sa.true(), *(condition(part, model, now, zone) for part in parts))
        case Or(parts):
            return sa.or_(sa.false(), *(condition(part, model, now, zone) for part in parts))
        case Not(part):
            return sa.not_(condition(part, model, now, zone))
        case Check(column=column):
            return _across(column.hops, model, column, lambda reach: _compare(node, reach, now, zone))
    raise TypeError(node)


def _across(
    hops: Hops, entity: Any, column: Column, compare: Callable[[Reach], ColumnElement[bool]]
) -> ColumnElement[bool]:
    """EXISTS as far as the last to-many hop; then to-one hops are a scalar subquery, NULL without a row."""
    if not any(map(to_many, hops)):
        return compare(lambda made: _value(hops, entity, column.key, made))
    hop = hops[0]
    target = aliased(hop.mapper)
    related = getattr(entity, hop.key).of_type(target)
    inner = _across(hops[1:], target, column, compare)
    return related.any(inner) if hop.uselist else related.has(inner)  # type: ignore[no-any-return]


def _value(hops: Hops, entity: Any, key: str, made: Callable[[Any], Any]) -> Any:
    if not hops:
        return made(getattr(entity, key))
    aliases = [aliased(hop.mapper) for hop in hops]
    links = zip([entity, *aliases[:-1]], hops, aliases, strict=True)
    joins = [getattr(source, hop.key).of_type(alias) for source, hop, alias in links]
    query = sa.select(made(getattr(aliases[-1], key))).select_from(aliases[0])
    for join in joins[1:]:
        query = query.join(join)
    return query.where(joins[0]).correlate_except(*aliases).limit(1).scalar_subquery()


def _compare(check: Check, reach: Reach, now: datetime, zone: ZoneInfo) -> ColumnElement[bool]:
    found = _positive(check, reach, now, zone)
    return sa.not_(found) if check.negated else found


def _positive(check: Check, reach: Reach, now: datetime, zone: ZoneInfo) -> ColumnElement[bool]:
    column, operator, wanted = check.column, check.operator, check.value
    if operator == "isnull":
        return reach(lambda value: value).is_(None)  # type: ignore[no-any-return]
    if operator in ("year", "month", "week", "day"):
        return reach(lambda value: _part(operator, column, value, zone)) == sa.literal(wanted, sa.BigInteger())
    if operator in ("like", "startswith", "endswith"):
        return _contains(operator, reach(lambda value: _text(column, value, exact=False)), wanted)
    if operator == "likeany":
        text = reach(lambda value: _text(column, value, exact=False))
        return _any([_contains("like", text, item) for item in wanted])
    left = reach(lambda value: _left(column, value, exact=operator in ("=", "in")))
    type_ = _bind_type(column)
    if operator == "in":
        items = [_right(column, item, now, zone) for item in wanted if item is not None]
        parts = [left.in_(sa.bindparam(None, items, type_=type_, expanding=True))] if items else []
        return _any([*parts, left.is_(None)] if None in wanted else parts)
    if operator == "range":
        low, high = (sa.literal(_right(column, item, now, zone), type_) for item in wanted)
        return sa.and_(left >= low, left <= high)
    return _ORDERS[operator](left, sa.literal(_right(column, wanted, now, zone), type_))


def _any(parts: list[ColumnElement[bool]]) -> ColumnElement[bool]:
    """OR in groups: SQLite refuses expressions deeper than 1,000."""
    if len(parts) <= _CHUNK:
        return sa.or_(sa.false(), *parts)
    groups = [sa.or_(*parts[i : i + _CHUNK]) for i in range(0, len(parts), _CHUNK)]
    return sa.or_(*(sa.sql.elements.Grouping(group) for group in groups))


def _contains(operator: str, text: ColumnElement[str], wanted: str) -> ColumnElement[bool]:
    part = sa.literal(wanted, sa.String())
    if operator == "endswith" and wanted:
        return _Ending(text, part) == part
    position = _Position(text, part)
    return position == 1 if operator == "startswith" else position > 0


def _left(column: Column, value: Any, exact: bool) -> Any:
    match column.kind:
        case Kind.TEXT:
            return _text(column, value, exact)
        case Kind.DATETIME | Kind.TIME:
            return _Stored(value, type_=column.type)
        case Kind.DECIMAL:
            return _Rounded(value, type_=column.type)
        case Kind.FLOAT:
            return _Shortest(value, type_=column.type)
    return value


def _right(column: Column, wanted: Any, now: datetime, zone: ZoneInfo) -> Any:
    match column.kind:
        case Kind.DATE:
            return date_of(wanted, now, zone)
        case Kind.DATETIME:
            return instant_of(wanted, now, zone) if column.aware else wall_of(wanted, now, zone)
        case Kind.UUID if not getattr(column.type, "as_uuid", True):
            return str(wanted)
    return wanted


def _bind_type(column: Column) -> TypeEngine[Any]:
    """The type of a value: never narrower than what may stand in the filter, since PostgreSQL's drivers cast to it."""
    match column.kind:
        case Kind.INT:
            return sa.BigInteger()
        case Kind.DECIMAL:
            return sa.Numeric()
        case Kind.FLOAT:
            return sa.Double()
        case Kind.TEXT:
            return sa.String()
        case Kind.DATETIME:
            return column.type if column.utc else sa.DateTime(timezone=column.aware)
    return column.type


def _text(column: Column, value: Any, exact: bool) -> ColumnElement[str]:
    if isinstance(column.type, sa.CHAR):
        value = sa.func.rtrim(value)
    ordinary = getattr(column.type, "collation", None) is None and not isinstance(column.type, CITEXT | sa.CHAR)
    return _Exact(value) if exact and ordinary else _CodePoints(value)


def _part(operator: str, column: Column, value: Any, zone: ZoneInfo) -> Any:
    """The year, month, ISO week or day of a value: as stored, or in the task's zone where it is an instant."""
    local = _WallClock(value, column, zone) if column.aware else value
    return _IsoWeek(local) if operator == "week" else sa.extract(operator, local)


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
            low, high = (middle, high) if offset(middle) == offsets[-1] else (low, middle)
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


class _CodePoints(_Element):
    """A text compared by code point, whatever the column's collation."""

    name = "q_code_points"
    type = sa.String()
    inherit_cache = True


class _Exact(_Element):
    """The same for = and IN only: PostgreSQL's ordinary collations tell texts apart, and an index serves."""

    name = "q_exact"
    type = sa.String()
    inherit_cache = True


class _Position(_Element):
    """Where the second text begins in the first, from 1; 0: nowhere."""

    name = "q_position"
    type = sa.Integer()
    inherit_cache = True


class _Ending(_Element):
    """The end of the first text, as long as the second."""

    name = "q_ending"
    type = sa.String()
    inherit_cache = True


class _Stored(_Element):
    """A time; in SQLite it is a text, which raw SQL may have left shorter than SQLAlchemy writes it."""

    name = "q_stored"
    inherit_cache = True


class _WallClock(_Element):
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


class _IsoWeek(_Element):
    """The week of ISO 8601: that of its Thursday."""

    name = "q_iso_week"
    type = sa.Integer()
    inherit_cache = True


class _Rounded(_Element):
    """A decimal as it is read; SQLite holds the nearest double, with more digits than the column has."""

    name = "q_rounded"
    inherit_cache = True


class _Shortest(_Element):
    """A float as it is read: of a single-precision 1.1 the double 1.1, not the nearest single."""

    name = "q_shortest"
    inherit_cache = True


def _sql(compiler: SQLCompiler, element: _Element, **kw: Any) -> list[str]:
    return [compiler.process(clause, **kw) for clause in element.clauses]


@compiles(_CodePoints)
@compiles(_Exact)
@compiles(_Stored)
@compiles(_WallClock)
@compiles(_Rounded)
@compiles(_Shortest)
def _as_it_is(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    return _sql(compiler, element, **kw)[0]


@compiles(_CodePoints, "sqlite")
@compiles(_Exact, "sqlite")
def _sqlite_text(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    return f"({_sql(compiler, element, **kw)[0]} COLLATE BINARY)"


@compiles(_CodePoints, "postgresql")
def _postgresql_text(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    return f'(CAST({_sql(compiler, element, **kw)[0]} AS TEXT) COLLATE "C")'


@compiles(_CodePoints, "mysql", "mariadb")
@compiles(_Exact, "mysql", "mariadb")
def _mysql_text(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    """As bytes of UTF-8, which sort by code point; even a _bin collation ignores spaces at the end."""
    return f"CAST(CONVERT({_sql(compiler, element, **kw)[0]} USING utf8mb4) AS BINARY)"


@compiles(_Position)
def _position(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    return "instr({}, {})".format(*_sql(compiler, element, **kw))


@compiles(_Position, "postgresql")
def _postgresql_position(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    return "strpos({}, {})".format(*_sql(compiler, element, **kw))


@compiles(_Ending)
def _ending(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    text, part = _sql(compiler, element, **kw)
    return f"right({text}, length({part}))"


@compiles(_Ending, "sqlite")
def _sqlite_ending(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    text, part = _sql(compiler, element, **kw)
    return f"(substr({text}, -length({part})) COLLATE BINARY)"


@compiles(_Stored, "sqlite")
def _sqlite_stored(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    text = _sql(compiler, element, **kw)[0]
    full, shortest = ("00:00:00.000000", 0) if isinstance(element.type, sa.Time) else (" 00:00:00.000000", 10)
    return f"(replace({text}, 'T', ' ') || substr('{full}', length({text}) - {shortest - 1}))"


@compiles(_WallClock, "postgresql")
def _postgresql_wall_clock(element: _WallClock, compiler: SQLCompiler, **kw: Any) -> str:
    value = _sql(compiler, element, **kw)[0]
    instant = value if getattr(element.column.type, "timezone", False) else f"timezone('UTC', {value})"
    return f"timezone({compiler.render_literal_value(str(element.zone), sa.String())}, {instant})"


@compiles(_WallClock, "sqlite")
def _sqlite_wall_clock(element: _WallClock, compiler: SQLCompiler, **kw: Any) -> str:
    value = _sql(compiler, element, **kw)[0]
    shift = element.offset(value, "'{:+d} seconds'".format) if element.column.utc else ""
    return f"datetime({value}, {shift})" if shift else value


@compiles(_WallClock, "mysql", "mariadb")
def _mysql_wall_clock(element: _WallClock, compiler: SQLCompiler, **kw: Any) -> str:
    value = _sql(compiler, element, **kw)[0]
    return f"({value} + INTERVAL ({element.offset(value, str)}) SECOND)" if element.column.utc else value


@compiles(_IsoWeek)
def _iso_week(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    return f"EXTRACT(week FROM {_sql(compiler, element, **kw)[0]})"


@compiles(_IsoWeek, "mysql", "mariadb")
def _mysql_iso_week(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    return f"WEEK({_sql(compiler, element, **kw)[0]}, 3)"


@compiles(_IsoWeek, "sqlite")
def _sqlite_iso_week(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    """By the Thursday: strftime has %V only from SQLite 3.46 on."""
    return f"((strftime('%j', {_sql(compiler, element, **kw)[0]}, '-3 days', 'weekday 4') - 1) / 7 + 1)"


@compiles(_Rounded, "sqlite")
def _sqlite_rounded(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    digits = element.type._effective_decimal_return_scale if isinstance(element.type, sa.Numeric) else 10
    return f"round({_sql(compiler, element, **kw)[0]}, {digits})"


@compiles(_Shortest, "postgresql")
def _postgresql_shortest(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    text = _sql(compiler, element, **kw)[0]
    single = isinstance(element.type, sa.REAL) or 0 < (getattr(element.type, "precision", None) or 0) <= 24
    return f"CAST(CAST({text} AS TEXT) AS DOUBLE PRECISION)" if single else text


@compiles(_Shortest, "mysql", "mariadb")
def _mysql_shortest(element: _Element, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(CONCAT({_sql(compiler, element, **kw)[0]}) + 0e0)"
