"""The actions of the dialogs' forms, done by the rooms that the dialogs do not know."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from jittask_prefect.deploying import rollout
from jittask_prefect.dialogs.actions import Actions, UpcomingRow
from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.prefect_api.client import Api
from jittask_prefect.records import upcoming
from jittask_prefect.running.trial import run_here


def form_actions(app: App, api: Api) -> Actions:
    """The actions of an app's forms.

    Args:
        app: The app.
        api: The Prefect server that holds its deployments.
    """
    service: Any = app.getElement("services.TaskSvc")

    def deploy(name: str, now: datetime) -> None:
        rollout.deploy(app, api, now, only=[name])

    def end(task_id: str) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = service.forcedEnd(task_id)
        return answer

    def run_row(name: str, key: str | None, now: datetime) -> Mapping[str, Any]:
        return run_here(app, name, key, now, dry=False)

    def start(
        template: Meta, due: datetime, function: str, arguments: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = service.createTimerTask(
            template.fullName, due, function, template.taskType, arguments
        )
        return answer

    def upcoming_rows(
        template: DateFieldType, now: datetime, until: datetime, limit: int
    ) -> list[UpcomingRow]:
        nearest = upcoming.Nearest(limit)
        upcoming.of_rows(app, template, now, until, now, nearest)
        return [
            UpcomingRow(item.due, str(item.row), item.moved or "")
            for item in nearest.found()
        ]

    return Actions(deploy, end, run_row, start, upcoming_rows)
