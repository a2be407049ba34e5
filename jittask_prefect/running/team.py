"""The executors of a process that work off one list of calls, each with a thread of its own.

The caller's thread starts the first executor. The others begin once a call of the list is
claimed: only then it is known that there is a slot, and how many calls there are. One that finds no slot ends, and a
moment later the next call that begins starts another one: slots become free.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import copy_context

from jittask_prefect.running.calls import Calls

# For the calls beside a call that was ended, before the process leaves.
BESIDE_SECONDS = 5.0
FULL_SECONDS = (
    0.2  # after an executor that found no slot, before another one looks for a slot
)
THREAD = "jittask-executor"


class Team:
    """The executors of a process that work off one list of calls.

    Args:
        size: How many executors there may be.
        calls: The list; closed once an executor fails, or a call is lost.
        work: Works off the list as one of them; returns at its end.
    """

    def __init__(self, size: int, calls: Calls, work: Callable[[], None]) -> None:
        self.size = size
        self._calls, self._work = calls, work
        self._gate = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._there: set[str] = set()
        self._busy: set[str] = set()
        self._lost: set[str] = set()
        self._errors: list[BaseException] = []
        self._number = 1  # of executors that have not ended
        self._full_until = 0.0

    def run(self) -> None:
        """Work off the list, and wait for all executors.

        Raises:
            BaseException: The first error of an executor; the others have ended their calls.
        """
        self._one()
        for thread in self._threads:  # all have begun: only busy executors add more
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _one(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001  raised again by `run`
            self._errors.append(error)
            self._calls.close()
        finally:
            with self._gate:
                self._number -= 1

    def enter(self, owner: str) -> None:
        """Count an executor as one of the team."""
        with self._gate:
            self._there.add(owner)

    def grow(self, left: int) -> None:
        """Start an executor for each call that is left, as far as there may be more."""
        while left > 0 and (thread := self._another()) is not None:
            thread.start()
            left -= 1

    def _another(self) -> threading.Thread | None:
        with self._gate:
            full = time.monotonic() < self._full_until
            if self._calls.closed or full or self._number >= self.size:
                return None
            thread = threading.Thread(
                target=copy_context().run,
                args=(self._one,),
                name=f"{THREAD}-{len(self._threads) + 2}",
                daemon=True,
            )
            self._number += 1
            self._threads.append(thread)
            return thread

    def has_others(self, owner: str) -> bool:
        """Whether executors beside this one work off the list."""
        with self._gate:
            return bool(self._there - {owner})

    def leave(self, owner: str, *, full: bool = False) -> bool:
        """Leave the list to the others.

        Args:
            owner: The executor.
            full: Whether it found no slot.

        Returns:
            Whether there are no others, so that the rest of the list is this executor's.
        """
        with self._gate:
            if full:
                self._full_until = time.monotonic() + FULL_SECONDS
            self._there.discard(owner)
            self._busy.discard(owner)
            self._gate.notify_all()
            return not self._there

    def begin(self, owner: str) -> bool:
        """Count a call as at work; False: the list is closed, and the call must not begin."""
        with self._gate:
            if not self._calls.closed:
                self._busy.add(owner)
            return owner in self._busy

    def end(self, owner: str) -> None:
        """Count the executor's call as ended."""
        with self._gate:
            self._busy.discard(owner)
            self._gate.notify_all()

    def close(self, owner: str) -> None:
        """Have no other call begin, since this executor's is lost; wait for the calls beside.

        Returns once they have ended, at the latest after `BESIDE_SECONDS`.
        """
        with self._gate:
            self._calls.close()
            self._lost.add(owner)
            self._gate.wait_for(lambda: self._busy <= self._lost, BESIDE_SECONDS)
