"""A bound filter as a predicate over a model instance, in Kleene's three-valued logic: None is unknown."""

from __future__ import annotations

import math
import operator
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, time
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import RelationshipProperty, object_session, with_parent
from sqlalchemy.orm.interfaces import RelationshipDirection

from jittask_prefect.filters.binding import (
    Check,
    Column,
    Kind,
    date_of,
    instant_of,
    member,
    to_many,
    unpadded,
    wall_of,
)
from jittask_prefect.filters.tree import And, Node, Not, Or

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_WIDE = Context(prec=100)


def truth(node: Node, row: Any, now: datetime, zone: ZoneInfo) -> bool | None:
    """Whether a row satisfies a bound tree.

    Args:
        node: What `bind` returned.
        row: An instance of the model.
        now: The instant that `Q.now()` means, aware.
        zone: The task's zone.
    """
    match node:
        case And(parts):
            return _all(truth(part, row, now, zone) for part in parts)
        case Or(parts):
            return _not(_all(_not(truth(part, row, now, zone)) for part in parts))
        case Not(part):
            return _not(truth(part, row, now, zone))
        case Check(column=column):
            return _across(column.hops, row, node, now, zone)
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
    check: Check,
    now: datetime,
    zone: ZoneInfo,
) -> bool | None:
    """Across a to-many relationship: whether some related row satisfies the comparison, never unknown."""
    if any(map(to_many, hops)):
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
    related = _found(row, hop)
    if (
        hop.direction is not RelationshipDirection.MANYTOONE
        or hop.secondary is not None
    ):
        return (
            [related]
            if related is not None and not hop.uselist
            else list(related or [])
        )
    related = _by_key(row, hop, related)
    return [] if related is None else [related]


def _found(row: Any, hop: RelationshipProperty[Any]) -> Any:
    """What a row holds across a relationship, also where it is declared (`lazy`), or was loaded, never to be read."""
    if (
        hop.lazy not in ("noload", "write_only", "dynamic")
        or sa.inspect(row).attrs[hop.key].history.has_changes()
    ):
        try:
            return getattr(row, hop.key)
        except sa.exc.InvalidRequestError:  # raiseload
            if object_session(row) is None:
                raise
    session = object_session(row)
    if session is None:
        return None
    mine = with_parent(row, getattr(type(row), hop.key))
    with session.no_autoflush:
        found = session.scalars(sa.select(hop.mapper.class_).where(mine)).unique().all()
    return found if hop.uselist else next(iter(found), None)


def _by_key(row: Any, hop: RelationshipProperty[Any], related: Any) -> Any:
    """The related row; where the foreign key was set and the loaded relationship is the old one, the key decides."""
    state = sa.inspect(row)
    session = object_session(row)
    if session is None or state.attrs[hop.key].history.has_changes():
        return related
    mapper = state.mapper
    pairs = hop.local_remote_pairs or []
    keys = {
        there: getattr(row, mapper.get_property_by_column(here).key)
        for here, there in pairs
    }
    if related is not None:
        there_is = {
            there: getattr(related, hop.mapper.get_property_by_column(there).key)
            for there in keys
        }
        if there_is == keys:
            return related
    if set(keys) != set(hop.mapper.primary_key):
        return related
    if None in keys.values():
        return None
    with session.no_autoflush:
        return session.get(
            hop.mapper.class_, tuple(keys[column] for column in hop.mapper.primary_key)
        )


def _positive(
    check: Check, row: Any, found: Any, now: datetime, zone: ZoneInfo
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
        case Kind.INT | Kind.BOOL:
            return value if isinstance(value, int | float | Decimal) else int(value)
        case Kind.FLOAT:
            return float(value)
        case Kind.DECIMAL if isinstance(column.type, sa.Numeric):
            return _rounded(column.type, row, Decimal(str(value)))
        case Kind.TEXT:
            return unpadded(column.type, str(value))
        case Kind.ENUM if isinstance(column.type, sa.Enum):
            known = column.type.enum_class is not None and isinstance(
                value, column.type.enum_class
            )
            return value if known else member(column.type, value)
        case Kind.UUID:
            return value if isinstance(value, uuid.UUID) else uuid.UUID(str(value))
        case Kind.TIME:
            return time.fromisoformat(value) if isinstance(value, str) else value
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if column.kind is Kind.DATE:
        return moment.date() if isinstance(moment, datetime) else moment
    if not isinstance(moment, datetime):
        return datetime.combine(moment, time())
    dialect = _dialect(row) if moment.tzinfo and not column.utc else None
    return (
        moment.replace(tzinfo=None)
        if dialect is not None and dialect.name != "postgresql"
        else moment
    )


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
        case Kind.DATE:
            return compare(value, date_of(wanted, now, zone))
        case Kind.DATETIME:
            return compare(*_moments(column, value, wanted, now, zone))
        case Kind.DECIMAL if isinstance(value, float):
            wanted = float(wanted)
    if column.kind in (Kind.DECIMAL, Kind.FLOAT) and math.isnan(value):
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
        return _here(value, zone).replace(tzinfo=None), wall_of(wanted, now, zone)
    instant = instant_of(wanted, now, zone)
    if column.utc and value.tzinfo is None:
        value = value.replace(tzinfo=zone)
    return (
        (value.astimezone(UTC), instant.astimezone(UTC))
        if value.tzinfo
        else (value, instant.replace(tzinfo=None))
    )
