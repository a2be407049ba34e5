"""The call of a task's function."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

from jittask_prefect.elements.types import Meta, Task
from jittask_prefect.ledger.entry import Entry
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
    # A scheduled task is known by its flow run.
    task_id = entry.task_id if entry.row_key else entry.flow_run_id or entry.task_id
    return Task(
        taskId=task_id,
        fullName=template.fullName,
        taskType=template.taskType,
        argDict=dict(arguments),
        dueTime=entry.due.astimezone(template.timer.zone),
        status=status,
        row=row,
        result=result,
        funcName=entry.func_name,
    )


def call_function(template: Meta, task: Task) -> Any:
    """Call a Type's `handle`, and await the result of an async function.

    A transaction that the function leaves open is rolled back. A process that the
    function forked ends here: the task and its connections are the parent's.

    Returns:
        The result, which is also in `task.result`.

    Raises:
        LeftOpenError: The function left a transaction open, on its own connection.
        TypeError: The function has `yield`, so nothing was run.
    """
    process, open_before = os.getpid(), leaks.open_connections()
    try:
        task.result = awaited(template.handle(task))
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


def awaited(result: Any) -> Any:
    """A result; of an async function, the awaited result."""
    return asyncio.run(_wait(result)) if inspect.isawaitable(result) else result


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
