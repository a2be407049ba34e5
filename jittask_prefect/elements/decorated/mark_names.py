"""Marked functions → the full names of their elements, and the marks that make none."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from jittask_prefect.elements.config_texts import NAME, NAME_TEXT, display_text
from jittask_prefect.elements.decorated.decorators import Mark
from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.validation import quoted


def source(mark: Mark, root: Path | None = None) -> str:
    """The place of a mark for people: `clinic/tasks.py, line 12`, relative to a folder."""
    return f"{short(mark.file, root)}, line {mark.line}"


def short(file: str, root: Path | None) -> str:
    """A file for people: relative to a folder that it is in."""
    inside = root is not None and Path(file).is_relative_to(root)
    return Path(file).relative_to(root).as_posix() if inside and root else file


def full_name(mark: Mark, root: Path | None = None) -> str:
    """The full name of a mark's element: `tasks.RemindPatient` of `remind_patient`.

    Raises:
        ConfigError: The function has no such name, and the mark names none.
    """
    given = mark.arguments.get("name")
    function = getattr(mark.function, "__name__", "")
    if given is None:
        parts = function.split("_")
        name: object = "".join(part[:1].upper() + part[1:] for part in parts)
    else:
        name = given

    if isinstance(name, str) and NAME.fullmatch(name):
        return f"tasks.{name}"

    found = quoted(given) if given is not None else function or "no name"
    allowed = f'name="RemindPatient", for example: {NAME_TEXT}'
    raise ConfigError(Problem(source(mark, root), "name", found, allowed))


def by_name(
    marks: Iterable[Mark], root: Path | None = None
) -> tuple[dict[str, Mark], dict[str, ConfigError]]:
    """The marks by full name, and the errors of names that two functions share; a mark without a name by its source."""
    places: dict[str, dict[tuple[str, int], Mark]] = {}
    broken: dict[str, ConfigError] = {}
    twice: dict[int, list[str]] = {}
    for mark in marks:
        try:
            name = full_name(mark, root)
        except ConfigError as error:
            broken[source(mark, root)] = error
            continue

        same = places.setdefault(name, {})
        same[mark.file, mark.line] = mark  # a module that was imported anew
        names = twice.setdefault(id(_innermost(mark)), [])
        names.append(name)
        if len(names) > 1:
            broken |= dict.fromkeys(names, _decorated_again(mark, len(names), root))

    for name, same in places.items():
        if len(same) > 1 and name not in broken:
            where = [source(mark, root) for mark in same.values()]
            found = f"{name} in {' and in '.join(where)}"
            allowed = "a name for each function: name= of the decorator sets another"
            broken[name] = ConfigError(Problem(where[-1], "name", found, allowed))

    sound = {n: next(iter(s.values())) for n, s in places.items() if n not in broken}
    return sound, broken


def same_function(mark: Mark, other: Mark) -> bool:
    """Whether two marks stand on one function, whatever wrappers stand between."""
    return _innermost(mark) is _innermost(other)


def _innermost(mark: Mark) -> object:
    function: Any = mark.function
    with suppress(ValueError):  # `__wrapped__` in a circle
        function = inspect.unwrap(function)
    return function


def _decorated_again(mark: Mark, count: int, root: Path | None) -> ConfigError:
    """A function with several marks, of which the element could follow one only."""
    name = getattr(mark.function, "__name__", "a function")
    found = f"{count} decorators on {name}"
    allowed = "one for each function; another function may call this one"
    return ConfigError(Problem(source(mark, root), "function", found, allowed))


def title(mark: Mark) -> str:
    """A mark's title for people: the docstring's first line, where this can be a title; else the function's name in words."""
    lines = (inspect.getdoc(mark.function) or "").strip().splitlines()
    try:
        return display_text(lines[0].strip()[:200]) if lines else _words(mark)
    except ValueError:
        return _words(mark)


def _words(mark: Mark) -> str:
    name = getattr(mark.function, "__name__", "task")
    apart = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).replace("_", " ")
    words = " ".join(apart.split())
    return words[:1].upper() + words[1:]
