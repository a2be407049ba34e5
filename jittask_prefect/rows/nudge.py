"""After a commit: a background thread that hands over at once what the commit left in the ledger.

It is an accelerator only. Where Prefect is away, or the process ends first, the next sync does the same work.
"""

from __future__ import annotations

import logging
import queue
import threading

from .. import clock
from ..elements.app import App
from ..errors import JittaskError
from ..prefect_api import Api, PrefectApi, address
from .sync import Report, hand_over

log = logging.getLogger("jittask")
_queue: queue.SimpleQueue[tuple[App, str]] = queue.SimpleQueue()
_thread: list[threading.Thread] = []
_lock = threading.Lock()


def nudge(app: App, database: str) -> None:
    """Ask for a hand-over soon; returns at once."""
    _queue.put((app, database))
    with _lock:
        if not _thread or not _thread[0].is_alive():
            _thread[:] = [threading.Thread(target=_work, name="jittask-handover", daemon=True)]
            _thread[0].start()


def _work() -> None:
    apis: dict[str | None, Api] = {}
    while True:
        wanted = {_queue.get()}
        while not _queue.empty():
            wanted.add(_queue.get())
        for app, database in wanted:
            url = address(app.path)
            try:
                if url not in apis:
                    apis[url] = PrefectApi(url)
                hand_over(app, database, apis[url], clock.now(), Report())
            except (JittaskError, OSError) as error:
                log.debug("left to the next sync: %s", error)
            except Exception:
                log.exception("hand-over failed; left to the next sync")
