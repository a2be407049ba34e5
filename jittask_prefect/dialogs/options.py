"""The options of drop-downs, from the app's present content, with the texts that people see."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from zoneinfo import available_timezones

from jittask_prefect.dialogs.words import INNER
from jittask_prefect.elements.app import App
from jittask_prefect.elements.json_files import read_json
from jittask_prefect.elements.scaffold import date_fields
from jittask_prefect.elements.types import Meta, NormalService
from jittask_prefect.errors import ConfigError, JittaskError
from jittask_prefect.prefect_api.markup import printable
from jittask_prefect.schedule import country

MOST_TASKS = 100
"""Open tasks in the form for ending a task."""
MODELS = "models."
TITLED = ("date fields", "functions")
"""The sources whose values are named by the title of their model or service."""
MARK = " · "
"""Stands before the name, or the id, of an element in a drop-down's text."""
LONGEST_TITLE = 80
"""Characters of a title in a drop-down."""
POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)
STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class OpenTask:
    """A task that may be ended.

    Attributes:
        id: The task's id, or the flow run's.
        name: The task's title, row and due time.
        due: The due time; aware.
        status: `executing` or `pending`.
    """

    id: str
    name: str
    due: datetime
    status: str

    def text(self, now: datetime) -> str:
        """The text in the drop-down, with the id at the end."""
        overdue = self.status == "pending" and self.due < now
        status = "overdue" if overdue else self.status
        return f"{self.name}{MARK}{status}{MARK}{self.id}"


class Options:
    """The options of an app's drop-downs.

    Args:
        app: The app.
        now: The present instant, aware.
        rows: Whether the form is for date-field tasks; None for both kinds.
        open_tasks: The tasks that may be ended: `deploying.open_tasks` finds them.
    """

    def __init__(
        self,
        app: App,
        now: datetime,
        rows: bool | None,
        open_tasks: Iterable[OpenTask] = (),
    ) -> None:
        self.app, self.now, self.rows = app, now, rows
        self.open = tuple(open_tasks)
        self.templates = app.templates()
        self.sources: dict[str, Callable[[], list[str]]] = {
            "tasks": self.tasks,
            "open tasks": self.open_tasks,
            "date fields": self.date_fields,
            "functions": self.functions,
            "types": self.types,
            "calendars": self.calendars,
            "time zones": self.time_zones,
        }

    def tasks(self) -> list[str]:
        """The full names of the templates."""
        return [template.fullName for template in self.templates]

    def labels(self, source: str, values: Iterable[str]) -> dict[str, str]:
        """The texts for people of a source's values; empty where the values speak for themselves."""
        if source == "tasks":
            return {each.fullName: task_label(each) for each in self.templates}
        if source not in TITLED:
            return {}
        return {value: label(self.app, source, value) for value in values}

    def open_tasks(self) -> list[str]:
        """The tasks that may be ended: executing ones, overdue ones, then the next; each with its id at the end."""
        in_order = sorted(self.open, key=lambda each: (each.status, each.due))
        return [each.text(self.now) for each in in_order[:MOST_TASKS]]

    def date_fields(self) -> list[str]:
        """The date and datetime columns of the app's models, e.g. `Contract.endDate`."""
        return [
            f"{name.partition('.')[2]}.{field}"
            for name, model in self.app.models().items()
            for field in date_fields(model)
        ]

    def functions(self) -> list[str]:
        """The task's own function, the services' functions that fit, and those that tasks call already."""
        found = [INNER]
        for name in self.app.names("services"):
            try:
                service = self.app.getElement(name)
            except JittaskError:
                continue
            if isinstance(service, NormalService):
                found += [f"{name}.{method}" for method in self._methods(service)]
        called = [t.cfg.func for t in self.templates if self.rows in (None, t.rows)]
        return _with_used(found, called)

    def _methods(self, service: NormalService) -> list[str]:
        found = []
        for name in sorted(vars(type(service))):
            function = getattr(service, name, None)
            if name.startswith("_") or not inspect.isroutine(function):
                continue
            if self.rows is None or _takes(function, row=self.rows):
                found.append(name)
        return found

    def types(self) -> list[str]:
        """The task Types."""
        return [
            name
            for name, kind in self.app.types().items()
            if kind is not Meta and self.rows in (None, kind.rows)
        ]

    def calendars(self) -> list[str]:
        """The calendars of app.json, the countries', and those in use."""
        used = [template.timer.cfg.calendar for template in self.templates]
        return _with_used([*self.app.calendars(), *country.codes()], used)

    def time_zones(self) -> list[str]:
        """The app's time zone, all others, and those in use."""
        used = [template.timer.cfg.timezone for template in self.templates]
        return _with_used([self.app.timezone, *_all_time_zones()], used)


def task_label(template: Meta) -> str:
    """A task as drop-downs name it: `Daily report · tasks.DailyReport`."""
    return labelled(template.title, template.fullName)


def label(app: App, source: str, value: Any) -> Any:
    """A model's date field or a service's function as drop-downs have it; other values as they are.

    Args:
        app: The app.
        source: The name of the options.
        value: The value, e.g. `Contract.endDate`, which becomes `Contract · models.Contract.endDate`.
    """
    if source not in TITLED or value == INNER:
        return value
    name = f"{MODELS}{value}" if source == "date fields" else value
    return labelled(_title_of(app, name.rpartition(".")[0]), name)


def _title_of(app: App, element: str) -> str:
    """The title of a model or a service; its own name where no readable e.json has a title."""
    where = f"{element.replace('.', '/')}/e.json"
    try:
        about = read_json(app.folder / where, where)
    except ConfigError:
        about = {}
    title = about.get("title") if isinstance(about, dict) else None
    return title if isinstance(title, str) else element.rpartition(".")[2]


def labelled(title: str, name: str) -> str:
    """A title and a name as drop-downs have them."""
    return f"{clean_title(title)}{MARK}{name}"


def clean_title(title: str) -> str:
    """A title as a line of at most 80 characters, without placeholders and characters that change others' direction."""
    line = " ".join(printable(title).split()).replace("{{", "{ {").replace("}}", "} }")
    return line if len(line) <= LONGEST_TITLE else line[: LONGEST_TITLE - 1] + "…"


def _takes(function: Any, *, row: bool) -> bool:
    """Whether a function takes exactly a row, or no argument."""
    parameters = inspect.signature(function).parameters.values()
    if row:
        return len(parameters) == 1 and all(p.kind in POSITIONAL for p in parameters)
    return all(p.kind in STARRED for p in parameters if p.default is p.empty)


def _with_used(known: Iterable[str], used: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys([*known, *filter(None, used)]))


@lru_cache(maxsize=1)
def _all_time_zones() -> list[str]:
    return sorted(available_timezones())
