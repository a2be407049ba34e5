"""Names of runs on a real server: the next runs of a schedule, and the one sync without work that stays."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from place import Place, scheduled, until

from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.running import sync_flow
from jittask_prefect.schedule import clock
from jittask_prefect.server.service import ServiceInfo

NAME = "tasks.NamesDaily"


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: ServiceInfo
) -> Iterator[Place]:
    inner = "def customFunc():\n    return 1\n"
    elements = {
        "tasks/NamesDaily": scheduled(inner, title="Daily % report"),
        "tasks/NamesOften": scheduled(inner, repeat={"repeatType": "minute"}),
    }
    folder = tmp_path_factory.mktemp("names")
    made = Place.build(folder, elements, name="naming", timezone="UTC")
    made.deploy()
    yield made
    made.remove()


def waiting(place: Place) -> list[str]:
    """The names of the daily task's waiting runs, the next first, once Prefect has three."""

    def three() -> list[str] | None:
        names = [run.name for run in place.runs(NAME, "SCHEDULED")]
        return names if len(names) >= 3 else None

    return until(three, 60) or []


def test_the_next_runs_say_task_and_due_time_before_they_run(place: Place) -> None:
    assert not any("Daily" in name for name in waiting(place))
    place.sync()
    runs = place.runs(NAME, "SCHEDULED")[:3]
    due = [f"{run.expected_start_time:%Y-%m-%d %H:%M}" for run in runs]
    assert [run.name for run in runs] == [f"Daily _ report · {at}" for at in due]
    often = place.runs("tasks.NamesOften", "SCHEDULED")
    named = [run for run in often if run.name.startswith("Scheduled · ")]
    assert 3 <= len(named) <= 4  # a minute may have passed
    assert all(run.parameters["template"] == "tasks.NamesOften" for run in named)


def test_names_cost_a_sync_nothing_where_there_is_nothing_to_name(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.change("tasks/NamesOften", enable=0)  # a run each minute is work each minute
    place.again()
    place.deploy()
    for _ in range(3):
        place.sync()
    asked: list[str] = []
    real = PrefectApi.call

    def counting(self: PrefectApi, method: str, path: str, *more: Any) -> Any:
        asked.append(f"{method} {path}")
        return real(self, method, path, *more)

    monkeypatch.setattr(PrefectApi, "call", counting)
    place.sync()
    with_names = list(asked)
    asked.clear()
    monkeypatch.setattr(sync_flow.next_names, "name_next_runs", lambda *about: 0)
    place.sync()
    assert with_names == asked
    assert not any(call.startswith("PATCH") for call in with_names)


def test_a_sync_without_work_is_deleted_by_the_next(place: Place) -> None:
    deployment = place.deployments()["jittask.sync"]["id"]

    def idle(number: int) -> str:
        now = clock.now() + timedelta(minutes=number)
        run = place.api.create_run(
            deployment, key=f"idle {number}", name="sync", due=now, tags=[], parameters={}
        )  # fmt: skip
        sync_flow.leave_one_idle(place.app, place.api, run.id, now)
        return run.id

    runs = [idle(number) for number in range(3)]
    assert [place.api.run(run) is not None for run in runs] == [False, False, True]
