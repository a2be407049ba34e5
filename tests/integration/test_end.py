"""forcedEnd, `jittask end` and Cancel in the UI: what executes is really gone, and the series goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from place import Place, until

from jittask_prefect.deploying.deployments import POOL
from jittask_prefect.running import end
from jittask_prefect.running.process_status import process_of
from jittask_prefect.schedule import clock

FAST = 5.0  # seconds from forcedEnd to a process that is gone


def local(seconds: float = 0) -> datetime:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).replace(
        tzinfo=None, microsecond=0
    )


def gone(pid: int) -> bool:
    found = process_of(pid)
    return found is None or found.dead


def returned(work: Place, task_id: str) -> list[str]:
    file = work.app.path / "returned.txt"
    return [
        line
        for line in (file.read_text().splitlines() if file.exists() else [])
        if line.startswith(task_id)
    ]


@pytest.fixture(scope="module")
def executing(work: Place) -> Iterator[dict[str, tuple[str, int]]]:
    """Tasks in the middle of their function, by what they do there: the task's id and its process."""
    tasks, files = {}, {}
    for what, status, name in (
        ("sleeping", "sleeps", "WorkSleeps"),
        ("for the command", "sleeps", "WorkSleeps"),
        ("for the UI", "sleeps", "WorkSleeps"),
        ("holding a lock", "locks", "WorkLocks"),
    ):
        if what == "holding a lock":
            continue  # it keeps everybody else from writing, so it starts when its test does
        row = work.save("WorkItem", at=local(-1), status=status)
        tasks[what] = next(
            e.task_id
            for e in work.entries(f"tasks.{name}", row.id)
            if e.due <= clock.now()
        )
        files[what] = f"sleeping-{row.id}"
    made = work.svc.createTimerTask(
        "tasks.WorkBusy", clock.now(), "customFunc", "tasks.WorkType", {"name": "busy"}
    )
    tasks["busy"], files["busy"] = made["taskId"], "busy"
    yield {what: (tasks[what], pid_of(work, file)) for what, file in files.items()}


def pid_of(work: Place, name: str) -> int:
    file: Path = work.app.path / name
    return int(
        until(lambda: file.exists() and file.read_text(), 90, what=f"{file} written")
    )


def test_a_pending_task_never_runs(work: Place) -> None:
    row = work.save("WorkItem", at=local(7200), status="row")
    [entry] = until(
        lambda: [e for e in work.entries("tasks.WorkRow", row.id) if e.flow_run_id], 10
    )
    answer = work.svc.forcedEnd(entry.task_id)
    assert answer == {
        "taskId": entry.task_id,
        "previousStatus": "pending",
        "status": "ended",
        "changed": True,
    }
    assert entry.flow_run_id
    assert (
        work.state(entry.flow_run_id, "Cancelled", seconds=5).message
        == "ended: forced end"
    )
    assert work.svc.forcedEnd(entry.task_id)["changed"] is False
    work.sync()
    assert [e.status for e in work.entries("tasks.WorkRow", row.id)] == ["ended"]


def test_a_run_of_the_schedule_that_has_not_begun_never_runs(work: Place) -> None:
    [run, *_] = work.runs("tasks.WorkAdd", "SCHEDULED")
    answer = work.svc.forcedEnd(run.id)
    assert (answer["previousStatus"], answer["status"], answer["changed"]) == (
        "pending",
        "ended",
        True,
    )
    assert work.state(run.id, "Cancelled", seconds=5).message == "ended: forced end"
    assert work.svc.forcedEnd(run.id)["changed"] is False


def test_an_overdue_task_never_runs(work: Place) -> None:
    work.api.call("PATCH", f"/work_pools/{POOL}", body={"is_paused": True})
    try:
        row = work.save("WorkItem", at=local(-2), status="row")
        [entry] = until(
            lambda: [e for e in work.entries("tasks.WorkRow", row.id) if e.flow_run_id],
            10,
        )
        assert work.svc.forcedEnd(entry.task_id)["previousStatus"] == "overdue"
        assert entry.flow_run_id
        work.state(entry.flow_run_id, "Cancelled", seconds=5)
    finally:
        work.api.call("PATCH", f"/work_pools/{POOL}", body={"is_paused": False})
    assert work.sql("SELECT done FROM workitem WHERE id = :id", id=row.id) == 0


@pytest.mark.parametrize("what", ["sleeping", "busy"])
def test_an_executing_task_is_really_gone(
    work: Place, executing: dict[str, tuple[str, int]], what: str
) -> None:
    task_id, pid = executing[what]
    took = ends(work, task_id, pid, lambda: work.svc.forcedEnd(task_id))
    print(f"forcedEnd of {what} → gone: {took:.2f} s")
    assert took < FAST


def test_the_command_ends_an_executing_task(
    work: Place, executing: dict[str, tuple[str, int]]
) -> None:
    task_id, pid = executing["for the command"]

    def end() -> dict[str, object]:
        done = work.jittask("end", task_id)
        assert done.returncode == 0, done.stderr
        found: dict[str, object] = json.loads(done.stdout)
        return found

    took = ends(work, task_id, pid, end)
    print(f"jittask end → gone: {took:.2f} s")


def test_cancel_in_the_ui_ends_an_executing_task(
    work: Place, executing: dict[str, tuple[str, int]]
) -> None:
    task_id, pid = executing["for the UI"]
    run_id = work.entry(task_id).flow_run_id
    assert run_id
    began = time.monotonic()
    work.api.call(
        "POST", f"/flow_runs/{run_id}/set_state", body={"state": {"type": "CANCELLING"}}
    )
    until(lambda: gone(pid), 40)
    print(f"Cancel in the UI → gone: {time.monotonic() - began:.2f} s")
    work.state(run_id, "Cancelled", seconds=30)
    entry = work.ended(task_id, 20)
    assert (entry.status, entry.outcome, entry.message) == (
        "ended",
        "forced",
        "ended: cancelled in Prefect",
    )
    until(lambda: returned(work, task_id), 10)
    after(work, task_id)


def test_an_executing_task_that_holds_the_database_is_really_gone(work: Place) -> None:
    row = work.save("WorkItem", at=local(-1), status="locks")
    [entry] = work.entries("tasks.WorkLocks", row.id)
    pid = pid_of(work, f"locking-{row.id}")
    began = time.monotonic()
    assert work.svc.forcedEnd(entry.task_id)["status"] == "ended"
    assert gone(pid)
    print(
        f"forcedEnd of one that holds SQLite's lock → gone: {time.monotonic() - began:.2f} s"
    )
    assert len(returned(work, entry.task_id)) == 1
    assert work.sql("SELECT done FROM workitem WHERE id = :id", id=row.id) == 0


def test_one_in_c_code_is_ended_in_prefect_too_though_it_did_not_answer(
    work: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed from here, before Prefect has heard of its end: not Crashed, and `on_cancellation` is what follows."""
    (work.app.path / "held").unlink(missing_ok=True)
    task_id = work.svc.createTimerTask(
        "tasks.WorkBusy",
        clock.now(),
        "customFunc",
        "tasks.WorkType",
        {"name": "held", "held": True},
    )["taskId"]
    pid = pid_of(work, "held")
    monkeypatch.setattr(end, "propose_end", lambda *_: False)
    assert work.svc.forcedEnd(task_id)["changed"] is True
    assert gone(pid)
    run = work.state(task_id, "Cancelled", "Crashed", seconds=20)
    assert (run.name, run.message) == ("Cancelled", "ended: forced end")
    assert len(returned(work, task_id)) == 1


def test_after_return_was_called_once_for_each(
    work: Place, executing: dict[str, tuple[str, int]]
) -> None:
    assert {
        what: len(returned(work, task_id)) for what, (task_id, _) in executing.items()
    } == dict.fromkeys(executing, 1)


def ends(
    work: Place, task_id: str, pid: int, end: Callable[[], dict[str, object]]
) -> float:
    """End an executing task and look at all that must be true then; seconds until its process was gone."""
    assert not gone(pid)
    began = time.monotonic()
    answer = end()
    took = time.monotonic() - began
    assert gone(pid), "forcedEnd returns when the process is gone"
    assert answer == {
        "taskId": task_id,
        "previousStatus": "executing",
        "status": "ended",
        "changed": True,
    }
    entry = work.entry(task_id)
    assert (entry.status, entry.outcome, entry.message) == (
        "ended",
        "forced",
        "ended: forced end",
    )
    assert entry.flow_run_id
    assert (
        work.state(entry.flow_run_id, "Cancelled", seconds=10).message
        == "ended: forced end"
    )
    assert len(returned(work, task_id)) == 1
    after(work, task_id)
    return took


def after(work: Place, task_id: str) -> None:
    """Nothing of it was kept, and a repeating row task has its next occurrence, on its way to Prefect."""
    entry = work.entry(task_id)
    if not entry.row_key:
        return
    assert work.sql("SELECT done FROM workitem WHERE id = :id", id=entry.row_key) == 0
    due = entry.due + timedelta(days=1)
    later = until(
        lambda: [
            e
            for e in work.entries(entry.template, entry.row_key)
            if e.due == due and e.flow_run_id
        ],
        10,
    )
    assert later[0].status == "pending"
