"""Which of a pool's workers claims a flow run: each run has a first worker, to which the others leave the run.

All workers of a pool read the same list of due flow runs, and all but one of those that go for its head lose. So each
worker ranks all of them for each run by a hash of both (rendezvous hashing): they come to the same ranks without a word.
The runs of a queue of which a worker is the first are its share. A worker that has none of its own due takes from the end
of another's share. A share whose head stands still is left: its worker is dead or full, or takes other queues. The
next in rank take its runs as their own, until one of them loses a claim.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import takewhile
from typing import Any
from urllib.parse import quote
from uuid import UUID

import anyio
from httpx import HTTPStatusError, codes
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import WorkerFilter, WorkerFilterStatus
from prefect.client.schemas.objects import FlowRun, WorkerStatus
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect.exceptions import ObjectNotFound

from jittask_prefect.warm.outage import NO_ANSWER
from jittask_prefect.warm.places import PACE, DueRun, is_batch

STILL = timedelta(seconds=1)
CLAIMS, AT_MOST = 3, timedelta(seconds=5)
"""Further waiting, counted in this worker's claims at the pace of its last claim: a busy server is slow for all."""
NEXT = 2 * PACE  # runs of a share that its worker is about to take
LISTED, LISTED_FOR_EACH, LISTED_AT_MOST = 20, 3, 200
"""Due runs that a worker asks for: so many, and so many more for each worker. The server gives 200 at most."""
LEAVE_SECONDS = 1.0  # for the answer to a worker that ends
BUSY = 10
"""The factor by which a worker with due runs of its own waits longer for other workers: these are likely as busy."""
Share = tuple[str, UUID | None]
"""A worker and a work queue."""
Before = dict[UUID, list[Share]]
"""The shares of the workers that come before this worker, by flow run."""


@dataclass
class Turns:
    """The order in which a worker goes for flow runs.

    Attributes:
        name: This worker's.
        workers: The names of the pool's workers, with or without this one.
        claim_seconds: How long this worker's last claim took.
    """

    name: str
    workers: Collection[str] = ()
    claim_seconds: float = 0.0
    _left: set[Share] = field(default_factory=set)
    _heads: dict[Share, tuple[UUID, datetime]] = field(default_factory=dict)

    def sort(self, due: Sequence[DueRun], now: datetime) -> list[DueRun]:
        """The runs that this worker goes for, in their order.

        Args:
            due: All runs that are due or will be soon, as the server has them in this moment.
            now: This moment.
        """
        claims = timedelta(seconds=CLAIMS * self.claim_seconds)
        patience = STILL + min(claims, AT_MOST)
        before = self._before(due)
        if self._stand_still(due, before, now, patience):
            before = self._before(due)
        own = _own(due, before)
        if _any_due(own, now):
            return own

        others: defaultdict[Share, list[DueRun]] = defaultdict(list)
        for run in due:
            for share in before[run.flow_run.id][:1]:
                others[share].append(run)
        spare = [
            run
            for runs in others.values()
            for run in runs[NEXT:]
            if now - run.begins > patience
        ]
        # A run for which this worker is the next in rank, so that other idle workers take other runs.
        spare.sort(key=lambda run: len(before[run.flow_run.id]), reverse=True)
        return own + spare[-1:]

    def lost(self, flow_run: FlowRun) -> None:
        """Another worker has claimed a run, so workers before this one may take their runs again."""
        for name in takewhile(self.name.__ne__, self._ranking(flow_run)):
            self._left.discard((name, flow_run.work_queue_id))

    def _stand_still(
        self,
        due: Sequence[DueRun],
        before: Before,
        now: datetime,
        patience: timedelta,
    ) -> set[Share]:
        """The shares that are left from now on: their heads were due at the last poll already."""
        heads: dict[Share, tuple[UUID, datetime]] = {}
        for run in due:
            key = run.flow_run.id
            for share in before[key][:1]:
                if share not in heads:
                    last, since = self._heads.get(share, (None, now))
                    heads[share] = key, max(run.begins, since if last == key else now)

        self._heads = heads
        if _any_due(_own(due, before), now):
            patience *= BUSY
        found = {s for s, (_, since) in heads.items() if now - since > patience}
        self._left |= found
        return found

    def _before(self, due: Sequence[DueRun]) -> Before:
        """The shares of the workers that come before this worker, by flow run.

        Of a batch's flow runs each worker has one, before any has a second one.
        """
        found: Before = {}
        of_batch: defaultdict[str, Counter[Share]] = defaultdict(Counter)
        for run in sorted(due, key=lambda run: run.flow_run.id):
            flow_run = run.flow_run
            queue = flow_run.work_queue_id
            shares = [(name, queue) for name in self._ranking(flow_run)]
            shares = [share for share in shares if share not in self._left]
            if is_batch(flow_run):
                have = of_batch[repr(flow_run.parameters)]
                shares.sort(key=have.__getitem__)
                have[shares[0]] += 1
            found[flow_run.id] = shares[: shares.index((self.name, queue))]
        return found

    def _ranking(self, flow_run: FlowRun) -> list[str]:
        """The pool's workers, the first one of a flow run first."""
        key = flow_run.id.bytes

        def place(name: str) -> bytes:
            return blake2b(key + name.encode(), digest_size=8).digest()

        return sorted({self.name, *self.workers}, key=place)


def _own(due: Iterable[DueRun], before: Before) -> list[DueRun]:
    return [run for run in due if not before[run.flow_run.id]]


def _any_due(runs: Iterable[DueRun], now: datetime) -> bool:
    return any(run.begins <= now for run in runs)


async def leave_pool(client: PrefectClient, pool: str, name: str) -> None:
    """Take a worker that ends out of its pool at once: by its heartbeats, others would leave it runs for two minutes."""
    path: Any = f"/work_pools/{quote(pool, safe='')}/workers/{quote(name, safe='')}"
    with suppress(*NO_ANSWER), anyio.move_on_after(LEAVE_SECONDS):
        await client.request("DELETE", path)


async def first_due(
    client: PrefectClient,
    pool: str,
    queues: Collection[str],
    before: datetime,
    workers: int,
) -> list[FlowRun]:
    """The runs of a pool that are due before an instant, at most some for each worker.

    Prefect's own question has no limit. Each answer then reads and sends up to 200 runs, once a second for each worker: a
    server with many due runs did little else.

    Args:
        client: Prefect's.
        pool: The work pool.
        queues: Its work queues; all where empty.
        before: The instant.
        workers: How many workers there are.
    """
    body: dict[str, Any] = {
        "work_queue_names": list(queues),
        "scheduled_before": before.isoformat(),
        "limit": min(LISTED_AT_MOST, LISTED + LISTED_FOR_EACH * workers),
    }
    path: Any = f"/work_pools/{quote(pool, safe='')}/get_scheduled_flow_runs"
    try:
        answer = await client.request("POST", path, json=body)
    except HTTPStatusError as error:
        if error.response.status_code == codes.NOT_FOUND:  # the pool is made anew
            return []
        raise
    found = WorkerFlowRunResponse.model_validate_list(answer.json())
    return [each.flow_run for each in found]


async def workers_of_pool(client: PrefectClient, pool: str) -> list[str]:
    """The names of a pool's workers that live, by their heartbeats."""
    online = WorkerFilterStatus(any_=[WorkerStatus.ONLINE])
    about = WorkerFilter(status=online)
    try:
        found = await client.read_workers_for_work_pool(pool, about)
    except ObjectNotFound:
        return []
    return [worker.name for worker in found]
