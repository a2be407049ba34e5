"""Model events: whatever a session saves or deletes is in the ledger with it, and nothing of that disturbs a save."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

import pytest
from shop import MODEL, Shop, model_of, rows_task
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session as PlainSession
from sqlmodel import Session

from jittask_prefect.ledger import hindrance
from jittask_prefect.rows import follow, hooks

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
EVENTS = (
    MODEL
    + """
    def afterSave(self, triggerEvent=1):
        CALLS.append(("save", self.id, triggerEvent))

    def afterDelete(self, triggerEvent=1):
        CALLS.append(("delete", self.id, triggerEvent))

CALLS = []
"""
)


@pytest.mark.parametrize("kind", [Session, PlainSession])
def test_any_session_and_any_engine(shop: Make, kind: type[PlainSession]) -> None:
    s = shop()
    engine = create_engine(s.app.database_url())  # one that the app never saw
    cls = s.element("models.Bill")
    with kind(engine) as session:
        session.add(cls(id=1, at=TEN))
        session.commit()
    assert s.tasks() == ["1 03-02 10:00 #1 pending"]
    with kind(engine) as session:
        session.get(cls, 1).at = datetime(2026, 3, 2, 11)
        session.commit()
    assert s.tasks(status="pending") == ["1 03-02 11:00 #2 pending"]
    with kind(engine) as session:
        session.delete(session.get(cls, 1))
        session.commit()
    assert s.tasks(status="pending") == []
    engine.dispose()


def test_what_is_rolled_back_was_never_there(shop: Make) -> None:
    s = shop()
    nudged: list[str] = []
    hooks._nudges.append(lambda app, database: nudged.append(database))
    cls = s.element("models.Bill")
    with s.session() as session:
        session.add(cls(id=1, at=TEN))
        session.flush()
        assert len(s.entries()) == 0  # not before the commit
        session.rollback()
        session.add(cls(id=2, status="x"))
        session.commit()
    assert s.tasks() == [] and nudged == []


def test_a_savepoint_that_is_rolled_back(shop: Make) -> None:
    s = shop()
    cls = s.element("models.Bill")
    with s.session() as session:
        session.add(cls(id=1, at=TEN))
        session.flush()
        point = session.begin_nested()
        session.get(cls, 1).at = datetime(2026, 3, 2, 11)
        session.add(cls(id=2, at=TEN))
        session.flush()
        point.rollback()
        session.commit()
    assert s.tasks() == ["1 03-02 10:00 #1 pending"]


def test_several_flushes_in_one_transaction(shop: Make) -> None:
    s = shop()
    cls = s.element("models.Bill")
    with s.session() as session:
        row = cls(id=1, at=TEN)
        session.add(row)
        session.flush()
        row.at = datetime(2026, 3, 2, 11)
        session.flush()
        row.at = datetime(2026, 3, 2, 12)
        session.commit()
    assert s.tasks() == [
        "1 03-02 10:00 #1 superseded",
        "1 03-02 11:00 #2 superseded",
        "1 03-02 12:00 #3 pending",
    ]
    assert s.sync().created == 1  # the others never reached Prefect


def test_nothing_reaches_prefect_inside_the_transaction(shop: Make) -> None:
    s = shop()
    nudged: list[str] = []
    hooks._nudges.append(lambda app, database: nudged.append(database))
    s.api.down = True
    calls = len(s.api.calls)
    cls = s.element("models.Bill")
    with s.session() as session:
        session.add(cls(id=1, at=TEN))
        session.flush()
        assert nudged == []
        session.commit()
    assert (
        nudged == [""] and len(s.api.calls) == calls
    )  # a save neither fails nor waits where Prefect is down
    s.save(id=1, count=3)
    assert nudged == [""]  # nothing to hand over, nobody nudged


def test_methods_of_the_model_are_called_once_each(shop: Make) -> None:
    s = shop(more={"models/Bill": model_of(EVENTS)})
    calls = s.app.module("models.Bill", "model").CALLS
    s.save(at=TEN)
    assert calls == [("save", 1, 1)]  # with the key that the database gave
    s.save(id=1, count=5)
    s.save(id=1, count=5)  # no change, no event
    assert calls == [("save", 1, 1), ("save", 1, 1)]
    s.drop(1)
    assert calls[2:] == [("delete", 1, 1)]


def test_a_method_that_saves_again_is_not_called_for_it(shop: Make) -> None:
    source = MODEL + (
        "\n    def afterSave(self, triggerEvent=1):\n        self.count += 1\n"
    )
    s = shop(more={"models/Bill": model_of(source)})
    s.save(id=1, at=TEN)
    assert s.row(1).count == 1 and len(s.tasks()) == 1


def test_no_event_for_a_row_of_an_earlier_transaction(shop: Make) -> None:
    s = shop(more={"models/Bill": model_of(EVENTS)})
    calls = s.app.module("models.Bill", "model").CALLS
    cls = s.element("models.Bill")
    with s.session() as session:
        session.add(cls(id=1, at=TEN))
        session.commit()
        session.add(cls(id=1, at=TEN))
        with pytest.raises(Exception, match="UNIQUE"):
            session.commit()
        session.rollback()
        session.add(cls(id=2, at=TEN))
        session.commit()
    assert [c[1] for c in calls] == [1, 2]


def test_a_broken_date_never_makes_a_save_fail(
    shop: Make, caplog: pytest.LogCaptureFixture
) -> None:
    s = shop("day", timezone="Asia/Shanghai")
    cls = s.element("models.Bill")
    from datetime import date

    for key, day in (
        (1, date(1, 1, 1)),
        (2, date(9999, 12, 31)),
        (3, date(2026, 3, 3)),
    ):
        with s.session() as session:
            session.add(cls(id=key, day=day))
            session.commit()
    assert s.sync().problems == []
    assert [e.row_key for e in s.entries(status="pending")] == ["3"]


@pytest.mark.parametrize("error", [ValueError, KeyError, RuntimeError, AttributeError])
def test_no_error_about_tasks_makes_a_save_fail(
    shop: Make,
    error: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    s = shop()

    def broken(*_args: object, **_keys: object) -> None:
        raise error("boom")

    monkeypatch.setattr(follow, "_plan", broken)
    s.save(id=1, at=TEN)
    s.drop(1)
    assert "boom" in caplog.text
    s.save(id=1, at=TEN)
    assert s.did() == ["create 1 03-02 10:00"]


def test_without_tables_a_save_goes_on_and_says_so_once(
    shop: Make, caplog: pytest.LogCaptureFixture
) -> None:
    s = shop()
    s.raw("DROP TABLE jittask_ledger")
    s.raw("DROP TABLE jittask_state")
    hindrance.forget()
    with caplog.at_level(logging.WARNING):
        s.save(id=1, at=TEN)
        s.save(id=2, at=TEN)
        s.drop(2)
    assert caplog.text.count("jittask db upgrade") == 1
    assert s.row(1).at == TEN


def test_a_broken_template_does_not_reach_into_a_save(shop: Make) -> None:
    s = shop(more={"tasks/Broken": {"e.json": "{", "inner.py": ""}})
    s.save(id=1, at=TEN)
    assert s.tasks() == ["1 03-02 10:00 #1 pending"]


RELATED = """
from pydantic import NaiveDatetime
from sqlmodel import Field, Relationship, SQLModel

class Customer(SQLModel, table=True):
    id: int = Field(primary_key=True)
    name: str

class Bill(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    at: NaiveDatetime | None = None
    count: int = 0
    customer_id: int | None = Field(default=None, foreign_key="customer.id")
    customer: Customer | None = Relationship()
"""


def test_a_filter_that_follows_a_relationship(shop: Make) -> None:
    # the hook sees what the database holds: a row that is being inserted has no loaded relationship yet
    s = shop(
        elements={
            "models/Bill": model_of(RELATED),
            "tasks/Task": rows_task("at", filter="Q(customer__name='Ada')"),
        }
    )
    with s.app.engine().begin() as connection:
        s.element("models.Bill").metadata.tables["customer"].create(
            connection, checkfirst=True
        )
    s.raw("INSERT INTO customer (id, name) VALUES (1, 'Ada'), (2, 'Bob')")
    s.save(id=7, at=TEN, customer_id=1)
    assert s.tasks() == ["7 03-02 10:00 #1 pending"]
    s.save(id=7, customer_id=2)
    assert s.tasks() == ["7 03-02 10:00 #1 superseded"]
    s.save(id=7, customer_id=1)
    s.save(id=8, at=TEN, customer_id=2)
    assert s.did() == []
    assert s.tasks(status="pending") == ["7 03-02 10:00 #2 pending"]


NOT_LOADED = """
from pydantic import NaiveDatetime
from sqlalchemy.orm import relationship
from sqlmodel import Field, SQLModel

class Bill(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    at: NaiveDatetime | None = None
    count: int = 0
    no: int | None = Field(default=None, foreign_key="one_LAZY.id")

class One_LAZY(SQLModel, table=True):
    __tablename__ = "one_LAZY"
    id: int = Field(primary_key=True)
    name: str

class Many_LAZY(SQLModel, table=True):
    __tablename__ = "many_LAZY"
    id: int = Field(primary_key=True)
    name: str
    bill: int = Field(foreign_key="bill.id")

Bill.one = relationship(One_LAZY, lazy="select" if "LAZY" in ("dynamic", "write_only") else "LAZY")
Bill.many = relationship(Many_LAZY, lazy="LAZY")
"""


@pytest.mark.parametrize(
    "lazy", ["raise", "raise_on_sql", "noload", "dynamic", "write_only"]
)
def test_a_relationship_that_is_not_to_be_loaded(
    shop: Make, lazy: str, caplog: pytest.LogCaptureFixture
) -> None:
    """`lazy` protects the team's own code from hidden queries; a filter reads what it names all the same."""
    where = "Q(one__name='Ada') | Q(many__name='Ada')"
    parts = {
        "models/Bill": model_of(NOT_LOADED.replace("LAZY", lazy)),
        "tasks/Task": rows_task(filter=where),
    }
    s = shop(elements=parts)
    tables = s.element("models.Bill").metadata.tables
    with s.app.engine().begin() as connection:
        for name in ("one", "many"):
            tables[f"{name}_{lazy}"].create(connection, checkfirst=True)
    s.raw(f"INSERT INTO one_{lazy} (id, name) VALUES (1, 'Ada'), (2, 'Bob')")
    for key, no in ((7, 1), (8, 2), (9, 2)):
        s.save(id=key, no=no)
    s.raw(
        f"INSERT INTO many_{lazy} (id, name, bill) VALUES (1, 'Bob', 7), (2, 'Ada', 9), (3, 'Bob', 9)"
    )
    for key in (7, 8, 9):
        s.save(id=key, at=TEN)
    assert s.tasks() == ["7 03-02 10:00 #1 pending", "9 03-02 10:00 #1 pending"]
    assert s.did() == [] and caplog.messages == []
    s.save(id=7, no=2)
    assert [e.row_key for e in s.entries(status="pending")] == ["9"]
    s.save(id=7, no=1)
    s.sync()
    assert {o.status for o in s.work("2026-03-02 10:00")} <= {"completed", "ended"}
    assert [s.row(key).count for key in (7, 8, 9)] == [1, 0, 1]


def test_a_value_that_the_database_makes(shop: Make) -> None:
    default = "Field(default=None, sa_column_kwargs={'server_default': '2026-03-02 10:00:00.000000'})"
    source = MODEL.replace(
        "at: NaiveDatetime | None = None", f"at: NaiveDatetime | None = {default}"
    )
    s = shop(more={"models/Bill": model_of("from sqlalchemy import text\n" + source)})
    cls = s.element("models.Bill")
    with s.session() as session:
        row = cls(id=1)
        del row.at  # left to the database
        session.add(row)
        session.commit()
    assert s.tasks() == ["1 03-02 10:00 #1 pending"]
    with s.session() as session:
        row = session.get(cls, 1)
        row.at = text("'2026-03-02 11:00:00.000000'")
        session.commit()
    assert s.tasks(status="pending") == ["1 03-02 11:00 #2 pending"]
    assert s.did() == []


def test_a_key_that_changes(shop: Make) -> None:
    # the old key's task ends at its due moment, the new key's is there
    s = shop()
    cls = s.element("models.Bill")
    s.save(id=1, at=TEN)
    with s.session() as session:
        session.get(cls, 1).id = 5
        session.commit()
    s.sync()
    s.work("2026-03-02 10:00")
    assert s.tasks() == ["1 03-02 10:00 #1 superseded", "5 03-02 10:00 #1 completed"]
    assert s.row(5).count == 1
