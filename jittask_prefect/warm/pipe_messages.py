"""The pipe between the warm worker and a child: JSON, one message a line, both ways.

Down: `{"run": <flow run>, "file", "function", "directory"}`, a job; with `"state"` too: the run has ended in it, its
hooks are to be called; with `"ask"`: whether its task has been ended; `{"ping": true}`: whether the process lives. Up:
`{"ready": pid}` once; `{"log": line}`, a line for the API; `{"pong": true}` for a ping; `{"answer": …}`, one for each
job: `{"stale": why}`, nothing was begun and the process has to be replaced; `{"failed": why}`, the run could not end by
itself; `{"ended": why}`, why the run's task has been ended, or null; `{"leave": why}`, the job is done, and the process
should run no other where it says why.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

ENDED = "_jittask_ended"  # a flow's attribute, for `"ask"`: called with a flow run's id
LIMIT = (
    64_000_000  # bytes of one message: parameters are 512 KiB at most, a log line 1 MB
)


def line(message: Mapping[str, Any]) -> bytes:
    """A message as it is sent."""
    return json.dumps(message, default=str).encode() + b"\n"


def _identity(end: socket.socket) -> tuple[int, int]:
    found = os.fstat(end.fileno())
    return found.st_dev, found.st_ino


class Pipe:
    """The child's end.

    Args:
        end: A connected stream socket.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._is = _identity(end)
        self._sending = threading.Lock()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; from any thread.

        Raises:
            OSError: The parent is gone, or a function has closed this end.
        """
        with self._sending:
            if (
                _identity(self._end) != self._is
            ):  # its number may be a database connection's by now
                raise OSError(errno.EBADF, "the pipe to the worker is closed")
            self._end.sendall(line(message))

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the parent sends, until it is gone."""
        try:
            with self._end.makefile("rb") as lines:
                for text in lines:
                    yield json.loads(text)
        except OSError:
            return

    def close(self) -> None:
        """Give up this end, in a copy of the process that a fork made; another thread may have held the lock there."""
        self._sending = threading.Lock()
        os.close(self._end.detach())
