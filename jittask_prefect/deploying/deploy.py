"""`jittask deploy`: a server's deployments are brought to the app's, through the API."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from jittask_prefect.deploying import prefect_yaml
from jittask_prefect.deploying.comparison import correct, differences
from jittask_prefect.deploying.deployments import (
    POOL,
    QUEUE,
    Deployment,
    Json,
    deployments,
    ensure_work_pool,
)
from jittask_prefect.deploying.prefect_folder import root_of
from jittask_prefect.dialogs.forms import DIALOGS, schemas
from jittask_prefect.elements.app import App
from jittask_prefect.errors import invalid
from jittask_prefect.prefect_api.answers import ServerDeployment
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.names import app_tag


@dataclass
class Deployed:
    """The work of `deploy`, by names of deployments; the template of a `leftover` is gone."""

    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    leftover: list[str] = field(default_factory=list)


def deploy(
    app: App,
    api: Api,
    now: datetime,
    *,
    prune: bool = False,
    only: Collection[str] | None = None,
) -> Deployed:
    """Write prefect.yaml, and bring the server's deployments to the app's; equal deployments are left alone.

    Args:
        app: The app.
        api: Prefect.
        now: The present instant, aware.
        prune: Remove deployments whose template is gone.
        only: The names to deploy; all others stay as they are.

    Raises:
        PrefectApiError: The server cannot be reached or refuses.
        ConfigError: A deployment of that name belongs to another app.
    """
    api.ping()
    instant = prefect_yaml.instant_of(app, now)
    prefect_yaml.write(app, instant)
    root = root_of(app)
    wanted = _by_name(app, now, only)
    # prefect.yaml may be some days old: its schedules hold as well.
    in_file = _by_name(app, instant, only) if instant != now else wanted
    ensure_work_pool(api)
    api.ensure_queue(POOL, QUEUE)
    there = existing(app, api, wanted)
    forms, done = schemas(app, now), Deployed()
    for name, deployment in wanted.items():
        if name in there and any(
            not differences(version, there[name], root)
            for version in (deployment, in_file.get(name, deployment))
        ):
            done.unchanged.append(name)
            continue
        form = deployment.form or forms[name]
        deployment_id = _bring(api, deployment, there.get(name), root, form)
        if deployment.schedules and not deployment.paused:
            api.fill_schedule(deployment_id, now)
        done.changed.append(name)
    _fill(api, forms, there)
    if only is not None:
        return done
    for name in sorted(set(there) - set(wanted)):
        # The folder of a broken template is there: a mistake must not cost its runs.
        if name.startswith("tasks.") and not app.gone(name):
            continue
        if prune:
            api.delete_deployment(there[name].id)
        (done.removed if prune else done.leftover).append(name)
    return done


def _by_name(
    app: App, now: datetime, only: Collection[str] | None
) -> dict[str, Deployment]:
    found = deployments(app, now)
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
    made = api.make_deployment(deployment.flow, body)
    if there is not None and there.id != made:
        api.delete_deployment(there.id)
    return made


def fill_forms(
    app: App, api: Api, there: Mapping[str, ServerDeployment], now: datetime
) -> None:
    """Bring the dialogs' forms to the app's present content: titles, and the options of drop-downs.

    `prefect deploy` makes a form from the flow's signature only.

    Args:
        app: The app.
        api: Prefect.
        there: The deployments on the server.
        now: The present instant, aware.
    """
    if any(dialog.name in there for dialog in DIALOGS):
        _fill(api, schemas(app, now), there)


def _fill(
    api: Api, forms: Mapping[str, Json], there: Mapping[str, ServerDeployment]
) -> None:
    for name, form in forms.items():
        if name in there and there[name].parameter_openapi_schema != form:
            body = {"parameter_openapi_schema": form}
            api.change_deployment(there[name].id, body)


def existing(
    app: App, api: Api, wanted: Mapping[str, Deployment]
) -> dict[str, ServerDeployment]:
    """The app's deployments on the server, also those that somebody took the app's tag from.

    Args:
        app: The app.
        api: Prefect.
        wanted: The app's deployments, by name.

    Raises:
        PrefectApiError: The server cannot be reached.
        ConfigError: A deployment of a wanted name belongs to another app, or to nobody known.
    """
    there = dict(api.deployments(app_tag(app.name)))
    absent = [name for name in wanted if name not in there]
    for name, found in api.named(absent).items() if absent else ():
        owner = next((tag for tag in found.tags if tag.startswith("app:")), None)
        if owner or found.entrypoint != wanted[name].entrypoint:
            told = (
                f"a deployment of that name that belongs to {owner or 'something else'}"
            )
            allowed = "a server, or a name, of its own"
            raise invalid(name, told, allowed, file="prefect.yaml")
        there[name] = found
    return there
