"""What each button of Prefect's UI does to each kind of run: the calls that the UI makes, on a real server.

`docs/ui.md` has the table. Its cells on failed tasks are tested in `unit/rows/test_retry.py`, those on functions at work in
`test_end.py` and `test_spread.py`, those on runs that the sync puts right also in `unit/rows/test_run_endings.py`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from buttons import Buttons
from place import Place, until

from jittask_prefect.dialogs import forms
from jittask_prefect.errors import PrefectApiError
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.schedule import clock

SOON = timedelta(seconds=1)


@pytest.fixture
def buttons(work: Place) -> Buttons:
    return Buttons(work)


# Rows


def test_the_page_of_a_task_of_rows_asks_for_a_row_before_anything_starts(
    work: Place, buttons: Buttons
) -> None:
    """Quick run and Custom run without a row: the server refuses, and there is no run."""
    before = len(work.runs("tasks.WorkRow"))
    for parameters in ({}, {"taskId": "x"}):
        with pytest.raises(PrefectApiError, match="'row' is a required property"):
            buttons.run("tasks.WorkRow", **parameters)
    assert len(work.runs("tasks.WorkRow")) == before
    row = work.save("WorkItem", at=datetime.now() + timedelta(days=9), status="row")
    run_id = buttons.run("tasks.WorkRow", row=str(row.id))
    assert work.state(run_id, "Completed", "Failed", seconds=90).name == "Completed"
    [entry] = [e for e in work.entries("tasks.WorkRow", row.id) if e.nominal is None]
    assert (entry.status, entry.flow_run_id) == ("completed", run_id)
    run = work.api.run(run_id)
    assert run and f"WorkItem {row.id}" in run.name


def test_the_form_stays_after_prefect_deploy_has_made_another(
    work: Place, buttons: Buttons
) -> None:
    found = work.deployments()["tasks.WorkRow"]
    work.api.change_deployment(found["id"], {"parameter_openapi_schema": {}})

    def restored() -> bool:
        work.sync()
        schema = work.deployments()["tasks.WorkRow"]["parameter_openapi_schema"]
        return bool(schema.get("required") == ["row"])

    until(restored, every=1)


# Each button on a finished run of each kind

TASKS = ("scheduled", "row", "batch")
PAGES = {
    "scheduled": "tasks.WorkAdd",
    "row": "tasks.WorkRow",
    "batch": "tasks.WorkNamed",
    "dialog": forms.RUN_NOW,
}


@pytest.fixture(scope="module")
def finished(work: Place) -> dict[str, str]:
    """A completed flow run of each kind, by kind."""
    buttons = Buttons(work)
    past = datetime.now() - SOON
    row = work.save("WorkItem", at=past, status="row")
    work.save("WorkNamed", id="named", at=past, status="ok")
    runs = {
        "scheduled": buttons.run(PAGES["scheduled"]),
        "dialog": buttons.run(PAGES["dialog"], task="tasks.WorkAdd"),
    }
    work.sync()
    for kind, key in (("row", row.id), ("batch", "named")):
        [entry] = until(lambda n=PAGES[kind], k=key: handed_over(work, n, k), 60)
        runs[kind] = str(entry.flow_run_id)
    for run_id in runs.values():
        work.state(run_id, "Completed", "Idle", seconds=120)
    return runs


def handed_over(work: Place, name: str, key: object) -> list[Entry]:
    return [e for e in work.entries(name, key) if e.flow_run_id]


def record(work: Place, kind: str, run_id: str) -> list[tuple[str, int]]:
    """What the ledger says of a run's tasks: status and attempt."""
    found = [e for e in work.entries(PAGES[kind]) if e.flow_run_id == run_id]
    return [(e.status, e.attempt) for e in found]


def two_syncs(work: Place) -> None:
    """Two syncs; the worker's own may be among them."""
    done = 0
    while done < 2:
        done += until(work.sync, 120, every=1) is not None


@pytest.mark.parametrize("kind", TASKS)
def test_retry_of_a_completed_task_runs_nothing(
    work: Place, buttons: Buttons, finished: dict[str, str], kind: str
) -> None:
    run_id = finished[kind]
    before = record(work, kind, run_id)
    buttons.retry(run_id)
    until(lambda: work.state(run_id, "Completed", seconds=90).message, 90)
    assert record(work, kind, run_id) == before == [("completed", 1)]


def test_retry_of_a_sync_is_a_sync(
    work: Place, buttons: Buttons, finished: dict[str, str]
) -> None:
    run_id = buttons.run("jittask.sync")
    work.state(run_id, "Completed", "Idle", seconds=120)
    buttons.retry(run_id)
    run = until(lambda: again(work, run_id), 120)
    assert run.run_count == 2


def again(work: Place, run_id: str) -> Any:
    found = work.api.call("GET", f"/flow_runs/{run_id}")
    if found["run_count"] < 2 or found["state_type"] != "COMPLETED":
        return None
    return type("Run", (), found)


def test_retry_of_a_dialog_makes_no_second_task(work: Place, buttons: Buttons) -> None:
    row = work.save("WorkItem", at=None, status="none")
    form = {"task": "tasks.WorkRow", "row": str(row.id)}
    run_id = buttons.run(forms.RUN_NOW, **form)
    work.state(run_id, "Completed", seconds=90)
    [entry] = work.entries("tasks.WorkRow", row.id)
    assert work.ended(entry.task_id, 90).status == "completed"
    buttons.retry(run_id)
    until(lambda: again(work, run_id), 120)
    assert len(work.entries("tasks.WorkRow", row.id)) == 1
    assert work.sql("SELECT done FROM workitem WHERE id = :id", id=row.id) == 1


@pytest.mark.parametrize("kind", TASKS)
def test_change_state_of_a_task_is_put_right(
    work: Place, buttons: Buttons, finished: dict[str, str], kind: str
) -> None:
    run_id = finished[kind]
    assert buttons.state(run_id, "FAILED") == "ACCEPT"

    def right() -> bool:
        work.sync()
        run = work.api.run(run_id)
        return run is not None and run.state_type == "COMPLETED"

    until(right, 120, every=5)  # half a minute is left to a living process
    assert record(work, kind, run_id) == [("completed", 1)]


def test_change_state_of_a_dialog_changes_its_page_only(
    work: Place, buttons: Buttons, finished: dict[str, str]
) -> None:
    before = work.entries("tasks.WorkAdd")
    assert buttons.state(finished["dialog"], "FAILED") == "ACCEPT"
    work.sync()
    assert work.state(finished["dialog"], "Failed")
    assert len(work.entries("tasks.WorkAdd")) == len(before)


def test_copy_to_new_run_of_a_scheduled_task_runs_once_more(
    work: Place, buttons: Buttons, finished: dict[str, str]
) -> None:
    made = buttons.copy(finished["scheduled"], PAGES["scheduled"])
    assert made != finished["scheduled"]
    work.state(made, "Completed", seconds=120)
    assert record(work, "scheduled", made) == [("completed", 1)]


def test_a_sync_that_somebody_starts_cancels_deletes_or_changes(
    work: Place, buttons: Buttons
) -> None:
    """Quick run, Custom run and Copy to new run are one call. A sync with nothing to do is deleted by the next."""
    for change in (
        buttons.cancel,
        buttons.delete,
        lambda r: buttons.state(r, "FAILED"),
    ):
        change(buttons.run("jittask.sync"))
        two_syncs(work)


def test_copy_of_a_dialogs_run_submits_the_form_again(
    work: Place, buttons: Buttons, finished: dict[str, str]
) -> None:
    made = buttons.copy(finished["dialog"], PAGES["dialog"])
    said = work.state(made, "Completed", seconds=120).message
    assert said.startswith("tasks.WorkAdd begins as flow run ")


@pytest.mark.parametrize("kind", ["row", "batch"])
def test_copy_of_a_run_of_rows_asks_for_the_row(
    work: Place, buttons: Buttons, finished: dict[str, str], kind: str
) -> None:
    with pytest.raises(PrefectApiError, match="'row' is a required property"):
        buttons.copy(finished[kind], PAGES[kind])


def test_run_with_changes_of_a_run_of_rows_runs_for_the_row(
    work: Place, buttons: Buttons, finished: dict[str, str]
) -> None:
    row = work.save("WorkItem", at=None, status="none")
    made = buttons.copy(finished["row"], PAGES["row"], row=str(row.id))
    work.state(made, "Completed", seconds=90)
    assert record(work, "row", made) == [("completed", 1)]


@pytest.mark.parametrize("name", [forms.NEW_SCHEDULED, forms.EDIT, forms.RUN_NOW])
def test_quick_run_of_a_dialog_that_needs_a_form_is_refused(
    buttons: Buttons, name: str
) -> None:
    with pytest.raises(PrefectApiError, match="is a required property"):
        buttons.run(name)


@pytest.mark.parametrize("name", [forms.END, forms.RETRY])
def test_quick_run_of_another_dialog_does_nothing(
    work: Place, buttons: Buttons, name: str
) -> None:
    said = work.state(buttons.run(name), "Failed", "Completed", seconds=90)
    assert "Task: found nothing" in said.message


@pytest.mark.parametrize("kind", [*TASKS, "dialog"])
def test_delete_of_a_finished_run_leaves_the_record(
    work: Place, buttons: Buttons, finished: dict[str, str], kind: str
) -> None:
    run_id = finished[kind]
    before = record(work, kind, run_id) if kind in TASKS else None
    buttons.delete(run_id)
    two_syncs(work)
    assert work.api.run(run_id) is None
    if kind in TASKS:
        assert record(work, kind, run_id) == before


# Runs that wait, or are at work


def waiting(work: Place, name: str, model: str, **fields: Any) -> Entry:
    at = datetime.now() + timedelta(hours=2)
    row = work.save(model, at=at, **fields)
    work.sync()
    [entry] = until(lambda: handed_over(work, name, row.id), 60)
    return entry


def test_delete_of_a_row_that_waits_makes_another_run(
    work: Place, buttons: Buttons
) -> None:
    entry = waiting(work, "tasks.WorkRow", "WorkItem", status="row")
    buttons.delete(str(entry.flow_run_id))

    def other() -> FlowRun | None:
        work.sync()
        now = work.entry(entry.task_id).flow_run_id
        return work.api.run(str(now)) if now != entry.flow_run_id else None

    assert until(other, 60, every=1).state_type == "SCHEDULED"


def test_cancel_of_runs_that_wait(work: Place, buttons: Buttons) -> None:
    """A run of a row, and a run of a schedule."""
    entry = waiting(work, "tasks.WorkRow", "WorkItem", status="row")
    [scheduled, *_] = work.runs("tasks.WorkGlobal", "SCHEDULED")
    for run_id in (str(entry.flow_run_id), scheduled.id):
        buttons.cancel(run_id)
        work.state(run_id, "Cancelled")
    two_syncs(work)
    assert work.entry(entry.task_id).status == "ended"


def test_a_paused_deployment_goes_on(work: Place, buttons: Buttons) -> None:
    """Of a task, of a dialog and of the sync; the sync's, by another sync: its schedule rests."""
    names = ("tasks.WorkAdd", "tasks.WorkRow", forms.END, "jittask.sync")
    for name in names:
        buttons.pause(name)

    def go_on() -> bool:
        work.sync()
        there = work.deployments()
        return not any(there[name]["paused"] for name in names)

    until(go_on, 60, every=1)


def test_pause_of_a_run_at_work(work: Place, buttons: Buttons) -> None:
    """The function goes on, and the run is Running again."""
    name = f"paused-{clock.now():%H%M%S}"
    made = work.svc.createTimerTask(
        "tasks.WorkMany", clock.now(), "customFunc", "tasks.NormalType", {"name": name}
    )
    work.state(made["taskId"], "Running", seconds=90)
    lines = work.app.path / "limited.txt"
    until(lambda: lines.exists() and f"begin {name} " in lines.read_text(), 60)
    assert buttons.state(made["taskId"], "PAUSED", "Suspended") == "ACCEPT"

    def running() -> bool:
        work.sync()
        run = work.api.run(made["taskId"])
        return run is not None and run.state_type == "RUNNING"

    until(running, 120, every=3)
    (work.app.path / f"end-{name}").touch()
    work.state(made["taskId"], "Completed", seconds=60)
