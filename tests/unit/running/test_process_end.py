"""The end of an execution from outside: when a process counts as gone, and which process is killed how."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from shop import Shop, utc

from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import lease_time, transitions
from jittask_prefect.ledger.entry import Entry, new_entry
from jittask_prefect.running import process_end
from jittask_prefect.running.process_end import await_gone, close, kill
from jittask_prefect.schedule import clock

Make = Callable[..., Shop]
AHEAD = timedelta(seconds=60)


def executing(s: Shop, until: datetime) -> Entry:
    """A task that a process of another host executes."""
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync("2026-03-02 10:00")
    [task] = s.entries()
    mine = {"owner": "elsewhere:1:1", "lease_until": until, "started": s.now}
    s.api.set_state(str(task.flow_run_id), "RUNNING")
    return replace(task, status="executing", **mine)


def claimed(s: Shop) -> Entry:
    """A task that is at work in a process, as far as the ledger knows."""
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync("2026-03-02 10:00")
    [task] = s.entries()
    with s.app.engine().begin() as connection:
        claim = (connection, task.task_id, "me:1:1", "run", s.now, 25)
        assert transitions.claim(*claim)
    [task] = s.entries()
    return task


def wait(s: Shop, task: Entry, now: datetime) -> None:
    await_gone(s.app, "", s.api, task, lambda: now)


def test_the_databases_clock_says_whether_the_lease_holds(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host whose clock is ahead still waits for the process; a host whose clock is behind does not."""
    real = clock.now()
    monkeypatch.setattr(process_end, "END_SECONDS", 0.5)
    s = shop()
    task = executing(s, real + AHEAD / 2)
    lease_time.use_clock_of_caller(False)
    try:
        with pytest.raises(JittaskError, match="was still there"):
            wait(s, task, real + AHEAD)
        wait(s, replace(task, lease_until=real - AHEAD), real - 2 * AHEAD)
    finally:
        lease_time.use_clock_of_caller()


def test_tests_set_the_callers_clock(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_end, "END_SECONDS", 0.5)
    s = shop()
    task = executing(s, utc("2026-03-02 10:00") + timedelta(seconds=25))
    with pytest.raises(JittaskError, match="was still there"):
        wait(s, task, s.now)
    wait(s, task, s.now + AHEAD)
    assert s.api.all_runs[str(task.flow_run_id)]["state_type"] == "CANCELLED"


def test_where_sqlite_is_locked_the_process_is_killed_after_two_seconds(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function's own transaction may have the file locked: nothing can be written before its process is gone."""
    assert process_end.LOCKED_MS == 2000
    monkeypatch.setattr(process_end, "LOCKED_MS", 50)
    s = shop()
    task = claimed(s)
    killed: list[tuple[str, str]] = []
    with s.app.engine().connect() as function:
        function.exec_driver_sql("BEGIN IMMEDIATE")

        def killed_now(entry: Entry, now: datetime, _: object) -> None:
            killed.append((entry.task_id, s.entries()[0].status))
            function.rollback()

        monkeypatch.setattr(process_end, "kill", killed_now)
        closed = close(s.app, "", [task], "ended: forced end", lambda: s.now)
    assert killed == [(task.task_id, "executing")]
    assert [entry.task_id for entry in closed.ended] == [task.task_id]
    assert [entry.outcome for entry in s.entries()] == ["forced"]
    with s.app.engine().connect() as connection:
        left = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
    assert left == 30_000, "the connection waits as long as others again"


@pytest.mark.parametrize("returned", [False, True])
def test_a_process_that_is_killed_for_an_end_leaves_no_dead_worker(
    shop: Make, monkeypatch: pytest.MonkeyPatch, returned: bool
) -> None:
    """Its worker may write the death down before the end is written."""
    monkeypatch.setattr(process_end, "LOCKED_MS", 50)
    s = shop()
    task = claimed(s)
    with s.app.engine().connect() as function:
        function.exec_driver_sql("BEGIN IMMEDIATE")

        def killed_now(entry: Entry, now: datetime, _: object) -> None:
            function.rollback()
            with s.app.engine().begin() as worker:
                assert transitions.fail(worker, entry, now)
                assert not returned or transitions.take_return(worker, entry.task_id)

        monkeypatch.setattr(process_end, "kill", killed_now)
        closed = close(s.app, "", [task], "ended: forced end", lambda: s.now)
    assert [entry.task_id for entry in closed.ended] == [task.task_id]
    [ended] = s.entries()
    assert (ended.status, ended.outcome) == ("ended", "forced")
    assert ended.message == "ended: forced end"
    assert ended.returned is returned, "afterReturn is called once"


def test_a_process_that_is_done_with_its_task_is_not_killed_for_a_lock_of_another(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow machine, or an import, may have SQLite locked for longer than an end waits."""
    monkeypatch.setattr(process_end, "LOCKED_MS", 50)
    s = shop()
    task = claimed(s)
    answers: list[bool] = []
    with s.app.engine().connect() as other:
        other.exec_driver_sql("BEGIN IMMEDIATE")

        def asked(entry: Entry, now: datetime, went_on: Callable[[], bool]) -> None:
            answers.append(went_on())
            other.rollback()
            with s.app.engine().begin() as process:
                assert transitions.give_back(process, [entry.task_id], "me:1:1")
            answers.append(went_on())

        monkeypatch.setattr(process_end, "kill", asked)
        close(s.app, "", [task], "ended: forced end", lambda: s.now)
    assert answers == [False, True]


@pytest.mark.parametrize("dispatch", ["row", "batch"])
def test_a_process_that_has_another_flow_run_has_gone_on(
    shop: Make, dispatch: str
) -> None:
    """Also where Prefect does not say how the flow run of the ended task stands."""
    s = shop(dispatch=dispatch)
    for key, hour in ((1, 10), (2, 11)):
        s.save(id=key, at=datetime(2026, 3, 2, hour))
    s.sync("2026-03-02 11:00")
    first, second = s.entries()
    with s.app.engine().begin() as connection:
        of = (connection, first.task_id, "me:1:a", str(first.flow_run_id), s.now, 25)
        assert transitions.claim(*of, in_batch=first.batch is not None)
    [first] = s.entries(row_key="1")
    with s.app.engine().begin() as connection:
        how = {"outcome": "forced", "message": "", "now": s.now}
        assert transitions.end(connection, first.task_id, **how, within=["executing"])
    assert not process_end._went_on(s.app, "", first, None)
    with s.app.engine().begin() as connection:
        of = (connection, second.task_id, "me:1:b", str(second.flow_run_id), s.now, 25)
        assert transitions.claim(*of, in_batch=second.batch is not None)
    assert process_end._went_on(s.app, "", first, None)


def test_a_task_that_died_in_an_earlier_execution_is_not_ended_by_a_later_kill(
    shop: Make,
) -> None:
    s = shop()
    task = claimed(s)
    with s.app.engine().begin() as connection:
        assert transitions.fail(connection, task, s.now)
        for other in (
            replace(task, attempt=task.attempt + 1),
            replace(task, started=s.now - AHEAD),
        ):
            assert not transitions.end_killed(connection, other, "why", s.now)
    assert [entry.outcome for entry in s.entries()] == ["died"]


WITH_A_CHILD = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "input()"])
print("ready", flush=True)
input()
"""
REAL_NOW = clock.now


@contextmanager
def at_work(*arguments: str, leader: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a child of its own; both have the same output."""
    command = [sys.executable, "-c", WITH_A_CHILD, *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    group = None if leader else 0
    with subprocess.Popen(
        command, **pipes, start_new_session=leader, process_group=group
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process
        finally:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()


def task_of(process: subprocess.Popen[bytes], started: datetime) -> Entry:
    owner = f"{socket.gethostname()}:{process.pid}:token"
    made = {"task_id": "t", "app": "shop", "template": "tasks.T", "status": "executing"}
    about = {"due": started, "created": started, "started": started, "owner": owner}
    return new_entry(**made, **about)


@pytest.mark.parametrize("module", ["child", "fork_server"])
def test_the_whole_process_group_gets_sigkill(module: str) -> None:
    """A child by fork shows the command line of its fork server."""
    with at_work(f"jittask_prefect.warm.{module}") as process:
        now = REAL_NOW()
        kill(task_of(process, now), now)
        assert process.wait(20) == -signal.SIGKILL
        over, _, _ = select.select([process.stdout], [], [], 20)
        assert over, "a child of the process is left"
        assert process.stdout is not None and process.stdout.read() == b""


def test_a_process_that_went_on_is_left_running() -> None:
    with at_work("jittask_prefect.warm.child") as process:
        now = REAL_NOW()
        states: list[str] = []

        def went_on() -> bool:
            stat = Path(f"/proc/{process.pid}/stat").read_text()
            states.append(stat.rpartition(")")[2].split()[0])
            return True

        kill(task_of(process, now), now, went_on)
        assert states == ["T"], "the process stands still while the ledger is asked"
        assert process.stdin is not None
        process.stdin.write(b"\n\n")
        process.stdin.close()
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("arguments", "leader", "began"),
    [
        ((), True, 0),  # no child of a warm worker
        (("jittask_prefect.warm.child",), False, 0),  # of its group only
        (("jittask_prefect.warm.child",), True, -3600),  # the pid was used again
    ],
)
def test_other_processes_are_left_to_their_workers(
    arguments: tuple[str, ...], leader: bool, began: float
) -> None:
    with at_work(*arguments, leader=leader) as process:
        now = REAL_NOW()
        kill(task_of(process, now + timedelta(seconds=began)), now)
        assert process.poll() is None
        assert process.stdin is not None
        process.stdin.write(b"\n\n")
        process.stdin.close()
        assert process.wait(20) == 0
