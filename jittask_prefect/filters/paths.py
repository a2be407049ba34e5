"""A path → the column at its end: a model's own, or a column of the one row that relationships lead to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import RelationshipProperty, aliased

from jittask_prefect.errors.column_paths import read_path
from jittask_prefect.filters.columns import Column, column_at, mapper_of
from jittask_prefect.filters.tree import refuse


def single_column(model: type, path: str) -> Column:
    """The column at the end of a path along which each row has one other row at most.

    Args:
        model: The class of the rows.
        path: `customer__owner_id`.

    Raises:
        FilterError: The text is no path, a relationship or the column is missing, or a relationship leads to many rows.
    """
    try:
        names = read_path(path)
    except ValueError as error:
        raise refuse(f"the path {path!r}", str(error)) from None
    found = column_at(names, mapper_of(model))
    for hop in found.hops:
        if not to_one(hop):
            shown = f"{hop.parent.class_.__name__}.{hop.key}, which leads to many rows"
            raise refuse(shown, "relationships that lead to one row at most")
    return found


def to_one(hop: RelationshipProperty[Any]) -> bool:
    """Whether a relationship leads to one row at most."""
    return not hop.uselist and hop.secondary is None


def value_of(
    column: Column, entity: Any, wrap: Callable[[Any], Any] = lambda value: value
) -> Any:
    """A column as a row of its model sees the column, in SQL; NULL without a related row.

    Args:
        column: The answer of `single_column`.
        entity: The model, or an alias.
        wrap: Wraps the column where the column stands.
    """
    hops: tuple[RelationshipProperty[Any], ...] = column.hops
    if not hops:
        return wrap(getattr(entity, column.key))
    aliases = [aliased(hop.mapper) for hop in hops]
    sources = [entity, *aliases[:-1]]
    first, *joins = (
        getattr(source, hop.key).of_type(alias)
        for source, hop, alias in zip(sources, hops, aliases, strict=True)
    )
    found = wrap(getattr(aliases[-1], column.key))
    query = sa.select(found).select_from(aliases[0])
    for join in joins:
        query = query.join(join)
    return query.where(first).correlate_except(*aliases).limit(1).scalar_subquery()
