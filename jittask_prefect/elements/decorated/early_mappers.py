"""Mappers that an import of an app's modules would configure before all classes are there.

A relationship that is used while a module is imported, `Visit.doctor == None`, configures every mapper. Where a class is
not imported yet, SQLAlchemy marks the mapper as failed for the rest of the process, and no task of its rows works any
more. So an import by this package stops before that; the mapper stays as it was.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Mapper, QueryableAttribute, RelationshipProperty

LAMBDA = "a relationship only in a lambda: where=lambda: Invoice.customer.has(…)"
_state = threading.local()


class TooEarly(InvalidRequestError):
    """A relationship is used before its class is imported."""


@contextmanager
def guarded() -> Iterator[None]:
    """Within: a mapper whose classes are not there yet is not configured in this thread."""
    before = getattr(_state, "on", False)
    _state.on = True
    try:
        yield
    finally:
        _state.on = before


@event.listens_for(Mapper, "before_mapper_configured")
def _see_classes(mapper: Mapper[Any], class_: type[Any]) -> None:
    """Stop before a mapper is configured that would fail.

    Raises:
        TooEarly: A class that a relationship names is not mapped yet.
    """
    if not getattr(_state, "on", False):
        return

    known = {each.class_.__name__ for each in mapper.registry.mappers}
    for key, target in _targets(class_):
        if target not in known:
            of = f"{class_.__name__}.{key}"
            raise TooEarly(
                f"mappers are configured while {target}, which {of} leads to, is not imported yet"
            )


def _targets(class_: type[Any]) -> Iterator[tuple[str, str]]:
    """The relationships of a class that name their class by a plain name; nothing is configured for that."""
    for key, attribute in vars(class_).items():
        comparator = (
            attribute.comparator if isinstance(attribute, QueryableAttribute) else None
        )
        if isinstance(comparator, RelationshipProperty.Comparator):
            target = comparator.prop.argument
            if isinstance(target, str) and target.isidentifier():
                yield key, target
