"""What `check` says of parts that are not carried over: where, what, and what to do. Nothing of it is a mistake."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from jittask_prefect.elements.original.source_notes import notes_of, reads_of_value
from jittask_prefect.testing import build_app

SERVICE = {"type": "services.NormalType"}
MODEL = """
from enum import Enum
from sqlmodel import Field, SQLModel

class Kind(Enum):
    BIG = 1

class Meeting(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    title: str = ""
    kind: Kind = Kind.BIG

    @classmethod
    def create(cls, **values):
        return cls(**values)
"""
CLASS = "class Try:\n    def go(self, row):\n        {}\n"


def app_with(tmp_path: Path, code: str, **app_json: Any) -> Any:
    elements = {
        "models/Meeting": {"e.json": {"type": "models.NormalType"}, "model.py": MODEL},
        "services/Try": {"e.json": SERVICE, "service.py": code},
    }
    return build_app(tmp_path, elements, ready=False, **app_json)


# lines of a method → the note, after its place
CODE = {
    "import importlib; importlib.import_module('services.Try')": (
        "importlib.import_module('services.Try') finds no element, only a real package; write `from services.Try import …`, "
        "or app.getElement('services.Try')"
    ),
    "return SUM(1, 2)": "the formula function SUM is not carried over; write the calculation in Python",
    "calc = app.getElement('globals.Calc'); calc.CONCAT('a', 'b')": (
        "the formula function CONCAT is not carried over; write the calculation in Python"
    ),
    "app.getElement('globals.Calc').NOW()": "the formula function NOW is not carried over; write the calculation in Python",
    "calc = app.getElement('globals.Calc')": (
        "globals.Calc is an element of a kind that does not exist here, only models, services, tasks do; "
        "write its work as a service, or as a module in commons/"
    ),
    "app.getElement('rpas.Robot').start()": (
        "rpas.Robot is an element of a kind that does not exist here, only models, services, tasks do; "
        "write its work as a service, or as a module in commons/"
    ),
    "app.models.Meeting.updateByPK(1, {})": (
        "models.Meeting.updateByPK(…) is not carried over, only query and get are; use SQLAlchemy in "
        "`with app.session() as session:`"
    ),
    "from models.Meeting import Meeting as M; M.deleteBatch()": (
        "models.Meeting.deleteBatch(…) is not carried over, only query and get are; use SQLAlchemy in "
        "`with app.session() as session:`"
    ),
    "M = app.getElement('models.Meeting'); M.batchSave([])": (
        "models.Meeting.batchSave(…) is not carried over, only query and get are; use SQLAlchemy in "
        "`with app.session() as session:`"
    ),
    "return row.title.value": (
        'row.title.value is read as a field of JitTask\'s rows; for such code write "rowStyle": "jit" into app.json, '
        "else take the value without .value"
    ),
    "for each in app.models.Meeting.query(): each.title.value = 'x'": (
        'each.title.value is read as a field of JitTask\'s rows; for such code write "rowStyle": "jit" into app.json, '
        "else take the value without .value"
    ),
}


@pytest.mark.parametrize("line", CODE)
def test_a_call_that_is_not_carried_over(tmp_path: Path, line: str) -> None:
    app = app_with(tmp_path, CLASS.format(line))
    assert app.notes() == [f"services/Try/service.py, line 3: {CODE[line]}"]
    assert app.check() == []


NOTHING = (
    "app.models.Meeting.query(); app.models.Meeting.get(); app.models.Meeting.create(title='a')",
    "import importlib; importlib.import_module('json'); importlib.import_module('services')",
    "return row.kind.value",
    "return self.title.value, app.title.value",
    "MAX = max; return MAX(1, 2)",
    "from decimal import ROUND_UP as UP; return UP",
    "def SUM(*n): return sum(n)\n        return SUM(1)",
)


@pytest.mark.parametrize("line", NOTHING)
def test_code_that_needs_no_note(tmp_path: Path, line: str) -> None:
    assert app_with(tmp_path, CLASS.format(line)).notes() == []


def test_with_the_row_style_no_advice_is_needed(tmp_path: Path) -> None:
    assert (
        app_with(
            tmp_path, CLASS.format("return row.title.value"), rowStyle="jit"
        ).notes()
        == []
    )


def test_a_row_style_that_is_none(tmp_path: Path) -> None:
    from jittask_prefect.errors import ConfigError

    with pytest.raises(ConfigError, match='rowStyle: found "Jit"'):
        app_with(tmp_path, CLASS.format("pass"), rowStyle="Jit")


def test_files_that_python_cannot_read_have_no_notes() -> None:
    for source in (b"def", b"\x00", b"\xff = 1"):
        assert (
            list(notes_of(source, {})) == [] and list(reads_of_value(source, ())) == []
        )


def test_places_are_joined_and_counted(tmp_path: Path) -> None:
    elements = {
        f"services/S{n}": {
            "e.json": {**SERVICE, "icon": "x"},
            "service.py": f"class S{n}:\n    pass\n",
        }
        for n in range(5)
    }
    assert build_app(tmp_path, elements, ready=False).notes() == [
        "services/S0/e.json, services/S1/e.json, services/S2/e.json and 2 more: icon: no meaning here; may stay"
    ]


def test_an_absent_enable_is_noted_in_folders_of_jittask_only(tmp_path: Path) -> None:
    task = {
        "type": "tasks.NormalType",
        "title": "Task",
        "timerCfg": {"startTime": "2026-01-01 09:00:00"},
    }
    code = "def customFunc():\n    pass\n"
    elements = {
        "tasks/Ours": {"e.json": task, "inner.py": code},
        "tasks/Theirs": {
            "e.json": {**task, "backendBundleEntry": "."},
            "inner.py": code,
        },
        "tasks/Both": {
            "e.json": {
                **task,
                "backendBundleEntry": ".",
                "enable": 1,
                "taskFunc": "customFunc",
            },
            "inner.py": code,
        },
    }
    app = build_app(tmp_path, elements, ready=False)
    found = "\n".join(app.notes())
    assert "tasks/Theirs/e.json: enable is absent, which means enabled here" in found
    assert "tasks/Both/e.json: taskFunc does nothing without funcType Global" in found
    assert "Ours" not in found
    assert app.check() == []


def test_an_unmapped_model_is_no_mistake_but_a_task_of_its_rows_is(
    tmp_path: Path,
) -> None:
    bare = "from models.NormalType import NormalModel\nclass Bare(NormalModel):\n    pass\n"
    task = {
        "type": "tasks.DateFieldType",
        "title": "T",
        "modelPath": "models.Bare",
        "timerCfg": {"startField": "due"},
    }
    elements = {
        "models/Bare": {"e.json": {"type": "models.NormalType"}, "model.py": bare},
        "services/Try": {
            "e.json": SERVICE,
            "service.py": "from models.Bare import Bare\nclass Try:\n    pass\n",
        },
        "tasks/T": {"e.json": task, "inner.py": "def customFunc(row):\n    pass\n"},
    }
    app = build_app(tmp_path, elements, ready=False)
    assert [note.partition(":")[0] for note in app.notes()] == ["models/Bare/model.py"]
    [problem] = app.check()
    assert (problem.file, problem.key) == ("tasks/T/e.json", "modelPath")
    assert app.module("services.Try", "service").Bare.__name__ == "Bare"


def test_check_ends_with_the_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from jittask_prefect.cli.commands import cli

    app_with(tmp_path, CLASS.format("return SUM(1)"))
    monkeypatch.setenv("JITTASK_APP", str(tmp_path))
    found = CliRunner().invoke(cli, ["check"])
    assert found.exit_code == 0
    assert textwrap.dedent(found.output).strip().splitlines()[-1] == (
        "note: services/Try/service.py, line 3: the formula function SUM is not carried over; "
        "write the calculation in Python"
    )


# keys of a task → the note, after its place; the app loads, and check finds no mistake
LEFT_BEHIND: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "endOffset without an end": ({}, {"endTimeType": 0, "endOffset": {"offsetType": 0}}, "endOffset does nothing without"),
    "endOffset beside a fixed end": (
        {}, {"endTimeType": 1, "endTime": "2030-01-01", "endOffset": {"offsetType": 0}}, "endOffset does nothing without",
    ),
    "endOffset as the type of none in text": ({}, {"endTimeType": "0", "endOffset": {"x": 1}}, "endOffset does nothing"),
    "taskFunc with Inner": ({"funcType": "Inner", "taskFunc": "services.Try.go"}, {}, "taskFunc does nothing without"),
    "taskFunc beside an inner.py": ({"taskFunc": "services.Try.go"}, {}, "taskFunc does nothing without funcType Global"),
}  # fmt: skip
ROWS: dict[str, Any] = {
    "type": "tasks.DateFieldType",
    "title": "Rows",
    "enable": 1,
    "modelPath": "models.Visit",
    "timerCfg": {"startField": "at", "repeat": {"repeatType": "day"}},
}
VISIT = """
from datetime import datetime
from sqlmodel import Field, SQLModel

class Visit(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    at: datetime
"""
TRY = "class Try:\n    def go(self): return 'service'\n"


def rows_app(tmp_path: Path, keys: dict[str, Any], timer: dict[str, Any]) -> Any:
    elements = {
        "models/Visit": {"e.json": {"type": "models.NormalType"}, "model.py": VISIT},
        "services/Try": {"e.json": SERVICE, "service.py": TRY},
        "tasks/Rows": {
            "e.json": {**ROWS, **keys, "timerCfg": {**ROWS["timerCfg"], **timer}},
            "inner.py": "def customFunc(row):\n    pass\n",
        },
    }
    return build_app(tmp_path, elements, ready=False)


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_a_key_that_was_left_behind_is_a_note(tmp_path: Path, name: str) -> None:
    keys, timer, note = LEFT_BEHIND[name]
    app = rows_app(tmp_path, keys, timer)
    assert app.check() == []
    (said,) = app.notes()
    assert said.startswith(f"tasks/Rows/e.json: {note}")
    assert app.getElement("tasks.Rows").cfg.funcType == "Inner"


@pytest.mark.parametrize(
    "timer",
    [
        {"endTimeType": 0, "endField": "at"},
        {"endTimeType": 0, "endTime": "2030-01-01"},
        {"endTimeType": 1, "endTime": "2030-01-01", "endField": "at"},
        {"endTimeType": 2},
    ],
)
def test_a_contradiction_stays_a_mistake(tmp_path: Path, timer: dict[str, Any]) -> None:
    assert rows_app(tmp_path, {}, timer).check()


def scheduled_app(
    tmp_path: Path, keys: dict[str, Any], timer: dict[str, Any], *, inner: bool
) -> Any:
    start = {"startTime": "2026-01-01 09:00:00", "repeat": {"repeatType": "day"}}
    task = {"type": "tasks.NormalType", "title": "Daily", "enable": 1, **keys}
    files: dict[str, Any] = {"e.json": {**task, "timerCfg": {**start, **timer}}}
    if inner:
        files["inner.py"] = "def customFunc():\n    return 'inner'\n"
    elements = {
        "services/Try": {"e.json": SERVICE, "service.py": TRY},
        "tasks/Daily": files,
    }
    return build_app(tmp_path, elements, ready=False)


@pytest.mark.parametrize(
    ("timer", "note"),
    [
        ({"endTimeType": 0}, "endTimeType does nothing in a scheduled task"),
        ({"endTimeType": "1", "endTime": "2030-01-01"}, "endTimeType does nothing in"),
        ({"endOffset": {"offsetType": 0}}, "endOffset does nothing without endField"),
    ],
)
def test_an_end_of_a_row_in_a_scheduled_task_is_a_note(
    tmp_path: Path, timer: dict[str, Any], note: str
) -> None:
    app = scheduled_app(tmp_path, {}, timer, inner=True)
    assert app.check() == []
    (said,) = app.notes()
    assert said.startswith(f"tasks/Daily/e.json: {note}")
    assert "endTimeType" not in app.getElement("tasks.Daily").timer.cfg.dump()


@pytest.mark.parametrize(
    "timer",
    [
        {"endTimeType": 0, "endTime": "2030-01-01"},
        {"endTimeType": 1},
        {"endTimeType": 2},
    ],
)
def test_an_end_type_that_contradicts_stays_a_mistake(
    tmp_path: Path, timer: dict[str, Any]
) -> None:
    (problem,) = scheduled_app(tmp_path, {}, timer, inner=True).check()
    assert problem.key == "timerCfg.endTimeType"


def test_a_service_function_in_taskfunc_alone_is_the_function(tmp_path: Path) -> None:
    """Without inner.py there is no other."""
    app = scheduled_app(tmp_path, {"taskFunc": "services.Try.go"}, {}, inner=False)
    assert app.check() == app.notes() == []
    task = app.getElement("tasks.Daily")
    assert (task.cfg.funcType, task.cfg.func) == ("Global", "services.Try.go")


def test_a_service_function_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    app = scheduled_app(tmp_path, {"taskFunc": "services.Try.gone"}, {}, inner=False)
    assert "gone" in "\n".join(map(str, app.check()))
