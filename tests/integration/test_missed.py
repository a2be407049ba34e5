"""Four hours without a worker: what each policy runs of them once there is one, in which order; what records say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from place import Place, iso, model, rows, scheduled, until, worker

from jittask_prefect.schedule import clock
from jittask_prefect.server.service import ServiceInfo

HOUR = timedelta(hours=1)
HOURLY = {"repeatType": "hour"}
LATER = "missed: a later occurrence is due too"
# `handle` is told when its task was due. The first of all takes longer than a worker waits before it begins another.
TYPE = """
import time
from jittask_prefect import {base}

class {name}({base}):
    def handle(self, task):
        file = app.path / (task.fullName + ".txt")
        first = not file.exists()
        def say(what):
            with open(file, "a") as lines:
                lines.write(f"{{what}} {{task.dueTime.isoformat()}}\\n")
        say("begins")
        time.sleep(6 if first and task.fullName.endswith("All") else 0.01)
        say("ends")
"""
INNER = "def customFunc(row=None):\n    pass\n"


def own(name: str, base: str) -> dict[str, object]:
    return {
        "e.json": {"type": "tasks.Meta", "title": name},
        "type.py": TYPE.format(name=name, base=base),
    }


@pytest.fixture
def now() -> datetime:
    """When the worker is back: half an hour after an occurrence, so that no other comes meanwhile."""
    return clock.now().replace(microsecond=0)


@pytest.fixture
def place(
    now: datetime, tmp_path_factory: pytest.TempPathFactory, prefect_server: ServiceInfo
) -> Iterator[Place]:
    start = f"{now - 1000.5 * HOUR:%Y-%m-%d %H:%M:%S}"
    elements: dict[str, Any] = {
        "models/MissedItem": model("MissedItem"),
        "tasks/MissedType": own("MissedType", "NormalType"),
        "tasks/MissedRowsType": own("MissedRowsType", "DateFieldType"),
    }
    policies: dict[str, dict[str, Any]] = {
        "All": {"policy": "all"}, "Latest": {"policy": "latest"}, "None": {"policy": "none", "grace": 2 * 3600},
    }  # fmt: skip
    for name, missed in policies.items():
        elements[f"tasks/Missed{name}"] = scheduled(
            INNER, repeat=HOURLY, start=start, missed=missed
        )
        elements[f"tasks/MissedRow{name}"] = rows(
            "MissedItem", INNER, repeat=HOURLY, missed=missed
        )
        elements[f"tasks/Missed{name}"]["e.json"]["type"] = "tasks.MissedType"
        elements[f"tasks/MissedRow{name}"]["e.json"]["type"] = "tasks.MissedRowsType"
    made = Place.build(
        tmp_path_factory.mktemp("missed") / "app", elements, name="missed"
    )
    made.deploy()
    yield made
    made.remove()


def said(place: Place, name: str) -> list[tuple[str, datetime]]:
    """What the executions of a template have written: which of them began and ended, in this order."""
    file = place.app.path / f"tasks.{name}.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(what, iso(due)) for what, due in (line.split(" ") for line in lines)]


def records(place: Place, name: str, now: datetime) -> list[tuple[datetime, str, str]]:
    """What was due until now, in order: when, status and message."""
    found = place.svc.getTaskRecords(fullName=f"tasks.{name}", endTime=now, limit=50)
    return sorted((iso(r["dueTime"]), r["status"], r["message"]) for r in found)


def test_what_was_due_without_a_worker(place: Place, now: datetime) -> None:
    due = [now - 3.5 * HOUR + n * HOUR for n in range(4)]
    place.sync(now - 4 * HOUR)
    place.sql(
        "INSERT INTO misseditem (id, at, status, done) VALUES (1, :at, 'active', 0)",
        at=f"{due[0].astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}",
    )
    names = ["All", "Latest", "None"]
    for name in names:
        place.api.fill_schedule(
            place.deployments()[f"tasks.Missed{name}"]["id"], now - 4 * HOUR, until=now
        )
        waiting = place.runs(f"tasks.Missed{name}", "SCHEDULED")
        assert [
            at for at in (r.expected_start_time for r in waiting) if at <= now
        ] == due
    every = [f"Missed{rows_}{name}" for rows_ in ("", "Row") for name in names]

    def over() -> bool:
        found = [records(place, name, now) for name in every]
        return all([at for at, *_ in one] == due for one in found) and not any(
            status in ("pending", "overdue", "executing")
            for one in found
            for _, status, _ in one
        )

    home = place.app.path.parent
    with worker(home / ".jittask", cwd=home, limit=4):
        place.sync()
        until(
            over,
            120,
            every=0.5,
            what=str({name: records(place, name, now) for name in every}),
        )
    for rows_ in ("", "Row"):
        run = {"All": due, "Latest": due[3:], "None": due[2:]}
        for name, those in run.items():
            # In order, one after the other, each once.
            assert said(place, f"Missed{rows_}{name}") == [
                (what, at) for at in those for what in ("begins", "ends")
            ]
        assert records(place, f"Missed{rows_}All", now) == [
            (at, "completed", "") for at in due
        ]
        latest = [(at, "ended", LATER) for at in due[:3]] + [(due[3], "completed", "")]
        assert records(place, f"Missed{rows_}Latest", now) == latest
        none = records(place, f"Missed{rows_}None", now)
        assert [(at, status) for at, status, _ in none] == list(
            zip(due, ["ended"] * 2 + ["completed"] * 2, strict=True)
        )
        assert all(
            message.endswith("late, and missed.policy is none")
            for *_, message in none[:2]
        )
