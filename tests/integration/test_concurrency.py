"""`concurrency` on a real worker: what is one too many waits, is not run, or takes the other's place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from place import Place, until

from jittask_prefect import clock


def said(work: Place) -> list[str]:
    """What the functions said, without their processes."""
    file = work.app.path / "limited.txt"
    return [line.rpartition(" ")[0] for line in file.read_text().splitlines()] if file.exists() else []


def begin(work: Place, overlap: str, name: str) -> str:
    template = f"tasks.Work{overlap.title()}"
    made = work.svc.createTimerTask(template, clock.now(), "customFunc", "tasks.NormalType", {"name": name})
    return str(made["taskId"])


@pytest.fixture(autouse=True)
def fresh(work: Place) -> None:
    for file in (work.app.path / "limited.txt", *work.app.path.glob("end-*")):
        file.unlink(missing_ok=True)


def let_end(work: Place, name: str) -> None:
    Path(work.app.path / f"end-{name}").touch()


def test_queue_goes_on_as_soon_as_the_other_has_ended(work: Place) -> None:
    first = begin(work, "queue", "q1")
    until(lambda: said(work) == ["begin q1"], 60)
    second = begin(work, "queue", "q2")
    waits = until(lambda: e if (e := work.entry(second)).outcome == "queued" else None, 30)
    assert waits and waits.message == "queued: 1 of 1 executions of tasks.WorkQueue are at work"
    given_up = work.state(str(waits.flow_run_id), "Cancelled")
    assert given_up["message"] == "not run: queued: 1 of 1 executions of tasks.WorkQueue are at work"
    [record] = [r for r in work.svc.getTaskRecords("tasks.WorkQueue") if r["taskId"] == second]
    assert record["status"] in ("pending", "overdue") and record["message"] == waits.message
    let_end(work, "q1")
    let_end(work, "q2")
    assert work.ended(first).status == "completed"
    ended = work.ended(waits.task_id, 50)  # long before the next sync
    assert ended.status == "completed" and ended.flow_run_id != waits.flow_run_id
    assert work.svc.forcedEnd(second)["status"] == "completed", "the id that was given still names the task"
    assert said(work) == ["begin q1", "end q1", "begin q2", "end q2"]


def test_skip_is_not_run_and_says_so(work: Place) -> None:
    first = begin(work, "skip", "s1")
    until(lambda: said(work) == ["begin s1"], 60)
    second = work.ended(begin(work, "skip", "s2"))
    why = "not run: 1 of 1 executions of tasks.WorkSkip are at work"
    assert (second.status, second.outcome, second.message) == ("ended", "skipped", why)
    assert work.state(str(second.flow_run_id), "Cancelled")["message"] == why
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
