"""A fork server, as the worker sees the process, and the children that it forks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from typing import Any, TypeVar

from jittask_prefect.warm.child_process import UNKNOWN_CODE
from jittask_prefect.warm.flow_file import FlowFile
from jittask_prefect.warm.pipe import upgraded
from jittask_prefect.warm.process_start import start_module

SERVER_MODULE = "jittask_prefect.warm.fork_server"
READY_SECONDS = 60.0  # for a fork server to load its flow file
FORK_SECONDS = 10.0  # for a fork
REAP_SECONDS = 2.0  # for an exit code; an ended child's place is free only then
LAST_SECONDS = 1.0  # for the last messages of a server that has ended
PACKET = 65536  # bytes of a message at most
T = TypeVar("T")


class Unfit(Exception):
    """The app must not be forked; the text is the reason."""


class OutdatedServer(Exception):
    """The app's files have changed since the server loaded them; the text says which."""


class NoServer(Exception):
    """The server did not get ready, has ended, or does not answer; the text says which."""


class ForkedProcess:
    """A child that a fork server has made.

    Args:
        server: The fork server, which is the process's parent.
        pid: The process.
    """

    def __init__(self, server: ForkServerProcess, pid: int) -> None:
        loop = asyncio.get_running_loop()
        self.pid, self._server = pid, server
        self._gone: asyncio.Future[None] = loop.create_future()
        self._handle: int | None = None
        try:
            # Names this process for ever; also where the server ends, and another process gets the pid.
            self._handle = os.pidfd_open(pid)
            loop.add_reader(self._handle, self._ended)
        except ProcessLookupError:  # the server has ended meanwhile, and the process
            self._gone.set_result(None)

    def _ended(self) -> None:
        assert self._handle is not None
        asyncio.get_running_loop().remove_reader(self._handle)
        os.close(self._handle)
        self._gone.set_result(None)

    async def wait(self) -> None:
        """Wait until the process has ended."""
        await asyncio.shield(self._gone)

    async def code(self) -> int:
        """The exit code of a process that has ended; `UNKNOWN_CODE` where the fork server has ended too."""
        return await self._server.reap(self.pid)


class ForkServerProcess:
    """A fork server, seen from the worker. Creating the object starts the process.

    Args:
        flow_file: The file to load.

    Attributes:
        ready: Done once the server takes requests; else an error of this module.
        over: Done once the process is gone.
        pid: 0 until the process runs.
        children: How many children are alive.
        last_used: When a child was made or has ended last, by the event loop's clock.
    """

    def __init__(self, flow_file: FlowFile) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.ready.add_done_callback(lambda ready: ready.exception())  # marked as read
        self.over: asyncio.Future[None] = loop.create_future()
        self.pid = self.children = 0
        self.last_used = loop.time()
        self._unwanted = False
        self._forking = asyncio.Lock()
        self._forked: asyncio.Future[int] | None = None
        self._codes: dict[int, asyncio.Future[int]] = {}
        self._control, self._its_end = socket.socketpair(type=socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        self._life = asyncio.create_task(self._live(flow_file))

    @property
    def was_ready(self) -> bool:
        """Whether the server has taken requests."""
        return self.ready.done() and self.ready.exception() is None

    async def fork(self, end: int, life: int) -> ForkedProcess:
        """Make a child.

        Args:
            end: The descriptor of its end of the pipe.
            life: The descriptor whose end is to end the child.

        Raises:
            OutdatedServer: The app's files have changed.
            NoServer: The server has ended, or does not answer.
        """
        async with self._forking:
            self._forked = asyncio.get_running_loop().create_future()
            try:
                self._send({"fork": True}, end, life)
                pid = await self._answered(self._forked, FORK_SECONDS)
            finally:
                self._forked = None
        self.children += 1
        self._touch()
        return ForkedProcess(self, pid)

    async def reap(self, pid: int) -> int:
        """The exit code of a child that has ended; `UNKNOWN_CODE` where the server has ended too."""
        code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._codes[pid] = code
        try:
            self._send({"reap": pid})
            return await self._answered(code, REAP_SECONDS)
        except NoServer:
            return UNKNOWN_CODE
        finally:
            del self._codes[pid]
            self.children -= 1
            self._touch()

    def end(self) -> None:
        """End the process; its children go on."""
        self._unwanted = True
        if self.pid and not self.over.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _touch(self) -> None:
        self.last_used = asyncio.get_running_loop().time()

    def _send(self, message: dict[str, Any], *descriptors: int) -> None:
        try:
            text = json.dumps(message).encode()
            socket.send_fds(self._control, [text], descriptors)
        except OSError as error:
            raise NoServer(f"it takes no requests: {error}") from error

    async def _answered(self, answer: asyncio.Future[T], seconds: float) -> T:
        """The server's answer; a server that gives none in time is ended."""
        both: set[asyncio.Future[Any]] = {answer, self.over}
        done, _ = await asyncio.wait(
            both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if answer.done():
            return answer.result()
        self.end()
        reason = "it has ended" if done else f"it did not answer for {seconds:g} s"
        raise NoServer(reason)

    async def _live(self, flow_file: FlowFile) -> None:
        life, writing_end = os.pipe()  # ends with this process; nothing is written
        reason = "it could not be started"
        try:
            with self._its_end as its_end:
                process = await start_module(
                    SERVER_MODULE, flow_file, its_end.fileno(), life
                )
            self.pid = process.pid
            if self._unwanted:
                self.end()
            reading = asyncio.create_task(self._read())
            await process.wait()
            # A process that the app has started may hold the socket open.
            await asyncio.wait({reading}, timeout=LAST_SECONDS)
            reading.cancel()
            reason = f"it ended with exit code {await process.code()}; its output may say why"
        except OSError as error:
            reason = f"it could not be started: {error}"
        finally:
            for end in (life, writing_end):
                os.close(end)
            self._control.close()
            self.over.set_result(None)
            if not self.ready.done():
                self.ready.set_exception(NoServer(reason))

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while text := await loop.sock_recv(self._control, PACKET):
                self._receive(json.loads(text))

    def _receive(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            if reason := upgraded(message):
                self.ready.set_exception(NoServer(reason))
                self.end()
            else:
                self.ready.set_result(None)
        elif reason := message.get("unfit"):
            self.ready.set_exception(Unfit(reason))
        elif reason := message.get("failed"):
            self.ready.set_exception(NoServer(f"the flow file does not load: {reason}"))
        elif "ended" in message:
            if code := self._codes.get(message["ended"]):
                code.set_result(message["code"])
        elif self._forked is not None and not self._forked.done():
            if reason := message.get("stale"):
                self._forked.set_exception(OutdatedServer(reason))
            else:
                self._forked.set_result(message["forked"])
