"""Help for a flow run of many rows, seen from its own process: further processes of the worker take rows too."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from typing import Any


class Help:
    """The processes that help the flow run of this process.

    Args:
        send: Sends a message to the worker.
        pace: The time of a row in the deployment's last run, as in a job (`pipe.py`); None where unknown.
    """

    def __init__(
        self,
        send: Callable[[Mapping[str, Any]], None],
        pace: Sequence[float] | None = None,
    ) -> None:
        self._send, self.pace = send, pace
        self._changed = threading.Condition()
        self._number = self._begun = 0
        self._unanswered = 0
        self._dead: list[int] = []
        self._closed = False

    @property
    def begun(self) -> bool:
        """Whether a helper takes rows by now."""
        return self._begun > 0

    def ask(self, number: int) -> None:
        """Ask the worker for so many helpers; 0: for no further helper."""
        with self._changed:
            self._unanswered += 1
        self._send({"help": number})

    def tell_begun(self) -> None:
        """Tell the worker that this process has its first row: helpers that were asked for before may begin."""
        self._send({"begun": True})

    def tell_pace(self, *pace: float) -> None:
        """Tell the worker a row's time, for the deployment's next run."""
        self._send({"pace": pace})

    def heard(self, message: Mapping[str, Any]) -> None:
        """Take the worker's message; called from the thread that reads the pipe."""
        with self._changed:
            self._number, self._begun = message["helpers"], message["begun"]
            self._unanswered -= bool(message.get("asked"))
            self._dead += message["dead"]
            self._changed.notify_all()

    @property
    def over(self) -> bool:
        """Whether no process helps, none is on its way, and none of the dead is left to `settled`."""
        return not (self._number or self._unanswered or self._dead)

    def wait(self) -> None:
        """Wait until the help is over."""
        with self._changed:
            self._changed.wait_for(lambda: self.over)

    @property
    def number(self) -> int:
        """How many processes help, or are on their way."""
        return self._number

    def dead(self, seconds: float) -> Sequence[int] | None:
        """Wait until helpers have died, at most so many seconds; their pids, and None once `close` was called."""
        with self._changed:
            self._changed.wait_for(lambda: self._dead or self._closed, seconds)
            return list(self._dead) or (None if self._closed else [])

    def settled(self, pids: Collection[int]) -> None:
        """Say that the rows of helpers that died are taken care of."""
        with self._changed:
            self._dead = [pid for pid in self._dead if pid not in pids]
            self._changed.notify_all()

    def close(self) -> None:
        """Have nobody wait for dead helpers any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


HELP: ContextVar[Help | None] = ContextVar("jittask_help", default=None)
"""The help for the flow run that executes; None where its worker has no other processes."""
