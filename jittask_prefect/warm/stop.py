"""The stop of a warm worker: executing runs may go on for a while, unless a second signal comes."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from jittask_prefect.warm.children import ChildPool
from jittask_prefect.warm.outage import Log
from jittask_prefect.warm.places import ActiveRun

SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def drain(
    runs: Collection[ActiveRun], children: ChildPool, seconds: float, log: Log
) -> None:
    """Let the runs at work go on, and nothing else begin; returns once they have ended, or their time is over.

    Args:
        runs: The runs at work.
        children: The worker's processes.
        seconds: How long the runs may go on.
        log: The worker's.
    """
    children.drain()
    for run in runs:
        if run.helpers is not None:
            run.helpers.close()
    if not runs:
        return
    # A task, since asyncio would log a gather that is cancelled, and that nobody waits for any more.
    ended = asyncio.create_task(_all_ended(runs))
    with _second_signal() as again:
        message = "The worker stops: %d flow runs at work may go on for %g s. A second signal ends them at once."
        log.info(message, len(runs), seconds)
        hurry = asyncio.create_task(again.wait())
        both: set[asyncio.Future[Any]] = {ended, hurry}
        first = asyncio.FIRST_COMPLETED
        done, left = await asyncio.wait(both, timeout=seconds, return_when=first)
    for waiting in left:
        waiting.cancel()
    if ended not in done:
        reason = "a second signal came" if done else f"{seconds:g} s are over"
        log.warning("The runs that are still at work are ended: %s", reason)


async def _all_ended(runs: Collection[ActiveRun]) -> None:
    for run in runs:
        await run.finished.wait()


@contextmanager
def _second_signal() -> Iterator[asyncio.Event]:
    """An event that is set by a signal within the block. Prefect's own second signal kills the worker."""
    again, loop = asyncio.Event(), asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        yield again  # signals reach the main thread only
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        loop.add_signal_handler(number, again.set)
    try:
        yield again
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
