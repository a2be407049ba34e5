"""After a commit: a background thread hands over the commit's tasks at once.

The thread saves time only. Where Prefect is down, or the process ends first, the next sync does the same work.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
from weakref import WeakSet

from jittask_prefect.elements.app import App
from jittask_prefect.errors import JittaskError, OtherDatabase
from jittask_prefect.ledger import guard
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.schedule import clock

log = logging.getLogger("jittask")
_queue: queue.SimpleQueue[tuple[App, str]] = queue.SimpleQueue()
_thread: list[threading.Thread] = []
_lock = threading.Lock()
_making = threading.Lock()  # while a client is made
_over = False
_left: WeakSet[App] = WeakSet()


def nudge(app: App, database: str) -> None:
    """Ask for a hand-over soon; returns at once."""
    if app in _left:
        return
    _queue.put((app, database))
    with _lock:
        if not _thread or not _thread[0].is_alive():
            _thread[:] = [
                threading.Thread(target=_work, name="jittask-handover", daemon=True)
            ]
            _thread[0].start()


def _finish() -> None:
    """Let the process end, but not while a client is made; no further client is made from then on.

    Before Python 3.14 a daemon thread in Rust (pydantic) aborts a process that ends: exit code 134.
    """
    global _over
    _over = True
    _making.acquire()


def _forked() -> None:
    """In a forked process the parent's threads never release their locks."""
    global _lock, _making
    _lock, _making = threading.Lock(), threading.Lock()


atexit.register(_finish)
os.register_at_fork(after_in_child=_forked)


def leave(app: App) -> None:
    """Hand over nothing of an app in the background: its Prefect is not the server of the settings."""
    _left.add(app)


def _work() -> None:
    try:  # imported later on, Python would refuse them once the main thread has ended
        import concurrent.futures.process
        import concurrent.futures.thread  # noqa: F401
    except RuntimeError:
        return
    apis: dict[str | None, Api] = {}
    while True:
        wanted = {_queue.get()}
        # Here, so that importing the package and saving a row wait for no HTTP client.
        with _making:
            from jittask_prefect.prefect_api.client import PrefectApi
            from jittask_prefect.rows.handover import hand_over
            from jittask_prefect.rows.plan import Report
            from jittask_prefect.server.selection import address

        while not _queue.empty():
            wanted.add(_queue.get())
        for app, database in wanted:
            try:
                with _making:
                    url = address(app.path)
                    if url not in apis:
                        apis[url] = PrefectApi(url)
                guard.require(app, apis[url])
                hand_over(app, database, apis[url], clock.now(), Report())
            except OtherDatabase as error:
                log.error("nothing is handed over from this process: %s", error)
                leave(app)
            except (JittaskError, OSError) as error:
                log.debug("left to the next sync: %s", error)
            except Exception:
                if not _over:  # else modules may be gone
                    log.exception("hand-over failed; left to the next sync")
