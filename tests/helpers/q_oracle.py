"""What a filter means, a second time: a predicate over a model instance, as the tests' oracle for the SQL condition.

Kleene's three-valued logic: None is unknown.
"""

from __future__ import annotations

import math
import operator
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, time
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import RelationshipProperty, object_session

from jittask_prefect.filters.columns import (
    Column,
    ColumnKind,
    column_at,
    mapper_of,
    unpadded,
)
from jittask_prefect.filters.expression import Filter
from jittask_prefect.filters.tree import And, Node, Not, Or, Test
from jittask_prefect.filters.values import Comparison, comparison, in_column

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_WIDE = Context(prec=100)


def matches(found: Filter, row: Any, now: datetime, zone: ZoneInfo) -> bool:
    """Whether a model instance satisfies a filter; unknown is no."""
    return truth(found.tree, row, now, zone) is True


@cache
def compared(test: Test, model: type) -> Comparison:
    """A test's comparison with the column of a model."""
    return comparison(column_at(test.path, mapper_of(model)), test)


def truth(node: Node, row: Any, now: datetime, zone: ZoneInfo) -> bool | None:
    """Whether a row satisfies a tree."""
    match node:
        case And(parts):
            return _all(truth(part, row, now, zone) for part in parts)
        case Or(parts):
            return _not(_all(_not(truth(part, row, now, zone)) for part in parts))
        case Not(part):
            return _not(truth(part, row, now, zone))
        case Test():
            check = compared(node, type(row))
            return _across(check.column.hops, row, check, now, zone)
    raise TypeError(node)


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _all(values: Iterable[bool | None]) -> bool | None:
    unknown = False
    for value in values:
        if value is False:
            return False
        unknown = unknown or value is None
    return None if unknown else True


def _across(
    hops: tuple[RelationshipProperty[Any], ...],
    row: Any,
    check: Comparison,
    now: datetime,
    zone: ZoneInfo,
) -> bool | None:
    """Across a to-many relationship: whether some related row satisfies the comparison, never unknown."""
    if any(hop.uselist or hop.secondary is not None for hop in hops):
        return any(
            _across(hops[1:], related, check, now, zone) is True
            for related in _related(row, hops[0])
        )
    for hop in hops:
        row = next(iter(_related(row, hop)), None)
        if row is None:
            break
    found = None if row is None else getattr(row, check.column.key)
    result = _positive(check, row, found, now, zone)
    return _not(result) if check.negated else result


def _related(row: Any, hop: RelationshipProperty[Any]) -> list[Any]:
    found = getattr(row, hop.key)
    if hop.uselist:
        return list(found)
    return [] if found is None else [found]


def _positive(
    check: Comparison, row: Any, found: Any, now: datetime, zone: ZoneInfo
) -> bool | None:
    column, name, wanted = check.column, check.operator, check.value
    if name == "isnull":
        return found is None
    if name in ("in", "likeany") and (not wanted or (found is None and None in wanted)):
        return bool(wanted)
    value = _read(column, row, found)
    if value is None:
        return None
    match name:
        case "year" | "month" | "day":
            return bool(getattr(_here(value, zone), name) == wanted)
        case "week":
            return bool(_here(value, zone).isocalendar().week == wanted)
        case "like":
            return wanted in value
        case "startswith":
            return bool(value.startswith(wanted))
        case "endswith":
            return bool(value.endswith(wanted))
        case "likeany":
            return any(item in value for item in wanted)
        case "in":
            return any(
                _holds("=", column, value, item, now, zone)
                for item in wanted
                if item is not None
            )
        case "range":
            low, high = wanted
            return _holds(">=", column, value, low, now, zone) and _holds(
                "<=", column, value, high, now, zone
            )
    return _holds(name, column, value, wanted, now, zone)


def _read(column: Column, row: Any, value: Any) -> Any:
    """A row's value as its column will hold it; None where it cannot hold it: an instance may not be flushed yet."""
    try:
        return None if value is None else _held(column, row, value)
    except (ValueError, TypeError, ArithmeticError):
        return None


def _held(column: Column, row: Any, value: Any) -> Any:
    match column.kind:
        case ColumnKind.INT | ColumnKind.BOOL:
            return value if isinstance(value, int | float | Decimal) else int(value)
        case ColumnKind.FLOAT:
            return float(value)
        case ColumnKind.DECIMAL if isinstance(column.type, sa.Numeric):
            return _rounded(column.type, row, Decimal(str(value)))
        case ColumnKind.TEXT:
            return unpadded(column.type, str(value))
        case ColumnKind.ENUM if isinstance(column.type, sa.Enum):
            known = column.type.enum_class is not None and isinstance(
                value, column.type.enum_class
            )
            return value if known else _member(column.type, value)
        case ColumnKind.UUID:
            return value if isinstance(value, uuid.UUID) else uuid.UUID(str(value))
        case ColumnKind.TIME:
            return time.fromisoformat(value) if isinstance(value, str) else value
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if column.kind is ColumnKind.DATE:
        return moment.date() if isinstance(moment, datetime) else moment
    if not isinstance(moment, datetime):
        return datetime.combine(moment, time())
    dialect = _dialect(row) if moment.tzinfo and not column.utc else None
    return (
        moment.replace(tzinfo=None)
        if dialect is not None and dialect.name != "postgresql"
        else moment
    )


def _member(type_: sa.Enum, value: object) -> Any:
    if type_.enum_class is None:
        return value if value in type_.enums else None
    members = list(type_.enum_class)
    plain = [m for m in members if m.value == value and type(m.value) is type(value)]
    return next(iter([*plain, *(m for m in members if m.name == value)]), None)


def _rounded(type_: sa.Numeric[Any], row: Any, value: Decimal) -> Decimal | float:
    """A decimal as the database rounds it, and as a double where the database has no decimals (SQLite)."""
    dialect = _dialect(row)
    native = dialect is not None and dialect.supports_native_decimal
    scale = type_.scale if native else type_._effective_decimal_return_scale
    if scale is not None and value.is_finite():
        value = value.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP, _WIDE)
    return value if native else float(value)


def _dialect(row: Any) -> sa.Dialect | None:
    session = object_session(row)
    try:
        return (
            None
            if session is None
            else session.get_bind(sa.inspect(row).mapper).dialect
        )
    except UnboundExecutionError:
        return None


def _here(value: Any, zone: ZoneInfo) -> Any:
    return (
        value.astimezone(zone)
        if isinstance(value, datetime) and value.tzinfo
        else value
    )


def _holds(
    name: str, column: Column, value: Any, wanted: Any, now: datetime, zone: ZoneInfo
) -> bool:
    compare = _ORDERS[name]
    match column.kind:
        case ColumnKind.DATE:
            return compare(value, in_column(column, wanted, now, zone))
        case ColumnKind.DATETIME:
            return compare(*_moments(column, value, wanted, now, zone))
        case ColumnKind.DECIMAL if isinstance(value, float):
            wanted = float(wanted)
    if column.kind in (ColumnKind.DECIMAL, ColumnKind.FLOAT) and math.isnan(value):
        return name in (
            ">",
            ">=",
        )  # PostgreSQL's NaN is greater than every number; others have none
    return compare(value, wanted)


def _moments(
    column: Column, value: datetime, wanted: Any, now: datetime, zone: ZoneInfo
) -> tuple[datetime, datetime]:
    """Two wall-clock times, or two instants in UTC: Python compares aware times of one zone by their clocks."""
    if not column.aware:
        wall = in_column(column, wanted, now, zone)
        return _here(value, zone).replace(tzinfo=None), wall
    instant = in_column(column, wanted, now, zone)
    if column.utc and value.tzinfo is None:
        value = value.replace(tzinfo=zone)
    return (
        (value.astimezone(UTC), instant.astimezone(UTC))
        if value.tzinfo
        else (value, instant.replace(tzinfo=None))
    )
