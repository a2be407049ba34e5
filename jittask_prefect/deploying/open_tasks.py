"""The tasks that may be ended, named for people: the ledger's tasks, and the runs of schedules, which enter the ledger once they begin."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.dialogs.forms import END
from jittask_prefect.dialogs.options import MOST_TASKS, OpenTask
from jittask_prefect.elements.app import App
from jittask_prefect.errors import PrefectApiError
from jittask_prefect.ledger import versions
from jittask_prefect.ledger.entry import Entry, to_entry
from jittask_prefect.ledger.tables import OPEN, entries, of_app
from jittask_prefect.prefect_api.answers import ServerDeployment
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.rows.flow_runs import due_name, run_name
from jittask_prefect.rows.row_labels import row_labels, row_of

PAGE = 200
"""Runs that are asked for at most, the earliest due first."""
log = logging.getLogger("jittask")


def open_tasks(
    app: App, api: Api, there: Mapping[str, ServerDeployment]
) -> list[OpenTask]:
    """The tasks of the ledger that execute or wait, and the next run of each schedule.

    Args:
        app: The app.
        api: Prefect.
        there: The deployments on the server, by name.

    Returns:
        No runs of schedules where Prefect refuses the question.

    Raises:
        PrefectApiError: Prefect cannot be reached.
    """
    if END not in there:
        return []
    try:
        found = _next_runs(app, api, there)
    except PrefectApiError as error:
        api.ping()  # raises where more than this question is refused
        log.debug("the form for ending tasks has no runs of schedules: %s", error)
        found = []
    return [*found, *_entered(app)]


def _entered(app: App) -> list[OpenTask]:
    """The ledger's open tasks, each named as its flow run is."""
    found = _open_entries(app)
    labels = row_labels(app, map(row_of, found))
    return [
        OpenTask(
            entry.task_id,
            run_name(app, entry, labels.get(row_of(entry), "")),
            entry.due,
            entry.status,
        )
        for entry in found
    ]


def _open_entries(app: App) -> list[Entry]:
    """The ledger's executing and pending tasks, at most 100 of each database."""
    found: list[Entry] = []
    for database in app.databases():
        try:
            found += _open_in(app, database)
        except SQLAlchemyError:
            continue  # tasks in a database that is down cannot be ended now
    return found


def _open_in(app: App, database: str) -> list[Entry]:
    query = (
        select(entries)
        .where(of_app(app.name), entries.c.status.in_(OPEN))
        .order_by(entries.c.status, entries.c.due, entries.c.task_id)
        .limit(MOST_TASKS)
    )
    with app.engine(database).connect() as connection:
        if not versions.there(connection):
            return []
        return [to_entry(record) for record in connection.execute(query)]


def _next_runs(
    app: App, api: Api, there: Mapping[str, ServerDeployment]
) -> list[OpenTask]:
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
        due = run.expected_start_time
        name = due_name(app, template.fullName, due)
        found.append(OpenTask(run.id, name, due, status))
    return found
