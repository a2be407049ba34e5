"""Whose a function is: a task calls what the app's own files define, and not what they have merely imported."""

from __future__ import annotations

import inspect
import sysconfig
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any

_LIBRARIES = ("site-packages", "dist-packages")


def defined_by(found: object, folder: Path, module: str | None = None) -> bool:
    """Whether a function was written in the app: in a file of its folder, or in one module of the team's.

    A decorator's wrapper counts as the function that it wraps, whoever wrote the decorator. `__wrapped__` alone proves
    nothing: a library's own function may have been given one, so only a function that was made by a call is followed.

    Args:
        found: A function; a static or class method as it stands in its class.
        folder: The app folder.
        module: The file of a module outside of it that belongs to the app as well.
    """
    func = found.__func__ if isinstance(found, staticmethod | classmethod) else found
    for _ in range(100):  # a chain that goes in a circle ends
        if not isinstance(func, FunctionType):
            return False
        code, wrapped = func.__code__, getattr(func, "__wrapped__", None)
        made = "<locals>" in code.co_qualname
        own = code.co_filename == module or _lies_in(code.co_filename, folder)
        if own and (not made or wrapped is None):
            return True
        if not made or wrapped is None:
            return False
        func = wrapped
    return False


def method(service: object, name: str, folder: Path) -> Any:
    """A method of a service that the app defines, bound; None where there is none.

    The service's class may stand in a module of the team's outside of the app folder; what the class inherits from
    elsewhere, properties, partials and other callables are no service functions.
    """
    if name.startswith("_"):
        return None
    # What a test puts in the place of a method, on the instance, is called as the method is.
    found = inspect.getattr_static(type(service), name, None) or inspect.getattr_static(service, name, None)
    return getattr(service, name) if defined_by(found, folder, _home(type(service))) else None


def methods(service: object, folder: Path) -> list[str]:
    """The names of a service's functions, sorted."""
    return [name for name in dir(type(service)) if method(service, name, folder) is not None]


def _home(cls: type[Any]) -> str | None:
    """The file of the module that defines a service's class; None for the package's own services."""
    if cls.__module__.partition(".")[0] == __name__.partition(".")[0]:
        return None
    try:
        return inspect.getfile(cls)
    except (OSError, TypeError):
        return None


@lru_cache(maxsize=4096)
def _lies_in(name: str, folder: Path) -> bool:
    """Whether a file is the app's: in its folder, and in no environment of libraries that may lie in there."""
    try:
        file = Path(name).resolve()
        inside = file.relative_to(folder)
    except (OSError, RuntimeError, ValueError):
        return False
    paths = sysconfig.get_paths()
    standard = [Path(paths[key]).resolve() for key in ("stdlib", "platstdlib")]
    foreign = any(file.is_relative_to(place) and not folder.is_relative_to(place) for place in standard)
    return not foreign and not any(part in _LIBRARIES for part in inside.parts)
