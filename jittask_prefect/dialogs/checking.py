"""The check of a submitted form: each value fits its field, and no text is markup or a template."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jittask_prefect.dialogs.fields import LINE_LENGTH, Field, Form, Json
from jittask_prefect.elements.config_texts import safe_text
from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.validation import shown

EMPTY: tuple[Any, ...] = (None, "", [])
MAX_NUMBER = 10_000_000_000
"""The largest number of a form: 300 years in seconds."""
MAX_LIST = 100
HTML = re.compile(r"<[A-Za-z/!?]")
INVISIBLE = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\u202a-\u202e\u2066-\u2069]"
)
"""Control characters, halves of characters, and characters that turn the direction of the text around them."""
WITHOUT_HTML = ("title", "description", "tags", "row", "taskId")


def filled_in(form: Form) -> Json:
    """The fields of a form that are not empty, lines without blanks at their ends."""
    found = {
        name: value.strip() if isinstance(value, str) and name != "code" else value
        for name, value in form.items()
    }
    return {
        name: value
        for name, value in found.items()
        if value not in EMPTY and not (name == "code" and not str(value).strip())
    }


def checked(form: Form, fields: Sequence[Field]) -> Json:
    """The filled-in fields, each of its field's kind.

    Args:
        form: The submitted values.
        fields: The fields of the form.

    Raises:
        ConfigError: With every field whose value does not fit.
    """
    values, known = filled_in(form), {field.name for field in fields}
    problems = [
        Problem("", name, "a value", "nothing: the form has no such field")
        for name in values
        if name not in known
    ]
    found: Json = {}
    for field in fields:
        if field.name not in values:
            if field.required:
                allowed = "it must be filled in"
                problems.append(Problem("", field.title, "nothing", allowed))
            continue
        value = values[field.name]
        try:
            found[field.name] = _value(field.schema, value, field.name)
        except ValueError as error:
            problems.append(Problem("", field.title, shown(value), str(error)))
    if problems:
        raise ConfigError(problems)
    return found


def _value(schema: Form, value: Any, name: str) -> Any:
    kind = schema["type"]
    if kind == "array":
        if not isinstance(value, list) or len(value) > MAX_LIST:
            raise ValueError(f"a list of at most {MAX_LIST}")
        return [_value(schema["items"], item, name) for item in value]
    if kind == "boolean":
        if not isinstance(value, bool):
            raise ValueError("on or off")
        return value
    if kind in ("integer", "number"):
        return _number(value, schema["minimum"], whole=kind == "integer")
    if not isinstance(value, str):
        raise ValueError("a text")
    most = schema.get("maxLength", LINE_LENGTH)
    if len(value) > most:
        raise ValueError(f"at most {most} characters, not {len(value)}")
    return value if name == "code" else _text(schema, value, name)


def _number(value: Any, low: int, *, whole: bool) -> Any:
    fits = isinstance(value, int if whole else (int, float))
    if fits and not isinstance(value, bool) and low <= value <= MAX_NUMBER:
        return value
    raise ValueError(f"a number of {low} or more, up to {MAX_NUMBER}")


def _text(schema: Form, value: str, name: str) -> str:
    safe_text(value)
    if INVISIBLE.search(value):
        raise ValueError(
            "a text without control characters, marks of direction and halves of characters"
        )
    if "enum" in schema:
        if value not in schema["enum"]:
            raise ValueError("one of the drop-down's")
        return value
    if "pattern" in schema and not re.search(schema["pattern"], value):
        raise ValueError(f"what matches {schema['pattern']}")
    if schema.get("format") == "date" and not re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        raise ValueError("a day as yyyy-MM-dd")
    if "../" in value or "..\\" in value:
        raise ValueError("a text without ../")
    if name in WITHOUT_HTML and HTML.search(value):
        raise ValueError("a text without HTML")
    return value
