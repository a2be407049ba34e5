"""New apps and new tasks: they work at once, and their names come from titles in any language."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jittask_prefect import App, ArgumentError, ConfigError
from jittask_prefect.elements import scaffold
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.testing import build_app

NOW = datetime(2026, 3, 2, 20, 0, tzinfo=UTC)

NAMES: dict[str, str] = {
    "合同到期提醒": "HeTongDaoQiTiXing",
    "Daily sales report": "DailySalesReport",
    "daily REPORT": "DailyREPORT",
    "ежедневный отчёт": "EzhednevnyyOtchet",
    "Größe prüfen": "GrossePrufen",
    "2-week clean-up": "Task2WeekCleanUp",
    "The customer's bill": "TheCustomersBill",
    "!!!": "Task",
    "../x": "X",
    "_private": "Private",
}


@pytest.mark.parametrize("title, name", NAMES.items())
def test_an_english_name_for_a_title_in_any_language(title: str, name: str) -> None:
    assert scaffold.english_name(title) == name


def test_a_number_is_added_where_the_name_is_taken() -> None:
    assert (
        scaffold.english_name("合同到期提醒", ["HeTongDaoQiTiXing"])
        == "HeTongDaoQiTiXing2"
    )
    assert scaffold.english_name("Daily", ["daily", "DAILY2"]) == "Daily3"


def test_a_long_title_has_a_name_of_64_at_most() -> None:
    name = scaffold.english_name("合同到期提醒" * 30)
    assert name.startswith("HeTongDaoQiTiXingHeTong")
    assert len(scaffold.english_name("合同到期提醒" * 30, [name])) <= 64


@pytest.fixture
def app(tmp_path: Path) -> App:
    model = (
        "from datetime import date, datetime\nfrom sqlmodel import Field, SQLModel\n"
        "class Contract(SQLModel, table=True):\n    __tablename__ = 'contract'\n"
        "    id: int | None = Field(default=None, primary_key=True)\n"
        "    customer: str = ''\n    signed: datetime | None = None\n    endDate: date | None = None\n"
    )
    contract: Any = {
        "e.json": {"type": "models.NormalType", "title": "Contract"},
        "model.py": model,
    }
    return build_app(
        tmp_path / "shop", {"models/Contract": contract}, timezone="Asia/Shanghai"
    )


def test_a_new_scheduled_task_works_at_once(app: App) -> None:
    folder = scaffold.new_scheduled(app, "合同到期提醒", NOW)
    assert folder.name == "HeTongDaoQiTiXing"
    assert App(app.path).check() == []
    e_json = json.loads((folder / "e.json").read_text(encoding="utf-8"))
    assert (e_json["title"], e_json["type"]) == ("合同到期提醒", "tasks.NormalType")
    # It is already the 3rd of March in Shanghai: the first run is tomorrow.
    assert e_json["timerCfg"]["startTime"] == "2026-03-04 09:00:00"
    assert "合同到期提醒" in (folder / "e.json").read_text(
        encoding="utf-8"
    )  # readable, not \\uXXXX
    assert scaffold.new_scheduled(app, "合同到期提醒", NOW).name == "HeTongDaoQiTiXing2"


def test_a_new_date_field_task_works_at_once(app: App) -> None:
    folder = scaffold.new_date_field(app, "Contract ends", "models.Contract", "endDate")
    made = App(app.path)
    assert made.check() == []
    e_json = json.loads((folder / "e.json").read_text(encoding="utf-8"))
    assert (e_json["modelPath"], e_json["timerCfg"]["startField"]) == (
        "models.Contract",
        "endDate",
    )


def test_a_new_date_field_task_finds_a_model_and_a_field_by_itself(app: App) -> None:
    folder = scaffold.new_date_field(app, "Contract")
    assert (
        json.loads((folder / "e.json").read_text())["timerCfg"]["startField"]
        == "signed"
    )


@pytest.mark.parametrize(
    "model, field",
    [
        ("models.Contrat", None),
        ("models.Contract", "customer"),
        ("models.Contract", "no"),
        ("", "x"),
    ],
)
def test_a_model_or_a_field_that_is_none(
    app: App, model: str, field: str | None
) -> None:
    with pytest.raises(ArgumentError):
        scaffold.new_date_field(app, "Contract", model, field)
    assert not (app.path / "tasks").exists()


def test_a_date_field_task_needs_a_model(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="model"):
        scaffold.new_date_field(build_app(tmp_path), "Contract")


@pytest.mark.parametrize(
    "title", ["", "   ", "{{ x }}", "__prefect_kind", "two\nlines", "x" * 201]
)
def test_a_title_that_check_would_refuse_makes_nothing(app: App, title: str) -> None:
    with pytest.raises(ConfigError):
        scaffold.new_scheduled(app, title, NOW)
    assert not (app.path / "tasks").exists() or not list((app.path / "tasks").iterdir())


def test_a_new_task_does_not_stand_in_front_of_a_type(app: App) -> None:
    assert scaffold.new_scheduled(app, "Normal type", NOW).name == "NormalType2"
    assert App(app.path).check() == []


@pytest.mark.parametrize("name", ["shop", "My shop", "商店", "9 lives", "..."])
def test_init_makes_an_app_that_works_whatever_the_folder_is_called(
    tmp_path: Path, name: str
) -> None:
    app = App(scaffold.init(tmp_path / name))
    assert app.check() == []
    assert [t.taskType for t in app.templates()] == [
        "tasks.DateFieldType",
        "tasks.NormalType",
    ]
    of_rows = app.template("tasks.ContractReminder")
    assert isinstance(of_rows, DateFieldType) and of_rows.row_label == "customer"


def test_init_keeps_its_hands_off_a_folder_with_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ArgumentError):
        scaffold.init(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(ArgumentError):
        scaffold.init(tmp_path / "mine.txt")
    (tmp_path / "empty").mkdir()
    scaffold.init(tmp_path / "empty")
