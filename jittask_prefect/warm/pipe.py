"""The pipe between the warm worker and a child process: JSON messages, a line each, over a pair of sockets.

To the child:

    {"run", "file", "function", "directory"}   a job: execute this flow run
    … and "state"                              call the flow's hooks for the state in which the run has ended
    … and "ask": true                          say whether the ledger has ended the run's task
    … and "help": number                       take rows of this flow run, beside its own process
    … and "early": true                        make ready, and wait for the message "begin" or "enough"
    … and "pace": [seconds, seconds, share]    a row's time in the deployment's last run: by the clock, of the processor; and
                                               the share of the time that the machine's processors rested
    {"begin": true}                            the flow run's own process has its first row
    {"enough": true}                           take no further row
    {"drain": true}                            the worker stops: begin nothing, and let go on what is at work
    {"helpers": number, "begun": number, "dead": pids}   how many processes help, how many of them have begun, who died
    {"ping": true}                             answer, to show that the process lives

To the worker:

    {"ready": pid, "version"}   once, when the child takes jobs; with its release of this package
    {"log": line}       a log line for Prefect's API
    {"pong": true}      the answer to a ping
    {"figures": …}      the counts of the process for the worker's metrics
    {"begun": true}     the process has its first row of a flow run that several processes execute
    {"help": number}    so many processes should take rows of this flow run; 0: no further ones
    {"pace": …}         the time of a row, as in a job
    {"answer": …}       the answer to a job, with one of these:
        {"stale": reason}    nothing was begun, and the process has to be replaced
        {"failed": reason}   the run could not end by itself
        {"ended": reason}    the ledger has ended the run's task; null where it has not
        {"leave": reason}    the job is done; with a reason the process should execute no other
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

ENDED_ATTRIBUTE = "_jittask_ended"
"""The attribute of a flow that answers `"ask"`: a function of a flow run's id."""
PREPARE_ATTRIBUTE = "_jittask_prepare"
"""The attribute of a flow that makes ready for a run that is not due yet: a function of the flow run."""
HELP_ATTRIBUTE = "_jittask_help"
"""The attribute of a flow that answers `"help"`: a function of flow, flow run, number, a wait for "begin", a test for
"enough", and what to call once a row is claimed."""
FORK_ATTRIBUTE = "_jittask_fork"
"""The attribute of a flow that makes ready in a fork server, before any child: a function without arguments."""
UPGRADE = "upgrade"
"""The begin of the reason why a process of another release cannot work for its worker."""
VERSION = version("jittask-prefect")
"""The release that this process has loaded: after an upgrade, a new process has another release than its worker."""
LIMIT = 64_000_000
"""Bytes of a message: parameters take 512 KiB at most, a log line 1 MB."""


def upgraded(message: Mapping[str, Any]) -> str | None:
    """Why a process cannot work for this worker, by its message `ready`: it has another release of this package."""
    found = message.get("version", "an earlier release")
    if found == VERSION:
        return None
    return f"{UPGRADE}: it has jittask-prefect {found}, its worker {VERSION}; restart the worker"


def encode(message: Mapping[str, Any]) -> bytes:
    """A message as it is sent."""
    return json.dumps(message, default=str).encode() + b"\n"


class Pipe:
    """The child's end of the pipe; any thread may send.

    Args:
        end: A connected stream socket.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._identity = _identity(end)
        self._sending = threading.Lock()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message.

        Raises:
            OSError: The worker is gone, or a function has closed this end.
        """
        with self._sending:
            # The number of a closed end may be a database connection's by now.
            if _identity(self._end) != self._identity:
                raise OSError(errno.EBADF, "the pipe to the worker is closed")
            self._end.sendall(encode(message))

    def messages(self) -> Iterator[dict[str, Any]]:
        """The worker's messages, until the worker is gone."""
        try:
            with self._end.makefile("rb") as lines:
                for text in lines:
                    yield json.loads(text)
        except OSError:
            return

    def close(self) -> None:
        """Give up this end, in a copy of the process that a fork made."""
        # Another thread, which the copy does not have, may hold the lock.
        self._sending = threading.Lock()
        os.close(self._end.detach())


def _identity(end: socket.socket) -> tuple[int, int]:
    found = os.fstat(end.fileno())
    return found.st_dev, found.st_ino
