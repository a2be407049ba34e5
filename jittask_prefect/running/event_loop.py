"""One event loop in a thread, for the async functions of all rows that a process has at work.

The rows share what belongs to a loop, such as an HTTP client. Each coroutine runs in the
context of its row: `app.session()` gives that row's session.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any

from jittask_prefect.warm import leaks

THREAD = "jittask loop"
"""The name of the loop's thread; names with `jittask-` are of threads whose connections nobody looks after."""
ANSWER_SECONDS = 1.0  # for a loop, and for a coroutine that was cancelled
END_SECONDS = 5.0  # for a loop to end what functions have left in it


class EventLoop:
    """An event loop in a thread, which begins with the first coroutine and ends with the `with` block."""

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._thread: _LoopThread | None = None
        self._blocked: list[_LoopThread] = []
        self._running: dict[int, _Coroutine] = {}

    def __enter__(self) -> EventLoop:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for thread in [*self._blocked, self._thread]:
            if thread is not None:
                thread.stop()

    def run(self, made: Awaitable[Any]) -> Any:
        """Await a coroutine in the loop, in a copy of this context; the result, or the coroutine's error."""
        with self._gate:
            if self._thread is None or not self._thread.is_alive():
                self._thread = _LoopThread()
            coroutine = _Coroutine(made, self._thread)
            self._running[threading.get_ident()] = coroutine
        try:
            return coroutine.result()
        finally:
            self._running.pop(threading.get_ident(), None)

    def cancel(self, thread: int | None) -> bool:
        """Cancel the coroutine that a thread waits for; whether there is one."""
        coroutine = self._running.get(thread or 0)
        if coroutine is None:
            return False
        coroutine.cancel()
        return True

    def abandon(self, thread: int | None) -> list[Any]:
        """Leave a coroutine that goes on although it was cancelled.

        Where its code blocks the loop, the next coroutines get another loop.

        Returns:
            The drivers' connections that the coroutine has open.
        """
        with self._gate:
            if self._thread is not None and self._thread.is_blocked():
                self._blocked.append(self._thread)
                self._thread = None
        coroutine = self._running.get(thread or 0)
        return [] if coroutine is None else coroutine.connections()


class _LoopThread:
    """The thread of an event loop."""

    def __init__(self) -> None:
        ready: Future[asyncio.AbstractEventLoop] = Future()
        run: Callable[..., Any] = asyncio.run
        self._thread = threading.Thread(
            target=lambda: run(self._main(ready)), name=THREAD, daemon=True
        )
        self._thread.start()
        self.loop = ready.result()

    async def _main(self, ready: Future[asyncio.AbstractEventLoop]) -> None:
        self._stopped = asyncio.Event()
        ready.set_result(asyncio.get_running_loop())
        await self._stopped.wait()

    def is_alive(self) -> bool:
        """Whether the loop takes coroutines; `sys.exit()` in a function's own task has ended it."""
        return self._thread.is_alive()

    def is_blocked(self) -> bool:
        """Whether a coroutine keeps the loop from all others."""
        answered = threading.Event()
        self.loop.call_soon_threadsafe(answered.set)
        return not answered.wait(ANSWER_SECONDS)

    def stop(self) -> None:
        """End the loop, and what functions have left in it."""
        with suppress(RuntimeError):  # it has ended
            self.loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(END_SECONDS)


class _Coroutine:
    """A row's coroutine in the loop."""

    def __init__(self, made: Awaitable[Any], thread: _LoopThread) -> None:
        self._made, self._loop = made, thread.loop
        self._task: asyncio.Task[Any] | None = None
        self._error: BaseException | None = None
        self._over = False
        self._future = asyncio.run_coroutine_threadsafe(self._body(), self._loop)

    def result(self) -> Any:
        """Wait for the end; the result, or the coroutine's error."""
        found = self._future.result()
        if self._error is not None:
            raise self._error
        return found

    def cancel(self) -> None:
        """Cancel the coroutine; its thread goes on once the coroutine has ended."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._cancel)

    def connections(self) -> list[Any]:
        """The drivers' connections that the coroutine has open, but for those of async drivers, which are the loop's."""
        found = leaks.connections_of_coroutine(self).values()
        return [raw for raw in found if not _is_async(raw)]

    def _cancel(self) -> None:
        self._over = True
        if self._task is not None:
            self._task.cancel()

    async def _body(self) -> Any:
        process, self._task = os.getpid(), asyncio.current_task()
        leaks.COROUTINE.set(self)
        try:
            if self._over:
                getattr(self._made, "close", lambda: None)()
                raise asyncio.CancelledError
            found = await self._made
            self._roll_back()
            return found
        except (SystemExit, KeyboardInterrupt) as error:
            self._error = error  # it would end the loop, and all rows in it
        finally:
            if os.getpid() != process:
                os._exit(0)
            with suppress(
                leaks.LeftOpenError
            ):  # an error of the function's comes first
                self._roll_back()

    def _roll_back(self) -> None:
        """Roll back the transactions that the coroutine left open, as `call_function` does in a thread."""
        mine = leaks.connections_of_coroutine(self).keys()
        leaks.roll_back_new(leaks.open_connections() - mine)


def _is_async(raw: Any) -> bool:
    """Whether a driver's connection is of an async driver."""
    return not hasattr(raw, "rollback") or iscoroutinefunction(raw.rollback)
