"""The task that the present code works for: `app.task`, for functions that get no argument, and for those that get a row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jittask_prefect.elements.task import Task
    from jittask_prefect.elements.types import Meta


@dataclass(frozen=True, slots=True)
class TaskAtWork:
    """The execution that calls a function.

    Attributes:
        taskId: The task's id.
        fullName: The template's full name.
        dueTime: When the task is due; aware, in the row's own zone where the row names one, else in the task's.
        nominalTime: The same before holidays and opening hours move it; None outside the schedule (`createTimerTask`, a run by
            hand).
        level: The name of the offset that the due time comes from, where the task has several; else None.
        attempt: Which attempt this is; the first is 1.
    """

    taskId: str
    fullName: str
    dueTime: datetime
    nominalTime: datetime | None
    level: str | None
    attempt: int


_task: ContextVar[TaskAtWork | None] = ContextVar("jittask_task", default=None)
_calendar: ContextVar[str | None] = ContextVar("jittask_calendar", default=None)


@contextmanager
def at_work(template: Meta, task: Task) -> Iterator[None]:
    """The block works for a task: its thread, and the coroutines that it awaits."""
    about = TaskAtWork(
        task.taskId,
        task.fullName,
        task.dueTime,
        task.nominalTime,
        task.level,
        task.attempt,
    )
    former = _task.set(about), _calendar.set(template.timer.cfg.calendar)
    try:
        yield
    finally:
        _task.reset(former[0])
        _calendar.reset(former[1])


def task_at_work() -> TaskAtWork | None:
    """The task that this code works for; None outside a task's function."""
    return _task.get()


def calendar_at_work() -> str | None:
    """The name of the calendar that the task at work names; None where there is none."""
    return _calendar.get()
