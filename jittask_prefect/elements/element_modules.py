"""The Python files of the app folder as modules: each executed once, with names of its own.

A module of an element is called `<app>.<folder>.<Name>.<file>`, e.g. `jittask_app_1f2e_1.tasks.DailyReport.inner`.
Its parent packages are modules too: so classes pickle, and relative imports work.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import traceback
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.exc import InvalidRequestError

from jittask_prefect.elements.config import is_file
from jittask_prefect.elements.element_log import Log
from jittask_prefect.elements.registry import evict_tables
from jittask_prefect.errors import ConfigError, Problem

if TYPE_CHECKING:
    from jittask_prefect.elements.app import App

LOCK = threading.RLock()


class Package(ModuleType):
    """A folder of the app as a package.

    Args:
        name: The package's full name.
        folder: The folder.
        find: Gives a name of the package that is asked for, or raises AttributeError.
    """

    def __init__(
        self, name: str, folder: Path, find: Callable[[str], Any] | None = None
    ) -> None:
        super().__init__(name)
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        self.__spec__ = spec
        self.__package__ = name
        self.__path__ = [str(folder)]
        self._find = find

    def __getattr__(self, name: str) -> Any:
        if self._find is None or name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return self._find(name)


class ElementModules:
    """The modules of an app.

    Args:
        folder: The folder of the elements.
        prefix: The name of the app's root package.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        self.folder = folder
        self._prefix = prefix
        self._modules: dict[tuple[str, str], ModuleType] = {}

    def module(self, name: str, stem: str) -> ModuleType:
        """The Python file of an element, loaded once; the names `app` and `log` are there without an import.

        Args:
            name: The element's full name.
            stem: The file's name, without `.py`.

        Raises:
            ConfigError: The file is missing, or does not import.
        """
        with LOCK:
            if (name, stem) not in self._modules:
                self._modules[name, stem] = self.execute(name, stem)
            return self._modules[name, stem]

    def use_module(self, name: str, stem: str, module: ModuleType) -> None:
        """Take a module for an element's file until the element is forgotten."""
        self._modules[name, stem] = module

    def forget_modules(self, name: str) -> None:
        """Load the files of an element anew at their next use."""
        for known in [key for key in self._modules if key[0] == name]:
            del self._modules[known]

    def is_own(self, cls: type[Any]) -> bool:
        """Whether a file of the app folder defines a class."""
        return cls.__module__.startswith(f"{self._prefix}.")

    def execute(self, name: str, stem: str, file: Path | None = None) -> ModuleType:
        """Execute a file of an element as a new module.

        Args:
            name: The element's full name.
            stem: The name of the file that the module is for, without `.py`.
            file: Another file in its place.

        Raises:
            ConfigError: The file is missing, or does not import.
        """
        where = f"{name.replace('.', '/')}/{stem}.py"
        file = file or self.folder / where
        if not is_file(file):
            allowed = "a Python file beside e.json"
            raise ConfigError(Problem(where, "", "no such file", allowed))

        known = f"{self._prefix}.{name}.{stem}"
        self._make_packages(name)
        for last in (False, True):
            try:
                return self._run(known, file)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                # SystemExit, asyncio's CancelledError, a skip of pytest's too.
                table_taken = not last and isinstance(error, InvalidRequestError)
                app = cast("App", self)
                if not (table_taken and evict_tables(app, known, str(error))):
                    raise self.broken(name, stem, error) from error

        raise AssertionError("unreachable")

    def _run(self, known: str, file: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(known, file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        vars(module).update(app=self, log=Log())
        sys.modules[known] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(known, None)
            raise

        return module

    def _make_packages(self, name: str) -> None:
        """The packages that an element's modules lie in."""
        parts = name.split(".")
        for length in range(len(parts) + 1):
            known = ".".join([self._prefix, *parts[:length]])
            if known not in sys.modules:
                folder = self.folder.joinpath(*parts[:length])
                sys.modules[known] = Package(known, folder)

    def broken(self, name: str, stem: str, error: BaseException) -> ConfigError:
        """The error of an element's code as a problem, with the last line of the element's file that took part."""
        where = f"{name.replace('.', '/')}/{stem}.py"
        line = error.lineno if isinstance(error, SyntaxError) else None
        if line is None:
            for frame in traceback.extract_tb(error.__traceback__):
                if frame.filename == str(self.folder / where):
                    line = frame.lineno

        key, found = f"line {line}" if line else "", error_text(error)
        return ConfigError(Problem(where, key, found, "a module that imports"))


def error_text(error: BaseException) -> str:
    """An error's type and message."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001  an exception's own `__str__` may raise anything
        return type(error).__name__
