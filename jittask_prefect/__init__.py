"""jittask-prefect: background tasks for business applications, on Prefect 3.

`app` is the app that `JITTASK_APP`, or the nearest app.json, names; it is loaded at its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import (
    ArgumentError,
    ConfigError,
    FilterError,
    InvalidTime,
    JittaskError,
    LedgerError,
    OutdatedForm,
    PrefectApiError,
    SignatureError,
    UnknownElement,
    UnknownTask,
)

if TYPE_CHECKING:
    from .elements.app import App
    from .elements.types import DateFieldType, Meta, NormalService, NormalType, Task
    from .schedule.timer import Timer
    from .task_svc import TaskSvc

    app: App

__version__ = "0.1.0"
__all__ = [
    "App",
    "ArgumentError",
    "ConfigError",
    "DateFieldType",
    "FilterError",
    "InvalidTime",
    "JittaskError",
    "LedgerError",
    "Meta",
    "NormalService",
    "NormalType",
    "OutdatedForm",
    "PrefectApiError",
    "SignatureError",
    "Task",
    "TaskSvc",
    "Timer",
    "UnknownElement",
    "UnknownTask",
    "app",
]

_HOMES = {
    "DateFieldType": "elements.types",
    "Meta": "elements.types",
    "NormalService": "elements.types",
    "NormalType": "elements.types",
    "Task": "elements.types",
    "Timer": "schedule.timer",
    "App": "wiring",
    "TaskSvc": "task_svc",
    "app": "wiring",
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
