"""The warm worker, a Prefect worker type: flow runs in child processes that have imported everything beforehand.

`job.py` is what a run asks for, `children.py` keeps the processes, `child.py` is what runs in one, `wire.py` what they
say to each other. This module is what Prefect loads by its entry point, also in the server: it imports nothing of an
app, nor does this process ever run an app's code. Read against Prefect 3.8.8: `prefect/workers/base.py`,
`prefect/flow_engine.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import anyio
import anyio.abc
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import InfrastructureNotFound, ObjectNotFound
from prefect.logging.handlers import APILogHandler, APILogWorker
from prefect.settings import (
    PREFECT_CLIENT_MAX_RETRIES,
    get_current_settings,
    temporary_settings,
)
from prefect.states import Cancelled, Crashed, Scheduled
from prefect.workers.base import BaseVariables, BaseWorker, BaseWorkerResult
from pydantic import SecretStr

from jittask_prefect.errors import ArgumentError, JittaskError
from jittask_prefect.prefect_api.client import BY_HAND
from jittask_prefect.schedule import clock
from jittask_prefect.warm.children import AGAIN_SECONDS, Child, Children, Died
from jittask_prefect.warm.job import JittaskJobConfiguration, code_of_pool
from jittask_prefect.warm.server_wait import UNANSWERED, Away, refused, sentence

T = TypeVar("T")
WATCH_SECONDS = 1.0  # between two looks for runs that somebody cancels
KNOWN_SECONDS = 5.0  # that a deployment's entrypoint and job variables are remembered
LIMIT = (
    8  # runs at a time, where nobody says otherwise; the sync has a place beside them
)
SYNC = (
    ":jittask_sync",
    ":jittask_end_task",
)  # how an entrypoint ends that has a place beside the tasks
# On a server with SQLite, several runs that begin and end beside each other are slower than one after the other. One
# that has been at it for a while hardly asks the server for anything, and must not keep the others waiting.
SQLITE_PACE, PACE = 1, 2
PUT_BACK = "put back: its worker ended before it began"
TELL_SECONDS = 20.0  # what a worker that ends takes at most to tell server and ledger of its runs' ends
AWAY_SECONDS = (
    120.0  # that a run's end is told again while the server answers everything else
)
BRIEF_SECONDS, ANSWERS = (
    3.0,
    10,
)  # and that many answers of the server longer: a slow one is asked for less


class JittaskWorkerResult(BaseWorkerResult):
    """How a run's process ended: 0 where the run ended by itself."""


class Slot:
    """A flow run that is this worker's: how it is configured, the child that runs it, and the reason it is to end."""

    def __init__(self, flow_run: FlowRun) -> None:
        self.flow_run = flow_run
        self.child: Child | None = None
        self.ends: str | None = None
        self.since = asyncio.get_running_loop().time()
        self.over = anyio.Event()


class JittaskWorker(
    BaseWorker[JittaskJobConfiguration, BaseVariables, JittaskWorkerResult]
):
    """Runs flow runs in warm child processes, one at a time each."""

    type = "jittask"
    job_configuration = JittaskJobConfiguration
    _description = "Execute flow runs of a jittask app in processes that are warm: Prefect and the app are loaded beforehand."
    _display_name = "jittask"

    _children: Children

    @classmethod
    def get_default_base_job_template(cls) -> dict[str, Any]:
        """No variables: the server checks them for each run that it makes, which costs more than the run."""
        # The server refuses an empty job configuration.
        return {
            "job_configuration": {"labels": {}},
            "variables": {"type": "object", "properties": {}},
        }

    async def setup(self) -> None:
        """Connect, and have the first child on its way."""
        self._limit = (self._limit or LIMIT) + 1
        self._pace = pace()
        self._slots: dict[UUID, Slot] = {}
        self._waiting: list[tuple[datetime, FlowRun]] = []
        self._polling = anyio.Lock()
        self._asked = self._answers = (
            0.0  # when it was asked for runs, and how long it took
        )
        self._known: dict[UUID, tuple[float, Any]] = {}
        self._syncs: dict[UUID | None, bool] = {None: False}
        self._news = anyio.Event()
        self._away = Away(self._logger)
        self._loops: list[anyio.CancelScope] = []
        self._children = Children(
            self._limit, self._logger, APILogWorker.instance().send
        )
        await super().setup()
        self._children.code = await code_of_pool(
            self.client, self._work_pool_name, self._logger
        )
        self._children.keep_warm()
        assert self._runs_task_group is not None
        self._runs_task_group.start_soon(self._until_teardown, self._watch)
        self._runs_task_group.start_soon(self._until_teardown, self._keep_time)

    async def teardown(self, *exc_info: Any) -> None:
        """End what runs, as Crashed; what had not begun is put back for another worker. Then disconnect."""
        for scope in self._loops:
            scope.cancel()
        self.is_setup = False
        with anyio.CancelScope(shield=True):
            await self._children.end_work()
            with anyio.move_on_after(
                TELL_SECONDS
            ):  # what the server, and the ledger, are still to be told of them
                for slot in list(self._slots.values()):
                    await slot.over.wait()
            await self._children.stop()
            await APILogHandler.aflush()
        await super().teardown(*exc_info)

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Ask for runs where a child is free, and begin those that are due; Prefect calls this every few seconds."""
        self._last_polled_time = clock.now()
        if self._has_successfully_synced and self._room():
            try:
                await self._ask()
            except (
                UNANSWERED
            ) as error:  # Prefect's loop would end the worker after a few of them
                self._away.note(error)
            else:
                self._away.over()
                self._begin()
        return [slot.flow_run for slot in self._slots.values()]

    async def sync_with_backend(self) -> None:
        """Tell the server that this worker lives, and learn what its pool is; Prefect calls this twice a minute."""
        try:
            await super().sync_with_backend()
        except UNANSWERED as error:
            self._away.note(error)

    def _room(self, run: FlowRun | None = None) -> bool:
        """Whether a run may begin, or any at all; the last place is the sync's, without which nothing is recovered."""
        assert self._limit is not None
        since = (
            asyncio.get_running_loop().time() - BRIEF_SECONDS - ANSWERS * self._answers
        )
        brief = sum(slot.since > since for slot in self._slots.values())
        if (
            run is not None
            and self._tasks() >= self._limit - 1
            and not self._syncs[run.deployment_id]
        ):
            return False
        pace = self._pace if run is not None and not _is_batch(run) else PACE
        return self.is_setup and len(self._slots) < self._limit and brief < pace

    def _tasks(self) -> int:
        return sum(
            not self._syncs[slot.flow_run.deployment_id]
            for slot in self._slots.values()
        )

    async def _ask(self) -> None:
        """Learn which runs are due, or will be soon. None is taken yet: another worker may have them."""
        async with self._polling:
            self._asked = asyncio.get_running_loop().time()
            found = [entry.flow_run for entry in await self._get_scheduled_flow_runs()]
            self._answers = asyncio.get_running_loop().time() - self._asked
            for deployment_id in {
                run.deployment_id for run in found if run.deployment_id
            } - set(self._syncs):
                self._syncs[deployment_id] = await self._is_sync(deployment_id)
            self._waiting = [
                (
                    run.next_scheduled_start_time
                    or run.expected_start_time
                    or clock.now(),
                    run,
                )
                for run in found
                if run.id not in self._slots
            ]
            batches = sum(_is_batch(run) for _, run in self._waiting)
            warm = max(min(len(self._waiting), self._pace), min(batches, PACE))
            if warm > 1:  # they begin beside each other, and one child is there
                self._children.keep_warm(warm)
            self._news.set()

    def _begin(self) -> None:
        """Begin what is due as far as children are free."""
        now = clock.now()
        for entry in list(self._waiting):
            due, run = entry
            if due > now or not self._room(run):
                continue
            self._waiting.remove(entry)
            self._slots[run.id] = Slot(run)
            self.limiter.acquire_on_behalf_of_nowait(run.id)
            assert self._runs_task_group is not None
            self._runs_task_group.start_soon(self._one, self._slots[run.id])

    async def _keep_time(self) -> None:
        """Begin what was early when it becomes due; each second, what others were too brief for."""
        while True:
            self._news = anyio.Event()
            now = clock.now()
            waits = [
                (due - now).total_seconds()
                for due, run in self._waiting
                if self._room(run)
            ]
            with anyio.move_on_after(
                min(max(min(waits, default=WATCH_SECONDS), 0.0), WATCH_SECONDS)
            ):
                await self._news.wait()
            self._begin()

    async def _one(self, slot: Slot) -> None:
        """A flow run from being due to its end, and then the next one at once."""
        flow_run = slot.flow_run
        try:
            try:
                configuration = await self._configuration(flow_run)
            except ArgumentError as error:
                await self._crash(flow_run, str(error))
            else:
                await self._take(slot, configuration)
        except ObjectNotFound:
            self._logger.debug("Flow run %s is gone with its deployment", flow_run.id)
        except JittaskError as error:
            self._logger.error("Flow run %s is not begun: %s", flow_run.id, error)
            await anyio.sleep(AGAIN_SECONDS)
        except UNANSWERED as error:
            self._away.note(error)
            await anyio.sleep(AGAIN_SECONDS)
        except Exception:  # no reason to end all other runs
            self._logger.exception(
                "Flow run %s: the worker could not see to it", flow_run.id
            )
            await anyio.sleep(AGAIN_SECONDS)
        finally:
            if slot.child is not None:
                self._children.release(slot.child)
            del self._slots[flow_run.id]
            self._release_limit_slot(flow_run.id)
            slot.over.set()
        if self.is_setup:
            await self._again()

    async def _take(self, slot: Slot, configuration: JittaskJobConfiguration) -> None:
        """Make a run Pending, which is this worker's then, and run it."""
        slot.child = await self._children.acquire(configuration.code)
        if not self.is_setup:
            return
        # Only now: nobody else takes a run that is Pending, and a child can begin it at once. What was known of it
        # may be old, and the server lets a run that another worker completed meanwhile become Pending again.
        flow_run = await self.client.read_flow_run(slot.flow_run.id)
        if flow_run.state is not None and flow_run.state.is_scheduled():
            slot.flow_run = flow_run
            if await self._propose_pending_state(flow_run):
                await self.run(flow_run, configuration)

    async def _again(self) -> None:
        """A child is free: not on Prefect's clock, but now."""
        age = asyncio.get_running_loop().time() - self._asked
        try:
            if not self._waiting or age > get_current_settings().worker.query_seconds:
                await self._ask()
        except UNANSWERED as error:
            self._away.note(error)
        self._begin()

    async def _configuration(self, flow_run: FlowRun) -> JittaskJobConfiguration:
        if flow_run.deployment_id is None:
            raise ArgumentError(
                "a flow run without a deployment; a pool of type jittask runs deployments only"
            )
        deployment = await self._deployment(flow_run.deployment_id)
        return JittaskJobConfiguration.of(
            flow_run, deployment, self.work_pool.base_job_template
        )

    async def _is_sync(self, deployment_id: UUID) -> bool:
        try:
            return ((await self._deployment(deployment_id)).entrypoint or "").endswith(
                SYNC
            )
        except ObjectNotFound:
            return False  # gone, and its runs with it

    async def _deployment(self, deployment_id: UUID) -> Any:
        now = asyncio.get_running_loop().time()
        since, deployment = self._known.get(deployment_id, (0.0, None))
        if deployment is None or now - since > KNOWN_SECONDS:
            deployment = await self.client.read_deployment(deployment_id)
            self._known[deployment_id] = now, deployment
        return deployment

    async def run(
        self,
        flow_run: FlowRun,
        configuration: JittaskJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> JittaskWorkerResult:
        """Have a child run it, and see to its end where the child did not live to it.

        Args:
            flow_run: A run that is Pending.
            configuration: From its deployment.
            task_status: Told the child's pid.
        """
        slot = self._slots[flow_run.id]
        while True:
            if not self.is_setup or (
                slot.child is None and not await self._have_child(slot, configuration)
            ):
                await self._patiently(flow_run.id, lambda: self._put_back(flow_run))
                return JittaskWorkerResult(identifier="", status_code=1)
            child = slot.child
            assert child is not None
            if task_status is not None:
                task_status.started(child.pid)
            self._logger.info(
                "Flow run %s (%s) runs in child %s",
                flow_run.id,
                flow_run.name,
                child.pid,
            )
            try:
                answer = await child.do(configuration.job(flow_run))
            except Died as died:
                slot.child = None
                await self._died(slot, configuration, died)
                return JittaskWorkerResult(
                    identifier=str(child.pid), status_code=died.code or 1
                )
            slot.child = None
            if stale := answer.get("stale"):
                self._children.release(child, stale)
                continue
            child.runs += 1
            self._children.release(child, answer.get("leave"))
            if failed := answer.get("failed"):
                await self._crash(flow_run, str(failed))
                await self._call_hooks(slot, configuration)
            return JittaskWorkerResult(
                identifier=str(child.pid), status_code=1 if failed else 0
            )

    async def _have_child(
        self, slot: Slot, configuration: JittaskJobConfiguration
    ) -> bool:
        """Have a child for a run that is Pending; whether there is one."""
        try:
            slot.child = await self._children.acquire(configuration.code)
        except JittaskError as error:
            self._logger.error("Flow run %s is not begun: %s", slot.flow_run.id, error)
            await anyio.sleep(AGAIN_SECONDS)
        return slot.child is not None

    async def _put_back(self, flow_run: FlowRun) -> None:
        """Make a run that is Pending, and that nobody begins here, Scheduled again, for any worker."""
        due = (
            flow_run.next_scheduled_start_time
            or flow_run.expected_start_time
            or clock.now()
        )
        await self.client.set_flow_run_state(
            flow_run.id, Scheduled(scheduled_time=due, message=PUT_BACK)
        )
        self._logger.info(
            "Flow run %s (%s) is put back: it had not begun", flow_run.id, flow_run.name
        )

    async def _died(
        self, slot: Slot, configuration: JittaskJobConfiguration, died: Died
    ) -> None:
        """The process of a run is gone: because it was to end, or by itself."""
        ended = None
        if slot.ends is None and self.is_setup:
            answer = await self._told(
                slot, configuration, configuration.job(slot.flow_run) | {"ask": True}
            )
            ended = answer.get("ended")
        told = await self._patiently(
            slot.flow_run.id, lambda: self._tell_end(slot, died, ended)
        )
        if (
            self.is_setup or not told or died.code
        ):  # else it has told the ledger, too, and another process takes seconds
            await self._call_hooks(slot, configuration)

    async def _patiently(self, run_id: UUID, ask: Callable[[], Awaitable[T]]) -> T:
        """What the server answers about a run's end; one that is away is waited for, however long that takes.

        Where it answers everything else, a run that it has no answer for keeps its place for two minutes at most.
        """
        begun, said = asyncio.get_running_loop().time(), False
        while True:
            try:
                return await ask()
            except UNANSWERED as error:
                over = (
                    self._away.since is None
                    and asyncio.get_running_loop().time() - begun > AWAY_SECONDS
                )
                if refused(error) or not self.is_setup or over:
                    raise
                if not said:
                    self._logger.warning(
                        "Flow run %s: its end could not be told yet (%s)",
                        run_id,
                        sentence(error),
                    )
                said = True
                await anyio.sleep(AGAIN_SECONDS)

    async def _crash(self, flow_run: FlowRun, message: str) -> None:
        """Tell Prefect that a run crashed, unless it has ended. Prefect's own way to do this gives up at once."""
        crashed: State[Any] = Crashed(message=message)
        await self._patiently(
            flow_run.id, lambda: self.client.set_flow_run_state(flow_run.id, crashed)
        )

    async def _tell_end(self, slot: Slot, died: Died, ended: str | None) -> bool:
        """Tell Prefect; whether the process itself had done so.

        `ended` is why the ledger has ended the run's task, of which Prefect may not have heard.
        """
        flow_run = slot.flow_run
        found = await self.client.read_flow_run(flow_run.id)
        kind = found.state.type if found.state else None
        final = found.state is not None and found.state.is_final()
        if (
            slot.ends is not None
            or kind is StateType.CANCELLING
            or (ended and not final)
        ):
            said = (
                found.state.message
                if found.state and kind is StateType.CANCELLING
                else None
            )
            message = slot.ends or said or ended or BY_HAND
            self._logger.info("Flow run %s is ended: %s", flow_run.id, message)
            await self.client.set_flow_run_state(
                flow_run.id, Cancelled(message=message), force=True
            )
        elif kind is StateType.PENDING and not self.is_setup:
            await self._put_back(flow_run)
        elif not final:
            self._logger.warning(
                "Flow run %s: its process ended with %s", flow_run.id, died
            )
            crashed: State[Any] = Crashed(
                message=f"the process of this run ended with {died}"
            )
            await self.client.set_flow_run_state(flow_run.id, crashed)
        return final

    async def _call_hooks(
        self, slot: Slot, configuration: JittaskJobConfiguration
    ) -> None:
        """Have a child call the flow's hooks for a run that was cancelled or has crashed; user code never runs here."""
        run_id = slot.flow_run.id
        found = await self._patiently(run_id, lambda: self.client.read_flow_run(run_id))
        if found.state is not None and (
            found.state.is_cancelled() or found.state.is_crashed()
        ):
            await self._told(slot, configuration, configuration.job(found, found.state))

    async def _told(
        self, slot: Slot, configuration: JittaskJobConfiguration, job: dict[str, Any]
    ) -> dict[str, Any]:
        """What a child answers that is to run nothing; empty where it cannot."""
        child: Child | None = None
        answer: dict[str, Any] = {}
        try:
            child = await self._children.acquire(configuration.code)
            answer = await child.do(job)
            if "stale" in answer:
                self._children.release(child, answer["stale"])
                child = None  # should no other start, this one is not to be given back again
                child = await self._children.acquire(configuration.code)
                answer = await child.do(job)
            if failed := answer.get("failed"):
                self._logger.error(
                    "Flow run %s: its app cannot be asked: %s", slot.flow_run.id, failed
                )
        except Died as died:
            self._logger.error(
                "Flow run %s: the process that was asked ended with %s",
                slot.flow_run.id,
                died,
            )
        except JittaskError as error:
            self._logger.error(
                "Flow run %s: no process can be asked: %s", slot.flow_run.id, error
            )
        finally:
            if child is not None:
                self._children.release(child)
        return answer

    async def kill_infrastructure(
        self,
        infrastructure_pid: str,
        configuration: JittaskJobConfiguration,
        grace_seconds: int = 30,
    ) -> None:
        """Kill a child of this worker with what it started, at once.

        Args:
            infrastructure_pid: Its pid.
            configuration: Not looked at.
            grace_seconds: Not waited for: a warm process that is told to end would crash its run.

        Raises:
            InfrastructureNotFound: It is no child of this worker.
        """
        child = (
            self._children.of(int(infrastructure_pid))
            if infrastructure_pid.isdigit()
            else None
        )
        if child is None:
            raise InfrastructureNotFound(
                f"no child of worker {self.name!r} has the pid {infrastructure_pid}"
            )
        child.kill()

    async def _until_teardown(self, loop: Callable[[], Awaitable[None]]) -> None:
        with anyio.CancelScope() as scope:
            self._loops.append(scope)
            await loop()

    async def _watch(self) -> None:
        """Kill what somebody cancels; end children that have nothing to do."""
        # The client's further attempts, 2, 4, 8, 16 s after a 503, would keep it from looking once the server is well.
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            await self._look_each_second()

    async def _look_each_second(self) -> None:
        while True:
            await anyio.sleep(WATCH_SECONDS)
            self._children.trim()
            if not self._slots:
                continue
            where = FlowRunFilter(
                id=FlowRunFilterId(any_=list(self._slots)),
                state=FlowRunFilterState(
                    type=FlowRunFilterStateType(any_=[StateType.CANCELLING])
                ),
            )
            try:
                found = await self.client.read_flow_runs(flow_run_filter=where)
            except UNANSWERED as error:
                self._away.note(error)
                continue
            self._away.over()
            for flow_run in found:
                slot = self._slots.get(flow_run.id)
                if slot is not None and slot.child is not None:
                    slot.ends = (
                        flow_run.state.message if flow_run.state else None
                    ) or BY_HAND
                    slot.child.kill()


def _is_batch(run: FlowRun) -> bool:
    """Whether a run is one of many rows, which asks the server for next to nothing while it is at work."""
    return "due" in run.parameters


def pace() -> int:
    """How many runs the server bears that begin and end beside each other, which depends on its database.

    No server says which database it has (`/admin/settings` hides the address). One on this machine has the one that
    the settings here name, or else SQLite.
    """
    settings = get_current_settings()
    url = settings.server.database.connection_url
    named = url.get_secret_value() if isinstance(url, SecretStr) else str(url or "")
    local = urlsplit(settings.api.url or "").hostname in (
        "127.0.0.1",
        "localhost",
        "::1",
    )
    return SQLITE_PACE if local and "postgresql" not in named else PACE


__all__ = ["JittaskWorker", "JittaskWorkerResult"]
