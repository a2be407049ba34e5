"""A server that asks for a password: all that talks to it sends PREFECT_API_AUTH_STRING."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from place import Place, scheduled, until, worker
from prefect_database import prepare

from jittask_prefect.schedule import clock
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.selection import refresh_settings

SECRET = "shop:a long secret"


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, prefect_database: Path
) -> Iterator[Place]:
    """An app on a Prefect server of its own, which answers nobody without the password."""
    home = tmp_path_factory.mktemp("auth")
    prepare(home / "server", prefect_database)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_SERVER_API_AUTH_STRING", SECRET)
        with Embedded(home / "server") as embedded:
            server, _ = embedded.ensure()
            patch.delenv("PREFECT_SERVER_API_AUTH_STRING")
            patch.setenv("PREFECT_API_AUTH_STRING", SECRET)
            patch.setenv("PREFECT_API_URL", server.url)
            refresh_settings()
            daily = scheduled("def customFunc():\n    return 'came through'\n")
            place = Place.build(
                home / "app", {"tasks/AuthDaily": daily}, name="guarded"
            )
            yield place
            place.app.close()
    refresh_settings()


def test_with_the_password_a_task_is_deployed_run_and_recorded(guarded: Place) -> None:
    deployed = guarded.jittask("deploy")
    assert deployed.returncode == 0, deployed.stderr
    with worker(guarded.app.path.parent / ".jittask", cwd=guarded.app.path.parent):
        made = guarded.svc.createTimerTask(
            "tasks.AuthDaily", clock.now(), "customFunc", "tasks.NormalType", {}
        )
        done = until(
            lambda: guarded.svc.getTaskRecords("tasks.AuthDaily", "completed"),
            60,
            what=str(made),
        )
    assert [(r["taskId"], r["result"]) for r in done] == [
        (made["taskId"], "came through")
    ]


def test_without_it_the_command_says_what_the_server_said(
    guarded: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_AUTH_STRING")
    refused = guarded.jittask("deploy")
    assert refused.returncode == 1
    assert "401" in refused.stderr and os.environ["PREFECT_API_URL"] in refused.stderr
    assert "Traceback" not in refused.stderr
