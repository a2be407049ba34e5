"""Tasks outside the schedule, that somebody asks for: written down, and begun by a flow run as any other task."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import DataError

from jittask_prefect.elements.app import App
from jittask_prefect.elements.databases import DEFAULT
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import ArgumentError, JittaskError, UnknownTask
from jittask_prefect.ledger import handover_marks, transitions, versions
from jittask_prefect.ledger.entry import (
    NAMESPACE,
    Entry,
    find_entry,
    new_entry,
    to_entry,
)
from jittask_prefect.ledger.keys import key_of
from jittask_prefect.ledger.tables import OPEN, entries, of_app, outside_schedule
from jittask_prefect.prefect_api.answers import ServerDeployment
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.records.record import run_url
from jittask_prefect.rows.entering import enter
from jittask_prefect.rows.flow_runs import run_name, run_tags
from jittask_prefect.rows.row_labels import row_labels, row_of
from jittask_prefect.running.outcome import Run
from jittask_prefect.running.trial import load_row


@dataclass(frozen=True)
class Begun:
    """A task that somebody asked for.

    Attributes:
        row: The row's key, as the ledger writes keys.
        run_id: Its flow run.
        url: The page of its flow run.
        before: The task was there before: it is open, or this request was made already.
    """

    row: str
    run_id: str
    url: str
    before: bool = False


def run_row(
    app: App, api: Api, name: str, key: str | None, now: datetime, ask: str | None
) -> Begun:
    """Run a date-field task for a row, now, beside the row's occurrences, which stay as they are.

    Args:
        app: The app.
        api: Prefect.
        name: The template's full name.
        key: The row's key.
        now: The present instant.
        ask: The id of the request, which makes one task however often it is carried out; absent each call makes one.

    Returns:
        The task; a task of this kind that the row has open stands for another one.

    Raises:
        ArgumentError: The key is missing, or of no row.
        UnknownTask: The template has no deployment.
        PrefectApiError: Prefect cannot be reached; nothing is kept.
    """
    template = app.template(name)
    task_id = str(uuid.uuid5(NAMESPACE, ask) if ask else uuid.uuid4())
    database, entry = entry_of_row(app, template, key, now, task_id)
    deployment = deployment_of(app, api, name)
    with app.engine(database).connect() as connection:
        other = find_entry(connection, entry.task_id)
    other = other or open_like(app, database, entry)
    if other is not None and other.flow_run_id:
        return _begun(api, other, other.flow_run_id, before=True)
    entry = other or entry
    tags = run_tags(app, name, entry.model, entry.row_key)
    label = row_labels(app, [row_of(entry)]).get(row_of(entry), "")
    named = run_name(app, entry, label)
    run_id = begin(app, database, api, deployment, entry, named, tags)
    return _begun(api, entry, run_id, before=other is not None)


def entry_of_row(
    app: App, template: Meta, key: str | None, now: datetime, task_id: str
) -> tuple[str, Entry]:
    """The database and the entry of a task for a row, beside the row's occurrences; nothing is written.

    Raises:
        ArgumentError: The key is missing, or of no row, or the template has no rows.
        ConfigError: The function is missing, or takes no row.
    """
    template.check_function()
    row = load_row(app, template, key)
    assert isinstance(template, DateFieldType)  # else a key is refused
    database = app.database_of(template.model_name)
    entry = new_entry(
        task_id=task_id,
        app=app.name,
        template=template.fullName,
        model=template.model_name,
        row_key=key_of(row, app.engine(database).dialect.name),
        due=now,
        created=now,
    )
    return database, entry


def enter_row(
    app: App, template: Meta, key: str, run: Run, now: datetime
) -> tuple[str, Entry]:
    """Enter the task of a flow run that names a row: a person has filled in the Run form of a task of rows.

    Args:
        app: The app.
        template: The template.
        key: The row's key.
        run: The flow run; its retry finds the task that it entered before.
        now: The present instant.

    Returns:
        The database and the entry.

    Raises:
        ArgumentError: The key is of no row, or the template has no rows.
        UnknownTask: The task has left the ledger.
    """
    database, entry = entry_of_row(app, template, key, now, run.id)
    entry = replace(entry, due=run.due, flow_run_id=run.id, dirty=False)
    with app.engine(database).begin() as connection:
        versions.require(connection, database or "the app's database")
        enter(connection, entry, run.begun)
        return database, find_entry(connection, run.id) or entry


def _begun(api: Api, entry: Entry, run_id: str, *, before: bool) -> Begun:
    url = run_url(api.ui_url, run_id) or ""
    return Begun(entry.row_key, run_id, url, before)


def open_like(app: App, database: str, entry: Entry) -> Entry | None:
    """An open task outside the schedule that does the same now: a form submitted twice makes one."""
    same = (
        entries.c[name].is_not_distinct_from(getattr(entry, name))
        for name in ("template", "row_key", "func_name", "arg_dict")
    )
    mine = (of_app(app.name), outside_schedule, *same, entries.c.status.in_(OPEN))
    query = select(entries).where(*mine, entries.c.due <= entry.due)
    with app.engine(database).connect() as connection:
        found = connection.execute(query.limit(1)).first()
    return None if found is None else to_entry(found)


def open_call(
    app: App, name: str, function: str, arguments: Mapping[str, object], now: datetime
) -> str | None:
    """The flow run of an open call of a template's function with the same arguments, due by now; None without."""
    entry = new_entry(
        task_id="",
        app=app.name,
        template=name,
        due=now,
        created=now,
        func_name=function,
        arg_dict=json.dumps(arguments, ensure_ascii=False),
    )
    found = open_like(app, DEFAULT, entry)
    return found.flow_run_id if found else None


def deployment_of(app: App, api: Api, name: str) -> ServerDeployment:
    """The deployment of a template.

    Raises:
        UnknownTask: There is none on the server.
    """
    deployment = api.deployments(app_tag(app.name)).get(name)
    if deployment is None:
        raise UnknownTask(
            f"{name} has no deployment on {api.url}: run `jittask deploy`"
        )
    return deployment


def begin(
    app: App,
    database: str,
    api: Api,
    deployment: ServerDeployment,
    entry: Entry,
    named: str,
    tags: Sequence[str],
) -> str:
    """Write a task down, and make its flow run; the flow run's id.

    Args:
        app: The app.
        database: The database that the task is written in.
        api: Prefect.
        deployment: The template's deployment.
        entry: The task.
        named: The flow run's name.
        tags: The flow run's tags.

    Raises:
        ArgumentError: The database does not take the task.
        JittaskError: Prefect cannot be reached, or refuses; nothing is kept.
    """
    engine = app.engine(database)
    try:
        with engine.begin() as connection:
            versions.require(connection, database or "the app's database")
            transitions.enter(connection, entry)
    except DataError as error:
        raise ArgumentError(
            f"the app's database does not take this task: {str(error.orig)[:200]}"
        ) from None

    try:
        run = api.create_run(
            deployment.id,
            key=entry.task_id,
            name=named,
            due=entry.due,
            tags=tags,
            parameters={"template": entry.template, "taskId": entry.task_id},
        )
    except JittaskError:
        with engine.begin() as connection:
            transitions.withdraw(connection, entry.task_id)

        raise

    with engine.begin() as connection:
        handover_marks.run_made(connection, entry.task_id, run.id)

    return run.id
