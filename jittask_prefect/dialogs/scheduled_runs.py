"""The runs of schedules that may be ended: Prefect has made them, and the ledger knows them once they begin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jittask_prefect.dialogs.options import OpenTask, clean_title
from jittask_prefect.elements.app import App
from jittask_prefect.prefect_api.answers import ServerDeployment
from jittask_prefect.prefect_api.api import Api

PAGE = 200
"""Runs that are asked for, those that are due first."""


def scheduled_runs(
    app: App, api: Api, there: Mapping[str, ServerDeployment]
) -> list[OpenTask]:
    """What executes, and the next run of each scheduled task.

    Args:
        app: The app.
        api: Prefect.
        there: The deployments on the server, by name.

    Raises:
        PrefectApiError: Prefect cannot be reached.
    """
    templates = {
        there[template.fullName].id: template
        for template in app.templates()
        if not template.rows and template.fullName in there
    }
    if not templates:
        return []
    where: dict[str, Any] = {
        "deployment_id": {"any_": list(templates)},
        "state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}},
    }
    found: list[OpenTask] = []
    coming = set[str]()
    runs = api.runs(flow_runs=where, limit=PAGE, sort="EXPECTED_START_TIME_ASC")
    for run in runs:
        template = templates.get(str(run.deployment_id))
        executing = run.state_type == "RUNNING"
        if template is None or (not executing and template.fullName in coming):
            continue
        if not executing:
            coming.add(template.fullName)
        status = "executing" if executing else "pending"
        title, zone = clean_title(template.title), template.timer.zone
        found.append(OpenTask(run.id, title, run.expected_start_time, status, zone))
    return found
