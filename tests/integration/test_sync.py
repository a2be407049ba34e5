"""Rows become flow runs: named, tagged, once, and what happens to either reaches the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from place import Place, model, rows, scheduled, until
from sqlalchemy import update

from jittask_prefect.ledger import transitions
from jittask_prefect.ledger.tables import OPEN, entries
from jittask_prefect.schedule import clock
from jittask_prefect.server.service import ServiceInfo

NAME = "tasks.SyncReminder"
INSERT = "INSERT INTO syncitem (id, at, status, done) VALUES (:id, :at, 'active', 0)"


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: ServiceInfo
) -> Iterator[Place]:
    elements = {
        "models/SyncItem": model("SyncItem", rowLabel="status"),
        "tasks/SyncReminder": rows("SyncItem", filter="Q('status', '=', 'active')"),
        "tasks/SyncDaily": scheduled("def customFunc():\n    return 1\n", enable=0),
    }
    made = Place.build(tmp_path_factory.mktemp("sync"), elements, name="syncing")
    made.deploy()
    yield made
    made.remove()


def hence(hours: float) -> datetime:
    return (datetime.now(UTC) + timedelta(hours=hours)).replace(
        second=0, microsecond=0, tzinfo=None
    )


def insert(place: Place, row: int, at: datetime) -> None:
    """A row that only the sync can find: raw SQL calls no hook."""
    place.sql(INSERT, id=row, at=at.isoformat(sep=" ") + ".000000")


def live(place: Place, row: int) -> list[dict[str, object]]:
    """A row's flow runs that are still to start."""
    return [
        r
        for r in place.runs(NAME, "SCHEDULED")
        if f"syncing.models.SyncItem:{row}" in r.tags
    ]


def test_a_row_becomes_a_named_and_tagged_run_once(place: Place) -> None:
    at = hence(3)
    insert(place, 42, at)
    report = place.sync()
    assert (
        report
        and [(a.action, a.row) for a in report.actions] == [("create", "42")]
        and report.created == 1
    )
    [run] = live(place, 42)
    assert run.name == f"Rows · active (SyncItem 42) · {at:%Y-%m-%d %H:%M}"
    assert {
        f"syncing.{name}" for name in (NAME, "models.SyncItem", "models.SyncItem:42")
    } <= set(run.tags)
    assert run.expected_start_time == at.replace(tzinfo=UTC)
    assert run.parameters == {
        "template": NAME,
        "taskId": place.entries(NAME, 42)[0].task_id,
    }

    for _ in range(2):
        report = place.sync()
        assert report and report.created == report.ended == 0 and report.actions == []
    assert [r.id for r in live(place, 42)] == [run.id]


def test_a_date_that_moved_cancels_the_old_run_and_makes_the_new(place: Place) -> None:
    insert(place, 43, hence(4))
    place.sync()
    [old] = live(place, 43)
    earlier = hence(2)
    place.sql(
        "UPDATE syncitem SET at = :at WHERE id = 43",
        at=earlier.isoformat(sep=" ") + ".000000",
    )
    place.sync()
    [new] = live(place, 43)
    assert (
        new.id != old.id
        and new.name == f"Rows · active (SyncItem 43) · {earlier:%Y-%m-%d %H:%M}"
    )
    assert place.state(old.id, "Cancelled").message.startswith("superseded: now due")


def test_a_row_that_was_deleted_in_a_session_loses_its_run(place: Place) -> None:
    from sqlmodel import Session

    insert(place, 44, hence(4))
    place.sync()
    [run] = live(place, 44)
    with Session(place.app.engine()) as session:
        session.delete(session.get_one(place.app.getElement("models.SyncItem"), 44))
        session.commit()
    place.state(run.id, "Cancelled")
    place.sync()
    assert [e.status for e in place.entries(NAME, 44)] == ["ended"] and live(
        place, 44
    ) == []


def test_a_run_cancelled_in_prefect_closes_the_task_until_the_date_changes(
    place: Place,
) -> None:
    insert(place, 45, hence(4))
    place.sync()
    [run] = live(place, 45)
    place.api.set_state(run.id, "CANCELLING")  # as the UI's Cancel does
    place.state(run.id, "Cancelled")
    place.sync()
    [entry] = place.entries(NAME, 45)
    assert (entry.status, entry.outcome, entry.message) == (
        "ended",
        "forced",
        "ended: cancelled in Prefect",
    )
    place.sync()
    assert live(place, 45) == []
    place.sql(
        "UPDATE syncitem SET at = :at WHERE id = 45",
        at=hence(5).isoformat(sep=" ") + ".000000",
    )
    place.sync()
    assert len(live(place, 45)) == 1


def test_a_run_that_somebody_deleted_is_made_again(place: Place) -> None:
    insert(place, 46, hence(4))
    place.sync()
    [run] = live(place, 46)
    place.api.call("DELETE", f"/flow_runs/{run.id}")
    place.sync()
    [again] = live(place, 46)
    assert again.id != run.id and again.name == run.name
    assert [e.flow_run_id for e in place.entries(NAME, 46)] == [again.id]


# A sync that stops inside the hand-over: the lease is taken, the ledger is written, Prefect knows nothing yet.
STUCK = """
import sys, time
from pathlib import Path
from jittask_prefect import App
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.running import sync_flow
from jittask_prefect.schedule import clock
def stop(*args, **keys):
    print("stopped", flush=True)
    time.sleep(300)
PrefectApi.create_run = stop
sync_flow.run_sync(App(Path(sys.argv[1])), clock.now())
"""


def test_a_sync_killed_in_the_middle_is_followed_by_one_that_works(
    place: Place,
) -> None:
    insert(place, 47, hence(4))
    command = [sys.executable, "-c", STUCK, str(place.app.path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert process.stdout and process.stdout.readline() == "stopped\n"
        assert place.sync() is None, "one at a time: the lease is held"
        os.kill(process.pid, signal.SIGKILL)
    assert live(place, 47) == []
    report = place.sync(clock.now() + timedelta(seconds=90))
    assert report and report.created == 1
    assert len(live(place, 47)) == len(place.entries(NAME, 47)) == 1


def test_a_sync_that_stood_still_too_long_does_not_go_on_beside_the_next(
    place: Place,
) -> None:
    insert(place, 48, hence(4))
    code = STUCK.replace(
        "time.sleep(300)", "sys.stdin.readline(); return made(*args, **keys)"
    )
    code = code.replace("def stop", "made = PrefectApi.create_run\ndef stop")
    command = [sys.executable, "-c", code, str(place.app.path)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    ) as process:
        assert (
            process.stdin
            and process.stdout
            and process.stdout.readline() == "stopped\n"
        )
        assert place.sync(clock.now() + timedelta(seconds=90)) is not None
        process.stdin.write("\n")
        process.stdin.flush()
        process.wait(30)
    assert len(live(place, 48)) == 1, (
        "the key is the same, so the second call made nothing"
    )
    assert len(place.entries(NAME, 48)) == 1


def test_with_prefect_away_the_plan_is_kept_and_the_next_sync_hands_it_over(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(place, 49, hence(4))
    done = place.jittask("sync", "--dry-run", "--json")
    assert done.returncode == 0 and '"row": "49"' in done.stdout, done.stderr
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    done = place.jittask("sync")
    assert (
        done.returncode == 1
        and "http://127.0.0.1:9/api" in done.stderr
        and "jittask up" in done.stderr
    )
    monkeypatch.undo()
    done = place.jittask("sync")
    assert done.returncode == 0 and "Flow runs: 1 made" in done.stdout, (
        done.stdout + done.stderr
    )
    assert len(live(place, 49)) == 1


# Runs that a worker has taken, and that nobody ends


def taken(place: Place) -> tuple[int, str]:
    """A new row, and its flow run, which a worker took just now and has not begun."""
    row = int(place.sql("SELECT coalesce(max(id), 0) + 1 FROM syncitem"))
    insert(place, row, hence(4))
    place.sync()
    [run] = live(place, row)
    assert place.api.set_state(run.id, "PENDING") == "PENDING"
    return row, run.id


def later(seconds: float) -> datetime:
    return clock.now() + timedelta(seconds=seconds)


def test_a_run_that_a_worker_had_taken_is_cancelled_with_the_reason_when_its_row_moves(
    place: Place,
) -> None:
    row, run = taken(place)
    place.sql(
        "UPDATE syncitem SET at = :at WHERE id = :id",
        id=row,
        at=hence(2).isoformat(sep=" ") + ".000000",
    )
    report = place.sync()
    assert report and report.ended == 1
    state = place.state(run, "Cancelled", seconds=5)
    assert state.message.startswith("superseded: now due")
    assert place.sync(later(16)) and place.state(run, "Cancelled", seconds=5) == state


def test_a_forced_end_cancels_a_run_that_a_worker_had_taken(place: Place) -> None:
    row, run = taken(place)
    [entry] = place.entries(NAME, row)
    assert place.svc.forcedEnd(entry.task_id)["changed"] is True
    assert place.state(run, "Cancelled", seconds=5).message == "ended: forced end"


def test_what_somebody_cancelled_in_prefect_before_it_began_ends_with_its_task(
    place: Place,
) -> None:
    row, run = taken(place)
    assert (
        place.api.set_state(run, "CANCELLING") == "CANCELLING"
    )  # as the UI's Cancel does
    report = place.sync(later(10))
    assert report and report.ended == 0 and place.state(run, "Cancelling"), (
        "a worker may still end it"
    )
    report = place.sync(later(16))
    assert report and report.ended == 1
    assert (
        place.state(run, "Cancelled", seconds=5).message
        == "ended: cancelled in Prefect"
    )
    [entry] = place.entries(NAME, row)
    assert (entry.status, entry.outcome, entry.message) == (
        "ended",
        "forced",
        "ended: cancelled in Prefect",
    )
    report = place.sync(later(80))
    assert report and report.ended == report.created == 0 and live(place, row) == []


def test_what_is_being_cancelled_keeps_its_reason_and_what_executes_is_its_workers(
    place: Place,
) -> None:
    (_, left), (row, alive) = taken(place), taken(place)
    [entry] = place.entries(NAME, row)
    with place.app.engine().begin() as connection:
        assert transitions.claim(
            connection, entry.task_id, "somebody", alive, clock.now(), 60
        )
    for run in (left, alive):
        assert (
            place.api.set_state(run, "CANCELLING", message="superseded: by hand")
            == "CANCELLING"
        )
    report = place.sync(later(20))
    assert report and report.ended == 1
    assert place.state(left, "Cancelled", seconds=5).message == "superseded: by hand"
    assert place.api.run(alive).state_name == "Cancelling"  # type: ignore[union-attr]
    with place.app.engine().begin() as connection:
        transitions.end(
            connection,
            entry.task_id,
            outcome="forced",
            message="ended: x",
            now=clock.now(),
            within=OPEN,
        )
        connection.execute(
            update(entries)
            .where(entries.c.task_id == entry.task_id)
            .values(dirty=False)
        )
    report = place.sync(later(20))
    assert report and report.ended == 1 and place.state(alive, "Cancelled", seconds=5)


def test_a_run_of_a_schedule_that_nobody_ends_is_cancelled(place: Place) -> None:
    of = place.deployments()["tasks.SyncDaily"]["id"]
    made = place.api.create_run(
        of,
        key="a",
        name="a",
        due=later(7200),
        tags=[],
        parameters={"template": "tasks.SyncDaily"},
    )
    place.api.set_state(made.id, "PENDING")
    assert place.api.set_state(made.id, "CANCELLING") == "CANCELLING"
    place.sync(later(16))
    assert (
        place.state(made.id, "Cancelled", seconds=5).message
        == "ended: cancelled in Prefect"
    )


# Model events


def test_a_save_in_a_plain_session_is_in_prefect_within_five_seconds_without_a_sync(
    place: Place,
) -> None:
    at = hence(6)
    began = clock.now()
    row = place.save("SyncItem", at=at)
    assert (clock.now() - began).total_seconds() < 0.5
    [run] = until(lambda: live(place, row.id), 5)
    took = (clock.now() - began).total_seconds()
    print(f"save → visible in Prefect: {took:.2f} s")
    assert run.name == f"Rows · active (SyncItem {row.id}) · {at:%Y-%m-%d %H:%M}"


def test_with_prefect_away_a_save_succeeds_at_once_and_the_next_sync_makes_the_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    began = clock.now()
    row = place.save("SyncItem", at=hence(6))
    assert (clock.now() - began).total_seconds() < 0.5
    [entry] = place.entries(NAME, row.id)
    assert entry.dirty and entry.flow_run_id is None
    monkeypatch.undo()
    place.sync()  # a hand-over that was still trying may have been faster; either way there is one
    assert len(live(place, row.id)) == 1


def test_a_save_that_is_rolled_back_leaves_nothing(place: Place) -> None:
    from sqlmodel import Session

    with Session(place.app.engine()) as session:
        row = place.app.getElement("models.SyncItem")(at=hence(6))
        session.add(row)
        session.flush()
        key = row.id
        session.rollback()
    assert place.entries(NAME, key) == [] and live(place, key) == []
