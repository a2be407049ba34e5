"""The thread that attempts run in, one after the other, so that each can be waited for with a time limit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import SimpleQueue
from types import TracebackType

Job = tuple[Context, Callable[[], None], str, threading.Event]


class Lane:
    """A thread for one execution or batch; it ends with the `with` block."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Lane:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._jobs.put(None)
        if (
            self._thread is not None and kind is None
        ):  # else it may be at work, for as long as it likes
            self._thread.join()

    @property
    def ident(self) -> int | None:
        """The thread's, as `threading.get_ident` gives it."""
        return self._thread.ident if self._thread else None

    def start(self, work: Callable[[], None], name: str) -> threading.Event:
        """Begin a piece of work that raises nothing, in a copy of this context; set once it is done.

        Args:
            work: Called without arguments.
            name: The thread's name meanwhile.
        """
        if self._thread is None:
            self._thread = threading.Thread(
                target=_live, args=(self._jobs,), name=name, daemon=True
            )
            self._thread.start()
        done = threading.Event()
        self._jobs.put((copy_context(), work, name, done))
        return done

    def leave(self) -> None:
        """Leave the thread to what does not return; the next piece of work has another one."""
        self._jobs.put(None)
        self._jobs, self._thread = SimpleQueue(), None


def _live(jobs: SimpleQueue[Job | None]) -> None:
    while (job := jobs.get()) is not None:
        context, work, name, done = job
        threading.current_thread().name = name
        context.run(work)
        del context, work, job  # what they hold may be large
        done.set()
