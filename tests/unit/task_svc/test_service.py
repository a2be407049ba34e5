"""`services.TaskSvc`, method by method, with exactly the names and results of the contract."""

from __future__ import annotations

import json
import shutil
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, select

from jittask_prefect import (
    App,
    ArgumentError,
    InvalidTime,
    JittaskError,
    PrefectApiError,
    UnknownElement,
    UnknownTask,
)
from jittask_prefect.ledger import handover_marks
from jittask_prefect.ledger.tables import entries
from jittask_prefect.rows import sync
from jittask_prefect.schedule import clock
from jittask_prefect.task_svc.service import TaskSvc
from jittask_prefect.testing import FakePrefect, build_app, deploy

DATA = Path(__file__).parents[2] / "data"
NOW = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)  # a Monday, 09:00 in Shanghai
SHANGHAI = ZoneInfo("Asia/Shanghai")

MODEL = """
from datetime import date
from sqlmodel import Field, SQLModel


class Contract(SQLModel, table=True):
    __tablename__ = "contract"
    id: int | None = Field(default=None, primary_key=True)
    model: str = "framework"  # a column that has the name of a key of rowObj
    endDate: date | None = None
    reminders: int = 0
"""
ELEMENTS: dict[str, Any] = {
    "models/Contract": {
        "e.json": {"type": "models.NormalType", "title": "Contract"},
        "model.py": MODEL,
    },
    "services/NoticeSvc": {
        "e.json": {"type": "services.NormalType", "title": "Notices"},
        "service.py": (
            "from jittask_prefect import NormalService\n"
            "class NoticeSvc(NormalService):\n"
            "    def send(self, to, times=1):\n"
            "        if not to:\n            raise ValueError('nobody to send to')\n"
            "        return [to, times]\n"
            "    def which(self):\n"
            "        return self.app.task.taskId\n"
        ),
    },
    "tasks/Daily": {
        "e.json": {
            "type": "tasks.NormalType",
            "title": "Tägliche Arbeit",
            "timerCfg": {
                "startTime": "2026-01-01 09:00:00",
                "repeat": {"repeatType": "day"},
            },
        },
        "inner.py": "def customFunc():\n    return 'plain'\n\ndef extra(since):\n    return since\n",
    },
    "tasks/Off": {
        "e.json": {
            "type": "tasks.NormalType",
            "title": "Switched off",
            "enable": 0,
            "timerCfg": {
                "startTime": "2026-01-01 09:00:00",
                "repeat": {"repeatType": "month"},
            },
        },
        "inner.py": "def customFunc():\n    return 'off'\n",
    },
    "tasks/Remind": {
        "e.json": {
            "type": "tasks.DateFieldType",
            "title": "Remind",
            "modelPath": "models.Contract",
            "timerCfg": {
                "startField": "endDate",
                "startOffset": {"offsetType": 0, "time": "10:00"},
                "repeat": {"repeatType": "normal"},
            },
        },
        "inner.py": "def customFunc(rowData):\n    rowData.reminders += 1\n    return rowData.reminders\n",
    },
}


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """The clock stands still."""
    monkeypatch.setattr(clock, "now", lambda: NOW)
    return NOW


@pytest.fixture
def prefect() -> FakePrefect:
    return FakePrefect()


@pytest.fixture
def app(tmp_path: Path, prefect: FakePrefect, now: datetime) -> App:
    made = build_app(tmp_path / "shop", ELEMENTS, timezone="Asia/Shanghai")
    deploy(made, prefect, now)
    prefect.calls.clear()
    return made


@pytest.fixture
def svc(app: App) -> Any:
    return app.getElement("services.TaskSvc")


def ledger(app: App) -> list[Any]:
    with app.engine().connect() as connection:
        return list(connection.execute(select(entries)))


# --- getTaskTmplList -------------------------------------------------------------------------------------------------


def test_the_list_of_templates(svc: Any) -> None:
    found = svc.getTaskTmplList("")
    assert [list(template) for template in found] == [
        ["title", "taskType", "repeatType", "fullName", "enable"]
    ] * 3
    assert [tuple(template.values()) for template in found] == [
        ("Tägliche Arbeit", "tasks.NormalType", "day", "tasks.Daily", 1),
        ("Switched off", "tasks.NormalType", "month", "tasks.Off", 0),
        ("Remind", "tasks.DateFieldType", "normal", "tasks.Remind", 1),
    ]


@pytest.mark.parametrize(
    "query, found",
    [
        ("TÄGLICHE", ["tasks.Daily"]),
        ("switched", ["tasks.Off"]),
        ("dAILY", ["tasks.Daily"]),
        ("tasks.", ["tasks.Daily", "tasks.Off", "tasks.Remind"]),
        ("nothing like it", []),
        ("%", []),
    ],
)
def test_the_list_is_searched_in_title_and_full_name(
    svc: Any, query: str, found: list[str]
) -> None:
    assert [t["fullName"] for t in svc.getTaskTmplList(query)] == found


def test_the_list_wants_a_text(svc: Any) -> None:
    with pytest.raises(ArgumentError):
        svc.getTaskTmplList(5)


# --- createTimerTask -------------------------------------------------------------------------------------------------

KEYS = ["taskId", "fullName", "status", "startTime", "url"]


def test_a_timer_task(svc: Any, app: App, prefect: FakePrefect) -> None:
    made = svc.createTimerTask(
        "tasks.Daily",
        "2026-03-02 10:30:00",
        "extra",
        "tasks.NormalType",
        {"since": [1, None]},
    )
    assert list(made) == KEYS
    assert made["fullName"] == "tasks.Daily"
    assert made["status"] == "pending"
    assert made["startTime"] == "2026-03-02T10:30:00+08:00"
    assert made["taskId"] in made["url"]
    run = prefect.all_runs[made["taskId"]]
    assert datetime.fromisoformat(run["expected_start_time"]) == datetime(
        2026, 3, 2, 2, 30, tzinfo=UTC
    )
    assert "since" not in json.dumps(run["parameters"])  # arguments travel by key
    assert prefect.run_due(app, NOW) == []
    (outcome,) = prefect.run_due(app, NOW + timedelta(minutes=90))
    assert (outcome.status, outcome.result) == ("completed", [1, None])


def test_a_task_keeps_its_id_where_its_flow_run_is_lost(
    svc: Any, app: App, prefect: FakePrefect
) -> None:
    """The function, the record and `forcedEnd` know the task by the id that the caller got."""
    about = ("tasks.Daily", NOW, "services.NoticeSvc.which", "tasks.NormalType")
    made = svc.createTimerTask(*about, {})
    prefect.delete_run(made["taskId"])
    sync.run(app, prefect, NOW, "test", clock=lambda: NOW)
    (again,) = (r for r in prefect.all_runs if r != made["taskId"])
    prefect.delete_run(again)
    sync.run(app, prefect, NOW, "test", clock=lambda: NOW)

    (outcome,) = prefect.run_due(app, NOW)
    (record,) = svc.getTaskRecords(fullName="tasks.Daily", status="completed")

    assert outcome.result == made["taskId"] == record["taskId"]
    assert made["taskId"] not in record["url"]
    ended = svc.forcedEnd(made["taskId"])
    assert (ended["taskId"], ended["previousStatus"]) == (made["taskId"], "completed")


def test_a_worker_that_is_quicker_than_its_caller_knows_the_id_too(
    svc: Any, app: App, prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is there before the ledger has noted its id: a worker may begin in between."""
    create_run, outcomes = prefect.create_run, []

    def create_and_work(*about: Any, **more: Any) -> Any:
        run = create_run(*about, **more)
        outcomes.extend(prefect.run_due(app, NOW))
        return run

    monkeypatch.setattr(prefect, "create_run", create_and_work)
    about = ("tasks.Daily", NOW, "services.NoticeSvc.which", "tasks.NormalType")
    made = svc.createTimerTask(*about, {})

    assert [outcome.result for outcome in outcomes] == [made["taskId"]]
    (record,) = svc.getTaskRecords(fullName="tasks.Daily", status="completed")
    assert record["taskId"] == made["taskId"]


@pytest.mark.parametrize(
    "start",
    [
        "2026-03-02 18:00:00",
        "2026-03-02 18:00",
        "2026-03-02T18:00:00",
        "2026-03-02T18:00:00+08:00",
        "2026-03-02T10:00:00Z",
        datetime(2026, 3, 2, 18, 0),
        datetime(2026, 3, 2, 10, 0, tzinfo=UTC),
        datetime(2026, 3, 2, 5, 0, tzinfo=ZoneInfo("America/New_York")),
    ],
)
def test_the_time_of_a_timer_task(svc: Any, start: Any) -> None:
    made = svc.createTimerTask(
        "tasks.Daily", start, "customFunc", "tasks.NormalType", {}
    )
    assert made["startTime"] == "2026-03-02T18:00:00+08:00"


def test_the_past_runs_at_once(svc: Any, app: App, prefect: FakePrefect) -> None:
    svc.createTimerTask(
        "tasks.Daily", "2020-01-01 00:00:00", "customFunc", "tasks.NormalType", {}
    )
    (outcome,) = prefect.run_due(app, NOW)
    assert (outcome.status, outcome.result) == ("completed", "plain")


def test_a_service_function(svc: Any, app: App, prefect: FakePrefect) -> None:
    svc.createTimerTask(
        "tasks.Daily", NOW, "services.NoticeSvc.send", "tasks.NormalType", {"to": "Ada"}
    )
    (outcome,) = prefect.run_due(app, NOW)
    assert outcome.result == ["Ada", 1]


def test_of_a_row_type_too_with_no_row(
    svc: Any, app: App, prefect: FakePrefect
) -> None:
    svc.createTimerTask(
        "tasks.Remind",
        NOW,
        "services.NoticeSvc.send",
        "tasks.DateFieldType",
        {"to": "Ada", "times": 2},
    )
    (outcome,) = prefect.run_due(app, NOW)
    assert (outcome.status, outcome.result) == ("completed", ["Ada", 2])


def test_enable_does_not_apply(svc: Any, app: App, prefect: FakePrefect) -> None:
    svc.createTimerTask("tasks.Off", NOW, "customFunc", "tasks.NormalType", {})
    (outcome,) = prefect.run_due(app, NOW)
    assert (outcome.status, outcome.result) == ("completed", "off")


def test_arg_dict_may_be_left_out(svc: Any) -> None:
    assert (
        svc.createTimerTask("tasks.Daily", NOW, "customFunc", "tasks.NormalType")[
            "status"
        ]
        == "pending"
    )


WRONG: dict[str, tuple[dict[str, Any], type[JittaskError]]] = {
    "unknown template": ({"fullName": "tasks.Dayly"}, UnknownElement),
    "a Type": ({"fullName": "tasks.NormalType"}, UnknownElement),
    "a model": ({"fullName": "models.Contract"}, UnknownElement),
    "no text": ({"fullName": 5}, UnknownElement),
    "another Type": ({"taskType": "tasks.DateFieldType"}, ArgumentError),
    "no Type": ({"taskType": ""}, ArgumentError),
    "a word for a time": ({"startTime": "tomorrow"}, InvalidTime),
    "an empty time": ({"startTime": ""}, InvalidTime),
    "a year for a time": ({"startTime": "2026"}, InvalidTime),
    "a month for a time": ({"startTime": "2026-03"}, InvalidTime),
    "30 February": ({"startTime": "2026-02-30 10:00:00"}, InvalidTime),
    "a time past midnight": ({"startTime": "2026-03-02 25:00:00"}, InvalidTime),
    "a number for a time": ({"startTime": 1772413200}, InvalidTime),
    "no time": ({"startTime": None}, InvalidTime),
    "unknown function": ({"funcName": "custom"}, UnknownElement),
    "a dunder": ({"funcName": "__import__"}, UnknownElement),
    "unknown service": ({"funcName": "services.No.send"}, UnknownElement),
    "unknown method": ({"funcName": "services.NoticeSvc.sent"}, UnknownElement),
    "a private method": ({"funcName": "services.NoticeSvc._send"}, UnknownElement),
    "no function": ({"funcName": ""}, ArgumentError),
    "a function as a function": ({"funcName": print}, ArgumentError),
    "arguments it does not take": ({"argDict": {"a": 1}}, ArgumentError),
    "arguments missing": ({"funcName": "extra"}, ArgumentError),
    "arguments in a list": ({"argDict": ["a"]}, ArgumentError),
    "arguments JSON has not": ({"funcName": "extra", "argDict": {"since": object()}}, ArgumentError),
}  # fmt: skip


@pytest.mark.parametrize("changed, error", WRONG.values(), ids=WRONG)
def test_what_is_wrong_raises_before_anything_is_written(
    svc: Any,
    app: App,
    prefect: FakePrefect,
    changed: dict[str, Any],
    error: type[JittaskError],
) -> None:
    right: dict[str, Any] = {
        "fullName": "tasks.Daily",
        "startTime": "2026-03-02 10:30:00",
        "funcName": "customFunc",
        "taskType": "tasks.NormalType",
        "argDict": {},
    }
    with pytest.raises(error):
        svc.createTimerTask(**right | changed)
    assert ledger(app) == []
    assert prefect.all_runs == {}
    assert prefect.calls == []  # not even asked


def test_an_api_that_is_down_keeps_nothing(
    svc: Any, app: App, prefect: FakePrefect
) -> None:
    prefect.down = True
    with pytest.raises(PrefectApiError, match="memory://prefect/api"):
        svc.createTimerTask("tasks.Daily", NOW, "customFunc", "tasks.NormalType", {})
    assert ledger(app) == []


def test_an_api_that_goes_down_in_between_keeps_nothing(
    svc: Any, app: App, prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise PrefectApiError("gone")

    monkeypatch.setattr(prefect, "create_run", refuse)
    with pytest.raises(PrefectApiError):
        svc.createTimerTask("tasks.Daily", NOW, "customFunc", "tasks.NormalType", {})
    assert ledger(app) == []


def test_the_ledger_has_the_task_before_prefect_has_its_run(
    svc: Any, app: App, prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry, the run, the mark: killed in between, the caller leaves what the next sync goes on with."""
    real = prefect.create_run
    seen: list[tuple[Any, ...]] = []

    def create_run(deployment: str, *, key: str, **about: Any) -> Any:
        [entry] = ledger(app)
        seen.append((entry.task_id, entry.status, entry.dirty, entry.flow_run_id))
        run = real(deployment, key=key, **about)
        assert ledger(app) == [entry], "the mark is cleared after the run was made"
        seen.append((key, about["parameters"]["taskId"]))
        return run

    monkeypatch.setattr(prefect, "create_run", create_run)
    made = svc.createTimerTask("tasks.Daily", NOW, "customFunc", "tasks.NormalType", {})
    [entry] = ledger(app)
    assert seen == [
        (entry.task_id, "pending", True, None),
        (entry.task_id, entry.task_id),
    ]
    assert (entry.flow_run_id, entry.dirty) == (made["taskId"], False)


def test_a_caller_that_dies_before_its_run_is_noted_has_one_run(
    svc: Any, app: App, prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(handover_marks, "run_made", killed)
        with pytest.raises(KeyboardInterrupt):
            svc.createTimerTask(
                "tasks.Daily", NOW, "customFunc", "tasks.NormalType", {}
            )
    [run] = prefect.all_runs
    prefect.sync(app, NOW)
    [entry] = ledger(app)
    assert list(prefect.all_runs) == [run]
    assert (entry.flow_run_id, entry.dirty) == (run, False)


# --- forcedEnd -------------------------------------------------------------------------------------------------------


def test_a_pending_timer_task_is_ended_and_never_runs(
    svc: Any, app: App, prefect: FakePrefect
) -> None:
    task = svc.createTimerTask(
        "tasks.Daily", "2026-03-02 10:30:00", "customFunc", "tasks.NormalType", {}
    )["taskId"]
    assert svc.forcedEnd(task) == {
        "taskId": task,
        "previousStatus": "pending",
        "status": "ended",
        "changed": True,
    }
    assert prefect.all_runs[task]["state_type"] == "CANCELLED"
    assert prefect.run_due(app, NOW + timedelta(days=1)) == []
    assert svc.forcedEnd(task) == {
        "taskId": task,
        "previousStatus": "ended",
        "status": "ended",
        "changed": False,
    }


def test_a_new_process_ends_a_task_while_prefect_is_away(
    svc: Any, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process has asked the server nothing before: not which database the app belongs to either."""
    task = svc.createTimerTask(
        "tasks.Daily", "2026-03-02 10:30:00", "customFunc", "tasks.NormalType", {}
    )["taskId"]
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    answer = TaskSvc(app).forcedEnd(task)
    assert (answer["previousStatus"], answer["status"]) == ("pending", "ended")
    assert [(e.status, e.outcome) for e in ledger(app)] == [("ended", "forced")]


def test_a_task_is_ended_while_prefect_is_away_which_the_next_sync_tells_it(
    svc: Any, app: App, prefect: FakePrefect
) -> None:
    task = svc.createTimerTask(
        "tasks.Daily", "2026-03-02 10:30:00", "customFunc", "tasks.NormalType", {}
    )["taskId"]
    prefect.down = True
    assert svc.forcedEnd(task) == {
        "taskId": task,
        "previousStatus": "pending",
        "status": "ended",
        "changed": True,
    }
    prefect.down = False
    assert prefect.all_runs[task]["state_type"] == "SCHEDULED"
    prefect.sync(app, NOW)
    assert prefect.all_runs[task]["state_type"] == "CANCELLED"


def test_a_task_that_got_another_run_is_ended_by_its_first_id_while_prefect_is_away(
    svc: Any, app: App, prefect: FakePrefect
) -> None:
    task = svc.createTimerTask(
        "tasks.Daily", "2026-03-02 10:30:00", "customFunc", "tasks.NormalType", {}
    )["taskId"]
    for _ in range(2):  # the run's worker died, twice
        (waiting,) = [
            run["id"]
            for run in prefect.all_runs.values()
            if run["state_type"] == "SCHEDULED"
        ]
        prefect.set_state(waiting, "CRASHED")
        prefect.sync(app, NOW)
    prefect.down = True
    assert svc.forcedEnd(task) == {
        "taskId": task,
        "previousStatus": "pending",
        "status": "ended",
        "changed": True,
    }
    prefect.down = False
    prefect.sync(app, NOW)
    assert {run["state_type"] for run in prefect.all_runs.values()} == {
        "CRASHED",
        "CANCELLED",
    }


def test_a_run_of_the_schedule_is_ended_though_prefect_answers_no_more(
    svc: Any, app: App, prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prefect.create_run(
        prefect.all_deployments["tasks.Daily"]["id"],
        key="of the schedule",
        name="x",
        due=NOW,
        tags=[],
        parameters={"template": "tasks.Daily"},
    ).id

    def silent(*_: object, **__: object) -> None:
        prefect.down = True
        raise PrefectApiError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(prefect, "set_state", silent)
        begun = time.monotonic()
        assert svc.forcedEnd(run)["changed"] is True
        assert time.monotonic() - begun < 10, "there is no process to be waited for"
    prefect.down = False
    assert prefect.all_runs[run]["state_type"] == "SCHEDULED"
    prefect.sync(app, NOW)
    assert prefect.all_runs[run]["state_type"] == "CANCELLED"


def test_an_overdue_task(svc: Any) -> None:
    task = svc.createTimerTask(
        "tasks.Daily", "2026-03-02 08:00:00", "customFunc", "tasks.NormalType", {}
    )["taskId"]
    assert svc.forcedEnd(task)["previousStatus"] == "overdue"


def test_a_completed_task_is_left_as_it_is(
    svc: Any, app: App, prefect: FakePrefect
) -> None:
    task = svc.createTimerTask(
        "tasks.Daily", NOW, "customFunc", "tasks.NormalType", {}
    )["taskId"]
    prefect.run_due(app, NOW)
    done = {
        "taskId": task,
        "previousStatus": "completed",
        "status": "completed",
        "changed": False,
    }
    assert svc.forcedEnd(task) == done


@pytest.mark.parametrize(
    "task", ["task_uuid_12345", "", "00000000-0000-4000-8000-000000000000", None, 5]
)
def test_there_is_no_such_task(svc: Any, task: Any) -> None:
    with pytest.raises((UnknownTask, ArgumentError)) as error:
        svc.forcedEnd(task)
    if isinstance(task, str) and task:
        assert isinstance(error.value, UnknownTask)
        assert "there is no such task" in str(error.value)


def test_a_row_s_task_by_its_own_id_and_by_its_flow_run(
    svc: Any, app: App, prefect: FakePrefect
) -> None:
    Contract = app.getElement("models.Contract")
    with app.session() as s:
        s.add_all(
            [
                Contract(id=1, endDate=date(2026, 3, 2)),
                Contract(id=2, endDate=date(2026, 3, 2)),
            ]
        )
        s.commit()
    prefect.sync(app, NOW)
    mine, other = sorted(svc.getTaskRecords("tasks.Remind"), key=lambda r: r["row"])
    assert svc.forcedEnd(mine["taskId"])["changed"] is True
    run = next(
        r["id"] for r in prefect.all_runs.values() if r["state_type"] == "SCHEDULED"
    )
    assert svc.forcedEnd(run)["changed"] is True
    assert [r["status"] for r in svc.getTaskRecords("tasks.Remind")] == [
        "ended",
        "ended",
    ]
    assert svc.forcedEnd(other["taskId"])["changed"] is False
    prefect.sync(app, NOW + timedelta(minutes=1))
    assert (
        prefect.run_due(app, NOW + timedelta(days=1)) == []
    )  # ended for good, until the row's date changes
    with app.session() as s:
        row = s.get(Contract, 1)
        row.endDate = date(2026, 3, 3)
        s.commit()
    prefect.sync(
        app, NOW + timedelta(hours=2)
    )  # from 24 hours before on, it has a flow run
    assert [
        o.status for o in prefect.run_due(app, datetime(2026, 3, 3, 2, tzinfo=UTC))
    ] == ["completed"]


# --- saveDateFieldTask, deleteDateFieldTask --------------------------------------------------------------------------

SAVED = ["created", "rescheduled", "ended", "unchanged", "tasks"]


def stored(app: App, **values: Any) -> Any:
    """A row that came into the database unseen by the hooks."""
    Contract = app.getElement("models.Contract")
    with app.engine().begin() as connection:
        connection.execute(
            Contract.__table__.insert().values(model="framework", reminders=0, **values)
        )
    return Contract(**values)


def changed(app: App, key: int, day: date | None) -> Any:
    """The same row with another date in the database, unseen by the hooks."""
    Contract = app.getElement("models.Contract")
    table = Contract.__table__
    with app.engine().begin() as connection:
        connection.execute(table.update().where(table.c.id == key).values(endDate=day))
    return Contract(id=key, endDate=day)


def test_a_row_that_is_saved(svc: Any, app: App) -> None:
    row = stored(app, id=1, endDate=date(2026, 3, 2))
    done = svc.saveDateFieldTask({"postData": row})
    assert list(done) == SAVED
    assert [done[k] for k in SAVED[:4]] == [1, 0, 0, 0]
    (task,) = done["tasks"]
    assert sorted(task) == ["action", "dueTime", "fullName", "taskId"]
    assert (task["fullName"], task["dueTime"]) == (
        "tasks.Remind",
        "2026-03-02T10:00:00+08:00",
    )
    again = svc.saveDateFieldTask({"postData": row, "prevData": row})
    assert [again[k] for k in SAVED[:4]] == [0, 0, 0, 1]
    assert again["tasks"][0]["taskId"] == task["taskId"]


@pytest.mark.parametrize(
    "row_obj",
    [
        {"postData": {"model": "models.Contract", "id": 1, "endDate": "2026-03-02"}},
        {
            "postData": {"id": 1, "endDate": date(2026, 3, 2)},
            "model": "models.Contract",
        },
        {
            "postData": {"id": 1},
            "prevData": {"model": "models.Contract", "id": 1, "endDate": None},
        },
        {"postData": {"id": 1, "model": "framework"}, "model": "models.Contract"},
        {"postData": {"id": 1}, "prevData": None, "model": "models.Contract"},
    ],
)
def test_a_row_that_is_a_dict(svc: Any, app: App, row_obj: dict[str, Any]) -> None:
    stored(app, id=1, endDate=date(2026, 3, 2))
    assert svc.saveDateFieldTask(row_obj)["created"] == 1


def test_a_dict_beside_an_instance(svc: Any, app: App) -> None:
    row = stored(app, id=1, endDate=date(2026, 3, 2))
    before = {"id": 1, "model": "other", "endDate": "2026-03-01"}
    assert svc.saveDateFieldTask({"postData": row, "prevData": before})["created"] == 1
    after = {"postData": {"id": 1, "endDate": "2026-03-03"}, "prevData": row}
    # The row is planned as the database has it, whatever the dict says.
    assert svc.saveDateFieldTask(after)["unchanged"] == 1
    changed(app, 1, date(2026, 3, 3))
    assert svc.saveDateFieldTask(after)["rescheduled"] == 1


def test_a_date_that_moves_and_one_that_goes(svc: Any, app: App) -> None:
    row = stored(app, id=1, endDate=date(2026, 3, 2))
    first = svc.saveDateFieldTask({"postData": row})["tasks"][0]["taskId"]
    moved = changed(app, 1, date(2026, 3, 4))
    done = svc.saveDateFieldTask({"prevData": row, "postData": moved})
    assert done["rescheduled"] == 1
    assert done["tasks"][-1]["dueTime"] == "2026-03-04T10:00:00+08:00"
    assert done["tasks"][-1]["taskId"] != first
    none = changed(app, 1, None)
    assert svc.saveDateFieldTask({"prevData": moved, "postData": none})["ended"] == 1


@pytest.mark.parametrize(
    "row_obj",
    [
        {},
        None,
        {"postData": None},
        {"prevData": {"model": "models.Contract", "id": 1}},
        {"postData": {"id": 1}},
        {"postData": {"model": "models.Contrat", "id": 1}},
        {"postData": {"model": "models.Contract", "endDate": "2026-03-02"}},
        {"postData": {"model": "models.Contract", "id": 1, "endDat": "2026-03-02"}},
        {"postData": {"model": "models.Contract", "id": 1, "endDate": "soon"}},
        {"postData": "models.Contract"},
        {"postData": object()},
    ],
)
def test_a_row_object_that_is_none(svc: Any, app: App, row_obj: Any) -> None:
    with pytest.raises(JittaskError):
        svc.saveDateFieldTask(row_obj)
    assert ledger(app) == []


def test_it_joins_the_session_of_the_instance(svc: Any, app: App) -> None:
    stored(app, id=1, endDate=None)
    Contract = app.getElement("models.Contract")
    with Session(app.engine()) as s:
        row = s.get(Contract, 1)
        row.endDate = date(2026, 3, 2)
        assert (
            svc.saveDateFieldTask(
                {"postData": row, "prevData": {"id": 1, "endDate": None}}
            )["tasks"]
            != []
        )
        s.rollback()
    assert ledger(app) == []  # rolled back with the row


def test_beside_the_hook_it_answers_unchanged(svc: Any, app: App) -> None:
    Contract = app.getElement("models.Contract")
    with Session(app.engine()) as s:
        row = Contract(id=1, endDate=date(2026, 3, 2))
        s.add(row)
        s.flush()
        assert (
            len(s.connection().execute(select(entries)).all()) == 1
        )  # the hook was there first
        done = svc.saveDateFieldTask({"postData": row})
        assert [done[k] for k in SAVED[:4]] == [0, 0, 0, 1]
        s.commit()
    assert len(ledger(app)) == 1


@pytest.mark.parametrize("as_dict", [False, True])
def test_a_row_that_is_deleted(svc: Any, app: App, as_dict: bool) -> None:
    row = stored(app, id=1, endDate=date(2026, 3, 2))
    task = svc.saveDateFieldTask({"postData": row})["tasks"][0]["taskId"]
    done = svc.deleteDateFieldTask(
        {"prevData": {"model": "models.Contract", "id": 1} if as_dict else row}
    )
    assert list(done) == ["ended", "tasks"]
    assert done["ended"] == 1
    assert [t["taskId"] for t in done["tasks"]] == [task]
    assert svc.deleteDateFieldTask({"prevData": row}) == {"ended": 0, "tasks": []}
    with pytest.raises(ArgumentError):
        svc.deleteDateFieldTask({"postData": row})


# --- getTaskRecords --------------------------------------------------------------------------------------------------

RECORD = [
    *("taskId", "fullName", "title", "status", "dueTime", "startTime", "endTime"),
    *("duration", "lateness", "row", "result", "message", "url"),
]


@pytest.fixture
def history(svc: Any, app: App, prefect: FakePrefect) -> list[str]:
    """Four tasks: completed at 07:00, overdue since 08:30, pending for 10:00 (a row's) and for 12:00."""
    svc.createTimerTask(
        "tasks.Daily", "2026-03-02 07:00:00", "customFunc", "tasks.NormalType", {}
    )
    prefect.run_due(app, NOW)
    svc.createTimerTask(
        "tasks.Daily", "2026-03-02 08:30:00", "customFunc", "tasks.NormalType", {}
    )
    svc.createTimerTask(
        "tasks.Off", "2026-03-02 12:00:00", "customFunc", "tasks.NormalType", {}
    )
    with app.session() as s:
        s.add(app.getElement("models.Contract")(id=42, endDate=date(2026, 3, 2)))
        s.commit()
    prefect.sync(app, NOW)
    return [r["taskId"] for r in svc.getTaskRecords()]


def test_records(svc: Any, history: list[str]) -> None:
    found = svc.getTaskRecords()
    assert all(list(r) == RECORD for r in found)
    assert [
        (r["fullName"], r["status"], r["dueTime"][11:], r["row"], r["result"])
        for r in found
    ] == [
        ("tasks.Off", "pending", "12:00:00+08:00", None, None),
        ("tasks.Remind", "pending", "10:00:00+08:00", "42", None),
        ("tasks.Daily", "overdue", "08:30:00+08:00", None, None),
        ("tasks.Daily", "completed", "07:00:00+08:00", None, "plain"),
    ]
    done = found[3]
    assert done["title"] == "Tägliche Arbeit"
    assert (done["startTime"], done["endTime"]) == (
        "2026-03-02T09:00:00+08:00",
        "2026-03-02T09:00:00+08:00",
    )
    assert (done["duration"], done["lateness"]) == (0, 7200)
    assert found[0]["startTime"] is None
    assert found[0]["duration"] is None
    assert done["taskId"] in done["url"]


@pytest.mark.parametrize(
    "arguments, found",
    [
        ({"fullName": "tasks.Daily"}, [2, 3]),
        ({"status": "pending"}, [0, 1]),
        ({"status": "overdue"}, [2]),
        ({"status": "completed"}, [3]),
        ({"status": "error"}, []),
        (
            {"startTime": "2026-03-02 08:30:00", "endTime": "2026-03-02 12:00:00"},
            [1, 2],
        ),
        ({"endTime": datetime(2026, 3, 2, 0, 30, tzinfo=UTC)}, [3]),
        ({"startTime": "2026-03-03"}, []),
        ({"limit": 2}, [0, 1]),
        ({"limit": 2, "offset": 1}, [1, 2]),
        ({"limit": 2, "offset": 3}, [3]),
        ({"limit": 0}, []),
        ({"fullName": "tasks.Daily", "status": "overdue", "limit": 5}, [2]),
        ({"row": "42"}, [1]),
        ({"row": "4"}, []),
        ({"fullName": "", "status": "", "row": ""}, [0, 1, 2, 3]),
        (
            {"fullName": None, "status": None, "startTime": None, "endTime": None},
            [0, 1, 2, 3],
        ),
    ],
)
def test_records_are_filtered(
    svc: Any, history: list[str], arguments: dict[str, Any], found: list[int]
) -> None:
    assert [
        history.index(r["taskId"]) for r in svc.getTaskRecords(**arguments)
    ] == found


def test_records_by_position(svc: Any, history: list[str]) -> None:
    """The contract's order of arguments: fullName, status, startTime, endTime, limit, offset."""
    found = svc.getTaskRecords(
        "tasks.Daily", "completed", "2026-03-02 00:00:00", "2026-03-03 00:00:00", 1, 0
    )
    assert [history.index(r["taskId"]) for r in found] == [3]


@pytest.mark.parametrize(
    "arguments",
    [
        {"fullName": "tasks.No"},
        {"status": "done"},
        {"startTime": "soon"},
        {"limit": -1},
        {"offset": -1},
        {"limit": "9"},
        {"row": 42},
        {"row": "\ud800"},
        {"row": "4\0"},
    ],
)
def test_records_that_cannot_be_asked_for(svc: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(JittaskError):
        svc.getTaskRecords(**arguments)


def test_an_error_and_its_message(svc: Any, app: App, prefect: FakePrefect) -> None:
    svc.createTimerTask(
        "tasks.Daily", NOW, "services.NoticeSvc.send", "tasks.NormalType", {"to": ""}
    )
    prefect.run_due(app, NOW)
    (record,) = svc.getTaskRecords()
    assert record["status"] == "error"
    assert "ValueError: nobody to send to" in record["message"]


def test_records_are_json(svc: Any, history: list[str]) -> None:
    assert len(json.loads(json.dumps(svc.getTaskRecords()))) == 4


# --- the seed's examples, word for word ------------------------------------------------------------------------------

EXAMPLES = sorted((DATA / "seed" / "examples").glob("*.py"))


@pytest.fixture
def seed(tmp_path: Path, prefect: FakePrefect) -> App:
    shutil.copytree(DATA / "seed_app", tmp_path / "seed")
    made = App(tmp_path / "seed")
    from jittask_prefect.rows.databases import upgrade

    upgrade(made, models=True)
    assert made.check() == []
    deploy(made, prefect)
    return made


def test_there_are_nine_examples() -> None:
    assert len(EXAMPLES) == 9


@pytest.mark.parametrize("imported", [False, True], ids=["given", "imported"])
@pytest.mark.parametrize("file", EXAMPLES, ids=lambda f: f.stem)
def test_an_example_of_the_seed_runs_word_for_word(
    seed: App,
    prefect: FakePrefect,
    file: Path,
    imported: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names: dict[str, Any] = {"app": seed}
    if imported:
        monkeypatch.setenv("JITTASK_APP", str(seed.path))
        names = {}
        exec("from jittask_prefect import app", names)
    code = compile(file.read_text(encoding="utf-8"), file.name, "exec")
    if file.stem == "force_end_task":
        with pytest.raises(UnknownTask, match="there is no such task"):
            exec(code, names)
        return
    exec(code, names)
    for name in ("result", "results"):
        for made in (
            [names[name]] if name == "result" and name in names else names.get(name, [])
        ):
            assert list(made) == KEYS
    runs = {
        "basic_usage": 1,
        "batch_task_management": 2,
        "create_scheduled_task": 1,
        "task_lifecycle_management": 1,
    }
    assert len(prefect.all_runs) == runs.get(file.stem, 0)
    outcomes = prefect.run_due(seed, datetime(2100, 1, 1, tzinfo=UTC))
    assert [o.status for o in outcomes] == ["completed"] * runs.get(file.stem, 0)
    Customer = seed.getElement("models.Customer")
    soon = date.today() + timedelta(days=3)
    if "onModelUpdate" in names:
        row = Customer(id=1, name="Ada", trialEnds=soon)
        with seed.engine().begin() as connection:  # unseen by the hooks
            values = {"id": 1, "name": "Ada", "trialEnds": soon}
            connection.execute(Customer.__table__.insert().values(**values))
        assert names["onModelUpdate"]({"postData": row})["created"] == 1
    if "onModelDelete" in names:
        assert names["onModelDelete"]({"prevData": Customer(id=1, name="Ada")}) == {
            "ended": 0,
            "tasks": [],
        }
    if "afterSave" in names:
        monkeypatch.setattr(Customer, "afterSave", names["afterSave"], raising=False)
        monkeypatch.setattr(
            Customer, "afterDelete", names["afterDelete"], raising=False
        )
        with seed.session() as s:
            row = Customer(name="Ada", trialEnds=soon)
            s.add(row)
            s.commit()
            assert [e.status for e in ledger(seed)] == ["pending"]
            row.trialEnds = soon + timedelta(days=1)
            s.commit()
            assert sorted(e.status for e in ledger(seed)) == ["ended", "pending"]
            s.delete(row)
            s.commit()
        assert [e.status for e in ledger(seed)] == ["ended", "ended"]


DEEP: Any = {}
for _ in range(3000):
    DEEP = {"a": DEEP}
NINES = int("9" * 400)
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "half a pair in argDict": ("createTimerTask", {"argDict": {"since": "\ud800"}}),
    "half a pair in a name": ("createTimerTask", {"argDict": {"\ud800": 1}}),
    "NaN in argDict": ("createTimerTask", {"argDict": {"since": [float("nan")]}}),
    "deep argDict": ("createTimerTask", {"argDict": {"since": DEEP}}),
    "argDict of megabytes": ("createTimerTask", {"argDict": {"since": "日" * 30_000}}),
    "NUL in funcName": ("createTimerTask", {"funcName": "extra\0"}),
    "half a pair in funcName": ("createTimerTask", {"funcName": "services.\ud800.x"}),
    "half a pair in fullName": ("createTimerTask", {"fullName": "tasks.\ud800"}),
    "the first day": ("createTimerTask", {"startTime": "0001-01-01 00:00:00"}),
    "the last instant": (
        "createTimerTask",
        {"startTime": datetime.max.replace(tzinfo=UTC)},
    ),
    "taskId of half a pair": ("forcedEnd", {"taskId": "\ud800"}),
    "taskId of NUL": ("forcedEnd", {"taskId": "\0"}),
    "taskId of 400 digits": ("forcedEnd", {"taskId": "9" * 400}),
    "a key of 400 digits": (
        "saveDateFieldTask",
        {"rowObj": {"postData": {"model": "models.Contract", "id": NINES}}},
    ),
    "a date of 400 digits": (
        "deleteDateFieldTask",
        {"rowObj": {"prevData": {"model": "models.Contract", "id": NINES}}},
    ),
    "a field of no text": (
        "saveDateFieldTask",
        {"rowObj": {"postData": {"model": "models.Contract", 5: 1}}},
    ),
    "status of half a pair": ("getTaskRecords", {"status": "\ud800"}),
    "limit of 400 digits": ("getTaskRecords", {"limit": NINES}),
    "offset of 400 digits": ("getTaskRecords", {"offset": NINES}),
    "startTime of half a pair": ("getTaskRecords", {"startTime": "\ud800"}),
    "endTime at the last instant": ("getTaskRecords", {"endTime": datetime.max}),
}


@pytest.mark.parametrize("method, given", CALLS.values(), ids=CALLS)
def test_nothing_but_an_error_of_ours_leaves_the_facade(
    svc: Any, app: App, method: str, given: dict[str, Any]
) -> None:
    """Whatever is passed, the answer is a `JittaskError` that UTF-8 can hold, and the ledger is as before."""
    usual: dict[str, Any] = {}
    if method == "createTimerTask":
        usual = {
            "fullName": "tasks.Daily",
            "startTime": NOW,
            "funcName": "extra",
            "taskType": "tasks.NormalType",
        }
        usual["argDict"] = {"since": 1}
    with pytest.raises(JittaskError) as error:
        getattr(svc, method)(**usual | given)
    str(error.value).encode()
    assert ledger(app) == []


def test_a_database_that_fails_is_told_in_a_sentence(svc: Any, app: App) -> None:
    with app.engine().begin() as connection:
        connection.exec_driver_sql("DROP TABLE contract")
    with pytest.raises(
        JittaskError,
        match="saveDateFieldTask failed: OperationalError: no such table: contract",
    ):
        svc.saveDateFieldTask({"postData": {"model": "models.Contract", "id": 1}})


def test_what_a_database_says_in_the_caller_s_own_session_stays_what_it_is(
    svc: Any, app: App
) -> None:
    """The transaction is the caller's, who may try a deadlock again by its class."""
    with app.engine().begin() as connection:
        connection.exec_driver_sql("DROP TABLE contract")
    with Session(app.engine()) as session:
        row = app.getElement("models.Contract")(id=1)
        session.add(row)
        with pytest.raises(OperationalError):
            svc.saveDateFieldTask({"postData": row})
