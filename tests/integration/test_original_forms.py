"""Folders of JitTask on a real server and worker, which is started in the app folder itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from place import Place, worker

from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.rows.databases import upgrade
from jittask_prefect.schedule import clock
from jittask_prefect.server.service import ServiceInfo
from jittask_prefect.task_svc.wiring import App

DATA = Path(__file__).parents[1] / "data"
# What a process of the worker sees beside the app's elements.
WORLD = """
import sys

def seen():
    folders = {p for p in sys.path if p in ("", str(app.path))}
    modules = [name for name in ("services", "models", "tasks", "commons", "jit") if name in sys.modules]
    return [sorted(folders), modules, app.services.NoticeSvc.send("hello")]
"""


@pytest.fixture(scope="module")
def original(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: ServiceInfo
) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("original")
    shutil.copytree(DATA / "original_app", home / "app")
    with (home / "app/tasks/YearPlan/inner.py").open("a") as file:
        file.write(WORLD)

    app = App(home / "app")
    upgrade(app, models=True)
    made = Place(app, PrefectApi(os.environ["PREFECT_API_URL"]))
    made.deploy()
    with worker(home / ".jittask", cwd=home / "app"):
        yield made
    made.remove()


def result(place: Place, name: str, func: str = "customFunc") -> object:
    template = place.app.template(name)
    made = place.svc.createTimerTask(name, clock.now(), func, template.taskType)
    return place.ended(made["taskId"], 100).result


def test_functions_of_each_form(original: Place) -> None:
    assert result(original, "tasks.OldDaily") == '["original", "tasks.OldDaily", 6]'
    assert result(original, "tasks.YearPlan") == '"MeetingSvc"'
    assert result(original, "tasks.DailySync", "services.MeetingSvc.sync") == "[0, []]"


def test_a_row_as_a_view(original: Place) -> None:
    start = datetime.now() + timedelta(minutes=15, seconds=2)
    zone = original.app.zone
    row = original.save(
        "Meeting", title="Plan", startTime=start.astimezone(zone).replace(tzinfo=None)
    )
    [entry] = original.entries("tasks.MeetingReminder", row.id)
    assert original.ended(entry.task_id, 100).result == '"Plan in 15 minutes"'


def test_the_app_folder_is_on_no_path_of_the_worker(original: Place) -> None:
    assert result(original, "tasks.YearPlan", "seen") == '[[], [], ["hello"]]'
