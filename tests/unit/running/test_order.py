"""Whose turn it is, with `missed: all`: what is late waits for what was due before it; `now` is given."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from shop import Shop, model_of, rows_task, utc

from jittask_prefect.ledger import transitions
from jittask_prefect.rows.entering import entry_of
from jittask_prefect.running.order import wait_of_batch, wait_of_task
from jittask_prefect.running.outcome import Run
from jittask_prefect.running.run import execute

Make = Callable[..., Shop]
NINE, TEN, ELEVEN = (utc(f"2026-03-02 {hour}:00") for hour in ("09", "10", "11"))
NOON = utc("2026-03-02 12:00")


def hourly(policy: str) -> dict[str, Any]:
    timer = {"startTime": "2026-03-01 00:00:00", "repeat": {"repeatType": "hour"}}
    about = {
        "type": "tasks.NormalType",
        "title": "Hourly",
        "timerCfg": timer,
        "missed": {"policy": policy},
    }
    return {"e.json": about, "inner.py": "def customFunc():\n    return 1\n"}


@pytest.fixture
def make(shop: Make) -> Callable[[str], Shop]:
    def of(policy: str) -> Shop:
        hours = rows_task(
            "at", repeat={"repeatType": "hour"}, missed={"policy": policy}
        )
        return shop(
            elements={
                "models/Bill": model_of(),
                "tasks/Task": hours,
                "tasks/Hourly": hourly(policy),
            }
        )

    return of


def auto(s: Shop, due: datetime) -> str:
    """A run that the schedule has made; its id."""
    deployment = s.api.all_deployments["tasks.Hourly"]["id"]
    about = {"template": "tasks.Hourly"}
    run = s.api.create_run(
        deployment, key=str(due), name="hourly", due=due, tags=[], parameters=about
    )
    s.api.all_runs[run.id]["auto_scheduled"] = True
    return run.id


def begin(
    s: Shop,
    run_id: str,
    due: datetime,
    now: datetime,
    sleep: Callable[[float], None] = lambda s: None,
) -> str:
    """Begin a run: how it ended, or what it waits for."""
    run = Run(run_id, due, True)
    about = (s.app, "tasks.Hourly", None, run, lambda: now)
    outcome = execute(*about, connect=lambda: s.api, sleep=sleep)
    if outcome.message.startswith("not run: queued: "):
        return outcome.message.removeprefix("not run: queued: ")
    s.api._state(s.api.all_runs[run_id], outcome.status.upper())
    return outcome.status


def test_what_is_late_waits_for_all_that_was_due_before(
    make: Callable[[str], Shop],
) -> None:
    s = make("all")
    nine, ten, eleven = (auto(s, due) for due in (NINE, TEN, ELEVEN))
    assert begin(s, eleven, ELEVEN, NOON) == "what was due 2026-03-02 09:00 comes first"
    assert [(e.task_id, e.status, e.queue) for e in s.entries()] == [
        (eleven, "pending", "waiting")
    ]
    assert begin(s, ten, TEN, NOON) == "what was due 2026-03-02 09:00 comes first"
    assert begin(s, nine, NINE, NOON) == "completed"
    assert begin(s, eleven, ELEVEN, NOON) == "what was due 2026-03-02 10:00 comes first"
    assert [
        begin(s, run, due, NOON) for run, due in ((ten, TEN), (eleven, ELEVEN))
    ] == ["completed"] * 2
    assert [(e.due, e.attempt, e.outcome) for e in s.entries()] == [
        (at, 1, "completed") for at in (NINE, TEN, ELEVEN)
    ]


@pytest.mark.parametrize("policy", ["latest", "none"])
def test_other_policies_wait_for_nothing(
    make: Callable[[str], Shop], policy: str
) -> None:
    s = make(policy)
    auto(s, TEN)
    assert (
        begin(s, auto(s, ELEVEN), ELEVEN, ELEVEN + timedelta(seconds=30)) == "completed"
    )


def test_one_that_is_on_time_waits_for_what_is_caught_up_and_not_for_what_was_on_time(
    make: Callable[[str], Shop],
) -> None:
    s = make("all")
    ten, eleven = auto(s, TEN), auto(s, ELEVEN)
    soon = ELEVEN + timedelta(seconds=2)
    assert begin(s, eleven, ELEVEN, soon).startswith("what was due")
    for started, waits in (
        (TEN + timedelta(minutes=2), True),
        (TEN + timedelta(seconds=30), False),
    ):
        # At work since then, and not at its end yet.
        with s.app.engine().begin() as connection:
            if s.entries(task_id=ten) == []:
                made = entry_of(s.app, "tasks.Hourly", ten, TEN, True, TEN)
                transitions.enter(connection, made)
                transitions.claim(connection, ten, "somebody", ten, started, 9999)
            connection.exec_driver_sql(
                "UPDATE jittask_ledger SET started = ? WHERE task_id = ?",
                (f"{started:%Y-%m-%d %H:%M:%S.%f}", ten),
            )
        assert begin(s, eleven, ELEVEN, soon).startswith(
            "what was due" if waits else "completed"
        )


def test_where_only_one_is_before_it_it_waits_a_moment_in_its_process(
    make: Callable[[str], Shop],
) -> None:
    s = make("all")
    ten, eleven = auto(s, TEN), auto(s, ELEVEN)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            assert begin(s, ten, TEN, NOON) == "completed"

    assert begin(s, eleven, ELEVEN, NOON, sleep) == "completed"
    assert slept == [0.2, 0.2]


def test_a_cancelled_one_keeps_nobody_waiting_and_a_persons_run_neither(
    make: Callable[[str], Shop],
) -> None:
    s = make("all")
    ten, eleven = auto(s, TEN), auto(s, ELEVEN)
    s.api.set_state(ten, "CANCELLING")
    s.api.all_runs[auto(s, NINE)]["auto_scheduled"] = False
    assert begin(s, eleven, ELEVEN, NOON) == "completed"


def test_a_row_waits_for_its_own(make: Callable[[str], Shop]) -> None:
    s = make("all")
    s.sync("2026-03-02 09:59")
    for key, at in ((1, TEN), (2, ELEVEN)):
        s.raw(
            "INSERT INTO bill (id, status, count, at) VALUES (:id, 'open', 0, :at)",
            id=key,
            at=at.replace(tzinfo=None),
        )
    s.sync("2026-03-02 11:30")
    template = s.app.template("tasks.Task")

    def waits(entry: Any) -> bool:
        found = wait_of_task(s.app, "", lambda: s.api, template, entry, s.now)
        return found is not None

    late = {
        (e.row_key, e.due): waits(e)
        for e in s.entries(status="pending")
        if e.due < s.now
    }
    assert late == {("1", TEN): False, ("1", ELEVEN): True, ("2", ELEVEN): False}
    # A batch waits where one of its rows does.
    for due, expected in ((TEN, False), (ELEVEN, True)):
        found = wait_of_batch(s.app, "", template, due, s.now)
        assert (found is not None) is expected


def test_what_waited_is_let_through_one_by_one_in_order(
    make: Callable[[str], Shop],
) -> None:
    s = make("all")
    nine, ten, eleven = (auto(s, due) for due in (NINE, TEN, ELEVEN))
    for run, due in ((eleven, ELEVEN), (ten, TEN)):
        begin(s, run, due, NOON)
        s.api.set_state(run, "CANCELLED", message="not run: queued", force=True)
    assert begin(s, nine, NINE, NOON) == "completed"
    for due in (TEN, ELEVEN):
        s.sync("2026-03-02 12:00")
        [turn] = [e for e in s.entries(status="pending") if not e.dirty]
        assert turn.due == due and turn.flow_run_id not in (ten, eleven)
        assert s.run(turn, run_id=str(turn.flow_run_id)).status == "completed"
    assert [(e.due, e.outcome) for e in s.entries()] == [
        (at, "completed") for at in (NINE, TEN, ELEVEN)
    ]
