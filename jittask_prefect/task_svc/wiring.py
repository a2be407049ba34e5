"""Where the rooms meet: `app`, the built-in task service, and the model events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jittask_prefect.elements.app import App, current_app, in_an_app
from jittask_prefect.rows import hooks
from jittask_prefect.rows.background_handover import nudge

__all__ = ["App", "app", "in_an_app"]


def _task_svc() -> type:
    """The task service; a process that only saves rows never imports it."""
    from jittask_prefect.task_svc.service import TaskSvc

    return TaskSvc


App.builtins.setdefault("services.TaskSvc", _task_svc)
hooks.install(current_app, nudge)


class _CurrentApp:
    """The current app: found at each use, loaded once."""

    def __getattr__(self, name: str) -> Any:
        return getattr(current_app(), name)

    def __repr__(self) -> str:
        return "<the current jittask app>"


if TYPE_CHECKING:
    app: App
else:
    app = _CurrentApp()
