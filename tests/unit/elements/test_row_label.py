"""What names a row for people: which fields and methods may, and what becomes of hostile texts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from shop import model_of, rows_task

from jittask_prefect.elements.row_label import check_label, label_of, label_text
from jittask_prefect.errors import ConfigError
from jittask_prefect.testing import build_app

MODEL = """
from datetime import date, datetime
from sqlalchemy.ext.hybrid import hybrid_property
from sqlmodel import Field, Relationship, SQLModel

class Keeper(SQLModel, table=True):
    id: int = Field(primary_key=True)
    name: str

class Bill(SQLModel, table=True):
    id: int = Field(primary_key=True)
    customer: str
    iban: str = "DE02 1203"
    at: datetime | None = None
    keeper_id: int | None = Field(default=None, foreign_key="keeper.id")
    keeper: Keeper = Relationship()

    def who(self): return f"{self.customer} of {self.id}"
    def of(self, year): return str(year)
    def often(self, year=2026): return f"{self.customer} {year}"
    @property
    def short(self): return self.customer[:3]
    @staticmethod
    def plain(): return "x"
    async def later(self): return "x"
    @classmethod
    def made(cls): return "x"
"""


class Colour(Enum):
    RED = "red"


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> Any:
    app = build_app(
        tmp_path_factory.mktemp("label") / "app",
        {"models/Bill": model_of(MODEL)},
    )
    yield app.getElement("models.Bill")
    app.close()


@pytest.mark.parametrize("name", ["customer", "id", "at", "who", "often", "short"])
def test_fields_and_methods_without_arguments_may_name_a_row(
    bill: Any, name: str
) -> None:
    check_label(bill, name)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("__str__", "'__str__'"),
        ("__class__", "'__class__'"),
        ("customer; DROP", "'customer; DROP'"),
        ("name", "name, which Bill does not have"),
        ("keeper", "keeper, which leads to other rows"),
        ("of", "of(self, year), which needs arguments"),
        ("plain", "plain, which is no method"),
        ("later", "later, which is async"),
        ("made", "made, which is no method"),
    ],
)
def test_others_are_refused_with_the_fields_that_there_are(
    bill: Any, name: str, found: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        check_label(bill, name)
    said = str(refused.value)
    assert f"rowLabel: found {found}" in said
    assert "the fields are id, customer, iban, at, keeper_id" in said


def test_the_label_is_the_text_of_the_field_or_of_the_method(bill: Any) -> None:
    row = bill(id=7, customer="Wang Fang")
    labels = [label_of(row, name) for name in ("customer", "who", "often", "short", "id")]  # fmt: skip
    assert labels == ["Wang Fang", "Wang Fang of 7", "Wang Fang 2026", "Wan", "7"]


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (None, ""),
        ("", ""),
        (" \n\t ", ""),
        (7, "7"),
        (Decimal("1.50"), "1.50"),
        (date(2026, 3, 2), "2026-03-02"),
        (Colour.RED, "red"),
        ("a\nb\tc", "a b c"),
        ("a\x1b[31mb\x00c\x9bd", "a [31mb c d"),
        ("a\u202eb\u2066c\u200fd", "abcd"),
        ("\ud800x", "x"),
        ("a\u2028b", "a b"),
        ("محمد علي", "محمد علي"),
        ("<b>x</b> [y](z)", "<b>x</b> [y](z)"),
        ("x" * 10_000, "x" * 59 + "…"),
        ("x" * 60, "x" * 60),
    ],
)
def test_a_label_is_a_line_of_at_most_60_printable_characters(
    value: object, label: str
) -> None:
    assert label_text(value, "customer") == label


async def later() -> str:
    return "x"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("make", [dict, object, lambda: b"x", later])
def test_no_other_value_is_turned_into_text(make: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="; allowed: a text, a number or a date"):
        label_text(make(), "customer")


def test_check_names_a_wrong_label_and_the_tasks_go_on(tmp_path: Path) -> None:
    elements = {
        "models/Bill": model_of(rowLabel="customer"),
        "tasks/Task": rows_task(),
    }
    app = build_app(tmp_path / "app", elements)
    [problem] = app.check()
    assert str(problem).startswith(
        "models/Bill/e.json: rowLabel: found customer, which Bill does not have"
    )
    assert app.fault("tasks.Task") is None
    app.close()


@pytest.mark.parametrize(
    "text",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    ],
)
def test_words_and_emoji_keep_their_joiners(text: str) -> None:
    assert label_text(text, "who") == text
