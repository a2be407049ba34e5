"""A filter's values as values of the columns that they are compared with; each misfit is an error."""

from __future__ import annotations

import math
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from dateutil.relativedelta import relativedelta

from jittask_prefect.filters.columns import Column, ColumnKind, unpadded
from jittask_prefect.filters.tree import Moment, Scalar, Test, Value, refuse

DATE_PARTS = ("year", "month", "week", "day")
ORDERS = (">", ">=", "<", "<=")
_EQUAL = ("=", "in", "isnull")
_ORDERED = (*_EQUAL, *ORDERS, "range")
_OPERATORS: dict[ColumnKind, tuple[str, ...]] = {
    ColumnKind.INT: _ORDERED,
    ColumnKind.DECIMAL: _ORDERED,
    ColumnKind.FLOAT: _ORDERED,
    ColumnKind.TIME: _ORDERED,
    ColumnKind.DATE: (*_ORDERED, *DATE_PARTS),
    ColumnKind.DATETIME: (*_ORDERED, *DATE_PARTS),
    ColumnKind.TEXT: (*_ORDERED, "like", "startswith", "endswith", "likeany"),
    # Databases disagree on the order of enums (PostgreSQL: as declared, others: by name)
    # and of UUIDs (MariaDB has an order of its own).
    ColumnKind.BOOL: _EQUAL,
    ColumnKind.ENUM: _EQUAL,
    ColumnKind.UUID: _EQUAL,
    ColumnKind.OTHER: ("isnull",),
    ColumnKind.JSON: (),
}
_POSITIVE = {"!=": "=", "nin": "in", "nlike": "like", "nlikeany": "likeany"}
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?)?", re.ASCII)
_CLOCK = re.compile(r"\d\d:\d\d(?::\d\d)?", re.ASCII)
_MOST_DIGITS = 38


@dataclass(frozen=True)
class Comparison:
    """A comparison that fits its column.

    Over a to-many relationship `!=` asks for a related row that differs: the negation belongs to the comparison.

    Attributes:
        column: The column.
        operator: A positive operator.
        value: A value of the column's type; a `Moment` is resolved when the filter is used.
        negated: Whether the comparison must be false.
    """

    column: Column
    operator: str
    value: Any
    negated: bool = False


def comparison(column: Column, test: Test) -> Comparison:
    """A test as a comparison with its column.

    Raises:
        FilterError: The column has no such operator, or the value does not fit the column.
    """
    operator, value = test.operator, test.value
    if operator in ("=", "!=") and value is None:
        operator, value = "isnull", operator == "="
    positive = _POSITIVE.get(operator, operator)
    shown = f"Q({'.'.join(test.path)!r}, {test.operator!r}, {_shown(test.value)})"
    allowed = _OPERATORS[column.kind]
    if positive not in allowed:
        negatives = [name for name, of in _POSITIVE.items() if of in allowed]
        listed = " ".join([*allowed, *negatives]) or "no comparison"
        raise refuse(f"{shown}: {test.operator!r}", f"on this column: {listed}")
    try:
        fitted_operator, fitted = _fitted(column, positive, value)
    except ValueError as error:
        raise refuse(f"{shown}: {_shown(value)}", str(error)) from None
    negated = not value if positive == "isnull" else positive != operator
    return Comparison(column, fitted_operator, fitted, negated)


def _shown(value: Value) -> str:
    if isinstance(value, tuple):
        more = ", …" if len(value) > 5 else ""
        return f"[{', '.join(map(_shown, value[:5]))}{more}]"
    return str(value) if isinstance(value, Moment) else repr(value)


# The value of each operator; a ValueError's text says which values are allowed


def _fitted(column: Column, operator: str, value: Value) -> tuple[str, Any]:
    match operator:
        case "isnull":
            if not (isinstance(value, int) and value in (0, 1)):
                raise ValueError("1, 0, True or False")
            return operator, None
        case "year" | "month" | "week" | "day":
            return operator, _fit(ColumnKind.INT, column.type, value)
        case "range":
            if not isinstance(value, tuple) or len(value) != 2:
                raise ValueError("a pair: [from, to]")
            low, high = (
                _limit(column, order, item)[1]
                for order, item in zip((">=", "<="), value, strict=True)
            )
            return operator, (low, high)
        case "in" | "likeany":
            return operator, _list(column, operator, value)
        case ">" | ">=" | "<" | "<=":
            return _limit(column, operator, value)
    return operator, _fit(column.kind, column.type, value)


def _list(column: Column, operator: str, value: Value) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        raise ValueError("a list")
    return tuple(
        None
        if item is None and operator == "in"
        else _fit(column.kind, column.type, item)
        for item in value
    )


def _limit(column: Column, operator: str, value: Value) -> tuple[str, Any]:
    """A limit of an order: on a column of whole numbers, > 2.5 and >= 2.5 mean >= 3."""
    whole = column.kind is ColumnKind.INT
    if not whole or not isinstance(value, float) or value.is_integer():
        return operator, _fit(column.kind, column.type, value)
    if operator in (">", ">="):
        return ">=", _fit(column.kind, column.type, math.ceil(value))
    return "<=", _fit(column.kind, column.type, math.floor(value))


def _fit(kind: ColumnKind, type_: Any, value: Value) -> Any:
    """The value in the column's type."""
    if value is not None and not isinstance(value, tuple):
        try:
            fitted = _converted(kind, type_, value)
        except (ValueError, ArithmeticError):
            fitted = None
        if fitted is not None:
            return fitted
    if kind is ColumnKind.ENUM:
        raise ValueError(f"one of {', '.join(type_.enums)}")
    raise ValueError(kind.value)


def _converted(kind: ColumnKind, type_: Any, value: Scalar) -> Any:
    match kind, value:
        case ColumnKind.BOOL, int() if value in (0, 1):
            return bool(value)
        case ((ColumnKind.INT | ColumnKind.FLOAT | ColumnKind.DECIMAL), bool()):
            return None
        case ColumnKind.INT, int() | float():
            fits = value == int(value) and -(2**63) <= value < 2**63
            return int(value) if fits else None
        case ColumnKind.FLOAT, int() | float():
            return float(value)
        case ColumnKind.DECIMAL, int() | float() | str():
            return _decimal(str(value))
        case ColumnKind.TEXT, str():
            value.encode()  # no database takes a lone surrogate
            return None if "\0" in value else unpadded(type_, value)
        case ColumnKind.ENUM, _:
            return _member(type_, value)
        case ColumnKind.UUID, str():
            return uuid.UUID(value)
        case ((ColumnKind.DATE | ColumnKind.DATETIME), Moment()):
            return value
        case ColumnKind.DATE, str() if _MOMENT.fullmatch(value):
            return datetime.fromisoformat(value).date()
        case ColumnKind.DATETIME, str() if _MOMENT.fullmatch(value):
            return datetime.fromisoformat(value)
        case ColumnKind.TIME, str() if _CLOCK.fullmatch(value):
            return time.fromisoformat(value)
    return None


def _decimal(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    exponent = number.as_tuple().exponent
    finite = isinstance(exponent, int) and exponent >= -_MOST_DIGITS
    if not finite or number.adjusted() >= _MOST_DIGITS:
        return None
    return Decimal(f"{number:f}")  # MariaDB takes 1E+3 for a double


def _member(type_: sa.Enum, value: object) -> Any:
    """The member that a value means, else a name; the text itself for an enum without a class."""
    if type_.enum_class is None:
        return value if value in type_.enums else None
    members = list(type_.enum_class)
    for found in members:
        if type(found.value) is type(value) and found.value == value:
            return found
    return next((found for found in members if found.name == value), None)


# Q.today(…) and Q.now(…)


def in_column(column: Column, value: Any, now: datetime, zone: ZoneInfo) -> Any:
    """A value in the form of the database's column; a `Moment` is resolved.

    Args:
        column: The column.
        value: A value of a `Comparison`.
        now: The instant that `Q.now()` means, aware.
        zone: The task's zone, in which a time without a zone is local.
    """
    match column.kind:
        case ColumnKind.DATE if isinstance(value, Moment):
            return _wall(value, now, zone).date()
        case ColumnKind.DATETIME if column.aware:
            return _instant(value, now, zone)
        case ColumnKind.DATETIME:
            return _wall(value, now, zone)
        case ColumnKind.UUID if not getattr(column.type, "as_uuid", True):
            return str(value)
    return value


def _wall(value: datetime | Moment, now: datetime, zone: ZoneInfo) -> datetime:
    """The naive wall-clock time in the task's zone."""
    if isinstance(value, datetime):
        return value
    if value.start == "now":
        return _instant(value, now, zone).replace(tzinfo=None)
    days, clock = _shifts(value)
    return datetime.combine(now.astimezone(zone).date(), time()) + days + clock


def _instant(value: datetime | Moment, now: datetime, zone: ZoneInfo) -> datetime:
    """The aware datetime in the task's zone."""
    if isinstance(value, datetime) or value.start == "today":
        return _existing(_wall(value, now, zone).replace(tzinfo=zone))
    here = now.astimezone(zone)
    days, clock = _shifts(value)
    if days:
        here = _existing((here.replace(tzinfo=None) + days).replace(tzinfo=zone))
    return (here.astimezone(UTC) + clock).astimezone(zone)


def _shifts(moment: Moment) -> tuple[relativedelta, timedelta]:
    """A shift's wall-clock part (days and longer) and its elapsed part."""
    shift: dict[str, Any] = dict(moment.shift)
    elapsed = {
        unit: shift.pop(unit)
        for unit in ("hours", "minutes", "seconds")
        if unit in shift
    }
    return relativedelta(**shift), timedelta(**elapsed)


def _existing(moment: datetime) -> datetime:
    """A wall-clock time that a zone leaves out, moved forward by the gap (RFC 5545 §3.3.5).

    On the calendar's first and last day an instant may lie beyond the limits of a datetime: then the limit.
    """
    try:
        return moment.astimezone(UTC).astimezone(moment.tzinfo)
    except OverflowError:
        limit = datetime.min if moment.year == 1 else datetime.max
        return limit.replace(tzinfo=UTC)
