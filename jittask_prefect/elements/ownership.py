"""Whose a function is: a task calls functions that the app's own files define, not functions that they import."""

from __future__ import annotations

import inspect
import sysconfig
from functools import cache, lru_cache, partial, partialmethod
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

_LIBRARIES = ("site-packages", "dist-packages")


def defined_by(found: object, folder: Path, module: str | None = None) -> bool:
    """Whether a function was written in the app: in a file of its folder, or in a module of the team's.

    A decorator's wrapper counts as the wrapped function, whoever wrote the decorator. `__wrapped__` alone proves
    nothing: a library's own function may have that attribute, so only a function that was made by a call is followed.

    Args:
        found: A function; a static or class method as it stands in its class.
        folder: The app folder.
        module: The file of a module outside of the folder that belongs to the app as well.
    """
    func = found
    for _ in range(100):  # a chain that goes in a circle ends
        if not isinstance(func, FunctionType):
            func = _within(func)
            if func is None:
                return False

            continue

        code, wrapped = func.__code__, getattr(func, "__wrapped__", None)
        made = "<locals>" in code.co_qualname
        own = code.co_filename == module or _lies_in(code.co_filename, folder)
        if own and (not made or wrapped is None):
            return True
        if not made or wrapped is None:
            return False

        func = wrapped

    return False


def _within(found: object) -> Any:
    """The function behind a callable: a method's, a partial's, that in a decorator's object, or its `__call__`."""
    if isinstance(found, staticmethod | classmethod | MethodType):
        return found.__func__
    if isinstance(found, partial | partialmethod):
        return found.func
    if isinstance(found, type) or not callable(found):
        return None

    wrapped = inspect.getattr_static(found, "__wrapped__", None)
    call = inspect.getattr_static(type(found), "__call__", None)
    return call if wrapped is None else wrapped


def method(service: object, name: str, folder: Path) -> Any:
    """A method of a service that the app defines, bound; None otherwise.

    The service's class, and its base classes, may stand in modules of the team's outside of the app folder. Methods
    that the class inherits from a library, and properties, are no service functions.
    """
    if name.startswith("_"):
        return None

    # A test may put a function in the place of a method, on the instance.
    places = (type(service), service)
    static = (inspect.getattr_static(place, name, None) for place in places)
    found = next(filter(None, static), None)
    homes = {_home(cls) for cls in type(service).__mro__} | {None}
    own = any(defined_by(found, folder, home) for home in homes)
    return getattr(service, name) if own else None


def methods(service: object, folder: Path) -> list[str]:
    """The names of a service's functions, sorted."""
    names = dir(type(service))
    return [name for name in names if method(service, name, folder) is not None]


def _home(cls: type[Any]) -> str | None:
    """The file of the module that defines a class of the team's; None for classes of this package, or of a library."""
    if cls.__module__.partition(".")[0] == __name__.partition(".")[0]:
        return None
    try:
        file = inspect.getfile(cls)
    except (OSError, TypeError):
        return None

    return None if _in_library(Path(file).resolve()) else file


@lru_cache(maxsize=4096)
def _lies_in(name: str, folder: Path) -> bool:
    """Whether a file is the app's: in its folder, and in no environment of libraries within that folder."""
    try:
        file = Path(name).resolve()
        inside = file.relative_to(folder)
    except (OSError, RuntimeError, ValueError):
        return False

    foreign = any(
        file.is_relative_to(place) and not folder.is_relative_to(place)
        for place in _standard()
    )
    return not foreign and not any(part in _LIBRARIES for part in inside.parts)


def _in_library(file: Path) -> bool:
    return any(part in _LIBRARIES for part in file.parts) or any(
        file.is_relative_to(place) for place in _standard()
    )


@cache
def _standard() -> list[Path]:
    paths = sysconfig.get_paths()
    return [Path(paths[key]).resolve() for key in ("stdlib", "platstdlib")]
