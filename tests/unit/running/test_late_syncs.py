"""After a time without a worker many syncs wait; one does the work of all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from jittask_prefect.running.flows import drop_late_syncs
from jittask_prefect.testing import FakePrefect, build_app, deploy

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
DAILY = {
    "type": "tasks.NormalType",
    "title": "Daily",
    "timerCfg": {"startTime": "2026-11-01 08:59:00", "repeat": {"repeatType": "day"}},
}


def test_late_syncs_are_cancelled_and_nothing_else_is(tmp_path: Path) -> None:
    app = build_app(
        tmp_path / "app", {"tasks/Daily": {"e.json": DAILY, "inner.py": "def customFunc():\n    return 1\n"}}
    )
    prefect = FakePrefect()
    deploy(app, prefect, NOW)

    def run(name: str, before: timedelta) -> str:
        deployment = prefect.all_deployments[name]["id"]
        due = NOW - before
        made = prefect.create_run(deployment, key=f"{name} {due}", name=name, due=due, tags=[], parameters={})
        return str(made["id"])

    late = [run("jittask.sync", timedelta(minutes=n)) for n in (1, 2, 60)]
    present = run("jittask.sync", timedelta(seconds=5))
    coming = run("jittask.sync", -timedelta(minutes=1))
    daily = run("tasks.Daily", timedelta(minutes=1))

    dropped = drop_late_syncs(app, prefect, NOW)

    assert dropped == 3
    assert {prefect.all_runs[r]["state_type"] for r in late} == {"CANCELLED"}
    assert {prefect.all_runs[r]["state_type"] for r in (present, coming, daily)} == {"SCHEDULED"}
    assert drop_late_syncs(app, prefect, NOW) == 0
