"""A child process of the warm worker, as the worker sees the process: used again and again, killed by process group."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jittask_prefect.warm import pipe
from jittask_prefect.warm.flow_file import FlowFile
from jittask_prefect.warm.process_start import Process, Start, start_by_exec

# A child that answers no ping for as long as a lease holds has lost its claims: the process is stopped, C code keeps
# the interpreter's lock, or the child's end of the pipe is closed, which a waiting reader does not notice.
PING_SECONDS, PINGS = 5.0, 5
CLOSE_SECONDS = 2.0  # for a process to end once its pipe has
DRAIN_SECONDS = 2.0  # for the last lines of a dead child
UNKNOWN_CODE = 256  # no exit code: the fork server that could tell the code has ended
SendLog = Callable[[dict[str, Any]], None]


class ChildDied(Exception):
    """A child ended before it answered.

    Args:
        code: The exit code as in `subprocess`: a negative code is a signal.
        reason: Why the worker killed the child; empty for every other end.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason

    def __str__(self) -> str:
        return f"{self._how()}: {self.reason}" if self.reason else self._how()

    def _how(self) -> str:
        if self.code == UNKNOWN_CODE:
            return "an unknown exit code: its fork server was killed before. Did the system run out of memory? Its log tells"
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
        start: How the process is started.

    Attributes:
        ready: Done once the child takes jobs; a `ChildDied` where the process ended before.
        ended: Done once the process and its forks are gone; the exit code.
        pid: 0 until the process runs.
        runs: How many runs the child has executed.
        started: When the object was made, by the event loop's clock.
        last_used: When the child was used last, by the event loop's clock.
        killed_because: Why the child was killed for its silence; empty for every other end.
        has_begun: Called when the child, a helper, has its first row.
        asked_for_help: Called with a number where the child asks for helpers.
        told_pace: Called with the time of a row, as in a job.
        take_figures: Called with the figures that the child has counted.
    """

    def __init__(
        self, flow_file: FlowFile, send_log: SendLog, start: Start = start_by_exec
    ) -> None:
        loop = asyncio.get_running_loop()
        self.flow_file, self._send_log = flow_file, send_log
        self.ready: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        self.pid = self.runs = 0
        self.started = loop.time()
        self.last_used = loop.time()
        self.killed_because = ""
        self.has_begun: Callable[[], None] = lambda: None
        self.asked_for_help: Callable[[int], None] = lambda number: None
        self.told_pace: Callable[[Sequence[float]], None] = lambda pace: None
        self.take_figures: Callable[[Mapping[str, Any]], None] = lambda figures: None
        self._heard = True
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._killed = asyncio.Event()
        self._life = asyncio.create_task(self._live(start))

    async def request(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Hand over a job, and wait for its answer.

        Raises:
            ChildDied: The child ended before.
        """
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        if self.ended.done():
            raise self._died()
        try:
            self._writer.write(pipe.encode(job))
            both: set[asyncio.Future[Any]] = {self._answer, self.ended}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not self._answer.done():
                raise self._died()
            return self._answer.result()
        finally:
            self._answer = None
            self.last_used = loop.time()

    def _died(self) -> ChildDied:
        return ChildDied(self.ended.result(), self.killed_because)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message that has no answer; nothing where the child is not ready, or has ended."""
        if self.ready.done() and not self.ended.done():
            self._writer.write(pipe.encode(message))

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal the child's process group: the child, and its children without a session of their own."""
        if number == signal.SIGKILL or not self.pid:
            self._killed.set()
        if self.pid and not self.ended.done():
            self._signal_group(number)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def _live(self, start: Start) -> None:
        life, writing_end = os.pipe()  # ends with this process; nothing is written
        ours, theirs = socket.socketpair()
        code = -signal.SIGKILL
        starting = asyncio.create_task(self._begin(start, theirs, life))
        killed = asyncio.create_task(self._killed.wait())
        try:
            await asyncio.wait({starting, killed}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                code = await self._see_through(starting.result(), ours)
        except OSError:
            code = 1  # nothing was started
        finally:
            killed.cancel()
            ours.close()
            os.close(writing_end)
            self.ended.set_result(code)
            if not self.ready.done():
                self.ready.set_exception(ChildDied(code, self.killed_because))
                self.ready.exception()  # read here, should nobody wait for it
        if not starting.done():  # the process ends as soon as it is there
            with contextlib.suppress(OSError):  # or does not begin: the worker ends
                process = await starting
                await process.wait()
                await process.code()

    async def _begin(self, start: Start, end: socket.socket, life: int) -> Process:
        """Start the process; its ends of pipe and life are closed here."""
        try:
            with end:
                return await start(self.flow_file, end.fileno(), life)
        finally:
            os.close(life)

    async def _see_through(self, process: Process, ours: socket.socket) -> int:
        """Wait for the end of the process; the exit code."""
        self.pid = process.pid
        reader, self._writer = await asyncio.open_connection(
            sock=ours, limit=pipe.LIMIT
        )
        code = await self._watch(process, reader)
        self._writer.close()
        return code

    async def _watch(self, process: Process, reader: asyncio.StreamReader) -> int:
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
        await waiting
        self._signal_group(signal.SIGKILL)  # what it forked
        await asyncio.wait({reading}, timeout=DRAIN_SECONDS)
        reading.cancel()
        code = await process.code()
        killed = code == UNKNOWN_CODE and self._killed.is_set()
        return -signal.SIGKILL if killed else code

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
                    if reason := pipe.upgraded(message):
                        self.killed_because = reason
                        self.kill()
                        return
                    self.ready.set_result(None)
                elif "figures" in message:
                    self.take_figures(message["figures"])
                elif "begun" in message:
                    self.has_begun()
                elif "help" in message:
                    self.asked_for_help(int(message["help"]))
                elif "pace" in message:
                    self.told_pace(message["pace"])
                elif "pong" not in message:
                    answer = dict(message["answer"])
                    if self._answer is not None and not self._answer.done():
                        self._answer.set_result(answer)
