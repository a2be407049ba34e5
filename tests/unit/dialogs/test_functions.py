"""Tasks that are decorated functions in the dialogs: they run and end there, and their files are edited elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from projects import MODELS, TASKS, Project
from submitting import submit

from jittask_prefect import App, ConfigError
from jittask_prefect.deploying.open_tasks import open_tasks
from jittask_prefect.dialogs import forms
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.rows.databases import upgrade
from jittask_prefect.testing import FakePrefect, at, deploy

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


@pytest.fixture
def deployed(project: Project) -> tuple[App, FakePrefect]:
    app = project.write("tasks", models=MODELS, tasks=TASKS).app
    upgrade(app, models=True)
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    return app, prefect


def test_they_are_in_the_drop_downs(deployed: tuple[App, FakePrefect]) -> None:
    app, _ = deployed
    for dialog in (forms.EDIT, forms.RUN_NOW):
        (field,) = (f for f in forms.form(app, dialog, NOW) if f.name == "task")
        assert "tasks.RemindPatient" in str(field)


def test_the_form_for_editing_names_file_and_line(
    deployed: tuple[App, FakePrefect], project: Project
) -> None:
    app, prefect = deployed
    form = {"task": "tasks.RemindPatient", "title": "Other"}
    with pytest.raises(ConfigError) as error:
        submit(app, prefect, forms.EDIT, form, NOW)
    assert str(error.value) == (
        f"Task: found tasks.RemindPatient, which is the function {project.package}.tasks.remind_patient; "
        f"allowed: a task with a folder; this one is changed in {project.package}/tasks.py, line 4"
    )


def test_run_now(deployed: tuple[App, FakePrefect]) -> None:
    app, prefect = deployed
    with at(NOW):
        said = submit(app, prefect, forms.RUN_NOW, {"task": "tasks.Report"}, NOW)
    assert said.message.startswith("tasks.Report begins as flow run")
    with at(NOW):
        again = submit(app, prefect, forms.RUN_NOW, {"task": "tasks.Report"}, NOW)
    run_id = said.message.rpartition(" ")[2]
    assert again.message == f"tasks.Report is on its way already, as flow run {run_id}"
    (outcome,) = prefect.run_due(app, NOW)
    assert outcome.result == "reported"

    given = {"task": "tasks.Export", "argDict": '{"month": 3}'}
    with at(NOW):
        submit(app, prefect, forms.RUN_NOW, given, NOW)
    (outcome,) = prefect.run_due(app, NOW)
    assert outcome.result == [3, "csv"]


def test_run_now_for_a_row_and_end(deployed: tuple[App, FakePrefect]) -> None:
    app, prefect = deployed
    Visit = app.getElement("models.Visit")
    with at(NOW), app.session() as session:
        session.add(Visit(id=1, starts_at=datetime(2026, 3, 2, 20, 0)))
        session.add(Visit(id=2, starts_at=datetime(2026, 3, 2, 20, 0)))
        session.commit()
        run = {"task": "tasks.RemindPatient", "row": "1"}
        said = submit(app, prefect, forms.RUN_NOW, run, NOW)
        assert said.message.startswith("tasks.RemindPatient, row 1")
        found = open_tasks(app, prefect, prefect.deployments(app_tag(app.name)))
        of_second = next(each.text(NOW) for each in found if "Visit 2" in each.name)
        ended = submit(app, prefect, forms.END, {"task": of_second}, NOW)
    assert ended.message.endswith("was pending and is ended")


def test_a_new_task_of_a_forms_stands_in_flows(
    deployed: tuple[App, FakePrefect], project: Project
) -> None:
    app, prefect = deployed
    new = {"title": "Weekly", "startDate": "2026-03-09", "startTime": "09:00"}
    submit(app, prefect, forms.NEW_SCHEDULED, new, NOW)
    assert (project.folder / "flows/tasks/Weekly/e.json").exists()
    twin = {**new, "title": "Report", "name": "Report"}
    with pytest.raises(ConfigError, match="a name that no other element of tasks/ has"):
        submit(app, prefect, forms.NEW_SCHEDULED, twin, NOW)
