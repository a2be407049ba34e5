"""Names of the next runs of schedules: which are named, when a sync looks again, and what a sync without work asks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jittask_prefect.deploying import renew
from jittask_prefect.deploying.next_names import name_next_runs
from jittask_prefect.elements.app import App
from jittask_prefect.rows.databases import upgrade
from jittask_prefect.testing import FakePrefect, build_app, deploy

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


def scheduled(title: str, kind: str, start: str, **more: Any) -> dict[str, Any]:
    timer = {"startTime": start, "repeat": {"repeatType": kind}}
    config = {"type": "tasks.NormalType", "title": title, "timerCfg": timer, **more}
    return {"e.json": config, "inner.py": "def customFunc():\n    return 1\n"}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    elements = {
        "tasks/Daily": scheduled("Daily & report", "day", "2026-11-01 08:00:00"),
        "tasks/Often": scheduled("Often", "minute", "2026-11-01 00:00:30"),
        "tasks/Yearly": scheduled("Yearly", "year", "2020-06-01 08:00:00"),
        "tasks/Off": scheduled("Off", "day", "2026-11-01 08:00:00", enable=0),
    }
    made = build_app(tmp_path / "app", elements, timezone="UTC")
    upgrade(made)
    yield made
    made.close()


class Server(FakePrefect):
    """Prefect in memory with runs that schedules have made."""

    def schedule(self, name: str, *due: datetime) -> None:
        for at in due:
            made = self.create_run(
                self.all_deployments[name]["id"], key=f"{name} {at}", name=f"curious-cat-{at:%d%H%M}", due=at, tags=[],
                parameters={"template": name},
            )  # fmt: skip
            self.all_runs[made.id]["auto_scheduled"] = True

    def names(self) -> list[str]:
        return [run["name"] for run in self.all_runs.values()]

    def asked(self) -> list[str]:
        calls, self.calls = self.calls, []
        return calls


@pytest.fixture
def server(app: App) -> Server:
    made = Server()
    deploy(app, made, NOW)
    renew.renew(app, made, NOW)
    days = [NOW + timedelta(days=n, hours=-1) for n in range(1, 6)]
    made.schedule("tasks.Daily", *days)
    minutes = [NOW + timedelta(minutes=n, seconds=30) for n in range(60)]
    made.schedule("tasks.Often", *minutes)
    made.asked()
    return made


def test_the_next_three_runs_of_each_task_have_title_and_due_time(
    app: App, server: Server
) -> None:
    assert name_next_runs(app, server, NOW) == 6
    named = [name for name in server.names() if "curious" not in name]
    assert named == [
        "Daily _ report · 2026-11-03 08:00",
        "Daily _ report · 2026-11-04 08:00",
        "Daily _ report · 2026-11-05 08:00",
        "Often · 2026-11-02 09:00",
        "Often · 2026-11-02 09:01",
        "Often · 2026-11-02 09:02",
    ]


def test_a_sync_with_nothing_to_name_asks_nothing(app: App, server: Server) -> None:
    name_next_runs(app, server, NOW)
    server.asked()
    assert name_next_runs(app, server, NOW + timedelta(seconds=20)) == 0
    assert server.asked() == []


def test_the_next_run_is_named_once_another_was_due(app: App, server: Server) -> None:
    name_next_runs(app, server, NOW)
    assert name_next_runs(app, server, NOW + timedelta(seconds=60)) == 1
    assert "Often · 2026-11-02 09:03" in server.names()
    assert name_next_runs(app, server, NOW + timedelta(hours=23, minutes=1)) == 1
    assert "Daily _ report · 2026-11-06 08:00" in server.names()


def test_runs_that_prefect_made_anew_are_named_again(app: App, server: Server) -> None:
    name_next_runs(app, server, NOW)
    deployment = server.all_deployments["tasks.Daily"]
    for run in server.all_runs.values():
        if run["deployment_id"] == deployment["id"]:
            run["name"] = "curious-cat"
    deployment["updated"] = "2026-11-02T09:00:10Z"
    renew.renew(app, server, NOW + timedelta(seconds=20))
    assert name_next_runs(app, server, NOW + timedelta(seconds=20)) == 3


def test_missing_runs_are_looked_for_after_five_minutes(
    app: App, server: Server
) -> None:
    for run_id in list(server.all_runs)[1:5]:  # of Daily, one is left
        server.delete_run(run_id)
    name_next_runs(app, server, NOW)
    server.asked()
    name_next_runs(app, server, NOW + timedelta(seconds=10))
    assert server.asked() == []
    server.schedule("tasks.Daily", NOW + timedelta(days=2, hours=-1))
    name_next_runs(app, server, NOW + timedelta(minutes=5))
    assert "Daily _ report · 2026-11-04 08:00" in server.names()


def test_the_next_syncs_have_the_app_s_title_and_their_due_time(
    app: App, server: Server
) -> None:
    minutes = [NOW + timedelta(minutes=n) for n in range(1, 61)]
    server.schedule("jittask.sync", *minutes)

    def syncs() -> list[str]:
        return [name for name in server.names() if name.startswith("Sync of ")]

    assert name_next_runs(app, server, NOW) == 6 + 30
    first, *_, last = syncs()
    assert [first, last] == ["Sync of test · 2026-11-02 09:01", "Sync of test · 2026-11-02 09:30"]  # fmt: skip
    server.asked()
    for n in range(3, 15):  # the tasks' next runs are named at other times
        name_next_runs(app, server, NOW + timedelta(minutes=n, seconds=29))
    assert len(syncs()) == 30
    name_next_runs(app, server, NOW + timedelta(minutes=15))
    assert syncs()[-1] == "Sync of test · 2026-11-02 09:45"


def test_the_next_syncs_are_named_again_once_prefect_has_made_more(
    app: App, server: Server
) -> None:
    server.schedule("jittask.sync", NOW + timedelta(minutes=1))
    name_next_runs(app, server, NOW)
    server.schedule("jittask.sync", NOW + timedelta(minutes=6))
    name_next_runs(app, server, NOW + timedelta(minutes=5))
    assert server.names()[-1] == "Sync of test · 2026-11-02 09:06"


def test_at_most_200_changes_a_sync_and_the_next_goes_on(tmp_path: Path) -> None:
    elements = {
        f"tasks/T{n:03}": scheduled(f"T{n}", "day", "2026-11-01 08:00:00")
        for n in range(70)
    }
    made = build_app(tmp_path / "many", elements, timezone="UTC")
    upgrade(made)
    server = Server()
    deploy(made, server, NOW)
    renew.renew(made, server, NOW)
    for n in range(70):
        days = [NOW + timedelta(days=d, hours=-1) for d in (1, 2, 3)]
        server.schedule(f"tasks.T{n:03}", *days)
    assert name_next_runs(made, server, NOW) == 198
    assert name_next_runs(made, server, NOW) == 12
    assert name_next_runs(made, server, NOW) == 0
    made.close()
