"""The elements that the modules of an app hold: mapped classes, and functions that a decorator marks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from jittask_prefect.elements.config import AppCfg, ModelAt
from jittask_prefect.elements.config_texts import NAME
from jittask_prefect.elements.decorated.declared import (
    Declared,
    argument_of,
    in_arguments,
)
from jittask_prefect.elements.decorated.decorators import MARKS, Mark
from jittask_prefect.elements.decorated.mark_names import (
    by_name,
    same_function,
    source,
)
from jittask_prefect.elements.decorated.marked_source import names_in, task_name
from jittask_prefect.elements.decorated.modules import Modules, import_folders
from jittask_prefect.elements.models import is_model
from jittask_prefect.errors import ArgumentError, ConfigError, Problem
from jittask_prefect.validation import quoted

_LIBRARIES = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Found:
    """The elements of modules, as far as these are imported.

    Attributes:
        models: By full name, the mapped class, or the reason why there is none.
        tasks: By full name, the mark of the function, or the reason why there is none.
        nameless: The mistakes of marks whose functions can name no element.
        complete: Whether no other element can be in a module that is broken, or not imported yet.
    """

    models: Mapping[str, type[Any] | ConfigError] = field(default_factory=dict)
    tasks: Mapping[str, Mark | ConfigError] = field(default_factory=dict)
    nameless: Sequence[ConfigError] = ()
    complete: bool = True

    @property
    def model_names(self) -> dict[type, str]:
        """By mapped class, the full name of its element."""
        found = self.models.items()
        return {cls: name for name, cls in found if isinstance(cls, type)}

    def get(self, name: str) -> type[Any] | Mark | ConfigError | None:
        """An element by its full name."""
        return self.tasks.get(name) or self.models.get(name)

    def names(self, folder: str) -> Iterable[str]:
        """The full names of the elements that a folder would hold (`tasks`, `models`)."""
        of = {"tasks": self.tasks, "models": self.models}
        return of.get(folder, {})


class ModuleElements:
    """Finds the elements of an app's modules; looks again where a module, or a mark, has come.

    Args:
        modules: The modules.
        cfg: app.json, or the table of pyproject.toml.
    """

    def __init__(self, modules: Modules, cfg: AppCfg) -> None:
        self._modules = modules
        self._named: Mapping[str, ModelAt] = MappingProxyType(cfg.models)
        self._known: tuple[tuple[int, int], Found] | None = None

    @property
    def stamp(self) -> tuple[int, int]:
        """Differs once there may be other elements."""
        return self._modules.version, len(MARKS)

    def found(self) -> Found:
        """The elements, as of the modules that are imported now."""
        stamp = self.stamp
        known = self._known
        if known is None or known[0] != stamp:
            known = self._known = stamp, self._look()
        return known[1]

    def name_of(self, function: object, app: str) -> str:
        """The full name of the task that a decorated function is.

        Raises:
            ArgumentError: The function is no task of the app.
        """
        mark = getattr(function, "__jittask__", None)
        for name, each in self.found().tasks.items():
            if mark is not None and each is mark:
                return name

        listed = ", ".join(self._modules.names) or "none"
        raise ArgumentError(
            f"{quoted(function)} is no task of {app}: @task above it makes it one, "
            f"in a module of {self._modules.place.key('modules')}: {listed}"
        )

    def _look(self) -> Found:
        if not self._modules.names and not self._named:
            return Found()

        marks = list(self._marks())
        tasks: dict[str, Mark | ConfigError] = {}
        good, twins = by_name(marks, self._modules.place.path)
        for broken in self._modules.broken.values():
            tasks |= {f"tasks.{n}": broken.error for n in broken.source.names}

        tasks |= {**good, **twins}
        nameless = [e for n, e in twins.items() if not _is_task_name(n)]
        tasks = {n: found for n, found in tasks.items() if _is_task_name(n)}
        known = all(b.source.exact for b in self._modules.broken.values())
        complete = self._modules.loaded and known
        return Found(self._models(marks), tasks, nameless, complete)

    # Functions

    def _marks(self) -> Iterator[Mark]:
        """The marks of the app's modules. A module that was executed again has marked its functions again."""
        newest: dict[tuple[str, str, int], list[Mark]] = {}
        for mark in list(MARKS):
            module, function = mark.module, mark.function
            names = getattr(function, "__globals__", None)
            now = getattr(sys.modules.get(module), "__dict__", None)
            if self._modules.covers(module) and (names is None or names is now):
                place = module, getattr(function, "__qualname__", ""), mark.line
                before = newest.get(place, [])
                of_it = [m for m in before if same_function(m, mark)]
                newest[place] = [*of_it, mark]

        yield from chain.from_iterable(newest.values())

    # Mapped classes

    def _models(self, marks: Iterable[Mark]) -> dict[str, type[Any] | ConfigError]:
        found: dict[str, type[Any] | ConfigError] = {}
        for name, at in self._named.items():
            found[f"models.{name}"] = self._at(name, at)

        taken = {cls for cls in found.values() if isinstance(cls, type)}
        by_class_name: dict[str, list[type[Any]]] = {}
        for cls in dict.fromkeys([*self._classes(), *_classes_of(marks)]):
            if cls not in taken:
                by_class_name.setdefault(cls.__name__, []).append(cls)

        for name, classes in by_class_name.items():
            full_name = f"models.{name}"
            if full_name in found or len(classes) > 1:
                of_that_name = found.get(full_name)
                if isinstance(of_that_name, type):
                    classes = [of_that_name, *classes]
                found[full_name] = self._twins(name, classes)
            else:
                found[full_name] = classes[0]

        return found

    def _classes(self) -> Iterator[type[Any]]:
        """The mapped classes that the modules define or import."""
        for module in self._modules.imported():
            for value in list(vars(module).values()):
                if is_model(value):
                    yield value

    def _at(self, name: str, at: ModelAt) -> type[Any] | ConfigError:
        """The class that the configuration names."""
        module_name, _, path = at.at.partition(":")
        value: Any = sys.modules.get(module_name)
        for part in path.split(".") if isinstance(value, ModuleType) else ():
            value = getattr(value, part, None)

        if is_model(value):
            model: type[Any] = value
            return model

        broken = self._modules.broken.get(module_name)
        if broken is not None:
            return broken.error

        place, key = self._modules.place, f"models.{name}"
        allowed = "a class that SQLAlchemy maps, like clinic.models:Appointment"
        return ConfigError(Problem(place.file, place.key(key), at.at, allowed))

    def _twins(self, name: str, classes: list[type[Any]]) -> ConfigError:
        """Two classes of one name, of which neither is the model."""
        paths = [f"{cls.__module__}:{cls.__qualname__}" for cls in classes]
        prefix = task_name(classes[-1].__module__.rpartition(".")[2])
        place = self._modules.place
        allowed = f'a name for each, like {prefix}{name} = "{paths[-1]}"'
        found = f"{name} twice: {' and '.join(paths)}"
        return ConfigError(Problem(place.file, place.key("models"), found, allowed))

    # Warnings

    def left_out(self) -> Iterator[str]:
        """Functions that are marked in other modules of the project, and modules that come from elsewhere."""
        folders = import_folders(self._modules.place, self._modules.names)
        mine = {file.resolve() for file in self._modules.files()}
        root = self._modules.place.path
        for mark in MARKS:
            module = mark.module
            file = Path(mark.file).resolve()
            if self._modules.covers(module) or not _inside(file, folders):
                continue

            mine.add(file)
            name = getattr(mark.function, "__name__", quoted(mark.function))
            yield self._unlisted(source(mark, root), name, module)

        for folder in folders:
            for file in self._others(folder, mine):
                mine.add(file)
                module = ".".join(file.relative_to(folder).with_suffix("").parts)
                for name in sorted(_names_in(file)):
                    short = self._modules.short(str(file))
                    yield self._unlisted(short, f"tasks.{name}", module)

        for name, file_name, place in self._modules.doubled():
            yield (
                f"{name} is imported from {file_name}, and {place} is not read; "
                "`pip install -e .` makes both one"
            )

    def _unlisted(self, where: str, name: str, module: str) -> str:
        key = self._modules.place.key("modules")
        return (
            f"{where}: {name} is no task, since {module} is not in {key} of "
            f"{self._modules.place.file}"
        )

    def _others(self, folder: Path, mine: set[Path]) -> Iterator[Path]:
        """The project's other modules that name this package: its packages, and files beside them."""
        tops = {name.partition(".")[0] for name in self._modules.names}
        inside = (p for top in tops for p in (folder / top).rglob("*.py"))
        for file in sorted({*folder.glob("*.py"), *inside}):
            listed = file.resolve() in mine
            module = ".".join(file.relative_to(folder).with_suffix("").parts)
            if not listed and not self._modules.covers(module):
                yield file


def _is_task_name(name: str) -> bool:
    folder, _, short = name.partition(".")
    return folder == "tasks" and NAME.fullmatch(short) is not None


def class_modules(cfg: AppCfg) -> list[str]:
    """The modules of the classes that the configuration names."""
    return [at.at.partition(":")[0] for at in cfg.models.values()]


def told_of_arguments(error: ConfigError, of: Declared) -> ConfigError:
    """An error of a task's configuration, told of the decorator: its file, line and argument."""

    def told(problem: Problem) -> Problem:
        if problem.file:
            return problem

        key = argument_of(problem.key, of.kind) if problem.key else ""
        found, allowed = (
            in_arguments(text, of.kind) for text in (problem.found, problem.allowed)
        )
        return Problem(of.source, key, found, allowed)

    return ConfigError(map(told, error.problems))


def _classes_of(marks: Iterable[Mark]) -> Iterator[type[Any]]:
    """The mapped classes whose attributes marks name: a module may import a class's module only."""
    for mark in marks:
        for value in mark.arguments.values():
            for each in value if isinstance(value, list | tuple) else (value,):
                cls = getattr(each, "class_", None)
                if is_model(cls):
                    yield cls  # type: ignore[misc]


def _names_in(file: Path) -> frozenset[str]:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()

    return names_in(text).names if "jittask_prefect" in text else frozenset()


def _inside(file: Path, folders: Iterable[Path]) -> bool:
    library = any(part in _LIBRARIES for part in file.parts)
    return not library and any(file.is_relative_to(f.resolve()) for f in folders)
