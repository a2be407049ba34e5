"""A bound filter as a SQLAlchemy condition that means the same on SQLite, PostgreSQL, MariaDB and MySQL.

Where a database's own comparison differs from Python's, an element of `q_dialects` names the meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy import ColumnElement
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.orm import RelationshipProperty, aliased
from sqlalchemy.types import TypeEngine

from jittask_prefect.filters.binding import (
    Check,
    Column,
    Kind,
    date_of,
    instant_of,
    to_many,
    wall_of,
)
from jittask_prefect.filters.dialects import (
    CodePoints,
    Ending,
    Exact,
    IsoWeek,
    Position,
    Rounded,
    Shortest,
    Stored,
    WallClock,
)
from jittask_prefect.filters.tree import And, Node, Not, Or

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


def condition(
    node: Node, model: Any, now: datetime, zone: ZoneInfo
) -> ColumnElement[bool]:
    """The condition of a bound tree.

    Args:
        node: What `bind` returned.
        model: The table class, or an alias of it.
        now: The instant that `Q.now()` means, aware.
        zone: The task's zone.
    """
    match node:
        case And(parts):
            return sa.and_(
                sa.true(), *(condition(part, model, now, zone) for part in parts)
            )
        case Or(parts):
            return sa.or_(
                sa.false(), *(condition(part, model, now, zone) for part in parts)
            )
        case Not(part):
            return sa.not_(condition(part, model, now, zone))
        case Check(column=column):
            return _across(
                column.hops,
                model,
                column,
                lambda reach: _compare(node, reach, now, zone),
            )
    raise TypeError(node)


def _across(
    hops: Hops,
    entity: Any,
    column: Column,
    compare: Callable[[Reach], ColumnElement[bool]],
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


def _compare(
    check: Check, reach: Reach, now: datetime, zone: ZoneInfo
) -> ColumnElement[bool]:
    found = _positive(check, reach, now, zone)
    return sa.not_(found) if check.negated else found


def _positive(
    check: Check, reach: Reach, now: datetime, zone: ZoneInfo
) -> ColumnElement[bool]:
    column, operator, wanted = check.column, check.operator, check.value
    if operator == "isnull":
        return reach(lambda value: value).is_(None)  # type: ignore[no-any-return]
    if operator in ("year", "month", "week", "day"):
        part = reach(lambda value: _part(operator, column, value, zone))
        return _ORDERS["="](part, sa.literal(wanted, sa.BigInteger()))
    if operator in ("like", "startswith", "endswith"):
        return _contains(
            operator, reach(lambda value: _text(column, value, exact=False)), wanted
        )
    if operator == "likeany":
        text = reach(lambda value: _text(column, value, exact=False))
        return _any([_contains("like", text, item) for item in wanted])
    left = reach(lambda value: _left(column, value, exact=operator in ("=", "in")))
    if operator == "in":
        items = [
            _literal(column, item, now, zone) for item in wanted if item is not None
        ]
        parts = [left.in_(items)] if items else []
        return _any([*parts, left.is_(None)] if None in wanted else parts)
    if operator == "range":
        low, high = (_literal(column, item, now, zone) for item in wanted)
        return sa.and_(left >= low, left <= high)
    return _ORDERS[operator](left, _literal(column, wanted, now, zone))


def _any(parts: list[ColumnElement[bool]]) -> ColumnElement[bool]:
    """OR in groups: SQLite refuses expressions deeper than 1,000."""
    if len(parts) <= _CHUNK:
        return sa.or_(sa.false(), *parts)
    groups = [sa.or_(*parts[i : i + _CHUNK]) for i in range(0, len(parts), _CHUNK)]
    return sa.or_(*(sa.sql.elements.Grouping(group) for group in groups))


def _contains(
    operator: str, text: ColumnElement[str], wanted: str
) -> ColumnElement[bool]:
    part = sa.literal(wanted, sa.String())
    if operator == "endswith" and wanted:
        return Ending(text, part) == part
    position = Position(text, part)
    return position == 1 if operator == "startswith" else position > 0


def _left(column: Column, value: Any, exact: bool) -> Any:
    match column.kind:
        case Kind.TEXT:
            return _text(column, value, exact)
        case Kind.DATETIME | Kind.TIME:
            return Stored(value, type_=column.type)
        case Kind.DECIMAL:
            return Rounded(value, type_=column.type)
        case Kind.FLOAT:
            return Shortest(value, type_=column.type)
    return value


def _right(column: Column, wanted: Any, now: datetime, zone: ZoneInfo) -> Any:
    match column.kind:
        case Kind.DATE:
            return date_of(wanted, now, zone)
        case Kind.DATETIME:
            return (
                instant_of(wanted, now, zone)
                if column.aware
                else wall_of(wanted, now, zone)
            )
        case Kind.UUID if not getattr(column.type, "as_uuid", True):
            return str(wanted)
    return wanted


def _literal(column: Column, wanted: Any, now: datetime, zone: ZoneInfo) -> Any:
    literal = sa.literal(_right(column, wanted, now, zone), _bind_type(column))
    if isinstance(wanted, Decimal) and isinstance(column.type, sa.Numeric):
        digits = f"{wanted:f}".partition(".")[2].rstrip("0")
        if len(digits) <= column.type._effective_decimal_return_scale:
            return Rounded(
                literal, type_=column.type
            )  # SQLite's round is off by a last bit at times: on both sides, then
    return literal


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
    ordinary = getattr(column.type, "collation", None) is None and not isinstance(
        column.type, CITEXT | sa.CHAR
    )
    return Exact(value) if exact and ordinary else CodePoints(value)


def _part(operator: str, column: Column, value: Any, zone: ZoneInfo) -> Any:
    """The year, month, ISO week or day of a value: as stored, or in the task's zone where it is an instant."""
    local = WallClock(value, column, zone) if column.aware else value
    return IsoWeek(local) if operator == "week" else sa.extract(operator, local)
