"""The five dialogs of an app, with drop-downs from what the app has now."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import available_timezones

from sqlalchemy import or_, select
from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.dialogs import words
from jittask_prefect.dialogs.fields import (
    Field,
    choice,
    choices,
    clock,
    day,
    flag,
    json_text,
    line,
    lines,
    schema,
    seconds,
    text,
    whole,
)
from jittask_prefect.elements.app import App
from jittask_prefect.elements.loader import TASK_TYPES
from jittask_prefect.elements.scaffold import date_fields
from jittask_prefect.elements.types import DateFieldType, Meta, NormalService
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import versions
from jittask_prefect.ledger.entry import Entry, to_entry
from jittask_prefect.ledger.tables import entries
from jittask_prefect.prefect_api.names import timed_name
from jittask_prefect.schedule import country

NEW_SCHEDULED, NEW_DATE_FIELD = (
    "jittask.new-scheduled-task",
    "jittask.new-date-field-task",
)
EDIT, END, RUN_NOW = "jittask.edit-task", "jittask.end-task", "jittask.run-task-now"
TASK_ID = " · "  # before the id, in the words for a task that may be ended
FIRST = (
    *(
        "task",
        "title",
        "name",
        "startField",
        "when",
        "offset",
        "offsetUnit",
        "atTime",
        "filter",
        "startDate",
        "startTime",
    ),
    *(
        "endDate",
        "endTime",
        "repeat",
        "period",
        "weekdays",
        "days",
        "months",
        "skipHoliday",
        "func",
        "enable",
    ),
)
"""What most people fill in; the rest follows."""
CLEARED = (
    *(
        "endDate",
        "endTime",
        "endField",
        "atTime",
        "endAtTime",
        "filter",
        "period",
        "weekdays",
        "days",
        "week",
        "months",
    ),
    *(
        "monthEnd",
        "cron",
        "rrule",
        "dates",
        "holidayPolicy",
        "calendar",
        "timezone",
        "argDict",
        "missed",
        "grace",
    ),
    *(
        "lookback",
        "retries",
        "retryDelay",
        "timeout",
        "limit",
        "overlap",
        "tags",
        "description",
        "dispatch",
        "rowRuns",
    ),
)
"""What a task need not have: an edit may take it away."""
VERSION = "^[0-9a-f]{16}$"
_WHERE_EMPTY = re.compile(r"; (?:empty: .*|[^;]* where empty)$")
"""What an empty field means for a new task; in the form for editing each means unchanged."""
SHOWN = 100  # of the tasks that may be ended


@dataclass(frozen=True)
class Dialog:
    """One dialog.

    Attributes:
        name: The deployment's, which is the flow's too.
        about: The deployment's description, in Markdown.
    """

    name: str
    about: str

    @property
    def function(self) -> str:
        """The name that an entrypoint has for it."""
        return self.name.replace(".", "_").replace("-", "_")


DIALOGS = (
    Dialog(NEW_SCHEDULED, "**New scheduled task.** Its Run form makes a task that is due at times of its own."),
    Dialog(NEW_DATE_FIELD, "**New date field task.** Its Run form makes a task for each row, due by a date of it."),
    Dialog(
        EDIT,
        "**Edit a task.** Open it with the link on its statistics page, which fills the form in. A field that stays "
        "empty leaves what the task has; *Clear* takes it away.",
    ),
    Dialog(END, "**End a task.** A pending one never runs; of an executing one the process is gone."),
    Dialog(RUN_NOW, "**Run a task now**, outside its schedule."),
)  # fmt: skip


def form(app: App, name: str, now: datetime | None) -> list[Field]:
    """The fields of a dialog.

    Args:
        app: The app.
        name: The dialog's name.
        now: The present instant; None: without what is in the drop-downs, which takes time to find.
    """
    return sorted(
        _fields(app, name, now),
        key=lambda field: FIRST.index(field.name) if field.name in FIRST else 99,
    )


def _fields(app: App, name: str, now: datetime | None) -> list[Field]:
    live = _Live(app, now)
    if name == NEW_SCHEDULED:
        return [
            *_named(),
            *live.scheduled(new=True),
            *live.often(),
            *live.function(rows=False),
            *_running(),
            *_code(app),
        ]
    if name == NEW_DATE_FIELD:
        fields = [
            *_named(),
            *live.rows(),
            *live.often(),
            *live.function(rows=True),
            *_running(),
            *_of_rows(),
        ]
        return [*fields, *_code(app)]
    tasks = [template.fullName for template in live.templates]
    if name == EDIT:
        every = [
            *live.scheduled(new=False),
            *live.rows(),
            *live.often(),
            *live.function(rows=None),
            *_running(),
        ]
        own = list(
            {
                field.name: _optional(field)
                for field in [_title(), *every, *_of_rows(), *_code(app)]
            }.values()
        )
        titles = [field.title for field in own if field.name in CLEARED]
        return [
            choice(
                "task",
                "Task",
                tasks,
                "A field that stays empty leaves what the task has",
                required=True,
            ),
            *own,
            choices(
                "clear",
                "Clear",
                titles,
                "What to take away; the field itself stays as it is, or empty",
            ),
            line(
                "version",
                "Version",
                "Of the task, as the link filled the form in",
                pattern=VERSION,
            ),
        ]
    if name == END:
        return [
            choice("task", "Task", live.open(), "What is executing, overdue, or next"),
            line(
                "taskId",
                "or its id",
                "A task's, or a flow run's, from the address of its page",
            ),
        ]
    return [
        choice("task", "Task", tasks, required=True),
        line("row", "Row", "The row's key, for a date field task"),
        json_text(
            "argDict",
            "Arguments",
            "Keyword arguments for the function of a scheduled task, as JSON",
        ),
    ]


def schemas(app: App, now: datetime) -> dict[str, dict[str, Any]]:
    """The forms of all dialogs, as their deployments have them."""
    return {dialog.name: schema(form(app, dialog.name, now)) for dialog in DIALOGS}


class _Live:
    """What the app has."""

    def __init__(self, app: App, now: datetime | None) -> None:
        self.app, self.now = app, now
        self.templates = [] if now is None else app.templates()

    def found(self, find: Callable[[], list[str]]) -> list[str]:
        return find() if self.now is not None else []

    def open(self) -> list[str]:
        return [] if self.now is None else _open(self.app, self.now)

    def scheduled(self, *, new: bool) -> list[Field]:
        return [
            day("startDate", "Start", "The first day", required=new),
            clock(
                "startTime", "Start time", "HH:mm, in the task's zone", default="09:00"
            ),
            day("endDate", "End", "The last day; without a time the whole day"),
            clock("endTime", "End time"),
        ]

    def rows(self) -> list[Field]:
        fields = self.found(lambda: _date_fields(self.app))
        units = list(words.UNITS.values())
        when = list(words.WHEN.values())
        return [
            choice("startField", "Model and date field", fields, "One task for each row, due by it", required=True),
            choice("when", "Due", when, default=when[0]),
            whole("offset", "How long before or after", default=0),
            choice("offsetUnit", "Unit", units, default="days"),
            clock("atTime", "At", "HH:mm: the clock time of that day, with days and longer units"),
            text("filter", "Filter", "A Q expression, e.g. Q(status='active'); empty: every row"),
            day("endDate", "End", "The last day; without a time the whole day"),
            clock("endTime", "End time"),
            choice("endField", "or end by a date field", fields),
            choice("endWhen", "End due", when),
            whole("endOffset", "How long before or after the end"),
            choice("endOffsetUnit", "Unit of the end", units),
            clock("endAtTime", "End at"),
        ]  # fmt: skip

    def often(self) -> list[Field]:
        used = [t.timer.cfg for t in self.templates]
        usual = self.app.cfg.calendar or "none"
        return [
            choice("repeat", "Repeat cycle", list(words.REPEAT.values()), default="No repeat"),
            whole("period", "Every … cycles", "2 with Weekly: every other week", low=1, default=1),
            choices("weekdays", "Weekdays", list(words.WEEKDAYS.values()), "Weekly; or with a week of the month"),
            choices("days", "Days of the month", list(words.DAYS.values()), "Monthly and yearly"),
            choice("week", "Week of the month", list(words.WEEKS.values()), "Monthly and yearly, with weekdays"),
            choices("months", "Months", list(words.MONTHS.values()), "Yearly"),
            choice("monthEnd", "Where a month has no such day", list(words.MONTH_END.values())),
            line("cron", "Custom: cron", "Five fields, e.g. 0 9 * * 1-5"),
            text("rrule", "or custom: RRULE", "One line, e.g. FREQ=MONTHLY;BYDAY=MO;BYSETPOS=1"),
            text("dates", "or custom: dates", "yyyy-MM-dd or yyyy-MM-dd HH:mm:ss, one on each line"),
            flag("skipHoliday", "Skip legal holidays", "What falls on one moves to the next workday", default=False),
            choice("holidayPolicy", "What falls on a holiday", list(words.HOLIDAY.values())),
            flag("workdaysOnly", "Working days only", "Weekends count as holidays", default=False),
            choice(
                "calendar",
                "Calendar",
                self.found(lambda: _with([*self.app.calendars(), *country.codes()], (c.calendar for c in used))),
                f"Of app.json, or a country's; the app's own is {usual}",
            ),
            choice(
                "timezone",
                "Time zone",
                self.found(lambda: _with([self.app.timezone, *_zones()], (c.timezone for c in used))),
                f"The app's own is {self.app.timezone}",
            ),
        ]  # fmt: skip

    def function(self, *, rows: bool | None) -> list[Field]:
        types = (
            []
            if self.now is None
            else [
                name
                for name, kind in self.app.types().items()
                if kind is not Meta and (rows is None or kind.rows == rows)
            ]
        )
        called = (
            t.cfg.func
            for t in self.templates
            if rows is None or isinstance(t, DateFieldType) == rows
        )
        found = [
            choice(
                "func",
                "Function",
                self.found(
                    lambda: _with([words.INNER, *_functions(self.app, rows)], called)
                ),
                "What it calls: a function in its own folder, or a service's",
                default=words.INNER,
            ),
            choice(
                "type",
                "Type",
                types,
                "A task Type of the app's own, or the built-in one",
            ),
        ]
        if not rows:
            found.append(
                json_text(
                    "argDict",
                    "Arguments",
                    "Keyword arguments for the function, as a JSON object",
                )
            )
        return found


def _named() -> list[Field]:
    return [
        _title(),
        line(
            "name",
            "English name",
            "Made from the name where empty",
            pattern="^[A-Za-z_][A-Za-z0-9_]{0,63}$",
        ),
    ]


def _title() -> Field:
    return line("title", "Name", "In any language", required=True)


def _running() -> list[Field]:
    return [
        flag("enable", "Enabled", default=True),
        choice(
            "missed",
            "What was missed",
            list(words.MISSED.values()),
            "What no worker ran in time",
        ),
        seconds("grace", "On time up to", "Seconds; 60 where empty"),
        seconds("lookback", "Look back", "Seconds; a day where empty"),
        whole("retries", "Retries"),
        seconds("retryDelay", "Delay before a retry"),
        seconds("timeout", "Time limit", "Seconds; 12 hours where empty"),
        whole(
            "limit",
            "At a time",
            "How many executions at most; no limit where empty",
            low=1,
        ),
        choice("overlap", "What is one too many", list(words.OVERLAP.values())),
        lines("tags", "Tags"),
        text("description", "Description", "Markdown, for the task's page"),
    ]


def _of_rows() -> list[Field]:
    return [
        choice(
            "dispatch",
            "Flow runs",
            list(words.DISPATCH.values()),
            "For rows that are due at one instant",
        ),
        choice("rowRuns", "Rows shown as task runs", list(words.ROW_RUNS.values())),
    ]


def _code(app: App) -> list[Field]:
    return (
        [text("code", "inner.py", "Python; replaces what is there")]
        if app.cfg.allowCodeFromForms
        else []
    )


def _optional(field: Field) -> Field:
    """In the form for editing nothing is filled in by default: empty means unchanged. A switch cannot be empty."""
    about = _WHERE_EMPTY.sub("", field.about)
    if field.schema["type"] == "boolean":
        return choice(field.name, field.title, list(words.SWITCH.values()), about)
    return Field(field.name, field.title, field.schema, about)


def _with(known: Iterable[str], used: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys([*known, *(name for name in used if name)]))


@lru_cache(maxsize=1)
def _zones() -> Sequence[str]:
    return sorted(available_timezones())


def _date_fields(app: App) -> list[str]:
    """The date and datetime columns of the app's models, as `Contract.endDate`."""
    models = app.models().items()
    return [
        f"{name.partition('.')[2]}.{field}"
        for name, model in models
        for field in date_fields(model)
    ]


def _functions(app: App, rows: bool | None) -> list[str]:
    """The service functions that a task can call: without arguments, or with a row."""
    found = []
    for name in app.names("services"):
        try:
            service = app.getElement(name)
        except JittaskError:
            continue
        if not isinstance(service, NormalService):
            continue
        for method in sorted(vars(type(service))):
            function = getattr(service, method, None)
            if method.startswith("_") or not inspect.isroutine(function):
                continue
            if rows is None or _fits(function, rows):
                found.append(f"{name}.{method}")
    return found


def _fits(function: Any, rows: bool) -> bool:
    parameters = inspect.signature(function).parameters.values()
    if rows:
        positional = (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        )
        return len(parameters) == 1 and all(p.kind in positional for p in parameters)
    needed = [p for p in parameters if p.default is p.empty]
    return all(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in needed)


def _open(app: App, now: datetime) -> list[str]:
    """What may be ended, in words with the id at the end: what executes, what is overdue, what comes next."""
    open_ = or_(entries.c.status == "executing", entries.c.status == "pending")
    query = (
        select(entries)
        .where(open_)
        .order_by(entries.c.status, entries.c.due, entries.c.task_id)
        .limit(SHOWN)
    )
    found = []
    for database in app.databases():
        try:
            with app.engine(database).connect() as connection:
                if not versions.there(connection):
                    continue
                found += [to_entry(record) for record in connection.execute(query)]
        except SQLAlchemyError:
            continue  # what stands in a database that is down cannot be ended now
    found.sort(key=lambda entry: (entry.status, entry.due))
    status = {
        e.task_id: "overdue" if e.status == "pending" and e.due < now else e.status
        for e in found
    }
    return [
        f"{_named_task(app, e)} · {status[e.task_id]}{TASK_ID}{e.task_id}"
        for e in found[:SHOWN]
    ]


def _named_task(app: App, entry: Entry) -> str:
    """The name of a task's flow run."""
    about = f"{(entry.model or entry.template).partition('.')[2]} {entry.row_key}"
    try:
        zone: tzinfo = app.template(entry.template).timer.zone
    except JittaskError:
        zone = app.zone
    return timed_name(about.strip(), entry.due, zone)


def types_of(app: App, *, rows: bool) -> str:
    """The Type of a new task where the form names none."""
    return next(name for name, kind in TASK_TYPES.items() if kind.rows == rows)
