"""Where generated files go: a project's own prefect.yaml, tasks/ and models/ are left alone."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from projects import MODELS, TASKS, Project

from jittask_prefect.deploying import deploy as deploying
from jittask_prefect.deploying import deployments, prefect_folder, prefect_yaml
from jittask_prefect.rows.databases import upgrade
from jittask_prefect.testing import FakePrefect, build_app, deploy

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


def files(folder: Path) -> dict[str, bytes]:
    found = (
        p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in str(p)
    )
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


def test_a_projects_generated_files(project: Project) -> None:
    app = project.write("tasks", models=MODELS, tasks=TASKS).app
    (project.folder / "prefect.yaml").write_text("name: mine\n")
    for name in ("tasks", "models"):
        (project.folder / name).mkdir()
        (project.folder / name / "mine.py").write_text("raise RuntimeError\n")
    upgrade(app)
    before = files(project.folder)
    deploying.deploy(app, FakePrefect(), NOW)
    after = files(project.folder)
    made = {n for n in after if n not in before and not n.startswith("app.db")}
    assert made == {".jittask/prefect.yaml", ".jittask/jittask_flows.py"}
    kept = {n: content for n, content in before.items() if "app.db" not in n}
    assert {name: after[name] for name in kept} == kept


def test_prefect_deploys_from_the_projects_folder(project: Project) -> None:
    app = project.write("tasks", models=MODELS, tasks=TASKS).app
    file = prefect_yaml.write(app, NOW)
    assert file == project.folder / ".jittask/prefect.yaml"
    assert prefect_folder.root_of(app) == project.folder
    entry = yaml.safe_load(file.read_text())["deployments"][0]
    assert entry["entrypoint"] == ".jittask/jittask_flows.py:NormalType"
    first = file.read_text().splitlines()[1]
    assert first == "# from pyproject.toml and its modules; edit these, not this file"


def test_the_flow_file_makes_the_app_of_the_project(project: Project) -> None:
    app = project.write("tasks", models=MODELS, tasks=TASKS).app
    file = prefect_yaml.write_flows(app)
    file.write_text("# of an older version\n")
    text = prefect_yaml.write_flows(app).read_text()
    assert "App(Path(__file__).parents[1])" in text
    names: dict[str, object] = {"__file__": str(file)}
    path = list(sys.path)
    exec(compile(text, str(file), "exec"), names)
    assert "DateFieldType" in names and "jittask_sync" in names
    assert str(project.folder) in sys.path and str(file.parent) not in sys.path
    assert sys.path == path


def test_an_app_folders_flow_file_is_the_teams_once_written(tmp_path: Path) -> None:
    app = build_app(tmp_path, {})
    file = prefect_yaml.write_flows(app)
    assert "App(Path(__file__).parent)" in file.read_text()
    file.write_text("# mine\n")
    assert prefect_yaml.write_flows(app).read_text() == "# mine\n"


@pytest.mark.parametrize(
    "name, says",
    [
        (
            "tasks.RemindPatient",
            "Calls `{package}.tasks.remind_patient` in `{package}/tasks.py`.",
        ),
        ("tasks.Export", "By code only."),
    ],
)
def test_a_description_names_the_function(
    project: Project, name: str, says: str
) -> None:
    app = project.write("tasks", models=MODELS, tasks=TASKS).app
    text = deployments.description(app.template(name))
    assert says.replace("{package}", project.package) in text.split("\n\n")


def test_a_line_more_above_a_function_changes_no_deployment(project: Project) -> None:
    """Prefect deletes a deployment's future runs with each change."""
    app = project.write("tasks", models=MODELS, tasks=TASKS).app
    upgrade(app)
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    project.write(tasks="# a comment\n" + TASKS)
    del sys.modules[f"{project.package}.tasks"]
    again = project.app
    assert again.template("tasks.RemindPatient").declared.source.endswith("line 5")  # type: ignore[union-attr]
    assert deploy(again, prefect, NOW).changed == []
