"""What a flow run asks for: its parameters, which anybody may write, read before anything is done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeGuard

from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import (
    ArgumentError,
    JittaskError,
    UnknownElement,
    UnknownTask,
)
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.keys import as_text
from jittask_prefect.validation import shown

LONGEST = 200  # characters of a name or an id; longer ones are not looked for
Refusals = (ArgumentError, UnknownElement, UnknownTask)
"""What is wrong with the parameters of a flow run: nothing has run, and the message says why."""


@dataclass(frozen=True)
class Asked:
    """A task of a template by its id, a batch by its instant (UTC), or, with neither, a run of a scheduled task.

    The template is None where it is there and does not load: its tasks wait.
    """

    template: Meta | None
    task_id: str | None = None
    due: datetime | None = None


def asked(
    app: App, template: object, task_id: object = None, due: object = None
) -> Asked:
    """The parameters of a flow run, checked.

    Args:
        app: The app.
        template: A template's full name.
        task_id: The id of one of its tasks.
        due: The instant that a batch of its rows is due at: ISO 8601 with an offset.

    Raises:
        ArgumentError: A parameter is missing, or is not what it has to be.
        UnknownElement: There is no such template.
    """
    if not isinstance(template, str) or len(template) > LONGEST:
        raise ArgumentError(
            f"template {_told(template)}; allowed: the full name of a task, e.g. tasks.DailyReport"
        )
    of = _template(app, template)
    rows = isinstance(of, DateFieldType)
    if task_id is not None and not _is_id(task_id):
        raise ArgumentError(
            f"taskId {_told(task_id)}; allowed: the id of a task of {template}"
        )
    if due is None:
        if rows and task_id is None:
            raise ArgumentError(
                f"{template} has a task for each row, and the run names none. Give `taskId`, which "
                f"`jittask pending {template}` lists, or use the dialog jittask.run-task-now with the row's key"
            )
        return Asked(of, task_id)
    if task_id is not None or (of is not None and not rows):
        why = (
            f"{template} is no task of rows"
            if of is not None and not rows
            else "there is a taskId as well"
        )
        raise ArgumentError(
            f"due {_told(due)}, but {why}; allowed: `due` of a task of rows, and no `taskId`"
        )
    return Asked(of, None, _instant(due))


def _template(app: App, name: str) -> Meta | None:
    try:
        return app.template(name)
    except JittaskError:
        if not name.startswith("tasks.") or app.gone(name):
            raise
        return None


def _told(value: object) -> str:
    return as_text(shown(value))


def _is_id(value: object) -> TypeGuard[str]:
    return (
        isinstance(value, str)
        and len(value) <= LONGEST
        and value.isascii()
        and value.isprintable()
    )


def _instant(due: object) -> datetime:
    try:
        found = (
            datetime.fromisoformat(due)
            if isinstance(due, str) and len(due) <= LONGEST
            else None
        )
        if found is not None and found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ArgumentError(
        f"due {_told(due)}; allowed: an instant with its offset, e.g. 2026-03-02T09:00:00+00:00"
    )


def belongs(template: Meta, task_id: str, entry: Entry | None) -> Entry:
    """The entry of a task id, where it is this template's: of a row, or made for one of its functions.

    Raises:
        UnknownTask: It is not.
    """
    if entry is None or entry.task_id != task_id:
        raise UnknownTask(f"there is no task {_told(task_id)} in the ledger")
    if entry.template != template.fullName:
        raise UnknownTask(
            f"task {task_id} is one of {entry.template}, not of {template.fullName}"
        )
    rows = isinstance(template, DateFieldType)
    if entry.func_name is None and bool(entry.row_key) is not rows:
        kind = "of a row" if entry.row_key else "of no row"
        raise UnknownTask(
            f"task {task_id} is {kind}, which {template.fullName} is not any more"
        )
    return entry
