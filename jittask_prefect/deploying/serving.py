"""A worker's apps: several apps may share one worker, of one work pool and one Python environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jittask_prefect.deploying import prefect_yaml
from jittask_prefect.deploying.deployments import (
    ensure_queues,
    ensure_work_pool,
    pool_of,
)
from jittask_prefect.elements.app import App
from jittask_prefect.elements.app_name import (
    ENV_DATABASE,
    ENV_NAME,
    database_variables,
)
from jittask_prefect.errors import ArgumentError
from jittask_prefect.ledger import guard
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.names import queues_of
from jittask_prefect.warm.app_environment import ENV_SERVED, served_text


@dataclass(frozen=True)
class Serving:
    """The needs of a worker of some apps.

    Attributes:
        url: The API's address.
        pool: The work pool.
        queues: The work queues of the apps.
        limit: How many tasks at a time the apps allow together.
        environment: Variables of the worker.
    """

    url: str
    pool: str
    queues: tuple[str, ...]
    limit: int
    environment: Mapping[str, str]


def prepare(apps: Sequence[App], pool: str | None = None) -> Serving:
    """Make pool, queues and flow files of a worker's apps, and compare the apps' databases with the server's memory.

    Args:
        apps: The apps.
        pool: The work pool; that of the apps where absent.

    Raises:
        ArgumentError: One worker cannot serve these apps together.
        OtherDatabase: The server knows an app by another database.
        PrefectApiError: No server is known, or the server cannot be reached.
    """
    refuse_shared(apps)
    pools = {app.name: pool or pool_of(app) for app in apps}
    chosen = _same(pools, "work pools", "--pool POOL, or a worker for each app")
    apis = {app.name: guard.connect(app) for app in apps}
    urls = {name: api.url for name, api in apis.items()}
    url = _same(urls, "Prefect servers", "PREFECT_API_URL, or a worker for each app")
    for app in apps:
        _make_ready(app, apis[app.name], chosen)
    return Serving(
        url=url,
        pool=chosen,
        queues=tuple(queue for app in apps for queue in queues_of(app.name)),
        limit=sum(app.cfg.maxConcurrency for app in apps),
        environment=environment_for(apps),
    )


def environment_for(apps: Sequence[App]) -> dict[str, str]:
    """The environment variables that name a worker's apps."""
    return {ENV_SERVED: served_text((str(app.path), app.name) for app in apps)}


def _make_ready(app: App, api: Api, pool: str) -> None:
    ensure_work_pool(api, pool)
    ensure_queues(app, api, pool)
    prefect_yaml.write_flows(app)  # generated, so in no repository


def refuse_shared(
    apps: Sequence[App], environment: Mapping[str, str] = os.environ
) -> None:
    """Refuse several apps that share a name or an environment variable, of which each app needs its own.

    Raises:
        ArgumentError: The apps share something.
    """
    if len(apps) < 2:
        return
    if environment.get(ENV_NAME):
        allowed = "allowed: a worker for each app, or a name of its own in each app's configuration"
        raise ArgumentError(
            f"{ENV_NAME} names one app, and there are several; {allowed}"
        )
    own = [database_variables(app.name)[0] for app in apps]
    if environment.get(ENV_DATABASE):
        instead = ", ".join(own)
        raise ArgumentError(
            f"{ENV_DATABASE} is the database of one app, and there are several; allowed: {instead}"
        )
    for number, app in enumerate(apps):
        for other in apps[:number]:
            if app.path == other.path or app.name == other.name:
                text = f"{other.path} and {app.path} are both the app {app.name}"
                allowed = "allowed: apps of different names, each once"
                raise ArgumentError(f"{text}; {allowed}")
    if len(set(own)) < len(own):
        names = ", ".join(app.name for app in apps)
        allowed = "allowed: names that differ in letters or digits"
        raise ArgumentError(f"apps {names} share a variable {own[-1]}; {allowed}")


def _same(values: Mapping[str, str], kind: str, allowed: str) -> str:
    """The value that all apps have in common."""
    if len(set(values.values())) > 1:
        told = ", ".join(f"{name}: {value}" for name, value in values.items())
        raise ArgumentError(
            f"the apps have different {kind} ({told}); allowed: {allowed}"
        )
    return next(iter(values.values()))
