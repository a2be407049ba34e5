"""An execution, as the methods of a Type see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass
class Task:
    """An execution, as `handle`, `afterReturn` and the other methods of a Type see it.

    Attributes:
        taskId: The task's id.
        fullName: The template's full name.
        taskType: The full name of the template's Type.
        argDict: Keyword arguments for the function of a scheduled task.
        dueTime: When the task is due; aware, in the row's own zone where the row names one, else in the task's.
        status: `executing` in `handle`; `completed`, `error` or `ended` in `afterReturn`.
        row: The model instance of a row task, of a digest the list of instances; else None.
        result: The function's return value, or the reason of a failure.
        funcName: The function to call instead of the template's own (`createTimerTask`).
        nominalTime: When the task is due before holidays and opening hours move it; None outside the schedule.
        level: The name of the offset that the due time comes from, where the task has several; else None.
        attempt: Which attempt this is; the first is 1.
    """

    taskId: str
    fullName: str
    taskType: str
    argDict: dict[str, Any]
    dueTime: datetime
    status: str = "executing"
    row: Any = None
    result: Any = None
    funcName: str | None = field(default=None, repr=False)
    nominalTime: datetime | None = field(default=None, repr=False)
    attempt: int = field(default=1, repr=False)
    level: str | None = field(default=None, repr=False)
