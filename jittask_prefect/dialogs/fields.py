"""What a form is made of, as the JSON schema that the UI draws it from, and as a flow's signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_PYTHON: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list,
}
LINE, TEXT = 200, 20_000
"""How long one line, and a longer text, may be."""


@dataclass(frozen=True)
class Field:
    """One field of a form.

    Attributes:
        name: The parameter's name.
        title: What stands above it.
        schema: Its JSON schema, without title and default.
        about: What stands beneath the title.
        required: Whether it must be filled in.
        default: What it holds at first; None: nothing.
    """

    name: str
    title: str
    schema: Mapping[str, Any]
    about: str = ""
    required: bool = False
    default: Any = None

    def as_property(self, position: int) -> dict[str, Any]:
        """Its part of the form's schema."""
        found = {"title": self.title, "position": position, **self.schema}
        if self.about:
            found["description"] = self.about
        if self.default is not None:
            found["default"] = self.default
        return found


def line(
    name: str, title: str, about: str = "", *, pattern: str | None = None, **more: Any
) -> Field:
    """A text of one line."""
    limits = {"maxLength": LINE} if pattern is None else {"pattern": pattern}
    return Field(name, title, {"type": "string", **limits}, about, **more)


def text(name: str, title: str, about: str = "", **more: Any) -> Field:
    """A longer text."""
    return Field(name, title, {"type": "string", "maxLength": TEXT}, about, **more)


def clock(name: str, title: str, about: str = "HH:mm", **more: Any) -> Field:
    """A clock time."""
    return line(
        name, title, about, pattern=r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$", **more
    )


def day(name: str, title: str, about: str = "", **more: Any) -> Field:
    """A date, with a picker."""
    return Field(name, title, {"type": "string", "format": "date"}, about, **more)


def whole(
    name: str, title: str, about: str = "", *, low: int = 0, **more: Any
) -> Field:
    """A whole number."""
    return Field(name, title, {"type": "integer", "minimum": low}, about, **more)


def seconds(name: str, title: str, about: str = "Seconds", **more: Any) -> Field:
    """A length of time."""
    return Field(name, title, {"type": "number", "minimum": 0}, about, **more)


def flag(name: str, title: str, about: str = "", **more: Any) -> Field:
    """A switch."""
    return Field(name, title, {"type": "boolean"}, about, **more)


def choice(
    name: str, title: str, options: Sequence[str], about: str = "", **more: Any
) -> Field:
    """One of several, from a drop-down."""
    return Field(name, title, {"type": "string", "enum": list(options)}, about, **more)


def choices(
    name: str, title: str, options: Sequence[str], about: str = "", **more: Any
) -> Field:
    """Some of several."""
    items = {"type": "string", "enum": list(options)}
    return Field(name, title, {"type": "array", "items": items}, about, **more)


def lines(name: str, title: str, about: str = "", **more: Any) -> Field:
    """Several texts of one line."""
    return Field(
        name,
        title,
        {"type": "array", "items": {"type": "string", "maxLength": LINE}},
        about,
        **more,
    )


def json_text(name: str, title: str, about: str = "", **more: Any) -> Field:
    """JSON, with an editor."""
    return Field(
        name,
        title,
        {"type": "string", "format": "json-string", "maxLength": TEXT},
        about,
        **more,
    )


def schema(fields: Sequence[Field]) -> dict[str, Any]:
    """The JSON schema of a form, as a deployment has it."""
    return {
        "title": "Parameters",
        "type": "object",
        "properties": {
            field.name: field.as_property(number) for number, field in enumerate(fields)
        },
        "required": [field.name for field in fields if field.required],
        "definitions": {},
    }


def signed(function: Callable[..., Any], fields: Sequence[Field]) -> Callable[..., Any]:
    """A function of keyword arguments with the form's fields as its signature: `prefect deploy` reads it."""
    function.__signature__ = inspect.Signature([_parameter(field) for field in fields])  # type: ignore[attr-defined]
    return function


def _parameter(field: Field) -> inspect.Parameter:
    kind = _PYTHON[field.schema["type"]]
    if field.required:
        return inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, annotation=kind
        )
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=field.default,
        annotation=kind | None,
    )
