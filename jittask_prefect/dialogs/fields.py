"""A field of a form: its JSON schema for the UI, its parameter of the flow, and its key in e.json."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from jittask_prefect.dialogs.words import SWITCH

_PYTHON_TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list,
}
Json = dict[str, Any]
"""An object of JSON."""
Form = Mapping[str, Any]
"""The values of a form, by names of fields."""
_PLACE = "#/definitions/{}%20of%20the%20app"
"""Where a drop-down's definition stands, by its source.

Prefect's form takes this place as it is written, and finds a list. Its server decodes the place, as RFC 6901 says, and
finds a text. So people choose from the list, and a program may give a name alone, or one that the list does not have yet.
"""
LINE_LENGTH = 200
LINE = {"type": "string", "maxLength": LINE_LENGTH}
TEXT = {"type": "string", "maxLength": 20_000}
JSON = {**TEXT, "format": "json-string"}
LINES = {"type": "array", "items": LINE}
CLOCK = {"type": "string", "pattern": r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$"}
DAY = {"type": "string", "format": "date"}
SECONDS = {"type": "number", "minimum": 0}
FLAG = {"type": "boolean"}


@dataclass(frozen=True)
class Field:
    """A field of a form.

    Attributes:
        name: The parameter's name.
        title: The label.
        schema: The JSON schema, without title, description and default.
        about: The help text.
        example: A value that the help text shows.
        if_empty: The value of an empty field of a new task, for the help text.
        required: Whether the form refuses an empty field.
        default: The content of a fresh form; None for nothing.
        key: The path in e.json, e.g. `missed.grace`; empty where code of its own reads and writes the field.
        words: The form's words for the values in e.json.
        usual: The value in e.json that an absent key means.
        rows: True for a field of date-field tasks only, False for a field of scheduled tasks only.
        clearable: Whether a task works without the field.
        parent: The field without which this field says nothing.
        cycles: The repeat types that take the field; empty where the repeat type is of no account.
        source: The name of the options in `options.py` that fill the drop-down.
        labels: The drop-down's texts for people, by value; empty where the values speak for themselves.
    """

    name: str
    title: str
    schema: Form
    about: str = ""
    example: str = ""
    if_empty: str = ""
    required: bool = False
    default: Any = None
    key: str = ""
    words: Mapping[Any, str] = field(default_factory=dict)
    usual: Any = None
    rows: bool | None = None
    clearable: bool = True
    parent: str = ""
    cycles: Sequence[str] = ()
    source: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def switch(self) -> bool:
        """Whether the field is on or off."""
        return bool(self.schema["type"] == "boolean")

    def to_form(self, value: Any) -> Any:
        """A value of e.json as the form shows it."""
        if self.switch:
            return bool(value)
        if self.schema["type"] == "array" and isinstance(value, int):
            value = [value]
        if self.words and isinstance(value, list | tuple):
            return [self.words[each] for each in value]
        if self.words:
            return self.words.get(value)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return list(value) if isinstance(value, tuple) else value

    def to_json(self, value: Any) -> Any:
        """A value of the form as e.json has it; a switch of the form for editing says On or Off."""
        if self.switch:
            return int(value in (True, SWITCH[True]))
        meanings = {word: meaning for meaning, word in self.words.items()}
        if meanings and isinstance(value, list):
            return [meanings[each] for each in value]
        return meanings[value] if meanings else value

    @property
    def help(self) -> str:
        """The help text: meaning, example, effect of an empty field, and the code in e.json."""
        example = self.example and f"e.g. {self.example}"
        empty = self.if_empty and f"{self.if_empty} where empty"
        meaning = ", ".join(filter(None, (self.about, example)))
        told = "; ".join(filter(None, (meaning, empty)))
        code = f"Code: {self.key or self.name}"
        return f"{told}. {code}" if told else code

    def as_property(self, position: int) -> Json:
        """The field's part of the form's schema."""
        found = {"title": self.title, "position": position, **self.choices()}
        found["description"] = self.help
        if self.default is not None:
            found["default"] = self.default
        return found

    def choices(self) -> Json:
        """The schema of the value; where values have labels, the place of their list."""
        return {"$ref": self._place} if self.labels else dict(self.schema)

    @property
    def _place(self) -> str:
        return _PLACE.format(quote(self.source))

    def definitions(self) -> Json:
        """The list that the form finds in the place of the labels, and the text that the server finds there."""
        if not self.labels:
            return {}
        place = self._place.rpartition("/")[2]
        return {
            place: {"type": "string", "enum": list(self.labels.values())},
            unquote(place): {**LINE, "type": ["string", "null"]},
        }

    def as_parameter(self) -> inspect.Parameter:
        """The field's parameter in the signature of the flow."""
        kind = _PYTHON_TYPES[self.schema["type"]]
        return inspect.Parameter(
            self.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if self.required else self.default,
            annotation=kind if self.required else kind | None,
        )


def whole(low: int = 0) -> Json:
    """The schema of a whole number."""
    return {"type": "integer", "minimum": low}


def matching(pattern: str) -> Json:
    """The schema of a text that matches a regular expression."""
    return {"type": "string", "pattern": pattern}


def choice(
    name: str,
    title: str,
    options: Mapping[Any, str] | Sequence[str] = (),
    about: str = "",
    *,
    many: bool = False,
    **more: Any,
) -> Field:
    """A drop-down.

    Args:
        name: The parameter's name.
        title: The label.
        options: The options, or the form's words for the values in e.json.
        about: The help text.
        many: Whether several options may be chosen.
        more: Other attributes of `Field`.
    """
    words = options if isinstance(options, Mapping) else {}
    schema: Json = {"type": "string", "enum": list(words.values() or options)}
    if many:
        schema = {"type": "array", "items": schema}
    return Field(name, title, schema, about, words=words, **more)


def signed(
    function: Callable[..., Any], parameters: Sequence[inspect.Parameter]
) -> Callable[..., Any]:
    """A function of keyword arguments whose signature is the form: `prefect deploy` reads the signature."""
    signature = inspect.Signature(parameters)
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function


def titles_of(fields: Sequence[Field]) -> dict[str, str]:
    """The titles of fields, by name."""
    return {field.name: field.title for field in fields}
