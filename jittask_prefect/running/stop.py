"""The end of what executes, seen from outside: the run is told, the ledger closed, and the process waited for.

The process watches the ledger for its own end, and its worker watches Prefect. Neither helps where C code holds the
interpreter's lock and no worker is told (a row of a batch, or a server that is away), nor where the function's
transaction has SQLite locked, so that nothing can be closed: then a child of a warm worker on this host is killed here.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.exc import OperationalError

from jittask_prefect.elements.app import App
from jittask_prefect.errors import JittaskError, PrefectApiError
from jittask_prefect.ledger import transitions
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.tables import entries
from jittask_prefect.ledger.transitions import FORCED
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.client import TERMINAL, Api
from jittask_prefect.running.lease import Clock
from jittask_prefect.running.process_status import process_of

END_SECONDS = (
    40.0  # the stock worker: 8 s until it sees the end, 30 s of grace for the process
)
ASK_SECONDS = 2.0  # what Prefect has for an answer before the ledger goes first
KILL_SECONDS = (
    1.5  # what a process and its worker have for the end before it is killed from here
)
LOCKED_MS = 2000  # how long SQLite is waited for before the process that may have it locked is killed
CHILD = b"jittask_prefect.warm.child"
log = logging.getLogger("jittask")


def ask(api: Api, run_id: str, message: str = FORCED) -> bool:
    """Have Prefect propose the end of a run; whether it answered in time. Where it does not, the ledger is enough."""
    return _answer(lambda: api.set_state(run_id, "CANCELLING", message=message))[1]


def _answer(call: Callable[[], Any]) -> tuple[Any, bool]:
    """What Prefect answers, and whether it did so in time: its client tries again for longer than an end may take."""
    answered: list[Any] = []

    def work() -> None:
        try:
            answered.append(call())
        except PrefectApiError as error:
            log.warning("a task's end is left to the ledger: %s", error)

    thread = threading.Thread(
        target=copy_context().run, args=(work,), name="jittask-ask", daemon=True
    )
    thread.start()
    thread.join(ASK_SECONDS)
    return (answered[0], True) if answered else (None, False)


def close(
    app: App, database: str, tasks: Sequence[Entry], message: str, clock: Clock
) -> list[Entry]:
    """Close tasks in the ledger, in one commit; those that were as they are given: one may have begun meanwhile."""

    def work(connection: Connection) -> list[Entry]:
        about: dict[str, Any] = {
            "outcome": "forced",
            "message": message,
            "now": clock(),
        }
        return [
            task
            for task in tasks
            if transitions.end(connection, task.task_id, within=(task.status,), **about)
        ]

    engine = app.engine(database)
    executing = [task for task in tasks if task.status == "executing"]
    if executing and engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            before = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
            connection.exec_driver_sql(f"PRAGMA busy_timeout={LOCKED_MS}")
            try:
                closed = work(connection)
                connection.commit()
                return closed
            except OperationalError as error:
                connection.rollback()
                log.warning(
                    "%s: killed is what may have it so, task %s",
                    error.orig,
                    executing[0].task_id,
                )
                for task in executing:
                    kill(task, clock())
            finally:
                connection.exec_driver_sql(f"PRAGMA busy_timeout={before}")
    with engine.begin() as connection:
        return work(connection)


def await_gone(
    app: App,
    database: str,
    api: Api,
    entry: Entry,
    clock: Clock,
    message: str = FORCED,
    *,
    closed: bool = True,
    away: bool = False,
) -> None:
    """Wait until nothing executes a task that has ended.

    Args:
        app: The app.
        database: The database that has the task's entry.
        api: Prefect.
        entry: The task as it was before.
        clock: Gives the present instant.
        message: Why it ends.
        closed: It was ended from here; else by itself just before, and its process is left alone.
        away: Prefect does not answer: only the process is looked at.

    Raises:
        JittaskError: Its process is still there.
    """
    if not entry.flow_run_id:
        return
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < END_SECONDS:
        here = at_work(entry)
        run, known = (
            (None, False) if away else _answer(partial(api.run, entry.flow_run_id))
        )
        away = away or (not known and (here is not None or entry.owner is None))
        if known and here is not True and (run is None or run.state_type in TERMINAL):
            return
        if here is True:
            if _went_on(app, database, entry, run):
                return
            if closed and passed > KILL_SECONDS:
                kill(entry, clock())
        elif here is False or _lease_over(entry, clock()) or _never_begun(entry, run):
            if entry.batch is None and not away:
                _cancelled(api, entry.flow_run_id, message)
            return
        time.sleep(0.2)
    what = (
        f"its process ({entry.owner})"
        if entry.owner
        else f"its flow run {entry.flow_run_id}"
    )
    raise JittaskError(
        f"task {entry.task_id} is ended, but {what} was still there after {END_SECONDS:g} s"
    )


def _cancelled(api: Api, run_id: str, message: str) -> None:
    try:
        api.set_state(run_id, "CANCELLED", message=message, force=True)
    except PrefectApiError as error:
        log.debug("run %s is left to the next sync: %s", run_id, error)


def _never_begun(entry: Entry, run: FlowRun | None) -> bool:
    """Whether nobody has begun it, also as far as Prefect can tell; the ledger lets nobody begin it any more."""
    waits = run is None or run.state_type in (
        "SCHEDULED",
        "PENDING",
        "CANCELLING",
    )
    return entry.batch is None and entry.owner is None and waits


def _went_on(app: App, database: str, entry: Entry, run: FlowRun | None) -> bool:
    """Whether the function returned by itself, at the last moment, and its process lives on: it is a warm one."""
    if run is not None and run.state_type in TERMINAL:
        kind = run.state_type
        # Cancelled by others, or Crashed: what a process says that is about to leave.
        return kind in ("COMPLETED", "FAILED") or (
            kind == "CANCELLED" and run.ended_by_us
        )
    if entry.batch is None:
        return False
    later = (
        entries.c.flow_run_id == entry.flow_run_id,
        entries.c.task_id != entry.task_id,
    )
    with app.engine(database).connect() as connection:
        query = select(entries.c.task_id).where(
            *later, entries.c.started > entry.started
        )
        return connection.execute(query.limit(1)).first() is not None


def at_work(entry: Entry) -> bool | None:
    """Whether the process that executes is there: None where it is on another host, or none is known."""
    if (pid := _pid(entry)) is None:
        return None
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    found = process_of(pid)
    return found is not None and not found.dead


def kill(entry: Entry, now: datetime) -> None:
    """Kill the process that executes with what it started, where it is a child of a warm worker on this host.

    Another process is left to its own worker, and so is one that began later than the task: it has an old one's pid.
    """
    pid = _pid(entry)
    if (
        pid is None
        or pid == os.getpid()
        or sys.platform != "linux"
        or entry.started is None
    ):
        return
    found = process_of(pid)
    if found is None or found.dead or found.session != pid:
        return
    if (
        time.clock_gettime(time.CLOCK_BOOTTIME) - found.started
        < (now - entry.started).total_seconds()
    ):
        return
    try:
        if CHILD in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            os.killpg(pid, signal.SIGKILL)
    except OSError as error:
        log.debug("process %d is not killed: %s", pid, error)


def _pid(entry: Entry) -> int | None:
    host, _, rest = (entry.owner or "").partition(":")
    return int(rest.partition(":")[0]) if host == socket.gethostname() else None


def _lease_over(entry: Entry, now: datetime) -> bool:
    return (
        entry.owner is not None
        and entry.lease_until is not None
        and entry.lease_until < now
    )
