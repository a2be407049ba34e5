"""The environment of a child: the app that its deployment names, and nothing that belongs to another app."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from jittask_prefect.elements.app_name import (
    ENV_APP,
    ENV_DATABASE,
    ENV_NAME,
    database_variables,
)

ENV_SERVED = "JITTASK_WORKER_APPS"
"""Folder and name of each app of a worker, as JSON; `jittask worker` and `jittask up` set this for the worker."""
App = tuple[str, str]
"""An app's folder and name."""


def served_text(apps: Iterable[App]) -> str:
    """The value of `JITTASK_WORKER_APPS` for a worker of some apps."""
    return json.dumps(sorted(apps))


def environment_of(
    environment: Mapping[str, str], folder: str, name: str
) -> dict[str, str]:
    """The environment of a child of an app.

    `JITTASK_DATABASE_URL` reaches the child where this is the worker's only app; `JITTASK_DATABASE_URL__SHOP` reaches
    the app `shop`.

    Args:
        environment: The worker's.
        folder: The app's folder, as its deployment says; empty for a deployment that names no app.
        name: The app's name, likewise.
    """
    if not name:
        return dict(environment)
    mine = {k: v for k, v in environment.items() if not _of_an_app(k)}
    own, plain = database_variables(name)
    passed = {own, plain} if _is_only_app(environment, folder, name) else {own}
    mine |= {k: environment[k] for k in passed if k in environment}
    return mine | {ENV_APP: folder, ENV_NAME: name}


def _of_an_app(variable: str) -> bool:
    return variable in (ENV_APP, ENV_NAME, ENV_SERVED) or variable.startswith(
        ENV_DATABASE
    )


def _is_only_app(environment: Mapping[str, str], folder: str, name: str) -> bool:
    """Whether a worker serves this app and no other."""
    if served := environment.get(ENV_SERVED):
        return [tuple(each) for each in json.loads(served)] == [(folder, name)]
    # `prefect worker start`: the app is that of the environment, or of the working directory.
    if environment.get(ENV_NAME, name) != name:
        return False
    named = environment.get(ENV_APP) or os.getcwd()
    here = Path(named).resolve()
    return Path(folder).resolve() in (here, here / "flows", here.parent)
