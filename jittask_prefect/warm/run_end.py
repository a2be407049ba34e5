"""The end of flow runs whose process died before it reported the end: Prefect and the flow's hooks are informed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelled, Crashed, Scheduled

from jittask_prefect.errors import JittaskError
from jittask_prefect.prefect_api.api import BY_HAND
from jittask_prefect.schedule import clock
from jittask_prefect.warm.child_process import ChildDied
from jittask_prefect.warm.children import ChildPool
from jittask_prefect.warm.job import JittaskJobConfiguration
from jittask_prefect.warm.outage import NO_ANSWER, Log, Outage, one_line, refused
from jittask_prefect.warm.places import ActiveRun

AGAIN_SECONDS = 1.0  # between two attempts
# How long the report of a run's end is repeated while the server answers all other requests: the run's place is needed.
AGAIN_AT_MOST = 120.0
PUT_BACK = "put back: its worker ended before it began"
T = TypeVar("T")


async def cancelling(client: PrefectClient, runs: Iterable[UUID]) -> list[FlowRun]:
    """Those of some flow runs that somebody cancels."""
    state = FlowRunFilterStateType(any_=[StateType.CANCELLING])
    where = FlowRunFilter(
        id=FlowRunFilterId(any_=list(runs)), state=FlowRunFilterState(type=state)
    )
    return await client.read_flow_runs(flow_run_filter=where)


class RunEnds:
    """Tells Prefect and the flow's hooks how runs ended.

    Args:
        client: Of the server.
        children: The worker's processes; a flow's hooks are the app's code, which never runs in the worker.
        outage: Whether the server answers.
        log: The worker's.

    Attributes:
        closing: Whether the worker ends: then nothing is waited for.
    """

    def __init__(
        self, client: PrefectClient, children: ChildPool, outage: Outage, log: Log
    ) -> None:
        self._client, self._children = client, children
        self._outage, self._log = outage, log
        self.closing = False

    async def died(
        self, run: ActiveRun, configuration: JittaskJobConfiguration, died: ChildDied
    ) -> bool:
        """Report the end of a run whose process is gone: because the run was to end, or by itself.

        Returns:
            Whether the process itself had reported the end.
        """
        ended = None
        if run.end_reason is None and not self.closing:
            question = configuration.job(run.flow_run) | {"ask": True}
            ended = (await self._ask(run, configuration, question)).get("ended")
        return await self.persist(
            run.flow_run.id, lambda: self._report(run, died, ended)
        )

    async def follow_up(
        self,
        run: ActiveRun,
        configuration: JittaskJobConfiguration,
        died: ChildDied,
        reported: bool,
    ) -> None:
        """Call the flow's hooks for a run whose processes are gone; arguments as of, and from, `died`."""
        # Else the process has told the ledger, too, and another process takes seconds.
        if not self.closing or not reported or died.code:
            await self.call_hooks(run, configuration)

    async def crash(self, flow_run: FlowRun, message: str) -> None:
        """Set a run Crashed unless the run has ended. Prefect's own way gives up at once."""
        crashed: State[Any] = Crashed(message=message)
        await self.persist(
            flow_run.id, lambda: self._client.set_flow_run_state(flow_run.id, crashed)
        )

    async def put_back(self, flow_run: FlowRun) -> None:
        """Set a run that is Pending, and that nobody begins here, to Scheduled again, for any worker."""
        await self.persist(flow_run.id, lambda: self._put_back(flow_run))

    async def call_hooks(
        self, run: ActiveRun, configuration: JittaskJobConfiguration
    ) -> None:
        """Have a child call the flow's hooks, where the run was cancelled or has crashed."""
        run_id = run.flow_run.id
        found = await self.persist(run_id, lambda: self._client.read_flow_run(run_id))
        state = found.state
        if state is not None and (state.is_cancelled() or state.is_crashed()):
            await self._ask(run, configuration, configuration.hooks_job(found, state))

    async def persist(self, run_id: UUID, request: Callable[[], Awaitable[T]]) -> T:
        """Make a request about a run's end until the server answers, however long an outage takes.

        Where the server answers everything else, the request is given up after `AGAIN_AT_MOST` seconds.
        """
        now = asyncio.get_running_loop().time
        begun, logged = now(), False
        while True:
            try:
                return await request()
            except NO_ANSWER as error:
                late = now() - begun > AGAIN_AT_MOST and self._outage.since is None
                if refused(error) or self.closing or late:
                    raise
                if not logged:
                    message = "Flow run %s: its end could not be told yet (%s)"
                    self._log.warning(message, run_id, one_line(error))
                logged = True
                await asyncio.sleep(AGAIN_SECONDS)

    async def _put_back(self, flow_run: FlowRun) -> None:
        due = flow_run.next_scheduled_start_time or flow_run.expected_start_time
        scheduled: State[Any] = Scheduled(
            scheduled_time=due or clock.now(), message=PUT_BACK
        )
        await self._client.set_flow_run_state(flow_run.id, scheduled)
        self._log.info(
            "Flow run %s (%s) is put back: it had not begun", flow_run.id, flow_run.name
        )

    async def _report(self, run: ActiveRun, died: ChildDied, ended: str | None) -> bool:
        """Report the end of a run to Prefect.

        Args:
            run: The run.
            died: How its process ended.
            ended: Why the ledger has ended the run's task, which Prefect may not know; None where the task is open.

        Returns:
            Whether the process itself had reported the end.
        """
        run_id = run.flow_run.id
        found = await self._client.read_flow_run(run_id)
        state = found.state
        final = state is not None and state.is_final()
        cancelling = state is not None and state.type is StateType.CANCELLING
        if run.end_reason is not None or cancelling or (ended and not final):
            reason = state.message if state and cancelling else None
            message = run.end_reason or reason or ended or BY_HAND
            run.kill()  # its helpers
            self._log.info("Flow run %s is ended: %s", run_id, message)
            cancelled: State[Any] = Cancelled(message=message)
            await self._client.set_flow_run_state(run_id, cancelled, force=True)
        elif state and state.type is StateType.PENDING and self.closing:
            await self._put_back(found)
        elif not final:
            self._log.warning("Flow run %s: its process ended with %s", run_id, died)
            message = f"the process of this run ended with {died}"
            crashed: State[Any] = Crashed(message=message)
            await self._client.set_flow_run_state(run_id, crashed)
        return final

    async def _ask(
        self,
        run: ActiveRun,
        configuration: JittaskJobConfiguration,
        job: dict[str, Any],
    ) -> dict[str, Any]:
        """The answer of a child to a job that executes nothing; empty where no child can answer."""
        run_id, answer = run.flow_run.id, dict[str, Any]()
        try:
            stale: str | None = "not asked yet"
            while stale:
                child = await self._children.acquire(configuration.flow_file)
                answer = await child.request(job)
                if stale := answer.get("stale"):
                    self._children.outdated(child, stale)
                else:
                    self._children.release(child)
        except ChildDied as died:
            self._log.error(
                "Flow run %s: the process that was asked ended with %s", run_id, died
            )
        except JittaskError as error:
            self._log.error("Flow run %s: no process can be asked: %s", run_id, error)
        if failed := answer.get("failed"):
            self._log.error("Flow run %s: its app cannot be asked: %s", run_id, failed)
        return answer
