"""Run a task's function here and now, in this process: no server, no ledger, no re-check."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.exc import DataError, DBAPIError
from sqlmodel import Session, select

from jittask_prefect.elements.app import App
from jittask_prefect.elements.row_session import row_session
from jittask_prefect.elements.task import Task
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import ArgumentError, JittaskError
from jittask_prefect.ledger.keys import NoKey, from_json, key_of, to_json
from jittask_prefect.rows import due_rows
from jittask_prefect.running.function import call_function

KEYS = 5
"""Keys that an error names as examples."""


def load_row(app: App, template: Meta, key: str | None) -> Any:
    """The row of a key, detached; None for a scheduled task.

    Raises:
        ArgumentError: The key is missing, superfluous, or of no row.
    """
    name = template.fullName
    if not isinstance(template, DateFieldType):
        if key is not None:
            raise ArgumentError(f"{name} is a scheduled task: it takes no --row")
        return None
    model = template.model_name
    if key is None:
        raise ArgumentError(
            f"{name} is a date-field task: name a row of {model} with --row KEY"
        )
    with Session(app.engine(app.database_of(model))) as session:
        try:
            row = due_rows.load_row(session, template, key)
        except (NoKey, DataError, OverflowError) as error:
            raise ArgumentError(f"{model} has no row {key!r}: {error}") from error
        if row is None:
            dialect = session.get_bind().dialect.name
            some = session.exec(select(template.model).limit(KEYS)).all()
            keys = ", ".join(key_of(each, dialect) for each in some) or "none"
            raise ArgumentError(f"{model} has no row {key!r}; some that it has: {keys}")
        session.expunge(row)
    return row


def run_here(
    app: App, name: str, key: str | None, now: datetime, *, dry: bool
) -> dict[str, Any]:
    """Call a template's function as an execution would; the function's error comes through.

    Args:
        app: The app.
        name: The template's full name.
        key: The row's key, for a date-field task.
        now: The present instant, the task's due time.
        dry: Roll back the changes of the row's session. Other effects stay.

    Returns:
        `{fullName, row, result, dry}`.

    Raises:
        ArgumentError: The key is missing, superfluous or of no row; a dry scheduled task.
        JittaskError: The row cannot be read.
    """
    template = app.template(name)
    template.check_function()
    try:
        of = load_row(app, template, key)
    except DBAPIError as error:
        advice = "`jittask db upgrade --models` makes missing tables"
        raise JittaskError(f"the row cannot be read: {error.orig}; {advice}") from error
    due = now.astimezone(template.row_timer(of).zone)
    arguments = dict(template.cfg.argDict)
    task = Task("here", name, template.taskType, arguments, due)
    if isinstance(template, DateFieldType):
        with row_session(app.engine(app.database_of(template.model_name))) as session:
            row = due_rows.load_row(session, template, str(key))
            task.row = row if template.cfg.digest is None else [row]
            result = call_function(template, task)
            session.flush()
            if not dry:
                session.finish()
    elif dry:
        raise ArgumentError(
            f"{name} is a scheduled task: its own sessions commit, "
            "so --dry could not roll them back"
        )
    else:
        result = call_function(template, task)
    shown = from_json(to_json(result))
    return {"fullName": name, "row": key, "result": shown, "dry": dry}
