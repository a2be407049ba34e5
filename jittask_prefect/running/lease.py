"""An execution's hold on its task: a lease that is renewed while it runs, and that others may see run out.

A database, or a balancer before it, may keep a connection open and answer nothing. So the lease asks on a connection of
its own, in a thread that is left behind when no answer comes, and a watch ends the process by its own clock before
the lease runs out. The watch is the time-out of connect and of statement alike: drivers that wait for an answer know
none. It is not on the app's engine, where it would end long statements of a function; nor is it a setting of the
session, which a pooler may hand to others.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.elements.app import App
from jittask_prefect.ledger import transitions
from jittask_prefect.ledger.entry import owner_of
from jittask_prefect.running.attempt_thread import Lane

LEASE_SECONDS = 25.0
LOOK_SECONDS = 1.0
RENEW_SECONDS = 5.0
ANSWER_SECONDS = 4.0  # what the database has for an answer before it is asked again, on another connection
HOLDS_SECONDS = 20.0  # since the last renewal: what is left of the lease is for the process to leave
KEEP_ALIVE = {
    "TCP_KEEPIDLE": 5,
    "TCP_KEEPINTVL": 2,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 10_000,
}
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
        renewed: Since when the lease holds for certain, in seconds of the monotonic clock.
    """

    def __init__(self, since: float) -> None:
        self.task_id: str | None = None
        self.settling = threading.Event()
        self.lost = False
        self.renewed = since
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
def kept(
    app: App,
    database: str,
    owner: str,
    clock: Clock,
    lost: Callable[[], None] | None,
    since: float,
) -> Iterator[Hold]:
    """Renew the leases of an owner while it executes, and notice when what it is at was ended, or may have been.

    Args:
        app: The app.
        database: Where the tasks' entries are.
        owner: Who executes.
        clock: Gives the present instant.
        lost: Called, from another thread, when the task is no longer this owner's, or soon may not be.
        since: When the first claim was asked for, in seconds of the monotonic clock.
    """
    stop, hold = threading.Event(), Hold(since)

    def keep() -> None:
        look, lane = _Look(app, database, owner, clock, hold), Lane()
        while not stop.wait(LOOK_SECONDS):
            if (task_id := hold.task_id) is None:
                continue
            done = lane.start(look.once, "jittask-lease-look")
            if not _answered(done, stop, look, hold):
                lane.leave()
                look.cut()
                look = _Look(app, database, owner, clock, hold)
            mine = look.mine is not False
            if look.mine is None and not look.lite:
                mine = time.monotonic() - hold.renewed < HOLDS_SECONDS
            with hold.gate:
                gone_on = (
                    stop.is_set() or hold.settling.is_set() or hold.task_id != task_id
                )
                hold.lost = not mine and not gone_on and lost is not None
            if hold.lost and lost is not None:
                try:
                    lost()
                finally:
                    hold.left.set()
                return
        lane.start(look.close, "jittask-lease-look")
        lane.leave()

    thread = threading.Thread(target=keep, name="jittask-lease", daemon=True)
    thread.start()
    try:
        yield hold
    finally:
        stop.set()
        thread.join(timeout=2)


def _answered(
    done: threading.Event, stop: threading.Event, look: _Look, hold: Hold
) -> bool:
    """Wait for an answer, not beyond the time at which the process must leave."""
    if not look.lite:
        left = hold.renewed + HOLDS_SECONDS - time.monotonic()
        return done.wait(max(LOOK_SECONDS, min(ANSWER_SECONDS, left)))
    while not done.wait(
        LOOK_SECONDS
    ):  # a file answers, once whoever writes lets others through
        if stop.is_set():
            return False
    return True


class _Look:
    """The lease's connection: one look after the other at whose the task is, each in another thread than the watch.

    Attributes:
        mine: Whether the task is the owner's; None where the database did not say.
        lite: SQLite: the function's own transaction holds the lock, which also keeps everybody else out.
    """

    def __init__(
        self, app: App, database: str, owner: str, clock: Clock, hold: Hold
    ) -> None:
        self.engine = app.lease_engine(database)
        self.owner, self.clock, self.hold = owner, clock, hold
        self.lite = self.engine.dialect.name == "sqlite"
        self.mine: bool | None = None
        self._connection: Connection | None = None
        self._raw: Any = None

    def once(self) -> None:
        """Ask, and renew where it is time."""
        self.mine = None
        task_id, now = self.hold.task_id, time.monotonic()
        try:
            if self._connection is None:
                # A transaction that stays open in a frozen connection would keep its lock from the next one.
                level = {} if self.lite else {"isolation_level": "AUTOCOMMIT"}
                self._connection = self.engine.connect().execution_options(**level)
                self._raw = self._connection.connection.driver_connection
                _keep_alive(self._raw)
            with self._connection.begin():
                renews = now - self.hold.renewed >= RENEW_SECONDS
                if renews:
                    transitions.renew(
                        self._connection, self.owner, self.clock(), LEASE_SECONDS
                    )
                mine = (
                    task_id is None or owner_of(self._connection, task_id) == self.owner
                )
            if renews:
                self.hold.renewed = max(self.hold.renewed, now)
            self.mine = mine
        except SQLAlchemyError as error:
            log.debug("lease of %s not renewed: %s", task_id, error)
            self.close()
        except Exception as error:  # noqa: BLE001  a connection that was cut raises anything
            log.warning(
                "lease of %s not renewed: %s: %s", task_id, type(error).__name__, error
            )
            self.close()

    def close(self) -> None:
        """Give the connection back; the next look takes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    def cut(self) -> None:
        """End the connection under a look that waits for an answer."""
        found = _socket(self._raw)
        if found is not None:
            with found, suppress(OSError):  # it is closed already
                found.shutdown(socket.SHUT_RDWR)


def _socket(raw: Any) -> socket.socket | None:
    """A copy of the socket of a driver's connection, where the driver shows it."""
    try:
        return socket.socket(
            fileno=os.dup(
                raw.fileno() if hasattr(raw, "fileno") else raw._sock.fileno()
            )
        )
    except Exception as error:  # noqa: BLE001  no connection, a closed one, or a driver that hides it
        log.debug("no socket of %r: %s", raw, error)
        return None


def _keep_alive(raw: Any) -> None:
    found = _socket(raw)
    if found is None:
        return
    with found:
        if found.family in (socket.AF_INET, socket.AF_INET6):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in KEEP_ALIVE.items():
                if hasattr(socket, name):  # not every system has all
                    found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
