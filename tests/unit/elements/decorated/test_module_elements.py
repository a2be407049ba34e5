"""Mapped classes and marked functions of modules are elements; what a broken module holds is never gone."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from projects import MODELS, TASKS, Project

from jittask_prefect import App, ArgumentError, ConfigError, UnknownElement
from jittask_prefect.elements.app import files_of_apps, use_app
from jittask_prefect.elements.decorated import modules as module_room
from jittask_prefect.rows.databases import upgrade
from jittask_prefect.testing import FakePrefect, at, build_app, deploy

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


def said(app: App) -> list[str]:
    return [str(problem) for problem in app.check()]


def refusal(app: App, name: str) -> str:
    with pytest.raises(ConfigError) as error:
        app.getElement(name)
    return str(error.value)


def test_functions_and_mapped_classes_are_elements(project: Project) -> None:
    app = project.write("tasks", models=MODELS, tasks=TASKS).app
    assert said(app) == []
    assert app.names("tasks") == ["tasks.Export", "tasks.RemindPatient", "tasks.Report"]
    assert app.names("models") == ["models.Visit"]
    task: Any = app.getElement("tasks.RemindPatient")
    module = sys.modules[f"{project.package}.tasks"]
    assert task.title == "Remind the patient."
    assert (task.taskType, task.model_name) == ("tasks.DateFieldType", "models.Visit")
    assert task.getFunc() is module.remind_patient
    assert task.model is module.Visit
    assert app.getElement("models.Visit") is module.Visit
    assert task.declared.source == f"{project.package}/tasks.py, line 4"
    assert task.declared.function_name == f"{project.package}.tasks.remind_patient"


def test_a_row_of_the_teams_own_session_has_its_task(project: Project) -> None:
    app = project.write("tasks", models=MODELS, tasks=TASKS).app
    upgrade(app, models=True)
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    Visit = app.getElement("models.Visit")
    with at(NOW), app.session() as session:
        session.add(Visit(id=1, starts_at=datetime(2026, 3, 2, 10, 0)))
        session.commit()
    prefect.sync(app, NOW)
    (outcome,) = prefect.run_due(app, NOW)
    assert outcome.status == "completed"
    with app.session() as session:
        assert session.get(Visit, 1).reminded


@pytest.mark.parametrize("asked", ["app is not None", "app.name == 'clinic'"])
def test_the_first_save_imports_the_modules_before_its_flush(
    project: Project, asked: str
) -> None:
    """Where `app.load()` was forgotten: only the app's place is known, and a model was imported by the web process."""
    upgrade(project.write("tasks", models=MODELS, tasks=TASKS).app, models=True)
    code = f"""
import sys
from datetime import datetime, timedelta
sys.path.append({str(project.folder)!r})
from jittask_prefect import app
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from {project.package}.models import Visit
tasks = "{project.package}.tasks"
print(tasks in sys.modules, {asked})
engine = create_engine("sqlite:///{project.folder}/app.db")
with Session(engine) as s:
    s.add(Visit(starts_at=datetime.now() + timedelta(days=3)))
    s.commit()
with engine.connect() as c:
    print(c.execute(text("SELECT template, status FROM jittask_ledger")).all())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.folder,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [
        "False True",
        "[('tasks.RemindPatient', 'pending')]",
    ], done.stderr


def test_run_at_runs_a_function_once(project: Project) -> None:
    app = project.write("tasks", models=MODELS, tasks=TASKS).app
    upgrade(app, models=True)
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    module = sys.modules[f"{project.package}.tasks"]
    with at(NOW):
        made = app.run_at(module.export, "2026-03-02 09:00:00", month=3)
    assert (made["fullName"], made["startTime"]) == (
        "tasks.Export",
        "2026-03-02T09:00:00+00:00",
    )
    assert prefect.run_due(app, NOW) == []
    (outcome,) = prefect.run_due(app, datetime(2026, 3, 2, 9, 0, tzinfo=UTC))
    assert outcome.result == [3, "csv"]
    with pytest.raises(ArgumentError, match="month"):
        app.run_at(module.export, NOW)
    with pytest.raises(ArgumentError, match=r"^export\(month, form='csv'\); called"):
        app.run_at(module.export, NOW, months=3)
    with pytest.raises(ArgumentError, match=r"the arguments .* hold what JSON cannot"):
        app.run_at(module.export, NOW, month=object())
    with pytest.raises(ArgumentError, match="is no task of clinic: @task above it"):
        app.run_at(print, NOW)


def test_run_at_waits_for_the_opening_hours_where_it_says_so(project: Project) -> None:
    tasks = """
from jittask_prefect import Window, task

@task(window=Window("08:00", "18:00"))
def call(number): return number
"""
    app = project.write("tasks", models=MODELS, tasks=tasks).app
    upgrade(app, models=True)
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    call = sys.modules[f"{project.package}.tasks"].call
    with at(NOW):
        at_night = app.run_at(call, "2026-03-02 22:00:00", number=1)
        by_day = app.run_at(call, "2026-03-02 22:00:00", window=True, number=2)
    assert at_night["startTime"] == "2026-03-02T22:00:00+00:00"
    assert by_day["startTime"] == "2026-03-03T08:00:00+00:00"
    found = prefect.run_due(app, datetime(2026, 3, 2, 22, tzinfo=UTC))
    assert [outcome.result for outcome in found] == [1]
    found = prefect.run_due(app, datetime(2026, 3, 3, 8, tzinfo=UTC))
    assert [outcome.result for outcome in found] == [2]


def test_by_code_only_is_never_due(project: Project) -> None:
    app = project.write("tasks", models=MODELS, tasks=TASKS).app
    task = app.getElement("tasks.Export")
    assert task.getNextRunTime(now=NOW) is None


# Broken modules


@pytest.mark.parametrize(
    "broken",
    ["\n1 / 0\n", "\ndef (:\n", "\nimport nothing_such\n", "\nraise SystemExit\n"],
    ids=["fails", "syntax", "library", "exit"],
)
def test_a_broken_module_keeps_its_tasks_and_no_other_from_working(
    project: Project, broken: str
) -> None:
    bill = "from jittask_prefect import task\n@task\ndef send_bill(): ...\n"
    project.write("tasks", "bills", models=MODELS, tasks=TASKS + broken, bills=bill)
    app = project.app
    assert "tasks.py" in refusal(app, "tasks.RemindPatient")
    assert not app.gone("tasks.RemindPatient")
    fault = app.fault("tasks.RemindPatient")
    assert fault is not None and not fault.gone
    assert [t.fullName for t in app.templates()] == ["tasks.SendBill"]
    assert len(said(app)) == 1


def test_what_a_parsed_module_does_not_hold_is_gone(project: Project) -> None:
    app = project.write("tasks", models=MODELS, tasks=TASKS + "\n1 / 0\n").app
    assert app.gone("tasks.Nothing")
    project.write(models=MODELS, tasks=TASKS + "\ndef (:\n")
    again = project.app
    assert not again.gone("tasks.Nothing"), "no parser reads its names"


def test_no_module_no_end(project: Project) -> None:
    """A module that is not there yet may hold any task: a deploy in two steps ends nothing."""
    app = project.write("taks", models=MODELS, tasks=TASKS).app
    assert not app.gone("tasks.RemindPatient")
    assert "taks, which is not there" in "\n".join(said(app))


def test_a_sync_ends_nothing_of_a_broken_module(project: Project) -> None:
    app = project.write("tasks", models=MODELS, tasks=TASKS).app
    upgrade(app, models=True)
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    Visit = app.getElement("models.Visit")
    with at(NOW), app.session() as session:
        session.add(Visit(id=1, starts_at=datetime(2026, 3, 2, 20, 0)))
        session.commit()
    prefect.sync(app, NOW)
    project.write(tasks=TASKS + "\n1 / 0\n")
    del sys.modules[f"{project.package}.tasks"]
    other = project.app
    prefect.serve(other)
    report = prefect.sync(other, NOW)
    assert report.ended == 0
    deployed = deploy(other, prefect, NOW)
    assert deployed.leftover == [] and deployed.removed == []
    assert "tasks.RemindPatient" in prefect.all_deployments


def test_a_repaired_module_works_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(module_room, "monotonic", lambda: now[0])
    app = project.write("tasks", models=MODELS, tasks=TASKS + "\n1 / 0\n").app
    assert app.templates() == []
    project.write(tasks=TASKS + "\nrepaired = True\n")
    now[0] = 31
    assert len(app.templates()) == 3


# Names


def test_two_functions_of_one_name(project: Project) -> None:
    twice = "from jittask_prefect import task\n@task\ndef send(): ...\n"
    app = project.write("a", "b", a=twice, b=twice).app
    told = "\n".join(said(app))
    assert f"{project.package}/a.py" in told and f"{project.package}/b.py" in told
    with pytest.raises(ConfigError):
        app.getElement("tasks.Send")


def test_a_function_and_a_folder_of_one_name(project: Project) -> None:
    one = "from jittask_prefect import task\n@task\ndef send(): ...\n"
    folder = project.folder / "flows/tasks/Send"
    folder.mkdir(parents=True)
    (folder / "e.json").write_text(
        '{"type": "tasks.NormalType", "title": "x", "timerCfg": {"startTime": "2026-01-01 09:00:00"}}'
    )
    (folder / "inner.py").write_text("def customFunc(): ...\n")
    app = project.write("a", a=one).app
    assert "send, which is tasks.Send as flows/tasks/Send is" in refusal(
        app, "tasks.Send"
    )


TWICE = (
    MODELS
    + "class Other(DeclarativeBase): ...\n"
    + MODELS.split("mapped_column\n")[1]
    .replace("(Base)", "(Other)")
    .replace("Visit", "Visit2")
)


def test_two_classes_of_one_name(project: Project) -> None:
    other = MODELS.replace('"visits"', '"others"')
    uses = "from {package} import models, others\nA = models.Visit\nB = others.Visit\n"
    app = project.write("uses", models=MODELS, others=other, uses=uses).app
    told = refusal(app, "models.Visit")
    assert told.startswith("pyproject.toml: tool.jittask.models: found Visit twice: ")
    assert f'OthersVisit = "{project.package}.others:Visit"' in told
    project.more('[tool.jittask.models]\nOthersVisit = "{package}.others:Visit"\n')
    again = project.app
    assert again.names("models") == ["models.OthersVisit", "models.Visit"]
    found = again.getElement("models.OthersVisit")
    assert found.__module__ == f"{project.package}.others"


def test_a_class_that_is_named_and_not_there(project: Project) -> None:
    project.write("tasks", models=MODELS, tasks=TASKS)
    project.more('[tool.jittask.models]\nBed = "{package}.models:Bed"\n')
    assert "models.Bed: found " in refusal(project.app, "models.Bed")


def test_a_model_in_another_database(project: Project) -> None:
    project.write("tasks", models=MODELS, tasks=TASKS)
    project.more(
        'databases = {crm = "sqlite:///crm.db"}\n'
        '[tool.jittask.models]\nVisit = {class = "{package}.models:Visit", database = "crm"}\n'
    )
    app = project.app
    assert app.database_of("models.Visit") == "crm"
    assert app.getElement("models.Visit").__name__ == "Visit"


@pytest.mark.parametrize(
    ("label", "problem"), [("status", None), ("patient", "found patient, which Visit")]
)
def test_the_table_of_models_states_what_names_a_row(
    project: Project, label: str, problem: str | None
) -> None:
    project.write("tasks", models=MODELS, tasks=TASKS)
    project.more(
        "[tool.jittask.models]\n"
        f'Visit = {{class = "{{package}}.models:Visit", rowLabel = "{label}"}}\n'
    )
    app = project.app
    template: Any = app.getElement("tasks.RemindPatient")
    assert template.row_label == label
    told = "; ".join(said(app))
    assert (problem or "") in told and bool(told) is bool(problem)


def test_the_argument_of_a_task_goes_before_the_models_label(project: Project) -> None:
    tasks = TASKS.replace("Before(hours=2),", "Before(hours=2), row_label=Visit.id,")
    project.write("tasks", models=MODELS, tasks=tasks)
    project.more(
        "[tool.jittask.models]\n"
        'Visit = {class = "{package}.models:Visit", rowLabel = "status"}\n'
    )
    template: Any = project.app.getElement("tasks.RemindPatient")
    assert template.row_label == "id"


def test_an_unknown_name_is_told_with_those_that_are(project: Project) -> None:
    app = project.write("tasks", models=MODELS, tasks=TASKS).app
    with pytest.raises(UnknownElement, match="tasks has Export, RemindPatient, Report"):
        app.getElement("tasks.Nothing")


# Check


def test_mistakes_name_file_line_and_argument(project: Project) -> None:
    wrong = (
        "from jittask_prefect import Before, date_field_task\nfrom {package}.models import Visit\n\n"
        "@date_field_task(Visit.starts_at, Before(days=2, at='25:00'))\ndef remind(visit): ...\n"
        "@date_field_task(Visit.starts_at)\ndef both(visit, other): ...\n"
    )
    told = said(project.write("tasks", models=MODELS, tasks=wrong).app)
    assert len(told) == 2
    assert any(f"{project.package}/tasks.py, line 4" in line for line in told)
    assert any(
        f"{project.package}/tasks.py, line 6: both: found both(visit, other)" in line
        for line in told
    )


def test_a_marked_function_outside_of_the_modules_is_a_warning(
    project: Project,
) -> None:
    other = "from jittask_prefect import task\n@task\ndef forgotten(): ...\n"
    app = project.write("tasks", models=MODELS, tasks=TASKS, other=other).app
    (warning,) = app.warnings(NOW)
    assert warning == (
        f"{project.package}/other.py: tasks.Forgotten is no task, since {project.package}.other "
        "is not in tool.jittask.modules of pyproject.toml"
    )
    __import__(f"{project.package}.other")
    (warning,) = app.warnings(NOW)
    assert f"other.py, line 2: forgotten is no task, since {project.package}.other" in (
        warning
    )


def test_circular_imports_of_models_and_tasks(project: Project) -> None:
    models = MODELS + "\nimport {package}.tasks\n"
    assert said(project.write("tasks", models=models, tasks=TASKS).app) == []
    broken = "from {package}.tasks import remind_patient\n" + MODELS
    project.write(models=broken)
    for name in [n for n in sys.modules if n.startswith(project.package)]:
        del sys.modules[name]
    (told,) = said(project.app)
    assert "of two modules that import each other, one imports the other" in told


# For other rooms


def test_changed_files_of_the_app_are_seen(project: Project) -> None:
    app = project.write("tasks", "later", models=MODELS, tasks=TASKS).app
    use_app(app)
    app.load()
    found = {str(file) for file in files_of_apps()}
    assert str(project.folder / "pyproject.toml") in found
    assert str(project.folder / project.package / "tasks.py") in found


def test_build_app_takes_modules(project: Project, tmp_path: Path) -> None:
    project.write(models=MODELS, tasks=TASKS)
    sys.path.append(str(project.folder))
    module = __import__(f"{project.package}.tasks", fromlist=["x"])
    app = build_app(tmp_path / "app", modules=[module])
    assert said(app) == []
    assert app.getElement("tasks.Report").getFunc()() == "reported"
    assert app.database_url() == f"sqlite:///{tmp_path}/app/test.db"


@pytest.mark.parametrize(
    ("text", "line", "said_of_it"),
    [
        ("@scheduled_task(Daily())\ndef 日报(): ...\n", 2, "name: found 日报; "),
        (
            "f = scheduled_task(Daily())(lambda: None)\n",
            2,
            "name: found <lambda>; ",
        ),
        (
            "import functools\nf = task(functools.partial(print, 1))\n",
            3,
            "name: found no name; ",
        ),
        ("f = task(5)\n", 2, "name: found no name; "),
        (
            "f = task(name='F')(5)\n",
            2,
            "function: found 5, a int; ",
        ),
        (
            "@scheduled_task\ndef f(): ...\n",
            2,
            'rule: found the function itself; allowed: a rule in parentheses: @scheduled_task(Daily(at="09:00"))',
        ),
        (
            "@date_field_task\ndef f(row): ...\n",
            2,
            "field: found the function itself; allowed: a field in parentheses: @date_field_task(Invoice.due_on)",
        ),
        (
            "@scheduled_task(Daily())\n@scheduled_task(Weekly('mon'))\ndef f(): ...\n",
            2,
            "function: found 2 decorators on f; allowed: one for each function",
        ),
        (
            "@task(name='A')\n@task(name='B')\ndef f(): ...\n",
            2,
            "function: found 2 decorators on f; allowed: one for each function",
        ),
    ],
)
def test_a_mark_that_makes_no_task_leaves_the_others_alone(
    project: Project, text: str, line: int, said_of_it: str
) -> None:
    good = "@task\ndef good(): ...\n"
    text = f"from jittask_prefect import *\n{text}{good}"
    app = project.write("tasks", tasks=text).app
    (found,) = dict.fromkeys(said(app))
    assert found.startswith(f"{project.package}/tasks.py, line {line}: {said_of_it}")
    assert [t.fullName for t in app.templates()] == ["tasks.Good"]
    assert list(app.of_modules.left_out()) == []
    assert all(name.isidentifier() for name in map(short, app.names("tasks")))


def short(name: str) -> str:
    return name.removeprefix("tasks.")


def test_tables_that_foreign_keys_lead_to_are_made_too(project: Project) -> None:
    """The modules import the visit only; its patient, and the patient's doctor, are no models of the app."""
    models = """
from datetime import datetime
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
class Base(DeclarativeBase): ...
class Doctor(Base):
    __tablename__ = "doctors"
    id: Mapped[int] = mapped_column(primary_key=True)
    boss_id: Mapped[int | None] = mapped_column(ForeignKey("doctors.id"))
class Patient(Base):
    __tablename__ = "patients"
    id: Mapped[int] = mapped_column(primary_key=True)
    doctor_id: Mapped[int] = mapped_column(ForeignKey(Doctor.id))
class Visit(Base):
    __tablename__ = "visits"
    id: Mapped[int] = mapped_column(primary_key=True)
    starts_at: Mapped[datetime]
    patient_id: Mapped[int] = mapped_column(ForeignKey("patients.id"))
class Other(Base):
    __tablename__ = "others"
    id: Mapped[int] = mapped_column(primary_key=True)
"""
    tasks = "from {package}.models import Visit\n"
    app = project.write("tasks", models=models, tasks=tasks).app
    made = [line for line in upgrade(app, models=True) if ": table " in line]
    assert sorted(made) == [
        "default: table doctors",
        "default: table patients",
        "default: table visits",
    ]


def test_warnings_say_the_arguments_of_decorators(project: Project) -> None:
    text = (
        "from jittask_prefect import *\n"
        "@scheduled_task(Daily(), holiday_policy='previous')\ndef a(): ...\n"
        "@scheduled_task(Daily(), workdays_only=True, calendar='DE')\ndef b(): ...\n"
        "@scheduled_task(Cron('*/5 2 * * *'), timezone='Europe/Berlin')\ndef c(): ...\n"
        "@scheduled_task(Daily(), calendar='DE', skip_holiday=True, until='2001-01-01')\ndef d(): ...\n"
    )
    warnings = project.write("tasks", tasks=text).app.warnings(NOW)
    told = "\n".join(warnings)
    assert "A: holiday_policy previous does nothing without skip_holiday or" in told
    assert "B: workdays_only alone keeps off weekends only; legal" in told
    assert "Minutely or Hourly counts elapsed time" in told
    for key in ("skipHoliday", "workdaysOnly", "startTime", "repeatType", "endTime"):
        assert key not in told


def test_errors_say_the_arguments_of_decorators(project: Project) -> None:
    text = (
        "from jittask_prefect import *\n"
        "@scheduled_task(Daily(start='2030-01-01'), until='2020-01-01')\ndef a(): ...\n"
        "@scheduled_task(Daily(), skip_holiday=True)\ndef b(): ...\n"
    )
    first, second = said(project.write("tasks", tasks=text).app)
    assert "until: found" in first and "a time from rule.start (2030" in first
    assert "skip_holiday: found 1 without a calendar; allowed: a calendar" in second
    assert "a calendar of pyproject.toml (none) or a country code" in second
    assert "app.json" not in first + second


def test_a_calendar_that_is_closed_on_every_day_is_a_warning(project: Project) -> None:
    text = "from jittask_prefect import *\n@scheduled_task(Daily(), skip_holiday=True, calendar='shut')\ndef a(): ...\n"
    closed = '[tool.jittask.calendars.shut]\nclosed = ["01-01/12-31"]\n'
    app = project.write("tasks", tasks=text).more(closed).app
    assert said(app) == []
    (warning,) = [each for each in app.warnings(NOW) if "shut" in each]
    assert warning == (
        "pyproject.toml: the calendar shut has no working day until 2101-01-03; "
        "a task that keeps off its holidays is not due before"
    )
