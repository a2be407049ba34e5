"""What a flow run asks of the warm worker: the flow file, the function, the working directory, and nothing else."""

from __future__ import annotations

import os
from logging import Logger, LoggerAdapter
from pathlib import Path
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import FlowRun, State
from prefect.workers.base import BaseJobConfiguration

from jittask_prefect.errors import ArgumentError
from jittask_prefect.warm.children import Code
from jittask_prefect.warm.server_wait import UNANSWERED

DIRECTORY = "prefect.deployments.steps.set_working_directory"


class JittaskJobConfiguration(BaseJobConfiguration):
    """What a run needs: the flow file, the function, the working directory; no job variable changes anything."""

    file: str = ""
    function: str = ""
    directory: str = ""

    @classmethod
    def of(
        cls, flow_run: FlowRun, deployment: Any, template: dict[str, Any]
    ) -> JittaskJobConfiguration:
        """What a flow run's deployment says.

        Args:
            flow_run: The run.
            deployment: Its deployment, as the client gives it.
            template: The work pool's base job template.

        Raises:
            ArgumentError: The deployment asks for what a jittask pool does not do.
        """
        asked = {
            **template.get("job_configuration", {}),
            **(deployment.job_variables or {}),
        }
        asked |= flow_run.job_variables or {}
        if refused := sorted(name for name, value in asked.items() if value):
            raise ArgumentError(
                f"job variables {', '.join(refused)} of deployment {deployment.name}: a pool of type jittask takes "
                "none, since its processes run before a flow run is known; remove them, or use a pool of type process"
            )
        steps = [
            (name, step)
            for each in deployment.pull_steps or []
            for name, step in each.items()
        ]
        if other := [name for name, _ in steps if name != DIRECTORY]:
            raise ArgumentError(
                f"pull step {', '.join(other)} of deployment {deployment.name}; allowed in a pool of type jittask: "
                f"{DIRECTORY}, since the app stays where it is"
            )
        path, _, function = (deployment.entrypoint or "").rpartition(":")
        if not path:
            raise ArgumentError(
                f"entrypoint {deployment.entrypoint!r} of deployment {deployment.name}; allowed in a pool of type "
                "jittask: FILE.py:FLOW"
            )
        directory = Path(
            steps[-1][1]["directory"] if steps else deployment.path or "."
        ).absolute()
        return cls(
            file=os.path.normpath(directory / path),
            function=function,
            directory=str(directory),
        )

    @property
    def code(self) -> Code:
        """What a child has to load."""
        return Code(self.file, self.directory)

    def job(self, flow_run: FlowRun, state: State[Any] | None = None) -> dict[str, Any]:
        """The message for the child: run this, or call the hooks of the state that the run has ended in."""
        job = {
            "run": flow_run.model_dump(mode="json"),
            "function": self.function,
            **vars(self.code),
        }
        return (
            job
            if state is None
            else job | {"state": state.model_dump(mode="json", exclude={"data"})}
        )


async def code_of_pool(
    client: PrefectClient, pool: str, logger: Logger | LoggerAdapter[Any]
) -> Code | None:
    """What a child may load before its first job: the flow file of one of the pool's deployments.

    Args:
        client: Of the server.
        pool: The work pool's name.
        logger: Told why nothing is loaded beforehand.

    Returns:
        It, or None where no deployment has one that can be loaded.
    """
    where = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))
    try:
        for deployment in await client.read_deployments(
            work_pool_filter=where, limit=5
        ):
            named = FlowRun.model_construct(job_variables=None)
            code = JittaskJobConfiguration.of(named, deployment, {}).code
            if Path(code.file).is_file():
                return code
    except (*UNANSWERED, ArgumentError) as error:
        logger.debug("Nothing is loaded beforehand: %s", error)
    return None
