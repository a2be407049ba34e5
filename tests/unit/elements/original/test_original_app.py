"""An app in JitTask's form, `tests/data/original_app`: no mistake, every function runs, and the notes say what to do."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from jittask_prefect.elements.original.jit_rows import in_style
from jittask_prefect.rows.databases import upgrade
from jittask_prefect.task_svc.wiring import App
from jittask_prefect.testing import FakePrefect, at, deploy
from tests.helpers.shop import utc

DATA = Path(__file__).parents[3] / "data"
NOW = utc("2026-03-02 00:30")  # Monday, 08:30 in Shanghai
# function → its result, as task of the template's own Type
RESULTS: dict[str, Any] = {
    "tasks.NightlyCount": {
        "count": 2, "chain": ["hello"], "first": "Plan", "none": None, "next": True, "types": [True, True], "services": True,
        "task": "Nightly count", "text": "x",
    },
    "tasks.DailySync": [3, ["Shut (15)", "Plan (10)", "Review (10)"]],
    "tasks.OldDaily": ["original", "tasks.OldDaily", 6],
    "tasks.YearPlan": "MeetingSvc",
}  # fmt: skip
NOTES = [
    "services/MeetingSvc/e.json: variables: no meaning here; take argDict of a task, or environment variables",
    "services/MeetingSvc/e.json: argsToDatatype of total does nothing: arguments arrive as plain values; "
    "take datatypes.<Type>.new({}, value) in the function where its .value is read",
    "models/CustomerModel/e.json, models/Meeting/e.json: db 'databases.Default' is no name of the app's databases; "
    "the rows are in the app's own database",
    "models/CustomerModel/model.py: class CustomerModel(NormalModel) without columns, so no table; write "
    "class CustomerModel(NormalModel, SQLModel, table=True) with columns, or an import of a mapped class",
    "tasks/MeetingReminder/e.json: endOffset does nothing without endField; take the key away, or name the field",
    "tasks/DailySync/e.json: enable is absent, which means enabled here, and disabled in newer versions of JitTask; "
    "write 1 or 0",
    "models/CustomerModel/e.json, models/Meeting/e.json, services/MeetingSvc/e.json and 5 more: backendBundleEntry, "
    "createTime, modifyTime, frontBundleEntry, icon, sort: no meaning here; may stay",
]


class Original:
    """The app, its rows and its Prefect in memory."""

    def __init__(self, folder: Path) -> None:
        self.app = App(folder)
        upgrade(self.app, models=True)
        self.api = FakePrefect()
        deploy(self.app, self.api, NOW)
        self.model: Any = self.app.getElement("models.Meeting")
        with at(NOW), self.app.session() as session:
            for title, state, count in (
                ("Plan", "planned", 0),
                ("Review", "planned", 0),
                ("Shut", "shut", 5),
            ):
                session.add(self.model(title=title, state=state, count=count))
            session.commit()

    def row(self, key: int) -> Any:
        with self.app.session() as session:
            return session.get(self.model, key)


@pytest.fixture
def original(tmp_path: Path) -> Original:
    shutil.copytree(DATA / "original_app", tmp_path / "app")
    return Original(tmp_path / "app")


def test_there_is_no_mistake(original: Original) -> None:
    assert original.app.check() == []
    assert len(original.app.templates()) == 6


def test_the_notes_say_what_to_do(original: Original) -> None:
    found = original.app.notes()
    assert [note for note in NOTES if note not in found] == []
    assert len(found) == len(set(found))


@pytest.mark.parametrize("name", RESULTS)
def test_the_function_of_a_scheduled_task(original: Original, name: str) -> None:
    template = original.app.template(name)
    function = template.cfg.func or "customFunc"
    with at(NOW):
        facade = original.app.getElement("services.TaskSvc")
        facade.createTimerTask(
            name, "2026-03-02 08:30:00", function, "tasks.NormalType"
        )
        [ended] = original.api.run_due(original.app, NOW)
    assert (ended.status, ended.result) == ("completed", RESULTS[name]), ended.message


def test_the_functions_of_rows(original: Original) -> None:
    app, api = original.app, original.api
    with at(NOW), app.session() as session:
        row = session.get(original.model, 1)
        assert row is not None
        row.startTime = datetime(2026, 3, 2, 10)  # Shanghai
        session.commit()

    api.sync(app, NOW)
    told = utc("2026-03-02 01:45")  # 09:45 in Shanghai
    with at(told):
        [ended] = api.run_due(app, told)
    assert (ended.status, ended.result) == ("completed", "Plan in 15 minutes"), (
        ended.message
    )
    assert original.row(1).state == "told"

    later = utc("2026-03-02 04:00")  # two hours after the start
    with at(later):
        api.sync(app, later)
        [ended] = api.run_due(app, later)
    assert (ended.status, ended.result) == (
        "completed",
        ["Follow up: Plan", "Follow up: Plan"],
    ), ended.message
    assert original.row(1).count == 1


def test_the_events_of_a_model_call_the_facade(original: Original) -> None:
    with at(NOW), original.app.session() as session:
        row = session.get(original.model, 2)
        assert row is not None
        row.startTime = datetime(2026, 3, 3, 10)
        session.commit()
        session.delete(row)
        session.commit()
    with at(NOW):
        records = original.app.getElement("services.TaskSvc").getTaskRecords()
    assert {record["status"] for record in records} == {"ended"}


def test_a_handler_of_a_service_hands_a_view_to_the_facade(original: Original) -> None:
    with at(NOW), original.app.session() as session:
        row = in_style(original.app, session.get(original.model, 3))
        row.startTime.value = datetime(2026, 3, 4, 10)
        found = original.app.services.MeetingSvc.onModelUpdate(
            {"postData": row, "prevData": {"id": 3, "startTime": None}}
        )
    # The reminder is for planned meetings only, and this one is shut.
    assert [(each["fullName"], each["action"]) for each in found["tasks"]] == [
        ("tasks.OrderFollowUp", "unchanged")
    ]


def test_times_of_the_older_forms(original: Original) -> None:
    window = utc("2026-01-01 00:00"), utc("2027-01-01 00:00")
    year = [str(due)[:16] for due in original.app.tasks.YearPlan.occurrences(*window)]
    assert year == [
        "2026-03-02 09:00",
        "2026-09-07 09:00",
    ]  # the first Mondays of March and September
    last = [str(due)[:16] for due in original.app.tasks.OldDaily.occurrences(*window)]
    assert last[:2] == ["2026-01-30 00:00", "2026-02-27 00:00"]  # the last Fridays


def test_imports_of_a_model_give_the_class_of_get_element(original: Original) -> None:
    service = original.app.module("services.MeetingSvc", "service")
    assert service.Meeting is original.model
    assert (
        original.app.module("services.NoticeSvc", "").MeetingSvc is service.MeetingSvc
    )
