"""The warm worker's child processes: started beforehand by exec, used again and again, killed by process group."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from jittask_prefect.errors import JittaskError
from jittask_prefect.warm import pipe
from jittask_prefect.warm.app_environment import environment_of
from jittask_prefect.warm.outage import Log

# The pause before a child that ended by itself is replaced: the cause may end the next child too. Each child that
# does not get ready doubles the pause, as while the server is away.
RESTART_SECONDS, RESTART_AT_MOST = 1.0, 30.0
IDLE_SECONDS = 300.0  # after which an idle child ends, except the last
STOP_SECONDS = 5.0  # for runs to report that they were ended
# A child that answers no ping for as long as a lease holds has lost its claims: the process is stopped, C code keeps
# the interpreter's lock, or the child's end of the pipe is closed, which a waiting reader does not notice.
PING_SECONDS, PINGS = 5.0, 5
CLOSE_SECONDS = 2.0  # for a process to end once its pipe has
DRAIN_SECONDS = 2.0  # for the last lines of a dead child
CHILD_MODULE = "jittask_prefect.warm.child"
SendLog = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class FlowFile:
    """A flow file that a child loads, the working directory of its runs, and the folder and name of its app."""

    file: str
    directory: str
    app_folder: str = ""
    app_name: str = ""


class ChildDied(Exception):
    """A child ended before it answered.

    Args:
        code: The exit code as in `subprocess`: a negative code is a signal.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return f"signal {signal.Signals(-self.code).name}"
        except ValueError:
            return f"signal {-self.code}"


class ChildProcess:
    """A child process, seen from the worker. Creating the object starts the process.

    Args:
        flow_file: The file to load beforehand.
        send_log: Takes the lines that the child logs for the API.

    Attributes:
        ready: Done once the child takes jobs; a `ChildDied` where the process ended before.
        ended: Done once the process and its forks are gone; the exit code.
        pid: 0 until the process runs.
        runs: How many runs the child has executed.
        last_used: When the child was used last, by the event loop's clock.
        killed_because: Why the child was killed for its silence; empty for every other end.
    """

    def __init__(self, flow_file: FlowFile, send_log: SendLog) -> None:
        loop = asyncio.get_running_loop()
        self.flow_file, self._send_log = flow_file, send_log
        self.ready: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        self.pid = self.runs = 0
        self.last_used = loop.time()
        self.killed_because = ""
        self._heard = True
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._life = asyncio.create_task(self._live())

    async def request(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Hand over a job, and wait for its answer.

        Raises:
            ChildDied: The child ended before.
        """
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        if self.ended.done():
            raise ChildDied(self.ended.result())
        try:
            self._writer.write(pipe.encode(job))
            both: set[asyncio.Future[Any]] = {self._answer, self.ended}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not self._answer.done():
                raise ChildDied(self.ended.result())
            return self._answer.result()
        finally:
            self._answer = None
            self.last_used = loop.time()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal the child's process group: the child, and its children without a session of their own."""
        if self.pid and not self.ended.done():
            self._signal_group(number)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def _live(self) -> None:
        life, writing_end = os.pipe()  # ends with this process; nothing is written
        code = 1
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                process = await self._start(theirs.fileno(), life)
            os.close(life)
            life = -1
            self.pid = process.pid
            reader, self._writer = await asyncio.open_connection(
                sock=ours, limit=pipe.LIMIT
            )
            code = await self._watch(process, reader)
            self._writer.close()
        finally:
            for end in filter(lambda end: end >= 0, (life, writing_end)):
                os.close(end)
            self.ended.set_result(code)
            if not self.ready.done():
                self.ready.set_exception(ChildDied(code))
                self.ready.exception()  # read here, should nobody wait for it

    async def _start(self, end: int, life: int) -> asyncio.subprocess.Process:
        ours = self.flow_file
        arguments = [str(end), str(life), str(os.getpid()), ours.file, ours.directory]
        # -P: a file of the user's folder may have the name of a module.
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", CHILD_MODULE, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=[end, life],
            start_new_session=True,
            env=environment(ours),
        )

    async def _watch(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader
    ) -> int:
        """Wait for the end of the process, its pipe or its answers to pings, and end the rest; the exit code."""
        reading = asyncio.create_task(self._read(reader))
        waiting = asyncio.create_task(process.wait())
        pinging = asyncio.create_task(self._ping())
        await asyncio.wait(
            {reading, waiting, pinging}, return_when=asyncio.FIRST_COMPLETED
        )
        pinging.cancel()
        await asyncio.wait({waiting}, timeout=CLOSE_SECONDS)
        if not waiting.done():
            if not reading.done():
                reason = f"it did not answer for {PINGS * PING_SECONDS:g} s"
            elif error := reading.exception():
                reason = f"it sent an unknown message: {error}"
            else:
                reason = "its end of the pipe is closed"
            self.killed_because = reason
            self.kill()
        code = await waiting
        self._signal_group(signal.SIGKILL)  # what it forked
        await asyncio.wait({reading}, timeout=DRAIN_SECONDS)
        reading.cancel()
        return code

    async def _ping(self) -> None:
        """Ping the child again and again; returns when no answer came for too long."""
        await asyncio.wait({self.ready})
        unanswered = 0
        while unanswered < PINGS:
            self._heard = False
            self._writer.write(pipe.encode({"ping": True}))
            await asyncio.sleep(PING_SECONDS)
            unanswered = 0 if self._heard else unanswered + 1

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            async for text in reader:
                message = json.loads(text)
                self._heard = True
                if "log" in message:
                    self._send_log(message["log"])
                elif "ready" in message:
                    self.ready.set_result(None)
                elif "pong" not in message:
                    answer = dict(message["answer"])
                    if self._answer is not None and not self._answer.done():
                        self._answer.set_result(answer)


class ChildPool:
    """The child processes of a worker.

    Args:
        limit: How many there are at most.
        log: The worker's.
        send_log: Takes the lines that children log for the API.

    Attributes:
        flow_file: The file that new children load beforehand; None until one is known.
    """

    def __init__(self, limit: int, log: Log, send_log: SendLog) -> None:
        self.limit, self._log, self._send_log = limit, log, send_log
        self.flow_file: FlowFile | None = None
        self._idle: list[ChildProcess] = []
        self._all: set[ChildProcess] = set()
        self._ending = self._stopped = False
        self._failed_starts = 0  # in a row
        self._tasks: set[asyncio.Task[None]] = set()

    def keep_warm(self, count: int = 1) -> None:
        """Start children until so many are idle or starting, as far as the limit lets; none before a file is known."""
        flow_file = self.flow_file
        while (
            flow_file is not None
            and not self._ending
            and len(self._idle) < count
            and len(self._all) < self.limit
        ):
            self._idle.append(self._start(flow_file))

    async def acquire(self, flow_file: FlowFile) -> ChildProcess:
        """A ready child for this file; the caller returns the child with `release`.

        Raises:
            JittaskError: A new child did not start, or the worker ends.
        """
        self.flow_file = flow_file
        while not self._stopped:
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

    async def retire(self, child: ChildProcess) -> None:
        """End a child that executes nothing, and wait until the process is gone."""
        if child in self._idle:
            self._idle.remove(child)
        child.kill()
        await asyncio.shield(child.ended)

    def trim(self) -> None:
        """End children that were idle for a while, except the last."""
        old = asyncio.get_running_loop().time() - IDLE_SECONDS
        for child in sorted(self._idle, key=lambda child: child.last_used)[:-1]:
            if child.last_used < old:
                self._log.debug("Child %s ends: it was idle", child.pid)
                self._spawn(self.retire(child))

    def by_pid(self, pid: int) -> ChildProcess | None:
        """The living child of a pid; None where there is none."""
        alive = (child for child in self._all if not child.ended.done())
        return next((child for child in alive if child.pid == pid), None)

    async def end_runs(self) -> None:
        """Ask busy children to end, and kill them after a few seconds. From now on children only answer questions."""
        self._ending = True
        busy = [child for child in self._all if child not in self._idle]
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
        for task in self._tasks:
            task.cancel()

    def _start(self, flow_file: FlowFile) -> ChildProcess:
        child = ChildProcess(flow_file, self._send_log)
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
            reason = child.killed_because and f": {child.killed_because}"
            self._log.warning(
                "Child %s has ended with %s%s", child.pid, ChildDied(code), reason
            )
            started = child.ready.exception() is None
            self._failed_starts = 0 if started else self._failed_starts + 1
            pause = RESTART_SECONDS * 2**self._failed_starts
            await asyncio.sleep(min(pause, RESTART_AT_MOST))
        self.keep_warm()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def environment(flow_file: FlowFile) -> dict[str, str]:
    """The environment of a child: this process's, as far as its app's, and all Prefect settings as they are here."""
    from prefect.settings import get_current_settings

    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    # The worker ends runs, and so the worker has the hooks for the end called.
    hooks = {"PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false"}
    ours = environment_of(os.environ, flow_file.app_folder, flow_file.app_name)
    return {**ours, **settings, **hooks}
