"""A project's commands against a server: a function by code, a name of its own, and another database under the name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE
from place import SCRIPTS, until, worker

from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.server.service import ServiceInfo

PROJECT = """
[project]
name = "ward"
version = "1"

[tool.jittask]
name = "ward"
timezone = "UTC"
modules = ["ward.tasks"]
database = "sqlite:///ward.db"
"""
TASKS = """
from jittask_prefect import task

@task
def export(month: int, form="csv"):
    return [month, form]
"""
ASK = """
from datetime import UTC, datetime
from jittask_prefect import app
from ward.tasks import export
print(app.run_at(export, datetime.now(UTC), month=3)["taskId"])
"""
NAMES = ("ward", "ward-staging")


@dataclass
class Ward:
    """A project, and the commands in its folder."""

    folder: Path

    def run(self, *command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=120 * PATIENCE,
        )

    def jittask(self, *arguments: str, **env: str) -> str:
        """The output of a command that succeeds."""
        done = self.run(SCRIPTS / "jittask", *arguments, **env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refusal(self, *arguments: str, **env: str) -> str:
        """The errors of a command that is refused."""
        done = self.run(SCRIPTS / "jittask", *arguments, **env)
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stderr


@pytest.fixture(scope="module")
def ward(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: ServiceInfo
) -> Iterator[Ward]:
    folder = tmp_path_factory.mktemp("ward")
    (folder / "ward").mkdir()
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "ward/__init__.py").touch()
    (folder / "ward/tasks.py").write_text(TASKS)
    made = Ward(folder)
    made.jittask("db", "upgrade")
    made.jittask("deploy")
    yield made
    api = PrefectApi(prefect_server.url)
    for name in NAMES:
        for each in api.deployments(f"app:{name}").values():
            api.delete_deployment(each.id)
        api.call("DELETE", f"/variables/name/jittask_{name}")


def test_a_function_by_code_runs_in_a_worker(ward: Ward, tmp_path: Path) -> None:
    asked = ward.run(sys.executable, "-c", ASK)
    assert asked.returncode == 0, asked.stderr
    task_id = asked.stdout.strip()

    def record() -> dict[str, Any] | None:
        found = json.loads(ward.jittask("records", "--json", "--status", "completed"))
        return next((r for r in found if r["taskId"] == task_id), None)

    with worker(tmp_path / ".jittask", tmp_path):
        done = until(record, 90, every=1, what="export has not completed")
    assert done is not None and done["result"] == [3, "csv"]


def test_a_name_of_its_own_has_deployments_of_its_own(ward: Ward) -> None:
    assert "tasks.Export" in ward.jittask("deploy", JITTASK_NAME="ward-staging")
    told = ward.run(SCRIPTS / "jittask", "doctor", JITTASK_NAME="ward-staging").stdout
    assert "it knows ward-staging by this database" in told
    assert "no worker takes the work queue ward-staging of the pool" in told
    said = ward.refusal("check", JITTASK_NAME="ward/staging")
    assert 'JITTASK_NAME: found "ward/staging"; allowed: up to 64 letters' in said


def test_another_database_takes_over_and_back(ward: Ward, tmp_path: Path) -> None:
    moved = {"JITTASK_DATABASE_URL": f"sqlite:///{tmp_path / 'moved.db'}"}
    assert "run `jittask db upgrade`" in ward.refusal("deploy", **moved)
    ward.jittask("db", "upgrade", **moved)
    assert "belongs to another database" in ward.refusal("deploy", **moved)
    ward.jittask("deploy", "--take-over", **moved)
    assert "belongs to another database" in ward.refusal("sync")
    ward.jittask("sync", **moved)
    ward.jittask("deploy", "--take-over")
    ward.jittask("sync")
    assert "belongs to another database" in ward.refusal("sync", **moved)
