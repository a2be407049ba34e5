"""The work queues of an app's deployments, and whether workers take them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from jittask_prefect.prefect_api.answers import ServerDeployment
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.job_templates import WARM_POOL


@dataclass(frozen=True)
class AppQueue:
    """A work queue with deployments of an app.

    Attributes:
        pool: The work pool; empty where somebody deleted the pool, which leaves its deployments without.
        queue: The queue.
        status: Prefect's status of the queue; `missing` where there is no such queue.
        names: The deployments in the queue.
        kind: The pool's type where no worker takes the queue; None where there is no such pool.
    """

    pool: str
    queue: str
    status: str
    names: tuple[str, ...]
    kind: str | None = None

    @property
    def served(self) -> bool:
        """Whether a worker takes the queue."""
        return self.status == "READY"

    @property
    def problem(self) -> str:
        """Why no worker takes the queue, and the next step."""
        more = len(self.names) - 1
        told = f"{self.names[0]} and {more} more" if more else self.names[0]
        if self.status == "PAUSED":
            problem = f"the work queue {self.queue} of {self.pool} is paused ({told})"
            return f"{problem}: resume it on Prefect's page Work Pools"

        if not self.pool:
            problem = f"the work pool of {told} was deleted, and no worker takes {'them' if more else 'it'}"
            return f"{problem}: `jittask deploy` gives the app's pool"

        problem = f"no worker takes the work queue {self.queue} of the pool {self.pool} ({told})"
        if self.kind in (None, WARM_POOL):
            return f"{problem}: start one: `jittask worker --pool {self.pool}`, or `jittask up`"
        command = f"prefect worker start --pool {self.pool}"
        return f"{problem}: start one of its type {self.kind}: `{command}`"


def app_queues(api: Api, there: Iterable[ServerDeployment]) -> list[AppQueue]:
    """The work queues with deployments of an app, by pool and name; one call for each pool, two where no worker takes a queue.

    Args:
        api: Prefect.
        there: The app's deployments.
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
    made = [
        AppQueue(*place, status.get(place) or "missing", tuple(found))
        for place, found in sorted(names.items())
    ]
    without = {queue.pool for queue in made if queue.pool and not queue.served}
    kinds = {pool: api.pool_kind(pool) for pool in without}
    return [replace(queue, kind=kinds.get(queue.pool)) for queue in made]
