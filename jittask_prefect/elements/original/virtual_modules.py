"""The import statements of element code: the app's own elements are modules there, and nowhere else.

Each element module has an `__import__` of its own among its builtins. So `from services.NoticeSvc import NoticeSvc` finds
the element in element code, while other code of the process goes on to import its own package `services`. Nothing enters
`sys.path` or `sys.meta_path`, and `sys.modules` knows no such names.

A name is looked for in this order: an element of the app, or a module of its `commons/`; a module that JitTask has
(`jit.commons.utils.logger`, `tasks.Meta`, …); the real package of that name.
"""

from __future__ import annotations

import builtins
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from jittask_prefect.elements.built_in import MODULES, names_of
from jittask_prefect.elements.config_texts import NAME
from jittask_prefect.elements.json_files import is_file

if TYPE_CHECKING:
    from jittask_prefect.elements.loader import Loader

ELEMENTS = ("models", "services", "tasks")
COMMONS = "commons"
STEMS = {"models": "model", "services": "service", "tasks": "inner"}
GIVEN = ("app", "log", "Q")
"""Names that stand in each file of an element without an import."""
Parts = tuple[str, ...]
Names = Mapping[str, Any]


def say(*values: object, **options: Any) -> None:
    """Python's `print` as it is at the moment: Prefect replaces it while a flow runs."""
    builtins.print(*values, **options)


class Package(ModuleType):
    """A folder of the app as a package; a name of it is found when it is asked for.

    Args:
        name: The package's full name.
        folder: The folder.
        imports: The app's imports.
        parts: The folder's path in the app.
    """

    def __init__(
        self, name: str, folder: Path, imports: VirtualModules, parts: Parts
    ) -> None:
        super().__init__(name)
        self.__package__ = name
        self.__path__ = [str(folder)]
        self._imports, self._parts = imports, parts

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"{self.__name__} has no {name}")
        return self._imports.name_of(self, self._parts, name)


class VirtualModules:
    """The modules that an app's element code can import.

    Args:
        app: The app.
        root: The name of the app's root package.
    """

    def __init__(self, app: Loader, root: str) -> None:
        self._app, self._root = app, root
        self._packages: dict[Parts, Package] = {}
        self._of_jittask: dict[Parts, ModuleType | None] = {}
        self._initialised: set[Parts] = set()
        self.builtins = {
            **vars(builtins),
            "__import__": self.import_module,
            "print": say,
        }
        """The builtins of element modules."""

    def import_module(
        self,
        name: str,
        globals: Names | None = None,
        locals: Names | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """The `__import__` of element code; arguments and result are those of Python's own.

        Raises:
            ImportError: Neither the app nor Python has the module, or the module lacks a name.
        """
        parts = self._path_of(name, globals or {}, level)
        own = None if parts is None else self.find(parts)
        if own is None or parts is None:
            return self._import_real(name, globals, locals, fromlist, level)
        if not fromlist:
            return own if level else self.find(parts[:1]) or own

        for wanted in fromlist:
            if wanted == "*":
                self._fill(own, parts)
            else:
                self._require(own, parts, wanted)

        return own

    def _path_of(self, name: str, globals: Names, level: int) -> Parts | None:
        """The path in the app that an import may mean; None where a relative import leads elsewhere."""
        parts = tuple(name.split(".")) if name else ()
        if not level:
            return parts

        package = str(globals.get("__package__") or "").split(".")
        base = package[: len(package) - level + 1]
        return (*base[1:], *parts) if base and base[0] == self._root else None

    def _import_real(
        self,
        name: str,
        globals: Names | None,
        locals: Names | None,
        fromlist: Sequence[str] | None,
        level: int,
    ) -> ModuleType:
        folder = name.partition(".")[0]
        known = not level and folder in (*ELEMENTS, COMMONS)
        try:
            found = builtins.__import__(name, globals, locals, fromlist or (), level)
        except ModuleNotFoundError as error:
            # A module that the real package itself lacks is another matter.
            if not known or not f"{name}.".startswith(f"{error.name}."):
                raise
            raise ModuleNotFoundError(self._unknown(name, folder), name=name) from None

        # The name `services` goes on to lead to the app's own elements.
        own = self.find((folder,)) if known and not fromlist else None
        return own or found

    def _unknown(self, name: str, folder: str) -> str:
        if folder == COMMONS:
            return f"the app has no module {name.replace('.', '/')}.py, and Python no package {name}"
        others = (each.partition(".")[2] for each in self._app.names(folder))
        known = ", ".join(others) or "no elements"
        return f"{name} is no element of {self._app.name}, and no package; {folder} has {known}"

    # Modules

    def find(self, parts: Parts) -> ModuleType | None:
        """The module of a path in the app, executed; None where the app has no such module.

        Args:
            parts: The path, like `("services", "NoticeSvc")`.

        Raises:
            ConfigError: The file does not import.
        """
        if not all(map(NAME.fullmatch, parts)):
            return None
        if len(parts) < 2 and (not parts or parts[0] in ELEMENTS):
            return self.package(parts)
        if parts[0] not in (*ELEMENTS, COMMONS):
            return self._built_in(parts)
        if parts[0] == COMMONS:
            return self._file(COMMONS, parts, 1)

        element = ".".join(parts[:2])
        if self._app.is_shadowing(element):
            return self._built_in(parts)
        if not self._app.is_element(element):
            return self._built_in(parts) or self._file(element, parts, 2)
        if len(parts) == 2 and not self._app.is_single_file(element):
            return self.package(parts)

        return self._file(element, parts, 2)

    def _file(self, owner: str, parts: Parts, start: int) -> ModuleType | None:
        """A file, or a folder, of an element or of `commons/`."""
        place = self._app.folder.joinpath(*parts)
        if is_file(Path(f"{place}.py")):
            return self._app.module(owner, ".".join(parts[start:]))
        return self.package(parts) if any(place.glob("*.py")) else None

    def package(self, parts: Parts) -> Package:
        """The package of a folder of the app, beside those that it lies in."""
        if parts not in self._packages:
            if parts:
                self.package(parts[:-1])

            known, folder = (
                ".".join((self._root, *parts)),
                self._app.folder.joinpath(*parts),
            )
            made = Package(known, folder, self, parts)
            self._packages[parts] = sys.modules[known] = made

        return self._packages[parts]

    def _built_in(self, parts: Parts) -> ModuleType | None:
        """A module that JitTask has: with names, or the package around such modules."""
        if parts not in self._of_jittask:
            name = ".".join(parts)
            names = names_of(self._app, name)
            inner = {
                m.split(".")[len(parts)] for m in MODULES if m.startswith(f"{name}.")
            }
            if names is None and (not inner or (len(parts) == 1 and _is_real(name))):
                return None

            made = self._of_jittask[parts] = ModuleType(name)
            vars(made).update(names or {}, __path__=[])
            for each in inner:
                setattr(made, each, self._built_in((*parts, each)))

        return self._of_jittask[parts]

    # Names of modules

    def name_of(self, package: Package, parts: Parts, name: str) -> Any:
        """A name of a folder of the app: a module of the folder, or a name of the element that the folder is.

        Raises:
            AttributeError: The folder has no such name.
        """
        if (module := self.find((*parts, name))) is not None:
            return module
        if len(parts) == 2 and parts[0] in ELEMENTS:
            for names in self._names_of_element(parts):
                if name in names:
                    return names[name]

        self._initialise(package, parts)
        if name in vars(package):
            return vars(package)[name]
        if len(parts) == 1:
            return _name_of_real(parts[0], name)

        raise AttributeError(f"{'.'.join(parts)} has no name {name!r}")

    def _names_of_element(self, parts: Parts) -> list[Names]:
        """The names that an element's files define; a model's class is the one that `getElement` gives."""
        element, found = ".".join(parts), list[Names]()
        if parts[0] == "models" and (model := self._app.model_class(element)):
            found.append({parts[1]: model, model.__name__: model})

        for stem in (STEMS[parts[0]], "type"):
            if is_file(self._app.folder.joinpath(*parts, f"{stem}.py")):
                found.append(vars(self._app.module(element, stem)))

        return found

    def _initialise(self, package: Package, parts: Parts) -> None:
        """Execute the folder's `__init__.py` once, when a name is found nowhere else."""
        file = self._app.folder.joinpath(*parts, "__init__.py")
        if parts and parts not in self._initialised and is_file(file):
            self._initialised.add(parts)
            self._app.execute_in(package, parts, file)

    def _require(self, module: ModuleType, parts: Parts, name: str) -> None:
        """See that a module has a name that an import asks for.

        Raises:
            ImportError: The module lacks the name.
        """
        if hasattr(module, name):
            return

        of = ".".join(parts)
        if self._app.is_executing(".".join(parts[:2])):
            raise ImportError(
                f"{of} has no {name} yet: the two import each other; import {name} inside the function that uses it",
                name=of,
            )

        known = ", ".join(self._defined(module, parts)) or "no names"
        raise ImportError(f"{of} has no name {name}; it has {known}", name=of)

    def _defined(self, module: ModuleType, parts: Parts) -> list[str]:
        """The public names that a module defines itself, sorted."""
        names = dict(vars(module))
        if isinstance(module, Package):
            for each in self._names_of_element(parts) if len(parts) == 2 else ():
                names |= each

        home = f"{self._root}."
        return sorted(
            name
            for name, value in names.items()
            if not name.startswith("_")
            and name not in GIVEN
            and str(getattr(value, "__module__", home)).startswith(home)
        )

    def _fill(self, module: ModuleType, parts: Parts) -> None:
        """Give a package its element's public names, for `import *`."""
        if isinstance(module, Package):
            self._initialise(module, parts)
            for names in self._names_of_element(parts) if len(parts) == 2 else ():
                public = {k: v for k, v in names.items() if not k.startswith("_")}
                vars(module).update(public)


def clear_path(app: Loader, given: str) -> None:
    """Take the app's folders from `sys.path`, where Prefect puts the folder of the flow file: there `tasks` would be a package.

    Args:
        app: The app. The root of a project stays at the end of the path.
        given: PYTHONPATH: a folder that the user names there stays.
    """
    kept = {Path(each).resolve() for each in given.split(os.pathsep) if each}
    unwanted = {
        app.folder,
        app.place.generated,
        app.path if app.place.in_project else app.folder,
    } - kept
    places = [(each, Path(each or ".").resolve()) for each in sys.path]
    left = [each for each, place in places if place not in unwanted]
    root = [str(app.path)] if app.place.in_project and app.path in unwanted else []
    sys.path[:] = [*left, *root]


def _is_real(name: str) -> bool:
    """Whether Python itself finds a package of that name."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _name_of_real(package: str, name: str) -> Any:
    """A name, or a module, of the real package.

    Raises:
        AttributeError: There is none.
    """
    try:
        return getattr(importlib.import_module(package), name)
    except (AttributeError, ModuleNotFoundError):
        pass
    try:
        return importlib.import_module(f"{package}.{name}")
    except ModuleNotFoundError:
        raise AttributeError(f"{package} has no name {name!r}") from None
