"""An error of an import in two lines at most, and calls of this package's decorators and pieces that Python refuses."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from jittask_prefect.elements.decorated import (
    decorators,
    moving_times,
    offsets,
    repeats,
)
from jittask_prefect.errors.printable import without_addresses

MAX_LINE = 200
"""Characters of an error, and of its cause."""
_CALL = re.compile(r"(\w+)(?:\.__init__)?\(\) (.*)", re.DOTALL)
_UNKNOWN = re.compile(r"got an unexpected keyword argument '(\w+)'")
_CALLS: Mapping[str, Any] = {
    each.__name__: each
    for each in (
        *(decorators.date_field_task, decorators.scheduled_task, decorators.task),
        *(
            offsets.Before,
            offsets.After,
            repeats.Minutely,
            repeats.Hourly,
            repeats.Daily,
        ),
        *(
            repeats.Workdays,
            repeats.Weekly,
            repeats.Monthly,
            repeats.Yearly,
            repeats.Once,
            repeats.Cron,
        ),
        *(repeats.RRule, repeats.Dates, moving_times.now, moving_times.today),
        *(offsets.Offset, repeats._Cycle),
    )
}
_SHARED = {
    "Offset": "Before and After",
    "_Cycle": "Minutely, Hourly, Daily and Workdays",
}
"""Pieces whose `__init__` several share: Python names the class that has the method."""


def text_of(error: BaseException) -> str:
    """An error for people: its kind and text, shortened, and its first cause at the end."""
    first, cause = _line(error), _cause(error)
    return first if cause is error else f"{first}; because of {_line(cause)}"


def wrong_call(error: BaseException) -> tuple[str, str, str] | None:
    """The argument, the mistake and the allowed arguments of a call of this package that Python refuses; else None."""
    if not isinstance(error, TypeError):
        return None
    call = _CALL.match(str(error))
    if call is None or call[1] not in _CALLS:
        return None

    name, said = call[1], call[2]
    known = _arguments(_CALLS[name])
    called = _SHARED.get(name, name)
    allowed = f"the arguments of {called}: {', '.join(known)}"
    unknown = _UNKNOWN.match(said)
    if unknown is None:
        return "", f"a call of {called}: {said}", allowed

    names = [each.removeprefix("*") for each in known]
    near = get_close_matches(unknown[1], names, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return unknown[1], f"an unknown argument of {called}{hint}", allowed


def _arguments(call: Any) -> list[str]:
    """The names of a call's arguments."""
    parameters = inspect.signature(call).parameters.values()
    return [
        f"*{each.name}" if each.kind is each.VAR_POSITIONAL else each.name
        for each in parameters
    ]


def _cause(error: BaseException) -> BaseException:
    """The error that an error began with."""
    seen = {id(error)}
    while True:
        hidden = error.__suppress_context__
        inner = error.__cause__ or (None if hidden else error.__context__)
        if inner is None or id(inner) in seen:
            return error
        seen.add(id(inner))
        error = inner


def _line(error: BaseException) -> str:
    name = type(error).__name__
    try:
        lines = [each.strip() for each in str(error).splitlines() if each.strip()]
    except Exception:  # noqa: BLE001  an exception's own `__str__` may raise anything
        return name

    text = without_addresses(
        " … ".join(lines if len(lines) < 3 else (lines[0], lines[-1]))
    )
    short = text if len(text) <= MAX_LINE else f"{text[:MAX_LINE]}…"
    return f"{name}: {short}"
