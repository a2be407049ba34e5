"""The calls of a task's methods: its function, `afterReturn`; and the next occurrence of its row."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from jittask_prefect.elements.app import App
from jittask_prefect.elements.original.jit_queries import function_sessions
from jittask_prefect.elements.original.jit_rows import in_style
from jittask_prefect.elements.original.jit_values import plain
from jittask_prefect.elements.task import Task
from jittask_prefect.elements.task_at_work import at_work
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import transitions
from jittask_prefect.ledger.entry import Entry, find_entry
from jittask_prefect.rows.follow import follow_rows
from jittask_prefect.rows.plan import Action
from jittask_prefect.running.event_loop import EventLoop
from jittask_prefect.warm import leaks


def task_of(
    template: Meta,
    entry: Entry,
    row: Any = None,
    status: str = "executing",
    result: Any = None,
) -> Task:
    """The `task` that the methods of a Type get."""
    arguments = json.loads(entry.arg_dict) if entry.arg_dict else template.cfg.argDict
    zone, nominal = template.zone_of(entry.zone_value), entry.nominal
    return Task(
        taskId=entry.known_id,
        fullName=template.fullName,
        taskType=template.taskType,
        argDict=dict(arguments),
        dueTime=entry.due.astimezone(zone),
        status=status,
        row=in_style(template.app, row),
        result=result,
        funcName=entry.func_name,
        nominalTime=None if nominal is None else nominal.astimezone(zone),
        attempt=max(1, entry.attempt),
        level=entry.level,
    )


def call_function(template: Meta, task: Task, loop: EventLoop | None = None) -> Any:
    """Call a Type's `handle`, and await the result of an async function.

    A transaction that the function leaves open is rolled back. A process that the
    function forked ends here: the task and its connections are the parent's.

    Args:
        template: The template.
        task: The task.
        loop: The event loop of async functions; absent the function has its own.

    Returns:
        The result, which is also in `task.result`.

    Raises:
        LeftOpenError: The function left a transaction open, on its own connection.
        TypeError: The function has `yield`, so nothing was run.
    """
    process, open_before = os.getpid(), leaks.open_connections()
    try:
        with function_sessions(), at_work(template, task):
            task.result = plain(_called(template, task, loop))
        _refuse_generator(task.result)
        leaks.roll_back_new(open_before)
    except BaseException:
        with suppress(leaks.LeftOpenError):  # the function's own error is the reason
            leaks.roll_back_new(open_before)
        raise
    finally:
        if os.getpid() != process:
            os._exit(0)
    return task.result


def _called(template: Meta, task: Task, loop: EventLoop | None) -> Any:
    """The result of a function, called within the context manager of the app."""
    run = run_alone if loop is None else loop.run
    context = template.app.context()
    if hasattr(context, "__enter__"):
        with context:
            return awaited(template.handle(task), run)
    if not _is_async(template, task):
        run = run_alone  # a function that waits would keep the loop from other rows
    return run(_called_within(context, template, task))


def _is_async(template: Meta, task: Task) -> bool:
    """Whether the function that a task calls is an `async def`."""
    is_async = inspect.iscoroutinefunction
    return is_async(template.handle) or is_async(template.getFunc(task))


async def _called_within(context: Any, template: Meta, task: Task) -> Any:
    async with context:
        result = template.handle(task)
        return await result if inspect.isawaitable(result) else result


def run_alone(made: Awaitable[Any]) -> Any:
    """Await a coroutine in an event loop of its own."""
    return asyncio.run(_wait(made))


def awaited(result: Any, run: Callable[[Any], Any] = run_alone) -> Any:
    """A result; of an async function, the awaited result."""
    return run(result) if inspect.isawaitable(result) else result


async def _wait(result: Awaitable[Any]) -> Any:
    return await result


def _refuse_generator(result: object) -> None:
    if inspect.isgenerator(result):
        code = result.gi_code
    elif inspect.isasyncgen(result):
        code = result.ag_code
    else:
        return
    if code.co_name != "<genexpr>":
        raise TypeError(
            f"{code.co_name} has `yield`, so nothing of it has run; "
            "take a function without"
        )


# After the end of a task

log = logging.getLogger("jittask")


def follow_up(app: App, database: str, entry: Entry, now: datetime) -> None:
    """Call `afterReturn`, and plan the next occurrence, for a task that did not complete.

    Nothing happens where another process has done so.
    """
    if after_return(app, database, entry.task_id):
        next_of_row(app, database, entry, now)


def after_return(app: App, database: str, task_id: str) -> bool:
    """Call the Type's `afterReturn`, once for each end of a task.

    Returns:
        Whether this call had the right to; False too where the template is broken, so
        that a later sync calls `afterReturn`.
    """
    with app.engine(database).begin() as connection:
        if not transitions.take_return(connection, task_id):
            return False
        entry = find_entry(connection, task_id)
        assert entry is not None
        template = _template(app, entry)
        if template is None and not app.gone(entry.template):
            connection.rollback()
            return False
    if template is None:
        log.error("afterReturn of %s failed: the task is gone", entry.template)
        return True
    said = entry.message or None
    result = said if entry.result is None else entry.returned_value
    task = task_of(template, entry, status=entry.status, result=result)
    try:
        awaited(template.afterReturn(task))  # type: ignore[func-returns-value]
    except (Exception, SystemExit):
        log.exception("afterReturn of %s failed", entry.template)
    return True


def _template(app: App, entry: Entry) -> Meta | None:
    try:
        return app.template(entry.template)
    except JittaskError:
        return None


def next_of_row(app: App, database: str, entry: Entry, now: datetime) -> list[Action]:
    """Plan the next occurrence for the row of a task that did not complete.

    Returns:
        The changes; none for a template that is gone or broken: the sync plans a mended
        template's rows.
    """
    template = _template(app, entry)
    if not entry.row_key or not isinstance(template, DateFieldType):
        return []
    with Session(app.engine(database)) as session:
        actions = plan_next(app, session, template, {entry.row_key: False}, now)
        session.commit()
    return [action for action in actions if action.action != "skip"]


def plan_next(
    app: App,
    session: Session,
    template: DateFieldType,
    rows: Mapping[str, bool],
    now: datetime,
) -> list[Action]:
    """Plan the next occurrences of rows as the database has the rows, in the session's transaction.

    Args:
        app: The app.
        session: A session of the row's database.
        template: The template.
        rows: By key, whether the row's date may be another than the planned one.
        now: The present instant.
    """
    if not rows:
        return []
    try:
        about = (app, session.connection(), template.model_name)
        return follow_rows(*about, template, rows, now)
    except (
        ValueError,
        OverflowError,
        TypeError,
        JittaskError,
        SQLAlchemyError,
    ) as error:
        log.warning(
            "%s, row %s: the next occurrence could not be planned: %s",
            template.fullName,
            ", ".join(rows)[:200],
            error,
        )
        return []
