"""Frozen, validated shapes for what users write: every mistake named by key, found and allowed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.errors.printable import has_surrogates

MAX_DEPTH = 50
"""How deep objects and lists may lie in each other."""


class StrictModel(BaseModel):
    """Base of all shapes: frozen, strict about types, closed to unknown keys.

    A validator refuses a value with `raise ValueError("<allowed>")`; the text becomes the problem's *allowed*.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, populate_by_name=True
    )

    @classmethod
    def read(cls, raw: object, key: str = "") -> Self:
        """Validate parsed JSON.

        Args:
            raw: What the file holds under `key`.
            key: The path to it within its file, for messages.

        Raises:
            ConfigError: With every problem at once.
        """
        if not isinstance(raw, Mapping):
            raise ConfigError(Problem("", key, shown(raw), "an object"))
        sound, problems = sanitized(raw, key)
        told = {p.key for p in problems}
        try:
            found = cls.model_validate(sound)
        except ValidationError as error:
            problems += [
                p for p in pydantic_problems(error, cls, key) if p.key not in told
            ]
        if problems:
            raise ConfigError(problems)
        return found


def sanitized(raw: Any, key: str = "") -> tuple[Any, list[Problem]]:
    """Parsed JSON without what no database, no server and no writer of JSON takes, and a problem for each of these.

    Args:
        raw: The value.
        key: The path to it within its file, for messages.

    Returns:
        The value, changed where there are problems only; and the problems.
    """
    problems: list[Problem] = []
    return _sanitized(raw, key, 1, problems), problems


def _sanitized(value: Any, path: str, depth: int, problems: list[Problem]) -> Any:
    if isinstance(value, Mapping | list | tuple) and depth > MAX_DEPTH:
        problems.append(
            Problem(
                "",
                path,
                f"more than {MAX_DEPTH} levels",
                f"JSON of at most {MAX_DEPTH} levels",
            )
        )
        return None
    if isinstance(value, Mapping):
        found = {}
        for name, inner in value.items():
            if isinstance(name, str) and has_surrogates(name):
                problems.append(
                    Problem(
                        "",
                        path,
                        f"the key {shown(name)}",
                        "a key without half a surrogate pair",
                    )
                )
                continue
            found[name] = _sanitized(
                inner, f"{path}.{name}" if path else str(name), depth + 1, problems
            )
        return found
    if isinstance(value, list | tuple):
        return type(value)(
            _sanitized(inner, f"{path}.{n}", depth + 1, problems)
            for n, inner in enumerate(value)
        )
    if isinstance(value, str) and has_surrogates(value):
        problems.append(
            Problem("", path, shown(value), "a text without half a surrogate pair")
        )
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(Problem("", path, shown(value), "a finite number"))
    return value


MAX_PROBLEMS = 50
"""Mistakes of one object that are told one by one."""


def shown(value: object) -> str:
    """A value as a message shows it: JSON, shortened."""
    try:
        try:
            text = json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError):
            text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} that is nested too deeply"
    except ValueError:
        text = f"a {type(value).__name__} of thousands of digits"
    return text if len(text) <= 80 else text[:77] + "…"


def quoted(value: object) -> str:
    """A value of a Python caller as a message shows it: as Python writes it, shortened, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  an int of 5,000 digits, a list in itself, a class of the caller's own
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= 80 else text[:77] + "…"


def pydantic_problems(
    error: ValidationError, shape: type[BaseModel], key: str = ""
) -> list[Problem]:
    """Pydantic's errors as problems, one for each key."""
    found: dict[str, Problem] = {}
    every = error.errors(include_url=False)
    for item in every[:MAX_PROBLEMS]:
        path = ".".join(
            str(part) for part in (key, *_without_tags(item["loc"])) if str(part) != ""
        )
        allowed = _allowed(item, shape)
        value = "nothing" if item["type"] == "missing" else shown(item["input"])
        if path in found:
            earlier = found[path]
            if allowed not in earlier.allowed:
                found[path] = Problem(
                    "", path, earlier.found, f"{earlier.allowed}, or {allowed}"
                )
            continue
        found[path] = Problem("", path, value, allowed)
    if len(every) > MAX_PROBLEMS:
        found[""] = Problem(
            "",
            key,
            f"{len(every) - MAX_PROBLEMS} more mistakes",
            "none: correct these first",
        )
    return list(found.values())


def _without_tags(loc: tuple[int | str, ...]) -> list[int | str]:
    """The path without the names that pydantic adds for the branches of a union."""
    tags = (
        "[key]",
        "list[",
        "constrained-",
        "function-",
        "literal[",
        "tuple[",
        "dict[",
        "union[",
    )
    plain = {"int", "str", "float", "bool", "date", "datetime"}
    return [
        part
        for part in loc
        if not (isinstance(part, str) and (part.startswith(tags) or part in plain))
    ]


def _allowed(item: Any, shape: type[BaseModel]) -> str:
    if item["type"] == "extra_forbidden":
        holder = _holder(shape, item["loc"][:-1])
        keys = (
            sorted(field.alias or name for name, field in holder.model_fields.items())
            if holder
            else []
        )
        return f"no such key; the keys are {', '.join(keys)}" if keys else "no such key"
    if item["type"] == "missing":
        return "this key is required"
    if item["type"] in ("model_type", "dict_type", "model_attributes_type"):
        return "an object"
    message = str(item["msg"])
    return message.removeprefix("Value error, ").removeprefix("Input should be ")


def _holder(
    shape: type[BaseModel], loc: tuple[int | str, ...]
) -> type[BaseModel] | None:
    """The shape that a path leads to; None where it leads through lists or unions of shapes."""
    for part in loc:
        kinds = [
            field.annotation
            for name, field in shape.model_fields.items()
            if part in (name, field.alias)
        ]
        kinds = [kind for each in kinds for kind in (get_args(each) or (each,))]
        inner = [
            kind
            for kind in kinds
            if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        if len(inner) != 1:
            return None
        shape = inner[0]
    return shape
