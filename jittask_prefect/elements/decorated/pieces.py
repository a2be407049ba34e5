"""The form that offsets and rules of a decorated task share. Each piece stands for some keys of an `e.json`.

A piece only keeps its arguments, frozen. Their values are checked when the app loads (`declared.py`).
Only the standard library is imported: a module with tasks costs a web process nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import time
from typing import Any, ClassVar, TypeAlias

Clock: TypeAlias = str | time
"""A clock time in the task's zone: `"09:00"`, `"09:00:30"` or `datetime.time(9)`."""


@dataclass(frozen=True, repr=False)
class Piece:
    """A part of a task's rule."""

    _star: ClassVar[str] = ""
    _first: ClassVar[str] = ""

    def __repr__(self) -> str:
        """The call that makes the piece, without the arguments that are absent."""
        shown: list[str] = []
        for each in fields(self):
            value, absent = getattr(self, each.name), each.default
            if each.name == self._star:
                shown += map(repr, value)
            elif each.name == self._first and value is not None:
                shown.append(_named(value))
            elif type(value) is not type(absent) or value != absent:
                shown.append(f"{each.name}={value!r}")

        return f"{type(self).__name__}({', '.join(shown)})"

    def _keep(self, **arguments: Any) -> None:
        for name, value in arguments.items():
            object.__setattr__(self, name, value)


def frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _named(attribute: Any) -> str:
    """A mapped attribute as code names the attribute: `Invoice.due_on`."""
    owner, key = getattr(attribute, "class_", None), getattr(attribute, "key", None)
    named = isinstance(owner, type) and isinstance(key, str)
    return f"{owner.__name__}.{key}" if named else repr(attribute)  # type: ignore[union-attr]
