"""Meta → Type → Instance: the base classes that task templates and services are made of.

A *Type* is a class here or of the app's own; a *template* is an instance of its Type, made from an element folder.
The names of public methods are the contract's, hence camelCase.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from jittask_prefect.elements.config import TaskCfg
from jittask_prefect.elements.config_texts import NAME
from jittask_prefect.elements.decorated.declared import Declared
from jittask_prefect.elements.digest import OF_A_ROW, TAKES_ROWS
from jittask_prefect.elements.original.jit_rows import in_style
from jittask_prefect.elements.ownership import defined_by
from jittask_prefect.elements.row_fields import RowFields
from jittask_prefect.elements.row_timers import RowTimes
from jittask_prefect.elements.signatures import (
    CUSTOM,
    MAIN,
    MAIN_TEXT,
    Function,
    signature_of,
    signature_text,
    takes_app,
)
from jittask_prefect.elements.task import Task
from jittask_prefect.errors import (
    ConfigError,
    Problem,
    SignatureError,
    UnknownElement,
)
from jittask_prefect.errors.column_paths import read_path
from jittask_prefect.filters.expression import Filter, parse
from jittask_prefect.filters.where import Where
from jittask_prefect.schedule import clock
from jittask_prefect.schedule.instants import clamped
from jittask_prefect.schedule.timer import Explained, Series, Timer
from jittask_prefect.schedule.words import origin
from jittask_prefect.validation import quoted

if TYPE_CHECKING:
    from jittask_prefect.elements.app import App

POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)


class Meta:
    """The base of all task templates (`tasks.Meta`)."""

    rows = False
    declared: Declared | None = None
    """What the decorator of the function says; None for a task with an e.json."""

    def __init__(
        self,
        app: App,
        fullName: str,
        config: Mapping[str, Any],
        cfg: TaskCfg,
        timer: Timer,
    ) -> None:
        self.app = app
        self.fullName = fullName
        self.declared = app.declared(fullName)
        self.config: dict[str, Any] = dict(config)
        self.cfg = cfg
        self.title = cfg.title
        self.taskType = cfg.type
        self.timer = timer

    def __repr__(self) -> str:
        return f"<{self.fullName} ({self.taskType})>"

    @property
    def enable(self) -> bool:
        """Whether the template makes tasks of its own."""
        return self.cfg.enable

    @property
    def by_code(self) -> bool:
        """Whether the template has no time of its own: `app.run_at` alone runs its function."""
        return self.declared is not None and self.declared.kind == "code"

    @property
    def days_digest(self) -> str:
        """A short text that changes with the days that decide about due times; empty where none does."""
        return self.timer.days_digest

    def row_timer(self, row: Any = None) -> Timer:
        """The timer that counts: the task's own; of a row with a zone or calendar of its own that row's."""
        return self.timer

    def zone_of(self, value: str | None) -> ZoneInfo:
        """The zone of an execution's times; `value` is the row's own zone, as the ledger keeps it."""
        return self.timer.zone

    @property
    def inner(self) -> ModuleType:
        """The module of the template's inner.py, loaded at first use."""
        return self.app.module(self.fullName, "inner")

    @property
    def own_times(self) -> bool:
        """Whether the Type itself says when its tasks are due (`getNextRunTime`), instead of the timer."""
        return type(self).getNextRunTime is not Meta.getNextRunTime

    def occurrences(
        self, after: datetime, before: datetime, row: Any = None
    ) -> Iterator[datetime]:
        """When tasks of this template are due.

        Args:
            after: First instant of the window, included; naive means the task's zone.
            before: End of the window, excluded.
            row: The row, for a date-field template.

        Returns:
            Aware datetimes in the task's zone, in order.
        """
        series = self.series(row)
        if series is None:
            return iter(())

        window = self.local(after), self.local(before)
        return (occurrence.due for occurrence in series.between(*window))

    def explain(
        self, after: datetime, before: datetime, row: Any = None
    ) -> list[Explained]:
        """How each occurrence in the window came to be; arguments as for `occurrences`."""
        return list(self.explained(after, before, row))

    def explained(
        self, after: datetime, before: datetime, row: Any = None
    ) -> Iterator[Explained]:
        """The same as `explain`, each as soon as it is found."""
        series = self.series(row)
        if series is None:
            return iter(())
        return series.explained(self.local(after), self.local(before))

    def getNextRunTime(
        self, task: Task | None = None, now: datetime | None = None
    ) -> datetime | None:
        """The next due time after `now` (the present where absent); None otherwise."""
        series = self.series(task.row if task is not None else None)
        if series is None:
            return None
        occurrence = series.next(self.local(now) if now is not None else clock.now())
        return occurrence.due if occurrence else None

    def series(self, row: Any = None) -> Series | None:
        """The occurrences that belong together: the scheduled task's, or a row's."""
        return self.timer.series()

    def local(self, instant: datetime) -> datetime:
        """An instant made aware: a naive datetime is wall-clock time in the task's zone."""
        return instant if instant.tzinfo else clamped(instant, self.timer.zone)

    def getFunc(self, task: Task | None = None) -> Function:
        """The function that an execution calls.

        Raises:
            UnknownElement: The function is missing.
        """
        name = task.funcName if task is not None else None
        if name is None:
            name = self.cfg.func if self.cfg.funcType == "Global" else CUSTOM
        return self.function(str(name))

    def function(self, name: str) -> Function:
        """A function of inner.py, or `services.X.method`.

        Raises:
            UnknownElement: The function is missing.
        """
        if name.startswith("services."):
            return self.app.service_function(name)
        if self.declared is not None:
            return self._declared_function(self.declared, name)

        names = vars(self.inner)
        if CUSTOM not in names and takes_app(main := names.get(MAIN), name):
            return partial(main, self.app, self)

        found: Any = names.get(name)
        if not self._callable(name, found):
            callables = sorted(n for n, f in names.items() if self._callable(n, f))
            known = ", ".join(callables) or "none"
            raise UnknownElement(
                f"{self.fullName}: no function {quoted(name)}; its inner.py has {known}; "
                "a service function is written services.X.method"
            )

        return found  # type: ignore[no-any-return]

    def _declared_function(self, declared: Declared, name: str) -> Function:
        """The decorated function, by its own name too."""
        own = declared.function.__name__
        if name not in (CUSTOM, own):
            raise UnknownElement(
                f"{self.fullName}: no function {quoted(name)}; its own is {own}, called {CUSTOM} too; "
                "a service function is written services.X.method"
            )

        return declared.function

    def _callable(self, name: str, found: object) -> bool:
        """Whether a task may call a name of its inner.py; `customFunc` may be imported, other functions may not."""
        if name == CUSTOM:
            return callable(found) and not isinstance(found, type)
        public = NAME.fullmatch(name) and not name.startswith("_")
        return bool(public) and defined_by(found, self.app.path)

    def handle(self, task: Task) -> Any:
        """Run an execution, and return the task's result; a Type may override it."""
        return self.getFunc(task)(**task.argDict)

    def afterReturn(self, task: Task) -> None:
        """Called once after an execution, whatever its end; a Type may override it."""

    def check_function(self) -> None:
        """Refuse a function that does not take the arguments of the task.

        Raises:
            SignatureError: The function does not take them.
            ConfigError: The function, its module or its service is missing or broken.
        """
        file, key, found = "", "func", str(self.cfg.func)
        if self.declared is not None:
            file, key = self.declared.source, self.declared.function.__name__
        elif self.cfg.funcType == "Inner":
            file = f"{self.fullName.replace('.', '/')}/inner.py"
            key, found = CUSTOM, "nothing"

        try:
            func = self.getFunc()
            if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
                generator = f"{signature_text(func)} with `yield`"
                allowed = "a function without `yield`, which runs when it is called"
                raise SignatureError(Problem("", key, generator, allowed))

            self._check_signature(func, key)
        except UnknownElement as error:
            allowed = f"a function that is there ({error})"
            raise ConfigError(Problem(file, key, found, allowed)) from None
        except SignatureError as error:
            raise error.within(file) from None

    def _check_signature(self, func: Function, key: str) -> None:
        if self.by_code:
            return  # `run_at` brings the arguments

        try:
            signature_of(func, key).bind(**self.cfg.argDict)
        except TypeError as error:
            given = f"{', '.join(self.cfg.argDict)} (argDict)"
            given = given if self.cfg.argDict else "no argument"
            allowed = f"a function that can be called with {given}"
            found = f"{signature_text(func)}: {error}"
            raise SignatureError(Problem("", key, found, allowed)) from None


class NormalType(Meta):
    """Scheduled tasks (`tasks.NormalType`): due at the times of their own schedule."""


class DateFieldType(RowFields, Meta):
    """Date-field tasks (`tasks.DateFieldType`): a task for each row, due relative to a date of the row."""

    rows = True

    def __init__(
        self,
        app: App,
        fullName: str,
        config: Mapping[str, Any],
        cfg: TaskCfg,
        timer: Timer,
    ) -> None:
        Meta.__init__(self, app, fullName, config, cfg, timer)
        RowFields.__init__(self, app, timer)
        self.model_name = str(cfg.modelPath)
        where = self.declared.where if self.declared is not None else None
        self.filter: Filter | Where = where or parse(cfg.filter)
        self.kept: dict[Any, Any] = {}
        """Statements that other rooms have made for the template, kept as long as the template is."""

    @property
    def fields(self) -> set[str]:
        """The fields that decide when, and whether, a row is due; for a related row the relationship."""
        cfg = self.timer.cfg
        dates = {name for name in (cfg.start_field, cfg.end_field) if name}
        own = {read_path(path)[0] for path in self.own_fields.values()}
        return dates | own | {name.partition(".")[0] for name in self.filter.fields}

    @property
    def model(self) -> type[Any]:
        """The model's class."""
        named = self.model_name.startswith("models.")
        found = self.app.getElement(self.model_name) if named else None
        if not isinstance(found, type):
            known = ", ".join(self.app.names("models")) or "none"
            raise UnknownElement(
                f"{self.model_name!r} is no model of {self.app.name}; its models are {known}"
            )

        return found

    @property
    def row_label(self) -> str | None:
        """The field or method that names a row for people, as the task or its model states; None without."""
        own = self.declared.row_label if self.declared is not None else None
        return own or self.app.row_label_of(self.model_name)

    def series(self, row: Any = None) -> Series | None:
        """The occurrences of a row; None where the row has no date."""
        if row is None:
            return None
        return self.series_of(self.times(row))

    def series_of(self, times: RowTimes) -> Series | None:
        """The occurrences of a row's values; None where the row has no date."""
        if times.start is None:
            return None
        timer = self.timer_of(times.zone, times.calendar)
        return timer.series(times.start, times.end)

    def explained(
        self, after: datetime, before: datetime, row: Any = None
    ) -> Iterator[Explained]:
        """How each occurrence of a row came to be, its date and the offset included."""
        if row is None or (times := self.times(row)).start is None:
            return
        where: dict[str | None, str] = {}
        for found in super().explained(after, before, row):
            if (level := found.level) not in where:
                where[level] = self.origin(times, level)
            yield replace(found, origin=where[level])

    def origin(self, times: RowTimes, level: str | None = None) -> str:
        """Where the first nominal time of a row comes from: its date, the offset, and a zone and calendar of its own.

        Args:
            times: The row's values.
            level: The name of the offset, where there are several; None: the value alone.
        """
        timer = self.timer_of(times.zone, times.calendar)
        notes = self.own_notes(times.zone, times.calendar)
        return "; ".join([origin(timer, times.start, level), *notes])

    def handle(self, task: Task) -> Any:
        """Run an execution: the function gets the row, of a digest the rows, or, called by `createTimerTask`, its arguments."""
        if task.row is None:
            return super().handle(task)
        return self.getFunc(task)(in_style(self.app, task.row))

    def _check_signature(self, func: Function, key: str) -> None:
        found = [*signature_of(func, key).parameters.values()]
        fits = len(found) == 1 and found[0].kind in POSITIONAL
        if self.cfg.digest is not None:
            fits = fits and found[0].name not in OF_A_ROW
        if not fits:
            main = isinstance(func, partial)
            allowed = MAIN_TEXT if main else "exactly one parameter, the row"
            allowed = TAKES_ROWS if self.cfg.digest is not None else allowed
            raise SignatureError(Problem("", key, signature_text(func), allowed))


class NormalService:
    """The base of services (`services.NormalType`): a class whose methods are service functions.

    Attributes:
        app: The app that the service belongs to; set once the service is made.
    """

    app: App
