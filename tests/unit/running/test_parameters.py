"""What a flow run may ask for: its parameters are anybody's, and a claim matches template, id and row."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from shop import COUNT, Shop, model_of, rows_task, utc

from jittask_prefect.errors import (
    ArgumentError,
    JittaskError,
    UnknownElement,
    UnknownTask,
)
from jittask_prefect.running.outcome import Run
from jittask_prefect.running.request import request_of
from jittask_prefect.running.run import execute, execute_batch

Make = Callable[..., Shop]
TEN, DUE = datetime(2026, 3, 2, 10), utc("2026-03-02 10:00")
DAILY = {
    "e.json": {
        "type": "tasks.NormalType", "title": "Daily",
        "timerCfg": {"startTime": "2026-03-01 10:00:00", "repeat": {"repeatType": "day"}},
    },
    "inner.py": "RUNS = []\ndef customFunc(who='schedule'):\n    RUNS.append(who)\n",
}  # fmt: skip
DEEP: Any = "x"
for _ in range(2000):
    DEEP = {"template": DEEP}


@pytest.fixture
def s(shop: Make) -> Shop:
    """Two tasks of rows and a scheduled one; a row is due at ten, for each of the two."""
    made = shop(
        elements={
            "models/Bill": model_of(), "tasks/Task": rows_task("at"), "tasks/Daily": DAILY,
            "tasks/Other": rows_task("at", inner=COUNT.replace("+= 1", "+= 100")),
        }
    )  # fmt: skip
    made.save(id=1, at=TEN)
    made.sync("2026-03-02 09:59")
    return made.at("2026-03-02 10:00")


def forged(s: Shop, of: str = "tasks.Task", **parameters: Any) -> dict[str, Any]:
    """A run that somebody made of a deployment, with parameters of their own."""
    deployment = s.api.all_deployments[of]["id"]
    key = json.dumps(sorted(parameters))
    made = s.api.create_run(
        deployment, key=key, name="by hand", due=DUE, tags=[], parameters=parameters
    )
    return s.api.all_runs[made.id]


def task_of(s: Shop, template: str) -> str:
    return s.entries(template=template)[0].task_id


def test_a_task_of_another_template_is_not_run_and_stays_as_it_was(s: Shop) -> None:
    before = s.tasks()
    run = forged(s, template="tasks.Task", taskId=task_of(s, "tasks.Other"))
    with pytest.raises(
        UnknownTask, match=r"is one of tasks\.Other, not of tasks\.Task$"
    ):
        execute(
            s.app,
            "tasks.Task",
            task_of(s, "tasks.Other"),
            Run(run["id"], DUE),
            lambda: s.now,
        )
    assert s.tasks() == before and s.row(1).count == 0
    s.work()
    assert run["state_type"] == "FAILED" and run["state"]["message"].startswith(
        "not run: task "
    )
    assert (
        s.row(1).count == 101 and [e.outcome for e in s.entries()] == ["completed"] * 2
    )
    assert run["id"] not in {e.flow_run_id for e in s.entries()}


def test_a_rows_task_is_none_of_a_schedule_and_a_schedules_run_none_of_rows(
    s: Shop,
) -> None:
    execute(s.app, "tasks.Daily", None, Run("daily", DUE, True), lambda: s.now)
    for name, task_id in (
        ("tasks.Daily", task_of(s, "tasks.Task")),
        ("tasks.Task", "daily"),
    ):
        with pytest.raises(UnknownTask):
            execute(s.app, name, task_id, Run("forged", DUE), lambda: s.now)
    assert s.row(1).count == 0 and s.app.module("tasks.Daily", "inner").RUNS == [
        "schedule"
    ]


def test_a_made_task_calls_its_function_under_its_own_template_only(s: Shop) -> None:
    made = s.element("services.TaskSvc").createTimerTask(
        "tasks.Daily", s.now, "customFunc", "tasks.NormalType", {"who": "made"}
    )
    [entry] = s.entries(template="tasks.Daily")
    forged(s, template="tasks.Task", taskId=entry.task_id)
    s.work()
    assert s.app.module("tasks.Daily", "inner").RUNS == ["made"]
    assert [(e.flow_run_id, e.outcome) for e in s.entries(template="tasks.Daily")] == [
        (made["taskId"], "completed")
    ]


def test_the_id_of_a_flow_run_is_none_of_a_task(s: Shop) -> None:
    """One of a batch stands for many tasks; the parameter names one."""
    [entry] = s.entries(template="tasks.Task")
    with pytest.raises(UnknownTask, match="there is no task"):
        execute(
            s.app, "tasks.Task", entry.flow_run_id, Run("forged", DUE), lambda: s.now
        )


def test_a_batch_of_another_instant_takes_no_rows_before_they_are_due(
    shop: Make,
) -> None:
    s = shop(dispatch="batch")
    s.save(
        id=1, at=datetime(2026, 3, 9, 10)
    )  # beyond the horizon: nobody has handed it over
    s.at("2026-03-02 10:00")
    [entry] = s.entries()
    assert entry.flow_run_id is None
    assert (
        execute_batch(
            s.app, "tasks.Task", entry.due, Run("forged", DUE), lambda: s.now
        ).tasks
        == []
    )
    assert [e.status for e in s.entries()] == ["pending"] and s.row(1).count == 0


def test_a_run_of_rows_that_names_none_says_what_to_give(s: Shop) -> None:
    run = forged(s, template="tasks.Task")
    s.work()
    assert run["state"] == {
        "type": "FAILED",
        "name": "Failed",
        "message": "not run: tasks.Task has a task for each row, and the run names none. Give the row's key as "
        "`row`, on the page of the task or in the dialog jittask.run-task-now",
    }
    assert [e.row_key for e in s.entries()] == ["1", "1"]


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({}, ArgumentError),
        ({"template": ""}, UnknownElement),
        ({"template": "tasks.Nobody"}, UnknownElement),
        ({"template": "models.Bill"}, UnknownElement),
        ({"template": "tasks.NormalType"}, UnknownElement),
        ({"template": 5}, ArgumentError),
        ({"template": ["tasks.Task"]}, ArgumentError),
        ({"template": "tasks." + "x" * 500_000}, ArgumentError),
        ({"template": DEEP}, ArgumentError),
        (
            {"template": {"__prefect_kind": "jinja", "template": "tasks.Task"}},
            ArgumentError,
        ),
        ({"template": "tasks.Task", "taskId": 5}, ArgumentError),
        ({"template": "tasks.Task", "taskId": DEEP}, ArgumentError),
        ({"template": "tasks.Task", "taskId": "x" * 500_000}, ArgumentError),
        ({"template": "tasks.Task", "taskId": ""}, UnknownTask),
        ({"template": "tasks.Task", "taskId": "\ud800"}, ArgumentError),
        ({"template": "tasks.Task", "taskId": "\0"}, ArgumentError),
        ({"template": "tasks.\ud800"}, UnknownElement),
        ({"template": "tasks.Task", "due": "\ud800"}, ArgumentError),
        ({"template": "tasks.Task", "taskId": "' OR 1=1 --"}, UnknownTask),
        ({"template": "tasks.Task", "due": 5}, ArgumentError),
        ({"template": "tasks.Task", "due": ""}, ArgumentError),
        ({"template": "tasks.Task", "due": "soon"}, ArgumentError),
        ({"template": "tasks.Task", "due": "2026-03-02T10:00:00"}, ArgumentError),
        ({"template": "tasks.Task", "due": "9999-12-31T23:59:59-14:00"}, ArgumentError),
        ({"template": "tasks.Task", "due": {"a": 1}}, ArgumentError),
        (
            {
                "template": "tasks.Task",
                "due": "2026-03-02T10:00:00+00:00",
                "taskId": "x",
            },
            ArgumentError,
        ),
        (
            {"template": "tasks.Daily", "due": "2026-03-02T10:00:00+00:00"},
            ArgumentError,
        ),
    ],
)
def test_forged_parameters_are_refused_in_a_sentence(
    s: Shop, parameters: dict[str, Any], error: type[JittaskError]
) -> None:
    with pytest.raises(error) as refused:
        of = request_of(
            s.app, *(parameters.get(name) for name in ("template", "taskId", "due"))
        )
        execute(
            s.app, of.template.fullName, of.task_id, Run("forged", DUE), lambda: s.now
        )
    assert (
        str(refused.value).encode()
        and len(str(refused.value)) < 500
        and "\n" not in str(refused.value)
    )
    assert [e.status for e in s.entries()] == ["pending", "pending"]
