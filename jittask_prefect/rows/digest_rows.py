"""The calls of a digest: tasks that are due at one instant, put together by a value of their rows."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy import inspect as sa_inspect

from jittask_prefect.elements.digest import digest_column
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.filters.paths import value_of
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.keys import NoKey, key_text, key_value
from jittask_prefect.ledger.savepoint import nested
from jittask_prefect.rows.row_reading import (
    KEYS_AT_ONCE,
    UNREADABLE,
    Values,
    key_attributes,
    key_parameters,
    labelled,
    same_keys,
)

CALL_SIZE = 500  # rows of one call
_NONE = object()
"""In the place of a value: the row is gone, or cannot be read. The look at the row says which."""


def calls_of(
    connection: Connection, template: DateFieldType, tasks: Sequence[Entry]
) -> list[list[Entry]]:
    """The calls of tasks that are due together: each has rows with one value, sorted by key, `CALL_SIZE` at most.

    Args:
        connection: To the database of the rows, which is the ledger's too.
        template: The template, which has a digest.
        tasks: The tasks, each of another row.
    """
    keys = _keys(connection, template, tasks)
    try:
        ordered = sorted(tasks, key=lambda task: keys.get(task.row_key, ()))
    except TypeError:  # values without an order: by their texts
        ordered = sorted(tasks, key=lambda task: task.row_key)
    values = _values(connection, template, keys)
    groups: dict[Hashable, list[Entry]] = {}
    for task in ordered:
        groups.setdefault(values.get(task.row_key, _NONE), []).append(task)
    return [
        group[start : start + CALL_SIZE]
        for group in groups.values()
        for start in range(0, len(group), CALL_SIZE)
    ]


def _keys(
    connection: Connection, template: DateFieldType, tasks: Sequence[Entry]
) -> dict[str, Values]:
    """The values of the key columns by key text; a text that is no key of the model has none."""
    model, dialect = template.model, connection.dialect.name
    found: dict[str, Values] = {}
    for task in tasks:
        try:
            found[task.row_key] = key_value(model, task.row_key, dialect)
        except NoKey:
            continue
    return found


def _values(
    connection: Connection, template: DateFieldType, keys: Mapping[str, Values]
) -> dict[str, Hashable]:
    """The values by which rows are put together, by key text; None for all rows of a digest of all."""
    digest = template.cfg.digest
    assert digest is not None
    if digest.by is None:
        return dict.fromkeys(keys)
    found: dict[str, Hashable] = {}
    every = list(keys.items())
    for start in range(0, len(every), KEYS_AT_ONCE):
        part = dict(every[start : start + KEYS_AT_ONCE])
        found |= _read(connection, template, digest.by, part)
    return found


def _read(
    connection: Connection,
    template: DateFieldType,
    by: str,
    keys: Mapping[str, Values],
) -> dict[str, Hashable]:
    """The values of some rows; a value that cannot be read is left out."""
    model: Any = template.model
    attributes, columns = key_attributes(model), sa_inspect(model).primary_key
    value = value_of(digest_column(model, by), model)
    query = select(*labelled([*attributes, value]))
    query = query.where(same_keys(attributes, len(keys)))
    try:
        with nested(connection):
            parameters = key_parameters(list(keys.values()), len(keys))
            records = connection.execute(query, parameters).all()
    except UNREADABLE:
        if len(keys) == 1:
            return {}
        every, half = list(keys.items()), len(keys) // 2
        first = _read(connection, template, by, dict(every[:half]))
        return first | _read(connection, template, by, dict(every[half:]))
    number, dialect = len(columns), connection.dialect.name
    return {
        key_text(columns, record[:number], dialect): _hashable(record[number])
        for record in records
    }


def _hashable(value: Any) -> Hashable:
    try:
        hash(value)
    except TypeError:  # a list of PostgreSQL
        return repr(value)
    found: Hashable = value
    return found
