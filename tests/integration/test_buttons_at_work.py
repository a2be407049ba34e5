"""Buttons on runs that are at work or whose worker died, and states that somebody sets by hand; on a real server.

`docs/ui.md` has the table; `test_buttons.py` has the runs that wait or have ended.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from buttons import Buttons
from held_forms import held_forms
from place import Place, until
from sqlalchemy import text
from sqlmodel import Session

from jittask_prefect.dialogs import forms
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.tables import FINAL
from jittask_prefect.schedule import clock

BATCH = "tasks.WorkBatch"
ENDED = ("Completed", "Failed", "Crashed", "Cancelled", "Idle")


@pytest.fixture
def buttons(work: Place) -> Buttons:
    return Buttons(work)


# Batches


def batch(work: Place, *statuses: str) -> tuple[str, datetime]:
    """A batch of 25 rows that begins now, some of another status: its flow run, and its instant."""
    for file in ("many.txt", "go"):
        (work.app.path / file).unlink(missing_ok=True)
    at = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=1)
    kinds = [*statuses, *["active"] * (25 - len(statuses))]
    of = work.app.getElement("models.WorkMany")
    with Session(work.app.engine()) as session:
        session.add_all([of(at=at, status=kind) for kind in kinds])
        session.commit()
    work.sync()
    due = at.replace(tzinfo=UTC)
    found = until(lambda: [e for e in rows_of(work, due) if e.flow_run_id], 60)
    return str(found[0].flow_run_id), due


def rows_of(work: Place, due: datetime) -> list[Entry]:
    return [entry for entry in work.entries(BATCH) if entry.due == due]


def over(work: Place, due: datetime) -> Counter[str]:
    """How many rows ended how, once all have ended."""

    def ended() -> bool:
        return all(e.status in FINAL for e in rows_of(work, due))

    until(ended, 90, what=str(rows_of(work, due)))
    return Counter(entry.status for entry in rows_of(work, due))


def begun(work: Place) -> Counter[str]:
    """How often each row began."""
    file = work.app.path / "many.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    return Counter(line.split()[0] for line in lines)


def once(work: Place, due: datetime) -> bool:
    """Whether each row's effect is there once."""
    query = "SELECT count(*) FROM workmany WHERE at = :at AND done = 1"
    at = f"{due.replace(tzinfo=None):%Y-%m-%d %H:%M:%S.%f}"
    return bool(work.sql(query, at=at) == len(rows_of(work, due)))


def test_pause_of_a_batch_at_work(work: Place, buttons: Buttons) -> None:
    """Its rows go on, and the run is Running again."""
    run_id, due = batch(work, "wait")
    until(lambda: begun(work), 90)
    buttons.pause_run(run_id)

    def running() -> bool:
        work.sync()
        run = work.api.run(run_id)
        return run is not None and run.state_type == "RUNNING"

    until(running, 120, every=3)
    (work.app.path / "go").touch()
    assert over(work, due) == {"completed": 25}
    assert work.state(run_id, "Completed", seconds=60).message == "25 rows: 25 done"
    assert max(begun(work).values()) == 1 and once(work, due)


def goes_on_to_its_end(work: Place, run_id: str, due: datetime) -> None:
    """The batch may end: each row was begun once, and the sync has Prefect show the run as Completed."""
    (work.app.path / "go").touch()
    assert over(work, due) == {"completed": 25}

    def right() -> bool:
        work.sync()
        run = work.api.run(run_id)
        return run is not None and run.state_type == "COMPLETED"

    until(right, 120, every=5)
    assert max(begun(work).values()) == 1 and once(work, due)


def test_a_batch_ends_after_the_timeout_of_its_pause(
    work: Place, buttons: Buttons
) -> None:
    """Prefect calls such a run Failed: it was paused, and never resumed. The sync puts that right."""
    run_id, due = batch(work, "wait")
    until(lambda: begun(work), 90)
    buttons.pause_run(run_id, seconds=0.1)
    goes_on_to_its_end(work, run_id, due)


def test_resume_of_a_batch_at_work_begins_no_row_twice(
    work: Place, buttons: Buttons
) -> None:
    run_id, due = batch(work, "wait")
    until(lambda: begun(work), 90)
    buttons.pause_run(run_id)
    assert buttons.resume_run(run_id) == "ACCEPT"
    goes_on_to_its_end(work, run_id, due)


def test_retry_of_a_failed_batch_runs_its_failed_row_only(
    work: Place, buttons: Buttons
) -> None:
    run_id, due = batch(work, "bad")
    assert over(work, due) == {"completed": 24, "error": 1}
    work.state(run_id, "Failed", seconds=60)
    [bad] = [e.row_key for e in rows_of(work, due) if e.status == "error"]
    work.sql("UPDATE workmany SET status = 'active' WHERE id = :id", id=bad)
    buttons.retry(run_id)
    until(lambda: work.state(run_id, "Completed", seconds=90), 90)
    assert over(work, due) == {"completed": 25}
    assert {k: n for k, n in begun(work).items() if n > 1} == {bad: 2}
    assert once(work, due)


# The sync and the dialogs


@contextmanager
def held_ledger(work: Place) -> Iterator[None]:
    """Meanwhile nobody writes to the app's database, so that a sync waits."""
    with work.app.engine().connect() as connection:
        connection.execute(text("BEGIN IMMEDIATE"))
        yield
        connection.rollback()


def test_pause_of_a_sync_at_work(work: Place, buttons: Buttons) -> None:
    with held_ledger(work):
        run_id = buttons.run("jittask.sync")
        work.state(run_id, "Running", seconds=90)
        buttons.pause_run(run_id)
    assert work.state(run_id, *ENDED, seconds=120).name in ("Completed", "Idle")


def test_pause_of_a_dialog_at_work(work: Place, buttons: Buttons) -> None:
    """Its run is Running again, and the form is carried out."""
    before = len(work.entries("tasks.WorkAdd"))
    with held_forms(work.app.path) as waits:
        run_id = buttons.run(forms.RUN_NOW, task="tasks.WorkAdd")
        until(waits, 90, what="a form that waits")
        buttons.pause_run(run_id)

        def running() -> bool:
            work.sync()
            run = work.api.run(run_id)
            return run is not None and run.state_type == "RUNNING"

        until(running, 90, every=3)
    said = work.state(run_id, "Completed", "Failed", seconds=90).message
    assert said.startswith("tasks.WorkAdd begins as flow run ")
    assert len(work.entries("tasks.WorkAdd")) == before + 1


def test_cancel_of_a_dialog_at_work(work: Place, buttons: Buttons) -> None:
    """The form ends before it writes: nothing of the task is there."""
    tasks = work.app.path / "tasks"
    before = sorted(one.name for one in tasks.iterdir())
    with held_forms(work.app.path) as waits:
        form = {"title": "Cancelled form", "startDate": "2026-03-02"}
        run_id = buttons.run(forms.NEW_SCHEDULED, **form)
        until(waits, 90, what="a form that waits")
        buttons.cancel(run_id)
        work.state(run_id, "Cancelled", seconds=60)
        until(lambda: not waits(), 30, what="the end of the form's process")
    work.sync()
    assert sorted(one.name for one in tasks.iterdir()) == before
    assert "tasks.CancelledForm" not in work.deployments()
    assert work.state(run_id, "Cancelled")


# A task whose process died


def limited(work: Place, name: str) -> str:
    """A task that goes on until `end-NAME` is there; its flow run, once it is at work."""
    made = work.svc.createTimerTask(
        "tasks.WorkMany", clock.now(), "customFunc", "tasks.NormalType", {"name": name}
    )
    until(lambda: said(work, name), 90)
    return str(made["taskId"])


def said(work: Place, name: str) -> list[list[str]]:
    """The lines of such a task: `begin` or `end`, with its process."""
    file = work.app.path / "limited.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    return [line.split() for line in lines if f" {name} " in line]


def test_retry_of_a_crashed_run_and_cancel_of_its_retry(
    work: Place, buttons: Buttons
) -> None:
    run_id = limited(work, "crashed")
    for number in (1, 2):
        found = until(lambda n=number: [x for x in said(work, "crashed")][n - 1 :], 90)
        os.kill(int(found[0][2]), signal.SIGKILL)
        work.state(run_id, "Crashed", seconds=60)
        assert work.ended(run_id).outcome == "died"
        buttons.retry(run_id)
    until(lambda: len(said(work, "crashed")) == 3, 90)
    assert work.entry(run_id).attempt == 3
    buttons.cancel(run_id)
    work.state(run_id, "Cancelled", seconds=60)
    assert work.ended(run_id).status == "ended"


# States by hand, as the API and `prefect flow-run` set them


def waiting(work: Place) -> Entry:
    """The task of a row that is due in two hours, with its flow run."""
    at = datetime.now() + timedelta(hours=2)
    row = work.save("WorkItem", at=at, status="row")
    work.sync()

    def found() -> list[Entry]:
        return [e for e in work.entries("tasks.WorkRow", row.id) if e.flow_run_id]

    [entry] = until(found, 60)
    return entry


def test_a_waiting_row_that_somebody_calls_completed_ends(
    work: Place, buttons: Buttons
) -> None:
    entry = waiting(work)
    assert buttons.state(str(entry.flow_run_id), "COMPLETED") == "ACCEPT"

    def ended() -> bool:
        work.sync()
        return work.entry(entry.task_id).status == "ended"

    until(ended, 60, every=1)
    told = work.entry(entry.task_id).message
    assert told == "ended: marked as completed in Prefect"


@pytest.mark.parametrize("kind", ["FAILED", "CRASHED"])
def test_a_waiting_row_that_somebody_calls_failed_gets_another_run(
    work: Place, buttons: Buttons, kind: str
) -> None:
    entry = waiting(work)
    assert buttons.state(str(entry.flow_run_id), kind) == "ACCEPT"

    def other() -> bool:
        work.sync()
        now = work.entry(entry.task_id)
        return now.flow_run_id not in (None, entry.flow_run_id)

    until(other, 60, every=1)
    now = work.entry(entry.task_id)
    assert (now.status, now.attempt) == ("pending", 0)
    run = work.api.run(str(now.flow_run_id))
    assert run and run.state_type == "SCHEDULED"


def test_retry_of_the_spent_run_of_a_row_that_waits_runs_the_row_once(
    work: Place, buttons: Buttons
) -> None:
    """A run that somebody called Crashed is replaced; its Retry runs the row, now, and the other run does nothing."""
    entry = waiting(work)
    spent = str(entry.flow_run_id)
    buttons.state(spent, "CRASHED")

    def other() -> str | None:
        work.sync()
        now = work.entry(entry.task_id).flow_run_id
        return now if now not in (None, spent) else None

    until(other, 60, every=1)
    buttons.retry(spent)
    work.state(spent, "Completed", seconds=90)
    now = work.entry(entry.task_id)
    assert (now.status, now.flow_run_id) == ("completed", spent)
    key = now.row_key
    assert work.sql("SELECT done FROM workitem WHERE id = :id", id=key) == 1


def test_cancel_of_a_pending_run_of_a_row(work: Place, buttons: Buttons) -> None:
    """Its worker took the run, and died: nobody but the sync ends the run."""
    entry = waiting(work)
    run_id = str(entry.flow_run_id)
    buttons.state(run_id, "PENDING")
    buttons.cancel(run_id)

    def cancelled() -> bool:
        work.sync()
        run = work.api.run(run_id)
        return run is not None and run.state_type == "CANCELLED"

    until(cancelled, 90, every=3)
    assert work.entry(entry.task_id).status == "ended"


@pytest.mark.parametrize("name", ["jittask.sync", forms.END])
def test_cancel_of_a_pending_sync_or_dialog(
    work: Place, buttons: Buttons, name: str
) -> None:
    """Its worker took the run, and died."""
    run_id = future(work, name)
    buttons.state(run_id, "PENDING")
    buttons.cancel(run_id)

    def cancelled() -> bool:
        work.sync()
        run = work.api.run(run_id)
        return run is not None and run.state_type == "CANCELLED"

    until(cancelled, 90, every=3)


def future(work: Place, name: str) -> str:
    """A run of a deployment that no worker takes yet."""
    found = work.deployments()[name]["id"]
    at = (clock.now() + timedelta(hours=3)).isoformat()
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": at}}
    path = f"/deployments/{found}/create_flow_run"
    return str(work.api.call("POST", path, {"state": state})["id"])


@pytest.mark.parametrize("kind", ["COMPLETED", "FAILED"])
def test_a_waiting_run_of_a_schedule_that_somebody_ends_is_not_made_again(
    work: Place, buttons: Buttons, kind: str
) -> None:
    run, *_ = work.runs("tasks.WorkGlobal", "SCHEDULED")
    assert run.auto_scheduled
    buttons.state(run.id, kind)
    work.sync()
    work.sync()
    due = run.expected_start_time
    same = [r for r in work.runs("tasks.WorkGlobal") if r.expected_start_time == due]
    assert [r.id for r in same] == [run.id] and same[0].state_type == kind
