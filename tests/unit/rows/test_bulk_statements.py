"""Statements that a session executes without its unit of work: the ledger follows them as it follows flushes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from shop import MODEL, Shop, model_of
from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlmodel import Session

from jittask_prefect.rows import bulk_statements, follow, hooks

Make = Callable[..., Shop]
TEN, ELEVEN, NOON = (datetime(2026, 3, 2, hour) for hour in (10, 11, 12))


@pytest.fixture(params=["sqlite", "postgresql"])
def bills(
    request: pytest.FixtureRequest, shop: Make, url: Callable[[str], str]
) -> Make:
    database = url(request.param)
    return lambda *args, **keys: shop(
        *args, **{**keys, "app_json": {"database": database}}
    )


def row(
    key: int | None = None, at: datetime | None = TEN, **more: Any
) -> dict[str, Any]:
    return {
        **({} if key is None else {"id": key}),
        "status": "open",
        "at": at,
        "count": 0,
        **more,
    }


def do(s: Shop, work: Callable[[Session, Any], object]) -> None:
    with s.session() as session:
        work(session, s.element("models.Bill"))
        session.commit()


INSERTS: dict[str, Callable[[Any, Any], object]] = {
    "list": lambda s, c: s.execute(insert(c), [row(), row()]),
    "list with keys": lambda s, c: s.execute(insert(c), [row(1), row(2)]),
    "one by one": lambda s, c: [s.execute(insert(c).values(**row())) for _ in range(2)],
    "values": lambda s, c: s.execute(insert(c).values([row(), row()])),
    "returning": lambda s, c: s.execute(insert(c).returning(c), [row(), row()]),
    "returning keys": lambda s, c: s.execute(
        insert(c).returning(c.at, c.id), [row(), row()]
    ),
    "table": lambda s, c: s.execute(insert(c.__table__), [row(), row()]),
    "connection": lambda s, c: s.connection().execute(
        insert(c.__table__), [row(), row()]
    ),
    "bulk_insert_mappings": lambda s, c: s.bulk_insert_mappings(c, [row(), row()]),
    "bulk_save_objects": lambda s, c: s.bulk_save_objects([c(**row()), c(**row())]),
    "return_defaults": lambda s, c: s.bulk_save_objects(
        [c(**row()), c(**row())], return_defaults=True
    ),
}


@pytest.mark.parametrize("how", INSERTS)
def test_inserts(bills: Make, how: str) -> None:
    s = bills()
    do(s, INSERTS[how])
    assert s.tasks() == ["1 03-02 10:00 #1 pending", "2 03-02 10:00 #1 pending"]
    assert s.did() == []


def test_an_insert_from_a_query(bills: Make) -> None:
    s = bills()
    s.save(at=TEN)
    names = ["status", "at", "count"]
    do(
        s,
        lambda d, c: d.execute(
            insert(c).from_select(names, select(c.status, c.at, c.count))
        ),
    )
    assert s.tasks() == ["1 03-02 10:00 #1 pending", "2 03-02 10:00 #1 pending"]


UPDATES: dict[str, Callable[[Any, Any], object]] = {
    "where": lambda s, c: s.execute(
        update(c).where(c.status == "open").values(at=ELEVEN)
    ),
    "by key": lambda s, c: [
        s.execute(update(c).where(c.id == k).values(at=ELEVEN)) for k in (1, 2)
    ],
    "list": lambda s, c: s.execute(
        update(c), [{"id": 1, "at": ELEVEN}, {"id": 2, "at": ELEVEN}]
    ),
    "expression": lambda s, c: s.execute(
        update(c).where(c.id < 3).values({"at": select(NOON_OF(c)).scalar_subquery()})
    ),
    "query": lambda s, c: s.query(c).filter(c.id < 3).update({c.at: ELEVEN}),
    "bulk_update_mappings": lambda s, c: s.bulk_update_mappings(
        c, [{"id": k, "at": ELEVEN} for k in (1, 2)]
    ),
    "bulk_save_objects": lambda s, c: s.bulk_save_objects(
        [changed(x) for x in s.query(c).filter(c.id < 3)]
    ),
    "table": lambda s, c: s.execute(
        update(c.__table__).where(c.id < 3).values(at=ELEVEN)
    ),
}


def NOON_OF(c: Any) -> Any:
    from sqlalchemy import literal

    return literal(ELEVEN, type_=c.__table__.c.at.type)


def changed(bill: Any) -> Any:
    bill.at = ELEVEN
    return bill


@pytest.mark.parametrize("how", UPDATES)
def test_updates(bills: Make, how: str) -> None:
    s = bills()
    do(s, lambda d, c: d.execute(insert(c), [row(1), row(2), row(3, status="paid")]))
    do(s, UPDATES[how])
    assert s.tasks(status="pending") == [
        "3 03-02 10:00 #1 pending",
        "1 03-02 11:00 #2 pending",
        "2 03-02 11:00 #2 pending",
    ]
    assert s.did() == []


def test_a_filter_that_is_no_longer_met(bills: Make) -> None:
    s = bills(filter="Q(status='open')")
    do(s, lambda d, c: d.execute(insert(c), [row(1), row(2), row(3, status="paid")]))
    do(s, lambda d, c: d.execute(update(c).where(c.id > 1).values(status="paid")))
    assert s.tasks() == ["1 03-02 10:00 #1 pending", "2 03-02 10:00 #1 superseded"]


@pytest.mark.parametrize("query", [False, True])
def test_deletes(bills: Make, query: bool) -> None:
    s = bills()
    do(s, lambda d, c: d.execute(insert(c), [row(1), row(2), row(3)]))
    do(
        s,
        lambda d, c: (
            d.query(c).filter(c.id < 3).delete()
            if query
            else d.execute(delete(c).where(c.id.in_([1, 2])))
        ),
    )
    assert s.tasks(status="pending") == ["3 03-02 10:00 #1 pending"]
    do(s, lambda d, c: d.execute(delete(c).where(c.id == 3)))
    assert s.tasks(status="pending") == []


@pytest.mark.parametrize("many", [False, True])
def test_upserts(bills: Make, many: bool) -> None:
    s = bills(
        more={
            "models/Bill": model_of(
                MODEL.replace("count: int = 0", "count: int = Field(0, unique=True)")
            )
        }
    )
    do(s, lambda d, c: d.execute(insert(c), [row(7, count=1), row(8, count=2)]))
    own = postgresql if "postgresql" in s.app.database_url() else sqlite

    def upsert(session: Any, c: Any) -> None:
        new = own.insert(c)
        new = new.on_conflict_do_update(
            index_elements=["count"], set_={"at": new.excluded.at}
        )
        rows = [row(20, ELEVEN, count=1), row(21, ELEVEN, count=5)]
        for part in [rows] if many else [[each] for each in rows]:
            session.execute(new.values(part) if many else new.values(**part[0]))

    do(s, upsert)
    assert s.tasks(status="pending") == [
        "8 03-02 10:00 #1 pending",
        "21 03-02 11:00 #1 pending",
        "7 03-02 11:00 #2 pending",
    ]


def test_what_decides_nothing_costs_nothing(
    bills: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = bills()
    do(s, lambda d, c: d.execute(insert(c), [row(1), row(2)]))
    monkeypatch.setattr(
        hooks, "follow", lambda *_, **__: pytest.fail("looked at the ledger")
    )
    monkeypatch.setattr(
        bulk_statements, "_keys", lambda *_: pytest.fail("looked at the rows")
    )
    monkeypatch.setattr(
        bulk_statements,
        "follow_touched",
        lambda *_: pytest.fail("looked at the ledger"),
    )
    do(s, lambda d, c: d.execute(update(c).values(count=5)))
    do(
        s,
        lambda d, c: d.execute(
            update(c), [{"id": 1, "count": 6}, {"id": 2, "count": 7}]
        ),
    )
    assert s.row(2).count == 7


def test_a_date_that_is_written_again_has_not_moved(bills: Make) -> None:
    # planned as moved, the row of two days ago would be recorded as missed
    s = bills()
    s.raw(
        "INSERT INTO bill (id, status, at, count) VALUES (1, 'open', :at, 0)",
        at=TEN - timedelta(days=2),
    )
    do(
        s,
        lambda d, c: d.bulk_update_mappings(
            c, [{"id": 1, "at": TEN - timedelta(days=2), "count": 3}]
        ),
    )
    assert s.tasks() == []


def test_rolled_back_and_savepoints(bills: Make) -> None:
    s = bills()
    cls = s.element("models.Bill")
    with s.session() as session:
        session.execute(insert(cls), [row(1)])
        session.rollback()
        session.execute(insert(cls), [row(2)])
        with session.begin_nested() as point:
            session.execute(insert(cls), [row(3)])
            session.execute(update(cls).where(cls.id == 2).values(at=NOON))
            point.rollback()
        with session.begin_nested():
            session.execute(insert(cls), [row(4)])
        session.commit()
    assert s.tasks() == ["2 03-02 10:00 #1 pending", "4 03-02 10:00 #1 pending"]
    with s.session() as session, session.begin():
        session.add(cls(**row(5)))
        session.execute(update(cls).where(cls.id == 5).values(at=ELEVEN))
        session.execute(delete(cls).where(cls.id == 2))
    assert s.tasks(status="pending") == [
        "4 03-02 10:00 #1 pending",
        "5 03-02 11:00 #2 pending",
    ]


def test_an_error_about_tasks_is_no_error_of_the_statement(
    bills: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    s = bills()
    s.save(id=1, at=TEN)
    s.raw("ALTER TABLE jittask_ledger RENAME TO elsewhere")
    do(s, lambda d, c: d.execute(insert(c), [row(2), row(3)]))
    do(s, lambda d, c: d.execute(update(c).where(c.id == 1).values(at=NOON)))
    s.save(
        id=2, at=ELEVEN
    )  # a flush neither: on PostgreSQL the error would have taken the transaction with it
    do(s, lambda d, c: d.execute(delete(c).where(c.id == 3)))
    assert [s.row(key).at if s.row(key) else None for key in (1, 2, 3)] == [
        NOON,
        ELEVEN,
        None,
    ]
    assert "could not be planned" in caplog.text


def test_one_row_that_cannot_be_planned(
    bills: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = bills()
    real = follow._plan

    def broken(rows: Any, template: Any, key: str, *rest: Any) -> Any:
        if key == "2":
            raise ValueError("boom")
        return real(rows, template, key, *rest)

    monkeypatch.setattr(follow, "_plan", broken)
    do(s, lambda d, c: d.execute(insert(c), [row(1), row(2), row(3)]))
    assert s.tasks() == ["1 03-02 10:00 #1 pending", "3 03-02 10:00 #1 pending"]


def test_the_nudge_comes_after_the_commit(bills: Make) -> None:
    s = bills()
    nudged: list[str] = []
    hooks._nudges.append(lambda app, database: nudged.append(database))
    with s.session() as session:
        session.execute(insert(s.element("models.Bill")), [row(1)])
        assert nudged == []
        session.commit()
    assert nudged == [""]


def test_more_rows_than_one_query_names(bills: Make) -> None:
    s = bills()
    do(s, lambda d, c: d.execute(insert(c), [row() for _ in range(1201)]))
    do(s, lambda d, c: d.execute(update(c).where(c.id > 1).values(at=NOON)))
    assert (
        len(
            s.entries(
                status="pending", due=datetime.fromisoformat("2026-03-02T12:00+00:00")
            )
        )
        == 1200
    )


def test_an_async_session(shop: Make) -> None:
    s = shop()
    cls = s.element("models.Bill")

    async def work() -> None:
        engine = create_async_engine(
            s.app.database_url().replace("sqlite:", "sqlite+aiosqlite:")
        )
        async with AsyncSession(engine) as session:
            session.add(cls(**row(1)))
            await session.execute(insert(cls), [row(2), row(3)])
            await session.execute(update(cls).where(cls.id == 3).values(at=NOON))
            await session.commit()
        await engine.dispose()

    asyncio.run(work())
    assert s.tasks(status="pending") == [
        "1 03-02 10:00 #1 pending",
        "2 03-02 10:00 #1 pending",
        "3 03-02 12:00 #1 pending",  # what is planned is what committed
    ]


def test_a_connection_without_a_session_is_left_to_the_sync(bills: Make) -> None:
    s = bills()
    with s.app.engine().begin() as connection:
        connection.execute(insert(s.element("models.Bill").__table__), [row(1)])
    assert s.tasks() == []
    assert s.did() == ["create 1 03-02 10:00"]
