"""`jittask deploy`: a server's deployments are brought to the app's, through the API."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from jittask_prefect.deploying import prefect_yaml
from jittask_prefect.deploying.comparison import app_variables, correct, differences
from jittask_prefect.deploying.deployments import (
    POOL_TYPE,
    ROW_FORM,
    SYNC,
    Deployment,
    Json,
    deployments_now,
    ensure_queues,
    ensure_work_pool,
    pool_of,
)
from jittask_prefect.deploying.open_tasks import open_tasks
from jittask_prefect.deploying.prefect_folder import root_of
from jittask_prefect.dialogs.forms import DIALOGS, schemas
from jittask_prefect.dialogs.options import OpenTask
from jittask_prefect.elements.app import App
from jittask_prefect.elements.app_name import ENV_APP
from jittask_prefect.elements.built_in import TASK_TYPES
from jittask_prefect.errors import PrefectApiError, invalid
from jittask_prefect.ledger import guard
from jittask_prefect.prefect_api.answers import ServerDeployment
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.names import app_tag


@dataclass
class Deployed:
    """The work of `deploy`, by names of deployments; the template of a `leftover` is gone.

    Attributes:
        left_of: The app folders that leftovers were deployed from, where other than this app's.
    """

    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    leftover: list[str] = field(default_factory=list)
    left_of: set[str] = field(default_factory=set)
    app_name: str = ""

    def leftover_text(self) -> str:
        """The deployments without a template, and the next step, as a sentence; empty without a leftover."""
        if not self.leftover:
            return ""
        text, prune = ", ".join(self.leftover), "`jittask deploy --prune` removes them"
        if not self.left_of:
            return f"without a template: {text}; {prune}"
        folders = ", ".join(sorted(self.left_of))
        return (
            f"without a template: {text}, deployed from {folders} as {self.app_name}; where that is another app, "
            f"give one of the two another name (`name` of app.json); else {prune}"
        )


def deploy(
    app: App,
    api: Api,
    now: datetime,
    *,
    prune: bool = False,
    only: Collection[str] | None = None,
    take_over: bool = False,
    write: bool = True,
) -> Deployed:
    """Write prefect.yaml, and bring the server's deployments to the app's; equal deployments are left alone.

    Args:
        app: The app.
        api: Prefect.
        now: The present instant, aware.
        prune: Remove deployments whose template is gone.
        only: The names to deploy; all others stay as they are.
        take_over: Let the app's database take the place of another that the server knows the app by.
        write: Whether prefect.yaml is written.

    Raises:
        OtherDatabase: The server knows the app by another database.
        LedgerError: The app's database has no ledger.
        PrefectApiError: The server cannot be reached or refuses.
        ConfigError: The server has deployments of flows without an app's name.
    """
    api.ping()
    refuse_old_names(api)
    guard.claim(app, api, take_over=take_over)
    if write:
        prefect_yaml.write(app, prefect_yaml.instant_of(app, now))
    wanted = _by_name(app, now, only)
    there = existing(app, api, wanted)
    _ensure_pools(app, api, wanted)
    forms = schemas(app, now, open_tasks(app, api, there))
    equal = _equal(app, now, wanted, there)
    done = Deployed(app_name=app.name)
    for name, deployment in wanted.items():
        if name in equal:
            done.unchanged.append(name)
            continue
        form = deployment.form or forms[name]
        made = _bring(api, deployment, there.get(name), root_of(app), form)
        if deployment.schedules and not deployment.paused:
            api.fill_schedule(made, now)
        done.changed.append(name)
    for name, form in {**forms, **row_forms(wanted.values())}.items():
        _fill(api, form, there.get(name))
    if only is None:
        _leave(
            app, api, {n: d for n, d in there.items() if n not in wanted}, prune, done
        )
    return done


def _equal(
    app: App,
    now: datetime,
    wanted: Mapping[str, Deployment],
    there: Mapping[str, ServerDeployment],
) -> set[str]:
    """The names of the deployments that the server has as they are to be.

    prefect.yaml may be some days old: its schedules hold as well.
    """
    instant, root = prefect_yaml.instant_of(app, now), root_of(app)
    versions = [wanted]
    if there and instant != now:
        versions.append(_by_name(app, instant, wanted))
    return {
        name
        for name in wanted
        if name in there
        and any(
            not differences(version[name], there[name], root)
            for version in versions
            if name in version
        )
    }


def _leave(
    app: App,
    api: Api,
    others: Mapping[str, ServerDeployment],
    prune: bool,
    done: Deployed,
) -> None:
    """Name, or remove, the deployments whose template is gone."""
    for name, deployment in sorted(others.items()):
        # The folder of a broken template is there: a mistake must not cost its runs.
        if name.startswith("tasks.") and not app.gone(name):
            continue
        if prune:
            api.delete_deployment(deployment.id)
        (done.removed if prune else done.leftover).append(name)
        folder = app_variables(deployment.job_variables)[ENV_APP]
        if folder and Path(folder) != app.path:
            done.left_of.add(folder)


def refuse_old_names(api: Api) -> None:
    """Refuse a server with deployments whose flows lack an app's name: their app cannot be known.

    Raises:
        ConfigError: There are such deployments.
        PrefectApiError: The server cannot be reached.
    """
    old = sorted(api.of_flows([SYNC, *TASK_TYPES]))
    if old:
        some = ", ".join(old[:3]) + (", …" if len(old) > 3 else "")
        found = f"deployments of flows without an app's name: {some}"
        allowed = f"flows like shop.{SYNC}: delete these {len(old)} deployments, and deploy again"
        raise invalid("", found, allowed, file=api.url)


def _ensure_pools(app: App, api: Api, wanted: Mapping[str, Deployment]) -> None:
    """Make the missing work pools. The default pool is of our own type; a pool that a team names may be of any type."""
    if app.cfg.workPool is None:
        ensure_work_pool(api)
    named = {app.cfg.workPool, *(d.pool for d in wanted.values() if d.keeps_pool)}
    for pool in sorted(filter(None, named)):
        api.ensure_pool(pool, POOL_TYPE)
    ensure_queues(app, api, pool_of(app))


def _by_name(
    app: App, now: datetime, only: Collection[str] | None
) -> dict[str, Deployment]:
    found = deployments_now(app, now)
    return {d.name: d for d in found if only is None or d.name in only}


def _bring(
    api: Api,
    deployment: Deployment,
    there: ServerDeployment | None,
    root: Path,
    form: Json,
) -> str:
    """Make a deployment, or change the server's; its id.

    Another entrypoint may mean another flow, which no PATCH changes: the deployment is made anew.
    """
    if there is not None and there.entrypoint == deployment.entrypoint:
        correct(api, deployment, there, root)
        return there.id
    body = deployment.as_api(root)
    body |= {"name": deployment.name, "parameter_openapi_schema": form}
    if there is not None and not deployment.keeps_pool:
        body["work_pool_name"] = there.work_pool_name
        body["work_queue_name"] = there.work_queue_name
    made = api.make_deployment(deployment.flow, body)
    if there is not None and there.id != made:
        api.delete_deployment(there.id)
    return made


def row_forms(wanted: Iterable[Deployment]) -> dict[str, Json]:
    """The Run forms of tasks of rows, by name: `prefect deploy` makes another form from the flow's signature."""
    return {d.name: ROW_FORM for d in wanted if d.form is ROW_FORM}


def fill_forms(
    app: App,
    api: Api,
    there: Mapping[str, ServerDeployment],
    now: datetime,
    wanted: Iterable[Deployment],
    found: Iterable[OpenTask] = (),
) -> dict[str, PrefectApiError]:
    """Bring the dialogs' forms to the app's present content, and the Run forms of tasks of rows to theirs.

    `prefect deploy` makes a form from the flow's signature only.

    Args:
        app: The app.
        api: Prefect.
        there: The deployments on the server.
        now: The present instant, aware.
        wanted: The app's deployments.
        found: The tasks that may be ended.

    Returns:
        The refused changes by name; the next call tries these again.

    Raises:
        PrefectApiError: Prefect cannot be reached.
    """
    refused: dict[str, PrefectApiError] = {}
    if not any(dialog.name in there for dialog in DIALOGS):
        return refused
    for name, form in {**schemas(app, now, found), **row_forms(wanted)}.items():
        try:
            _fill(api, form, there.get(name))
        except PrefectApiError as error:
            api.ping()  # raises where more than this form is refused
            refused[name] = error
    return refused


def _fill(api: Api, form: Json, there: ServerDeployment | None) -> None:
    if there is not None and there.parameter_openapi_schema != form:
        api.change_deployment(there.id, {"parameter_openapi_schema": form})


def existing(
    app: App, api: Api, wanted: Mapping[str, Deployment]
) -> dict[str, ServerDeployment]:
    """The app's deployments on the server, also deployments whose app tag somebody has removed.

    Args:
        app: The app.
        api: Prefect.
        wanted: The app's deployments, by name.

    Raises:
        PrefectApiError: The server cannot be reached.
    """
    there = dict(api.deployments(app_tag(app.name)))
    flows = sorted({d.flow for name, d in wanted.items() if name not in there})
    found = api.of_flows(flows) if flows else {}
    untagged = {name: d for name, d in found.items() if name in wanted}
    return untagged | there
