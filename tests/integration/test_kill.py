"""kill -9 of a sync and of an execution at each named failpoint: the next one leaves everything as without the kill."""

from __future__ import annotations

import itertools
import multiprocessing
import signal
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from failpoints import EXECUTION, SYNC, absent
from killed import NAME, one_run, one_sync
from place import Place, iso, model, rows
from sqlalchemy import text

from jittask_prefect.ledger import transitions
from jittask_prefect.rows.follow import follow_row
from jittask_prefect.server.service import ServiceInfo

NOW = iso("2037-03-16 08:00")
LATER = NOW + timedelta(seconds=26)  # a dead process's leases have run out
MUCH_LATER = NOW + timedelta(minutes=10)
BASES = itertools.count(100, 10)  # a test that is run again has rows of its own
# A process that has imported everything and forks: a kill costs no import of Prefect.
SERVER = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: ServiceInfo
) -> Iterator[Place]:
    SERVER.set_forkserver_preload(
        ["jittask_prefect.running.flows", "jittask_prefect.prefect_api.client"]
    )
    elements = {
        "models/KillItem": model("KillItem"),
        "tasks/KillReminder": rows("KillItem", filter="Q(status='active')", retries=1),
    }
    made = Place.build(
        tmp_path_factory.mktemp("kill") / "app", elements, name="killing"
    )
    made.deploy()
    yield made
    made.remove()


def in_process(work: Any, place: Place, *args: Any) -> int | None:
    process = SERVER.Process(target=work, args=(place.app.path, place.api.url, *args))
    process.start()
    process.join(60)
    return process.exitcode


def prepare(place: Place, base: int) -> None:
    """Six rows for which the next sync has something of each kind to do."""
    for key in range(base, base + 5):
        place.sql(
            "INSERT INTO killitem (id, at, status, done) VALUES (:id, '2037-03-16 09:00:00.000000', 'active', 0)",
            id=key,
        )
    early = NOW - timedelta(minutes=2)
    place.sync(early - timedelta(minutes=1))
    moved, gone, deleted, cancelled, dead = range(base, base + 5)
    place.sql(
        "UPDATE killitem SET at = '2037-03-16 08:30:00.000000' WHERE id = :id", id=moved
    )
    with (
        place.app.engine().begin() as connection
    ):  # as the model events do, without their background thread
        connection.execute(text("DELETE FROM killitem WHERE id = :id"), {"id": gone})
        follow_row(
            place.app, connection, "models.KillItem", str(gone), early, ended=True
        )
    runs = {key: place.entries(NAME, key)[0] for key in (deleted, cancelled, dead)}
    place.api.delete_run(str(runs[deleted].flow_run_id))
    place.api.set_state(str(runs[cancelled].flow_run_id), "CANCELLING")
    with place.app.engine().begin() as connection:  # a worker that died
        transitions.claim(
            connection,
            runs[dead].task_id,
            "somewhere:1:x",
            str(runs[dead].flow_run_id),
            early,
            25,
        )
    place.sql(
        "INSERT INTO killitem (id, at, status, done) VALUES (:id, '2037-03-16 08:10:00.000000', 'active', 0)",
        id=base + 5,
    )


def state(place: Place, base: int) -> list[str]:
    """Ledger and Prefect, as `row due #generation outcome: states of its runs`."""
    found = []
    for key in range(base, base + 6):
        for entry in place.entries(NAME, key):
            assert not entry.dirty
            run = place.api.run(str(entry.flow_run_id))
            now = (
                f"{entry.due:%H:%M} #{entry.generation} {entry.outcome or entry.status}"
            )
            found.append(f"{key - base} {now}: {run.state_type if run else None}")
    return found


def waiting(place: Place, base: int) -> int:
    """How many flow runs of these rows are still to start."""
    tags = {f"killing.models.KillItem:{key}" for key in range(base, base + 6)}
    return len([r for r in place.runs(NAME, "SCHEDULED") if tags & set(r.tags)])


EXPECTED = [
    "0 09:00 #1 superseded: CANCELLED",
    "0 08:30 #2 pending: SCHEDULED",
    "1 09:00 #1 superseded: CANCELLED",
    "2 09:00 #1 pending: SCHEDULED",
    "3 09:00 #1 forced: CANCELLED",
    "4 09:00 #1 pending: SCHEDULED",
    "5 08:10 #1 pending: SCHEDULED",
]


def test_the_table_of_failpoints_is_of_this_package(place: Place) -> None:
    assert absent(place.api) == []


@pytest.mark.parametrize("point", [None, *SYNC])
def test_a_sync_that_is_killed(place: Place, point: str | None) -> None:
    base = next(BASES)
    prepare(place, base)
    if point is not None:
        assert in_process(one_sync, place, NOW, point, 1) == -signal.SIGKILL
    assert in_process(one_sync, place, LATER, None, 1) == 0
    assert state(place, base) == EXPECTED
    assert waiting(place, base) == 4


@pytest.mark.parametrize("point", [None, *EXECUTION])
def test_an_execution_that_is_killed(place: Place, point: str | None) -> None:
    key = next(BASES)
    place.sql(
        "INSERT INTO killitem (id, at, status, done) VALUES (:id, '2037-03-16 08:00:00.000000', 'active', 0)",
        id=key,
    )
    place.sync(NOW)
    [entry] = place.entries(NAME, key)
    code = in_process(one_run, place, NOW, entry.task_id, str(entry.flow_run_id), point)
    assert code == (0 if point is None else -signal.SIGKILL)
    assert in_process(one_sync, place, MUCH_LATER, None, 1) == 0
    [entry] = place.entries(NAME, key)
    if entry.status == "pending":
        assert entry.attempt <= 1
        run = place.api.run(str(entry.flow_run_id))
        assert run and run.state_type == "SCHEDULED", "nobody will begin it"
        assert in_process(one_run, place, MUCH_LATER, entry.task_id, run.id, None) == 0
    [entry] = place.entries(NAME, key)
    assert (
        entry.status,
        place.sql("SELECT done FROM killitem WHERE id = :id", id=key),
    ) == ("completed", 1)
