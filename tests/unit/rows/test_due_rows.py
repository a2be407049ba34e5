"""A row at its due moment: by a prepared SELECT where the mapping is plain, by SQLAlchemy's own loading elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from shop import MODEL, Shop, model_of, rows_task
from sqlalchemy import event, insert, text
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.orm import with_loader_criteria
from sqlmodel import Session

from jittask_prefect.rows import due_rows

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)


@contextmanager
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The keys of the instances that are made of records meanwhile, without SQLAlchemy's loading."""
    made: list[Any] = []
    real = due_rows.made_persistent

    def noted(session: Session, mapper: Any, values: Any) -> Any:
        made.append(values["id"])
        return real(session, mapper, values)

    with monkeypatch.context() as patch:
        patch.setattr(due_rows, "made_persistent", noted)
        yield made


def found(s: Shop, session: Session, key: str = "1") -> Any:
    template: Any = s.app.template("tasks.Task")
    return due_rows.due_row(session, template, key, s.now)


def test_a_due_row_with_its_occurrences_in_one_select(on: Make) -> None:
    s = on(filter="Q(count__lt=5)", repeat={"repeatType": "day"})
    with s.app.engine().begin() as connection:
        for key, at, count in ((1, TEN, 0), (2, None, 0), (3, TEN, 9)):
            row = {"id": key, "status": "open", "at": at, "count": count}
            connection.execute(insert(s.element("models.Bill").__table__), [row])
    with Session(s.app.engine()) as session:
        rows = [found(s, session, key) for key in "1234"]
        session.execute(text("SELECT 1"))
    assert [each and each.row.id for each in rows] == [1, 2, 3, None]
    assert [bool(each and each.series) for each in rows] == [True, False, False, False]


def test_the_row_is_as_if_the_session_had_loaded_it(
    on: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = on()
    s.save(id=1, at=TEN, status="open", count=3)
    cls = s.element("models.Bill")
    with Session(s.app.engine()) as session:
        loaded = dict(vars(session.get_one(cls, 1)))
    with Session(s.app.engine()) as session:
        with looks(monkeypatch) as made:
            row = found(s, session).row
        state = sa_inspect(row)
        assert made == [1]
        assert state.persistent and row in session and row not in session.dirty
        assert session.get(cls, 1) is row
        del loaded["_sa_instance_state"]
        assert {name: getattr(row, name) for name in loaded} == loaded
        row.count += 1
        session.commit()
    with Session(s.app.engine()) as session:
        assert session.get_one(cls, 1).count == 4


def test_an_attribute_whose_column_has_another_name(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from sqlalchemy import Column, DateTime\n" + MODEL.replace(
        "at: NaiveDatetime | None = None",
        "at: NaiveDatetime | None = Field(default=None, sa_column=Column('due_at', DateTime))",
    )
    s = shop(elements={"models/Bill": model_of(source), "tasks/Task": rows_task("at")})
    s.save(id=1, at=TEN)
    with Session(s.app.engine()) as session, looks(monkeypatch) as made:
        assert found(s, session).row.at == TEN
    assert made == [1]


ORDERS = """
from pydantic import NaiveDatetime
from sqlalchemy.orm import column_property, deferred
from sqlmodel import Field, Relationship, SQLModel

class Owner(SQLModel, table=True):
    __table_args__ = {{"extend_existing": True}}  # each case has the class anew
    id: int | None = Field(default=None, primary_key=True)
    name: str = ""

class Bill(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    at: NaiveDatetime | None = None
    owner_id: int | None = Field(default=None, foreign_key="owner.id")
    owner: Owner | None = Relationship({options})
{more}
"""


@pytest.mark.parametrize(
    ("options", "more", "prepared"),
    [
        ("", "", True),
        ("sa_relationship_kwargs={'lazy': 'joined'}", "", False),
        ("sa_relationship_kwargs={'lazy': 'selectin'}", "", False),
        ("", "Bill.double = column_property(Bill.__table__.c.id * 2)", False),
    ],
)
def test_what_is_more_than_columns_is_loaded_by_sqlalchemy(
    shop: Make,
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    more: str,
    prepared: bool,
) -> None:
    source = ORDERS.format(options=options, more=more)
    s = shop(elements={"models/Bill": model_of(source), "tasks/Task": rows_task("at")})
    related = sa_inspect(s.element("models.Bill")).relationships["owner"].mapper
    with s.app.engine().begin() as connection:
        related.local_table.create(connection, checkfirst=True)
        connection.execute(text("INSERT INTO owner (id, name) VALUES (7, 'Ann')"))
    s.save(id=1, at=TEN, owner_id=7)
    with Session(s.app.engine()) as session, looks(monkeypatch) as made:
        row = found(s, session).row
        assert row.owner.name == "Ann"
        assert not more or row.double == 2
    assert bool(made) is prepared


def test_a_listener_hears_of_the_row(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = shop()
    s.save(id=1, at=TEN)
    cls, heard = s.element("models.Bill"), list[Any]()

    def load(row: Any, _context: Any) -> None:
        heard.append(row)

    event.listen(cls, "load", load)
    try:
        with Session(s.app.engine()) as session, looks(monkeypatch) as made:
            row = found(s, session).row
    finally:
        event.remove(cls, "load", load)
    assert heard == [row] and made == []


def test_a_session_that_changes_all_its_statements_changes_this_one(shop: Make) -> None:
    """Tenants and soft deletes are often told by `do_orm_execute`."""
    s = shop()
    s.save(id=1, at=TEN, count=1)
    cls = s.element("models.Bill")

    def only_some(state: Any) -> None:
        state.statement = state.statement.options(
            with_loader_criteria(cls, cls.count > 1)
        )

    with Session(s.app.engine()) as session:
        event.listen(session, "do_orm_execute", only_some)
        assert found(s, session) is None


def test_rows_of_equal_dates_share_their_series(shop: Make) -> None:
    s = shop(repeat={"repeatType": "day"})
    for key, at in ((1, TEN), (2, TEN), (3, TEN.replace(day=3))):
        s.save(id=key, at=at)
    series = []
    for key in "123":
        with Session(s.app.engine()) as session:
            series.append(found(s, session, key).series)
    assert series[0] is series[1] and series[2] is not series[1]
    assert series[2].anchor.day == 3
