"""A lease by way of a balancer that keeps connections open and answers nothing."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from frozen import Balancer
from patience import PATIENCE
from shop import Shop
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from jittask_prefect.ledger.entry import Entry
from jittask_prefect.running import lease
from jittask_prefect.running.outcome import Run
from jittask_prefect.running.run import execute, execute_batch

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
AT_WORK = (
    "import threading\nBEGUN, GO = threading.Event(), threading.Event()\n"
    "def customFunc(row):\n    BEGUN.set()\n    GO.wait(30)\n    row.count += 1\n"
)
LOCKING = (
    "import threading\nBEGUN, GO = threading.Event(), threading.Event()\n"
    "def customFunc(row):\n    row.count += 1\n    with app.session() as session:\n        session.flush()\n"
    "    BEGUN.set()\n    GO.wait(30)\n"
)
SLOW = PATIENCE / 2
"""How slow the machine is; patience is at least 2."""
LEASE = 3.0 * SLOW


def test_the_seconds_of_a_lease() -> None:
    """Looked at each second, renewed each 5 s, held for 25 s; a process leaves 5 s before that end."""
    seconds = (lease.LOOK_SECONDS, lease.RENEW_SECONDS, lease.LEASE_SECONDS)
    assert seconds == (1, 5, 25)
    assert lease.HOLDS_SECONDS == 20


def test_each_execution_has_an_owner_that_no_other_has(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two executions of one process are told apart: the first may come back late."""
    assert len({lease.new_owner() for _ in range(100)}) == 100
    owners: list[str] = []
    real = lease.transitions.claim

    def claimed(
        connection: Any, task: str, owner: str, *args: Any, **keys: Any
    ) -> bool:
        owners.append(owner)
        return real(connection, task, owner, *args, **keys)

    monkeypatch.setattr(lease.transitions, "claim", claimed)
    s = shop()
    for key in (1, 2):
        s.save(id=key, at=TEN)
    s.sync("2026-03-02 10:00")
    assert [outcome.status for outcome in s.work()] == ["completed"] * 2
    assert len(set(owners)) == len(owners) == 2
    host_and_pid = f"{socket.gethostname()}:{os.getpid()}:"
    assert all(owner.startswith(host_and_pid) for owner in owners)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease of three seconds, of which the last is for the process to leave; longer on a slow machine."""
    for name, seconds in {
        "LOOK": 0.1,
        "RENEW": 0.5,
        "ANSWER": 0.5,
        "HOLDS": 2.0,
        "LEASE": 3.0,
    }.items():
        monkeypatch.setattr(lease, f"{name}_SECONDS", seconds * SLOW)


@pytest.fixture
def frozen(
    shop: Make, url: Callable[[str], str], quick: None, request: pytest.FixtureRequest
) -> Iterator[tuple[Shop, Entry, Balancer]]:
    """A row's task that is due, by way of a balancer."""
    balancer = Balancer(url(request.param))
    s = shop(inner=AT_WORK, app_json={"database": balancer.url})
    s.save(id=1, at=TEN)
    s.sync("2026-03-02 10:00")
    yield s, s.entries()[0], balancer
    s.app.module("tasks.Task", "inner").GO.set()
    balancer.close()


def at_work(
    s: Shop, task: Entry, lost: Callable[[], None]
) -> tuple[threading.Thread, Any]:
    """The task at work in a thread, and its module."""
    inner = s.app.module("tasks.Task", "inner")
    run, now = Run("run", task.due), s.now
    thread = threading.Thread(
        target=lambda: execute(
            s.app, task.template, task.task_id, run, lambda: now, lost=lost
        ),
        daemon=True,
    )
    thread.start()
    assert inner.BEGUN.wait(20 * PATIENCE)
    return thread, inner


@pytest.mark.parametrize("frozen", ["postgresql", "mariadb"], indirect=True)
def test_a_frozen_database_ends_the_function_before_its_lease_is_over(
    frozen: tuple[Shop, Entry, Balancer],
) -> None:
    """Nobody may take a task for ended while its function works on: the process leaves first, by its own clock."""
    s, task, balancer = frozen
    left = threading.Event()
    thread, inner = at_work(s, task, left.set)
    balancer.freeze()
    frozen_at = time.monotonic()
    assert left.wait(20 * PATIENCE)
    assert time.monotonic() - frozen_at < LEASE
    inner.GO.set()
    balancer.thaw()
    thread.join(20 * PATIENCE)


@pytest.mark.parametrize("frozen", ["postgresql", "mariadb"], indirect=True)
def test_a_database_that_freezes_before_the_row_is_written_ends_the_process_too(
    frozen: tuple[Shop, Entry, Balancer],
) -> None:
    """The row's connection waits for an answer to its statement."""
    s, task, balancer = frozen
    left = threading.Event()
    thread, inner = at_work(s, task, left.set)
    balancer.freeze()
    frozen_at = time.monotonic()
    inner.GO.set()
    assert left.wait(20 * PATIENCE)
    assert time.monotonic() - frozen_at < LEASE
    assert thread.is_alive()
    balancer.thaw()
    thread.join(20 * PATIENCE)


@pytest.mark.parametrize("frozen", ["postgresql", "mariadb"], indirect=True)
def test_a_database_that_freezes_at_the_commit_ends_the_process_too(
    frozen: tuple[Shop, Entry, Balancer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row's connection waits for an answer to its commit: the next process sees whether the task ended."""
    s, task, balancer = frozen
    left, frozen_at = threading.Event(), list[float]()
    real = lease.transitions.finish

    def finish(*args: Any, **keys: Any) -> bool:
        finished = real(*args, **keys)
        balancer.freeze()
        frozen_at.append(time.monotonic())
        return finished

    monkeypatch.setattr(lease.transitions, "finish", finish)
    thread, inner = at_work(s, task, left.set)
    inner.GO.set()
    assert left.wait(20 * PATIENCE)
    assert time.monotonic() - frozen_at[0] < LEASE
    assert thread.is_alive()
    balancer.thaw()
    thread.join(20 * PATIENCE)


@pytest.mark.parametrize("frozen", ["postgresql", "mariadb"], indirect=True)
def test_a_frozen_connection_is_replaced_by_another(
    frozen: tuple[Shop, Entry, Balancer],
) -> None:
    """Where the database answers others, the lease is renewed on another connection, and the function goes on."""
    s, task, balancer = frozen
    left, renewed = threading.Event(), threading.Event()
    real = lease.transitions.renew

    def noted(*args: Any, **keys: Any) -> None:
        real(*args, **keys)
        renewed.set()

    lease.transitions.renew = noted
    try:
        thread, inner = at_work(s, task, left.set)
        assert renewed.wait(20 * PATIENCE)
        balancer.freeze(only_old=True)
        frozen_at = time.monotonic()
        while time.monotonic() - frozen_at < LEASE:
            renewed.clear()
            assert renewed.wait(LEASE), "the lease was not renewed"
    finally:
        lease.transitions.renew = real
    assert not left.is_set()
    balancer.thaw()
    inner.GO.set()
    thread.join(20 * PATIENCE)
    assert (s.entries()[0].status, s.row(1).count) == ("completed", 1)


@pytest.mark.parametrize("dispatch", ["row", "batch"])
def test_a_row_that_waits_for_its_next_try_keeps_its_lease(
    shop: Make,
    url: Callable[[str], str],
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
    dispatch: str,
) -> None:
    """The lease is renewed while `retryDelay` passes, in a batch too, where no row is at work meanwhile."""
    renewed = threading.Event()
    real = lease.transitions.renew

    def noted(*args: Any, **keys: Any) -> None:
        real(*args, **keys)
        renewed.set()

    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            renewed.clear()
            assert renewed.wait(20 * PATIENCE)

    monkeypatch.setattr(lease.transitions, "renew", noted)
    inner = "TRIES = []\ndef customFunc(row):\n    TRIES.append(1)\n    if len(TRIES) == 1: raise ValueError\n"
    s = shop(
        inner=inner,
        app_json={"database": url("postgresql")},
        retries=1,
        retryDelay=60,
        dispatch=dispatch,
    )
    s.save(id=1, at=TEN)
    s.sync("2026-03-02 10:00")
    [task] = s.entries()
    run, now = Run(str(task.flow_run_id), task.due), s.now
    if dispatch == "row":
        execute(s.app, task.template, task.task_id, run, lambda: now, sleep=sleep)
    else:
        execute_batch(s.app, task.template, task.due, run, lambda: now, sleep=sleep)
    assert s.entries()[0].status == "completed" and sum(slept) == 60


def test_on_sqlite_a_renewal_that_fails_is_no_loss_while_we_hold_the_lock_ourselves(
    shop: Make, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function's transaction has the file locked, longer than the lease would hold: nobody else can take the task."""
    s = shop(inner=LOCKING)
    s.save(id=1, at=TEN)
    s.sync("2026-03-02 10:00")
    engine = s.app.engine()
    engine.dispose()

    def impatient(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA busy_timeout = 50")

    event.listen(engine, "connect", impatient)
    refused, lost = threading.Event(), threading.Event()
    real = lease.transitions.renew

    def renew(*args: Any) -> None:
        try:
            real(*args)
        except OperationalError:
            refused.set()
            raise

    monkeypatch.setattr(lease.transitions, "renew", renew)
    begun = time.monotonic()
    thread, inner = at_work(s, s.entries()[0], lost.set)
    while time.monotonic() < begun + LEASE + 1:
        refused.clear()
        assert refused.wait(20 * PATIENCE), "the renewal was not tried"
    inner.GO.set()
    thread.join(20 * PATIENCE)
    assert not lost.is_set()
    assert (s.entries()[0].status, s.row(1).count) == ("completed", 1)
