"""A filter's tree → a SQLAlchemy condition that means the same on SQLite, PostgreSQL, MariaDB and MySQL.

Where databases compare differently, a function of `sql_functions` names the meaning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from operator import eq, ge, gt, le, lt
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy import ColumnElement
from sqlalchemy.orm import Mapper, RelationshipProperty, aliased
from sqlalchemy.types import TypeEngine

from jittask_prefect.errors import FilterError, Problem
from jittask_prefect.filters.columns import Column, ColumnKind, column_at
from jittask_prefect.filters.paths import to_one, value_of
from jittask_prefect.filters.sql_functions import (
    Spelled,
    WallClock,
    rounded,
    shortest,
    stored_time,
)
from jittask_prefect.filters.tree import And, Moment, Node, Not, Or, Test
from jittask_prefect.filters.values import DATE_PARTS, Comparison, comparison, in_column

Hops = tuple[RelationshipProperty[Any], ...]
Reach = Callable[[Callable[[Any], Any]], Any]
"""Takes a function that wraps a column where the column stands; gives the value as the filter's model sees it."""
_ORDERS: Mapping[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "=": eq,
    ">": gt,
    ">=": ge,
    "<": lt,
    "<=": le,
}
_OR_LENGTH = 100
"""Alternatives in one OR: SQLite refuses expressions deeper than 1,000."""


@dataclass(frozen=True)
class Condition:
    """A filter as SQL.

    Attributes:
        sql: The condition, with the values of the instant of its first use.
        moments: By name of the bound parameter, the value of a `Q.now(…)` or `Q.today(…)` at another instant.
    """

    sql: ColumnElement[bool]
    moments: Mapping[str, Callable[[datetime], Any]]


def condition(
    tree: Node, mapper: Mapper[Any], now: datetime, zone: ZoneInfo
) -> Condition:
    """The condition of a tree for a model.

    Args:
        tree: The answer of `tree.read`.
        mapper: The model's mapper.
        now: The instant that `Q.now()` means, aware.
        zone: The task's zone.

    Raises:
        FilterError: With every field that is no mapped column, and every value that does not fit its column.
    """
    writer = _Writer(mapper, now, zone)
    found = writer.node(tree)
    if writer.problems:
        raise FilterError(dict.fromkeys(writer.problems))
    return Condition(found, writer.moments)


@dataclass
class _Writer:
    mapper: Mapper[Any]
    now: datetime
    zone: ZoneInfo
    problems: list[Problem] = field(default_factory=list)
    moments: dict[str, Callable[[datetime], Any]] = field(default_factory=dict)

    def node(self, node: Node) -> ColumnElement[bool]:
        match node:
            case And(parts):
                return sa.and_(sa.true(), *map(self.node, parts))
            case Or(parts):
                return sa.or_(sa.false(), *map(self.node, parts))
            case Not(part):
                return sa.not_(self.node(part))
            case Test():
                try:
                    found = comparison(column_at(node.path, self.mapper), node)
                except FilterError as error:
                    self.problems.extend(error.problems)
                    return sa.false()
                return self._across(found.column.hops, self.mapper.class_, found)
        raise TypeError(node)

    def _across(self, hops: Hops, entity: Any, of: Comparison) -> ColumnElement[bool]:
        """EXISTS up to the last to-many relationship; then a scalar subquery, NULL without a related row."""
        if all(map(to_one, hops)):
            return self._compared(
                of, lambda wrap: value_of(replace(of.column, hops=hops), entity, wrap)
            )
        hop = hops[0]
        target = aliased(hop.mapper)
        related = getattr(entity, hop.key).of_type(target)
        inner = self._across(hops[1:], target, of)
        found: ColumnElement[bool] = (
            related.any(inner) if hop.uselist else related.has(inner)
        )
        return found

    def _compared(self, of: Comparison, reach: Reach) -> ColumnElement[bool]:
        found = self._positive(of, reach)
        return sa.not_(found) if of.negated else found

    def _positive(self, of: Comparison, reach: Reach) -> ColumnElement[bool]:
        column, operator, wanted = of.column, of.operator, of.value
        if operator == "isnull":
            null: ColumnElement[bool] = reach(lambda value: value).is_(None)
            return null
        if operator in DATE_PARTS:
            part = reach(lambda value: _part(operator, column, value, self.zone))
            return part == sa.literal(wanted, sa.BigInteger())  # type: ignore[no-any-return]
        if operator in ("like", "startswith", "endswith", "likeany"):
            text = reach(lambda value: _text(column, value, exact=False))
            if operator == "likeany":
                return _any([_contains("like", text, item) for item in wanted])
            return _contains(operator, text, wanted)
        left = reach(lambda value: _left(column, value, operator in ("=", "in")))
        if operator == "in":
            items = [self._literal(column, i) for i in wanted if i is not None]
            parts = [left.in_(items)] if items else []
            return _any([*parts, left.is_(None)] if None in wanted else parts)
        if operator == "range":
            low, high = (self._literal(column, item) for item in wanted)
            return sa.and_(left >= low, left <= high)
        return _ORDERS[operator](left, self._literal(column, wanted))

    def _literal(self, column: Column, wanted: Any) -> Any:
        value = in_column(column, wanted, self.now, self.zone)
        literal: Any = sa.literal(value, _bind_type(column))
        if isinstance(wanted, Moment):
            name = self._noted(column, wanted)
            literal = sa.bindparam(name, value, type_=_bind_type(column))
        if isinstance(wanted, Decimal) and isinstance(column.type, sa.Numeric):
            digits = f"{wanted:f}".partition(".")[2].rstrip("0")
            if len(digits) <= column.type._effective_decimal_return_scale:
                # SQLite's round may be off by the last bit: round both sides.
                return rounded(literal, column.type)
        return literal

    def _noted(self, column: Column, moment: Moment) -> str:
        """The name of a moment's parameter: the same name means the same value, whichever filter it stands in."""
        zone = self.zone
        about = f"{moment} {_bind_type(column)!r} {zone.key}"
        name = f"moment_{hashlib.sha256(about.encode()).hexdigest()[:16]}"
        self.moments[name] = lambda now: in_column(column, moment, now, zone)
        return name


def _any(parts: list[ColumnElement[bool]]) -> ColumnElement[bool]:
    if len(parts) <= _OR_LENGTH:
        return sa.or_(sa.false(), *parts)
    starts = range(0, len(parts), _OR_LENGTH)
    groups = [sa.or_(*parts[start : start + _OR_LENGTH]) for start in starts]
    return sa.or_(*map(sa.sql.elements.Grouping, groups))


def _contains(
    operator: str, text: ColumnElement[str], wanted: str
) -> ColumnElement[bool]:
    part = sa.literal(wanted, sa.String())
    if operator == "endswith" and wanted:
        return Spelled("ending", text, part, type_=sa.String()) == part
    position = Spelled("position", text, part, type_=sa.Integer())
    return position == 1 if operator == "startswith" else position > 0


def _left(column: Column, value: Any, exact: bool) -> Any:
    match column.kind:
        case ColumnKind.TEXT:
            return _text(column, value, exact)
        case ColumnKind.DATETIME | ColumnKind.TIME:
            return stored_time(value, column.type)
        case ColumnKind.DECIMAL:
            return rounded(value, column.type)
        case ColumnKind.FLOAT:
            return shortest(value, column.type)
    return value


def _text(column: Column, value: Any, exact: bool) -> ColumnElement[str]:
    padded = isinstance(column.type, sa.CHAR)
    if padded:
        value = sa.func.rtrim(value)
    plain = not padded and column.type.__visit_name__ != "CITEXT"
    ordinary = plain and getattr(column.type, "collation", None) is None
    meaning = "exact" if exact and ordinary else "code points"
    return Spelled(meaning, value, type_=sa.String())


def _part(operator: str, column: Column, value: Any, zone: ZoneInfo) -> Any:
    """The year, month, ISO week or day of a value: as stored, or in the task's zone for an instant."""
    local = WallClock(value, column, zone) if column.aware else value
    if operator == "week":
        return Spelled("iso week", local, type_=sa.Integer())
    return sa.extract(operator, local)


def _bind_type(column: Column) -> TypeEngine[Any]:
    """The type of a value, never narrower than a filter's values, since PostgreSQL's drivers cast to the type."""
    match column.kind:
        case ColumnKind.INT:
            return sa.BigInteger()
        case ColumnKind.DECIMAL:
            return sa.Numeric()
        case ColumnKind.FLOAT:
            return sa.Double()
        case ColumnKind.TEXT:
            return sa.String()
        case ColumnKind.DATETIME if not column.utc:
            return sa.DateTime(timezone=column.aware)
    return column.type
