"""jittask-prefect: background tasks for business applications, on Prefect 3.

`app` is the app that `JITTASK_APP`, or the nearest app.json, names; it is loaded at its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jittask_prefect.errors import (
    ArgumentError,
    ConfigError,
    FilterError,
    InvalidTime,
    JittaskError,
    LedgerError,
    OtherDatabase,
    OutdatedForm,
    PrefectApiError,
    SignatureError,
    UnknownElement,
    UnknownTask,
)

if TYPE_CHECKING:
    from jittask_prefect.elements.app import App
    from jittask_prefect.elements.decorated.decorators import (
        date_field_task,
        scheduled_task,
        task,
    )
    from jittask_prefect.elements.decorated.moving_times import now, today
    from jittask_prefect.elements.decorated.offsets import After, Before
    from jittask_prefect.elements.decorated.repeats import (
        Cron,
        Daily,
        Dates,
        Hourly,
        Minutely,
        Monthly,
        Once,
        RRule,
        Weekly,
        Workdays,
        Yearly,
    )
    from jittask_prefect.elements.decorated.windows import Window
    from jittask_prefect.elements.task import Task
    from jittask_prefect.elements.types import (
        DateFieldType,
        Meta,
        NormalService,
        NormalType,
    )
    from jittask_prefect.schedule.timer import Timer
    from jittask_prefect.task_svc.service import TaskSvc

    app: App

__version__ = "0.1.0"
__all__ = [
    "After",
    "App",
    "ArgumentError",
    "Before",
    "ConfigError",
    "Cron",
    "Daily",
    "DateFieldType",
    "Dates",
    "FilterError",
    "Hourly",
    "InvalidTime",
    "JittaskError",
    "LedgerError",
    "Meta",
    "Minutely",
    "Monthly",
    "NormalService",
    "NormalType",
    "Once",
    "OtherDatabase",
    "OutdatedForm",
    "PrefectApiError",
    "RRule",
    "SignatureError",
    "Task",
    "TaskSvc",
    "Timer",
    "UnknownElement",
    "UnknownTask",
    "Weekly",
    "Window",
    "Workdays",
    "Yearly",
    "app",
    "date_field_task",
    "now",
    "scheduled_task",
    "task",
    "today",
]

_HOMES = {
    "date_field_task": "elements.decorated.decorators",
    "scheduled_task": "elements.decorated.decorators",
    "task": "elements.decorated.decorators",
    "After": "elements.decorated.offsets",
    "Before": "elements.decorated.offsets",
    "Cron": "elements.decorated.repeats",
    "Daily": "elements.decorated.repeats",
    "Dates": "elements.decorated.repeats",
    "Hourly": "elements.decorated.repeats",
    "Minutely": "elements.decorated.repeats",
    "Monthly": "elements.decorated.repeats",
    "Once": "elements.decorated.repeats",
    "RRule": "elements.decorated.repeats",
    "Weekly": "elements.decorated.repeats",
    "Workdays": "elements.decorated.repeats",
    "Yearly": "elements.decorated.repeats",
    "Window": "elements.decorated.windows",
    "now": "elements.decorated.moving_times",
    "today": "elements.decorated.moving_times",
    "DateFieldType": "elements.types",
    "Meta": "elements.types",
    "NormalService": "elements.types",
    "NormalType": "elements.types",
    "Task": "elements.task",
    "Timer": "schedule.timer",
    "App": "task_svc.wiring",
    "TaskSvc": "task_svc.service",
    "app": "task_svc.wiring",
}


def __getattr__(name: str) -> Any:
    """Names come from their modules at first use, so that importing the package stays cheap."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
