"""The drain of a process whose worker stops: executing tasks go on for a while, and no further task begins."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from jittask_prefect.errors import ArgumentError
from jittask_prefect.validation import quoted

ENV_SECONDS = "JITTASK_DRAIN_SECONDS"
SECONDS = 5.0
"""Half of the 10 s after which Docker kills a container: the other half is for the tasks that are ended then."""


def seconds_allowed() -> float:
    """How long tasks at work may go on in a worker that stops, by the environment.

    Raises:
        ArgumentError: The environment names no number of seconds.
    """
    text = os.environ.get(ENV_SECONDS, "").strip()
    if not text:
        return SECONDS
    if not text.isdecimal() or len(text) > 6:
        raise ArgumentError(
            f"{ENV_SECONDS} {quoted(text)}; allowed: a whole number of seconds, 0 or more"
        )
    return float(text)


class Drain:
    """Whether a process takes no further tasks, since its worker stops."""

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._begun = False
        self._told: list[Callable[[], None]] = []

    @property
    def begun(self) -> bool:
        """Whether the worker stops."""
        return self._begun

    def begin(self) -> None:
        """Take no further tasks; from any thread."""
        with self._gate:
            self._begun, told, self._told = True, self._told, []
        for call in told:
            call()

    @contextmanager
    def telling(self, call: Callable[[], None]) -> Iterator[None]:
        """Call a function once the drain begins, if that is within the block; the function must be quick."""
        with self._gate:
            begun = self._begun
            if not begun:
                self._told.append(call)
        if begun:
            call()
        try:
            yield
        finally:
            with self._gate:
                if call in self._told:
                    self._told.remove(call)


DRAIN: ContextVar[Drain | None] = ContextVar("jittask_drain", default=None)
"""The drain of this process; None where no worker would begin a drain."""
