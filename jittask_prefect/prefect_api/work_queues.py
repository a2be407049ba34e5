"""The work queues of an app's deployments that no worker takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jittask_prefect.prefect_api.answers import ServerDeployment
from jittask_prefect.prefect_api.api import Api


@dataclass(frozen=True)
class Unserved:
    """A work queue that no worker takes.

    Attributes:
        pool: The work pool; empty where the deployments have none.
        queue: The queue.
        names: The deployments in the queue.
        paused: Whether somebody paused the queue.
    """

    pool: str
    queue: str
    names: tuple[str, ...]
    paused: bool = False

    @property
    def text(self) -> str:
        """What is wrong, and what to do."""
        if self.paused:
            told = f"the work queue {self.queue} of {self.pool} is paused"
            return f"{told}: resume it on Prefect's page Work Pools"
        place = (
            f"the work queue {self.queue} of the pool {self.pool or 'that is missing'}"
        )
        start = f"`jittask worker --pool {self.pool}`, or `jittask up`, starts a worker"
        return f"no worker takes {place}: {start}"


def queues_unserved(api: Api, there: Iterable[ServerDeployment]) -> list[Unserved]:
    """The work queues with deployments that no worker takes; one call for each pool.

    Args:
        api: Prefect.
        there: The deployments.
    """
    names: dict[tuple[str, str], list[str]] = {}
    for each in there:
        place = each.work_pool_name or "", each.work_queue_name or "default"
        names.setdefault(place, []).append(each.name)
    status = {
        (pool, queue.name): queue.status
        for pool in {pool for pool, _ in names}
        for queue in (api.queues(pool) if pool else [])
    }
    return [
        Unserved(*place, tuple(found), paused=status.get(place) == "PAUSED")
        for place, found in sorted(names.items())
        if status.get(place) != "READY"
    ]
