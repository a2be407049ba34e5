"""A model is any class that SQLAlchemy maps: each form of mapping × what becomes of its rows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mappings import FORMS, Form
from shop import Server, Shop, in_turn, model_of, rows_task
from sqlalchemy import delete, insert, inspect, update
from sqlalchemy.orm import Session, undefer

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
HOUR = timedelta(hours=1)


class Contracts:
    """An app with one form of the model, and rows 1, 2, …"""

    def __init__(self, on: Make, server: Server, name: str, **task: Any) -> None:
        self.form: Form = FORMS[name]
        schema = {"sqlite": "main", "postgresql": "public"}.get(server.kind)
        schema = schema or server.url().rpartition("/")[2].partition("?")[0]
        source = self.form.source.replace("SCHEMA", schema)
        self.shop = on(
            elements={
                "models/Contract": model_of(source),
                "tasks/Task": rows_task("ends", model="models.Contract", **task),
            }
        )
        self.cls: Any = self.shop.element("models.Contract")
        self.table = inspect(self.cls).local_table

    def session(self) -> Session:
        return Session(self.shop.app.engine())

    def save(self, number: int, ends: datetime = TEN) -> None:
        with self.session() as session:
            session.add(self.form.row(self.cls, number, ends))
            session.commit()

    def identity(self, number: int) -> Any:
        if self.form.identity:
            return tuple(make(number) for make in self.form.identity.values())
        return number

    def get(self, session: Session, number: int) -> Any:
        options = [undefer(getattr(self.cls, name)) for name in ("ends", "status")]
        return session.get(self.cls, self.identity(number), options=options)

    def count(self, number: int) -> int:
        with self.session() as session:
            return int(self.get(session, number).count)

    def tasks(self, key: int = 1) -> list[str]:
        """The tasks of a row, as `due outcome`."""
        found = self.shop.entries(row_key=self.form.key(key))
        return [f"{e.due:%H:%M} {e.outcome or e.status}" for e in found]


@pytest.fixture(params=FORMS)
def made(request: pytest.FixtureRequest, on: Make, server: Server) -> Contracts:
    return Contracts(on, server, request.param)


in_turn_on_servers = pytest.mark.parametrize(
    ("server", "made"), in_turn(FORMS), indirect=True
)


def test_a_row_from_its_save_to_its_completion(made: Contracts) -> None:
    assert made.shop.app.check() == []

    made.save(1)
    assert made.tasks() == ["10:00 pending"]

    with made.session() as session:
        made.get(session, 1).ends = TEN + HOUR
        session.commit()
    assert made.tasks() == ["10:00 superseded", "11:00 pending"]

    made.shop.sync("2026-03-02 10:55")
    assert [str(o) for o in made.shop.work("2026-03-02 11:00")]
    assert made.tasks() == ["10:00 superseded", "11:00 completed"]
    assert made.count(1) == 1  # the function's change committed with the task


@in_turn_on_servers
def test_a_deleted_row(made: Contracts) -> None:
    made.save(1)
    with made.session() as session:
        session.delete(made.get(session, 1))
        session.commit()
    assert made.tasks() == ["10:00 superseded"]


@in_turn_on_servers
def test_statements_that_go_past_the_unit_of_work(made: Contracts) -> None:
    made.save(1)
    made.save(2, TEN + HOUR)
    with made.session() as session:
        table = inspect(made.cls).attrs["ends"].columns[0].table
        column = inspect(made.cls).attrs["ends"].columns[0]
        moved = update(table).where(column == TEN).values({column: TEN + 2 * HOUR})
        session.execute(moved)
        session.commit()
    assert made.tasks(1) == ["10:00 superseded", "12:00 pending"]
    assert made.tasks(2) == ["11:00 pending"]

    with made.session() as session:
        session.execute(delete(made.table).where(column == TEN + HOUR))
        session.commit()
    assert made.tasks(2) == ["11:00 superseded"]
    assert made.tasks(1) == ["10:00 superseded", "12:00 pending"]


@in_turn_on_servers
def test_orm_statements(made: Contracts) -> None:
    made.save(1)
    with made.session() as session:
        values = {"ends": TEN + HOUR}
        session.execute(update(made.cls).where(made.cls.ends == TEN).values(values))
        session.commit()
    assert made.tasks() == ["10:00 superseded", "11:00 pending"]


def test_a_row_that_no_hook_has_seen(made: Contracts) -> None:
    with made.shop.app.engine().begin() as connection:  # no session, so no hook
        values = {**made.form.more, "status": "open", "ends": TEN, "count": 0}
        values |= {name: make(1) for name, make in made.form.identity.items()}
        for table in inspect(made.cls).tables:
            mapper = inspect(made.cls)
            kind = mapper.polymorphic_on
            named = {
                column: values.get(mapper.get_property_by_column(column).key)
                for column in table.columns
                if mapper.get_property_by_column(column).key in values
            }
            if kind is not None and kind.table is table:
                named[kind] = mapper.polymorphic_identity
            if table is not mapper.base_mapper.local_table:
                named |= {key: 1 for key in table.primary_key}
            connection.execute(
                insert(table).values({c.name: v for c, v in named.items()})
            )
    assert made.shop.did("2026-03-02 09:00") == [
        f"create {made.form.key(1)} 03-02 10:00"
    ]
    made.shop.work("2026-03-02 10:00")
    assert made.tasks() == ["10:00 completed"]
    assert made.count(1) == 1


@in_turn_on_servers
def test_an_end_that_is_forced(made: Contracts) -> None:
    made.save(1)
    [entry] = made.shop.entries()
    facade = made.shop.element("services.TaskSvc")
    assert facade.forcedEnd(entry.task_id)["changed"]
    assert made.tasks() == ["10:00 forced"]
    made.shop.work("2026-03-02 10:00")
    assert made.count(1) == 0


@in_turn_on_servers
def test_a_dict_of_fields(made: Contracts) -> None:
    """`saveDateFieldTask` with a dict makes a row without its class's own `__init__`."""
    made.save(1)
    attributes = [
        made.cls.__mapper__.get_property_by_column(c).key
        for c in made.cls.__mapper__.primary_key
    ]
    of = made.identity(1)
    key = dict(zip(attributes, of if isinstance(of, tuple) else (of,), strict=True))
    facade = made.shop.element("services.TaskSvc")
    said = facade.saveDateFieldTask(
        {"postData": {"model": "models.Contract", **key, "ends": "2026-03-02 10:00:00"}}
    )
    assert said["unchanged"] == 1
    assert (
        facade.deleteDateFieldTask({"prevData": {"model": "models.Contract", **key}})[
            "ended"
        ]
        == 1
    )


FAMILY_MODELS = """
from datetime import datetime
from sqlalchemy import ForeignKey, String, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column

class Base(DeclarativeBase):
    pass

class Agreement(Base):
    __tablename__ = "agreement"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    ends: Mapped[datetime] = mapped_column()
    count: Mapped[int] = mapped_column(default=0)
    twice: Mapped[datetime] = column_property(func.coalesce(ends, ends))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "plain"}

class Lease(Agreement):
    __mapper_args__ = {"polymorphic_identity": "lease"}

class Loan(Agreement):
    __tablename__ = "loan"
    id: Mapped[int] = mapped_column(ForeignKey("agreement.id"), primary_key=True)
    rate: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"polymorphic_identity": "loan"}

class Open(Base):
    __table__ = select(Agreement.id, Agreement.ends).where(Agreement.count == 0).subquery()
"""


@pytest.fixture
def family(
    on: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Shop]]:
    """An app with elements of a family of classes in the team's own package, each with a task of its name."""
    (tmp_path / "shop_family.py").write_text(FAMILY_MODELS)
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(*names: str, field: str = "ends") -> Shop:
        elements: dict[str, Any] = {}
        for name in names:
            source = f"from shop_family import {name}\n"
            elements[f"models/{name}"] = model_of(source)
            elements[f"tasks/{name}"] = rows_task(field, model=f"models.{name}")
        return on(elements=elements)

    yield make
    sys.modules.pop("shop_family", None)


def templates(shop: Shop) -> list[str]:
    return sorted(
        f"{e.template.removeprefix('tasks.')} {e.row_key} {e.outcome or e.status}"
        for e in shop.entries()
    )


@pytest.mark.parametrize("way", ["session", "statement", "sync"])
def test_a_task_of_the_base_sees_all_rows_and_one_of_a_subclass_its_own(
    family: Callable[..., Shop], way: str
) -> None:
    shop = family("Agreement", "Lease", "Loan")
    import shop_family as team  # type: ignore[import-not-found]

    classes = [team.Agreement, team.Lease, team.Loan]
    with Session(shop.app.engine()) as session:
        if way == "session":
            session.add_all(cls(id=n, ends=TEN) for n, cls in enumerate(classes, 1))
        elif way == "statement":
            for number, cls in enumerate(classes, 1):
                session.execute(insert(cls), [{"id": number, "ends": TEN}])
        session.commit()
    if way == "sync":
        with shop.app.engine().begin() as connection:
            of = inspect(team.Agreement).local_table
            kinds = ("plain", "lease", "loan")
            rows = [
                {"id": n, "kind": kind, "ends": TEN, "count": 0}
                for n, kind in enumerate(kinds, 1)
            ]
            connection.execute(insert(of), rows)
            loan = inspect(team.Loan).local_table
            connection.execute(insert(loan), [{"id": 3, "rate": 1}])
        shop.sync("2026-03-02 09:00")

    assert templates(shop) == [
        "Agreement 1 pending",
        "Agreement 2 pending",
        "Agreement 3 pending",
        "Lease 2 pending",
        "Loan 3 pending",
    ]

    with Session(shop.app.engine()) as session:
        query = update(team.Agreement).where(team.Agreement.count == 0)
        session.execute(query.values(ends=TEN + HOUR))
        session.commit()
    assert [line for line in templates(shop) if line.startswith("L")] == [
        "Lease 2 pending",
        "Lease 2 superseded",
        "Loan 3 pending",
        "Loan 3 superseded",
    ]


def test_a_class_over_a_subquery_is_found_by_the_sync_only(
    family: Callable[..., Shop],
) -> None:
    shop = family("Agreement", "Open")
    import shop_family as team

    with Session(shop.app.engine()) as session:
        session.add(team.Agreement(id=1, ends=TEN))
        session.commit()
    assert templates(shop) == ["Agreement 1 pending"]
    shop.sync("2026-03-02 09:00")
    assert templates(shop) == ["Agreement 1 pending", "Open 1 pending"]
    [said] = [w for w in shop.app.warnings(shop.now) if w.startswith("tasks.Open")]
    assert said == (
        "tasks.Open: models.Open is a class over a view or a subquery: no save of its rows is seen, "
        "and the sync finds them, once a minute"
    )


def test_a_column_property_is_no_date(family: Callable[..., Shop]) -> None:
    shop = family("Agreement", field="twice")
    [problem] = shop.app.check()
    assert "startField: found twice" in str(problem)
    assert str(problem).endswith(
        "allowed: a date or datetime column of models.Agreement: ends"
    )


def test_a_model_whose_table_is_missing(
    family: Callable[..., Shop], server: Server
) -> None:
    shop = family("Agreement")
    shop.raw("DROP TABLE agreement")
    [problem] = shop.sync().problems
    assert problem.startswith("tasks.Agreement: ") and "agreement" in problem
    assert problem.endswith(
        "; run your migrations, or `jittask db upgrade --models`, which makes missing tables"
    )
    assert "\n" not in problem
