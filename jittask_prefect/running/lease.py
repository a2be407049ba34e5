"""An execution's hold on its task: a lease that is renewed while it runs, and that others may see run out."""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from ..elements.app import App
from ..rows import claims

LEASE_SECONDS = 25.0
LOOK_SECONDS = 1.0
RENEW_SECONDS = 5.0
log = logging.getLogger("jittask")
Clock = Callable[[], datetime]


def me() -> str:
    """Who executes: host, process, and a token that no other execution has."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"


class Hold:
    """What an owner executes just now.

    Attributes:
        task_id: The task.
        settling: Set before the execution ends the task itself: from then on it is not lost.
        lost: The task is no longer the owner's, and the process is about to end.
    """

    def __init__(self) -> None:
        self.task_id: str | None = None
        self.settling = threading.Event()
        self.lost = False
        self.gate = threading.Lock()
        self.left = threading.Event()

    def off(self) -> None:
        """Leave a task; does not return while the process is about to end: nothing else may begin in it."""
        with self.gate:
            if not self.lost:
                self.task_id = None
                return
        self.left.wait()

    def on(self, task_id: str) -> None:
        """Go on to a task."""
        self.settling.clear()
        self.task_id = task_id


@contextmanager
def kept(app: App, database: str, owner: str, clock: Clock, lost: Callable[[], None] | None) -> Iterator[Hold]:
    """Renew the leases of an owner while it executes, and notice when what it is at was ended.

    Args:
        app: The app.
        database: Where the tasks' entries are.
        owner: Who executes.
        clock: Gives the present instant.
        lost: Called, from another thread, when the task is no longer this owner's.
    """
    stop, hold = threading.Event(), Hold()

    def keep() -> None:
        renewed = clock()
        while not stop.wait(LOOK_SECONDS):
            task_id = hold.task_id
            if task_id is None:
                continue
            try:
                if (clock() - renewed).total_seconds() >= RENEW_SECONDS:
                    with app.engine(database).begin() as connection:
                        claims.renew(connection, owner, clock(), LEASE_SECONDS)
                    renewed = clock()
                with app.engine(database).connect() as connection:
                    mine = claims.owner_of(connection, task_id) == owner
            except SQLAlchemyError as error:
                # SQLite: the function's own transaction holds the lock, which also keeps everybody else out.
                lite = app.engine(database).dialect.name == "sqlite"
                mine = lite or (clock() - renewed).total_seconds() < LEASE_SECONDS
                log.debug("lease of %s not renewed: %s", task_id, error)
            with hold.gate:
                gone_on = stop.is_set() or hold.settling.is_set() or hold.task_id != task_id
                hold.lost = not mine and not gone_on and lost is not None
            if hold.lost and lost is not None:
                try:
                    lost()
                finally:
                    hold.left.set()
                return

    thread = threading.Thread(target=keep, name="jittask-lease", daemon=True)
    thread.start()
    try:
        yield hold
    finally:
        stop.set()
        thread.join(timeout=2)
