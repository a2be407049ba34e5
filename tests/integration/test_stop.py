"""A worker that is stopped: what is at work goes on for a while, and another worker takes the rest at once."""

from __future__ import annotations

import itertools
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from patience import PATIENCE
from place import Place, model, rows, scheduled, until, worker
from sqlmodel import Session

from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.tables import FINAL
from jittask_prefect.schedule import clock
from jittask_prefect.server.service import ServiceInfo

ROWS = 24
HOMES = itertools.count()
# Says who has a row, and goes on when the test lets it.
WAITS = """
import os, time
def customFunc(row):
    with open(app.path / f"begun-{row.id}", "a") as file:
        file.write(f"{os.getpid()} ")
    row.done += 1
    while not (app.path / "go").exists():
        time.sleep(0.05)
"""
ALONE = """
import os, time
def customFunc():
    (app.path / "alone").write_text(str(os.getpid()))
    while not (app.path / "go").exists():
        time.sleep(0.05)
    return "whole"
"""


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: ServiceInfo
) -> Iterator[Place]:
    elements = {
        "models/StopItem": model("StopItem"),
        "tasks/StopRows": rows("StopItem", WAITS),
        "tasks/StopAlone": scheduled(ALONE),
        "tasks/StopQuick": scheduled("def customFunc():\n    pass\n", rate="1/hour"),
        "tasks/StopRated": scheduled("def customFunc():\n    pass\n", rate="1/hour"),
    }
    folder = tmp_path_factory.mktemp("stop") / "app"
    made = Place.build(folder, elements, name="stopping", maxConcurrency=4)
    assert made.app.check() == []
    made.deploy()
    yield made
    made.remove()


@pytest.fixture
def workers(place: Place) -> Iterator[Any]:
    """Starts workers, each in a home of its own, with a log of its own; the pid and the log of each."""
    for file in [*place.app.path.glob("begun-*"), *place.app.path.glob("go")]:
        file.unlink()
    home = place.app.path.parent

    with ExitStack() as stack:

        def start(seconds: int) -> tuple[int, Path]:
            keys, own = {"JITTASK_DRAIN_SECONDS": str(seconds)}, f"w{next(HOMES)}"
            here = stack.enter_context(worker(home / own, home, limit=4, **keys))
            running = here.worker_running()
            assert running is not None
            log: Path = here.worker.log
            until(lambda: "started!" in log.read_text(), 60, what="started")
            return running.pid, log

        yield start
        (place.app.path / "go").touch()


def ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or (
        psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    )


def begun(place: Place) -> dict[str, list[str]]:
    """The rows that began, each with the processes that had it."""
    files = place.app.path.glob("begun-*")
    return {file.name[6:]: file.read_text().split() for file in files}


def ask(place: Place, name: str) -> str:
    made = place.svc.createTimerTask(
        f"tasks.{name}", clock.now(), "customFunc", "tasks.NormalType", {}
    )
    return str(made["taskId"])


def test_rows_at_work_end_and_the_others_are_anothers_at_once(
    place: Place, workers: Any
) -> None:
    first, _ = workers(60)
    at = clock.now().replace(tzinfo=None) - timedelta(seconds=1)
    item = place.app.getElement("models.StopItem")
    with Session(place.app.engine()) as session:
        session.add_all([item(at=at) for _ in range(ROWS)])
        session.commit()
    place.sync()

    def entries() -> list[Entry]:
        return [e for e in place.entries("tasks.StopRows") if e.status != "ended"]

    until(lambda: len(begun(place)) == 4, 60, what=f"four rows at work: {entries()}")
    at_work = set(begun(place))
    [run_id] = {str(e.flow_run_id) for e in entries()}
    os.kill(first, signal.SIGTERM)
    stopped = time.monotonic()
    left = ROWS - len(at_work)
    until(lambda: sum(e.flow_run_id != run_id for e in entries()) == left, 15)
    print(f"handed over {time.monotonic() - stopped:.2f} s after the signal")
    second, _ = workers(60)
    (place.app.path / "go").touch()
    until(lambda: all(e.status in FINAL for e in entries()), 60)
    print(f"all ended {time.monotonic() - stopped:.2f} s after the signal")
    assert Counter((e.status, e.attempt) for e in entries()) == {("completed", 1): ROWS}
    assert {len(pids) for pids in begun(place).values()} == {1}
    assert place.sql("SELECT count(*) FROM stopitem WHERE done = 1") == ROWS
    until(lambda: ended(first), 20, what="the first worker's end")
    assert not ended(second)
    state = place.state(run_id, "Completed")
    assert state.message.startswith(
        f"{ROWS - left} rows: {ROWS - left} done; {left} go on"
    )


def test_a_task_at_work_ends_and_its_worker_with_it(place: Place, workers: Any) -> None:
    pid, _ = workers(60)
    (place.app.path / "alone").unlink(missing_ok=True)
    task = ask(place, "StopAlone")
    until(lambda: (place.app.path / "alone").exists(), 60)
    os.kill(pid, signal.SIGTERM)
    ready = time.monotonic() + 2  # within its time the task is left alone
    until(lambda: time.monotonic() > ready, 10)
    assert place.entry(task).status == "executing" and not ended(pid)
    (place.app.path / "go").touch()
    assert place.ended(task).status == "completed"
    until(lambda: ended(pid), 10, what="the worker's end")
    place.state(task, "Completed")


@pytest.mark.parametrize(("seconds", "signals"), [(60, 2), (2, 1)])
def test_the_time_and_a_second_signal_end_what_is_at_work(
    place: Place, workers: Any, seconds: int, signals: int
) -> None:
    pid, log = workers(seconds)
    (place.app.path / "alone").unlink(missing_ok=True)
    task = ask(place, "StopAlone")
    until(lambda: (place.app.path / "alone").exists(), 60)
    os.kill(pid, signal.SIGTERM)
    if signals > 1:
        until(lambda: "A second signal ends them" in log.read_text(), 10)
        os.kill(pid, signal.SIGTERM)
    until(lambda: ended(pid), 15, what="the worker's end")
    entry = place.entry(task)
    assert (entry.status, entry.message) == ("error", "error: worker died")
    place.state(task, "Crashed")


def test_a_task_that_waits_for_its_rate_is_another_workers(
    place: Place, workers: Any
) -> None:
    first, _ = workers(60)
    place.ended(ask(place, "StopRated"))
    task = ask(place, "StopRated")
    until(lambda: place.entry(task).status == "executing", 30)
    os.kill(first, signal.SIGTERM)
    until(lambda: ended(first), 20, what="the worker's end")
    entry = place.entry(task)
    assert (entry.status, entry.attempt, entry.dirty) == ("pending", 0, False)
    assert entry.flow_run_id == task
    state = place.state(task, "Scheduled", "Late", seconds=5)
    assert state.type == "SCHEDULED"
    began = time.monotonic()
    workers(1)
    until(lambda: place.entry(task).status == "executing", 20 * PATIENCE)
    print(f"claimed by the second worker {time.monotonic() - began:.2f} s later")
    place.svc.forcedEnd(task)


def test_a_process_that_is_killed_in_the_wait_for_the_rate_costs_nothing(
    place: Place, workers: Any
) -> None:
    workers(60)
    place.ended(ask(place, "StopQuick"))
    task = ask(place, "StopQuick")
    owner = until(lambda: place.entry(task).owner, 30)
    os.kill(int(str(owner).split(":")[1]), signal.SIGKILL)
    killed = time.monotonic()
    until(lambda: place.entry(task).owner not in (None, owner), 30)
    print(f"waits again {time.monotonic() - killed:.2f} s after the kill")
    entry = place.entry(task)
    assert (entry.status, entry.attempt) == ("executing", 1)
    place.svc.forcedEnd(task)


def test_a_worker_with_nothing_at_work_ends_at_once(place: Place, workers: Any) -> None:
    pid, log = workers(60)
    [name] = re.findall(r"Worker '([^']+)' started!", log.read_text())
    assert name in of_pool(place)
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    until(lambda: ended(pid), 10, every=0.02)
    print(f"ended {time.monotonic() - began:.2f} s after the signal")
    assert name not in of_pool(place), "others need not wait for its heartbeats"


def of_pool(place: Place) -> list[str]:
    found = place.api.call("POST", "/work_pools/jittask/workers/filter", {})
    return [one["name"] for one in found]


def test_the_log_of_a_worker_that_ends_tells_of_no_child(
    place: Place, tmp_path: Path
) -> None:
    """Of `jittask up`, which ends all processes of its worker."""
    with worker(tmp_path, place.app.path.parent, limit=4) as here:
        log: Path = here.worker.log
        until(lambda: "started!" in log.read_text(), 60, what="started")
        running = here.worker_running()
        assert running is not None
        family = here.worker.family(running)
        until(lambda: len(family.members()) >= 3, 60, what="a server and a child")
    said = log.read_text()
    assert "stopped!" in said
    for word in ("has ended with", "never retrieved", "Traceback"):
        assert word not in said, said
