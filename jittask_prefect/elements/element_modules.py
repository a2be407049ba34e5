"""The Python files of the app folder as modules: each executed once, with names of its own.

A module of an element is called `<app>.<folder>.<Name>.<file>`, e.g. `jittask_app_1f2e_1.tasks.DailyReport.inner`.
Its parent packages are modules too: so classes pickle, and relative imports work.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.exc import InvalidRequestError

from jittask_prefect.elements.element_log import Log
from jittask_prefect.elements.import_lock import CircleError, import_lock
from jittask_prefect.elements.json_files import is_file
from jittask_prefect.elements.original.virtual_modules import (
    Package,
    Parts,
    VirtualModules,
)
from jittask_prefect.elements.registry import evict_tables
from jittask_prefect.errors import ConfigError, Problem, invalid
from jittask_prefect.filters.q_objects import Q

if TYPE_CHECKING:
    from jittask_prefect.elements.app import App

_ADVICE = {
    "partially initialized module": (
        "modules that do not import each other: name the other class as a text in relationship(), "
        "and import its module under TYPE_CHECKING"
    ),
    "could not assemble any primary key": (
        "a class whose table has a key: mapped_column(primary_key=True), or Field(primary_key=True)"
    ),
    "already has a primary mapper defined": "one mapping for each class",
}
"""By a part of an error's text, what to do."""


class _Executing(threading.local):
    """The elements whose files a thread is executing."""

    def __init__(self) -> None:
        self.names: list[str] = []


class ElementModules:
    """The modules of an app.

    Args:
        folder: The folder of the elements.
        prefix: The name of the app's root package.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        self.folder = folder
        self._prefix = prefix
        self._imports = VirtualModules(cast("App", self), prefix)
        self._modules: dict[tuple[str, str], ModuleType] = {}
        # Of these, the modules whose files have been executed to their ends: nobody has to wait for them.
        self._whole: dict[tuple[str, str], ModuleType] = {}
        self._executing = _Executing()

    def module(self, name: str, stem: str) -> ModuleType:
        """The Python file of an element, loaded once; the names `app`, `log` and `Q` are there without an import.

        Args:
            name: The element's full name, or `commons`.
            stem: The file's path in the folder, with dots, without `.py`; empty for a service that is one file.

        Raises:
            ConfigError: The file is missing, or does not import.
        """
        if (whole := self._whole.get((name, stem))) is not None:
            return whole
        with self.alone(name, stem):
            if (name, stem) not in self._modules:
                self.execute(name, stem)
            return self._modules[name, stem]

    @contextmanager
    def alone(self, element: str, *stem: str) -> Iterator[None]:
        """Keep other threads from loading an element, or a file of the element, at the same time.

        Raises:
            ConfigError: Another thread loads the element, and waits for a module that this thread imports.
        """
        lock = import_lock(".".join(filter(None, (self._prefix, element, *stem))))
        with ExitStack() as stack:
            try:
                stack.enter_context(lock)
            except CircleError as error:
                found = (
                    f"{element}, which another thread loads; that thread waits for a "
                    "module that this thread is importing"
                )
                allowed = "no use of the element while a module is imported"
                raise invalid("", found, allowed) from error

            yield

    def forget_modules(self, name: str) -> None:
        """Load the files of an element anew at their next use."""
        for modules in (self._whole, self._modules):
            for known in [key for key in modules if key[0] == name]:
                del modules[known]

    def is_own(self, cls: type[Any]) -> bool:
        """Whether a file of the app folder defines a class."""
        return cls.__module__.startswith(f"{self._prefix}.")

    def is_executing(self, name: str) -> bool:
        """Whether a file of an element is being executed."""
        return name in self._executing.names

    def execute(self, name: str, stem: str, file: Path | None = None) -> None:
        """Execute a file of an element as its new module.

        Args:
            name: The element's full name.
            stem: The name of the file that the module is for.
            file: Another file in its place.

        Raises:
            ConfigError: The file is missing, or does not import.
        """
        where = self._where(name, stem)
        file = file or self.folder / where
        if not is_file(file):
            allowed = "a Python file beside e.json"
            raise ConfigError(Problem(where, "", "no such file", allowed))

        known = ".".join(filter(None, (self._prefix, name, stem)))
        self._imports.package(tuple(known.split(".")[1:-1]))
        while True:  # each further time a table of another app has made room
            try:
                self._run((name, stem), known, file)
                return
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                # SystemExit, asyncio's CancelledError, a skip of pytest's too.
                table_taken = isinstance(error, InvalidRequestError)
                app = cast("App", self)
                if not (table_taken and evict_tables(app, known, str(error))):
                    raise self.broken(name, stem, error) from error

    def _run(self, key: tuple[str, str], known: str, file: Path) -> None:
        spec = importlib.util.spec_from_file_location(known, file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        vars(module).update(self._names())
        # Before the end of the file, as Python does: elements may import each other.
        sys.modules[known] = self._modules[key] = module
        self._whole.pop(key, None)
        self._executing.names.append(key[0])
        try:
            spec.loader.exec_module(module)
            self._whole[key] = module
        except BaseException:
            sys.modules.pop(known, None)
            self._modules.pop(key, None)
            raise
        finally:
            self._executing.names.pop()

    def execute_in(self, package: Package, parts: Parts, file: Path) -> None:
        """Execute the `__init__.py` of a folder in its package.

        Raises:
            ConfigError: The file does not import.
        """
        spec = importlib.util.spec_from_file_location(package.__name__, file)
        assert spec is not None and spec.loader is not None
        vars(package).update(self._names())
        try:
            with self.alone(".".join(parts)):
                spec.loader.exec_module(package)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self.broken(".".join(parts), "__init__", error) from error

    def _names(self) -> dict[str, Any]:
        builtins = self._imports.builtins
        return {"app": self, "log": Log(), "Q": Q, "__builtins__": builtins}

    def _where(self, name: str, stem: str) -> str:
        """The path of a file, from the app folder on."""
        return f"{'.'.join(filter(None, (name, stem))).replace('.', '/')}.py"

    def broken(self, name: str, stem: str, error: BaseException) -> ConfigError:
        """The error of an element's code as a problem, with the last line of the element's file that took part."""
        where = self._where(name, stem)
        line = error.lineno if isinstance(error, SyntaxError) else None
        if line is None:
            for frame in traceback.extract_tb(error.__traceback__):
                if frame.filename == str(self.folder / where):
                    line = frame.lineno

        key, found = f"line {line}" if line else "", error_text(error)
        allowed = "a module that imports"
        for part, advice in _ADVICE.items():
            allowed = advice if part in found else allowed
        return ConfigError(Problem(where, key, found.partition("\n")[0], allowed))


def error_text(error: BaseException) -> str:
    """An error's type and message; of an element that is broken, the mistake."""
    try:
        if isinstance(error, ConfigError):
            return f"an element that is broken: {error}"
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001  an exception's own `__str__` may raise anything
        return type(error).__name__
