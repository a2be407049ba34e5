"""The warm worker's child processes: started beforehand, used again and again."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from jittask_prefect.errors import JittaskError
from jittask_prefect.warm.child_process import ChildDied, ChildProcess, SendLog
from jittask_prefect.warm.flow_file import FlowFile
from jittask_prefect.warm.fork_servers import ForkServers
from jittask_prefect.warm.outage import Log
from jittask_prefect.warm.pipe import UPGRADE

# The pause before a child that ended by itself is replaced: the cause may end the next child too. Each child that
# does not get ready doubles the pause, as while the server is away.
RESTART_SECONDS, RESTART_AT_MOST = 1.0, 30.0
IDLE_SECONDS = 300.0  # after which an idle child ends, except the last
STOP_SECONDS = 5.0  # for runs to report that they were ended


class ChildPool:
    """The child processes of a worker.

    Args:
        limit: How many there are at most.
        log: The worker's.
        send_log: Takes the lines that children log for the API.

    Attributes:
        flow_file: The file that new children load beforehand; None until one is known.
        take_figures: Takes the figures that children count for metrics.
    """

    def __init__(self, limit: int, log: Log, send_log: SendLog) -> None:
        self.limit, self._log, self._send_log = limit, log, send_log
        self.flow_file: FlowFile | None = None
        self.take_figures: Callable[[Mapping[str, Any]], None] = lambda figures: None
        self._servers = ForkServers(log)
        self._idle: list[ChildProcess] = []
        self._all: set[ChildProcess] = set()
        self._ending = self._stopped = False
        self._failed_starts = 0  # in a row
        self._upgraded = ""  # why this worker starts no child any more
        self._tasks: set[asyncio.Task[None]] = set()

    def keep_warm(self, count: int = 1) -> None:
        """Start children until so many are idle or starting, as far as the limit lets; none before a file is known."""
        flow_file = self.flow_file
        while (
            flow_file is not None
            and not (self._ending or self._upgraded)
            and len(self._idle) < count
            and len(self._all) < self.limit
        ):
            self._idle.append(self._start(flow_file))

    async def acquire(self, flow_file: FlowFile) -> ChildProcess:
        """A ready child for this file; the caller returns the child with `release`.

        Raises:
            JittaskError: A new child did not start, this package was upgraded, or the worker ends.
        """
        self.flow_file = flow_file
        while not self._stopped:
            if self._upgraded:
                raise JittaskError(self._upgraded)
            fitting = [c for c in self._idle if c.flow_file == flow_file]
            if not fitting:
                if surplus := self._idle[: max(0, len(self._all) - self.limit + 1)]:
                    for other in surplus:
                        self._log.info(
                            "Child %s ends: another app needs its place", other.pid
                        )
                        await self.retire(other)
                    continue  # a fitting child may be on its way by now
                fitting = [self._start(flow_file)]
            child = max(fitting, key=lambda c: (c.ready.done(), c.last_used))
            if child in self._idle:
                self._idle.remove(child)
            try:
                await asyncio.shield(child.ready)
            except ChildDied as died:
                raise JittaskError(
                    f"a child process did not start: it ended with {died}; its output says why"
                ) from None
            if not child.ended.done():
                return child
        raise JittaskError("the worker ends")

    def release(self, child: ChildProcess, leave: str | None = None) -> None:
        """Give a child back.

        Args:
            child: The child.
            leave: Why the child should execute no other run.
        """
        if child.ended.done():
            return
        if leave is None and not self._stopped:
            self._idle.append(child)
            return
        self._log.info(
            "Child %s is replaced after %d runs: %s",
            child.pid,
            child.runs,
            leave or "the worker ends",
        )
        self._spawn(self.retire(child))

    def outdated(self, child: ChildProcess, reason: str) -> None:
        """Give a child back whose app's files have changed.

        Args:
            child: The child.
            reason: Its answer `stale`.
        """
        self._servers.files_changed(child.flow_file, child.started)
        self.release(child, reason)

    async def retire(self, child: ChildProcess) -> None:
        """End a child that executes nothing, and wait until the process is gone."""
        if child in self._idle:
            self._idle.remove(child)
        child.kill()
        await asyncio.shield(child.ended)

    def trim(self) -> None:
        """End children that were idle for a while, except the last, and fork servers without children."""
        old = asyncio.get_running_loop().time() - IDLE_SECONDS
        self._servers.trim(old)
        for child in sorted(self._idle, key=lambda child: child.last_used)[:-1]:
            if child.last_used < old:
                self._log.debug("Child %s ends: it was idle", child.pid)
                self._spawn(self.retire(child))

    def __len__(self) -> int:
        return len(self._all)

    def by_pid(self, pid: int) -> ChildProcess | None:
        """The living child of a pid; None where there is none."""
        alive = (child for child in self._all if not child.ended.done())
        return next((child for child in alive if child.pid == pid), None)

    def drain(self) -> None:
        """Have busy children begin nothing more. From now on children only answer questions."""
        self._ending = True
        for child in self._busy():
            child.send({"drain": True})

    def _busy(self) -> list[ChildProcess]:
        return [child for child in self._all if child not in self._idle]

    async def end_runs(self) -> None:
        """Ask busy children to end, and kill them after a few seconds."""
        self._ending = True
        busy = self._busy()
        for child in busy:
            child.kill(signal.SIGTERM if child.ready.done() else signal.SIGKILL)
        if busy:
            await asyncio.wait({child.ended for child in busy}, timeout=STOP_SECONDS)
        for child in busy:
            await self.retire(child)

    async def stop(self) -> None:
        """End all children."""
        self._ending = self._stopped = True
        for child in list(self._all):
            await self.retire(child)
        await self._servers.stop()
        for task in self._tasks:
            task.cancel()

    def _start(self, flow_file: FlowFile) -> ChildProcess:
        child = ChildProcess(flow_file, self._send_log, self._servers.start)
        child.take_figures = self.take_figures
        self._all.add(child)
        self._spawn(self._replace_when_ended(child))
        return child

    async def _replace_when_ended(self, child: ChildProcess) -> None:
        code = await asyncio.shield(child.ended)
        self._all.discard(child)
        if child in self._idle:
            self._idle.remove(child)
        killed_by_us = code == -signal.SIGKILL and not child.killed_because
        if not killed_by_us and not self._ending:
            died = ChildDied(code, child.killed_because)
            self._log.warning("Child %s has ended with %s", child.pid, died)
            if died.reason.startswith(UPGRADE):
                self._upgraded = died.reason
                for other in list(self._idle):
                    self._spawn(self.retire(other))
            started = child.ready.exception() is None
            self._failed_starts = 0 if started else self._failed_starts + 1
            pause = RESTART_SECONDS * 2**self._failed_starts
            await asyncio.sleep(min(pause, RESTART_AT_MOST))
        self.keep_warm()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
