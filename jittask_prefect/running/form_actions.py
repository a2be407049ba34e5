"""The actions of the dialogs' forms, done by the rooms that the dialogs do not know."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from jittask_prefect.deploying.deploy import deploy as deploy_app
from jittask_prefect.dialogs.actions import Actions, BegunRow, UpcomingRow
from jittask_prefect.dialogs.fields import Json
from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.records import upcoming
from jittask_prefect.records.record import run_url
from jittask_prefect.running.by_hand import open_call, run_row
from jittask_prefect.running.end import force_end
from jittask_prefect.running.retry import retry_failed
from jittask_prefect.schedule import clock


def form_actions(app: App, api: Api, run_id: str | None = None) -> Actions:
    """The actions of an app's forms.

    Args:
        app: The app.
        api: The Prefect server that holds its deployments.
        run_id: The form's flow run, which makes one task for a row, however often it is tried.
    """

    def deploy(name: str, now: datetime) -> None:
        deploy_app(app, api, now, only=[name])

    def end(task_id: str) -> Json:
        return force_end(app, lambda: api, task_id, clock.now)

    def run(name: str, key: str | None, now: datetime) -> BegunRow:
        return run_row(app, api, name, key, now, run_id)

    def start(template: Meta, due: datetime, function: str, arguments: Json) -> Json:
        name = template.fullName
        if there := open_call(app, name, function, arguments, due):
            url = run_url(api.ui_url, there)
            return {"taskId": there, "url": url, "before": True}
        service: Any = app.getElement("services.TaskSvc")
        answer: Json = service.createTimerTask(
            name, due, function, template.taskType, arguments
        )
        return answer

    def retry(name: str | None, since: datetime | None) -> str:
        found = retry_failed(app, api, name, since)
        return " ".join([found.done, *(f"{told}." for told in found.left)])

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

    return Actions(deploy, end, run, start, retry, upcoming_rows)
