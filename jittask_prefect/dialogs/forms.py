"""The six dialogs of an app, and their forms."""

from __future__ import annotations

from collections.abc import Iterable
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
    schema,
)
from jittask_prefect.dialogs.options import Options
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
    choice("task", "Task", about="What is executing, overdue, or next", source="open tasks"),
    Field("taskId", "or its id", LINE, "A task's, or a flow run's, from the address of its page"),
)  # fmt: skip
RUN_FIELDS = (
    choice("task", "Task", source="tasks", required=True),
    Field("row", "Row", LINE, "The row's key, for a date field task"),
    Field("argDict", "Arguments", JSON, "Keyword arguments for the function of a scheduled task, as JSON"),
)  # fmt: skip
RETRY_FIELDS = (
    choice("task", "Task", about="Whose failed tasks run again; all tasks where empty", source="tasks"),
    Field("since", "Failed since", DAY, "Only tasks that failed on this day or later"),
)  # fmt: skip
EDITED = choice(
    "task",
    "Task",
    about="A field that stays empty leaves what the task has",
    source="tasks",
    required=True,
)
VERSION = Field(
    "version",
    "Version",
    matching("^[0-9a-f]{16}$"),
    "Of the task, as the link filled the form in",
)


def form(app: App, name: str, now: datetime | None) -> list[Field]:
    """The fields of a dialog.

    Args:
        app: The app.
        name: The dialog's name.
        now: The present instant, aware; None leaves out the drop-downs' options, which take time to find.
    """
    rows = {NEW_SCHEDULED: False, NEW_DATE_FIELD: True}.get(name)
    fields = _fields(name, rows, code=app.cfg.allowCodeFromForms)
    options = Options(app, now, rows) if now is not None else None
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
        about = "What to take away; the field itself stays as it is, or empty"
        return [
            EDITED,
            *edited,
            choice("clear", "Clear", titles, about, many=True),
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
    return replace(drop_down, clearable=field.clearable)


def _with_options(field: Field, app: App, options: Options | None) -> Field:
    """A field with its drop-down's options, and with the app's own choice in its help text."""
    if not field.source:
        return field
    found = options.sources[field.source]() if options is not None else []
    own = {"calendars": app.cfg.calendar or "none", "time zones": app.timezone}
    about = field.about
    if field.source in own:
        about += f"; the app's own is {own[field.source]}"
    return replace(field, about=about, schema={**field.schema, "enum": found})


def schemas(app: App, now: datetime) -> dict[str, Json]:
    """The JSON schemas of all dialogs' forms, by their names."""
    return {dialog.name: schema(form(app, dialog.name, now)) for dialog in DIALOGS}
