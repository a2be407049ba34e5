"""Runs whose worker died before the claim: who gets another one, and when; `now` is given."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from shop import Shop, model_of, rows_task, utc

from jittask_prefect.dialogs.flows import NAMES
from jittask_prefect.prefect_api.answers import flow_run
from jittask_prefect.rows.run_endings import end_left
from jittask_prefect.running.outcome import Run
from jittask_prefect.running.run import execute
from jittask_prefect.running.run_end import record_end

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
DUE = utc("2026-03-02 10:00")
DAILY = {
    "e.json": {
        "type": "tasks.NormalType", "title": "Daily",
        "timerCfg": {"startTime": "2026-03-01 10:00:00", "repeat": {"repeatType": "day"}},
    },
    "inner.py": "RUNS = []\ndef customFunc():\n    RUNS.append(1)\n    return len(RUNS)\n",
}  # fmt: skip


@pytest.fixture
def s(shop: Make) -> Shop:
    """A scheduled task, one of rows, and one whose rows share runs; a row of each is due at ten."""
    batch = rows_task("at", dispatch="batch", filter="Q('status','=','batch')")
    own = rows_task("at", filter="Q('status','=','open')")
    made = shop(
        elements={
            "models/Bill": model_of(),
            "tasks/Task": own,
            "tasks/Batch": batch,
            "tasks/Daily": DAILY,
        }
    )
    made.save(id=1, at=TEN)
    made.save(id=2, at=TEN, status="batch")
    made.sync("2026-03-02 09:59")
    made.at("2026-03-02 10:00")
    return made


def taken(s: Shop, run: dict[str, Any], state: str = "PENDING") -> None:
    """A worker takes a run at ten, and dies."""
    s.api._state(run, state)
    run["state"]["timestamp"] = DUE.isoformat()


def auto(
    s: Shop, name: str = "tasks.Daily", run_id: str = "auto", due: datetime = DUE
) -> dict[str, Any]:
    """A run that a schedule has made."""
    about = {"template": name} if name != "jittask.sync" else {}
    deployment = s.api.all_deployments[name]["id"]
    made = s.api.create_run(
        deployment, key=run_id, name=run_id, due=due, tags=[], parameters=about
    )
    run = s.api.all_runs[made.id]
    run["auto_scheduled"] = True
    return run


def live(s: Shop) -> list[tuple[str, str]]:
    """The runs of tasks, each with its state."""
    return sorted(
        (str(r["parameters"].get("template")), r["state_type"])
        for r in s.api.all_runs.values()
    )


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
@pytest.mark.parametrize(
    ("kind", "seconds"), [("jittask", 20), ("process", 180), ("kubernetes", 180)]
)
def test_another_run_once_the_pool_would_have_begun_it(
    s: Shop, kind: str, seconds: int, state: str
) -> None:
    s.api.pools["jittask"] = kind
    auto(s)
    for run in list(s.api.all_runs.values()):
        taken(s, run, state)
    names = ["tasks.Batch", "tasks.Daily", "tasks.Task"]
    s.now = DUE + timedelta(seconds=seconds)
    s.sync()
    assert live(s) == [(name, state) for name in names]
    s.now += timedelta(seconds=1)
    s.sync()
    assert live(s) == [
        (name, state) for name in names for state in ("CRASHED", "SCHEDULED")
    ]
    assert [o.status for o in s.work()] == ["completed"] * 3
    assert sorted(e.outcome or e.status for e in s.entries()) == ["completed"] * 3
    s.sync()
    assert len(s.api.all_runs) == 6


def test_the_pool_is_asked_for_only_where_a_run_has_not_begun(s: Shop) -> None:
    s.sync("2026-03-02 10:01")
    assert "pool_kind" not in s.api.calls


def test_the_one_that_was_only_slow_and_the_other_do_it_once(s: Shop) -> None:
    run = auto(s)
    taken(s, run)
    s.sync("2026-03-02 10:00:30")
    now = s.now
    slow = execute(s.app, "tasks.Daily", None, Run(run["id"], DUE, True), lambda: now)
    assert slow.status == "completed"
    assert [o.message for o in s.work() if o.outcome == "skipped"] == [
        "nothing ran: the task was completed before"
    ]
    assert s.app.module("tasks.Daily", "inner").RUNS == [1]


def test_the_other_has_done_it_when_the_slow_one_comes(s: Shop) -> None:
    run = auto(s)
    taken(s, run)
    s.sync("2026-03-02 10:00:30")
    s.work()
    now = s.now
    slow = execute(s.app, "tasks.Daily", None, Run(run["id"], DUE, True), lambda: now)
    assert (slow.status, slow.message) == (
        "completed",
        "nothing ran: the task was completed before",
    )
    assert s.app.module("tasks.Daily", "inner").RUNS == [1]


def test_a_run_whose_occurrence_was_done_by_another_is_only_marked(s: Shop) -> None:
    taken(s, auto(s))
    now = s.now
    assert (
        execute(s.app, "tasks.Daily", None, Run("twin", DUE, True), lambda: now).status
        == "completed"
    )
    s.sync("2026-03-02 10:00:30")
    assert [state for name, state in live(s) if name == "tasks.Daily"] == ["CRASHED"]


def test_a_process_that_died_alone_is_entered_by_the_hook_of_its_run(s: Shop) -> None:
    run = auto(s)
    s.api._state(
        run, "CRASHED", None, "the process of this run ended with signal SIGKILL"
    )
    for _ in range(2):
        record_end(s.app, run["id"], s.now, run=flow_run(run))
    s.sync("2026-03-02 10:00:01")
    assert [state for name, state in live(s) if name == "tasks.Daily"] == [
        "CRASHED",
        "SCHEDULED",
    ]
    s.work()
    assert s.app.module("tasks.Daily", "inner").RUNS == [1]


def daily(s: Shop) -> list[str]:
    return [state for name, state in live(s) if name == "tasks.Daily"]


def test_a_crashed_run_whose_hook_never_ran_is_entered_by_the_sync(s: Shop) -> None:
    """A stock worker was stopped while the run was Pending, or the warm one killed before the hooks."""
    s.sync("2026-03-02 09:59")
    s.now = DUE
    run = auto(s)
    s.api._state(run, "CRASHED")
    s.sync("2026-03-02 10:00:30")
    assert daily(s) == ["CRASHED", "SCHEDULED"]
    s.work()
    s.sync("2026-03-02 10:01:30")
    assert daily(s) == ["COMPLETED", "CRASHED"]
    assert s.app.module("tasks.Daily", "inner").RUNS == [1]


def test_a_crashed_run_waits_for_its_template_however_long(
    s: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    s.sync("2026-03-02 09:59")
    s.now = DUE
    run = auto(s)
    s.api._state(run, "CRASHED")
    template, every = s.app.template, s.app.templates

    def broken(name: str) -> Any:
        return template(name + "Gone" if name == "tasks.Daily" else name)

    with monkeypatch.context() as patch:
        patch.setattr(s.app, "template", broken)
        patch.setattr(
            s.app,
            "templates",
            lambda: [t for t in every() if t.fullName != "tasks.Daily"],
        )
        for instant in ("10:00:30", "11:00:00", "15:00:00"):
            s.sync(f"2026-03-02 {instant}")
        assert daily(s) == ["CRASHED"]
    s.sync("2026-03-02 15:01:00")
    assert daily(s) == ["CRASHED", "SCHEDULED"]
    for minute in (2, 3, 4):
        s.sync(f"2026-03-02 15:{minute:02}:00")
    assert daily(s) == ["CRASHED", "SCHEDULED"]


def test_a_run_of_rows_that_named_none_gets_no_other(s: Shop) -> None:
    made = s.api.create_run(
        s.api.all_deployments["tasks.Daily"]["id"], key="by hand", name="", due=DUE, tags=[],
        parameters={"template": "tasks.Task"},
    )  # fmt: skip
    run = s.api.all_runs[made.id]
    taken(s, run)
    before = s.tasks()
    s.sync("2026-03-02 10:00:30")
    record_end(s.app, run["id"], s.now, run=flow_run(run))
    assert run["state_type"] == "CRASHED" and s.tasks() == before


def test_a_template_that_does_not_load_keeps_its_run_until_it_does(s: Shop) -> None:
    run = auto(s)
    taken(s, run)
    template, s.app.template = s.app.template, lambda name: template(name + "Gone")  # type: ignore[method-assign]
    s.sync("2026-03-02 10:00:30")
    assert run["state_type"] == "PENDING"


@pytest.mark.parametrize("name", ["jittask.sync", "jittask.edit-task"])
@pytest.mark.parametrize(
    ("state", "seconds", "right", "message"),
    [
        ("PAUSED", 15, "RUNNING", "a sync or a form is not paused: it goes on"),
        ("CANCELLING", 60, "CANCELLED", "ended: cancelled in Prefect"),
    ],
)
def test_a_sync_or_dialog_that_somebody_pauses_goes_on_and_a_cancelled_one_ends(
    s: Shop, name: str, state: str, seconds: int, right: str, message: str
) -> None:
    run = auto(s, name)
    taken(s, run, state)
    run["state"]["message"] = ""
    end_left(s.app, s.api, NAMES, DUE + timedelta(seconds=seconds), None)
    assert run["state_type"] == state
    end_left(s.app, s.api, NAMES, DUE + timedelta(seconds=seconds + 1), None)
    assert (run["state_type"], run["state"]["message"]) == (right, message)


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
@pytest.mark.parametrize(
    ("name", "minutes"), [("jittask.sync", 5), ("jittask.edit-task", 10)]
)
def test_a_sync_or_dialog_whose_worker_died_is_crashed(
    s: Shop, name: str, minutes: int, state: str
) -> None:
    run = auto(s, name)
    taken(s, run, state)
    end_left(s.app, s.api, NAMES, DUE + timedelta(minutes=minutes), None)
    assert run["state_type"] == state
    end_left(s.app, s.api, NAMES, DUE + timedelta(minutes=minutes, seconds=1), None)
    assert (run["state_type"], run["state"]["message"]) == (
        "CRASHED",
        "error: worker died",
    )


def test_the_sync_at_work_and_what_no_worker_has_begun_or_has_ended_stay(
    s: Shop,
) -> None:
    """It may be at work for long; runs of tasks are the ledger's."""
    runs = {
        state: auto(s, "jittask.sync", state)
        for state in ("RUNNING", "SCHEDULED", "COMPLETED", "CANCELLED")
    }
    for state, run in runs.items():
        taken(s, run, state)
    taken(s, task := auto(s), "RUNNING")
    end_left(s.app, s.api, NAMES, DUE + timedelta(hours=1), runs["RUNNING"]["id"])
    assert {state: run["state_type"] for state, run in runs.items()} == {
        state: state for state in runs
    }
    assert task["state_type"] == "RUNNING"
