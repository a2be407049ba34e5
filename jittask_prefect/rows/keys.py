"""Row keys as the ledger's text and back, and results as JSON."""

from __future__ import annotations

import enum
import json
import uuid
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import inspect as sa_inspect
from sqlalchemy.types import TypeDecorator, TypeEngine

from ..elements.q_bind import unpadded

_kinds: WeakKeyDictionary[type[Any], tuple[type[Any], ...]] = WeakKeyDictionary()


def key_of(row: Any, dialect: str) -> str:
    """A row's key as text; see `key_text`."""
    mapper = sa_inspect(type(row))
    values = [getattr(row, mapper.get_property_by_column(c).key) for c in mapper.primary_key]
    return key_text(mapper.primary_key, values, dialect)


def key_text(columns: Sequence[Any], key: Sequence[Any], dialect: str) -> str:
    """The values of a row's key columns as text: the value itself, or a JSON list where there are several.

    The text of a row is one, whether the values were assigned or come from the database: PostgreSQL fills up a CHAR
    with spaces, MariaDB takes those at its end away. In SQLite such spaces tell keys apart.

    Args:
        columns: The model's key columns.
        key: Their values.
        dialect: The name of the database's kind.

    Raises:
        ValueError: The text is empty, or longer than the 255 characters that the ledger keeps.
    """
    values = [_plain(value) for value in key]
    if dialect != "sqlite":
        pairs = zip(columns, values, strict=True)
        values = [unpadded(_bare(c.type), value) if isinstance(value, str) else value for c, value in pairs]
    text = str(values[0]) if len(values) == 1 else json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    if not 0 < len(text) <= 255:
        raise ValueError(f"a row key of {len(text)} characters; 1 to 255 are allowed")
    return text


def key_value(model: type[Any], text: str) -> tuple[Any, ...]:
    """The key columns' values of a key text, as `Session.get` takes them.

    Raises:
        ValueError, LookupError: The text is no key of the model.
    """
    if model not in _kinds:
        _kinds[model] = tuple(python_type(column.type) for column in sa_inspect(model).primary_key)
    kinds = _kinds[model]
    texts: list[Any] = [text]
    if len(kinds) > 1:
        texts = json.loads(text)
        if not isinstance(texts, list) or len(texts) != len(kinds):
            raise ValueError(f"{text!r} is no key of {model.__name__}: it has {len(kinds)} columns")
    return tuple(_typed(value, kind) for value, kind in zip(texts, kinds, strict=True))


def python_type(of: TypeEngine[Any]) -> type[Any]:
    """The Python type of a column's values; a TypeDecorator (SQLModel's AutoString) is what it decorates."""
    try:
        return _bare(of).python_type
    except NotImplementedError:
        return object


def _bare(of: TypeEngine[Any]) -> TypeEngine[Any]:
    while isinstance(of, TypeDecorator):
        of = of.impl_instance
    return of


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.name  # as SQLAlchemy keeps it
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"  # 1.5 and 1.50 are one number
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else str(value)


def _typed(value: Any, kind: type[Any]) -> Any:
    if isinstance(value, kind):
        return value
    if issubclass(kind, enum.Enum):
        return kind[str(value)]
    if kind is bool:
        return {"True": True, "False": False}[str(value)]
    if issubclass(kind, (datetime, date)):
        return kind.fromisoformat(str(value))
    return kind(str(value)) if kind in (int, str, float, Decimal, uuid.UUID) else value


def to_json(value: Any) -> str:
    """A function's result as JSON text; what JSON cannot hold is kept as its `repr`."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except Exception:  # noqa: BLE001  a value's own `__str__` may raise anything, and the function has done its work
        text = json.dumps(_repr(value), ensure_ascii=False)
    text = as_text(text)
    return text if len(text) <= 60000 else json.dumps(text[:1000] + "… (cut)", ensure_ascii=False)


def as_text(text: str) -> str:
    """A text as every database takes it: no NUL, no half of a surrogate pair."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  as above
        return f"<{type(value).__name__}>"
