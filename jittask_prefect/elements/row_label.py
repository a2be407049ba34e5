"""The name of a row for people, where the model has one: a field of the row, or a method without arguments.

Never `__str__`: of many classes that prints every field.
"""

from __future__ import annotations

import inspect
import unicodedata
from datetime import date, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy.orm import RelationshipProperty

from jittask_prefect.elements.models import mapper_of
from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.errors.printable import JOINERS
from jittask_prefect.validation import quoted

KEY = "rowLabel"
LONGEST = 60
"""Characters of a label; longer ones are cut."""
ALLOWED = (
    "a field of the model, or a method of it without arguments, whose text names a row"
)
_READ = 1000
_PLAIN = (str, int, float, Decimal, date, time, UUID)


def check_label(model: type[Any], name: str, key: str = KEY) -> None:
    """Refuse a name that is neither a field of a model nor a method that can be called without arguments.

    Args:
        model: The class.
        name: The name.
        key: The key or argument that states the name.

    Raises:
        ConfigError: The reason, with the fields that there are.
    """
    if found := _unfit(model, name):
        mapper = mapper_of(model)
        fields = ", ".join(each.key for each in mapper.column_attrs) if mapper else ""
        allowed = f"{ALLOWED}; the fields are {fields or 'none'}"
        raise ConfigError(Problem("", key, found, allowed))


def is_column(model: type[Any], name: str) -> bool:
    """Whether a label is a mapped column, which can be read without the rest of the row."""
    mapper = mapper_of(model)
    return mapper is not None and name in mapper.column_attrs


def _unfit(model: type[Any], name: str) -> str:
    """Why a name cannot be a label's; empty for a good one."""
    if not name.isidentifier() or name.startswith("__"):
        return quoted(name)
    mapper = mapper_of(model)
    if mapper is not None and mapper.has_property(name):
        related = isinstance(mapper.get_property(name), RelationshipProperty)
        return f"{name}, which leads to other rows" if related else ""

    attribute = inspect.getattr_static(model, name, None)
    if attribute is None:
        return f"{name}, which {model.__name__} does not have"
    if inspect.iscoroutinefunction(attribute):
        return f"{name}, which is async"
    if not inspect.isfunction(attribute):
        computed = hasattr(type(attribute), "__get__")
        static = isinstance(attribute, staticmethod | classmethod)
        return "" if computed and not static else f"{name}, which is no method"
    try:
        inspect.signature(attribute).bind(None)
    except TypeError:
        return f"{name}{inspect.signature(attribute)}, which needs arguments"
    return ""


def label_of(row: Any, name: str) -> str:
    """The label of a row; empty where the row has none.

    Args:
        row: The row, attached to a session where its method needs related rows.
        name: The field or method that the model, or the task, states.

    Raises:
        TypeError: The value is no text, number or date.
        Exception: Whatever the team's method raises.
    """
    value = getattr(row, name)
    if callable(value) and not isinstance(value, Enum):
        value = value()
    return label_text(value, name)


def label_text(value: object, name: str) -> str:
    """A value as a label: a line without control characters, of at most `LONGEST` characters.

    Args:
        value: The value of the field, or the answer of the method.
        name: The field or method, for the error's text.

    Raises:
        TypeError: The value is no text, number or date.
    """
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        return ""
    if not isinstance(value, _PLAIN):
        close = getattr(value, "close", None)
        if inspect.iscoroutine(value) and close is not None:
            close()  # else Python warns that nobody awaited the coroutine
        kind = type(value).__name__
        raise TypeError(f"{name} gives a {kind}; allowed: a text, a number or a date")
    text = " ".join("".join(map(_shown, str(value)[:_READ])).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…"


def _shown(character: str) -> str:
    """A character as a label shows it: a blank for an end of line or a control character, none for a mark of direction."""
    if character.isprintable() or character in JOINERS:
        return character
    return "" if unicodedata.category(character) == "Cf" else " "
