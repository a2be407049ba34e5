"""e.json as JitTask writes it: each form loads, and says what it says there."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from jittask_prefect.elements.config import ModelCfg, ServiceCfg, read_task
from jittask_prefect.elements.original.original_keys import (
    OF_ALL,
    OF_MODELS,
    OF_SERVICES,
    OF_TASKS,
)
from jittask_prefect.errors import ConfigError
from jittask_prefect.schedule.reading import read_timer
from jittask_prefect.testing import build_app

START = "2026-01-05 09:00:00"
TASK = {"type": "tasks.NormalType", "title": "Task", "timerCfg": {"startTime": START}}


@pytest.mark.parametrize("key", OF_ALL | OF_TASKS)
def test_a_key_without_meaning_in_a_task(key: str) -> None:
    assert read_task({**TASK, key: "anything"}, rows=False) == read_task(
        TASK, rows=False
    )


@pytest.mark.parametrize("key", OF_ALL | OF_MODELS)
def test_a_key_without_meaning_in_a_model(key: str) -> None:
    plain = {"type": "models.NormalType"}
    assert ModelCfg.read({**plain, key: ["anything"]}) == ModelCfg.read(plain)


@pytest.mark.parametrize("key", OF_ALL | OF_SERVICES)
def test_a_key_without_meaning_in_a_service(key: str) -> None:
    plain = {"type": "services.NormalType"}
    assert ServiceCfg.read({**plain, key: {"any": "thing"}}) == ServiceCfg.read(plain)


def test_an_unknown_key_stays_a_mistake() -> None:
    with pytest.raises(ConfigError, match="icons: found 1; allowed: no such key"):
        read_task({**TASK, "icons": 1}, rows=False)


# keys of a task → funcType, func
FUNCTIONS: dict[str, tuple[dict[str, Any], tuple[str, str | None]]] = {
    "newer": (
        {"funcType": "Global", "func": "services.A.b"},
        ("Global", "services.A.b"),
    ),
    "older": (
        {"funcType": "Global", "taskFunc": "services.A.b"},
        ("Global", "services.A.b"),
    ),
    "absent": ({}, ("Inner", None)),
    "inner with an empty func": ({"funcType": "Inner", "func": ""}, ("Inner", None)),
    "older, funcType absent": ({"taskFunc": "customFunc"}, ("Inner", None)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_function_of_a_task(name: str) -> None:
    keys, expected = FUNCTIONS[name]
    cfg, _ = read_task({**TASK, **keys}, rows=False)
    assert (cfg.funcType, cfg.func) == expected


# timerCfg as written → in the newest form
SCHEDULED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "T": ({"startTime": "2026-01-05T09:00:00"}, {}),
    "no seconds": ({"startTime": "2026-01-05 09:00"}, {}),
    "T, no seconds": ({"startTime": "2026-01-05T09:00"}, {}),
    "a date alone": ({"startTime": "2026-01-05"}, {"startTime": "2026-01-05 00:00:00"}),
    "end with T": ({"endTime": "2026-12-31T18:00"}, {"endTime": "2026-12-31 18:00:00"}),
    "end of a date": ({"endTime": "2026-12-31"}, {"endTime": "2026-12-31"}),
    "period absent": (
        {"repeat": {"repeatType": "day"}},
        {"repeat": {"repeatType": "day"}},
    ),
    "period 1": (
        {"repeat": {"repeatType": "day", "period": 1}},
        {"repeat": {"repeatType": "day"}},
    ),
    "month of a year": (
        {"repeat": {"repeatType": "year", "month": 3}},
        {"repeat": {"repeatType": "year", "month": [3]}},
    ),
    "months of a year": (
        {"repeat": {"repeatType": "year", "month": [3, 9], "week": 1, "weekday": 1}},
        {
            "repeat": {
                "repeatType": "year",
                "month": [3, 9],
                "subType": "week",
                "week": 1,
                "weekday": [1],
            }
        },
    ),
    "weeks and a weekday": (
        {"repeat": {"repeatType": "year", "month": 3, "week": [1, 3], "weekday": 1}},
        {
            "repeat": {
                "repeatType": "year",
                "month": [3],
                "subType": "week",
                "week": [1, 3],
                "weekday": [1],
            }
        },
    ),
    "week and weekdays": (
        {"repeat": {"repeatType": "month", "week": -1, "weekday": [1, 5]}},
        {
            "repeat": {
                "repeatType": "month",
                "subType": "week",
                "week": -1,
                "weekday": [1, 5],
            }
        },
    ),
    "skipHoliday true": ({"skipHoliday": True}, {"skipHoliday": 1}),
    'skipHoliday "1"': ({"skipHoliday": "1"}, {"skipHoliday": 1}),
    'skipHoliday "0"': ({"skipHoliday": "0"}, {}),
    "the next cycle": (
        {"skipHoliday": 1, "holidayPolicy": "cycle"},
        {"skipHoliday": 1, "holidayPolicy": "skip"},
    ),
}


@pytest.mark.parametrize("name", SCHEDULED)
def test_the_timer_of_a_scheduled_task(name: str) -> None:
    written, newest = SCHEDULED[name]
    usual = {"startTime": START, "repeat": {"repeatType": "normal"}}
    assert read_timer({"startTime": START, **written}, rows=False).dump() == {
        **usual,
        **newest,
    }


AFTER = {"offsetType": 1, "offset": 2, "offsetUnit": "month"}
ROWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "older offset": (
        {"startOffset": {"offsetType": 1, "offset": -15, "offsetUnit": "minutes"}},
        {"startOffset": {"offsetType": -1, "offset": 15, "offsetUnit": "minute"}},
    ),
    "hours": (
        {"startOffset": {"offsetType": 1, "offset": 3, "offsetUnit": "hours"}},
        {"startOffset": {"offsetType": 1, "offset": 3, "offsetUnit": "hour"}},
    ),
    "days at a time": (
        {
            "startOffset": {
                "offsetType": -1,
                "offset": 7,
                "offsetUnit": "days",
                "time": "09:00",
            }
        },
        {
            "startOffset": {
                "offsetType": -1,
                "offset": 7,
                "offsetUnit": "day",
                "time": "09:00",
            }
        },
    ),
    "hours, none": (
        {"startOffset": {"offsetType": 1, "offset": 0, "offsetUnit": "hours"}},
        {"startOffset": {"offsetType": 0}},
    ),
    'endTimeType "0"': ({"endTimeType": "0"}, {}),
    'endTimeType "1"': (
        {"endTimeType": "1", "endTime": "2026-12-31"},
        {"endTimeType": 1, "endTime": "2026-12-31"},
    ),
    'endTimeType "2"': (
        {"endTimeType": "2", "endField": "until", "endOffset": AFTER},
        {"endTimeType": 2, "endField": "until", "endOffset": AFTER},
    ),
    "endOffset with endField": (
        {"endField": "until", "endOffset": AFTER},
        {"endTimeType": 2, "endField": "until", "endOffset": AFTER},
    ),
    "endOffset alone": ({"endOffset": AFTER}, {}),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_timer_of_a_date_field_task(name: str) -> None:
    written, newest = ROWS[name]
    usual = {"startField": "due", "repeat": {"repeatType": "normal"}}
    found = read_timer({"startField": "due", **written}, rows=True).dump()
    assert {
        k: v for k, v in found.items() if k != "startOffset" or v != {"offsetType": 0}
    } == {
        k: v
        for k, v in {**usual, **newest}.items()
        if k != "startOffset" or v != {"offsetType": 0}
    }


def test_the_database_of_a_model(tmp_path: Path) -> None:
    """`db` counts where app.json knows the name; else the rows are in the app's database."""
    model = "from sqlmodel import Field, SQLModel\nclass {0}(SQLModel, table=True):\n    id: int = Field(primary_key=True)\n"
    elements = {
        f"models/{name}": {
            "e.json": {"type": "models.NormalType", "db": db},
            "model.py": model.format(name),
        }
        for name, db in {
            "InCrm": "databases.Crm",
            "InDefault": "databases.Default",
        }.items()
    }
    app = build_app(
        tmp_path, elements, ready=False, databases={"Crm": "sqlite:///crm.db"}
    )
    assert app.check() == []
    assert (app.database_of("models.InCrm"), app.database_of("models.InDefault")) == (
        "Crm",
        "",
    )


# The older function of inner.py

MAINS = {
    "def main(app, taskInstance):\n    return app.name, taskInstance.fullName\n": (
        "test",
        "tasks.Daily",
    ),
    "async def main(app, taskInstance):\n    return taskInstance.title\n": "Daily",
    "def main(app, taskInstance):\n    return 0\ndef customFunc():\n    return 'customFunc wins'\n": "customFunc wins",
}


@pytest.mark.parametrize("inner", MAINS)
def test_main_of_a_scheduled_task(tmp_path: Path, inner: str) -> None:
    from jittask_prefect.running.function import awaited

    app = build_app(
        tmp_path,
        {"tasks/Daily": {"e.json": {**TASK, "title": "Daily"}, "inner.py": inner}},
        ready=False,
    )
    assert app.check() == []
    assert awaited(app.tasks.Daily.getFunc()()) == MAINS[inner]


def test_main_with_other_parameters(tmp_path: Path) -> None:
    inner = "def main(app, taskInstance, rowData):\n    pass\n"
    app = build_app(
        tmp_path, {"tasks/Daily": {"e.json": TASK, "inner.py": inner}}, ready=False
    )
    [problem] = app.check()
    assert (
        "main(app, taskInstance, rowData)" in problem.found
        and "no argument" in problem.allowed
    )


def test_main_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.helpers.shop import MODEL, Shop, model_of, rows_task

    inner = "def main(app, taskInstance, rowData):\n    rowData.status = taskInstance.fullName\n"
    s = Shop(
        tmp_path,
        monkeypatch,
        {"models/Bill": model_of(MODEL), "tasks/Task": rows_task(inner=inner)},
    )
    assert s.app.check() == []
    s.save(at=datetime(2026, 3, 2, 9))
    s.api.sync(s.app, s.now)
    s.at("2026-03-02 09:00")
    s.api.run_due(s.app, s.now)
    assert s.row(1).status == "tasks.Task"


# The chain


def test_elements_as_attributes_of_the_app(tmp_path: Path) -> None:
    service = "class A:\n    def b(self, n=1):\n        return n + 1\n"
    task = {
        "e.json": TASK,
        "inner.py": "def customFunc():\n    return app.services.A.b(n=4)\n",
    }
    elements = {
        "services/A": {
            "e.json": {"type": "services.NormalType"},
            "service.py": service,
        },
        "tasks/Daily": task,
    }
    app = build_app(tmp_path, elements, ready=False)
    assert app.services.A.b(2) == 3
    assert app.tasks.Daily.getFunc()() == 5
    assert app.models() == {} and dir(app.services) == ["A"]
    assert not hasattr(app.services, "Nope")
    with pytest.raises(AttributeError, match="services has A"):
        _ = app.services.Nope
