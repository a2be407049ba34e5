"""Reading a `timerCfg` of either generation, every mistake named at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from jittask_prefect.errors import ConfigError, Problem, invalid
from jittask_prefect.schedule.checks import check
from jittask_prefect.schedule.spec import TimerCfg
from jittask_prefect.validation import (
    plain_path,
    pydantic_problems,
    sanitized,
    shown,
)


def read_timer(raw: object, *, rows: bool, key: str = "timerCfg") -> TimerCfg:
    """Validate a `timerCfg` of either generation.

    Args:
        raw: Parsed JSON.
        rows: Whether a row task (`startField`) or a scheduled task (`startTime`) has the timer.
        key: The path to the timer within its file, for messages.

    Returns:
        The frozen timer configuration.

    Raises:
        ConfigError: With every problem at once; each names the key, the value found and the values allowed.
    """
    if not isinstance(raw, Mapping):
        raise invalid(key, shown(raw), "an object")

    sound, problems = sanitized(raw, key)
    sound = _without_stray_end(sound, rows=rows)
    data = _without_nulls(sound)
    bad: set[tuple[str, ...]] = set()
    while True:
        try:
            cfg = TimerCfg.model_validate(data)
            break
        except ValidationError as error:
            known = {problem.key for problem in problems}
            found = pydantic_problems(error, TimerCfg, key)
            if isinstance(data.get("window"), Mapping):
                found = [_of_single_window(problem, key) for problem in found]
            problems += [problem for problem in found if problem.key not in known]
            places = {_key_path(e["loc"]) for e in error.errors(include_url=False)}
            removed = {_remove(data, place) for place in places}
            if removed == {()}:  # no key is left that could be removed
                raise ConfigError(problems) from None

            bad |= removed

    problems += check(cfg, sound, rows=rows, bad=frozenset(bad), key=key)
    if problems:
        raise ConfigError(problems)

    return cfg.canonical()


def stray_end_offset(raw: Mapping[Any, Any], *, rows: bool) -> bool:
    """Whether an `endOffset` does nothing: JitTask leaves the key behind when the end becomes another."""
    kind, by_field = raw.get("endTimeType"), raw.get("endField") is not None
    used = kind in (2, "2") or (kind is None and by_field)
    return "endOffset" in raw and not (rows and used)


def _without_stray_end(raw: Mapping[Any, Any], *, rows: bool) -> Mapping[Any, Any]:
    if not stray_end_offset(raw, rows=rows):
        return raw
    return {name: value for name, value in raw.items() if name != "endOffset"}


def _without_nulls(raw: Mapping[Any, Any]) -> dict[str, Any]:
    """A deep copy in which a null says the same as an absent key."""
    return {
        str(name): _inner(value) for name, value in raw.items() if value is not None
    }


def _of_single_window(problem: Problem, key: str) -> Problem:
    """The problem of a window that is written without a list: its path has no number."""
    first = f"{key}.window.0"
    if problem.key != first and not problem.key.startswith(f"{first}."):
        return problem
    return replace(problem, key=f"{key}.window{problem.key.removeprefix(first)}")


def _inner(value: object) -> object:
    if isinstance(value, list):
        return [_inner(each) for each in value]
    return _without_nulls(value) if isinstance(value, Mapping) else value


def _key_path(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """A path up to its first list: a mistake in an element is a mistake of the list."""
    loc = tuple(plain_path(loc))
    first = next((n for n, part in enumerate(loc) if isinstance(part, int)), len(loc))
    return loc[:first]


def _remove(data: dict[str, Any], loc: tuple[int | str, ...]) -> tuple[str, ...]:
    """Remove the key that holds the mistake from `data`, so that the rest can still be checked; its path."""
    holder, path = data, list[str]()
    parent = holder
    for part in loc:
        if not (isinstance(holder, dict) and isinstance(part, str) and part in holder):
            break

        path.append(part)
        parent, holder = holder, holder[part]

    if path:
        del parent[path[-1]]

    return tuple(path)
