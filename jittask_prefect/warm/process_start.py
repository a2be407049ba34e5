"""How the warm worker starts a child: by exec here, or by a fork of the app's fork server (`fork_servers`)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol

from jittask_prefect.warm.flow_file import FlowFile, environment

CHILD_MODULE = "jittask_prefect.warm.child"


class Process(Protocol):
    """A process that was started, however that was done; the leader of a session."""

    @property
    def pid(self) -> int:
        """The process's pid."""

    async def wait(self) -> None:
        """Wait until the process has ended."""

    async def code(self) -> int:
        """The exit code of a process that has ended, as in `subprocess`; from now on the pid may be another's."""


Start = Callable[[FlowFile, int, int], Awaitable[Process]]
"""Starts a child of a flow file; the numbers are its ends of the pipe and of its life."""


class ExecutedProcess:
    """A process that was started by exec.

    Args:
        process: The process.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def wait(self) -> None:
        """Wait until the process has ended."""
        await self._process.wait()

    async def code(self) -> int:
        """The exit code of the process."""
        return await self._process.wait()


async def start_module(
    module: str, flow_file: FlowFile, end: int, life: int
) -> ExecutedProcess:
    """Start a module of this package as a process, in a session of its own.

    Args:
        module: The module's full name.
        flow_file: The file that the process loads.
        end: The descriptor of its end of the socket to this process.
        life: The descriptor whose end is to end the process.
    """
    arguments = [str(end), str(life), flow_file.file, flow_file.directory]
    # -P: a file of the user's folder may have the name of a module.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        pass_fds=[end, life],
        start_new_session=True,
        env=environment(flow_file),
    )
    return ExecutedProcess(process)


async def start_by_exec(flow_file: FlowFile, end: int, life: int) -> Process:
    """Start a child by exec."""
    return await start_module(CHILD_MODULE, flow_file, end, life)
