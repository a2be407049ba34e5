"""The parameters of functions that tasks call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import FunctionType
from typing import Any, TypeGuard

from jittask_prefect.errors import ArgumentError, Problem, SignatureError

Function = Callable[..., Any]
CUSTOM = "customFunc"
MAIN = "main"
"""The older name of the function in inner.py: `main(app, taskInstance)`, for rows with `rowData` as the third."""
MAIN_TEXT = (
    "main(app, taskInstance), of a date-field task main(app, taskInstance, rowData)"
)


def takes_app(main: object, name: str) -> TypeGuard[Function]:
    """Whether a call of a name means `main` in its older form; a `main` of another form is an ordinary function."""
    if name == CUSTOM:
        return isinstance(main, FunctionType)
    if name != MAIN or not isinstance(main, FunctionType):
        return False
    return next(iter(inspect.signature(main).parameters), "") == "app"


def check_arguments(func: Function, arguments: Mapping[str, Any], name: str) -> None:
    """Refuse keyword arguments that a function does not take.

    Raises:
        ArgumentError: The function cannot be called with them.
    """
    try:
        signature_of(func, name).bind(**arguments)
    except SignatureError as error:
        raise ArgumentError(str(error)) from None
    except TypeError as error:
        given = ", ".join(arguments) or "no argument"
        text = signature_text(func)
        which = text if text.startswith(f"{name}(") else f"{name} is {text}"
        raise ArgumentError(f"{which}; called with {given}: {error}") from None


def signature_of(func: Function, key: str) -> inspect.Signature:
    """The parameters that a call of a function may fill; of `main`, those beside app and taskInstance.

    Raises:
        SignatureError: They cannot be read.
    """
    try:
        return inspect.signature(func)
    except (TypeError, ValueError) as error:
        if isinstance(func, partial):
            raise SignatureError(
                Problem("", MAIN, signature_text(func), MAIN_TEXT)
            ) from None

        # `__wrapped__` in a circle, a `__signature__` that is none.
        found = f"parameters that cannot be read: {error}"
        raise SignatureError(Problem("", key, found, "a function")) from None


def signature_text(func: Function) -> str:
    """A function as messages show it: its name and parameters."""
    shown = func.func if isinstance(func, partial) else func
    return f"{getattr(shown, '__name__', 'function')}{inspect.signature(shown)}"
