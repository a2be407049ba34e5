"""A field's name → the mapped column that a filter compares, and the kind of its values."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.orm import ColumnProperty, Mapper, RelationshipProperty
from sqlalchemy.types import TypeDecorator, TypeEngine

from jittask_prefect.filters.tree import refuse


class ColumnKind(enum.StrEnum):
    """The kind of a column's values; its text names the values that a filter may compare with."""

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


_KINDS: tuple[tuple[type[TypeEngine[Any]], ColumnKind], ...] = (
    (sa.Boolean, ColumnKind.BOOL),
    (sa.Enum, ColumnKind.ENUM),
    (sa.Uuid, ColumnKind.UUID),
    (sa.Integer, ColumnKind.INT),
    (sa.Float, ColumnKind.FLOAT),
    (sa.Numeric, ColumnKind.DECIMAL),
    (sa.String, ColumnKind.TEXT),
    (sa.DateTime, ColumnKind.DATETIME),
    (sa.Date, ColumnKind.DATE),
    (sa.Time, ColumnKind.TIME),
)
_PROCESSORS = (
    "process_bind_param",
    "process_result_value",
    "bind_processor",
    "result_processor",
)


@dataclass(frozen=True)
class Column:
    """A mapped column, and the relationships that lead to the column.

    Attributes:
        hops: The relationships, from the filter's model on; empty for a column of the model.
        key: The attribute's name.
        type: The column's type, without decorators that change no values.
        kind: The kind of its values.
    """

    hops: tuple[RelationshipProperty[Any], ...]
    key: str
    type: TypeEngine[Any]
    kind: ColumnKind

    @property
    def utc(self) -> bool:
        """Whether a decorator stores instants as UTC without a zone, as SQLModel's UTCDateTime does."""
        return self.kind is ColumnKind.DATETIME and isinstance(self.type, TypeDecorator)

    @property
    def zoned(self) -> bool:
        """Whether the database's own type has a zone."""
        return self.kind is ColumnKind.DATETIME and bool(
            getattr(self.type, "timezone", False)
        )

    @property
    def aware(self) -> bool:
        """Whether values are instants."""
        return self.utc or self.zoned


def mapper_of(model: type) -> Mapper[Any]:
    """The mapper of a table class.

    Raises:
        FilterError: The class is not mapped.
    """
    mapper: object = sa.inspect(model, raiseerr=False)
    if not isinstance(mapper, Mapper):
        raise refuse(f"the model {model.__name__}", "a model with a table")
    return mapper


def columns(mapper: Mapper[Any]) -> dict[str, ColumnProperty[Any]]:
    """The attributes that are columns of a table, by name; a `column_property` of an expression is left out."""
    return {
        key: attribute
        for key, attribute in mapper.column_attrs.items()
        if isinstance(attribute.columns[0], sa.Column)
    }


def column(model: type, name: str) -> Column:
    """A model's own column, by its attribute's name.

    Raises:
        FilterError: The model maps no such column.
    """
    return column_at([name], mapper_of(model))


def column_at(path: Sequence[str], mapper: Mapper[Any]) -> Column:
    """The column at the end of a path: names of relationships, then the column's attribute.

    Raises:
        FilterError: A relationship or the column is missing; the message lists the names that exist.
    """
    shown = f"the field {'.'.join(path)!r}"
    hops: list[RelationshipProperty[Any]] = []
    for name in path[:-1]:
        hop = mapper.relationships.get(name)
        if hop is None:
            known = _listed(mapper.relationships.keys())
            allowed = f"a relationship of {mapper.class_.__name__}: {known}"
            raise refuse(f"{shown}: {name!r}", allowed)
        hops.append(hop)
        mapper = hop.mapper
    mapped = columns(mapper)
    attribute = mapped.get(path[-1])
    if attribute is None:
        allowed = f"a mapped column of {mapper.class_.__name__}: {_listed(mapped)}"
        raise refuse(shown, allowed)
    type_ = _undecorated(attribute.columns[0].type)
    return Column(tuple(hops), attribute.key, type_, _kind(type_))


def value_column(type_: TypeEngine[Any], key: str = "") -> Column:
    """A column of a type, for the values that are compared with the type."""
    plain = _undecorated(type_)
    return Column((), key, plain, _kind(plain))


def unpadded(type_: TypeEngine[Any], text: str) -> str:
    """A text without the padding of a CHAR column."""
    return text.rstrip(" ") if isinstance(type_, sa.CHAR) else text


def _listed(names: Iterable[str]) -> str:
    public = sorted(name for name in names if not name.startswith("_"))
    return ", ".join(public) or "it has none"


def _undecorated(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type beneath decorators that change no values, such as SQLModel's AutoString."""
    while isinstance(type_, TypeDecorator) and not _changes_values(type_):
        type_ = type_.impl_instance
    return type_


def _changes_values(decorator: TypeDecorator[Any]) -> bool:
    return any(
        getattr(type(decorator), name) is not getattr(TypeDecorator, name)
        for name in _PROCESSORS
    )


def _kind(type_: TypeEngine[Any]) -> ColumnKind:
    if isinstance(type_, TypeDecorator):
        return ColumnKind.DATETIME if _stores_utc(type_) else ColumnKind.OTHER
    if isinstance(type_, sa.JSON):  # None may be stored as JSON's null, not as NULL
        return ColumnKind.OTHER if type_.none_as_null else ColumnKind.JSON
    kinds = (kind for base, kind in _KINDS if isinstance(type_, base))
    return next(kinds, ColumnKind.OTHER)


def _stores_utc(type_: TypeDecorator[Any]) -> bool:
    """Whether a decorated datetime stores UTC and returns the instant: tried with a value."""
    if not isinstance(type_.impl_instance, sa.DateTime):
        return False
    moment = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5)))
    try:
        stored = type_.process_bind_param(moment, DefaultDialect()).replace(tzinfo=None)
        back = type_.process_result_value(stored, DefaultDialect())
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return False
    naive = moment.astimezone(UTC).replace(tzinfo=None)
    return bool(stored == naive and back == moment)
