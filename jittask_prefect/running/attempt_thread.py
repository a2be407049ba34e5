"""A thread for work that may not return in time: whoever waits can leave the thread behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import SimpleQueue
from types import TracebackType

Job = tuple[Context, Callable[[], None], str, threading.Event]


class AttemptThread:
    """A thread for pieces of work in turn; ends with the `with` block."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> AttemptThread:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._jobs.put(None)
        # After an error the thread may be at work, for as long as the function likes.
        if self._thread is not None and kind is None:
            self._thread.join()

    @property
    def ident(self) -> int | None:
        """The thread's number, as `threading.get_ident` gives it."""
        return self._thread.ident if self._thread else None

    def start(self, work: Callable[[], None], name: str) -> threading.Event:
        """Begin a piece of work, in a copy of this context.

        Args:
            work: Called without arguments; must not raise.
            name: The thread's name meanwhile.

        Returns:
            An event that is set at the end of the work.
        """
        if self._thread is None:
            self._thread = threading.Thread(
                target=_work_off, args=(self._jobs,), name=name, daemon=True
            )
            self._thread.start()
        done = threading.Event()
        self._jobs.put((copy_context(), work, name, done))
        return done

    def leave(self) -> None:
        """Leave the thread to work that does not return; the next work gets a new thread."""
        self._jobs.put(None)
        self._jobs, self._thread = SimpleQueue(), None


def _work_off(jobs: SimpleQueue[Job | None]) -> None:
    while (job := jobs.get()) is not None:
        context, work, name, done = job
        threading.current_thread().name = name
        context.run(work)
        del context, work, job  # they may hold much memory
        done.set()
