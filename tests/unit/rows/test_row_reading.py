"""Rows are read through SQL, never from instances: one SELECT for all templates of a model, whatever the class is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from shop import MODEL, Shop, model_of, rows_task
from sqlalchemy.orm import defer
from sqlmodel import Session

from jittask_prefect.ledger.prepared import Prepared
from jittask_prefect.rows import row_reading

Make = Callable[..., Shop]
TEN, ELEVEN = datetime(2026, 3, 2, 10), datetime(2026, 3, 2, 11)


@contextmanager
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The prepared statements that are sent meanwhile."""
    sent: list[str] = []
    real = Prepared.run

    def run(self: Prepared, connection: Any, rows: Any) -> Any:
        sent.append(self.sql.split()[0])
        return real(self, connection, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Prepared, "run", run)
        yield sent


def test_one_select_for_all_templates_and_rows_of_a_flush(
    on: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {f"tasks/T{n}": rows_task("at", filter=f"Q(count__lt={n})") for n in (1, 2)}
    s = on(more=more)
    cls = s.element("models.Bill")
    with s.session() as session:
        session.add(cls(id=1, at=TEN))
        session.add(cls(id=2, at=TEN, count=1))
        session.add(cls(id=3, at=TEN, count=2))
        with statements(monkeypatch) as sent:
            session.flush()
        session.commit()
    assert sent.count("SELECT") == 2  # the rows, and the ledger
    found = sorted((e.template, e.row_key) for e in s.entries(status="pending"))
    assert [key for name, key in found if name == "tasks.Task"] == ["1", "2", "3"]
    assert [key for name, key in found if name == "tasks.T1"] == ["1"]
    assert [key for name, key in found if name == "tasks.T2"] == ["1", "2"]


def test_a_moment_in_a_filter_is_the_present_each_time(on: Make) -> None:
    """The statement is made once; `Q.now()` is another instant with each flush."""
    s = on(filter="Q(at__gt=Q.now(hours=1))", timezone="UTC")
    s.save(id=1, at=TEN)
    s.at("2026-03-02 09:30")
    s.save(id=2, at=TEN)
    s.save(id=3, at=ELEVEN)
    assert sorted(e.row_key for e in s.entries()) == ["1", "3"]


NAMED = MODEL.replace(
    "at: NaiveDatetime | None = None",
    "at: NaiveDatetime | None = Field(default=None, sa_column=Column('due_at', DateTime))",
)


def test_a_deferred_date_whose_column_has_another_name(
    shop: Make, caplog: pytest.LogCaptureFixture
) -> None:
    source = "from sqlalchemy import Column, DateTime\n" + NAMED
    parts = {
        "models/Bill": model_of(source),
        "tasks/Task": rows_task("at", filter="Q(status='open')"),
    }
    s = shop(elements=parts)
    cls = s.element("models.Bill")
    s.save(id=1, at=TEN)
    for status in ("paid", "open"):
        with Session(s.app.engine()) as session:
            never = defer(cls.at, raiseload=True)
            session.get_one(cls, 1, options=[never]).status = status
            session.commit()
    assert s.tasks() == ["1 03-02 10:00 #1 superseded", "1 03-02 10:00 #2 pending"]
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"count": 1}, []),
        ({"count": 9}, [("count", {"count": 9})]),
        ({"count": 9, "status": "x"}, [("status", {"status": "x"}), ("count", {})]),
    ],
)
def test_the_parts_of_a_filter_that_a_row_does_not_meet(
    on: Make, values: dict[str, Any], told: list[tuple[str, dict[str, Any]]]
) -> None:
    s = on(filter="Q(status='open') & Q(count__lt=5)")
    s.save(id=1, at=TEN, **values)
    template: Any = s.app.template("tasks.Task")
    with Session(s.app.engine()) as session:
        found = row_reading.unmet(session, template, "1", s.now)
        assert row_reading.unmet(session, template, "7", s.now) == []
    assert [part.own_fields[0] for part, _ in found] == [name for name, _ in told]
    for (_, has), (name, wanted) in zip(found, told, strict=True):
        assert list(has) == [name] and {**has, **wanted} == has
