"""Labels of rows by their keys, read in one SELECT for many rows; only where a model or a task states what names a row."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import inspect as sa_inspect
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from jittask_prefect.elements.app import App
from jittask_prefect.elements.row_label import is_column, label_of, label_text
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.keys import NoKey, key_of, key_text, key_value
from jittask_prefect.ledger.planned_rows import Row
from jittask_prefect.rows.row_reading import (
    KEYS_AT_ONCE,
    Values,
    key_attributes,
    key_parameters,
    same_keys,
)

TRIED = 5
"""The rows of a model whose labels `jittask doctor` tries."""
log = logging.getLogger("jittask")
_said: set[tuple[str, str, str]] = set()


def row_labels(app: App, rows: Iterable[Row]) -> dict[Row, str]:
    """The labels of some rows; a row without a label, and a row that is gone, is absent.

    Without a stated label nothing is asked. A label that fails is said once in the log; its row goes by its key.

    Args:
        app: The app.
        rows: Templates' full names and rows' keys.
    """
    keys: dict[str, list[str]] = defaultdict(list)
    for name, key in dict.fromkeys(rows):
        if key:
            keys[name].append(key)
    found: dict[Row, str] = {}
    for name, mine in keys.items():
        template = _labelled(app, name)
        if template is not None:
            by_key = labels_of(template, mine)
            found |= {(name, key): label for key, label in by_key.items()}
    return found


def row_of(entry: Entry) -> Row:
    """Template and row of a task; the key of a scheduled task is empty."""
    return entry.template, entry.row_key


def _labelled(app: App, name: str) -> DateFieldType | None:
    try:
        template = app.template(name)
        if isinstance(template, DateFieldType) and template.row_label:
            return template
    except JittaskError:
        pass  # broken, or gone
    return None


def labels_of(template: DateFieldType, keys: Sequence[str]) -> dict[str, str]:
    """The labels of rows of a template's model, by key; none where the rows cannot be read."""
    found: dict[str, str] = {}
    for start in range(0, len(keys), KEYS_AT_ONCE):
        part = keys[start : start + KEYS_AT_ONCE]
        try:
            found |= _read(template, part)
        except (SQLAlchemyError, JittaskError, ValueError, TypeError) as error:
            _say(template, error)
    return found


def _read(template: DateFieldType, keys: Sequence[str]) -> Mapping[str, str]:
    app, model, name = template.app, template.model, template.row_label
    assert name is not None
    with Session(app.engine(app.database_of(template.model_name))) as session:
        dialect = session.get_bind().dialect.name
        values = _values(model, keys, dialect)
        if not values:
            return {}
        attributes = key_attributes(model)
        parameters = key_parameters(values, len(values))
        where = same_keys(attributes, len(values))
        if is_column(model, name):
            columns = sa_inspect(model).primary_key
            query = select(*attributes, getattr(model, name)).where(where)
            records = session.execute(query, parameters)
            return _kept(
                (key_text(columns, record[:-1], dialect), label_text(record[-1], name))
                for record in records
            )
        query = select(model).where(where)
        with session.no_autoflush:
            instances = session.execute(query, parameters).unique().scalars().all()
            # Keys first: a method may spoil the session.
            known = [(key_of(row, dialect), row) for row in instances]
            return _kept((key, _called(template, row, name)) for key, row in known)


def _values(model: Any, keys: Sequence[str], dialect: str) -> list[Values]:
    found = []
    for key in keys:
        try:
            found.append(key_value(model, key, dialect))
        except NoKey:
            continue  # of an older form of the model
    return found


def _kept(labels: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {key: label for key, label in labels if label}


def _called(template: DateFieldType, row: Any, name: str) -> str:
    try:
        return label_of(row, name)
    except (Exception, SystemExit) as error:  # noqa: BLE001  of the team's own code
        _say(template, error)
        return ""


def _say(template: DateFieldType, error: BaseException) -> None:
    about = (template.app.name, template.model_name, str(template.row_label))
    if about not in _said:
        _said.add(about)
        log.warning(_fault(template, error))


def _fault(template: DateFieldType, error: BaseException) -> str:
    said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    label = f"the rowLabel {template.row_label} of {template.model_name}"
    return f"{label} fails ({said}): rows are named by their keys"


def label_problem(template: DateFieldType) -> str | None:
    """Why a stated label fails for one of the first rows of its table; None where none fails."""
    app, name = template.app, template.row_label
    if name is None:
        return None
    with Session(app.engine(app.database_of(template.model_name))) as session:
        try:
            query = select(template.model).limit(TRIED)
            for row in session.execute(query).unique().scalars():
                label_of(row, name)
        except (Exception, SystemExit) as error:  # noqa: BLE001  of the team's own code
            return _fault(template, error)
    return None
