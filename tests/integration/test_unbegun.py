"""A worker that dies between Prefect's Pending and the claim: a sync makes another run, and one of them runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from place import Place, model, rows, scheduled, until, worker
from sqlalchemy import text

from jittask_prefect.deploying import deployments
from jittask_prefect.running.process_status import process_of
from jittask_prefect.schedule import clock
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.service import ServiceInfo

HOURLY, ROW = "tasks.UnbegunHourly", "tasks.UnbegunRow"
INNER = """
def customFunc(row=None):
    if row is not None:
        row.done += 1
    with open(app.path / "begun.txt", "a") as file:
        file.write(f"{'row' if row else 'hourly'}\\n")
"""


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: ServiceInfo
) -> Iterator[Place]:
    elements = {
        "models/UnbegunItem": model("UnbegunItem"),
        "tasks/UnbegunRow": rows("UnbegunItem", INNER),
        "tasks/UnbegunHourly": scheduled(
            INNER, repeat={"repeatType": "hour"}, missed={"policy": "all"}
        ),
        "tasks/UnbegunWarm": scheduled("def customFunc():\n    pass\n"),
    }
    made = Place.build(
        tmp_path_factory.mktemp("unbegun") / "app", elements, name="unbegun"
    )
    made.deploy()
    # The tests sync themselves: a worker with one process would be busy with the schedule's own syncs.
    made.api.change_deployment(
        made.deployments()["jittask.sync"]["id"], {"paused": True}
    )
    yield made
    made.remove()


def family(here: Embedded) -> list[int]:
    """The worker, and all its processes."""
    running = here.worker_running()
    return [one.pid for one in here.worker.family(running).members()] if running else []


def warm(place: Place, here: Embedded) -> list[int]:
    """Have a worker run something; its processes."""
    template = place.app.template("tasks.UnbegunWarm")
    made = place.svc.createTimerTask(
        template.fullName, clock.now(), "customFunc", template.taskType
    )
    place.state(str(made["taskId"]), "Completed", seconds=60)
    return family(here)


def executing(processes: list[int]) -> int:
    """The process that executes runs, of a worker with one: the parent of none."""
    found = {pid: process_of(pid) for pid in processes}
    parents = {process.parent for process in found.values() if process}
    [child] = set(processes) - parents
    return child


def later(place: Place, seconds: float) -> None:
    """A sync as of some seconds from now."""
    until(lambda: place.sync(clock.now() + timedelta(seconds=seconds)), 30)


@contextmanager
def paused(place: Place) -> Iterator[None]:
    """Meanwhile the pool gives its workers no runs."""
    pool = f"/work_pools/{deployments.POOL}"
    place.api.call("PATCH", pool, {"is_paused": True})
    try:
        yield
    finally:
        place.api.call("PATCH", pool, {"is_paused": False})


def begun(place: Place) -> list[str]:
    file: Path = place.app.path / "begun.txt"
    return file.read_text().split() if file.exists() else []


def test_a_scheduled_run_goes_on_elsewhere_and_the_machine_that_slept_is_refused(
    place: Place,
) -> None:
    home = place.app.path.parent
    with worker(home / ".slept", cwd=home, limit=1) as slept:
        processes = warm(place, slept)
        parent = slept.worker_running()
        assert parent and executing(processes)
        for pid in set(processes) - {parent.pid}:
            os.kill(pid, signal.SIGSTOP)
        place.api.fill_schedule(
            place.deployments()[HOURLY]["id"],
            clock.now() - timedelta(hours=1),
            until=clock.now(),
        )
        [old] = until(lambda: place.runs(HOURLY, "PENDING"), 60, every=0.5)
        os.kill(parent.pid, signal.SIGSTOP)
        try:
            later(place, 15)
            assert (
                place.entries(HOURLY) == [] and len(place.runs(HOURLY, "CRASHED")) == 0
            ), "it may only be slow"
            later(place, 25)
            [entry] = place.entries(HOURLY)
            assert (entry.task_id, entry.status) == (
                old.id,
                "pending",
            ) and entry.flow_run_id != old.id
            assert (
                place.state(old.id, "Crashed").message
                == "its worker died: the task is tried again"
            )
            with worker(home / ".jittask", cwd=home, limit=1):
                assert place.ended(old.id).status == "completed"
        finally:
            for pid in processes:
                os.kill(pid, signal.SIGCONT)
        assert (
            place.state(old.id, "Completed").message
            == "nothing ran: the task was completed before"
        )
    assert begun(place) == ["hourly"]


def due_now(place: Place) -> str:
    """A run that is due and that the ledger does not know, like a schedule's; its id."""
    found = place.deployments()["tasks.UnbegunWarm"]["id"]
    about = {
        "key": str(uuid4()),
        "name": "unknown",
        "tags": [],
        "parameters": {"template": "tasks.UnbegunWarm"},
    }
    return place.api.create_run(found, due=clock.now(), **about).id


def test_a_worker_that_is_stopped_puts_back_what_it_had_taken_and_not_begun(
    place: Place,
) -> None:
    """A normal stop loses no scheduled run: Pending becomes Scheduled again, and the next worker runs it."""
    home = place.app.path.parent
    with worker(home / ".stopped", cwd=home, limit=1) as stopped:
        processes = warm(place, stopped)
        parent = stopped.worker_running()
        assert parent and executing(processes)
        for pid in set(processes) - {parent.pid}:
            os.kill(pid, signal.SIGSTOP)
        run = due_now(place)
        place.state(run, "Pending", seconds=60)
        os.kill(parent.pid, signal.SIGTERM)
        until(
            lambda: (found := process_of(parent.pid)) is None or found.dead,
            30,
            what="the worker's end",
        )
        found = place.api.run(run)
        assert found is not None
        assert (found.state_type, found.message) == (
            "SCHEDULED",
            "put back: its worker ended before it began",
        )
    with worker(home / ".jittask", cwd=home, limit=1):
        place.state(run, "Completed", seconds=60)
        assert place.ended(run).status == "completed"


def test_a_run_that_was_running_and_not_claimed_when_its_worker_was_stopped(
    place: Place,
) -> None:
    """What the process could not tell the ledger in time, the worker has another process tell."""
    home = place.app.path.parent
    with worker(home / ".stopped", cwd=home, limit=1) as stopped:
        processes = warm(place, stopped)
        parent = stopped.worker_running()
        assert parent
        child = executing(processes)
        with place.app.engine().connect() as connection:
            connection.execute(text("BEGIN IMMEDIATE"))  # nobody can claim
            run = due_now(place)
            place.state(run, "Running", seconds=60)
            os.kill(parent.pid, signal.SIGTERM)
            place.state(run, "Crashed", seconds=30)
            until(lambda: child not in family(stopped), 30)
        until(
            lambda: (found := process_of(parent.pid)) is None or found.dead,
            30,
            what="the worker's end",
        )
    entry = place.entry(run)
    assert entry.status == "pending"
    assert entry.flow_run_id != run or entry.dirty  # another run is there, or comes
    place.svc.forcedEnd(run)  # the next test has a worker with one process


def test_a_row_whose_run_had_begun_and_was_not_claimed(place: Place) -> None:
    home = place.app.path.parent
    with worker(home / ".jittask", cwd=home, limit=1) as here:
        warm(place, here)
        with place.app.engine().connect() as connection:
            with paused(place):
                row = place.save("UnbegunItem", at=clock.now().replace(tzinfo=None))
                [entry] = place.entries(ROW, row.id)
                later(place, 0)
                connection.execute(text("BEGIN IMMEDIATE"))  # nobody can claim
            until(lambda: place.runs(ROW, "RUNNING"), 60, every=0.5)
            while found := family(here):
                for pid in found:
                    os.kill(pid, signal.SIGKILL)
    assert place.entry(entry.task_id).status == "pending"
    later(place, 25)
    with worker(home / ".jittask", cwd=home, limit=1):
        assert place.ended(entry.task_id).status == "completed"
    assert place.sql("SELECT done FROM unbegunitem WHERE id = :id", id=row.id) == 1
    assert begun(place).count("row") == 1
