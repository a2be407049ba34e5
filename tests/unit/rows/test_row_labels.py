"""Labels of rows: in the names of their runs, asked for only where a model or a task states what names a row."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from shop import Shop, model_of, rows_task
from sqlalchemy import event

from jittask_prefect.cli.doctor import findings
from jittask_prefect.dialogs import forms
from jittask_prefect.records import text
from jittask_prefect.records.listing import RecordFilter, records
from jittask_prefect.records.row_history import row_history
from jittask_prefect.rows import row_labels as module
from jittask_prefect.rows.row_labels import label_problem, row_labels
from jittask_prefect.testing import deploy

Make = Callable[..., Shop]
BILL = """
from datetime import datetime
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class Bill(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    customer: str | None = None
    iban: str = "DE02 1203"
    at: NaiveDatetime | None = None
    count: int = 0

    def who(self):
        if self.customer == "bad":
            raise RuntimeError("no such customer")
        return f"{self.customer} <{self.id}>"

    def leaves(self):
        raise SystemExit(3)

    def changes(self):
        self.customer = "changed"
        return "label"
"""
TEN = datetime(2026, 3, 2, 10)


def labelled(make: Make, label: str | None, **keys: Any) -> Shop:
    about = {"rowLabel": label} if label else {}
    task = {**rows_task(**keys), "e.json": rows_task(**keys)["e.json"]}
    task["e.json"]["title"] = "Remind"
    return make(elements={"models/Bill": model_of(BILL, **about), "tasks/Task": task})


def run_names(s: Shop) -> list[str]:
    return sorted(run["name"] for run in s.api.all_runs.values())


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_said", set())


def test_a_run_is_named_by_title_label_key_and_time(shop: Make) -> None:
    s = labelled(shop, "customer")
    s.save(customer="Wang Fang", at=TEN)
    s.save(at=TEN)
    s.sync()
    assert run_names(s) == [
        "Remind · Bill 2 · 2026-03-02 10:00",
        "Remind · Wang Fang (Bill 1) · 2026-03-02 10:00",
    ]


def test_without_a_stated_label_the_key_alone_names_a_row(shop: Make) -> None:
    s = labelled(shop, None)
    s.save(customer="Wang Fang", at=TEN)
    s.sync()
    assert run_names(s) == ["Remind · Bill 1 · 2026-03-02 10:00"]


def test_a_method_names_a_row_and_prefect_takes_the_name(shop: Make) -> None:
    s = labelled(shop, "who")
    s.save(customer="A/B & Sons {{ x }}", at=TEN)
    s.sync()
    assert run_names(s) == ["Remind · A_B _ Sons { { x } } _1_ (Bill 1) · 2026-03-02 10:00"]  # fmt: skip


def test_records_pending_tasks_and_the_story_of_a_row_have_the_label(
    shop: Make,
) -> None:
    s = labelled(shop, "customer")
    s.save(customer="Wang Fang", at=TEN)
    s.save(at=TEN)
    s.sync()
    found = records(s.app, s.api, s.now, RecordFilter())
    assert {(each.row, each.as_dict().get("label")) for each in found} == {
        ("1", "Wang Fang"),
        ("2", None),
    }
    story = row_history(s.app, "models.Bill", "1", s.now, 5, 5)
    assert next(text.row(story)) == "models.Bill Wang Fang (1)"
    assert story.as_dict()["label"] == "Wang Fang"
    assert "label" not in row_history(s.app, "models.Bill", "2", s.now, 5, 5).as_dict()


def test_a_failing_method_leaves_the_keys_and_is_said_once(
    shop: Make, caplog: pytest.LogCaptureFixture
) -> None:
    s = labelled(shop, "who")
    for customer in ("bad", "Li", "bad"):
        s.save(customer=customer, at=TEN)
    with caplog.at_level(logging.WARNING, "jittask"):
        s.sync()
    assert run_names(s) == [
        "Remind · Bill 1 · 2026-03-02 10:00",
        "Remind · Bill 3 · 2026-03-02 10:00",
        "Remind · Li _2_ (Bill 2) · 2026-03-02 10:00",
    ]
    assert [r.getMessage() for r in caplog.records] == [
        "the rowLabel who of models.Bill fails (RuntimeError: no such customer): rows are named by their keys"
    ]


@pytest.mark.parametrize("label", ["leaves", "missing"])
def test_no_label_stops_a_sync(shop: Make, label: str) -> None:
    s = labelled(shop, label)
    s.save(customer="Li", at=TEN)
    s.sync()
    assert run_names(s) == ["Remind · Bill 1 · 2026-03-02 10:00"]


def test_a_method_that_changes_its_row_changes_nothing(shop: Make) -> None:
    s = labelled(shop, "changes")
    key = s.save(customer="Li", at=TEN)
    s.sync()
    assert s.row(key).customer == "Li"
    assert run_names(s) == ["Remind · label (Bill 1) · 2026-03-02 10:00"]


def test_a_label_in_arabic_does_not_turn_the_date_around(shop: Make) -> None:
    s = labelled(shop, "customer")
    s.save(customer="محمد", at=TEN)
    s.sync()
    assert run_names(s) == ["Remind · \u2068محمد\u2069 (Bill 1) · 2026-03-02 10:00"]


def test_a_long_name_is_capped_in_each_part(shop: Make) -> None:
    s = labelled(shop, "customer")
    s.config(title="T" * 200)
    s.save(customer="x" * 10_000, at=TEN)
    s.sync()
    [name] = run_names(s)
    assert name == f"{'T' * 49}… · {'x' * 59}… (Bill 1) · 2026-03-02 10:00"


@pytest.mark.parametrize(
    ("customer", "found"),
    [
        ("Li", None),
        ("bad", "the rowLabel who of models.Bill fails (RuntimeError: no such customer): rows are named by their keys"),
    ],
)  # fmt: skip
def test_a_failing_label_is_a_warning_of_doctor(
    shop: Make, customer: str, found: str | None
) -> None:
    s = labelled(shop, "who")
    s.save(customer=customer, at=TEN)
    assert label_problem(s.element("tasks.Task")) == found
    said = [each.text for each in findings(s.app, s.now) if "rowLabel" in each.text]
    assert said == ([found] if found else [])


def statements(s: Shop, work: Callable[[], object]) -> list[str]:
    found: list[str] = []
    engine = s.app.engine()

    def note(c: Any, cursor: Any, statement: str, *more: Any) -> None:
        found.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return found


@pytest.mark.parametrize(("label", "asked"), [(None, 0), ("customer", 1), ("who", 1)])
def test_labels_cost_one_statement_for_many_rows(
    shop: Make, label: str | None, asked: int
) -> None:
    s = labelled(shop, label)
    for number in range(15):
        s.save(customer=f"C{number}", at=TEN)
    rows = [("tasks.Task", str(number + 1)) for number in range(15)]
    assert len(statements(s, lambda: row_labels(s.app, rows))) == asked


def test_a_column_is_read_without_the_others(shop: Make) -> None:
    s = labelled(shop, "customer")
    s.save(customer="Li", at=TEN)
    [asked] = statements(s, lambda: row_labels(s.app, [("tasks.Task", "1")]))
    assert "iban" not in asked


def test_rows_that_are_gone_and_keys_of_another_form_have_no_label(shop: Make) -> None:
    s = labelled(shop, "customer")
    s.save(customer="Li", at=TEN)
    rows = [("tasks.Task", key) for key in ("1", "99", "no number")]
    assert row_labels(s.app, [*rows, ("tasks.Gone", "1"), ("tasks.Task", "")]) == {
        ("tasks.Task", "1"): "Li"
    }


FAILS = "def customFunc(row):\n    raise ValueError('no paper')\n"


def test_log_and_table_of_a_batch_name_each_row(
    shop: Make, caplog: pytest.LogCaptureFixture
) -> None:
    s = labelled(shop, "customer", inner=FAILS, dispatch="batch", retries=1)
    s.save(customer="Wang Fang", at=TEN)
    s.save(at=TEN)
    s.sync()
    assert run_names(s) == ["Remind · 2 rows · 2026-03-02 10:00"]
    with caplog.at_level(logging.WARNING, "jittask"):
        s.work("2026-03-02 10:00")
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    each = ["tasks.Task, Wang Fang (Bill 1) failed", "tasks.Task, Bill 2 failed"]
    assert sorted(said) == sorted(each * 2)
    assert all(r.exc_info for r in caplog.records if r.levelno == logging.ERROR)
    assert "tasks.Task, Wang Fang (Bill 1): attempt 1 failed (error: ValueError: no paper); again in 0 s" in caplog.messages  # fmt: skip
    [table] = s.api.tables.values()
    assert [(row["row"], row["label"]) for row in table] == [
        ("1", "Wang Fang"),
        ("2", ""),
    ]


def test_the_table_of_a_batch_without_labels_has_no_column_for_them(shop: Make) -> None:
    s = labelled(shop, None, dispatch="batch")
    s.save(customer="Wang Fang", at=TEN)
    s.sync()
    s.work("2026-03-02 10:00")
    [[row]] = s.api.tables.values()
    assert "label" not in row


def test_the_form_for_ending_tasks_names_a_task_as_its_run_is_named(shop: Make) -> None:
    s = labelled(shop, "customer")
    s.save(customer="Wang Fang", at=TEN)
    s.sync()
    (entry,) = s.entries()
    deploy(s.app, s.api, s.now)
    schema = s.api.all_deployments[forms.END]["parameter_openapi_schema"]
    assert schema["properties"]["task"]["enum"] == [
        f"Remind · Wang Fang (Bill 1) · 2026-03-02 10:00 · pending · {entry.task_id}"
    ]
