"""The shape of the Prefect API's answers, as far as this package reads them: what has another shape is no answer.

A proxy's page, an empty body or another service's JSON is told apart here, once for all who ask.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

Check = Callable[[Any], str | None]
"""Says what is wrong with an answer; None where nothing is."""


def text(value: Any) -> bool:
    """A text."""
    return isinstance(value, str)


def optional(value: Any) -> bool:
    """A text or null."""
    return value is None or isinstance(value, str)


def moment(value: Any) -> bool:
    """An instant as ISO text, or null."""
    if value is None:
        return True
    try:
        return (
            isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
        )
    except ValueError:
        return False


def texts(value: Any) -> bool:
    """A list of texts."""
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def mapping(value: Any) -> bool:
    """An object or null."""
    return value is None or isinstance(value, dict)


def state(value: Any) -> bool:
    """A run's state or null."""
    return value is None or (
        isinstance(value, dict)
        and text(value.get("type"))
        and moment(value.get("timestamp"))
    )


def kind(value: Any) -> bool:
    """A block's type."""
    return isinstance(value, dict) and text(value.get("slug"))


def slots(value: Any) -> bool:
    """A deployment's schedules."""
    return isinstance(value, list) and all(
        isinstance(one, dict)
        and text(one.get("id"))
        and isinstance(one.get("active"), bool)
        for one in value
    )


def rows(value: Any) -> bool:
    """A table's rows as JSON."""
    try:
        found = json.loads(value)
    except (TypeError, ValueError):
        return False
    return isinstance(found, list) and all(isinstance(row, dict) for row in found)


Shape = Mapping[str, Callable[[Any], bool]]
MADE: Shape = {"id": text}
POOL: Shape = {"type": text}
RUN: Shape = {
    "id": text, "name": text, "deployment_id": optional, "state_type": optional, "state": state, "tags": texts,
    "expected_start_time": moment, "start_time": moment, "end_time": moment, "created": moment, "parameters": mapping,
    "idempotency_key": optional,
}  # fmt: skip
DEPLOYMENT: Shape = {
    "id": text, "name": text, "tags": texts, "entrypoint": optional, "parameters": mapping, "schedules": slots,
    "created": moment,
}  # fmt: skip
SET: Shape = {"status": text, "state": state}
LOG: Shape = {
    "message": text,
    "level": lambda value: isinstance(value, int),
    "timestamp": moment,
}
TABLE: Shape = {"data": rows}
AUTOMATION: Shape = {"id": text, "name": text}
BLOCK: Shape = {"id": text, "name": optional, "block_type": kind}


def one(shape: Shape) -> Check:
    """An object of a shape."""

    def check(found: Any) -> str | None:
        if not isinstance(found, dict):
            return f"{_kind(found)} instead of an object"
        wrong = next(
            (key for key, fits in shape.items() if not fits(found.get(key))), None
        )
        return (
            None
            if wrong is None
            else f"an object whose {wrong} is {_kind(found.get(wrong))}"
        )

    return check


def each(shape: Shape) -> Check:
    """A list of objects of a shape."""
    of_one = one(shape)

    def check(found: Any) -> str | None:
        if not isinstance(found, list):
            return f"{_kind(found)} instead of a list"
        return next((wrong for entry in found if (wrong := of_one(entry))), None)

    return check


def number(found: Any) -> str | None:
    """A whole number."""
    return (
        None
        if isinstance(found, int) and not isinstance(found, bool)
        else f"{_kind(found)} instead of a number"
    )


def anything(_found: Any) -> str | None:
    """Whatever is JSON: nobody reads it."""
    return None


def _kind(value: Any) -> str:
    kinds = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "a truth value",
        int: "a number",
    }
    return "nothing" if value is None else kinds.get(type(value), "a number")
