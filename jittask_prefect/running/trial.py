"""Run a task's function here and now, in this process: no server, no ledger, no re-check."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, select

from jittask_prefect.elements.app import App
from jittask_prefect.elements.row_session import row_session
from jittask_prefect.elements.types import DateFieldType, Meta, Task
from jittask_prefect.errors import ArgumentError, JittaskError
from jittask_prefect.ledger.keys import from_json, key_of, to_json
from jittask_prefect.rows.row_reading import load_row as load_row_of_key
from jittask_prefect.running.execute import call


def load_row(app: App, template: Meta, key: str | None) -> Any:
    """The row of a key, detached; None for a scheduled task.

    Raises:
        ArgumentError: The key is missing, superfluous, or of no row.
    """
    if not isinstance(template, DateFieldType):
        if key is not None:
            raise ArgumentError(
                f"{template.fullName} is a scheduled task: it takes no --row"
            )
        return None
    if key is None:
        raise ArgumentError(
            f"{template.fullName} is a date-field task: name a row of {template.model_name} with --row KEY"
        )
    with Session(app.engine(app.database_of(template.model_name))) as session:
        row = load_row_of_key(session, template, key)
        if row is None:
            some = session.exec(select(template.model).limit(5)).all()
            keys = (
                ", ".join(
                    key_of(each, session.get_bind().dialect.name) for each in some
                )
                or "none"
            )
            raise ArgumentError(
                f"{template.model_name} has no row {key!r}; some that it has: {keys}"
            )
        session.expunge(row)
    return row


def run_here(
    app: App, name: str, key: str | None, now: datetime, *, dry: bool
) -> dict[str, Any]:
    """Call a template's function as an execution would; what the function raises comes through.

    Args:
        app: The app.
        name: The template's full name.
        key: The row's key, for a date-field task.
        now: The present instant, the task's due time.
        dry: Roll back what it changed on the row. What it does elsewhere is done.
    """
    template = app.template(name)
    template.check_function()
    try:
        load_row(app, template, key)
    except DBAPIError as error:
        more = "`jittask db upgrade --models` makes missing tables"
        raise JittaskError(f"the row cannot be read: {error.orig}; {more}") from error
    task = Task(
        "here",
        name,
        template.taskType,
        dict(template.cfg.argDict),
        now.astimezone(template.timer.zone),
    )
    if not isinstance(template, DateFieldType):
        if dry:
            raise ArgumentError(
                f"{name} is a scheduled task: its own sessions commit, so --dry could not roll them back"
            )
        result = call(template, task)
    else:
        with row_session(app.engine(app.database_of(template.model_name))) as session:
            task.row = load_row_of_key(session, template, str(key))
            result = call(template, task)
            session.flush()
            if not dry:
                session.finish()
    return {
        "fullName": name,
        "row": key,
        "result": from_json(to_json(result)),
        "dry": dry,
    }
