"""A form is submitted, and Prefect's server is killed and started again before its run begins, or before it deploys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from held_forms import held_forms
from own_server import Server, own_server
from place import Place, scheduled, until, worker

from jittask_prefect.dialogs import forms
from jittask_prefect.errors import PrefectApiError

FORM = {"title": "Water", "startDate": "2026-03-02", "startTime": "09:00"}
ENDED = ("Completed", "Failed", "Crashed")


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, prefect_database: Path
) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("restarted") / "server"
    with own_server(home, prefect_database) as made:
        yield made


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("forms")
    elements = {"tasks/Old": scheduled("def customFunc():\n    return 1\n")}
    made = Place.build(folder / "app", elements, name="restarted")
    made.deploy()
    # The tests sync themselves.
    sync = made.deployments()["jittask.sync"]["id"]
    made.api.change_deployment(sync, {"paused": True})
    with worker(folder / ".jittask", cwd=folder, limit=1):
        yield made


def submit(place: Place, dialog: str, form: dict[str, str]) -> str:
    """Submit a form as the UI does; the flow run's id."""
    path = f"/deployments/{place.deployments()[dialog]['id']}/create_flow_run"
    body = {"parameters": form, "state": {"type": "SCHEDULED"}}
    return str(place.api.call("POST", path, body)["id"])


def retry(place: Place, run_id: str) -> None:
    """*Retry* on the run's page."""
    state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "by a test"}
    body = {"state": state, "force": True}
    place.api.call("POST", f"/flow_runs/{run_id}/set_state", body)


def folders(place: Place) -> list[str]:
    """The tasks' folders, those that a form left half done too."""
    return sorted(one.name for one in (place.app.path / "tasks").iterdir())


def test_the_server_is_away_between_the_form_and_its_run(
    place: Place, server: Server
) -> None:
    pool = "/work_pools/jittask"
    place.api.call("PATCH", pool, {"is_paused": True})
    run_id = submit(place, forms.NEW_SCHEDULED, {**FORM, "title": "Before"})
    server.kill()
    with pytest.raises(PrefectApiError):
        place.api.ping()
    server.start()
    place.api.call("PATCH", pool, {"is_paused": False})
    said = place.state(run_id, *ENDED, seconds=90).message
    assert said == "tasks.Before is made and deployed"
    assert "Before" in folders(place) and "Before2" not in folders(place)
    assert "tasks.Before" in place.deployments()


def test_the_server_is_away_between_the_run_and_the_deployment(
    place: Place, server: Server
) -> None:
    """A new task: the folder is there, its run says what is left, and Retry does that."""
    with held_forms(place.app.path) as waits:
        run_id = submit(place, forms.NEW_SCHEDULED, FORM)
        until(waits, 90, what="a form that waits")
        server.kill()
    until(lambda: "Water" in folders(place), 60)
    server.start()
    state = place.state(run_id, *ENDED, seconds=180)
    assert state.name == "Failed"
    assert "tasks.Water is made, and not deployed: " in state.message
    assert "tasks.Water" not in place.deployments()
    retry(place, run_id)
    state = place.state(run_id, "Completed", seconds=120)
    assert state.message == "tasks.Water is made and deployed"
    assert "tasks.Water" in place.deployments()
    found = folders(place)
    assert "Water" in found and not [n for n in found if n not in KNOWN], found


KNOWN = ("Before", "Old", "Water")


def test_a_changed_task_is_deployed_by_the_next_sync(
    place: Place, server: Server
) -> None:
    with held_forms(place.app.path) as waits:
        form = {"task": "tasks.Old", "title": "New title"}
        run_id = submit(place, forms.EDIT, form)
        until(waits, 90, what="a form that waits")
        server.kill()

    def title() -> str:
        text = (place.app.path / "tasks/Old/e.json").read_text()
        return str(json.loads(text)["title"])

    until(lambda: title() == "New title", 60)
    server.start()
    state = place.state(run_id, *ENDED, seconds=180)
    assert state.name == "Failed"
    assert "tasks.Old is changed, and not deployed: " in state.message
    place.again()

    def deployed() -> bool:
        place.sync()
        return "New title" in place.deployments()["tasks.Old"]["description"]

    until(deployed, 60, every=1)
