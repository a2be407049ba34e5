"""The warm worker, a Prefect worker type: flow runs in child processes that have imported everything beforehand.

Prefect loads this module by its entry point, also in the server. Nothing of an app is imported here, and this process never
runs an app's code. `places` decides which runs are at work beside each other, `job` reads the needs of a run, `children`
keeps the processes, `child` is the program of such a process, `pipe` has their messages, `fork_servers` makes new ones
cheaply, and `run_end` reports the ends.
Read against Prefect 3.9.1: `prefect/workers/base.py`, `prefect/flow_engine.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import anyio
import anyio.abc
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import InfrastructureNotFound, ObjectNotFound
from prefect.logging.handlers import APILogHandler, APILogWorker
from prefect.settings import (
    PREFECT_CLIENT_MAX_RETRIES,
    get_current_settings,
    temporary_settings,
)
from prefect.workers.base import BaseVariables, BaseWorker, BaseWorkerResult

from jittask_prefect.errors import ArgumentError, JittaskError
from jittask_prefect.prefect_api.api import BY_HAND
from jittask_prefect.prefect_api.job_templates import BASE_JOB_TEMPLATE, WARM_POOL
from jittask_prefect.schedule import clock
from jittask_prefect.warm.child_process import ChildDied
from jittask_prefect.warm.children import ChildPool
from jittask_prefect.warm.drain import seconds_allowed
from jittask_prefect.warm.helpers import Helpers, LastRun
from jittask_prefect.warm.job import (
    Deployments,
    JittaskJobConfiguration,
    flow_file_of_pool,
)
from jittask_prefect.warm.metrics import serve_metrics
from jittask_prefect.warm.outage import NO_ANSWER, Outage
from jittask_prefect.warm.places import (
    LIMIT,
    PACE,
    ActiveRun,
    DueRun,
    Places,
    is_batch,
    server_pace,
    server_settings,
)
from jittask_prefect.warm.run_end import AGAIN_SECONDS, RunEnds, cancelling
from jittask_prefect.warm.stop import drain
from jittask_prefect.warm.tally import counted
from jittask_prefect.warm.turns import Turns, first_due, leave_pool, workers_of_pool

WATCH_SECONDS = 1.0  # between two looks for runs that somebody cancels
KEPT_SECONDS = 0.1  # between two looks at runs that others keep waiting
REPORT_SECONDS = 20.0  # for a worker that ends to report its runs' ends


class JittaskWorkerResult(BaseWorkerResult):
    """How a run's process ended: 0 where the run ended by itself."""


class JittaskWorker(
    BaseWorker[JittaskJobConfiguration, BaseVariables, JittaskWorkerResult]
):
    """Executes flow runs in warm child processes, one run at a time in each."""

    type = WARM_POOL
    job_configuration = JittaskJobConfiguration
    _description = "Execute flow runs of a jittask app in processes that are warm: Prefect and the app are loaded beforehand."
    _display_name = "jittask"

    @classmethod
    def get_default_base_job_template(cls) -> dict[str, Any]:
        """The base job template of a new pool: without variables, which the server would check for each run."""
        return dict(BASE_JOB_TEMPLATE)

    async def setup(self) -> None:
        """Connect, and start the first child.

        Raises:
            SystemExit: The settings of this process cannot be used; the log says why. Prefect would print a traceback.
        """
        try:
            await self._set_up()
        except JittaskError as error:
            self._logger.error("%s", error)
            raise SystemExit(1) from None

    async def _set_up(self) -> None:
        self._drain_seconds = seconds_allowed()
        self._places = Places(self._limit or LIMIT, server_pace({}))
        self._limit = self._places.total
        self._active: dict[UUID, ActiveRun] = {}
        self._last_runs: dict[UUID | None, LastRun] = {}
        self._waiting: list[DueRun] = []
        self._polling = anyio.Lock()
        self._polled = 0.0
        self._new_work = anyio.Event()
        self._outage = Outage(self._logger)
        self._loops: list[anyio.CancelScope] = []
        send_log = APILogWorker.instance().send
        self._children = ChildPool(self._limit, self._logger, send_log)
        self._turns = Turns(self.name)
        about = (self._active, self._children, self._logger)
        self._stop_metrics = serve_metrics(*about)
        await super().setup()
        self._deployments = Deployments(self.client)
        self._places.pace = server_pace(await server_settings(self.client))
        self._ends = RunEnds(self.client, self._children, self._outage, self._logger)
        self._children.flow_file = await flow_file_of_pool(
            self.client, self._work_pool_name, self._logger
        )
        self._children.keep_warm()
        for loop in (self._watch, self._begin_on_time):
            self._spawn(self._until_teardown, loop)

    async def teardown(self, *exc_info: Any) -> None:
        """Let the runs at work end, for a while, and put back the runs that had not begun. Then disconnect."""
        self.is_setup = False
        self._places.closed = True
        with anyio.CancelScope(shield=True):
            runs = list(self._active.values())
            await drain(runs, self._children, self._drain_seconds, self._logger)
            for scope in self._loops:
                scope.cancel()
            self._ends.closing = True
            await self._children.end_runs()
            with anyio.move_on_after(REPORT_SECONDS):
                for run in list(self._active.values()):
                    await run.finished.wait()
            await self._children.stop()
            await leave_pool(self.client, self._work_pool_name, self.name)
            self._stop_metrics()
            await APILogHandler.aflush()
        await super().teardown(*exc_info)

    def _spawn(
        self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any
    ) -> None:
        assert self._runs_task_group is not None
        self._runs_task_group.start_soon(function, *arguments)

    async def _until_teardown(
        self, loop: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        with anyio.CancelScope() as scope:
            self._loops.append(scope)
            await loop()

    # Which runs are due

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Poll where a run may begin, and begin the runs that are due; Prefect calls this every few seconds."""
        self._last_polled_time = clock.now()
        if self._has_successfully_synced and self._may_begin():
            await self._poll_and_begin()
        return [run.flow_run for run in self._active.values()]

    async def sync_with_backend(self) -> None:
        """Tell the server that this worker lives, and read its pool; Prefect calls this twice a minute."""
        try:
            await super().sync_with_backend()
            if self._work_pool is not None:
                self._outage.pool_seen(self._work_pool, str(self.client.api_url))
            self._turns.workers = await workers_of_pool(
                self.client, self._work_pool_name
            )
        except NO_ANSWER as error:
            self._outage.failed(error)

    async def _poll_and_begin(self) -> None:
        try:
            await self._poll()
        except NO_ANSWER as error:  # Prefect's loop would end the worker after a few
            self._outage.failed(error)
        else:
            self._outage.answered()
        self._begin_due()

    async def _poll(self) -> None:
        """Learn which runs are due, or will be soon. None is taken yet: another worker may have them."""
        now = asyncio.get_running_loop().time
        async with self._polling:
            self._polled = now()
            found = await self._first_due()
            self._places.answer_seconds = now() - self._polled
            moment = clock.now()
            due = [await self._deployments.due_run(run, moment) for run in found]
            # Some have begun meanwhile.
            due = [d for d in due if d.flow_run.id not in self._active]
            self._waiting = self._turns.sort(due, clock.now())
            batches = sum(is_batch(run.flow_run) for run in self._waiting)
            warm = max(min(len(self._waiting), self._places.pace), min(batches, PACE))
            if warm > 1:  # they begin beside each other
                self._children.keep_warm(warm)
            self._new_work.set()

    async def _first_due(self) -> list[FlowRun]:
        before = clock.now() + timedelta(seconds=self._prefetch_seconds)
        pool = (self.client, self._work_pool_name, self._work_queues)
        return await first_due(*pool, before, len(self._turns.workers))

    def _may_begin(self, run: DueRun | None = None) -> bool:
        """Whether a run, or any run at all, may begin now."""
        active, now = self._active.values(), asyncio.get_running_loop().time()
        return self.is_setup and (
            self._places.free(active, now)
            if run is None
            else self._places.may_begin(run, active, now)
        )

    def _begin_due(self) -> None:
        now = clock.now()
        for due in list(self._waiting):
            if due.begins <= now and self._may_begin(due):
                self._waiting.remove(due)
                since = asyncio.get_running_loop().time()
                run = ActiveRun(due.flow_run, due.reserved, since)
                self._active[run.flow_run.id] = run
                self.limiter.acquire_on_behalf_of_nowait(run.flow_run.id)
                self._spawn(self._see_through, run)

    async def _begin_on_time(self) -> None:
        """Begin runs that were early when they become due, and soon after that those that others kept waiting."""
        while True:
            self._new_work = anyio.Event()
            now = clock.now()
            waits = [(run.begins - now).total_seconds() for run in self._waiting]
            waits = [seconds if seconds > 0 else KEPT_SECONDS for seconds in waits]
            seconds = min([WATCH_SECONDS, *waits])
            with anyio.move_on_after(seconds):
                await self._new_work.wait()
            self._begin_due()

    # A run from begin to end

    async def _see_through(self, run: ActiveRun) -> None:
        """A flow run from being due to its end; then the next run, without waiting for Prefect's next poll."""
        flow_run = run.flow_run
        try:
            await self._take(run)
        except ObjectNotFound:
            self._logger.debug("Flow run %s is gone with its deployment", flow_run.id)
        except JittaskError as error:
            self._logger.error("Flow run %s is not begun: %s", flow_run.id, error)
            await anyio.sleep(AGAIN_SECONDS)
        except NO_ANSWER as error:
            self._outage.failed(error)
            await anyio.sleep(AGAIN_SECONDS)
        except Exception:  # no reason to end all other runs
            self._logger.exception("Flow run %s: an error of the worker", flow_run.id)
            await anyio.sleep(AGAIN_SECONDS)
        finally:
            if run.child is not None:
                self._children.release(run.child)
            del self._active[flow_run.id]
            self._release_limit_slot(flow_run.id)
            run.finished.set()
        if self.is_setup:
            # The claim asks whether a run that the last poll found is still there: no place waits for another poll.
            self._begin_due()
            age = asyncio.get_running_loop().time() - self._polled
            if not self._waiting or age > get_current_settings().worker.query_seconds:
                await self._poll_and_begin()
            for other in self._active.values():
                if other.helpers is not None:
                    other.helpers.offer()

    async def _take(self, run: ActiveRun) -> None:
        """Make a run Pending, which is this worker's from then on, and have the run executed."""
        try:
            template = self.work_pool.base_job_template
            configuration = await self._deployments.configuration(
                run.flow_run, template
            )
        except ArgumentError as error:
            await self._ends.crash(run.flow_run, str(error))
            return
        run.child = await self._children.acquire(configuration.flow_file)
        if not self.is_setup:
            return
        # They are ready when the rows are due, as in the deployment's last run.
        self._children.keep_warm(self._last_run(run.flow_run).helpers)
        # Only now: nobody else takes a Pending run, and a child can begin the run at once.
        if await self._claim(run):
            await self.run(run.flow_run, configuration)

    def _last_run(self, flow_run: FlowRun) -> LastRun:
        return self._last_runs.get(flow_run.deployment_id, LastRun())

    async def _claim(self, run: ActiveRun) -> bool:
        """Make a run Pending; whether no other worker was faster."""
        begun = asyncio.get_running_loop().time()
        # The poll's answer may be old, and the server lets a run that another worker completed meanwhile become
        # Pending again.
        run.flow_run = await self.client.read_flow_run(run.flow_run.id)
        state = run.flow_run.state
        won = (
            state is not None
            and state.is_scheduled()
            and await self._propose_pending_state(run.flow_run)
        )
        self._turns.claim_seconds = asyncio.get_running_loop().time() - begun
        if not won:  # and other runs of that answer may be gone as well
            self._waiting.clear()
            self._turns.lost(run.flow_run)
        self._children.take_figures(counted("claims", "won" if won else "lost"))
        return won

    async def run(
        self,
        flow_run: FlowRun,
        configuration: JittaskJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> JittaskWorkerResult:
        """Have a child execute a run, and report its end where the child did not live to do so.

        Args:
            flow_run: A run that is Pending.
            configuration: From its deployment.
            task_status: Gets the child's pid.
        """
        run = self._active[flow_run.id]
        while True:
            if self.is_setup and run.child is None:
                await self._acquire(run, configuration)
            child = run.child
            if not self.is_setup or child is None:
                await self._ends.put_back(flow_run)
                return JittaskWorkerResult(identifier="", status_code=1)
            pid = child.pid
            if task_status is not None:
                task_status.started(pid)
            told = (flow_run.id, flow_run.name, pid)
            self._logger.info("Flow run %s (%s) runs in child %s", *told)
            job = configuration.job(flow_run) | self._last_run(flow_run).told
            room = partial(self._places.room, self._active.values())
            about = (configuration.flow_file, self._children, room, self._logger)
            run.helpers = Helpers(child, job, *about)
            try:
                answer = await child.request(job)
                if run.helpers.known.pace:
                    self._last_runs[flow_run.deployment_id] = run.helpers.known
            except ChildDied as died:
                run.child = None
                await run.helpers.end()
                reported = await self._ends.died(run, configuration, died)
                await run.helpers.over()
                await self._ends.follow_up(run, configuration, died, reported)
                code = died.code or 1
                return JittaskWorkerResult(identifier=str(pid), status_code=code)
            run.child = None
            run.helpers.close()
            await run.helpers.over()  # one may have begun as its leader ended
            if stale := answer.get("stale"):
                self._children.outdated(child, stale)
                continue
            child.runs += 1
            self._children.release(child, answer.get("leave"))
            failed = answer.get("failed")
            if failed:
                await self._ends.crash(flow_run, str(failed))
                await self._ends.call_hooks(run, configuration)
            code = int(bool(failed))
            return JittaskWorkerResult(identifier=str(pid), status_code=code)

    async def _acquire(
        self, run: ActiveRun, configuration: JittaskJobConfiguration
    ) -> None:
        """Get a child for a run that is Pending; where none starts, the run stays without."""
        try:
            run.child = await self._children.acquire(configuration.flow_file)
        except JittaskError as error:
            self._logger.error("Flow run %s is not begun: %s", run.flow_run.id, error)
            await anyio.sleep(AGAIN_SECONDS)

    # Cancelling

    async def kill_infrastructure(
        self,
        infrastructure_pid: str,
        configuration: JittaskJobConfiguration,
        grace_seconds: int = 30,
    ) -> None:
        """Kill a child of this worker with its process group, at once.

        Args:
            infrastructure_pid: Its pid.
            configuration: Not read.
            grace_seconds: Not waited for: a warm process that is asked to end would crash its run.

        Raises:
            InfrastructureNotFound: This worker has no such child.
        """
        pid = int(infrastructure_pid) if infrastructure_pid.isdigit() else 0
        child = self._children.by_pid(pid)
        if child is None:
            raise InfrastructureNotFound(
                f"no child of worker {self.name!r} has the pid {infrastructure_pid}"
            )
        child.kill()

    async def _watch(self) -> None:
        """Each second: kill the runs that somebody cancels, and end idle children."""
        # The client's further attempts, 2, 4, 8 and 16 s after a 503, would delay the next look.
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            while True:
                await anyio.sleep(WATCH_SECONDS)
                self._children.trim()
                if self._active:
                    await self._kill_cancelled()

    async def _kill_cancelled(self) -> None:
        try:
            found = await cancelling(self.client, self._active)
        except NO_ANSWER as error:
            self._outage.failed(error)
            return
        self._outage.answered()
        for flow_run in found:
            run = self._active.get(flow_run.id)
            if run is not None and (run.child or run.helpers):
                reason = flow_run.state.message if flow_run.state else None
                run.end_reason = reason or BY_HAND
                run.kill()


__all__ = ["JittaskWorker", "JittaskWorkerResult"]
