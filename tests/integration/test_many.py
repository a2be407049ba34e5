"""Batches on a real worker: what the UI shows, a row that is ended while it is at work, a process that is killed."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from place import Place, until
from sqlmodel import Session

from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.tables import FINAL
from jittask_prefect.running.retry import retry_failed

NAME = "tasks.WorkBatch"


@pytest.fixture
def due(work: Place) -> Callable[..., datetime]:
    """Save rows that are due at one instant, which is now; some of them of another status."""

    def make(count: int, **statuses: int) -> datetime:
        for file in ("many.txt", "go"):
            (work.app.path / file).unlink(missing_ok=True)
        at = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=1)
        kinds = [kind for kind, number in statuses.items() for _ in range(number)]
        kinds += ["active"] * (count - len(kinds))
        with Session(work.app.engine()) as session:
            session.add_all(
                [
                    work.app.getElement("models.WorkMany")(at=at, status=kind)
                    for kind in kinds
                ]
            )
            session.commit()
        work.sync()
        return at.replace(tzinfo=UTC)

    return make


def of(work: Place, at: datetime) -> list[Entry]:
    return [entry for entry in work.entries(NAME) if entry.due == at]


def over(work: Place, at: datetime, seconds: float = 90) -> list[Entry]:
    """The entries once all have ended."""

    def ended() -> list[Entry]:
        found = of(work, at)
        return found if all(e.status in FINAL for e in found) else []

    return until(ended, seconds, what=str(Counter(e.status for e in of(work, at))))


def begun(work: Place) -> list[tuple[str, int]]:
    """Which rows began, each in which process."""
    file = work.app.path / "many.txt"
    lines = file.read_text().split("\n") if file.exists() else []
    return [
        (row, int(pid))
        for row, _, pid in (line.partition(" ") for line in lines if line)
    ]


def test_one_run_one_table_and_a_task_run_for_the_row_that_failed(
    work: Place, due: Callable[..., datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = due(25, bad=1)
    entries = over(work, at)
    assert Counter(e.outcome for e in entries) == {"completed": 24, "failed": 1}
    assert len(begun(work)) == len({row for row, _ in begun(work)}) == 25
    [run_id] = {e.flow_run_id for e in entries}
    assert run_id
    state = work.state(run_id, "Failed")
    assert state.message == "25 rows: 24 done, 1 failed"
    run = work.api.run(run_id)
    assert (
        run
        and set(run.parameters) == {"template", "due"}
        and run.name.startswith("Many · 25 rows · ")
    )
    [bad] = [e for e in entries if e.outcome == "failed"]
    table = work.api.table(run_id)
    assert table[0] == {
        "row": bad.row_key, "status": "error", "outcome": "failed", "taskId": bad.task_id, "attempt": 1,
        "reason": f"error: ValueError: row {bad.row_key} is bad",
    }  # fmt: skip
    assert len(table) == 25

    def shown() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = work.api.call(
            "POST", "/task_runs/filter", body={"flow_runs": {"id": {"any_": [run_id]}}}
        )
        return found

    [one] = until(shown)
    assert (one["name"], one["state_type"]) == (f"WorkMany {bad.row_key}", "FAILED")

    # `jittask records --row … --open` leads there; of a row that is done to the flow run, whose table has all rows.
    good = next(e for e in entries if e.outcome == "completed")
    pages = {bad.row_key: f"task-run/{one['id']}", good.row_key: f"flow-run/{run_id}"}
    monkeypatch.setenv("BROWSER", "true")
    for key, page in pages.items():
        opened = work.jittask("records", bad.template, "--row", key, "--open")
        assert opened.stdout.strip().endswith(f"/v2/runs/{page}"), opened.stderr

    # `jittask retry`, once the row is mended: that row and no other. A Retry in the UI then has nothing to run.
    def ended() -> str:
        states = ("Completed", "Failed", "Cancelled", "Crashed")
        return work.state(run_id, *states, seconds=60).message

    work.sql("UPDATE workmany SET status = 'active' WHERE id = :id", id=bad.row_key)
    assert retry_failed(work.app, work.api, bad.template).tasks == 1
    assert ended() == "1 row: 1 done"
    work.api.set_state(run_id, "SCHEDULED", name="AwaitingRetry", force=True)
    assert (
        ended() == "nothing ran: the rows of this run have ended before: 25 completed"
    )
    assert Counter(Counter(row for row, _ in begun(work)).values()) == {1: 24, 2: 1}
    assert {e.outcome for e in of(work, at)} == {"completed"} and len(
        work.api.table(run_id)
    ) == 26


def test_a_rows_key_is_no_template_of_its_task_runs_name(work: Place) -> None:
    """A key with braces spoils no batch, and shows nothing of the worker's."""
    keys = ["{", "{0}", "{outcome.__init__.__globals__[os].environ}", "plain"]
    at = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=1)
    with Session(work.app.engine()) as session:
        cls = work.app.getElement("models.WorkNamed")
        session.add_all(
            [
                cls(id=key, at=at, status="active" if key == "plain" else "bad")
                for key in keys
            ]
        )
        session.commit()
    work.sync()

    def ended() -> dict[str, str | None]:
        found = work.entries("tasks.WorkNamed")
        return {
            e.row_key: e.outcome for e in found if all(e.status in FINAL for e in found)
        }

    assert until(ended, 90) == {
        key: "completed" if key == "plain" else "failed" for key in keys
    }
    [run_id] = {e.flow_run_id for e in work.entries("tasks.WorkNamed")}
    assert work.state(str(run_id), "Failed").message == "4 rows: 1 done, 3 failed"

    def names() -> list[str]:
        asked = {"flow_runs": {"id": {"any_": [run_id]}}}
        found = [
            str(one["name"])
            for one in work.api.call("POST", "/task_runs/filter", body=asked)
        ]
        return sorted(found) if len(found) == 3 else []

    assert until(names) == sorted(f"WorkNamed {key}" for key in keys if key != "plain")


def test_a_row_is_ended_while_it_is_at_work_and_the_others_go_on(
    work: Place, due: Callable[..., datetime]
) -> None:
    at = due(22, wait=1)
    [waits] = until(lambda: [e for e in of(work, at) if e.status == "executing"], 60)
    [(_, pid)] = until(lambda: [b for b in begun(work) if b[0] == waits.row_key], 30)
    answer = work.svc.forcedEnd(waits.task_id)
    assert answer == {
        "taskId": waits.task_id,
        "previousStatus": "executing",
        "status": "ended",
        "changed": True,
    }
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    work.sync()
    entries = over(work, at)
    assert Counter(e.outcome for e in entries) == {"completed": 21, "forced": 1}
    assert len(begun(work)) == 22


def test_a_row_that_no_thread_can_end_is_ended(
    work: Place, due: Callable[..., datetime]
) -> None:
    at = due(3, held=1)
    [held] = until(
        lambda: [
            e
            for e in of(work, at)
            if e.status == "executing" and e.row_key in dict(begun(work))
        ],
        60,
    )
    until(
        lambda: (
            len(begun(work)) == 1
            or [e for e in of(work, at) if e.status == "completed"]
        ),
        10,
    )
    pid = dict(begun(work))[held.row_key]
    began = time.monotonic()
    assert work.svc.forcedEnd(held.task_id)["changed"] is True
    took = time.monotonic() - began
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert took < 5
    work.sync()
    assert Counter(e.outcome for e in over(work, at)) == {"completed": 2, "forced": 1}


def test_a_killed_batch_goes_on_with_what_was_not_begun(
    work: Place, due: Callable[..., datetime]
) -> None:
    at = due(22, wait=22)
    (row, pid), *_beside = until(lambda: begun(work), 60)
    os.kill(pid, signal.SIGKILL)
    (work.app.path / "go").touch()
    until(lambda: [e for e in of(work, at) if e.outcome == "died"], 90)
    work.sync()
    entries = over(work, at)
    assert Counter(e.outcome for e in entries) == {"completed": 21, "died": 1}
    assert [e.row_key for e in entries if e.outcome == "died"] == [row]
    assert max(Counter(key for key, _ in begun(work)).values()) == 1
