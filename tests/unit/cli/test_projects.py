"""The commands in a project of a team's own: `init --here`, `new`, `check`."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import MODELS, TASKS, Project
from typer.testing import CliRunner, Result

from jittask_prefect.cli import doctor
from jittask_prefect.cli.commands import cli
from jittask_prefect.elements import app as app_room


@pytest.fixture(autouse=True)
def no_app_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JITTASK_APP", raising=False)


def run(folder: Path, *arguments: str) -> Result:
    """A command as a process of its own in a folder reads the app."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(app_room, "_APPS", {})
        return CliRunner().invoke(cli, list(arguments))


def test_init_here_makes_a_project_an_app(project: Project) -> None:
    project.write(models=MODELS)
    (project.folder / "pyproject.toml").write_text('[project]\nname = "clinic"\n')
    done = run(project.folder, "init", "--here")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "pyproject.toml has a new table:"
    assert "    [tool.jittask]" in lines
    assert any(line.startswith("No engine was found") for line in lines)
    assert f"{project.package}/tasks.py is an example:" in lines
    assert lines[-1] == "Next: jittask check && jittask db upgrade && jittask up"
    checked = run(project.folder, "check")
    assert checked.exit_code == 0, checked.output
    assert "tasks: 1, models: 1" in checked.output


def test_init_wants_a_folder_or_here(tmp_path: Path) -> None:
    assert "jittask init --here" in str(run(tmp_path, "init").exception)
    both = run(tmp_path, "init", "shop", "--here")
    assert "without DIR" in str(both.exception)


def test_new_prints_a_function_or_appends_it(project: Project) -> None:
    project.write("tasks", models=MODELS, tasks=TASKS)
    printed = run(project.folder, "new", "date-field", "Visit is over")
    assert printed.exit_code == 0, printed.output
    assert printed.stdout.endswith(
        '@date_field_task(Visit.starts_at, After(at="09:00"))\n'
        'def visit_is_over(visit):\n    """Visit is over"""\n    print("due:", visit)\n'
    )
    assert (
        "VisitIsOver" not in (project.folder / project.package / "tasks.py").read_text()
    )

    done = run(project.folder, "new", "scheduled", "Weekly report", "--append")
    assert "tasks.WeeklyReport is at the end of" in done.output
    text = (project.folder / project.package / "tasks.py").read_text()
    assert "def weekly_report():" in text
    compile(text, "tasks.py", "exec")


def test_append_is_for_modules(tmp_path: Path) -> None:
    run(tmp_path, "init", "shop")
    done = run(tmp_path / "shop", "new", "scheduled", "Weekly", "--append")
    assert "an app with modules" in str(done.exception)


def test_the_doctor_examines_pyproject(project: Project) -> None:
    project.write("tasks", models=MODELS, tasks=TASKS)
    project.more('database = "postgresql+psycopg://ada:secret@localhost/none"\n')
    (project.folder / "pyproject.toml").chmod(0o644)
    found = [f.text for f in doctor._secrets(project.app)]
    assert len(found) == 1
    assert found[0].startswith("pyproject.toml (644) may be read by others")


def test_check_names_the_mistakes_of_modules(project: Project) -> None:
    project.write("tasks", "gone", models=MODELS, tasks=TASKS)
    done = run(project.folder, "check")
    assert done.exit_code == 1
    (line,) = done.stdout.splitlines()
    assert line.startswith("pyproject.toml: tool.jittask.modules: found ")
