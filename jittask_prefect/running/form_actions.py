"""The actions of the dialogs' forms, done by the rooms that the dialogs do not know."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from jittask_prefect.deploying.deploy import deploy as deploy_app
from jittask_prefect.dialogs.actions import Actions, UpcomingRow
from jittask_prefect.dialogs.fields import Json
from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.records import upcoming
from jittask_prefect.running.end import force_end
from jittask_prefect.running.trial import run_here
from jittask_prefect.schedule import clock


def form_actions(app: App, api: Api) -> Actions:
    """The actions of an app's forms.

    Args:
        app: The app.
        api: The Prefect server that holds its deployments.
    """

    def deploy(name: str, now: datetime) -> None:
        deploy_app(app, api, now, only=[name])

    def end(task_id: str) -> Json:
        return force_end(app, lambda: api, task_id, clock.now)

    def run_row(name: str, key: str | None, now: datetime) -> Json:
        return run_here(app, name, key, now, dry=False)

    def start(template: Meta, due: datetime, function: str, arguments: Json) -> Json:
        service: Any = app.getElement("services.TaskSvc")
        answer: Json = service.createTimerTask(
            template.fullName, due, function, template.taskType, arguments
        )
        return answer

    def upcoming_rows(
        template: DateFieldType, now: datetime, until: datetime, limit: int
    ) -> list[UpcomingRow]:
        nearest = upcoming.Nearest(limit)
        upcoming.of_rows(template, now, until, now, nearest)
        return [
            UpcomingRow(record.due, str(record.row), record.moved or "")
            for record in nearest.records
            if record.due is not None
        ]

    return Actions(deploy, end, run_row, start, upcoming_rows)
