"""A worker that dies between Prefect's Pending and the claim: a sync makes another run, and one of them runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from patience import PATIENCE
from place import Place, model, rows, scheduled, until, worker
from sqlalchemy import text

from jittask_prefect import clock
from jittask_prefect.embedded import WORKER_MARK, Embedded, ServerInfo
from jittask_prefect.processes import Family

HOURLY, ROW = "tasks.UnbegunHourly", "tasks.UnbegunRow"
INNER = """
def customFunc(row=None):
    if row is not None:
        row.done += 1
    with open(app.path / "begun.txt", "a") as file:
        file.write(f"{'row' if row else 'hourly'}\\n")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, prefect_server: ServerInfo) -> Iterator[Place]:
    elements = {
        "models/UnbegunItem": model("UnbegunItem"),
        "tasks/UnbegunRow": rows("UnbegunItem", INNER),
        "tasks/UnbegunHourly": scheduled(INNER, repeat={"repeatType": "hour"}, missed={"policy": "all"}),
        "tasks/UnbegunWarm": scheduled("def customFunc():\n    pass\n"),
    }
    made = Place.build(tmp_path_factory.mktemp("unbegun") / "app", elements, name="unbegun")
    made.deploy()
    # The tests sync themselves: a worker with one process would be busy with the schedule's own syncs.
    made.api.change_deployment(made.deployments()["jittask.sync"]["id"], {"paused": True})
    yield made
    made.remove()


def family(here: Embedded) -> list[int]:
    """The worker, and all its processes."""
    running = here.worker_running()
    return [one.pid for one in Family([running.pid], f"{WORKER_MARK}={here.home}").members()] if running else []


def warm(place: Place, here: Embedded) -> list[int]:
    """Have a worker run something; its processes."""
    template = place.app.template("tasks.UnbegunWarm")
    made = place.svc.createTimerTask(template.fullName, clock.now(), "customFunc", template.taskType)
    place.state(str(made["taskId"]), "Completed", seconds=60)
    return family(here)


def later(place: Place, seconds: float) -> None:
    """A sync as of some seconds from now."""
    until(lambda: place.sync(clock.now() + timedelta(seconds=seconds)), 30)


def begun(place: Place) -> list[str]:
    file: Path = place.app.path / "begun.txt"
    return file.read_text().split() if file.exists() else []


def test_a_scheduled_run_goes_on_elsewhere_and_the_machine_that_slept_is_refused(place: Place) -> None:
    home = place.app.path.parent
    with worker(home / ".slept", cwd=home, limit=1) as slept:
        processes = warm(place, slept)
        parent = slept.worker_running()
        assert parent and len(processes) == 2
        for pid in set(processes) - {parent.pid}:
            os.kill(pid, signal.SIGSTOP)
        place.api.fill_schedule(place.deployments()[HOURLY]["id"], clock.now() - timedelta(hours=1), until=clock.now())
        [old] = until(lambda: place.runs(HOURLY, "PENDING"), 60)
        os.kill(parent.pid, signal.SIGSTOP)
        try:
            later(place, 15)
            assert place.entries(HOURLY) == [] and len(place.runs(HOURLY, "CRASHED")) == 0, "it may only be slow"
            later(place, 25)
            [entry] = place.entries(HOURLY)
            assert (entry.task_id, entry.status) == (old["id"], "pending") and entry.flow_run_id != old["id"]
            assert place.state(old["id"], "Crashed")["message"] == "its worker died: the task is tried again"
            with worker(home / ".jittask", cwd=home, limit=1):
                assert place.ended(old["id"]).status == "completed"
        finally:
            for pid in processes:
                os.kill(pid, signal.SIGCONT)
        assert place.state(old["id"], "Cancelled")["message"] == "not run: the task is completed"
    assert begun(place) == ["hourly"]


def test_a_row_whose_run_had_begun_and_was_not_claimed(place: Place) -> None:
    home = place.app.path.parent
    with worker(home / ".jittask", cwd=home, limit=1) as here:
        warm(place, here)
        # Not before the ledger is locked: a fast machine has done it by then.
        at = (datetime.now(UTC) + timedelta(seconds=8 * PATIENCE)).replace(tzinfo=None)
        row = place.save("UnbegunItem", at=at)
        [entry] = place.entries(ROW, row.id)
        later(place, 0)
        with place.app.engine().connect() as connection:
            connection.execute(text("BEGIN IMMEDIATE"))  # nobody can claim
            until(lambda: place.runs(ROW, "RUNNING"), 60)
            while found := family(here):
                for pid in found:
                    os.kill(pid, signal.SIGKILL)
    assert place.entry(entry.task_id).status == "pending"
    later(place, 25)
    with worker(home / ".jittask", cwd=home, limit=1):
        assert place.ended(entry.task_id).status == "completed"
    assert place.sql("SELECT done FROM unbegunitem WHERE id = :id", id=row.id) == 1
    assert begun(place).count("row") == 1
