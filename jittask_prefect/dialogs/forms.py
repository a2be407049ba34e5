"""The six dialogs of an app, and their forms."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from jittask_prefect.dialogs.fields import (
    DAY,
    JSON,
    LINE,
    Field,
    Json,
    choice,
    matching,
)
from jittask_prefect.dialogs.groups import BY_NAME as GROUPS
from jittask_prefect.dialogs.groups import as_property, strict, tabs_of
from jittask_prefect.dialogs.options import OpenTask, Options
from jittask_prefect.dialogs.task_fields import CODE, NAME, TASK_FIELDS
from jittask_prefect.dialogs.words import SWITCH
from jittask_prefect.elements.app import App

NEW_SCHEDULED = "jittask.new-scheduled-task"
NEW_DATE_FIELD = "jittask.new-date-field-task"
EDIT, END, RUN_NOW = "jittask.edit-task", "jittask.end-task", "jittask.run-task-now"
RETRY = "jittask.retry-failed"


@dataclass(frozen=True)
class Dialog:
    """A dialog.

    Attributes:
        name: The name of its deployment, and of its flow.
        about: The deployment's description, in Markdown.
    """

    name: str
    about: str

    @property
    def function(self) -> str:
        """The name of its flow's function in an entrypoint."""
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
    Dialog(RETRY, "**Retry failed tasks**, all or those of one task: what was completed does not run again."),
)  # fmt: skip
END_FIELDS = (
    choice("task", "Task", about="Tasks that execute, are overdue, or come next",
           source="open tasks"),
    Field("taskId", "or its id", LINE, "The id in the address of its flow run's page, or the id of the task",
          "0190f3a2-6b1e-7a52-9c3d-2f1b8c4d5e6f"),
)  # fmt: skip
RUN_FIELDS = (
    choice("task", "Task", about="The task that runs once, now", example="Daily report", source="tasks",
           required=True),
    Field("row", "Row", LINE, "The key of a row; a date field task needs one", "42"),
    Field("argDict", "Arguments", JSON, "Keyword arguments for the function of a scheduled task, as JSON",
          '{"region": "north"}'),
)  # fmt: skip
RETRY_FIELDS = (
    choice("task", "Task", about="The task whose failures run again; empty: all tasks, since the day below", source="tasks"),
    Field("since", "Failed since", DAY, "Only tasks that failed on this day or later"),
)  # fmt: skip
EDITED = choice(
    "task",
    "Task",
    about="The task to change; an empty field below changes nothing",
    example="Daily report",
    source="tasks",
    required=True,
)
VERSION = Field(
    "version",
    "Version",
    matching("^[0-9a-f]{16}$"),
    "The task's version when the form was filled in; leave this field as it is",
)
NEW_LAYOUT = (
    "title", "startField", "due", "filter", "startDate", "startTime", "repeats", "holidays", "ends", "what", "limits",
    "late", "more",
)  # fmt: skip
EDIT_LAYOUT = (
    "task", "title", "enable", "startField", "due", "filter", "repeats", "holidays", "ends", "what", "limits", "late",
    "more", "clear", "version",
)  # fmt: skip
"""The fields and groups of a form, in order; each other field stands in a group."""


def layout(name: str) -> Sequence[str]:
    """The fields and groups of a dialog's form, in order; empty where the form has no groups."""
    new = dict.fromkeys((NEW_SCHEDULED, NEW_DATE_FIELD), NEW_LAYOUT)
    return {**new, EDIT: EDIT_LAYOUT}.get(name, ())


def form(
    app: App, name: str, now: datetime | None, open_tasks: Iterable[OpenTask] = ()
) -> list[Field]:
    """The fields of a dialog.

    Args:
        app: The app.
        name: The dialog's name.
        now: The present instant, aware; None leaves out the drop-downs' options, which take time to find.
        open_tasks: The tasks that may be ended, for the form that ends tasks.
    """
    rows = {NEW_SCHEDULED: False, NEW_DATE_FIELD: True}.get(name)
    fields = _fields(name, rows, code=app.cfg.allowCodeFromForms)
    options = Options(app, now, rows, open_tasks) if now is not None else None
    return [_with_options(field, app, options) for field in fields]


def _fields(name: str, rows: bool | None, *, code: bool) -> Iterable[Field]:
    if name == END:
        return END_FIELDS
    if name == RUN_NOW:
        return RUN_FIELDS
    if name == RETRY:
        return RETRY_FIELDS
    codes = [CODE] if code else []
    if name == EDIT:
        edited = [for_editing(field) for field in (*TASK_FIELDS, *codes)]
        titles = [field.title for field in edited if field.clearable]
        about = "Fields whose value to take away; leave the fields themselves as they are, or empty"
        return [
            EDITED,
            *edited,
            choice("clear", "Clear", titles, about, many=True, example="Filter"),
            VERSION,
        ]
    title, *fields = (f for f in TASK_FIELDS if f.rows in (None, rows))
    return [title, NAME, *fields, *codes]


def for_editing(field: Field) -> Field:
    """A field of the form for editing, where empty means unchanged. A switch cannot be empty, so a drop-down stands for a switch."""
    field = replace(field, required=False, default=None, if_empty="")
    if not field.switch:
        return field
    drop_down = choice(field.name, field.title, SWITCH, field.about)
    return replace(
        drop_down, clearable=field.clearable, example=field.example, key=field.key
    )


def _with_options(field: Field, app: App, options: Options | None) -> Field:
    """A field with its drop-down's options, and with the app's own choice in its help text."""
    if not field.source:
        return field
    found = options.sources[field.source]() if options is not None else []
    labels = options.labels(field.source, found) if options is not None else {}
    own = {"calendars": app.cfg.calendar or "none", "time zones": app.timezone}
    about = field.about
    if field.source in own:
        about += f"; the app's own is {own[field.source]}"
    schema = {**field.schema, "enum": found}
    return replace(field, about=about, schema=schema, labels=labels)


def schema(name: str, fields: Sequence[Field]) -> Json:
    """The JSON schema of a dialog's form, as a deployment has it.

    A field that stands in a group may also be filled in by its own name: Prefect shows no *pattern* properties, and
    checks them.

    Args:
        name: The dialog's name.
        fields: The fields of the form.
    """
    alone = {each.name: each for each in fields if each.name in layout(name)}
    inside = {each.name: each for each in fields if each.name not in alone}
    if not layout(name):
        alone, inside = inside, {}
    shown = [
        each
        for each in layout(name) or alone
        if each in alone or (each in GROUPS and tabs_of(GROUPS[each], inside))
    ]
    properties = {
        each: alone[each].as_property(position)
        if each in alone
        else as_property(GROUPS[each], inside, position, editing=name == EDIT)
        for position, each in enumerate(shown)
    }
    return {
        "title": "Parameters",
        "type": "object",
        "properties": properties,
        "patternProperties": {
            f"^{each}$": strict(field) for each, field in inside.items()
        },
        "required": [each.name for each in fields if each.required],
        "definitions": {
            place: found
            for each in fields
            for place, found in each.definitions().items()
        },
    }


def parameters(name: str, fields: Sequence[Field]) -> list[inspect.Parameter]:
    """The parameters of a dialog's flow: each field, and each group."""
    shown = layout(name)
    alone = [
        each.as_parameter()
        if each.name in shown or not shown
        else replace(each, default=None, required=False).as_parameter()
        for each in fields
    ]
    in_groups = [
        inspect.Parameter(
            each,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=dict | None,
        )
        for each in shown
        if each in GROUPS
    ]
    return [*alone, *in_groups]


def schemas(
    app: App, now: datetime, open_tasks: Iterable[OpenTask] = ()
) -> dict[str, Json]:
    """The JSON schemas of all dialogs' forms, by their names.

    Args:
        app: The app.
        now: The present instant, aware.
        open_tasks: The tasks that may be ended.
    """
    open_tasks = tuple(open_tasks)
    names = [dialog.name for dialog in DIALOGS]
    return {name: schema(name, form(app, name, now, open_tasks)) for name in names}
