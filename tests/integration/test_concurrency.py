"""`concurrency` on a real worker: what is one too many waits, is not run, or takes the other's place."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from place import Place, until

from jittask_prefect.schedule import clock
from jittask_prefect.server.service import ServiceInfo


def said(work: Place) -> list[str]:
    """What the functions said, without their processes."""
    file = work.app.path / "limited.txt"
    return (
        [line.rpartition(" ")[0] for line in file.read_text().splitlines()]
        if file.exists()
        else []
    )


def begin(work: Place, overlap: str, name: str) -> str:
    template = f"tasks.Work{overlap.title()}"
    made = work.svc.createTimerTask(
        template, clock.now(), "customFunc", "tasks.NormalType", {"name": name}
    )
    return str(made["taskId"])


@pytest.fixture(autouse=True)
def fresh(work: Place) -> Iterator[None]:
    for file in (work.app.path / "limited.txt", *work.app.path.glob("end-*")):
        file.unlink(missing_ok=True)
    yield
    # A test that failed leaves tasks, for which those of the next one, or of its second try, would have to wait.
    for template in ("Queue", "Skip", "Replace", "Many"):
        for entry in work.entries(f"tasks.Work{template}"):
            if entry.status in ("pending", "executing"):
                work.svc.forcedEnd(entry.task_id)


def let_end(work: Place, name: str) -> None:
    Path(work.app.path / f"end-{name}").touch()


def test_queue_goes_on_as_soon_as_the_other_has_ended(work: Place) -> None:
    first = begin(work, "queue", "q1")
    until(lambda: said(work) == ["begin q1"], 60)
    second = begin(work, "queue", "q2")
    waits = until(
        lambda: e if (e := work.entry(second)).queue == "waiting" else None, 30
    )
    assert (
        waits
        and waits.message == "queued: 1 of 1 executions of tasks.WorkQueue are at work"
    )
    given_up = work.state(str(waits.flow_run_id), "Cancelled")
    assert (
        given_up.message
        == "not run: queued: 1 of 1 executions of tasks.WorkQueue are at work"
    )
    [record] = [
        r for r in work.svc.getTaskRecords("tasks.WorkQueue") if r["taskId"] == second
    ]
    assert (
        record["status"] in ("pending", "overdue")
        and record["message"] == waits.message
    )
    let_end(work, "q1")
    let_end(work, "q2")
    assert work.ended(first).status == "completed"
    ended = work.ended(waits.task_id, 50)  # long before the next sync
    assert ended.status == "completed" and ended.flow_run_id != waits.flow_run_id
    assert work.svc.forcedEnd(second)["status"] == "completed", (
        "the id that was given still names the task"
    )
    assert said(work) == ["begin q1", "end q1", "begin q2", "end q2"]


def test_skip_is_not_run_and_says_so(work: Place) -> None:
    first = begin(work, "skip", "s1")
    until(lambda: said(work) == ["begin s1"], 60)
    second = work.ended(begin(work, "skip", "s2"))
    why = "not run: 1 of 1 executions of tasks.WorkSkip are at work"
    assert (second.status, second.outcome, second.message) == ("ended", "skipped", why)
    assert work.state(str(second.flow_run_id), "Cancelled").message == why
    let_end(work, "s1")
    assert work.ended(first).status == "completed"
    assert said(work) == ["begin s1", "end s1"]


def test_replace_begins_when_the_other_process_is_gone(work: Place) -> None:
    first = begin(work, "replace", "r1")
    until(lambda: said(work) == ["begin r1"], 60)
    pid = int((work.app.path / "limited.txt").read_text().split()[-1])
    second = begin(work, "replace", "r2")
    until(lambda: "begin r2" in said(work), 60)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    old = work.entry(first)
    assert (old.status, old.outcome) == ("ended", "forced")
    assert old.message == "ended: forced end: a later execution replaces it"
    let_end(work, "r2")
    assert work.ended(second).status == "completed"
    assert said(work) == ["begin r1", "begin r2", "end r2"]


@pytest.fixture
def twelve(work: Place) -> list[str]:
    """Tasks that are due once all are made and end as soon as they have begun."""
    due, names = (
        clock.now() + timedelta(seconds=12),
        [f"p{number}" for number in range(12)],
    )
    for name in names:
        let_end(work, name)
        work.svc.createTimerTask(
            "tasks.WorkMany", due, "customFunc", "tasks.NormalType", {"name": name}
        )
    return names


def at_work(work: Place) -> int:
    return len(work.runs("tasks.WorkMany", "PENDING", "RUNNING"))


def each_once(work: Place, names: list[str]) -> None:
    until(
        lambda: (
            sorted(said(work))
            == sorted(f"{what} {name}" for name in names for what in ("begin", "end"))
        ),
        90,
    )
    found = work.entries("tasks.WorkMany")
    assert {e.status for e in found if e.due == max(e.due for e in found)} == {
        "completed"
    }


def test_a_database_that_stands_still_piles_nothing_up(
    work: Place, twelve: list[str]
) -> None:
    most = 0
    with closing(sqlite3.connect(str(work.app.engine().url.database))) as connection:
        connection.execute("BEGIN IMMEDIATE")
        until(lambda: at_work(work) >= 1, 90)
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            most = max(most, at_work(work))
            time.sleep(0.2)
        connection.rollback()
    assert 1 <= most <= 8, "the app's maxConcurrency"
    each_once(work, twelve)


def test_a_server_that_answers_slowly_piles_nothing_up(
    work: Place, twelve: list[str], prefect_server: ServiceInfo
) -> None:
    most = 0
    for _ in range(3):
        os.kill(prefect_server.pid, signal.SIGSTOP)
        try:
            time.sleep(3)  # so long an answer takes
        finally:
            os.kill(prefect_server.pid, signal.SIGCONT)
        most = max(most, at_work(work))
        time.sleep(0.5)
    assert most <= 2, "what begins beside another is not hurried"
    each_once(work, twelve)
