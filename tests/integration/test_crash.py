"""kill -9 in the middle of a task: it is an error, or runs again where it has retries; its effect happens once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from place import Place, model, process_pool, rows, until, worker

from jittask_prefect.running.lease import LEASE_SECONDS
from jittask_prefect.running.sync_flow import run_sync
from jittask_prefect.schedule import clock
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.service import ServiceInfo

# The first attempt of a row never ends by itself; what comes later does at once.
INNER = """
import os, time
def customFunc(row):
    row.done += 1
    tries = app.path / f"tries-{row.id}"
    first = not tries.exists()
    with open(tries, "a") as file:
        file.write(f"{os.getpid()}\\n")
    if first:
        time.sleep(120)
"""
TYPE = """
from jittask_prefect import DateFieldType
class CrashType(DateFieldType):
    def afterReturn(self, task):
        with open(app.path / "returned.txt", "a") as file:
            file.write(f"{task.taskId} {task.status}\\n")
"""


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: ServiceInfo
) -> Iterator[Place]:
    once = rows("CrashItem", INNER, filter="Q(status='once')")
    again = rows("CrashItem", INNER, filter="Q(status='again')", retries=1)
    for element in (once, again):
        element["e.json"]["type"] = "tasks.CrashType"  # type: ignore[index]
    elements = {
        "models/CrashItem": model("CrashItem"),
        "tasks/CrashType": {
            "e.json": {"type": "tasks.Meta", "title": "Crash"},
            "type.py": TYPE,
        },
        "tasks/CrashOnce": once,
        "tasks/CrashAgain": again,
    }
    made = Place.build(
        tmp_path_factory.mktemp("crash") / "app", elements, name="crashing"
    )
    with (
        process_pool()
    ):  # Prefect's own worker runs the same deployments; test_worker.py has ours
        made.deploy()
        yield made
    made.remove()


@pytest.fixture(scope="module")
def home(place: Place) -> Path:
    return place.app.path.parent / ".jittask"


def begin(place: Place, status: str) -> tuple[int, str]:
    """A row whose task is due now: the row's key, the task's id."""
    at = (datetime.now(UTC) - timedelta(seconds=1)).replace(tzinfo=None)
    row = place.save("CrashItem", at=at, status=status)
    name = {"once": "tasks.CrashOnce", "again": "tasks.CrashAgain"}[status]
    [entry] = place.entries(name, row.id)
    return row.id, entry.task_id


def pid(place: Place, row: int) -> int:
    tries = place.app.path / f"tries-{row}"
    return int(
        until(
            lambda: tries.exists() and tries.read_text(),
            90,
            what=f"row {row} executing",
        ).split()[0]
    )


def returned(place: Place, task_id: str) -> list[str]:
    file = place.app.path / "returned.txt"
    return [
        line
        for line in (file.read_text().splitlines() if file.exists() else [])
        if line.startswith(task_id)
    ]


def done(place: Place, row: int) -> object:
    return place.sql("SELECT done FROM crashitem WHERE id = :id", id=row)


def kill(here: Embedded) -> None:
    """kill -9 of the worker and of all that came from it, as when the machine loses power."""
    running = here.worker_running()
    assert running
    family = here.worker.family(running)
    while found := family.members():
        for one in found:
            os.kill(one.pid, signal.SIGKILL)


def test_the_process_of_a_task_was_killed_and_the_worker_says_so(
    place: Place, home: Path
) -> None:
    with worker(home, cwd=home.parent):
        row, task = begin(place, "once")
        os.kill(pid(place, row), signal.SIGKILL)
        entry = place.ended(task, 30)
        assert (entry.status, entry.outcome, entry.message) == (
            "error",
            "died",
            "error: worker died",
        )
        assert until(lambda: returned(place, task), 10) == [f"{task} error"]
        assert done(place, row) == 0


def test_the_worker_and_its_tasks_were_killed(place: Place, home: Path) -> None:
    with worker(home, cwd=home.parent) as here:
        once, task_once = begin(place, "once")
        again, task_again = begin(place, "again")
        for row in (once, again):
            pid(place, row)
        before = clock.now()
        kill(here)

    # A sync of the worker's may have died too: its lease is the matter of test_sync.py.
    place.sql("UPDATE jittask_state SET value = '' WHERE name = 'sync'")
    report = run_sync(place.app, before)
    assert report and report.died == [], "their leases hold still"
    assert (
        place.entry(task_once).status == place.entry(task_again).status == "executing"
    )

    report = run_sync(place.app, clock.now() + timedelta(seconds=LEASE_SECONDS + 1))
    assert report and [entry.task_id for _, entry in report.died] == [task_once]
    entry = place.entry(task_once)
    assert (entry.status, entry.message) == ("error", "error: worker died")
    assert (
        entry.flow_run_id
        and place.state(entry.flow_run_id, "Crashed").message == "error: worker died"
    )
    assert returned(place, task_once) == [f"{task_once} error"]

    waiting = place.entry(task_again)
    assert waiting.status == "pending" and waiting.flow_run_id
    assert (
        len(
            [
                r
                for r in place.runs("tasks.CrashAgain")
                if f"crashing.models.CrashItem:{again}" in r.tags
            ]
        )
        == 2
    )
    with worker(home, cwd=home.parent):
        entry = place.ended(task_again, 60)
        assert (entry.status, entry.attempt) == ("completed", 2), entry.message
        place.state(str(entry.flow_run_id), "Completed")
    assert (done(place, once), done(place, again)) == (0, 1), (
        "the effect: never, and once"
    )
    assert returned(place, task_again) == [f"{task_again} completed"]
