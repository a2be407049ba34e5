"""The warm worker's child processes: started beforehand by exec, used again and again, killed by process group."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jittask_prefect.errors import JittaskError
from jittask_prefect.warm import pipe_messages

# Before a child that ended by itself is replaced: all is being ended, or the next one would do so too. Twice as long
# each time that one did not get ready, which is what happens while the server is away.
AGAIN_SECONDS, AGAIN_AT_MOST = 1.0, 30.0
IDLE_SECONDS = 300.0  # after which a child that nothing was left for ends; one stays
STOP_SECONDS = 5.0  # what runs have to say that they were ended
# Each child answers a ping. One that does not for as long as a lease holds has lost its claims: it is stopped, C code
# keeps its interpreter's lock, or it has closed its end of the pipe, which a reader that waits does not notice.
PING_SECONDS, PINGS = 5.0, 5
CLOSE_SECONDS = 2.0  # what a process takes at most to end once its pipe has
DRAIN_SECONDS = 2.0  # what a dead child's last lines take at most
Log = logging.Logger | logging.LoggerAdapter[Any]


@dataclass(frozen=True)
class Code:
    """What a child loads: a flow file, and the folder that its runs work in."""

    file: str
    directory: str


class Died(Exception):
    """The child ended before it answered; `code` as in `subprocess`: negative is a signal."""

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


class Child:
    """A child process as its parent sees it.

    Args:
        code: What it loads beforehand; without it what its first job names.
        send_log: Takes the lines that it logs for the API.
    """

    def __init__(
        self, code: Code | None, send_log: Callable[[dict[str, Any]], None]
    ) -> None:
        self.code, self._send_log = code, send_log
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        self.pid = 0
        self.runs = 0
        self.since = loop.time()  # when it was used last
        self._heard = True
        self.lost = ""  # why it was killed, where that was for its silence
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._task = asyncio.create_task(self._live())

    async def do(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Hand over a job, and wait for its answer.

        Raises:
            Died: It ended before.
        """
        self._answer = asyncio.get_running_loop().create_future()
        if self.ended.done():
            raise Died(self.ended.result())
        try:
            self._writer.write(pipe_messages.line(job))
            both: set[asyncio.Future[Any]] = {self._answer, self.ended}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not self._answer.done():
                raise Died(self.ended.result())
            return self._answer.result()
        finally:
            self._answer = None
            self.since = asyncio.get_running_loop().time()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal it and all that it started and that has no session of its own."""
        if self.pid and not self.ended.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    async def _live(self) -> None:
        ours, its = socket.socketpair()
        end, life = os.pipe()  # nothing is ever written: it ends with this process
        code = 1
        try:
            arguments = [str(its.fileno()), str(end), str(os.getpid())]
            if self.code is not None:
                arguments += [self.code.file, self.code.directory]
            with its, closing(end):
                # -P: a file of the user's folder may be called like a module.
                process = await asyncio.create_subprocess_exec(
                    *(
                        sys.executable,
                        "-P",
                        "-m",
                        "jittask_prefect.warm.child",
                        *arguments,
                    ),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=[its.fileno(), end],
                    start_new_session=True,
                    env=environment(),
                )
            self.pid = process.pid
            reader, self._writer = await asyncio.open_connection(
                sock=ours, limit=pipe_messages.LIMIT
            )
            reading = asyncio.create_task(self._read(reader))
            waiting = asyncio.create_task(process.wait())
            asking = asyncio.create_task(self._ask())
            await asyncio.wait(
                {reading, waiting, asking}, return_when=asyncio.FIRST_COMPLETED
            )
            asking.cancel()
            await asyncio.wait({waiting}, timeout=CLOSE_SECONDS)
            if not waiting.done():
                error = reading.exception() if reading.done() else None
                said = (
                    f"it said what nobody expects: {error}"
                    if error
                    else "its end of the pipe is closed"
                )
                self.lost = (
                    said
                    if reading.done()
                    else f"it did not answer for {PINGS * PING_SECONDS:g} s"
                )
                self.kill()
            code = await waiting
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)  # what it forked
            await asyncio.wait({reading}, timeout=DRAIN_SECONDS)
            reading.cancel()
            self._writer.close()
        finally:
            os.close(life)
            self.ended.set_result(code)
            if not self.ready.done():
                self.ready.set_exception(Died(code))
                self.ready.exception()  # looked at, should nobody wait for it

    async def _ask(self) -> None:
        """Ask again and again whether the process lives; returns when it has not answered for too long."""
        await asyncio.wait({self.ready})
        unanswered = 0
        while unanswered < PINGS:
            self._heard = False
            self._writer.write(pipe_messages.line({"ping": True}))
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
                elif (
                    "pong" not in message
                    and self._answer is not None
                    and not self._answer.done()
                ):
                    self._answer.set_result(dict(message["answer"]))


@contextlib.contextmanager
def closing(end: int) -> Iterator[None]:
    """Close a file descriptor after use."""
    try:
        yield
    finally:
        os.close(end)


class Children:
    """All children of one worker.

    Args:
        limit: How many there are at most.
        log: Where the worker says what it does.
        send_log: Takes the lines that children log for the API.
    """

    def __init__(
        self, limit: int, log: Log, send_log: Callable[[dict[str, Any]], None]
    ) -> None:
        self.limit, self._log, self._send_log = limit, log, send_log
        self.code: Code | None = None  # what new ones load beforehand
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self._ending = self._stopping = False
        self._failed = 0  # how many in a row did not get ready
        self._tasks: set[asyncio.Task[None]] = set()

    def keep_warm(self, count: int = 1) -> None:
        """Have so many children that are ready, or on their way to be, as far as there is room for them."""
        while (
            not self._ending and len(self._idle) < count and len(self._all) < self.limit
        ):
            self._idle.append(self._start(self.code))

    async def acquire(self, code: Code) -> Child:
        """A child that is ready and has loaded this code, or nothing yet; the caller gives it back with `release`.

        Raises:
            JittaskError: A new one did not start, or the worker ends.
        """
        self.code = code
        while not self._stopping:
            fits = [one for one in self._idle if one.code in (code, None)]
            if not fits:
                if surplus := self._idle[: max(0, len(self._all) - self.limit + 1)]:
                    for other in surplus:
                        self._log.info("Child %s ends: another app's turn", other.pid)
                        await self.retire(other)
                    continue  # another one may be on its way by now
                fits = [self._start(code)]
            # One that has loaded it, that is ready, that was used last.
            child = max(
                fits,
                key=lambda one: (one.code is not None, one.ready.done(), one.since),
            )
            if child in self._idle:
                self._idle.remove(child)
            try:
                await asyncio.shield(child.ready)
            except Died as died:
                raise JittaskError(
                    f"a child process did not start: it ended with {died}; its output says why"
                ) from None
            if not child.ended.done():
                child.code = code
                return child
        raise JittaskError("the worker ends")

    def release(self, child: Child, leave: str | None = None) -> None:
        """Give a child back.

        Args:
            child: The child.
            leave: Why it should run nothing else.
        """
        if child.ended.done():
            return
        if leave is None and not self._stopping:
            self._idle.append(child)
            return
        self._log.info(
            "Child %s is replaced after %d runs: %s",
            child.pid,
            child.runs,
            leave or "the worker ends",
        )
        self._later(self.retire(child))

    async def retire(self, child: Child) -> None:
        """End a child that runs nothing, and wait until it is gone."""
        if child in self._idle:
            self._idle.remove(child)
        child.kill()
        await asyncio.shield(child.ended)

    def trim(self) -> None:
        """End children that had nothing to do for a while; one stays."""
        old = asyncio.get_running_loop().time() - IDLE_SECONDS
        for child in sorted(self._idle, key=lambda one: one.since)[:-1]:
            if child.since < old:
                self._log.debug("Child %s ends: nothing to do", child.pid)
                self._later(self.retire(child))

    def of(self, pid: int) -> Child | None:
        """The living child of a pid."""
        return next(
            (one for one in self._all if one.pid == pid and not one.ended.done()), None
        )

    async def end_work(self) -> None:
        """End what runs: it is told, and killed after a few seconds. From now on children only answer what is asked."""
        self._ending = True
        busy = [one for one in self._all if one not in self._idle]
        for child in busy:
            child.kill(signal.SIGTERM if child.ready.done() else signal.SIGKILL)
        if busy:
            await asyncio.wait({one.ended for one in busy}, timeout=STOP_SECONDS)
        for child in busy:
            await self.retire(child)

    async def stop(self) -> None:
        """End all children."""
        self._ending = self._stopping = True
        for child in list(self._all):
            await self.retire(child)
        for task in self._tasks:
            task.cancel()

    def _start(self, code: Code | None) -> Child:
        child = Child(code, self._send_log)
        self._all.add(child)
        self._later(self._replace(child))
        return child

    async def _replace(self, child: Child) -> None:
        """Once a child has ended: forget it, and have another one ready."""
        code = await asyncio.shield(child.ended)
        self._all.discard(child)
        by_us = code == -signal.SIGKILL and not child.lost
        if child in self._idle:
            self._idle.remove(child)
        if not by_us and not self._ending:
            self._log.warning(
                "Child %s has ended with %s%s",
                child.pid,
                Died(code),
                child.lost and f": {child.lost}",
            )
            self._failed = 0 if child.ready.exception() is None else self._failed + 1
            await asyncio.sleep(min(AGAIN_SECONDS * 2**self._failed, AGAIN_AT_MOST))
        self.keep_warm()

    def _later(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def environment() -> dict[str, str]:
    """What a child gets: this process's environment, and all Prefect settings as they are here."""
    from prefect.settings import get_current_settings

    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    # The parent is the one that ends runs, and so the one that has the hooks for it called.
    return {
        **os.environ,
        **settings,
        "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false",
    }
