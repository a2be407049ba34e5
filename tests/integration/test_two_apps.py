"""Two apps with equal element names on one server and one worker: with one database, with two, and with one table."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from place import Place, rows, scheduled, until
from sqlalchemy import text

from jittask_prefect import OtherDatabase
from jittask_prefect.deploying import deployments, serving
from jittask_prefect.elements.app import App
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.schedule import clock
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.service import ServiceInfo
from jittask_prefect.testing import build_app

WHO = """
import os
from pathlib import Path
def customFunc(name="plain"):
    log.info("%s", name)
    said = [os.environ["JITTASK_NAME"], os.environ["JITTASK_APP"], app.name, name]
    return {"who": said, "plain": "JITTASK_DATABASE_URL" in os.environ}
"""
TASK = "tasks.Who"


def built(folder: Path, name: str, database: str) -> Place:
    elements = {"tasks/Who": scheduled(WHO)}
    return Place.build(folder, elements, name=name, database=database)


@pytest.fixture(scope="module", params=["one database", "two databases"])
def pair(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    prefect_server: ServiceInfo,
) -> Iterator[tuple[Place, Place]]:
    home = tmp_path_factory.mktemp("apps")
    one = f"sqlite:///{home / 'one.db'}"
    two = one if request.param == "one database" else f"sqlite:///{home / 'two.db'}"
    left, right = built(home / "left", "left", one), built(home / "right", "right", two)
    left.deploy()
    right.deploy()
    yield left, right
    left.remove()
    right.remove()


# The team's own module: one class, one table, and a model of both apps.
BILLS = """
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class SharedBill(SQLModel, table=True):
    __tablename__ = "shared_bills"
    id: int | None = Field(default=None, primary_key=True)
    at: NaiveDatetime
    left_runs: int = 0
    right_runs: int = 0
"""
SAVE = """
from datetime import UTC, datetime, timedelta
from jittask_prefect import app
from shared_bills import SharedBill
app.getElement("models.SharedBill")
soon = datetime.now(UTC) + timedelta(seconds=SECONDS)
with app.session() as session:
    session.add(SharedBill(id=1, at=soon.replace(tzinfo=None)))
    session.commit()
"""
BILL = {
    "e.json": {"type": "models.NormalType", "title": "Bill"},
    "model.py": "from shared_bills import SharedBill\n",
}


@pytest.fixture
def sharers(
    tmp_path: Path, prefect_server: ServiceInfo, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Place, Place]]:
    """Two apps with a task on one class, in one database."""
    (tmp_path / "shared_bills.py").write_text(BILLS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made = []
    for name in ("left", "right"):
        code = f"def customFunc(row):\n    row.{name}_runs += 1\n"
        elements = {"models/SharedBill": BILL, "tasks/Pay": rows("SharedBill", code)}
        database = f"sqlite:///{tmp_path / 'both.db'}"
        place = Place.build(tmp_path / name, elements, name=name, database=database)
        place.deploy()
        made.append(place)
    yield made[0], made[1]
    for place in made:
        place.remove()
    sys.modules.pop("shared_bills", None)


def saved_by(place: Place, seconds: int) -> None:
    """Save a bill in a process that knows this app only."""
    subprocess.run(
        [sys.executable, "-c", SAVE.replace("SECONDS", str(seconds))],
        env={**os.environ, "JITTASK_APP": str(place.app.path)},
        cwd=place.app.path,
        check=True,
        timeout=60,
    )


def runs_of(place: Place) -> tuple[int, int]:
    """How often the function of each app has run for the bill."""
    question = text("SELECT left_runs, right_runs FROM shared_bills")
    with place.app.engine().connect() as connection:
        left, right = connection.execute(question).one()
    return left, right


def statuses(place: Place) -> list[str]:
    return [str(r["status"]) for r in place.svc.getTaskRecords("tasks.Pay")]


def test_two_apps_have_tasks_on_one_table(
    sharers: tuple[Place, Place], tmp_path: Path
) -> None:
    left, right = sharers
    saved_by(left, 20)
    assert statuses(left) == ["pending"]  # planned by the save, before any sync
    assert statuses(right) == []
    right.sync()
    assert statuses(left) == statuses(right) == ["pending"]

    here = worker_of([left, right], tmp_path / "both" / ".jittask")
    try:
        done = lambda: statuses(left) == statuses(right) == ["completed"]  # noqa: E731
        until(done, 120, what="a task has not completed")
    finally:
        here.stop()

    for place in (left, right, left):
        place.sync()
    assert statuses(left) == statuses(right) == ["completed"]
    assert runs_of(left) == (1, 1)


def ask(place: Place, name: str, ahead: float = 0) -> str:
    due = clock.now() + timedelta(seconds=ahead)
    made = place.svc.createTimerTask(
        TASK, due, "customFunc", "tasks.NormalType", {"name": name}
    )
    return str(made["taskId"])


def ended(place: Place, run_id: str) -> FlowRun:
    def final() -> FlowRun | None:
        run = place.api.run(run_id)
        return run if run is not None and run.is_final else None

    found = until(final, 90, what=f"run {run_id} has not ended")
    assert found is not None
    return found


def worker_of(places: list[Place], home: Path) -> Embedded:
    """A worker as `jittask worker --app A --app B` starts one."""
    found = serving.prepare([place.app for place in places])
    here = Embedded(home)
    here.start_worker(
        found.url,
        found.pool,
        cwd=home.parent,
        env={**found.environment, "JITTASK_NAME": "worker", "JITTASK_APP": "/nowhere"},
        worker_type=deployments.POOL_TYPE,
        limit=found.limit,
        queues=found.queues,
    )
    return here


def test_each_app_has_its_own(pair: tuple[Place, Place], tmp_path: Path) -> None:
    left, right = pair
    names = set(left.deployments())
    assert names == set(right.deployments()) and TASK in names
    ids = [{d["id"] for d in place.deployments().values()} for place in pair]
    assert not ids[0] & ids[1]
    assert left.deployments()[TASK]["work_queue_name"] == "left"

    # A worker of one app takes only its own; the sync of each leaves the other's tasks alone.
    waiting = ask(right, "waits")
    here = worker_of([left], tmp_path / "one" / ".jittask")
    try:
        assert ended(left, ask(left, "mine")).state_type == "COMPLETED"
        for place in (left, right, left):
            place.sync()
        assert not left.api.run(waiting).start_time  # type: ignore[union-attr]
    finally:
        here.stop()

    # A worker of both: each run in a process of its own app.
    here = worker_of([left, right], tmp_path / "both" / ".jittask")
    try:
        told = {}
        for place, run in ((left, ask(left, "a")), (right, waiting)):
            assert ended(place, run).state_type == "COMPLETED"
            [record] = [r for r in place.svc.getTaskRecords() if r["taskId"] == run]
            told[place.app.name] = record["result"]
        assert told["left"]["who"] == ["left", str(left.app.path), "left", "a"]
        assert told["right"]["who"] == ["right", str(right.app.path), "right", "waits"]
    finally:
        here.stop()


def test_records_and_ends_of_one_do_not_touch_the_other(
    pair: tuple[Place, Place],
) -> None:
    left, right = pair
    mine, other = ask(left, "end me", 3600), ask(right, "stay", 3600)
    records = {r["taskId"] for r in left.svc.getTaskRecords(TASK, "pending")}
    assert mine in records and other not in records
    with pytest.raises(LookupError):
        left.svc.forcedEnd(other)
    assert left.svc.forcedEnd(mine)["changed"]
    for place in (left, right, left):
        place.sync()
    assert left.api.run(mine).state_type == "CANCELLED"  # type: ignore[union-attr]
    assert right.api.run(other).state_type == "SCHEDULED"  # type: ignore[union-attr]
    [kept] = [r for r in right.svc.getTaskRecords() if r["taskId"] == other]
    assert kept["status"] == "pending"
    right.svc.forcedEnd(other)


def test_another_database_under_the_name_changes_nothing(
    pair: tuple[Place, Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, _ = pair
    stamps = {name: d["updated"] for name, d in left.deployments().items()}
    copy = build_app(tmp_path / "copy", {"tasks/Who": scheduled(WHO)}, name="left")
    staging = Place(copy, left.api)
    with pytest.raises(OtherDatabase, match="JITTASK_NAME=left-staging"):
        staging.deploy()
    with pytest.raises(OtherDatabase, match="--take-over"):
        serving.prepare([copy])
    assert {name: d["updated"] for name, d in left.deployments().items()} == stamps
    monkeypatch.setenv("JITTASK_NAME", "left-staging")
    staging = Place(App(copy.path), left.api)
    staging.deploy()
    kept = staging.deployments()[TASK]["job_variables"]["env"]
    assert kept == {"JITTASK_APP": str(copy.path), "JITTASK_NAME": "left-staging"}
    staging.remove()
    left.api.call("DELETE", "/variables/name/jittask_left-staging")
