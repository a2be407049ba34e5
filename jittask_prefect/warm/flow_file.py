"""A flow file of an app, as the worker knows the file, and the environment of the processes that load the file."""

from __future__ import annotations

import os
from dataclasses import dataclass

from jittask_prefect.warm.app_environment import environment_of


@dataclass(frozen=True)
class FlowFile:
    """A flow file that a child loads, the working directory of its runs, and the folder and name of its app."""

    file: str
    directory: str
    app_folder: str = ""
    app_name: str = ""


def environment(flow_file: FlowFile) -> dict[str, str]:
    """The environment of a process of an app: this process's, as far as its app's, and all Prefect settings as they are here."""
    from prefect.settings import get_current_settings

    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    # The worker ends runs, and so the worker has the hooks for the end called.
    hooks = {"PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false"}
    ours = environment_of(os.environ, flow_file.app_folder, flow_file.app_name)
    return {**ours, **settings, **hooks}
