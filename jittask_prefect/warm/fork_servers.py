"""The fork servers of a worker, one for each app, and the apps without a fork server."""

from __future__ import annotations

import asyncio
import os
import sys

from jittask_prefect.warm.flow_file import FlowFile
from jittask_prefect.warm.fork_server_process import (
    READY_SECONDS,
    ForkServerProcess,
    NoServer,
    OutdatedServer,
    Unfit,
)
from jittask_prefect.warm.outage import Log
from jittask_prefect.warm.process_start import Process, start_by_exec

BY_FORK = sys.platform == "linux" and hasattr(os, "pidfd_open")
"""Whether a fork server works on this system; on macOS a fork without exec is not safe."""


class ForkServers:
    """Starts children by a fork of their app's server, and by exec where that cannot be.

    Args:
        log: The worker's.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._servers: dict[FlowFile, ForkServerProcess] = {}
        self._leaving: set[ForkServerProcess] = set()
        self._unfit: dict[FlowFile, float] = {}
        self._told: set[FlowFile] = set()
        self._first: FlowFile | None = None
        self._stopped = False

    async def start(self, flow_file: FlowFile, end: int, life: int) -> Process:
        """Start a child.

        Args:
            flow_file: The file that the child is to have loaded.
            end: The descriptor of its end of the pipe.
            life: The descriptor whose end is to end the child.

        Raises:
            OSError: The worker ends, or the system starts no process.
        """
        again = True
        while BY_FORK and flow_file not in self._unfit and not self._stopped:
            server = self._server(flow_file)
            try:
                await _ready(server)
                return await server.fork(end, life)
            except OutdatedServer as reason:
                self._log.info("Fork server %s is replaced: %s", server.pid, reason)
                self._leave(flow_file, server)
            except Unfit as reason:
                self._drop(flow_file, server)
                self._say_unfit(flow_file, reason)
            except NoServer as reason:
                self._drop(flow_file, server)
                if not (again and server.was_ready):
                    self._say_failed(flow_file, server, reason)
                    break
                again = False  # it has ended since; another takes its place
        if self._stopped:
            raise OSError("the worker ends")
        return await start_by_exec(flow_file, end, life)

    def files_changed(self, flow_file: FlowFile, since: float) -> None:
        """Forget that an app must not be forked, since its files have changed.

        Args:
            flow_file: The app's.
            since: When the child was started that has noticed the change, by the event loop's clock.
        """
        if self._unfit.get(flow_file, since) < since:
            del self._unfit[flow_file]

    def trim(self, old: float) -> None:
        """End servers that are not needed.

        Args:
            old: The servers without children since this time end, except that of the worker's first app.
        """
        for flow_file, server in list(self._servers.items()):
            unused = server.ready.done() and not server.children
            if unused and server.last_used < old and flow_file != self._first:
                self._log.debug("Fork server %s ends: it was idle", server.pid)
                self._leave(flow_file, server)
        for server in [s for s in self._leaving if not s.children]:
            server.end()
            self._leaving.discard(server)

    async def stop(self) -> None:
        """End all servers; from now on nothing is started."""
        self._stopped = True
        servers = {*self._servers.values(), *self._leaving}
        for server in servers:
            server.end()
        if servers:
            await asyncio.wait({server.over for server in servers})

    def _server(self, flow_file: FlowFile) -> ForkServerProcess:
        server = self._servers.get(flow_file)
        if server is None or server.over.done():
            server = self._servers[flow_file] = ForkServerProcess(flow_file)
        self._first = self._first or flow_file
        return server

    def _leave(self, flow_file: FlowFile, server: ForkServerProcess) -> None:
        """Send a server no further request. The server ends with its last child, and reports that child's exit code."""
        self._leaving.add(server)
        if self._servers.get(flow_file) is server:
            del self._servers[flow_file]

    def _drop(self, flow_file: FlowFile, server: ForkServerProcess) -> None:
        server.end()
        if self._servers.get(flow_file) is server:
            del self._servers[flow_file]

    def _say_unfit(self, flow_file: FlowFile, reason: Unfit) -> None:
        if flow_file not in self._unfit:
            self._log.warning(
                "%s: each child takes about 2 s and 100 MB, since the app cannot be forked: where its files are imported, "
                "%s; open connections and start threads in functions, or when they are first needed",
                flow_file.file,
                reason,
            )
        self._unfit[flow_file] = asyncio.get_running_loop().time()

    def _say_failed(
        self, flow_file: FlowFile, server: ForkServerProcess, reason: NoServer
    ) -> None:
        tell = self._log.debug if flow_file in self._told else self._log.warning
        self._told.add(flow_file)
        tell(
            "%s: a child is started by exec, since fork server %s cannot be used: %s",
            flow_file.file,
            server.pid,
            reason,
        )


async def _ready(server: ForkServerProcess) -> None:
    """Wait until a server takes requests.

    Raises:
        Unfit: The app must not be forked.
        NoServer: The server has ended, or is not ready in time.
    """
    try:
        await asyncio.wait_for(asyncio.shield(server.ready), READY_SECONDS)
    except TimeoutError:
        raise NoServer(f"it was not ready after {READY_SECONDS:g} s") from None
