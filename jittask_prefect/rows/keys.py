"""Row keys as the ledger's text and back, and results as JSON."""

from __future__ import annotations

import enum
import json
import math
import re
import uuid
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import inspect as sa_inspect
from sqlalchemy.types import TypeDecorator, TypeEngine

from ..elements.q_bind import unpadded

MOST_BYTES = 60_000
MOST_DIGITS = 255
_NO_NUMBER = re.compile(r"NaN|Infinity")
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
    text = _text(values[0]) if len(values) == 1 else json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    if not 0 < len(text) <= 255:
        raise ValueError(f"a row key of {len(text)} characters; 1 to 255 are allowed")
    return text


def _text(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        raise ValueError("a row key of thousands of digits; 1 to 255 characters are allowed") from None


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
        try:
            texts = json.loads(text)
        except RecursionError:
            raise ValueError(f"no key of {model.__name__}: nested too deeply") from None
        if not isinstance(texts, list) or len(texts) != len(kinds):
            raise ValueError(f"{text!r} is no key of {model.__name__}: it has {len(kinds)} columns")
    return tuple(_held(_typed(value, kind)) for value, kind in zip(texts, kinds, strict=True))


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


def _held(value: Any) -> Any:
    """A key's value as databases hold it.

    Raises:
        ValueError: None of them does: a whole number of more than 64 bits, NaN, NUL, half a surrogate pair.
    """
    match value:
        case int():
            fits = -(2**63) <= value < 2**63
        case float():
            fits = math.isfinite(value)
        case Decimal():
            fits = value.is_finite() and -MOST_DIGITS <= value.adjusted() < MOST_DIGITS
        case _:
            fits = not isinstance(value, str) or as_text(value) == value
    if not fits:
        raise ValueError("a value that no database holds")
    return value


def to_json(value: Any) -> str:
    """A function's result as JSON text; what JSON cannot hold is kept as its `repr`, NaN and infinity as their names.

    No other place writes results, and `from_json` reads them.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
        if _NO_NUMBER.search(text):
            text = json.dumps(from_json(text), ensure_ascii=False, allow_nan=False)
    except Exception:  # noqa: BLE001  a value's own `__str__` may raise anything, and the function has done its work
        text = json.dumps(_repr(value), ensure_ascii=False)
    text = as_text(text)
    # In bytes: MariaDB's TEXT holds 65,535 of them.
    return text if len(text.encode()) <= MOST_BYTES else json.dumps(text[:1000] + "… (cut)", ensure_ascii=False)


def from_json(text: str) -> Any:
    """A result as the ledger has it; NaN and infinity, which earlier versions wrote, are their names."""
    return json.loads(text, parse_constant=str)


def as_text(text: str) -> str:
    """A text as every database takes it: no NUL, no half of a surrogate pair."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  as above
        return f"<{type(value).__name__}>"
