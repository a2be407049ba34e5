"""The lease of an executor: renewed while its tasks are at work, visible to others as it runs out.

A database, or a balancer before it, may keep a connection open and answer nothing. So the
lease has a connection of its own, in a thread that is left behind when no answer comes, and
a watch ends the process by its own clock before the lease runs out. The watch is the
time-out for connecting and for statements: drivers that wait for an answer know none. No
time-out stands on the app's engine, where long statements of a function would end, nor in
the session's settings, which a pooler may hand to others.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.elements.app import App
from jittask_prefect.ledger import transitions
from jittask_prefect.ledger.entry import owners_of
from jittask_prefect.running import figures
from jittask_prefect.running.attempt_thread import AttemptThread

LEASE_SECONDS = 25.0
LOOK_SECONDS = 1.0
RENEW_SECONDS = 5.0
# For an answer of the database; then the lease asks again, on another connection.
ANSWER_SECONDS = 4.0
# Since the last renewal; the process has the rest of the lease to leave.
HOLDS_SECONDS = 20.0
THREAD = "jittask-lease-look"
log = logging.getLogger("jittask")
Clock = Callable[[], datetime]


def new_owner() -> str:
    """A new owner: host, process, and a token that no other owner has."""
    return process_name(os.getpid()) + uuid.uuid4().hex[:12]


def process_name(pid: int) -> str:
    """The beginning of the names of all owners of a process on this host."""
    return f"{socket.gethostname()}:{pid}:"


class Hold:
    """The tasks that an executor has at work.

    Attributes:
        tasks: The tasks' ids; none between two calls.
        settling: Set before the executor ends the tasks: from then on another owner's name
            in the ledger is no loss.
        lost: A task is no longer the owner's, and the process is about to end.
        renewed: The moment from which the lease counts, in seconds of the monotonic clock.
    """

    def __init__(self) -> None:
        self.tasks: tuple[str, ...] = ()
        self.settling = threading.Event()
        self.lost = False
        self.renewed = time.monotonic()
        self._gate = threading.Lock()
        self._left = threading.Event()

    def on(self, tasks: Sequence[str]) -> None:
        """Watch over the tasks that begin now."""
        self.settling.clear()
        self.tasks = tuple(tasks)

    def off(self) -> None:
        """Leave the tasks; never returns in a process that is about to end, so that nothing begins there."""
        with self._gate:
            if not self.lost:
                self.tasks = ()
                return
        self._left.wait()

    def lose(
        self,
        tasks: tuple[str, ...],
        lost: Callable[[], None],
        *,
        silent: bool,
        beside: Callable[[], None] | None = None,
    ) -> bool:
        """End the process, unless the executor went on from these tasks or ends them itself.

        Args:
            tasks: The tasks that were at work.
            lost: Ends the process.
            silent: The database gives no answer, so the executor's commit may never get
                an answer either.
            beside: Waits for the calls of other executors; their leases do not hold
                longer than this one where the database is silent.

        Returns:
            Whether the tasks are lost.
        """
        with self._gate:
            ends_itself = self.settling.is_set() and not silent
            self.lost = self.tasks == tasks and not ends_itself
        if self.lost:
            try:
                if beside is not None and not silent:
                    beside()
                lost()
            finally:
                self._left.set()
        return self.lost


@contextmanager
def held_lease(
    app: App,
    database: str,
    owner: str,
    clock: Clock,
    lost: Callable[[], None] | None,
    beside: Callable[[], None] | None = None,
) -> Iterator[Hold]:
    """Renew an owner's leases, and notice when a task at work was ended, or may have been.

    Args:
        app: The app.
        database: The database of the tasks' entries.
        owner: The owner.
        clock: Gives the present instant.
        lost: Called from another thread when a task is no longer the owner's, or soon may
            not be; absent nothing happens then.
        beside: Called before: waits for the calls that other executors of the process
            have at work.
    """
    stop, hold = threading.Event(), Hold()

    def watch() -> None:
        lease = _Lease(app, database, owner, clock, hold)
        thread = AttemptThread()
        while not stop.wait(LOOK_SECONDS):
            tasks = hold.tasks
            done = thread.start(lease.look, THREAD)
            if not _answered(done, stop, lease, hold):
                thread.leave()
                lease.cut()
                lease = _Lease(app, database, owner, clock, hold)
            ended = tasks and not lease.holds and not stop.is_set()
            how: Any = {"silent": lease.mine is None, "beside": beside}
            if ended:
                figures.lease_lost(app)
            if ended and lost is not None and hold.lose(tasks, lost, **how):
                return
        thread.start(lease.close, THREAD)
        thread.leave()

    watcher = threading.Thread(target=watch, name="jittask-lease", daemon=True)
    watcher.start()
    try:
        yield hold
    finally:
        stop.set()
        watcher.join(timeout=2)


def _answered(
    done: threading.Event, stop: threading.Event, lease: _Lease, hold: Hold
) -> bool:
    """Wait for an answer, not beyond the time at which the process must leave."""
    if not lease.sqlite:
        left = hold.renewed + HOLDS_SECONDS - time.monotonic()
        return done.wait(max(LOOK_SECONDS, min(ANSWER_SECONDS, left)))
    while not done.wait(LOOK_SECONDS):  # SQLite answers once its writer commits
        if stop.is_set():
            return False
    return True


class _Lease:
    """The lease's connection; each look in another thread than the watch.

    Attributes:
        mine: Whether all tasks at work are the owner's; None where the database gave no
            answer.
        sqlite: On SQLite the function's transaction may hold the lock that keeps the lease
            from its renewal, and everybody else from taking the task.
    """

    def __init__(
        self, app: App, database: str, owner: str, clock: Clock, hold: Hold
    ) -> None:
        self._engine = app.lease_engine(database)
        self._owner, self._clock, self._hold = owner, clock, hold
        self.sqlite = self._engine.dialect.name == "sqlite"
        self.mine: bool | None = None
        self._connection: Connection | None = None
        self._driver: Any = None

    @property
    def holds(self) -> bool:
        """Whether the tasks at work are the owner's, as far as the last look tells."""
        if self.mine is None:
            since = time.monotonic() - self._hold.renewed
            return self.sqlite or since < HOLDS_SECONDS
        return self.mine

    def look(self) -> None:
        """Ask whose the tasks are, and renew the leases where it is time."""
        self.mine = None
        tasks, now = self._hold.tasks, time.monotonic()
        renews = now - self._hold.renewed >= RENEW_SECONDS
        try:
            connection = self._connected()
            with connection.begin():
                if renews:
                    instant = self._clock()
                    transitions.renew(connection, self._owner, instant, LEASE_SECONDS)
                owners = owners_of(connection, tasks)
            if renews:
                self._hold.renewed = max(self._hold.renewed, now)
            self.mine = owners <= {self._owner}
        except SQLAlchemyError as error:
            log.debug("the lease of %s is not renewed: %s", tasks, error)
            self.close()
        except Exception as error:  # noqa: BLE001  a connection that was cut raises anything
            kind = type(error).__name__
            log.warning("the lease of %s is not renewed: %s: %s", tasks, kind, error)
            self.close()

    def _connected(self) -> Connection:
        if self._connection is None:
            # A transaction that a frozen connection keeps open would keep its lock.
            options = {} if self.sqlite else {"isolation_level": "AUTOCOMMIT"}
            self._connection = self._engine.connect().execution_options(**options)
            self._driver = self._connection.connection.driver_connection
        return self._connection

    def close(self) -> None:
        """Give the connection back; the next look takes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    def cut(self) -> None:
        """End the connection under a look that waits for an answer."""
        found = _socket(self._driver)
        if found is not None:
            with found, suppress(OSError):  # it is closed already
                found.shutdown(socket.SHUT_RDWR)


def _socket(driver: Any) -> socket.socket | None:
    """A copy of the socket of a driver's connection, where the driver shows it."""
    try:
        number = driver.fileno() if hasattr(driver, "fileno") else driver._sock.fileno()
        return socket.socket(fileno=os.dup(number))
    except Exception as error:  # noqa: BLE001  closed, or a driver that hides it
        log.debug("no socket of %r: %s", driver, error)
        return None
