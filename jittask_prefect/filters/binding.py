"""A filter's tree against a model: paths become mapped columns, values the columns' types, every misfit a problem."""

from __future__ import annotations

import enum
import math
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from dateutil.relativedelta import relativedelta
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.orm import ColumnProperty, Mapper, RelationshipProperty
from sqlalchemy.types import TypeDecorator, TypeEngine

from jittask_prefect.errors import FilterError, Problem
from jittask_prefect.filters.tree import (
    And,
    Moment,
    Node,
    Not,
    Or,
    Scalar,
    Test,
    Value,
    refuse,
)


class Kind(enum.StrEnum):
    """What a column holds, as far as comparisons go; the value is how a message names what fits it."""

    INT = "a whole number of at most 64 bits"
    DECIMAL = "a number of at most 38 digits on each side of the point"
    FLOAT = "a number"
    TEXT = "a text"
    DATE = "a text 'yyyy-MM-dd', Q.today(…) or Q.now(…)"
    DATETIME = "a text 'yyyy-MM-dd[ HH:mm:ss]', Q.today(…) or Q.now(…)"
    TIME = "a text 'HH:mm[:ss]'"
    BOOL = "True or False"
    ENUM = "a member's value or name"
    UUID = "a text with a UUID"
    OTHER = "no value"
    JSON = "no value at all"


_EQUAL = ("=", "in", "isnull")
_ORDER = (*_EQUAL, ">", ">=", "<", "<=", "range")
_DATES = (*_ORDER, "year", "month", "week", "day")
_OPERATORS: dict[Kind, tuple[str, ...]] = {
    **dict.fromkeys((Kind.INT, Kind.DECIMAL, Kind.FLOAT, Kind.TIME), _ORDER),
    **dict.fromkeys((Kind.DATE, Kind.DATETIME), _DATES),
    # The order of an enum is the database's (PostgreSQL: as declared, others: by name); MariaDB's of UUIDs is its own.
    **dict.fromkeys((Kind.BOOL, Kind.ENUM, Kind.UUID), _EQUAL),
    Kind.TEXT: (*_ORDER, "like", "startswith", "endswith", "likeany"),
    Kind.OTHER: ("isnull",),
    Kind.JSON: (),  # None may be stored as JSON's null, which is not NULL
}
_NEGATIVE = {"!=": "=", "nin": "in", "nlike": "like", "nlikeany": "likeany"}
_DATE_PARTS = ("year", "month", "week", "day")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?)?", re.ASCII)
_CLOCK = re.compile(r"\d\d:\d\d(?::\d\d)?", re.ASCII)


@dataclass(frozen=True)
class Column:
    """A mapped column, and the relationships that lead to it."""

    hops: tuple[RelationshipProperty[Any], ...]
    key: str
    type: TypeEngine[Any]
    kind: Kind

    @property
    def utc(self) -> bool:
        """Whether values are instants that databases without zones hold as UTC (SQLModel's UTCDateTime)."""
        return self.kind is Kind.DATETIME and isinstance(self.type, TypeDecorator)

    @property
    def aware(self) -> bool:
        """Whether values are instants."""
        return self.utc or (
            self.kind is Kind.DATETIME and bool(getattr(self.type, "timezone", False))
        )


@dataclass(frozen=True)
class Check(Node):
    """A comparison with a column: a positive operator, a value of the column's type, and whether it is negated.

    The negation belongs to the comparison, not around it: over a to-many relationship `!=` asks for a row that differs.
    """

    column: Column
    operator: str
    value: Any
    negated: bool = False


def to_many(hop: RelationshipProperty[Any]) -> bool:
    """Whether comparisons across this relationship ask for *some* related row."""
    return bool(hop.uselist) or hop.secondary is not None


def bind(tree: Node, model: type) -> Node:
    """The tree with a `Check` in the place of each `Test`.

    Raises:
        FilterError: With every field that is no mapped column, and every value that does not fit its column.
    """
    mapper: object = sa.inspect(model, raiseerr=False)
    if not isinstance(mapper, Mapper):
        raise refuse(f"the model {model.__name__}", "a model with a table")
    problems: list[Problem] = []
    bound = _bind(tree, mapper, problems)
    if problems:
        raise FilterError(dict.fromkeys(problems))
    return bound


def _bind(node: Node, mapper: Mapper[Any], problems: list[Problem]) -> Node:
    match node:
        case And(parts):
            return And(tuple(_bind(part, mapper, problems) for part in parts))
        case Or(parts):
            return Or(tuple(_bind(part, mapper, problems) for part in parts))
        case Not(part):
            return Not(_bind(part, mapper, problems))
        case Test():
            try:
                return _check(_column(node.path, mapper), node)
            except FilterError as error:
                problems.extend(error.problems)
    return node


def column(model: type, name: str) -> Column:
    """One of a model's own columns, by its field's name.

    Raises:
        FilterError: The model maps no such column.
    """
    return _column([name], sa.inspect(model))


def columns(mapper: Mapper[Any]) -> dict[str, ColumnProperty[Any]]:
    """What a mapper maps to columns of a table, by field; a `column_property` of an expression is none of it."""
    return {
        key: prop
        for key, prop in mapper.column_attrs.items()
        if isinstance(prop.columns[0], sa.Column)
    }


def _column(path: Sequence[str], mapper: Mapper[Any]) -> Column:
    shown = f"the field {'.'.join(path)!r}"
    hops: list[RelationshipProperty[Any]] = []
    for name in path[:-1]:
        hop = mapper.relationships.get(name)
        if hop is None:
            names = _names(mapper.relationships.keys())
            raise refuse(
                f"{shown}: {name!r}",
                f"a relationship of {mapper.class_.__name__}: {names}",
            )
        hops.append(hop)
        mapper = hop.mapper
    known = columns(mapper)
    prop = known.get(path[-1])
    if prop is None:
        raise refuse(
            shown, f"a mapped column of {mapper.class_.__name__}: {_names(known)}"
        )
    return Column(tuple(hops), prop.key, *_plain(prop.columns[0].type))


def _names(names: Any) -> str:
    return (
        ", ".join(sorted(name for name in names if not name.startswith("_")))
        or "it has none"
    )


def _plain(type_: TypeEngine[Any]) -> tuple[TypeEngine[Any], Kind]:
    """The type beneath decorators that do not change values (SQLModel's AutoString is one), and its kind."""
    while isinstance(type_, TypeDecorator):
        changed = (
            "process_bind_param",
            "process_result_value",
            "bind_processor",
            "result_processor",
        )
        if any(
            getattr(type(type_), name) is not getattr(TypeDecorator, name)
            for name in changed
        ):
            return type_, Kind.DATETIME if _holds_utc(type_) else Kind.OTHER
        type_ = type_.impl_instance
    if isinstance(type_, sa.JSON):
        return type_, Kind.OTHER if type_.none_as_null else Kind.JSON
    kinds: tuple[tuple[type[TypeEngine[Any]], Kind], ...] = (
        *(
            (sa.Boolean, Kind.BOOL),
            (sa.Enum, Kind.ENUM),
            (sa.Uuid, Kind.UUID),
            (sa.Integer, Kind.INT),
        ),
        *((sa.Float, Kind.FLOAT), (sa.Numeric, Kind.DECIMAL), (sa.String, Kind.TEXT)),
        *((sa.DateTime, Kind.DATETIME), (sa.Date, Kind.DATE), (sa.Time, Kind.TIME)),
    )
    return type_, next(
        (kind for base, kind in kinds if isinstance(type_, base)), Kind.OTHER
    )


def _holds_utc(type_: TypeDecorator[Any]) -> bool:
    """Whether a decorated datetime takes aware values, stores them as UTC and gives them back: seen from one value."""
    if not isinstance(type_.impl_instance, sa.DateTime):
        return False
    moment, dialect = (
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5))),
        DefaultDialect(),
    )
    try:
        stored = type_.process_bind_param(moment, dialect).replace(tzinfo=None)
        back = type_.process_result_value(stored, dialect)
        return bool(
            stored == moment.astimezone(UTC).replace(tzinfo=None) and back == moment
        )
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return False


def _check(column: Column, test: Test) -> Check:
    operator, value = test.operator, test.value
    if operator in ("=", "!=") and value is None:
        operator, value = "isnull", operator == "="
    negated = operator in _NEGATIVE
    operator = _NEGATIVE.get(operator, operator)
    shown = f"Q({'.'.join(test.path)!r}, {test.operator!r}, {_shown(test.value)})"
    operators = _OPERATORS[column.kind]
    if operator not in operators:
        negatives = [
            name for name, positive in _NEGATIVE.items() if positive in operators
        ]
        allowed = " ".join([*operators, *negatives]) or "no comparison"
        raise refuse(f"{shown}: {test.operator!r}", f"on this column: {allowed}")
    try:
        return replace(
            _valued(column, operator, value),
            negated=negated ^ (operator == "isnull" and not value),
        )
    except ValueError as error:
        raise refuse(f"{shown}: {_shown(value)}", str(error)) from None


def _shown(value: Value) -> str:
    if not isinstance(value, tuple):
        return str(value) if isinstance(value, Moment) else repr(value)
    return f"[{', '.join(map(_shown, value[:5]))}{', …' if len(value) > 5 else ''}]"


def _valued(column: Column, operator: str, value: Value) -> Check:
    if operator == "isnull":
        if isinstance(value, int) and value in (0, 1):
            return Check(column, operator, None)
        raise ValueError("1, 0, True or False")
    if operator in _DATE_PARTS:
        return Check(column, operator, _fit(Kind.INT, column.type, value))
    if operator == "range":
        if not isinstance(value, tuple) or len(value) != 2:
            raise ValueError("a pair: [from, to]")
        return Check(
            column,
            operator,
            (_bound(column, ">=", value[0])[1], _bound(column, "<=", value[1])[1]),
        )
    if operator in ("in", "likeany"):
        if not isinstance(value, tuple):
            raise ValueError("a list")
        null_ok = operator == "in"
        fitted = [
            None if item is None and null_ok else _fit(column.kind, column.type, item)
            for item in value
        ]
        return Check(column, operator, tuple(fitted))
    if operator in (">", ">=", "<", "<="):
        return Check(column, *_bound(column, operator, value))
    return Check(column, operator, _fit(column.kind, column.type, value))


def _bound(column: Column, operator: str, value: Value) -> tuple[str, Any]:
    """The limit of an order comparison: on a column of whole numbers, > 2.5 and >= 2.5 are >= 3."""
    if column.kind is Kind.INT and isinstance(value, float) and not value.is_integer():
        lower = operator in (">", ">=")
        return (">=" if lower else "<="), _fit(
            Kind.INT, column.type, math.ceil(value) if lower else math.floor(value)
        )
    return operator, _fit(column.kind, column.type, value)


def _fit(kind: Kind, type_: TypeEngine[Any], value: Value) -> Any:
    """The value in the column's type; a ValueError's text is what is allowed."""
    try:
        if value is not None and not isinstance(value, tuple):
            fitted = _converted(kind, type_, value)
            if fitted is not None:
                return fitted
    except (ValueError, ArithmeticError):
        pass
    if kind is Kind.ENUM and isinstance(type_, sa.Enum):
        raise ValueError(f"one of {', '.join(type_.enums)}")
    raise ValueError(kind.value)


def _converted(kind: Kind, type_: TypeEngine[Any], value: Scalar) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case Kind.INT if number and value == int(value) and -(2**63) <= value < 2**63:  # type: ignore[arg-type]
            return int(value)
        case Kind.FLOAT if number:
            return float(value)  # type: ignore[arg-type]
        case Kind.DECIMAL if number or isinstance(value, str):
            return _decimal(str(value))
        case Kind.TEXT if isinstance(value, str):
            value.encode()  # a lone surrogate has no place in any database, nor has NUL in PostgreSQL
            return None if "\0" in value else unpadded(type_, value)
        case Kind.BOOL if isinstance(value, int) and value in (0, 1):
            return bool(value)
        case Kind.ENUM if isinstance(type_, sa.Enum):
            return member(type_, value)
        case Kind.UUID if isinstance(value, str):
            return uuid.UUID(value)
        case Kind.DATE | Kind.DATETIME if isinstance(value, Moment):
            return value
        case Kind.DATE | Kind.DATETIME if isinstance(value, str) and _MOMENT.fullmatch(
            value
        ):
            moment = datetime.fromisoformat(value)
            return moment if kind is Kind.DATETIME else moment.date()
        case Kind.TIME if isinstance(value, str) and _CLOCK.fullmatch(value):
            return time.fromisoformat(value)
    return None


def _decimal(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or number.adjusted() > 37 or exponent < -38:
        return None
    return Decimal(f"{number:f}")  # MariaDB takes 1E+3 for a double


def unpadded(type_: TypeEngine[Any], text: str) -> str:
    """A text as its column holds it: spaces at the end of a CHAR column are padding."""
    return text.rstrip(" ") if isinstance(type_, sa.CHAR) else text


def member(type_: sa.Enum, value: object) -> Any:
    """The enum's member that a value or a name means, the value first; of an enum without a class, the text itself."""
    if type_.enum_class is None:
        return value if isinstance(value, str) and value in type_.enums else None
    members = list(type_.enum_class)
    plain = [
        one for one in members if one.value == value and type(one.value) is type(value)
    ]
    return next(iter([*plain, *(one for one in members if one.name == value)]), None)


def date_of(value: Any, now: datetime, zone: ZoneInfo) -> date:
    """A value of a date column as a date of the task's zone."""
    return wall_of(value, now, zone).date() if isinstance(value, Moment) else value


def wall_of(value: datetime | Moment, now: datetime, zone: ZoneInfo) -> datetime:
    """A value of a datetime column as the naive wall-clock time of the task's zone."""
    if isinstance(value, datetime):
        return value
    if value.start == "now":
        return instant_of(value, now, zone).replace(tzinfo=None)
    days, clock = _shifts(value)
    return datetime.combine(_here(now, zone).date(), time()) + days + clock


def instant_of(value: datetime | Moment, now: datetime, zone: ZoneInfo) -> datetime:
    """A value of a datetime column as an aware datetime of the task's zone."""
    if isinstance(value, datetime) or value.start == "today":
        return _real(wall_of(value, now, zone).replace(tzinfo=zone))
    here = _here(now, zone)
    days, clock = _shifts(value)
    if days:
        here = _real((here.replace(tzinfo=None) + days).replace(tzinfo=zone))
    return (here.astimezone(UTC) + clock).astimezone(zone)


def _here(now: datetime, zone: ZoneInfo) -> datetime:
    return now.astimezone(zone) if now.tzinfo else now.replace(tzinfo=zone)


def _shifts(moment: Moment) -> tuple[relativedelta, timedelta]:
    """A shift's wall-clock part (days and longer) and its elapsed part."""
    shift = dict(moment.shift)
    clock = timedelta(
        **{
            unit: shift.pop(unit)
            for unit in ("hours", "minutes", "seconds")
            if unit in shift
        }
    )
    return relativedelta(**shift), clock  # type: ignore[arg-type]


def _real(moment: datetime) -> datetime:
    """A wall-clock time that a zone leaves out, moved forward by the gap (RFC 5545 §3.3.5).

    On the calendar's first and last day a zone's instant may lie outside of what a datetime can say: then the very end.
    """
    try:
        return moment.astimezone(UTC).astimezone(moment.tzinfo)
    except OverflowError:
        return (datetime.min if moment.year == 1 else datetime.max).replace(tzinfo=UTC)
