"""Frozen, validated models of files that users write: each mistake with its key, the value found and those allowed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    ValidationError,
)

from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.errors.printable import has_surrogates, without_addresses

MAX_DEPTH = 50
"""How deep objects and lists may lie in each other."""
MAX_PROBLEMS = 50
"""Mistakes of one object that are told singly."""
MAX_SHOWN = 80
"""Characters of a value in a message."""
_UNION = "union["
"""Begin of a tag in a union of models, `union[Level]`: the model's name follows."""
# Names that pydantic adds to a path for the branches of a union.
_BRANCHES = ("[key]", "list[", "constrained-", "function-", "literal[", "tuple[", "dict[", _UNION)  # fmt: skip
_PLAIN_WORDS = {
    "a valid string": "a text",
    "a valid number": "a number",
    "a valid integer": "a whole number",
    "a valid tuple": "a list",
    "a valid boolean": "true or false",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "more than",
}
"""Pydantic's words, and ours."""
_PLAIN_BRANCHES = {"int", "str", "float", "bool", "date", "datetime"}


def _flag(value: object) -> bool:
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value in ("0", "1"):  # as JitTask's forms write it
        return value == "1"
    raise ValueError("0 or 1")


Flag = Annotated[bool, BeforeValidator(_flag), PlainSerializer(int)]


class StrictModel(BaseModel):
    """Base of all models of files: frozen, strict about types, closed to unknown keys.

    A validator refuses a value with `raise ValueError("<allowed>")`; the text becomes the problem's *allowed*.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, populate_by_name=True
    )

    @classmethod
    def read(cls, raw: object, key: str = "") -> Self:
        """Validate parsed JSON.

        Args:
            raw: The value that the file holds under `key`.
            key: The path to the value within its file, for messages.

        Raises:
            ConfigError: With every problem at once.
        """
        if not isinstance(raw, Mapping):
            raise ConfigError(Problem("", key, shown(raw), "an object"))

        sound, problems = sanitized(raw, key)
        known = {problem.key for problem in problems}
        try:
            found = cls.model_validate(sound)
        except ValidationError as error:
            more = pydantic_problems(error, cls, key)
            problems += [problem for problem in more if problem.key not in known]

        if problems:
            raise ConfigError(problems)

        return found


def sanitized(raw: Any, key: str = "") -> tuple[Any, list[Problem]]:
    """Parsed JSON without the values that databases, servers and writers of JSON refuse, each of them a problem.

    Args:
        raw: The value.
        key: The path to the value within its file, for messages.

    Returns:
        The value, changed only where there are problems; and the problems.
    """
    problems: list[Problem] = []

    def refuse(path: str, found: str, allowed: str) -> None:
        problems.append(Problem("", path, found, allowed))

    return _sanitized(raw, key, 1, refuse), problems


def _sanitized(
    value: Any, path: str, depth: int, refuse: Callable[[str, str, str], None]
) -> Any:
    if isinstance(value, Mapping | list | tuple) and depth > MAX_DEPTH:
        allowed = f"JSON of at most {MAX_DEPTH} levels"
        refuse(path, f"more than {MAX_DEPTH} levels", allowed)
        return None

    if isinstance(value, Mapping):
        found = {}
        for name, inner in value.items():
            if isinstance(name, str) and has_surrogates(name):
                allowed = "a key without half a surrogate pair"
                refuse(path, f"the key {shown(name)}", allowed)
                continue

            below = f"{path}.{name}" if path else str(name)
            found[name] = _sanitized(inner, below, depth + 1, refuse)

        return found

    if isinstance(value, list | tuple):
        return type(value)(
            _sanitized(inner, f"{path}.{n}", depth + 1, refuse)
            for n, inner in enumerate(value)
        )

    if isinstance(value, str) and has_surrogates(value):
        refuse(path, shown(value), "a text without half a surrogate pair")
        return value.encode("utf-8", "replace").decode()

    if isinstance(value, float) and not math.isfinite(value):
        refuse(path, shown(value), "a finite number")

    return value


def shown(value: object) -> str:
    """A value as a message shows it: JSON, shortened."""
    try:
        try:
            text = json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError):
            text = _python(value)
    except RecursionError:
        text = f"a {type(value).__name__} that is nested too deeply"
    except ValueError:
        text = f"a {type(value).__name__} of thousands of digits"

    return _shortened(text)


def quoted(value: object) -> str:
    """A value of a Python caller as a message shows it: as Python writes it, shortened, whatever the value is."""
    try:
        text = _python(value)
    except Exception:  # noqa: BLE001  an int of 5,000 digits, a list in itself, a class of the caller's own
        text = f"a {type(value).__name__} that cannot be shown"

    return _shortened(text)


def _python(value: object) -> str:
    """A value as Python writes it: a mapped attribute by its name, other objects without their places in memory."""
    owner, key = getattr(value, "class_", None), getattr(value, "key", None)
    if isinstance(key, str) and owner is not None:
        return f"{getattr(owner, '__name__', owner)}.{key}"
    return repr(value) if isinstance(value, str) else without_addresses(repr(value))


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "…"


def pydantic_problems(
    error: ValidationError, model: type[BaseModel], key: str = ""
) -> list[Problem]:
    """Pydantic's errors as problems, at most a problem for each key."""
    found: dict[str, Problem] = {}
    errors = error.errors(include_url=False)
    for item in errors[:MAX_PROBLEMS]:
        path = ".".join(
            part for part in (key, *map(str, plain_path(item["loc"]))) if part
        )
        value = "nothing" if item["type"] == "missing" else shown(item["input"])
        allowed = _allowed(item, model)
        if path in found:
            value, earlier = found[path].found, found[path].allowed
            allowed = earlier if allowed in earlier else f"{earlier}, or {allowed}"

        found[path] = Problem("", path, value, allowed)

    if (more := len(errors) - MAX_PROBLEMS) > 0:
        allowed = "none: correct these first"
        found[""] = Problem("", key, f"{more} more mistakes", allowed)

    return list(found.values())


def plain_path(loc: tuple[int | str, ...]) -> list[int | str]:
    """The path without the names that pydantic adds for the branches of a union."""
    return [
        part
        for part in loc
        if not isinstance(part, str)
        or not (part.startswith(_BRANCHES) or part in _PLAIN_BRANCHES)
    ]


def _allowed(item: Any, model: type[BaseModel]) -> str:
    """The allowed values of a pydantic error."""
    if item["type"] == "extra_forbidden":
        holder = _holder(model, item["loc"][:-1])
        fields = holder.model_fields if holder else {}
        keys = sorted(field.alias or name for name, field in fields.items())
        return f"no such key; the keys are {', '.join(keys)}" if keys else "no such key"

    if item["type"] == "missing":
        return "this key is required"
    if item["type"] in ("model_type", "dict_type", "model_attributes_type"):
        return "an object"

    message = str(item["msg"])
    text = message.removeprefix("Value error, ").removeprefix("Input should be ")
    for said, plain in _PLAIN_WORDS.items():
        text = text.replace(said, plain)
    return text


def _holder(
    model: type[BaseModel], loc: tuple[int | str, ...]
) -> type[BaseModel] | None:
    """The model that a path leads to; None where that is not certain."""
    tags = {part for part in loc if isinstance(part, str) and part.startswith(_UNION)}
    for part in plain_path(loc):
        if isinstance(part, int):
            continue

        inner = [
            each
            for name, field in model.model_fields.items()
            if part in (name, field.alias)
            for each in _models(field.annotation)
        ]
        named = [each for each in inner if f"{_UNION}{each.__name__}]" in tags]
        if len(named or inner) != 1:
            return None

        [model] = named or inner

    return model


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models in a type: in its unions, lists and tuples."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models(part)]
