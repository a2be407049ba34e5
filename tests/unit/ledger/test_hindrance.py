"""Whatever the hook meets, the user's commit does what it would do without the hook, or raises; the next sync plans."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from shop import LEDGER, Server, Shop, model_of, rows_task
from sqlalchemy import Engine, create_engine, delete, insert, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlmodel import Session

from jittask_prefect.errors import LedgerError
from jittask_prefect.task_svc.service import TaskSvc
from jittask_prefect.testing import FakePrefect, deploy

Make = Callable[..., Shop]
TEN, ELEVEN = datetime(2026, 3, 2, 10), datetime(2026, 3, 2, 11)
RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")

# Seven ways to write a row, by the unit of work and past it; each in a transaction of its own, or all in one.
WAYS: dict[str, Callable[[Any, Any], object]] = {
    "insert": lambda s, c: s.add(c(id=10, at=ELEVEN)),
    "update": lambda s, c: setattr(s.get(c, 1), "at", ELEVEN),
    "delete": lambda s, c: s.delete(s.get(c, 2)),
    "insert statement": lambda s, c: s.execute(
        insert(c), [{"id": 11, "status": "open", "at": ELEVEN, "count": 0}]
    ),
    "update statement": lambda s, c: s.execute(
        update(c).where(c.status == "three").values(at=ELEVEN)
    ),
    "update by key": lambda s, c: s.execute(
        update(c).where(c.id == 4).values(at=ELEVEN)
    ),
    "delete statement": lambda s, c: s.execute(delete(c).where(c.status == "five")),
}
BEFORE = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
AFTER = {1: ELEVEN, 3: ELEVEN, 4: ELEVEN, 6: TEN, 10: ELEVEN, 11: ELEVEN}


def write(engine: Engine, cls: Any, together: bool = False) -> None:
    """Write in all ways."""
    with Session(engine) as session:
        for way in WAYS.values():
            way(session, cls)
            session.flush()
            if not together:
                session.commit()
        session.commit()


def stored(s: Shop, schema: str = "public") -> dict[int, datetime]:
    with s.app.engine().connect() as connection:
        found = connection.execute(text(f"SELECT id, at FROM {schema}.bill")).all()
    return {key: at for key, at in found}


def each_runs_once(s: Shop) -> None:
    """The next sync brings everything to what the rows are."""
    s.sync("2026-03-02 08:01")
    s.work("2026-03-02 11:00")
    with s.app.engine().connect() as connection:
        assert dict(
            connection.execute(text("SELECT id, count FROM bill")).all()
        ) == dict.fromkeys(AFTER, 1)


@pytest.fixture(scope="module")
def place(
    servers: Callable[[str], Server], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """One app on PostgreSQL for all tests here: tables take a second to make."""
    server = servers("postgresql")
    with pytest.MonkeyPatch.context() as patch:
        elements = {"models/Bill": model_of(), "tasks/Task": rows_task()}
        s = Shop(
            tmp_path_factory.mktemp("hindered") / "app",
            patch,
            elements,
            **server.app_json(),
        )
        yield s
        s.app.close()
    server.empty()


@pytest.fixture
def bills(place: Shop, caplog: pytest.LogCaptureFixture) -> Shop:
    """The app with six rows, each with a task at ten."""
    place.at("2026-03-02 08:00")
    place.raw("TRUNCATE bill, jittask_ledger")
    place.raw("DELETE FROM jittask_state WHERE name <> 'schema'")
    cls = place.element("models.Bill")
    with place.session() as session:
        session.add_all(
            cls(id=key, status=status, at=TEN) for key, status in BEFORE.items()
        )
        session.commit()
    place.api = FakePrefect()
    deploy(place.app, place.api, place.now)
    place.sync()
    caplog.clear()
    return place


@contextmanager
def engine_of(s: Shop, options: str = "", **keys: Any) -> Iterator[Engine]:
    """The team's own engine, with settings of its own."""
    url = make_url(s.app.database_url())
    engine = create_engine(
        url.update_query_dict({"options": options}) if options else url, **keys
    )
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def role(s: Shop, *grants: str) -> Iterator[str]:
    """A role that may do everything with the app's own table, and these things."""
    name = f"jittask_role_{os.getpid()}"
    s.raw(f"CREATE ROLE {name}")
    for grant in ("GRANT USAGE ON SCHEMA public", "GRANT ALL ON bill", *grants):
        s.raw(f"{grant} TO {name}")
    try:
        yield name
    finally:
        s.raw(f"DROP OWNED BY {name}")
        s.raw(f"DROP ROLE {name}")


def granted(table: str, without: str) -> str:
    return (
        f"GRANT {', '.join(right for right in RIGHTS if right != without)} ON {table}"
    )


@pytest.mark.parametrize(
    ("table", "right", "together"),
    [
        ("jittask_ledger", "SELECT", True),
        ("jittask_ledger", "INSERT", False),
        ("jittask_ledger", "UPDATE", True),
        ("jittask_ledger", "all", False),
        ("jittask_state", "SELECT", False),
        ("jittask_state", "all", True),
    ],
)
def test_a_role_without_a_right_loses_no_row(
    bills: Shop,
    caplog: pytest.LogCaptureFixture,
    table: str,
    right: str,
    together: bool,
) -> None:
    [other] = LEDGER - {table}
    some = [] if right == "all" else [granted(table, right)]
    with (
        role(bills, f"GRANT ALL ON {other}", *some) as name,
        engine_of(bills, f"-crole={name}") as engine,
    ):
        write(engine, bills.element("models.Bill"), together)
    assert stored(bills) == AFTER
    said = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    named = [
        m
        for m in said
        if table in m and (right if right != "all" else "SELECT") in m and name in m
    ]
    assert named, said
    each_runs_once(bills)


def test_a_hook_that_fails_at_any_age_of_a_connection(bills: Shop) -> None:
    """psycopg prepares a statement at its sixth use, also in a pipeline of which the server sees the beginning only."""
    cls = bills.element("models.Bill")
    expected = dict.fromkeys(BEFORE, TEN)
    for good in range(8):
        with (
            engine_of(bills, "-clock_timeout=20") as engine,
            engine_of(bills) as other,
            Session(engine) as session,
        ):
            first = 100 * (good + 1)
            for key in range(first, first + good + 4):
                with other.connect() as locks:
                    if key >= first + good:
                        locks.execute(text("LOCK TABLE jittask_ledger IN SHARE MODE"))
                    session.add(cls(id=key, at=ELEVEN))
                    session.commit()
                expected[key] = ELEVEN
            session.add(cls(id=first + 50, at=ELEVEN))
            session.commit()
            expected[first + 50] = ELEVEN
    assert stored(bills) == expected


def test_the_right_to_delete_is_not_needed(
    bills: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    grants = (
        "GRANT SELECT, INSERT, UPDATE ON jittask_ledger",
        "GRANT SELECT ON jittask_state",
    )
    with role(bills, *grants) as name, engine_of(bills, f"-crole={name}") as engine:
        write(engine, bills.element("models.Bill"))
    assert stored(bills) == AFTER and caplog.messages == []
    assert sorted(bills.tasks(status="pending")) == [
        "1 03-02 11:00 #2 pending", "10 03-02 11:00 #1 pending", "11 03-02 11:00 #1 pending",
        "3 03-02 11:00 #2 pending", "4 03-02 11:00 #2 pending", "6 03-02 10:00 #1 pending",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("gone", "known", "together"),
    [
        (("jittask_ledger",), True, True),
        (("jittask_ledger",), False, False),
        (("jittask_state",), True, False),
        (("jittask_state",), False, True),
        (("jittask_ledger", "jittask_state"), True, False),
        (("jittask_ledger", "jittask_state"), False, True),
    ],
)
def test_a_table_that_is_missing(
    bills: Shop,
    caplog: pytest.LogCaptureFixture,
    gone: tuple[str, ...],
    known: bool,
    together: bool,
) -> None:
    cls = bills.element("models.Bill")
    with engine_of(bills) as engine:
        if known:  # this engine has seen the ledger
            with Session(engine) as session:
                session.get_one(cls, 6).at = TEN.replace(minute=1)
                session.flush()
                session.rollback()
        for table in gone:
            bills.raw(f"ALTER TABLE {table} RENAME TO {table}_elsewhere")
        write(engine, cls, together)
    for table in gone:
        bills.raw(f"ALTER TABLE {table}_elsewhere RENAME TO {table}")
    assert stored(bills) == AFTER
    assert any(gone[-1] in m or "jittask db upgrade" in m for m in caplog.messages)
    each_runs_once(bills)


@pytest.mark.parametrize(
    ("table", "limit"),
    [
        ("jittask_ledger", "lock_timeout"),
        ("jittask_state", "statement_timeout"),
        ("shared", "lock_timeout"),
    ],
)
def test_a_lock_that_is_held_too_long(
    bills: Shop, caplog: pytest.LogCaptureFixture, table: str, limit: str
) -> None:
    locks = LEDGER if table == "shared" else {table}
    mode = (
        "SHARE" if table == "shared" else "ACCESS EXCLUSIVE"
    )  # SHARE: reading goes on, writing waits
    with (
        engine_of(bills, f"-c{limit}=40ms") as engine,
        bills.app.engine().connect() as other,
    ):
        for name in locks:
            other.execute(text(f"LOCK TABLE {name} IN {mode} MODE"))
        write(engine, bills.element("models.Bill"))
    assert stored(bills) == AFTER and "could not be planned" in caplog.text
    each_runs_once(bills)


def test_many_rows_wait_for_a_lock_once(
    bills: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """A time-out would meet the other rows as well: they are not tried one by one."""
    cls = bills.element("models.Bill")
    with (
        engine_of(bills, "-clock_timeout=40ms") as engine,
        bills.app.engine().connect() as other,
    ):
        other.execute(text("LOCK TABLE jittask_ledger IN ACCESS EXCLUSIVE MODE"))
        with Session(engine) as session:
            session.add_all(cls(id=key, at=TEN) for key in range(100, 200))
            begun = datetime.now()
            session.commit()
            taken = (datetime.now() - begun).total_seconds()
    assert taken < 2  # a hundred waits would take four seconds
    assert len(stored(bills)) == 106


def test_the_warning_comes_once_a_minute(
    bills: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither at each save nor only once: whoever looks at the log later sees it too."""
    cls, counts = bills.element("models.Bill"), []
    with (
        role(bills, "GRANT ALL ON jittask_state") as name,
        engine_of(bills, f"-crole={name}") as engine,
    ):
        for second in (0, 30, 59, 61, 90, 122):
            bills.at(f"2026-03-02 08:{second // 60:02}:{second % 60:02}")
            with Session(engine) as session:
                session.add(cls(id=100 + second, at=TEN))
                session.commit()
            counts.append(len(caplog.records))
    assert counts == [1, 1, 1, 2, 2, 3]
    assert f"GRANT SELECT, INSERT, UPDATE ON jittask_ledger TO {name}" in caplog.text


def test_a_transaction_that_its_owner_has_aborted(bills: Shop) -> None:
    """COMMIT of an aborted transaction is a rollback, without the hook as with it."""
    cls = bills.element("models.Bill")
    with engine_of(bills) as engine, Session(engine) as session:
        session.execute(update(cls).where(cls.id == 1).values(at=ELEVEN))
        with pytest.raises(DBAPIError, match="division by zero"):
            session.execute(text("SELECT 1 / 0"))
        session.commit()
    assert stored(bills) == dict.fromkeys(BEFORE, TEN)
    assert len(bills.tasks(status="pending")) == 6


@pytest.mark.parametrize("rights", [True, False])
def test_autocommit(
    bills: Shop, caplog: pytest.LogCaptureFixture, rights: bool
) -> None:
    """Without a transaction there is no savepoint, and none is needed."""
    grants = [f"GRANT ALL ON {table}" for table in LEDGER] if rights else []
    with (
        role(bills, *grants) as name,
        engine_of(bills, f"-crole={name}", isolation_level="AUTOCOMMIT") as engine,
    ):
        write(engine, bills.element("models.Bill"))
        with Session(engine) as session:
            session.connection()
    assert stored(bills) == AFTER
    assert (caplog.messages == []) is rights
    if rights:
        assert sorted(e.row_key for e in bills.entries(status="pending")) == [
            "1",
            "10",
            "11",
            "3",
            "4",
            "6",
        ]
    each_runs_once(bills)


@pytest.fixture
def tenant(bills: Shop) -> Iterator[Shop]:
    """The app, and a schema `tenant` with a table of the same name."""
    bills.raw("CREATE SCHEMA tenant")
    bills.raw("CREATE TABLE tenant.bill (LIKE bill INCLUDING ALL)")
    yield bills
    bills.raw("DROP SCHEMA tenant CASCADE")


def ledger_of_the_tenant(s: Shop) -> None:
    for table in sorted(LEDGER):
        s.raw(f"CREATE TABLE tenant.{table} (LIKE {table} INCLUDING ALL)")
    s.raw("INSERT INTO tenant.jittask_state SELECT * FROM jittask_state")


@pytest.mark.parametrize("ledger", [True, False])
@pytest.mark.parametrize("how", ["engine", "connection", "search_path"])
def test_a_schema_of_its_own(
    tenant: Shop, caplog: pytest.LogCaptureFixture, how: str, ledger: bool
) -> None:
    """The ledger stands beside the rows, or is said to be missing; that of another schema is left alone."""
    cls = tenant.element("models.Bill")
    if ledger:
        ledger_of_the_tenant(tenant)
    before = tenant.tasks()
    options = "-csearch_path=tenant" if how == "search_path" else ""
    names: dict[str, Any] = {"schema_translate_map": {None: "tenant"}}
    keys = {"execution_options": names} if how == "engine" else {}
    with engine_of(tenant, options, **keys) as engine:
        for key in (1, 2):
            with Session(engine) as session:
                if how == "connection":
                    session.connection(execution_options=names)
                session.add(cls(id=key, at=ELEVEN))
                session.flush()
                session.execute(
                    insert(cls),
                    [{"id": key + 2, "status": "open", "at": TEN, "count": 0}],
                )
                session.execute(update(cls).where(cls.at == TEN).values(at=ELEVEN))
                session.commit()
    assert stored(tenant, "tenant") == dict.fromkeys((1, 2, 3, 4), ELEVEN)
    assert tenant.tasks() == before
    if ledger:
        with tenant.app.engine().connect() as connection:
            found = connection.execute(
                text(
                    "SELECT row_key FROM tenant.jittask_ledger WHERE status = 'pending'"
                )
            )
            assert sorted(found.scalars()) == ["1", "2", "3", "4"]
    said = [m for m in caplog.messages if "jittask db upgrade" in m]
    assert len(said) == (0 if ledger else 1)
    assert how == "search_path" or all("tenant" in m for m in said)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("rights", [True, False])
def test_an_async_session(
    bills: Shop, caplog: pytest.LogCaptureFixture, driver: str, rights: bool
) -> None:
    """Async engines have no pipeline; the savepoint is the same."""
    cls = bills.element("models.Bill")

    async def work(role_name: str) -> None:
        url = make_url(bills.app.database_url()).set(drivername=f"postgresql+{driver}")
        engine = create_async_engine(url)
        for together in (False, True):
            async with AsyncSession(engine) as session:
                await session.execute(text(f"SET ROLE {role_name}"))
                for way in [] if together else WAYS.values():
                    await session.run_sync(way, cls)
                    await session.flush()
                if together:
                    session.add(cls(id=20, at=TEN))
                await session.commit()
        await engine.dispose()

    grants = (
        [f"GRANT ALL ON {table}" for table in LEDGER]
        if rights
        else ["GRANT SELECT ON jittask_state"]
    )
    with role(bills, *grants) as name:
        asyncio.run(work(name))
    assert stored(bills) == AFTER | {20: TEN}
    assert (caplog.messages == []) is rights
    if rights:
        assert sorted(e.row_key for e in bills.entries(status="pending")) == [
            "1",
            "10",
            "11",
            "20",
            "3",
            "4",
            "6",
        ]


def test_a_connection_that_is_lost_in_the_hook(bills: Shop) -> None:
    """Where the transaction cannot be kept its owner is told, and nothing of it is saved."""
    cls = bills.element("models.Bill")
    with engine_of(bills) as engine, bills.app.engine().connect() as other:
        other.execute(text("LOCK TABLE jittask_ledger IN ACCESS EXCLUSIVE MODE"))
        with Session(engine) as session:
            session.execute(text("SELECT 1"))
            killer = threading.Thread(target=end_who_waits, args=(bills.app.engine(),))
            killer.start()
            session.add(cls(id=10, at=TEN))
            with pytest.raises(SQLAlchemyError):
                session.commit()
            killer.join(20)
        other.rollback()
    assert 10 not in stored(bills)


def end_who_waits(engine: Engine) -> None:
    query = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted AND database = "
    query += "(SELECT oid FROM pg_database WHERE datname = current_database())"
    for _ in range(200):
        with engine.connect() as connection:
            if connection.execute(text(query)).all():
                return
        time.sleep(0.02)


def test_the_facade_says_what_it_lacks_and_leaves_the_session_usable(
    bills: Shop,
) -> None:
    """saveDateFieldTask and deleteDateFieldTask in the caller's own transaction."""
    svc, cls = TaskSvc(bills.app, bills.api), bills.element("models.Bill")
    for grants in (
        [],
        ["GRANT SELECT ON jittask_state"],
        ["GRANT SELECT ON jittask_state, jittask_ledger"],
    ):
        with (
            role(bills, *grants) as name,
            engine_of(bills, f"-crole={name}") as engine,
            Session(engine) as session,
        ):
            row = session.get_one(cls, 1)
            row.at = ELEVEN
            for call in (
                lambda row=row: svc.saveDateFieldTask({"postData": row}),
                lambda row=row: svc.deleteDateFieldTask({"prevData": row}),
            ):
                with pytest.raises(LedgerError, match=r"lacks .* ON jittask_"):
                    call()
            session.commit()
            assert stored(bills)[1] == ELEVEN
            row.at = TEN
            session.commit()
    assert svc.saveDateFieldTask(
        {"postData": {"model": "models.Bill", "id": 1, "at": "2026-03-02 10:00"}}
    )["tasks"]


def test_an_ordinary_save_makes_two_round_trips_more(
    bills: Shop, tmp_path: Path
) -> None:
    """Savepoint and look in the first, what is written and the release in the second."""
    cls, trips = bills.element("models.Bill"), []
    with engine_of(bills) as engine:
        for key in (30, 31, 32):  # the first one looks for the ledger
            with Session(engine) as session, (tmp_path / "trace").open("w+") as out:
                driver = session.connection().connection.driver_connection
                assert driver is not None
                driver.pgconn.trace(out.fileno())
                session.add(cls(id=key, at=TEN))
                session.commit()
                driver.pgconn.untrace()
                sent = [
                    line.split("\t")
                    for line in (tmp_path / "trace").read_text().splitlines()
                ]
            trips.append(
                sum("F" in part[1:2] and part[3] in ("Sync", "Query") for part in sent)
            )
    assert trips[1:] == [5, 5]  # BEGIN, INSERT, the hook's two, COMMIT
