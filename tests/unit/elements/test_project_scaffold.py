"""`init --here` and `new` in a project: a table, an example that works, and functions that are appended."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jittask_prefect import App, ArgumentError, ConfigError
from jittask_prefect.elements.project_scaffold import init_here, new_function

CLINIC = Path(__file__).parents[2] / "data" / "clinic"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the clinic; its modules are forgotten afterwards."""
    unwanted = shutil.ignore_patterns("__pycache__", "*.db", ".jittask")
    copy = shutil.copytree(CLINIC, tmp_path / "clinic", ignore=unwanted)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("CLINIC_DATABASE_URL", f"sqlite:///{tmp_path}/clinic.db")
    monkeypatch.chdir(copy)
    yield copy
    for name in [n for n in sys.modules if re.match(r"clinic(\.|$)", n)]:
        del sys.modules[name]


def test_the_table_and_the_example_work(project: Path) -> None:
    before = (project / "pyproject.toml").read_text()
    made = init_here(project)
    whole = (project / "pyproject.toml").read_text()
    assert whole == f"{before}\n{made.table}"
    assert made.table.splitlines()[2:] == [
        'engine = "clinic.database:engine"',
        'modules = ["clinic.tasks"]',
    ]
    app = App(project)
    assert app.check() == []
    task = app.getElement("tasks.RemindAppointment")
    assert task.title == "Appointment reminder."
    assert task.model_name == "models.Appointment"


def test_nothing_else_of_the_project_changes(project: Path) -> None:
    (project / "tasks").mkdir()
    (project / "tasks/mine.txt").write_text("mine")
    (project / "prefect.yaml").write_text("name: mine")
    before = {p: p.read_bytes() for p in project.rglob("*") if p.is_file()}
    made = init_here(project)
    after = {p: p.read_bytes() for p in project.rglob("*") if p.is_file()}
    changed = {p for p in after if before.get(p) != after[p]}
    assert changed == {project / "pyproject.toml", made.example}


def test_a_tasks_module_of_the_teams_own_stays(project: Path) -> None:
    (project / "clinic/tasks.py").write_text("celery = 1")
    made = init_here(project)
    assert made.example == project / "clinic/jittask_tasks.py"
    assert 'modules = ["clinic.jittask_tasks"]' in made.table
    (project / "clinic/jittask_tasks.py").write_text("x = 1")


def test_generated_files_are_left_out_of_the_repository(project: Path) -> None:
    (project / ".gitignore").write_text("*.db")
    init_here(project)
    assert (project / ".gitignore").read_text() == "*.db\n.jittask/\n"


def test_an_app_is_not_made_twice(project: Path) -> None:
    init_here(project)
    with pytest.raises(ArgumentError, match="an app already"):
        init_here(project)


def test_a_broken_pyproject_is_left_alone(project: Path) -> None:
    (project / "pyproject.toml").write_text("[project\n")
    with pytest.raises(ConfigError, match=r"pyproject\.toml: found .*valid TOML"):
        init_here(project)
    assert not (project / "clinic/tasks.py").exists()


def test_a_folder_without_anything(tmp_path: Path) -> None:
    folder = tmp_path / "诊所 9"
    folder.mkdir()
    made = init_here(folder)
    assert 'name = "9"' in made.table
    assert 'database = "sqlite:///app.db"' in made.table
    assert "@scheduled_task(Daily" in made.example_text


def test_a_new_function_is_printed(project: Path) -> None:
    init_here(project)
    app = App(project)
    made = new_function(app, "周报", rows=False, model=None, field=None)
    assert made.name == "tasks.ZhouBao"
    assert made.text == (
        "from jittask_prefect import Daily, scheduled_task\n\n\n"
        '@scheduled_task(Daily(at="09:00"))\ndef zhou_bao():\n    """周报"""\n    print("it is time")\n'
    )


def test_a_new_function_is_appended_and_works(project: Path) -> None:
    made = init_here(project)
    app = App(project)
    for title in ("Invoice due", "URL's 2 parts"):
        function = new_function(
            app, title, rows=True, model="models.Appointment", field="starts_at"
        )
        assert function.append() == made.example
    text = made.example.read_text()
    assert text.count("from clinic.models import Appointment") == 1
    assert text.count("from jittask_prefect import") == 2
    compile(text, "tasks.py", "exec")
    for name in [n for n in sys.modules if n.startswith("clinic.tasks")]:
        del sys.modules[name]
    again = App(project)
    assert again.check() == []
    assert again.getElement("tasks.InvoiceDue").title == "Invoice due"
    assert again.getElement("tasks.URLs2Parts").title == "URL's 2 parts"


def test_a_field_that_is_not_there(project: Path) -> None:
    init_here(project)
    with pytest.raises(ArgumentError, match="field 'x'; allowed: starts_at"):
        new_function(
            App(project), "X", rows=True, model="models.Appointment", field="x"
        )
