"""The request of a flow run: its parameters, which anybody may write, checked before anything is done."""

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
from jittask_prefect.ledger.keys import as_text
from jittask_prefect.validation import shown

LONGEST = 200
"""Characters of a name or an id; longer texts are not looked for."""
REFUSALS = (ArgumentError, UnknownElement, UnknownTask)
"""The errors of wrong parameters: nothing has run, and the message says why."""


@dataclass(frozen=True)
class Request:
    """A task by its id, a batch by its instant, a row by its key, or none: a run of a scheduled task.

    Attributes:
        template: The template; None for a template that does not load: its tasks wait.
        task_id: The task's id.
        due: The batch's instant, in UTC.
        row: The row's key: a person asks for a task beside the row's occurrences.
    """

    template: Meta | None
    task_id: str | None = None
    due: datetime | None = None
    row: str | None = None


def request_of(
    app: App,
    template: object,
    task_id: object = None,
    due: object = None,
    row: object = None,
) -> Request:
    """Check the parameters of a flow run.

    Args:
        app: The app.
        template: A template's full name.
        task_id: The id of a task of the template.
        due: The instant of a batch: ISO 8601 with an offset.
        row: The key of a row. It leads: the copy of a row's run has the id of its task as well.

    Raises:
        ArgumentError: A parameter is missing or has a wrong value.
        UnknownElement: There is no such template.
    """
    if not isinstance(template, str) or len(template) > LONGEST:
        raise ArgumentError(
            f"template {in_words(template)}; allowed: the full name of a task, "
            "e.g. tasks.DailyReport"
        )
    found = _template(app, template)
    rows = isinstance(found, DateFieldType)
    if row not in (None, ""):
        return Request(found, row=_row_key(template, row, rows or found is None))
    if task_id is not None and not _is_id(task_id):
        raise ArgumentError(
            f"taskId {in_words(task_id)}; allowed: the id of a task of {template}"
        )
    if due is not None:
        if task_id is not None or (found is not None and not rows):
            reason = "there is a taskId as well"
            if found is not None and not rows:
                reason = f"{template} is no task of rows"
            raise ArgumentError(
                f"due {in_words(due)}, but {reason}; allowed: `due` of a task of rows, "
                "and no `taskId`"
            )
        return Request(found, None, _instant(due))
    if rows and task_id is None:
        raise ArgumentError(
            f"{template} has a task for each row, and the run names none. Give the "
            "row's key as `row`, on the page of the task or in the dialog "
            "jittask.run-task-now"
        )
    return Request(found, task_id)


def _template(app: App, name: str) -> Meta | None:
    try:
        return app.template(name)
    except JittaskError:
        if not name.startswith("tasks.") or app.gone(name):
            raise
        return None


def in_words(value: object) -> str:
    """A parameter as an error shows it."""
    return as_text(shown(value))


def _row_key(template: str, row: object, allowed: bool) -> str:
    if not allowed:
        raise ArgumentError(f"row {in_words(row)}, but {template} is no task of rows")
    if not isinstance(row, str) or len(row) > LONGEST:
        raise ArgumentError(f"row {in_words(row)}; allowed: the key of a row, as text")
    return row


def _is_id(value: object) -> TypeGuard[str]:
    if not isinstance(value, str) or len(value) > LONGEST:
        return False
    return value.isascii() and value.isprintable()


def _instant(due: object) -> datetime:
    try:
        if isinstance(due, str) and len(due) <= LONGEST:
            found = datetime.fromisoformat(due)
            if found.tzinfo is not None:
                return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ArgumentError(
        f"due {in_words(due)}; allowed: an instant with its offset, "
        "e.g. 2026-03-02T09:00:00+00:00"
    )
