"""Ledger and Prefect say the same of a run within two syncs, whoever died in between; the ledger is right."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from shop import Shop, model_of, rows_task, utc

from jittask_prefect.ledger import transitions
from jittask_prefect.prefect_api.answers import OWN
from jittask_prefect.running.outcome import Run
from jittask_prefect.running.run import execute

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
DUE = utc("2026-03-02 10:00")
FAIL = "def customFunc(row):\n    assert row.status != 'bad', 'it is bad'\n    return {'row': row.id}\n"


def begun(s: Shop, *keys: int, **fields: Any) -> dict[str, Any]:
    """Rows that are due now, and the run of the first, which a worker has begun."""
    for key in keys:
        s.save(id=key, at=TEN, **fields)
    s.sync()
    s.at("2026-03-02 10:00")
    run = s.api.all_runs[str(s.entries()[0].flow_run_id)]
    run["start_time"] = s.now.isoformat()
    s.api._state(run, "RUNNING")
    return run


def told(run: dict[str, Any]) -> tuple[str, str]:
    return run["state_type"], run["state"]["message"]


def twice(s: Shop) -> None:
    """Two syncs, a minute apart."""
    for _ in range(2):
        s.now += timedelta(minutes=1)
        s.sync()


@pytest.mark.parametrize("state", ["RUNNING", "CRASHED", "CANCELLED", "FAILED"])
@pytest.mark.parametrize(
    ("status", "right"),
    [
        ("open", ("COMPLETED", '{"row": 1}')),
        ("bad", ("FAILED", "error: AssertionError: it is bad")),
    ],
)
def test_killed_between_the_commit_and_prefects_state(
    shop: Make, state: str, status: str, right: tuple[str, str]
) -> None:
    s = shop(inner=FAIL, dispatch="row")
    run = begun(s, 1, status=status)
    s.run(s.entries()[0], run_id=run["id"])
    if state != "RUNNING":
        s.api._state(
            run, state, None, "the process of this run ended with signal SIGKILL"
        )
    twice(s)
    same = {"FAILED": ("FAILED", "CRASHED"), "COMPLETED": ("COMPLETED",)}[right[0]]
    assert run["state_type"] in same and (told(run) == right or state in same)
    assert len(s.api.all_runs) == 1


@pytest.mark.parametrize("state", ["RUNNING", "CRASHED"])
def test_what_ended_at_its_due_moment_is_cancelled_with_its_reason_and_label(
    shop: Make, state: str
) -> None:
    s = shop(inner=FAIL, dispatch="row")
    run = begun(s, 1)
    s.raw("UPDATE bill SET at = NULL")
    s.run(s.entries()[0], run_id=run["id"])
    s.api._state(run, state)
    twice(s)
    assert told(run) == (
        "CANCELLED",
        "superseded: the row has no date, or the filter is not met",
    )
    assert run["labels"] == {OWN: "superseded"}


@pytest.mark.parametrize("state", ["RUNNING", "CRASHED", "CANCELLED"])
def test_a_batch_that_had_done_all_is_completed(shop: Make, state: str) -> None:
    s = shop(inner=FAIL, dispatch="batch")
    run = begun(s, 1, 2, 3)
    for entry in s.entries():
        s.run(entry, run_id=run["id"])
    s.api._state(run, state)
    twice(s)
    assert (
        told(run) == ("COMPLETED", "3 rows: 3 completed") and len(s.api.all_runs) == 1
    )


def test_a_batch_that_had_failed_a_row_is_failed(shop: Make) -> None:
    s = shop(inner=FAIL, dispatch="batch")
    s.save(id=9, at=TEN, status="bad")
    run = begun(s, 1, 2)
    for entry in s.entries():
        s.run(entry, run_id=run["id"])
    twice(s)
    assert told(run) == ("FAILED", "3 rows: 2 completed, 1 error")


def test_a_batch_whose_other_rows_went_on_elsewhere_stays_crashed(shop: Make) -> None:
    s = shop(inner=FAIL, dispatch="batch")
    run = begun(s, 1, 2, 3)
    s.run(s.entries()[0], run_id=run["id"])
    s.api._state(run, "CRASHED")
    twice(s)
    assert (
        run["state_type"] == "CRASHED"
        and [o.status for o in s.work()] == ["completed"] * 2
    )
    twice(s)
    assert sorted(r["state_type"] for r in s.api.all_runs.values()) == [
        "COMPLETED",
        "CRASHED",
    ]


def test_a_scheduled_run_too_and_one_that_was_taken_up_by_another_stays_crashed(
    shop: Make,
) -> None:
    about = {
        "type": "tasks.NormalType", "title": "Daily",
        "timerCfg": {"startTime": "2026-03-01 10:00:00", "repeat": {"repeatType": "day"}},
    }  # fmt: skip
    daily = {"e.json": about, "inner.py": "def customFunc():\n    return 1\n"}
    s = shop(elements={"models/Bill": model_of(), "tasks/Daily": daily})
    deployment, parameters = (
        s.api.all_deployments["tasks.Daily"]["id"],
        {"template": "tasks.Daily"},
    )
    runs = []
    for day in (2, 3):
        s.at(f"2026-03-0{day} 10:00")
        made = s.api.create_run(
            deployment,
            key=str(day),
            name=str(day),
            due=s.now,
            tags=[],
            parameters=parameters,
        )
        runs.append(s.api.all_runs[made.id])
        runs[-1] |= {"auto_scheduled": True, "start_time": s.now.isoformat()}
        s.api._state(runs[-1], "RUNNING")
        if day == 2:
            execute(
                s.app,
                "tasks.Daily",
                None,
                Run(runs[0]["id"], s.now, True),
                lambda: s.now,
            )
            twice(s)
            assert told(runs[0]) == ("COMPLETED", "1")
    s.now += timedelta(minutes=4)  # never claimed: another run is made, which does it
    s.sync()
    assert [o.status for o in s.work()] == ["completed"]
    twice(s)
    assert [r["state_type"] for r in s.api.all_runs.values()] == [
        "COMPLETED",
        "CRASHED",
        "COMPLETED",
    ]


def test_a_living_process_has_half_a_minute_and_what_executes_is_left_alone(
    shop: Make,
) -> None:
    s = shop(inner=FAIL, dispatch="row")
    run = begun(s, 1)
    with s.app.engine().begin() as connection:
        assert transitions.claim(
            connection, s.entries()[0].task_id, "somebody", run["id"], s.now, 3600
        )
    twice(s)
    assert run["state_type"] == "RUNNING"
    done = {
        "status": "completed",
        "outcome": "completed",
        "message": "",
        "result": None,
    }
    with s.app.engine().begin() as connection:
        assert transitions.finish(
            connection, s.entries()[0].task_id, "somebody", now=s.now, **done
        )
    s.now += timedelta(seconds=29)
    s.sync()
    assert run["state_type"] == "RUNNING"  # `afterReturn` may be at work
    s.now += timedelta(seconds=2)
    s.sync()
    assert told(run) == ("COMPLETED", "")


def test_a_failed_run_that_is_tried_again_is_left_alone_while_it_begins(
    shop: Make,
) -> None:
    s = shop(inner=FAIL, dispatch="row")
    run = begun(s, 1, status="bad")
    s.run(s.entries()[0], run_id=run["id"])
    s.now += timedelta(hours=1)
    s.api._state(run, "RUNNING")
    run["state"]["timestamp"] = (s.now - timedelta(seconds=5)).isoformat()
    s.sync()
    assert run["state_type"] == "RUNNING"


def test_another_apps_runs_are_not_ours(shop: Make) -> None:
    """An app of another name on the same server has deployments of the same names."""
    s = shop(elements={"models/Bill": model_of(), "tasks/Task": rows_task("at")})
    ours = s.api.all_deployments["tasks.Task"]
    for name in ("tasks.Task", "jittask.sync"):
        found = s.api.all_deployments[name]
        tags = [
            "app:other",
            *[tag for tag in found["tags"] if not tag.startswith("app:")],
        ]
        s.api.all_deployments[f"other {name}"] = {
            **found,
            "id": f"other {name}",
            "tags": tags,
            "flow": found["flow"].replace("test.", "other."),
        }
    assert ours["id"] != "other tasks.Task"
    made = []
    for number, (name, state) in enumerate(
        [
            ("tasks.Task", "PENDING"),
            ("tasks.Task", "CANCELLING"),
            ("jittask.sync", "RUNNING"),
            ("tasks.Task", "RUNNING"),
        ]
    ):
        about = {"template": name} if name != "jittask.sync" else {}
        key = str(number)
        run = s.api.all_runs[
            s.api.create_run(
                f"other {name}", key=key, name=key, due=DUE, tags=[], parameters=about
            ).id
        ]
        s.api._state(run, state)
        run["state"]["timestamp"] = DUE.isoformat()
        made.append(run)
    s.sync("2026-03-02 11:00")
    assert [run["state_type"] for run in made] == [
        "PENDING",
        "CANCELLING",
        "RUNNING",
        "RUNNING",
    ]
    assert s.entries() == []
    with pytest.raises(Exception, match="there is no such task"):
        s.element("services.TaskSvc").forcedEnd(made[0]["id"])
