"""The job configuration of the warm worker: a flow file, a function, a working directory, and nothing else."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.workers.base import BaseJobConfiguration

from jittask_prefect.elements.app_name import ENV_APP, ENV_NAME
from jittask_prefect.errors import ArgumentError
from jittask_prefect.warm.flow_file import FlowFile
from jittask_prefect.warm.outage import NO_ANSWER, Log
from jittask_prefect.warm.places import RESERVED, DueRun

SET_DIRECTORY = "prefect.deployments.steps.set_working_directory"
DEPLOYMENT_SECONDS = 5.0  # that a deployment's entrypoint and job variables are kept


class JittaskJobConfiguration(BaseJobConfiguration):
    """The needs of a flow run. Only the app's folder and name are read of the job variables: a process serves a single app."""

    file: str = ""
    function: str = ""
    directory: str = ""
    app_folder: str = ""
    app_name: str = ""

    @classmethod
    def from_deployment(
        cls, flow_run: FlowRun, deployment: Any, template: dict[str, Any]
    ) -> JittaskJobConfiguration:
        """The configuration of a flow run.

        Args:
            flow_run: The run.
            deployment: Its deployment, as Prefect's client gives it.
            template: The work pool's base job template.

        Raises:
            ArgumentError: The deployment asks for something that a jittask pool cannot do.
        """
        variables = {
            **template.get("job_configuration", {}),
            **(deployment.job_variables or {}),
            **(flow_run.job_variables or {}),
        }
        environment = dict(variables.pop("env", None) or {})
        folder, name = (environment.pop(key, "") for key in (ENV_APP, ENV_NAME))
        variables |= {f"env.{key}": value for key, value in environment.items()}
        if refused := sorted(key for key, value in variables.items() if value):
            raise ArgumentError(
                f"job variables {', '.join(refused)} of deployment {deployment.name}: a pool of type jittask takes "
                "none of the team's, since its processes run before a flow run is known; remove them, or use a pool of type process"
            )
        steps = [
            step for steps in deployment.pull_steps or [] for step in steps.items()
        ]
        if refused := [name for name, _ in steps if name != SET_DIRECTORY]:
            raise ArgumentError(
                f"pull step {', '.join(refused)} of deployment {deployment.name}; allowed in a pool of type jittask: "
                f"{SET_DIRECTORY}, since the app stays where it is"
            )
        path, _, function = (deployment.entrypoint or "").rpartition(":")
        if not path:
            raise ArgumentError(
                f"entrypoint {deployment.entrypoint!r} of deployment {deployment.name}; allowed in a pool of type "
                "jittask: FILE.py:FLOW"
            )
        place = steps[-1][1]["directory"] if steps else deployment.path or "."
        directory = Path(place).absolute()
        return cls(
            file=os.path.normpath(directory / path),
            function=function,
            directory=str(directory),
            app_folder=os.path.normpath(directory / folder) if folder else "",
            app_name=name,
        )

    @property
    def flow_file(self) -> FlowFile:
        """The file that a child has to load."""
        return FlowFile(self.file, self.directory, self.app_folder, self.app_name)

    def job(self, flow_run: FlowRun) -> dict[str, Any]:
        """The message that has a child execute the flow run (`pipe`)."""
        return {
            "run": flow_run.model_dump(mode="json"),
            "function": self.function,
            "file": self.file,
            "directory": self.directory,
        }

    def hooks_job(self, flow_run: FlowRun, state: State[Any]) -> dict[str, Any]:
        """The message that has a child call the flow's hooks for the state in which the run has ended."""
        return self.job(flow_run) | {
            "state": state.model_dump(mode="json", exclude={"data"})
        }


class Deployments:
    """The deployments of flow runs, each kept for some seconds.

    Args:
        client: Of the server.
    """

    def __init__(self, client: PrefectClient) -> None:
        self._client = client
        self._kept: dict[UUID, tuple[float, Any]] = {}

    async def due_run(self, flow_run: FlowRun, now: datetime) -> DueRun:
        """A flow run with its due time, which is now where the run has none, and whether its place is reserved."""
        due = flow_run.next_scheduled_start_time or flow_run.expected_start_time
        entrypoint = ""
        if flow_run.deployment_id is not None:
            with suppress(ObjectNotFound):  # gone, and its runs with it
                deployment = await self._of(flow_run.deployment_id)
                entrypoint = deployment.entrypoint or ""
        return DueRun(due or now, flow_run, entrypoint.endswith(RESERVED))

    async def configuration(
        self, flow_run: FlowRun, template: dict[str, Any]
    ) -> JittaskJobConfiguration:
        """The needs of a flow run.

        Args:
            flow_run: The run.
            template: The work pool's base job template.

        Raises:
            ArgumentError: The run asks for something that a jittask pool cannot do.
            ObjectNotFound: The deployment is gone.
        """
        if flow_run.deployment_id is None:
            raise ArgumentError(
                "a flow run without a deployment; a pool of type jittask runs deployments only"
            )
        deployment = await self._of(flow_run.deployment_id)
        return JittaskJobConfiguration.from_deployment(flow_run, deployment, template)

    async def _of(self, deployment_id: UUID) -> Any:
        now = asyncio.get_running_loop().time()
        since, deployment = self._kept.get(deployment_id, (0.0, None))
        if deployment is None or now - since > DEPLOYMENT_SECONDS:
            deployment = await self._client.read_deployment(deployment_id)
            self._kept[deployment_id] = now, deployment
        return deployment


async def flow_file_of_pool(
    client: PrefectClient, pool: str, log: Log
) -> FlowFile | None:
    """The flow file of one of the pool's deployments, that a child may load before its first job.

    Args:
        client: Of the server.
        pool: The work pool's name.
        log: Gets the reason where nothing can be loaded.

    Returns:
        The file; None where no deployment has a file that can be loaded.
    """
    where = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))
    no_run = FlowRun.model_construct(job_variables=None)
    try:
        deployments = await client.read_deployments(work_pool_filter=where, limit=5)
        for deployment in deployments:
            configuration = JittaskJobConfiguration.from_deployment(
                no_run, deployment, {}
            )
            if Path(configuration.file).is_file():
                return configuration.flow_file
    except (*NO_ANSWER, ArgumentError) as error:
        log.debug("Nothing is loaded beforehand: %s", error)
    return None
