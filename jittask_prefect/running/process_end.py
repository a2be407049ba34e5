"""The end of an execution, from outside: ask Prefect, close the ledger's entry, await the process.

The process watches the ledger for its own end, and its worker watches Prefect. Neither
helps where C code holds the interpreter's lock and no worker is told (a row of a batch, or
a server that does not answer), nor where the function's transaction has SQLite locked, so
that nothing can be closed. Then a child of a warm worker on this host is killed here.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, and_, or_, select
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from jittask_prefect.elements.app import App
from jittask_prefect.errors import JittaskError, PrefectApiError
from jittask_prefect.ledger import digest_calls, lease_time, transitions
from jittask_prefect.ledger.entry import Entry, find_entry
from jittask_prefect.ledger.tables import LEFT, entries
from jittask_prefect.ledger.transitions import FORCED
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.running.closed_tasks import Closed, end_all, one_of_each
from jittask_prefect.running.lease import Clock
from jittask_prefect.running.process_status import process_of
from jittask_prefect.running.team import BESIDE_SECONDS

# The stock worker: 8 s until it sees the end, and 30 s of grace for the process.
END_SECONDS = 40.0
ASK_SECONDS = 2.0  # for an answer of Prefect, before the ledger goes first
KILL_SECONDS = 1.5  # for a process and its worker, before the process is killed here
STOP_SECONDS = (
    1.0  # for a process to stand still: one that waits for a disk takes longer
)
LOCKED_MS = 2000  # SQLite is waited for, before a process that may lock it is killed
# The modules that a child of a warm worker is started as: by exec, or by a fork of its app's fork server.
CHILD_MODULES = {b"jittask_prefect.warm.child", b"jittask_prefect.warm.fork_server"}
T = TypeVar("T")
log = logging.getLogger("jittask")


def propose_end(api: Api, run_id: str, message: str = FORCED) -> bool:
    """Propose the end of a flow run to Prefect.

    Returns:
        Whether Prefect answered in time; without an answer the ledger ends the task.
    """
    _, answered = _ask(partial(api.set_state, run_id, "CANCELLING", message=message))
    return answered


def _ask(call: Callable[[], T]) -> tuple[T | None, bool]:
    """Prefect's answer, and whether there was an answer within `ASK_SECONDS`: the client tries for longer."""
    answers: list[T] = []

    def work() -> None:
        try:
            answers.append(call())
        except PrefectApiError as error:
            log.warning("a task's end is left to the ledger: %s", error)

    context = copy_context()
    name = "jittask-ask"
    thread = threading.Thread(target=context.run, args=(work,), name=name, daemon=True)
    thread.start()
    thread.join(ASK_SECONDS)
    return (answers[0], True) if answers else (None, False)


def close(
    app: App, database: str, tasks: Sequence[Entry], message: str, clock: Clock
) -> Closed:
    """End tasks in the ledger, in a single commit; the others of their calls wait again.

    On SQLite the function's own transaction may have the file locked: then the processes
    that execute these tasks are killed, and the tasks ended after that.
    """

    def end(connection: Connection) -> Closed:
        return end_all(connection, tasks, message, clock())

    engine = app.engine(database)
    executing = [task for task in tasks if task.status == "executing"]
    if executing and engine.dialect.name == "sqlite":
        try:
            with _short_wait(engine) as connection:
                closed = end(connection)
                connection.commit()
                return closed
        except OperationalError as error:
            for task in executing:
                log.warning("%s: its process is killed: %s", task.task_id, error.orig)
                kill(task, clock(), partial(_has_ended, engine, task))
            with engine.begin() as connection:
                closed = end(connection)
                for task in executing:
                    if task not in closed.ended and transitions.end_killed(
                        connection, task, message, clock()
                    ):
                        closed.ended.append(task)
                for task in one_of_each(executing):
                    closed.left += digest_calls.put_back_killed(connection, task)
                return closed
    with engine.begin() as connection:
        return end(connection)


def _has_ended(engine: Engine, task: Entry) -> bool:
    """Whether a task's process is done with the task: then another one holds the lock."""
    try:
        with _short_wait(engine) as connection:
            found = find_entry(connection, task.task_id)
    except OperationalError:
        return False  # the process stands still in the middle of its commit
    return found is None or found.status != "executing" or found.owner != task.owner


@contextmanager
def _short_wait(engine: Engine) -> Iterator[Connection]:
    """A connection that waits for SQLite's lock no longer than `LOCKED_MS`."""
    with engine.connect() as connection:
        before = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
        connection.exec_driver_sql(f"PRAGMA busy_timeout={LOCKED_MS}")
        try:
            yield connection
        finally:
            connection.rollback()
            connection.exec_driver_sql(f"PRAGMA busy_timeout={before}")


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
        entry: The task before its end.
        clock: Gives the present instant.
        message: Why the task ends.
        closed: Whether this process has ended the task; else its own process did just
            before, and is left alone.
        away: Prefect does not answer: only the process is looked at.

    Raises:
        JittaskError: The task's process is still there after `END_SECONDS`.
    """
    if not entry.flow_run_id:
        return
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < END_SECONDS:
        alive = is_alive(entry)
        run: FlowRun | None = None
        answered = False
        if not away:
            run, answered = _ask(partial(api.run, entry.flow_run_id))
            away = not answered and alive is not None
        if answered and not alive and (run is None or run.is_final):
            return
        try:
            went_on = alive is True and _went_on(app, database, entry, run)
            gone = alive is False or (
                alive is None and _lease_over(app, database, entry, clock())
            )
        except SQLAlchemyError as error:
            # The process may do another row by now: nobody kills it until that is known.
            log.debug("task %s: the database is asked again: %s", entry.task_id, error)
            went_on = gone = alive = False
        if went_on:
            return
        if gone:
            if entry.batch is None and not away:
                _set_cancelled(api, entry.flow_run_id, message)
            return
        if alive and closed and _is_over(app, database, entry, passed):
            kill(entry, clock(), partial(_may_have_left, app, database, entry))
        time.sleep(0.2)
    raise JittaskError(
        f"task {entry.task_id} is ended, but its process ({entry.owner}) was still "
        f"there after {END_SECONDS:g} s: flow run {entry.flow_run_id}"
    )


def _set_cancelled(api: Api, run_id: str, message: str) -> None:
    try:
        api.set_state(run_id, "CANCELLED", message=message, force=True)
    except PrefectApiError as error:
        log.debug("run %s is left to the next sync: %s", run_id, error)


def _went_on(app: App, database: str, entry: Entry, run: FlowRun | None) -> bool:
    """Whether the function returned at the last moment, and its warm process lives on."""
    if run is not None and run.is_final:
        # Crashed, or cancelled by others: its process is about to leave.
        returned = run.state_type in ("COMPLETED", "FAILED")
        return returned or (run.state_type == "CANCELLED" and run.ended_by_us)
    if not entry.owner:
        return False
    if _has_left(app, database, entry):
        return True
    # Rows that began later may be those of other executors.
    later = and_(entries.c.owner == entry.owner, entries.c.started > entry.started)
    # The process may have another flow run by now: it only helped, or Prefect did not answer about this one.
    elsewhere = and_(_in_process_of(entry), entries.c.flow_run_id != entry.flow_run_id)
    return _at_work(app, database, entry, or_(later, elsewhere))


def _may_have_left(app: App, database: str, entry: Entry) -> bool:
    """As `_went_on`, by the ledger alone; also where the ledger gives no answer."""
    try:
        return _went_on(app, database, entry, None)
    except SQLAlchemyError:
        return True  # the database is asked again


def _has_left(app: App, database: str, entry: Entry) -> bool:
    """Whether the function has returned, while other executors of its process may have rows at work."""
    query = select(entries.c.progress).where(entries.c.task_id == entry.task_id)
    with app.engine(database).connect() as connection:
        return connection.execute(query).scalar() == LEFT


def _is_over(app: App, database: str, entry: Entry, passed: float) -> bool:
    """Whether a process has had its time to leave, with the rows beside where there are any."""
    longest = KILL_SECONDS + BESIDE_SECONDS
    return passed > KILL_SECONDS and (
        passed > longest or not _beside(app, database, entry)
    )


def _beside(app: App, database: str, entry: Entry) -> bool:
    """Whether the process of a batch's row has other rows at work."""
    same_run = entries.c.flow_run_id == entry.flow_run_id
    others = and_(_in_process_of(entry), same_run)
    try:
        return entry.batch is not None and _at_work(app, database, entry, others)
    except SQLAlchemyError:
        return True  # the database is asked again


def _in_process_of(entry: Entry) -> ColumnElement[bool]:
    process, _, _ = (entry.owner or "").rpartition(":")
    return entries.c.owner.startswith(f"{process}:", autoescape=True)


def _at_work(app: App, database: str, entry: Entry, where: ColumnElement[bool]) -> bool:
    """Whether other tasks are executed that meet a condition."""
    others = (
        entries.c.task_id != entry.task_id,
        entries.c.status == "executing",
        where,
    )
    query = select(entries.c.task_id).where(*others).limit(1)
    with app.engine(database).connect() as connection:
        return connection.execute(query).first() is not None


def is_alive(entry: Entry) -> bool | None:
    """Whether the process that executes is alive; None for a process of another host, or an unknown one."""
    pid = _pid(entry)
    if pid is None or pid == os.getpid():
        return None if pid is None else True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    found = process_of(pid)
    return found is not None and not found.dead


def _never() -> bool:
    return False


def kill(entry: Entry, now: datetime, went_on: Callable[[], bool] = _never) -> None:
    """Kill the process group that executes, if its leader is a child of a warm worker on this host.

    Other processes are left to their own workers; so is a process that began later than
    the task: the pid was used again.

    Args:
        entry: The task.
        now: The present instant.
        went_on: Whether the process has left the task, and may do another one. Asked while
            the process stands still, so that no other task begins between answer and kill.
    """
    pid = _pid(entry)
    if pid in (None, os.getpid()) or sys.platform != "linux" or entry.started is None:
        return
    assert pid is not None
    found = process_of(pid)
    if found is None or found.dead or found.session != pid:
        return
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - found.started
    if age < (now - entry.started).total_seconds():
        return
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if CHILD_MODULES.isdisjoint(command):
            return
        os.killpg(pid, signal.SIGSTOP)
        try:
            _await_stop(pid)
            if not went_on():
                os.killpg(pid, signal.SIGKILL)
        finally:
            os.killpg(pid, signal.SIGCONT)
    except OSError as error:
        log.debug("process %d is not killed: %s", pid, error)


def _await_stop(pid: int) -> None:
    """Wait until a process that got SIGSTOP stands still; no longer than `STOP_SECONDS`."""
    until = time.monotonic() + STOP_SECONDS
    while time.monotonic() < until:
        found = process_of(pid)
        if found is None or found.dead or found.stopped:
            return
        time.sleep(0.001)


def _pid(entry: Entry) -> int | None:
    host, _, rest = (entry.owner or "").partition(":")
    return int(rest.partition(":")[0]) if host == socket.gethostname() else None


def _lease_over(app: App, database: str, entry: Entry, now: datetime) -> bool:
    """Whether the lease that the task had before its end is over, by the database's clock."""
    if entry.lease_until is None:
        return False
    with app.engine(database).connect() as connection:
        return lease_time.is_over(connection, entry.lease_until, now)
