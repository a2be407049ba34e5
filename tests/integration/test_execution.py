"""Executions on a real worker: each a process of its own, as in production."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from place import Place, until

from jittask_prefect.ledger.entry import Entry
from jittask_prefect.schedule import clock


def soon(seconds: float = 0) -> datetime:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).replace(tzinfo=None)


@pytest.fixture(scope="module")
def tasks(work: Place) -> Iterator[dict[str, str]]:
    """All executions of this module, asked for at once: the worker runs them side by side."""
    wanted: dict[str, dict[str, Any]] = {
        "WorkAdd": {"amount": 7, "secret": "x"},
        "WorkAsync": {},
        "WorkGlobal": {"upTo": 2},
        "WorkFails": {},
        "WorkSlow": {},
        "WorkRetries": {},
        "WorkOwn": {},
        "WorkSaves": {"hours": 5},
    }
    wanted["WorkAdd"].pop("secret")
    made = {}
    for name, arguments in wanted.items():
        template = work.app.template(f"tasks.{name}")
        func = "services.WorkSvc.count" if name == "WorkGlobal" else "customFunc"
        answer = work.svc.createTimerTask(
            template.fullName, clock.now(), func, template.taskType, arguments
        )
        made[name] = answer["taskId"]
    rows = {
        status: work.save("WorkItem", at=soon(-1), status=status).id
        for status in ("row", "stale")
    }
    for name, status in (("WorkRow", "row"), ("WorkStale", "stale")):
        [entry] = work.entries(f"tasks.{name}", rows[status])
        made[name] = entry.task_id
    # A change that no hook saw, while the run is on its way: found at the due moment.
    work.sql(
        "UPDATE workitem SET at = :at WHERE id = :id",
        at=str(soon(7200)),
        id=rows["stale"],
    )
    yield made


def ended(work: Place, task_id: str) -> Entry:
    return work.ended(task_id, 100)


def test_a_scheduled_function_gets_its_arguments_which_prefect_never_sees(
    work: Place, tasks: dict[str, str]
) -> None:
    entry = ended(work, tasks["WorkAdd"])
    assert (entry.status, entry.result) == ("completed", '{"sum": 7}')
    run = work.api.run(tasks["WorkAdd"])
    assert (
        run
        and set(run.parameters) == {"template", "taskId"}
        and "amount" not in str(run.parameters)
    )
    assert work.state(run.id, "Completed").message == '{"sum": 7}'
    assert "adding 7" in says(work, run.id, "printed line")
    [record] = [
        r for r in work.svc.getTaskRecords("tasks.WorkAdd") if r["taskId"] == run.id
    ]
    assert (record["status"], record["result"]) == ("completed", {"sum": 7})


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("WorkAsync", '"awaited"'),
        ("WorkGlobal", "[0, 1]"),
        ("WorkRetries", '"xxx"'),
        ("WorkOwn", '"own"'),
    ],
)
def test_async_and_global_functions_retries_and_own_types(
    work: Place, tasks: dict[str, str], name: str, result: str
) -> None:
    entry = ended(work, tasks[name])
    assert (entry.status, entry.result) == ("completed", result), entry.message
    work.state(tasks[name], "Completed")


def test_a_type_of_the_apps_own_is_a_flow_whose_methods_run(
    work: Place, tasks: dict[str, str]
) -> None:
    ended(work, tasks["WorkOwn"])
    assert work.deployments()["tasks.WorkOwn"]["entrypoint"].endswith(":WorkType")
    until(lambda: f"{tasks['WorkOwn']} completed own" in returned(work), 10)
    says(work, tasks["WorkOwn"], "handled by WorkType")


def test_an_error_fails_the_run_with_its_message(
    work: Place, tasks: dict[str, str]
) -> None:
    entry = ended(work, tasks["WorkFails"])
    assert (entry.status, entry.outcome) == ("error", "failed")
    assert (
        work.state(tasks["WorkFails"], "Failed").message
        == "error: ValueError: no such customer"
    )
    says(work, tasks["WorkFails"], "Traceback")


def test_past_its_timeout_a_task_is_timed_out(
    work: Place, tasks: dict[str, str]
) -> None:
    entry = ended(work, tasks["WorkSlow"])
    assert (entry.status, entry.outcome, entry.message) == (
        "error",
        "timeout",
        "error: still running after 2 s",
    )
    assert work.state(tasks["WorkSlow"], "TimedOut").type == "FAILED"


def test_a_row_task_commits_its_effect(work: Place, tasks: dict[str, str]) -> None:
    entry = ended(work, tasks["WorkRow"])
    assert entry.status == "completed", entry.message
    assert work.sql("SELECT done FROM workitem WHERE id = :id", id=entry.row_key) == 1
    assert entry.flow_run_id
    work.state(entry.flow_run_id, "Completed")


def test_a_superseded_row_task_is_cancelled_with_the_reason_and_planned_anew(
    work: Place, tasks: dict[str, str]
) -> None:
    entry = ended(work, tasks["WorkStale"])
    assert (entry.status, entry.outcome) == ("ended", "superseded")
    assert entry.flow_run_id
    # Found by the re-check at the due moment, or by the sync of this minute, whichever was first.
    assert entry.message.startswith("superseded: ")
    # By the sync or the run itself; where Prefect refuses that once, by the next sync. A worker may write its own words
    # over the reason.
    work.state(entry.flow_run_id, "Cancelled", seconds=90)
    assert work.sql("SELECT done FROM workitem WHERE id = :id", id=entry.row_key) == 0
    new = work.entries(entry.template, entry.row_key)[-1]
    assert new.status == "pending" and new.due > entry.due + timedelta(hours=1)
    # Ended by the sync it is told of a minute later; never twice.
    assert len([line for line in returned(work) if line.startswith(entry.task_id)]) <= 1


def test_what_a_function_saves_on_the_worker_is_planned_at_once(
    work: Place, tasks: dict[str, str]
) -> None:
    entry = ended(work, tasks["WorkSaves"])
    assert entry.status == "completed", entry.message
    row = str(entry.result).strip("[").partition(",")[0]
    assert str(entry.result).endswith('["tasks.WorkLater"]]')
    assert [e.status for e in work.entries("tasks.WorkLater", row)] == ["pending"]


def test_the_sync_flow_runs_on_the_worker(work: Place) -> None:
    work.sql(
        "INSERT INTO workitem (id, at, status, done) VALUES (7000, :at, 'later', 0)",
        at=str(soon(7200)),
    )
    sync = work.deployments()["jittask.sync"]
    run = work.api.create_run(
        sync["id"], key="a sync", name="a sync", due=clock.now(), tags=[], parameters={}
    )
    until(lambda: work.entries("tasks.WorkLater", 7000), 60)
    work.state(run.id, "Completed", "Idle", seconds=60)
    until(
        lambda: [
            r
            for r in work.runs("tasks.WorkLater", "SCHEDULED")
            if "working.models.WorkItem:7000" in r.tags
        ],
        10,
    )


def says(work: Place, run_id: str, what: str) -> str:
    """The log of a run once it has a text; Prefect takes its lines in portions, in the order in which they are said."""

    def log() -> str | None:
        text = "\n".join(line.message for line in work.api.logs(run_id))
        return text if what in text else None

    return until(log, 60) or ""


def returned(work: Place) -> list[str]:
    file = work.app.path / "returned.txt"
    return (
        until(lambda: file.read_text().splitlines() if file.exists() else None, 10)
        or []
    )
