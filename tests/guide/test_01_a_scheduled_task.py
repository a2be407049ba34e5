"""A scheduled task is a folder with two files: e.json says when, inner.py says what.

Read these six files in order; each shows one idea, and all of them run.
"""

from datetime import UTC, datetime
from pathlib import Path

from jittask_prefect.testing import FakePrefect, build_app, deploy

DAILY_REPORT = {
    "e.json": {
        "type": "tasks.NormalType",  # the kind of task: one with a schedule of its own
        "title": "Daily report",
        "timerCfg": {
            "startTime": "2026-01-05 18:00:00",
            "repeat": {"repeatType": "day"},
        },
    },
    "inner.py": "def customFunc():\n    return 'the report'\n",  # no parameters: nothing but the time calls it
}


def test_the_folder_becomes_a_template(tmp_path: Path) -> None:
    app = build_app(
        tmp_path, {"tasks/DailyReport": DAILY_REPORT}, timezone="Asia/Shanghai"
    )

    # `jittask check` would find no mistake.
    assert app.check() == []

    # When is it due? On each day of January at 18:00, wall-clock time in the app's zone.
    report = app.getElement("tasks.DailyReport")
    due = list(report.occurrences(datetime(2026, 1, 1), datetime(2026, 1, 8)))
    assert [d.isoformat() for d in due] == [
        "2026-01-05T18:00:00+08:00",  # never before startTime
        "2026-01-06T18:00:00+08:00",
        "2026-01-07T18:00:00+08:00",
    ]


def test_the_template_becomes_a_deployment(tmp_path: Path) -> None:
    app = build_app(
        tmp_path, {"tasks/DailyReport": DAILY_REPORT}, timezone="Asia/Shanghai"
    )
    prefect = FakePrefect()  # a Prefect in memory; `jittask deploy` talks to a real one
    now = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
    deploy(app, prefect, now)

    deployment = prefect.all_deployments["tasks.DailyReport"]
    assert (
        "Every day at 18:00" in deployment["description"]
    )  # the rule in words, for people
    assert any(
        schedule["active"] for schedule in deployment["schedules"]
    )  # and as a schedule, for Prefect


def test_one_execution_now(tmp_path: Path) -> None:
    app = build_app(tmp_path, {"tasks/DailyReport": DAILY_REPORT})
    prefect = FakePrefect()
    now = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
    deploy(app, prefect, now)

    # Outside its schedule, any function of inner.py runs once at a time of your choice.
    taskSvc = app.getElement("services.TaskSvc")
    taskSvc.createTimerTask(
        "tasks.DailyReport", now, "customFunc", "tasks.NormalType", {}
    )

    (outcome,) = prefect.run_due(app, now)  # what a worker does
    assert (outcome.status, outcome.result) == ("completed", "the report")
