"""App: a folder of elements, each loaded at its first use, and checked as a whole."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from jittask_prefect.elements import check
from jittask_prefect.elements.app_name import name_of_environment
from jittask_prefect.elements.built_in import TASK_TYPES
from jittask_prefect.elements.check import check_rows
from jittask_prefect.elements.config import ModelAt, ModelCfg, read_app
from jittask_prefect.elements.databases import DEFAULT
from jittask_prefect.elements.engines import object_at
from jittask_prefect.elements.json_files import read_json
from jittask_prefect.elements.loader import Loader
from jittask_prefect.elements.original import notes
from jittask_prefect.elements.original.chains import Chain, ModelChain
from jittask_prefect.elements.project import (
    find_place,
    in_an_app,
    place_of,
    refuse_unreadable,
)
from jittask_prefect.elements.registry import forget_all, name_in
from jittask_prefect.elements.signatures import CUSTOM
from jittask_prefect.elements.task_at_work import TaskAtWork, task_at_work
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import (
    ConfigError,
    JittaskError,
    Problem,
    UnknownElement,
)
from jittask_prefect.validation import quoted

__all__ = [
    "DEFAULT",
    "App",
    "check_rows",
    "current_app",
    "in_an_app",
    "use_app",
]

CONTEXT = "a function without arguments that gives a context manager"
log = logging.getLogger("jittask")


@dataclass(frozen=True)
class Fault:
    """Why no task of a template can run.

    Attributes:
        reason: The error's message.
        gone: Whether the template was removed. A broken template is still there, and its tasks wait.
    """

    reason: str
    gone: bool


class App(Loader):
    """An app: a folder with app.json, or a project whose pyproject.toml has the table `[tool.jittask]`.

    Args:
        path: The folder that holds app.json or pyproject.toml, or the file itself.

    Raises:
        ConfigError: The file is missing or wrong. Mistakes in elements are found by `check`, or at their use.
    """

    made: ClassVar[int] = 0

    def __init__(self, path: str | Path) -> None:
        place = place_of(Path(path))
        refuse_unreadable(place.path)
        try:
            cfg, calendars = read_app(place.read())
        except ConfigError as error:
            raise place.told(error) from None

        if (name := name_of_environment()) is not None:
            cfg = cfg.model_copy(update={"name": name})

        App.made += 1
        # A name of its own even where the folder is loaded twice: each app keeps its own classes.
        digest = hashlib.sha256(str(place.path).encode()).hexdigest()[:8]
        modules = f"jittask_app_{digest}_{App.made}"
        super().__init__(place, cfg, calendars, modules)
        self.title = cfg.title or cfg.name
        self.zone = ZoneInfo(self.timezone)
        self._databases_of: dict[str, str] = {}
        self._row_labels: dict[str, str | None] = {}
        self._context_maker: Callable[[], Any] | None = None
        self._row_templates: tuple[tuple[int, int, int], list[DateFieldType]] | None = (
            None
        )

    def __repr__(self) -> str:
        return f"<App {self.name} at {self.path}>"

    def load(self) -> None:
        """Import the app's modules, so that their tasks are known before the first row is saved.

        A module that fails is logged, makes its own tasks broken, and is tried again later.
        """
        self.modules.load()
        self.models()
        self.templates()

    @property
    def task(self) -> TaskAtWork | None:
        """The task that the present code works for, with or without an argument; None outside a task's function."""
        return task_at_work()

    def run_at(
        self,
        function: Callable[..., Any],
        when: str | datetime,
        /,
        *,
        window: bool = False,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Run a decorated function once, at an instant.

        Args:
            function: A function that a decorator marks, `@task` above all, in one of the app's modules.
            when: Text or a naive datetime in the task's zone, or an aware datetime. The past runs at once.
            window: Whether the task's opening hours hold: outside them the execution, and each retry, waits for the next
                opening. A function with an argument of this name gets that by `createTimerTask`.
            arguments: The function's arguments, as JSON has them; kept in the ledger, never sent to Prefect.

        Returns:
            `{taskId, fullName, status, startTime, url}`.

        Raises:
            ArgumentError: The function is no task of this app, or does not take these arguments.
            InvalidTime: The time cannot be read.
            PrefectApiError: Prefect cannot be reached; nothing is kept.
        """
        self.modules.load()
        name = self.of_modules.name_of(function, self.name)
        service = self.getElement("services.TaskSvc")
        kind = self.template(name).taskType
        made: dict[str, Any] = service.createTimerTask(
            name, when, CUSTOM, kind, arguments, window
        )
        return made

    def _working(self, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """The elements that load, by full name; `check` tells of the others."""
        for name in names:
            try:
                yield name, self.getElement(name)
            except JittaskError as error:
                log.debug("%s is left out: %s", name, error)

    def templates(self) -> list[Meta]:
        """The task templates that work, by full name; `check` tells of the others."""
        self.modules.load()
        working = self._working(self.names("tasks"))
        return [element for _, element in working if isinstance(element, Meta)]

    def row_templates(self, model: str) -> list[DateFieldType]:
        """The date-field templates of a model; kept until a folder is added to, or taken from, `tasks`."""
        self.modules.load(retry=False)
        try:
            # Asked at every save, so the short way.
            changed = os.stat(f"{self.folder}/tasks").st_mtime_ns
        except FileNotFoundError:
            changed = 0

        stamp = changed, *self.of_modules.stamp
        known = self._row_templates
        if known is None or known[0] != stamp:
            of_rows = [t for t in self.templates() if isinstance(t, DateFieldType)]
            self._row_templates = known = stamp, of_rows

        return [t for t in known[1] if t.model_name == model]

    def template(self, name: str) -> Meta:
        """The task template of that full name.

        Raises:
            UnknownElement: The app has no such template.
            ConfigError: The template is broken.
        """
        if isinstance(name, str) and name.startswith("tasks."):
            with suppress(UnknownElement):
                element = self.getElement(name)
                if isinstance(element, Meta):
                    return element

        known = ", ".join(t.fullName for t in self.templates()) or "none"
        raise UnknownElement(
            f"{quoted(name)} is no task template of {self.name}; its templates are {known}"
        )

    def fault(self, name: str, func: str | None = None) -> Fault | None:
        """Why no task of a template can run: the template, its model, a field or the function cannot be read.

        Args:
            name: The template's full name.
            func: A function to call instead of the template's own.

        Returns:
            The reason; None where nothing is in the way. Tasks of a broken template wait, they are not ended.
        """
        try:
            template = self.template(name)
            if isinstance(template, DateFieldType):
                check_rows(template)

            if func is not None:
                template.function(func)
            elif type(template).handle in (Meta.handle, DateFieldType.handle):
                template.getFunc()
        except JittaskError as error:
            return Fault(str(error), self.gone(name))

        return None

    def types(self) -> dict[str, type[Meta]]:
        """The task Types: the built-in Types (or elements that shadow them) and the app's own that load."""
        names = sorted({*TASK_TYPES, *self.names("tasks")})
        return {
            name: element
            for name, element in self._working(names)
            if isinstance(element, type) and issubclass(element, Meta)
        }

    # Models

    @property
    def models(self) -> ModelChain:
        """The models: `app.models.Contract`, or `app.models()` for all that load, by full name."""
        return ModelChain(self, "models")

    @property
    def services(self) -> Chain:
        """The services: `app.services.NoticeSvc.send(…)`."""
        return Chain(self, "services")

    @property
    def tasks(self) -> Chain:
        """The task templates and Types: `app.tasks.DailyReport`."""
        return Chain(self, "tasks")

    def working_models(self) -> dict[str, type[Any]]:
        """The models that load, by full name."""
        return dict(self._working(self.names("models")))

    def database_of_row(self, row: Any) -> str:
        """The name of the database that a row of the app belongs to.

        Raises:
            UnknownElement: The row is of no model of the app.
        """
        known = name_in(self, type(row))
        if known is None:
            raise UnknownElement(f"{type(row).__name__} is no model of {self.name}")
        return self.database_of(known)

    def database_of(self, model: str) -> str:
        """The name of the database that holds a model's table."""
        if model not in self._databases_of:
            self._databases_of[model] = self._database_named(model) or DEFAULT

        return self._databases_of[model]

    def _database_named(self, model: str) -> str | None:
        """The database that a model's e.json, or the table of models, names."""
        cfg = self._model_cfg(model)
        if isinstance(cfg, ModelCfg):
            return cfg.database_in(self.cfg.databases)
        return cfg.database if cfg is not None else None

    def row_label_of(self, model: str) -> str | None:
        """The field or method that names a model's rows for people; None where the model states none."""
        if model not in self._row_labels:
            cfg = self._model_cfg(model)
            self._row_labels[model] = cfg.rowLabel if cfg is not None else None

        return self._row_labels[model]

    def _model_cfg(self, model: str) -> ModelCfg | ModelAt | None:
        """What a model's e.json, or the table of models, says; None for a class that only a module holds."""
        if self.is_element(model):
            where = f"{model.replace('.', '/')}/e.json"
            return ModelCfg.read(read_json(self.folder / where, where))
        return self.cfg.models.get(model.partition(".")[2])

    # Functions

    def context(self) -> Any:
        """A new context manager for a function's call: of `around` in app.json; without `around` an empty one.

        Raises:
            ConfigError: `around` leads to nothing, or gives no context manager.
        """
        make = self.context_maker()
        found = nullcontext() if make is None else make()
        if not any(hasattr(found, name) for name in ("__enter__", "__aenter__")):
            what = f"{self.cfg.around}, which gives {type(found).__name__}"
            raise ConfigError(Problem(self.place.file, "around", what, CONTEXT))

        return found

    def context_maker(self) -> Callable[[], Any] | None:
        """The callable that `around` in app.json names."""
        if self.cfg.around is None:
            return None
        if self._context_maker is None:
            place = (self.place.file, self.place.key("around"))
            try:
                found = object_at(self.cfg.around, CONTEXT)
            except ConfigError as error:
                raise error.within(*place) from None
            if not callable(found):
                what = f"{self.cfg.around}, which is {type(found).__name__}"
                raise ConfigError(Problem(*place, what, CONTEXT))
            self._context_maker = found

        return self._context_maker

    def close(self) -> None:
        """Give back the app's connections and the classes of its models; the app is no longer in use."""
        self.dispose()
        forget_all(self)
        if _APPS.get(self.path) is self:
            del _APPS[self.path]

    def files(self) -> Iterator[Path]:
        """The files that decide what the app is; a process with older ones is replaced by another one."""
        yield self.path / self.place.file
        yield from self.folder.glob("*/*/e.json")
        yield from self.folder.glob("*/*/*.py")
        yield from self.modules.files()

    # Check

    def check(self, now: datetime | None = None) -> list[Problem]:
        """Every mistake of every file, without touching a database or a server; with `now` also schedules that do not fit Prefect's."""
        return check.problems(self, now)

    def notes(self) -> list[str]:
        """Parts in JitTask's form that are not carried over, each with the next step; `check` ends with them."""
        return notes.notes(self)

    def warnings(self, now: datetime, templates: list[Meta] | None = None) -> list[str]:
        """Facts that a user should know of working parts, of the app or of some templates only."""
        return check.warnings(self, now, templates)


_APPS: dict[Path, App] = {}
_MADE = threading.Lock()  # an app is made without any import of the team's code


def current_app() -> App:
    """The app that `JITTASK_APP`, or the nearest app.json or table of a pyproject.toml, names; loaded once.

    Raises:
        ConfigError: No app is named, or its file is wrong.
    """
    path = find_place().path
    if path not in _APPS:
        with _MADE:
            if path not in _APPS:
                _APPS[path] = App(path)

    return _APPS[path]


def apps_in_use() -> list[App]:
    """The apps that this process has asked for as the current one, and that are not closed."""
    return list(_APPS.values())


def files_of_apps() -> Iterator[Path]:
    """The files of the apps that this process has in use."""
    for app in apps_in_use():
        yield from app.files()


def use_app(app: App) -> None:
    """Make `current_app` give an app that is already loaded, for its folder."""
    # The package's `app` only stands for the current app, which is in use already.
    if isinstance(app, App):
        _APPS[app.path] = app
