"""Pages of records: each is what the whole list has there, whatever the ledger and Prefect know in common."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from jittask_prefect import App
from jittask_prefect.ledger.entry import BLANK
from jittask_prefect.ledger.tables import entries
from jittask_prefect.records import listing, paging
from jittask_prefect.records.listing import RecordFilter
from jittask_prefect.testing import FakePrefect, build_app, deploy

NOW = datetime(2026, 9, 14, 3, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MODEL = """
from datetime import date
from sqlmodel import Field, SQLModel

class {name}(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    at: date | None = None
"""


def model(name: str, **keys: Any) -> Any:
    about = {"type": "models.NormalType", "title": name, **keys}
    return {"e.json": about, "model.py": MODEL.format(name=name)}


def rows(of: str) -> Any:
    about = {
        "type": "tasks.DateFieldType", "title": of, "modelPath": f"models.{of}",
        "timerCfg": {"startField": "at", "repeat": {"repeatType": "normal"}},
    }  # fmt: skip
    return {"e.json": about, "inner.py": "def customFunc(row):\n    pass\n"}


DAILY: Any = {
    "e.json": {
        "type": "tasks.NormalType",
        "title": "Daily",
        "timerCfg": {
            "startTime": "2026-01-01 09:00:00",
            "repeat": {"repeatType": "day"},
        },
    },
    "inner.py": "def customFunc():\n    pass\n",
}
ELEMENTS = {
    "models/Bill": model("Bill"),
    "tasks/Bill": rows("Bill"),
    "tasks/Daily": DAILY,
}
TWO = {
    **ELEMENTS,
    "models/Visit": model("Visit", database="crm"),
    "tasks/Visit": rows("Visit"),
}


class World:
    """An app with entries and runs at given minutes, and the list of all that there is."""

    def __init__(self, app: App) -> None:
        self.app, self.api = app, FakePrefect()
        deploy(app, self.api, NOW)
        self.all: list[tuple[datetime, str, str]] = []
        self._number = iter(range(1, 10_000))

    def entry(
        self,
        at: int,
        status: str = "completed",
        *,
        of: str = "Bill",
        row: str = "1",
        run: str | None = None,
        app: str | None = None,
    ) -> None:
        """An entry; one of another app that shares the database is not in the list."""
        due, task = NOW + at * MINUTE, run or f"task-{next(self._number):04}"
        values = {
            "task_id": task, "template": f"tasks.{of}", "row_key": "" if of == "Daily" else row, "nominal": due,
            "generation": next(self._number), "due": due, "created": due, "status": status, "flow_run_id": run,
        }  # fmt: skip
        blank = {**BLANK, "app": app or self.app.name}
        with self.app.engine("crm" if of == "Visit" else "").begin() as connection:
            connection.execute(insert(entries).values(blank | values))
        if app is None:
            self.all.append((due, task, status))

    def run(
        self, at: int, state: str, *, begun: bool = False, known: bool = False
    ) -> None:
        """A run of the schedule; `known` ones have their entry, and are in the list by it."""
        due = NOW + at * MINUTE
        daily = self.api.all_deployments["tasks.Daily"]["id"]
        run = self.api.create_run(
            daily, key=f"{at} {state}", name="x", due=due, tags=[], parameters={}
        )
        made = self.api.all_runs[run.id]
        self.api._state(made, state)
        made["start_time"] = due.isoformat() if begun else None
        status = {
            "COMPLETED": "completed",
            "FAILED": "error",
            "CANCELLED": "ended",
        }.get(state, "pending")
        if known:
            self.entry(at, status, of="Daily", run=made["id"])
        else:
            self.all.append(
                (
                    due,
                    made["id"],
                    "overdue" if status == "pending" and due < NOW else status,
                )
            )

    def page(self, limit: int, offset: int, **asked: Any) -> list[str]:
        wanted = RecordFilter(**asked)
        found = listing.records(
            self.app, self.api, NOW, wanted, limit=limit, offset=offset
        )
        return [str(record.task_id) for record in found]

    def expected(self, status: str | None = None) -> list[str]:
        return [
            task
            for _, task, is_ in sorted(self.all, reverse=True)
            if status in (None, is_)
        ]


@pytest.fixture(params=[ELEMENTS, TWO], ids=["one database", "two databases"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    databases = (
        {"databases": {"crm": "sqlite:///crm.db"}} if request.param is TWO else {}
    )
    made = World(build_app(tmp_path / "app", request.param, **databases))
    for at in range(-30, 0):
        made.entry(
            at,
            ("completed", "error", "ended")[at % 3],
            of="Visit" if request.param is TWO and at % 2 else "Bill",
        )
    for at in (-5, -5, -11, -29):  # several at one instant
        made.entry(at)
    for at in (-6, -10, 3):
        made.entry(at, "pending", app="other")
        made.entry(at, of="Daily", run=f"run-{at}", app="other")
    for at in (1, 5, 9, -2, -7, -40):
        made.run(at, "SCHEDULED")
    made.run(-8, "CANCELLED")
    for at in (-3, -9, -15, -16, -22):
        made.run(at, "COMPLETED", begun=True, known=True)
    made.run(-17, "FAILED", begun=True)  # its process died before it came to the ledger
    yield made
    made.app.close()


@pytest.mark.parametrize("limit", [1, 4, 7, 200])
@pytest.mark.parametrize(
    "status", [None, "completed", "error", "ended", "overdue", "pending"]
)
def test_pages_in_a_row_are_the_whole_list(
    world: World, limit: int, status: str | None
) -> None:
    found: list[str] = []
    while page := world.page(limit, len(found), status=status):
        found += page
    assert found == world.expected(status)


def test_of_many_runs_only_those_are_fetched_that_the_ledger_may_not_know(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "PAGE", 10)
    for at in range(-400, -300):
        world.run(at, "COMPLETED", begun=True, known=True)
    world.run(-349, "FAILED", begun=True)
    fetched: list[int] = []
    runs = world.api.runs

    def counted(**filters: Any) -> list[dict[str, Any]]:
        found = runs(**filters)
        fetched.append(len(found))
        return found

    monkeypatch.setattr(world.api, "runs", counted)
    assert world.page(5, 90) == world.expected()[90:95]
    assert world.page(200, 0) == world.expected()
    fetched.clear()
    assert world.page(50, 0) == world.expected()[:50]
    assert sum(fetched) < 30


def test_records_of_a_row(world: World) -> None:
    world.entry(-6, row="two")
    world.entry(-3, "error", row="two")
    newest = sorted((due, task) for due, task, _ in world.all[-2:])[::-1]
    assert world.page(200, 0, row="two") == [task for _, task in newest]
    assert world.page(1, 1, row="two", name="tasks.Bill") == [newest[1][1]]
    assert world.page(200, 0, row="two", name="tasks.Daily") == []


def test_a_span_of_time_ends_before_its_end(world: World) -> None:
    found = world.page(200, 0, start=NOW - 9 * MINUTE, end=NOW - 5 * MINUTE)
    want = [
        t
        for due, t, _ in sorted(world.all, reverse=True)
        if NOW - 9 * MINUTE <= due < NOW - 5 * MINUTE
    ]
    assert found == want


@pytest.mark.parametrize("runs", [2, 3])
def test_a_scheduled_task_that_had_to_wait_is_one_record(
    world: World, runs: int
) -> None:
    # Of the whole app's pause, or of a limit: each flow run that came too early ended as Cancelled, and another followed.
    due, task = NOW - 4 * MINUTE, ""
    daily = world.api.all_deployments["tasks.Daily"]["id"]
    for number in range(runs):
        about = {"taskId": task} if task else {}
        run = world.api.create_run(
            daily, key=f"wait {number}", name="x", due=due, tags=[], parameters=about
        )
        last = number == runs - 1
        made = world.api.all_runs[run.id]
        world.api._state(made, "COMPLETED" if last else "CANCELLED")
        made["start_time"] = due.isoformat()
        task = task or run.id
    world.entry(-4, of="Daily", run=task)
    with world.app.engine().begin() as connection:
        mine = entries.c.task_id == task
        connection.execute(update(entries).where(mine).values(flow_run_id=run.id))

    asked = {"name": "tasks.Daily", "start": due, "end": due + MINUTE}
    assert world.page(200, 0, **asked) == [task]
