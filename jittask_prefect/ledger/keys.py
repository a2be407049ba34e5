"""Row keys as the ledger's text and back, and results as JSON."""

from __future__ import annotations

import enum
import json
import math
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, TypeGuard
from weakref import WeakKeyDictionary

from sqlalchemy import BINARY, URL, Dialect, Interval
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.types import TypeDecorator, TypeEngine

from jittask_prefect.errors import JittaskError
from jittask_prefect.filters.columns import unpadded

MOST_BYTES = 60_000
MOST_DIGITS = 255
_NO_NUMBER = re.compile(r"NaN|Infinity")
_EXACT = (bool, int, str, uuid.UUID, date, datetime)
"""Types whose values are read back from their text as they were, whatever the value."""
_codecs: WeakKeyDictionary[Any, dict[str, _Codec]] = WeakKeyDictionary()


class NoKey(JittaskError, ValueError):
    """The text is no key of the model."""


def key_of(row: Any, dialect: str) -> str:
    """A row's key as text; see `key_text`."""
    mapper = sa_inspect(type(row))
    values = [
        getattr(row, mapper.get_property_by_column(c).key) for c in mapper.primary_key
    ]

    return key_text(mapper.primary_key, values, dialect)


def key_text(columns: Sequence[Any], key: Sequence[Any], dialect: str) -> str:
    """The values of a row's key columns as text: the value itself, or a JSON list where there are several.

    The text is that of the value in the database, not of a TypeDecorator's value. A row has the same text whether its
    values were assigned or come from the database: PostgreSQL fills up a CHAR with spaces, MariaDB
    takes those at its end away. In SQLite such spaces tell keys apart.

    Args:
        columns: The model's key columns.
        key: Their values.
        dialect: The name of the database's kind.

    Raises:
        ValueError: The text is empty, longer than the 255 characters that the ledger keeps, or not to be read back.
    """
    values = [
        _codec(column, dialect).plain(value)
        for column, value in zip(columns, key, strict=True)
    ]
    text = (
        _text(values[0])
        if len(values) == 1
        else json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    )

    if not 0 < len(text) <= 255:
        raise ValueError(f"a row key of {len(text)} characters; 1 to 255 are allowed")

    return text


def _text(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        raise ValueError(
            "a row key of thousands of digits; 1 to 255 characters are allowed"
        ) from None


def key_value(model: type[Any], text: str, dialect: str) -> tuple[Any, ...]:
    """The key columns' values of a key text, as `Session.get` takes them.

    Raises:
        NoKey: The text is no key of the model, or the key's type cannot read the text.
    """
    columns = sa_inspect(model).primary_key
    try:
        texts: list[Any] = [text] if len(columns) == 1 else json.loads(text)
        if not isinstance(texts, list) or len(texts) != len(columns):
            raise ValueError(f"it has {len(columns)} columns")

        parts = zip(columns, texts, strict=True)

        return tuple(
            _held(_codec(column, dialect).value(part)) for column, part in parts
        )
    except Exception as error:  # a TypeDecorator's own code may raise anything
        raise NoKey(f"{text!r} is no key of {model.__name__}: {error}") from error


_SAMPLES: dict[type[Any], Any] = {
    bool: True,
    int: 1,
    float: 1.5,
    str: "a",
    bytes: b"a",
    Decimal: Decimal("1.5"),
    uuid.UUID: uuid.UUID(int=1),
    date: date(2026, 1, 1),
    datetime: datetime(2026, 1, 1, 9),
    time: time(9),
    timedelta: timedelta(hours=1),
}
"""By the Python type of a column, a value that a database may hold."""


def key_problem(model: type[Any], dialect: str) -> str | None:
    """Why keys of a model cannot be kept as text, as a round trip of sample values tells; None where they can."""
    for column in sa_inspect(model).primary_key:
        codec = _codec(column, dialect)
        sample = _SAMPLES.get(codec.kind)
        if issubclass(codec.kind, enum.Enum):
            sample = next(iter(codec.kind), None)
        try:
            value = codec.loaded(sample)
        except Exception:  # noqa: BLE001  a type of the team's own may take other values only
            continue
        try:
            if sample is not None:
                codec.plain(value)
        except ValueError as error:
            return f"{column.name}: {error}"

    return None


class _Codec:
    """A key column's values as plain ones, which JSON holds, and back.

    Args:
        of: The column's type.
        dialect: The name of the database's kind.
    """

    def __init__(self, of: TypeEngine[Any], dialect: str) -> None:
        self.dialect = _dialect(dialect)
        self.bare = of  # as declared: a driver's own type of texts knows no padding

        while _decorates(self.bare):
            self.bare = self.bare.impl_instance

        of, self.decorators = of.dialect_impl(self.dialect), []

        while _decorates(of):
            self.decorators.append(of)
            of = of.impl_instance

        self.of = of
        self.kind = python_type(of)
        self.own = (
            self.kind is object
        )  # a type of the team's own, which only its processors know
        ways = ("process_bind_param", "process_result_value")
        changes = [d for d in self.decorators for way in ways if _overrides(d, way)]
        self.exact = not changes and self.kind in _EXACT

    def plain(self, value: Any) -> Any:
        if self.exact:
            return value if type(value) is int else _plain(self._stored(value))

        try:
            found = _plain(self._stored(value))
            back = _plain(self._stored(self.value(found)))
        except Exception as error:
            raise ValueError(
                f"the key {value!r} cannot be kept as text: {error}"
            ) from error

        if back != found:
            raise ValueError(f"the key {value!r} cannot be read back from {found!r}")

        return found

    def value(self, plain: Any) -> Any:
        found = _typed(plain, self.kind)
        if self.own and (reads := self.of.result_processor(self.dialect, None)):
            found = reads(found)

        return self.loaded(found)

    def loaded(self, stored: Any) -> Any:
        """A value of the database's own type, as the model has it."""
        for decorator in reversed(self.decorators):
            if _overrides(decorator, "process_result_value"):
                stored = decorator.process_result_value(stored, self.dialect)

        return stored

    def _stored(self, value: Any) -> Any:
        """A value as the database holds it."""
        for decorator in self.decorators:
            if _overrides(decorator, "process_bind_param"):
                value = decorator.process_bind_param(value, self.dialect)

        if self.own and (writes := self.of.bind_processor(self.dialect)):
            value = writes(value)

        if isinstance(value, (bytearray, memoryview)):
            value = bytes(value)

        name = self.dialect.name

        if isinstance(value, str) and name != "sqlite":
            return unpadded(self.bare, value)

        if (
            isinstance(value, bytes)
            and name in ("mysql", "mariadb")
            and isinstance(self.of, BINARY)
        ):
            return value.ljust(self.of.length or 0, b"\0")

        if isinstance(value, datetime) and value.tzinfo is not None:
            # A column without a zone drops the zone; PostgreSQL gives an instant in the zone of its session.
            keeps = name == "postgresql" or self.decorators
            return value.astimezone(UTC) if keeps else value.replace(tzinfo=None)

        return value


def _codec(column: Any, dialect: str) -> _Codec:
    # By type: two columns are compared by making an SQL expression.
    known = _codecs.setdefault(column.type, {})
    if dialect not in known:
        known[dialect] = _Codec(column.type, dialect)

    return known[dialect]


@cache
def _dialect(name: str) -> Dialect:
    return URL.create(name).get_dialect()()


def _overrides(decorator: TypeDecorator[Any], method: str) -> bool:
    return getattr(type(decorator), method) is not getattr(TypeDecorator, method)


def _decorates(of: TypeEngine[Any]) -> TypeGuard[TypeDecorator[Any]]:
    return isinstance(of, TypeDecorator) and not isinstance(
        of, Interval
    )  # which is SQLAlchemy's own


def python_type(of: TypeEngine[Any]) -> type[Any]:
    """The Python type of a column's values; of a TypeDecorator (SQLModel's AutoString) that of the decorated type."""
    while _decorates(of):
        of = of.impl_instance

    try:
        return of.python_type
    except NotImplementedError:
        return object


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.name  # as SQLAlchemy keeps it

    if isinstance(value, Decimal):
        return f"{value.normalize():f}"  # 1.5 and 1.50 are equal

    if isinstance(value, bytes):
        return value.hex()

    if isinstance(value, timedelta):
        return str(value // timedelta(microseconds=1))

    return (
        value
        if isinstance(value, (int, str)) and not isinstance(value, bool)
        else str(value)
    )


def _typed(value: Any, kind: type[Any]) -> Any:
    if isinstance(value, kind):
        return value

    if issubclass(kind, enum.Enum):
        return kind[str(value)]

    if kind is bool:
        return {"True": True, "False": False}[str(value)]

    if kind is bytes:
        return bytes.fromhex(str(value))

    if kind is timedelta:
        return timedelta(microseconds=int(value))

    if issubclass(kind, (datetime, date, time)):
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
    """A function's result as JSON text; a value that JSON cannot hold as its `repr`, NaN and infinity as their names.

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
    return (
        text
        if len(text.encode()) <= MOST_BYTES
        else json.dumps(text[:1000] + "… (cut)", ensure_ascii=False)
    )


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
