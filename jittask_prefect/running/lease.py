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

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from ..elements.app import App
from ..rows import ledger
from ..rows.ledger import entries

LEASE_SECONDS = 25.0
LOOK_SECONDS = 1.0
RENEW_SECONDS = 5.0
log = logging.getLogger("jittask")
Clock = Callable[[], datetime]


def me() -> str:
    """Who executes: host, process, and a token that no other execution has."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"


@contextmanager
def kept(
    app: App, database: str, task_id: str, owner: str, clock: Clock, lost: Callable[[], None] | None
) -> Iterator[threading.Event]:
    """Renew the lease while the execution runs, and notice when it was ended.

    Args:
        app: The app.
        database: Where the task's entry is.
        task_id: The task.
        owner: Who executes.
        clock: Gives the present instant.
        lost: Called, from another thread, when the task is no longer this owner's.

    Returns:
        The event that the execution sets before it ends the task itself: from then on nothing is lost.
    """
    stop, settling = threading.Event(), threading.Event()

    def keep() -> None:
        renewed = clock()
        while not stop.wait(LOOK_SECONDS):
            try:
                if (clock() - renewed).total_seconds() >= RENEW_SECONDS:
                    with app.engine(database).begin() as connection:
                        mine = ledger.renew(connection, task_id, owner, clock(), LEASE_SECONDS)
                    renewed = clock()
                else:
                    with app.engine(database).connect() as connection:
                        query = select(entries.c.owner).where(
                            entries.c.task_id == task_id, entries.c.status == "executing"
                        )
                        mine = connection.execute(query).scalar() == owner
            except SQLAlchemyError as error:
                # SQLite: the function's own transaction holds the lock, which also keeps everybody else out.
                lite = app.engine(database).dialect.name == "sqlite"
                mine = lite or (clock() - renewed).total_seconds() < LEASE_SECONDS
                log.debug("lease of %s not renewed: %s", task_id, error)
            if not mine and not stop.is_set() and not settling.is_set() and lost is not None:
                lost()
                return

    thread = threading.Thread(target=keep, name="jittask-lease", daemon=True)
    thread.start()
    try:
        yield settling
    finally:
        stop.set()
        thread.join(timeout=2)
