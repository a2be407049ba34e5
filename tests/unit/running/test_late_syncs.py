"""What the flows do about runs that others left: late syncs, and a run whose process was told to end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Crashed
from sqlalchemy import select

from jittask_prefect.errors import PrefectApiError
from jittask_prefect.ledger.entry import find_entry
from jittask_prefect.ledger.tables import states
from jittask_prefect.rows.databases import upgrade
from jittask_prefect.running import sync_flow
from jittask_prefect.running.flows import flows_of
from jittask_prefect.running.sync_flow import drop_late_syncs, run_sync
from jittask_prefect.testing import FakePrefect, build_app, deploy

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
DAILY = {
    "type": "tasks.NormalType",
    "title": "Daily",
    "timerCfg": {"startTime": "2026-11-01 08:59:00", "repeat": {"repeatType": "day"}},
}


def test_late_syncs_are_cancelled_and_nothing_else_is(tmp_path: Path) -> None:
    app = build_app(
        tmp_path / "app",
        {
            "tasks/Daily": {
                "e.json": DAILY,
                "inner.py": "def customFunc():\n    return 1\n",
            }
        },
    )
    prefect = FakePrefect()
    deploy(app, prefect, NOW)

    def run(name: str, before: timedelta) -> str:
        deployment = prefect.all_deployments[name]["id"]
        due = NOW - before
        made = prefect.create_run(
            deployment, key=f"{name} {due}", name=name, due=due, tags=[], parameters={}
        )
        return made.id

    late = [run("jittask.sync", timedelta(minutes=n)) for n in (1, 2, 60)]
    present = run("jittask.sync", timedelta(seconds=5))
    coming = run("jittask.sync", -timedelta(minutes=1))
    daily = run("tasks.Daily", timedelta(minutes=1))

    dropped = drop_late_syncs(app, prefect, NOW)

    assert dropped == 3
    assert {prefect.all_runs[r]["state_type"] for r in late} == {"CANCELLED"}
    assert {prefect.all_runs[r]["state_type"] for r in (present, coming, daily)} == {
        "SCHEDULED"
    }
    assert drop_late_syncs(app, prefect, NOW) == 0


def test_a_run_that_prefect_refuses_to_change_is_left_to_the_next_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 503 at one run of others ends no sync: the late sync, the dead sync and the other late one are each tried."""
    app = build_app(tmp_path / "app", {})
    upgrade(app)
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    monkeypatch.setattr(sync_flow, "connect", lambda path: prefect)
    deployment, runs = prefect.all_deployments["jittask.sync"]["id"], []
    for number in (1, 2, 6):
        due = NOW - timedelta(minutes=number)
        keys = {"key": str(due), "name": "sync", "due": due}
        made = prefect.create_run(deployment, **keys, tags=[], parameters={})
        runs.append(made.id)
    prefect.set_state(runs[2], "RUNNING")
    set_state, busy = prefect.set_state, [runs[0], runs[2]]

    def refuse(run_id: str, *about: Any, **keys: Any) -> Any:
        if run_id in busy:
            raise PrefectApiError("POST /flow_runs/…/set_state: answered 503")
        return set_state(run_id, *about, **keys)

    monkeypatch.setattr(prefect, "set_state", refuse)
    assert drop_late_syncs(app, prefect, NOW) == 1
    assert run_sync(app, NOW) is not None
    states = [prefect.all_runs[run]["state_type"] for run in runs]
    assert states == ["SCHEDULED", "CANCELLED", "RUNNING"]
    busy.clear()
    assert drop_late_syncs(app, prefect, NOW) == 1
    assert run_sync(app, NOW) is not None
    states = [prefect.all_runs[run]["state_type"] for run in runs]
    assert states == ["CANCELLED", "CANCELLED", "CRASHED"]


def test_a_later_sync_sets_those_crashed_whose_worker_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed sync, and a killed dialog, would be Running for ever; the sync that is at work now goes on."""
    app = build_app(
        tmp_path / "app",
        {
            "tasks/Daily": {
                "e.json": DAILY,
                "inner.py": "def customFunc():\n    return 1\n",
            }
        },
    )
    upgrade(app)
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    monkeypatch.setattr(sync_flow, "connect", lambda path: prefect)

    def running(name: str, minutes: int) -> dict[str, Any]:
        deployment, due = (
            prefect.all_deployments[name]["id"],
            NOW - timedelta(minutes=minutes),
        )
        made = prefect.create_run(
            deployment, key=f"{name} {due}", name=name, due=due, tags=[], parameters={}
        )
        prefect.set_state(made.id, "RUNNING")
        return prefect.all_runs[made.id]

    dead = [running("jittask.sync", 6), running("jittask.edit-task", 11)]
    alive = [
        running("jittask.sync", 4),
        running("jittask.edit-task", 9),
        this := running("jittask.sync", 30),
    ]
    assert run_sync(app, NOW, this=this["id"]) is not None
    assert [run["state_type"] for run in dead] == ["CRASHED"] * 2
    assert [run["state_type"] for run in alive] == ["RUNNING"] * 3


def test_a_run_whose_process_was_told_to_end_is_entered_by_its_hook(
    tmp_path: Path,
) -> None:
    """Prefect's engine gives the hook a state that holds an exception, which is no JSON."""
    app = build_app(
        tmp_path / "app",
        {
            "tasks/Daily": {
                "e.json": DAILY,
                "inner.py": "def customFunc():\n    return 1\n",
            }
        },
    )
    upgrade(app)
    flow = flows_of(app)["NormalType"]
    state = Crashed(
        message="Execution was aborted by a termination signal.",
        data=KeyboardInterrupt(),
    )
    run = FlowRun(
        id=uuid4(),
        flow_id=uuid4(),
        state=state,
        expected_start_time=NOW,
        parameters={"template": "tasks.Daily"},
    )
    [hook] = flow.on_crashed_hooks
    hook(flow, run, state)
    with app.engine().connect() as connection:
        entry = find_entry(connection, str(run.id))
    assert entry is not None and (entry.status, entry.dirty, entry.due) == (
        "pending",
        True,
        NOW,
    )


def test_of_syncs_without_work_only_the_last_stays(tmp_path: Path) -> None:
    app = build_app(tmp_path / "app", {})
    upgrade(app)
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    deployment, left = prefect.all_deployments["jittask.sync"]["id"], []
    for number in range(4):
        now = NOW + timedelta(minutes=number)
        about = {"key": str(now), "name": "sync", "due": now}
        made = prefect.create_run(deployment, **about, tags=[], parameters={})
        sync_flow.leave_one_idle(app, prefect, made.id, now)
        left.append(list(prefect.all_runs) == [made.id])
    assert left == [True] * 4
    soon = NOW + timedelta(minutes=3, seconds=44)  # the one before may not have ended
    about = {"key": "soon", "name": "sync", "due": soon}
    made = prefect.create_run(deployment, **about, tags=[], parameters={})
    sync_flow.leave_one_idle(app, prefect, made.id, soon)
    assert len(prefect.all_runs) == 2
    app.close()


def test_any_number_of_syncs_without_work_at_once_is_remembered(tmp_path: Path) -> None:
    app = build_app(tmp_path / "app", {})
    upgrade(app)
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    deployment = prefect.all_deployments["jittask.sync"]["id"]

    def idle(number: int, now: datetime) -> str:
        about = {"key": str(number), "name": "sync", "due": now}
        made = prefect.create_run(deployment, **about, tags=[], parameters={})
        sync_flow.leave_one_idle(app, prefect, made.id, now)
        return str(made.id)

    for number in range(8):  # after an hour without a worker all begin at once
        idle(number, NOW)
    with app.engine().connect() as connection:
        values = connection.execute(select(states.c.value)).scalars().all()
    assert max(map(len, values)) <= 255, "PostgreSQL and MariaDB take no longer text"
    last = idle(8, NOW + timedelta(minutes=1))
    assert list(prefect.all_runs) == [last]
    app.close()


def test_a_run_that_cannot_be_deleted_is_deleted_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = build_app(tmp_path / "app", {})
    upgrade(app)
    prefect, asked = FakePrefect(), list[str]()

    def refuse(run_id: str) -> None:
        asked.append(run_id)
        if len(asked) == 1:
            raise PrefectApiError("DELETE /flow_runs/…: answered 503")

    monkeypatch.setattr(prefect, "delete_run", refuse)
    for number, run_id in enumerate("abc"):
        now = NOW + timedelta(minutes=number)
        sync_flow.leave_one_idle(app, prefect, run_id, now)
    assert (asked[0], sorted(asked[1:])) == ("a", ["a", "b"])
    app.close()
