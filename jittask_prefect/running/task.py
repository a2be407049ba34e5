"""What an execution calls, and what follows it: `afterReturn` and the next occurrence of the row."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType, Meta, Task
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import transitions
from jittask_prefect.ledger.entry import Entry, find_entry
from jittask_prefect.ledger.keys import from_json
from jittask_prefect.rows import hooks, scan
from jittask_prefect.rows.plan import Action
from jittask_prefect.warm import leaks

log = logging.getLogger("jittask")


def task_of(
    app: App,
    template: Meta,
    entry: Entry,
    row: Any = None,
    status: str = "executing",
    result: Any = None,
) -> Task:
    """The `task` that the methods of a Type see."""
    arguments = (
        json.loads(entry.arg_dict) if entry.arg_dict else dict(template.cfg.argDict)
    )
    due = entry.due.astimezone(template.timer.zone)
    shown = (
        entry.flow_run_id if not entry.row_key and entry.flow_run_id else entry.task_id
    )
    return Task(
        shown,
        template.fullName,
        template.taskType,
        arguments,
        due,
        status,
        row,
        result,
        entry.func_name,
    )


def call(template: Meta, task: Task) -> Any:
    """Call a Type's `handle`, and wait for what an async function gives.

    Raises:
        LeftOpenError: It left a transaction open, on a connection of its own.
    """
    process, before = os.getpid(), leaks.there()
    try:
        task.result = _awaited(template.handle(task))
        _no_generator(task.result)
        leaks.close(before)
    except BaseException:
        with suppress(leaks.LeftOpenError):  # what it raised is the reason
            leaks.close(before)
        raise
    finally:
        if os.getpid() != process:
            os._exit(
                0
            )  # a copy that the function forked: the task is its parent's, and so are the connections
    return task.result


def _no_generator(result: object) -> None:
    """Refuse what a function with `yield` gives: nothing of the function has run yet."""
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        code = result.gi_code if inspect.isgenerator(result) else result.ag_code
        if code.co_name != "<genexpr>":
            raise TypeError(
                f"{code.co_name} has `yield`, so nothing of it has run; take a function without"
            )


def _awaited(result: Any) -> Any:
    if not inspect.isawaitable(result):
        return result

    async def wait() -> Any:
        return await result

    return asyncio.run(wait())


def after_return(app: App, database: str, task_id: str) -> bool:
    """Call the Type's `afterReturn` once for a task that has ended; whether this call did."""
    with app.engine(database).begin() as connection:
        if not transitions.take_return(connection, task_id):
            return False
        entry = find_entry(connection, task_id)
        assert entry is not None
        if _unreadable(app, entry.template):
            connection.rollback()  # a later sync calls it
            return False
    result = (
        from_json(entry.result) if entry.result is not None else entry.message or None
    )
    try:
        template = app.template(entry.template)
        task = task_of(app, template, entry, None, entry.status, result)
        _awaited(template.afterReturn(task))  # type: ignore[func-returns-value]
    except (Exception, SystemExit):
        log.exception("afterReturn of %s failed", entry.template)
    return True


def _unreadable(app: App, name: str) -> bool:
    """Whether a template is there and does not load."""
    try:
        app.template(name)
    except JittaskError:
        return not app.gone(name)
    return False


def next_of_row(app: App, database: str, entry: Entry, now: datetime) -> list[Action]:
    """Plan what comes next for the row of a task that did not complete."""
    try:
        template = app.template(entry.template)
    except JittaskError:
        return []  # gone; or broken, and planned by the sync once it is mended
    if not entry.row_key or not isinstance(template, DateFieldType):
        return []
    with Session(app.engine(database)) as session:
        actions = plan_next(app, session, template, entry.row_key, now)
        session.commit()
    return [a for a in actions if a.action != "skip"]


def plan_next(
    app: App,
    session: Session,
    template: DateFieldType,
    key: str,
    now: datetime,
    *,
    moved: bool = False,
) -> list[Action]:
    """Plan what comes next for a row as the database has it, in the session's transaction."""
    try:
        with session.begin_nested():
            row = scan.load(session, template, key)
        if row is None:
            return []
        return hooks.save_row(
            app, session.connection(), row, template.model_name, now, moved=moved
        )
    except (
        ValueError,
        OverflowError,
        TypeError,
        JittaskError,
        SQLAlchemyError,
    ) as error:
        log.warning(
            "%s, row %s: what comes next could not be planned: %s",
            template.fullName,
            key,
            error,
        )
        return []
