"""What the hook must not do to the row's own transaction, and what long transactions see: on all three servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from shop import Server, Shop
from sqlalchemy import Connection, create_engine, event, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session
from waiting import WAITING

from jittask_prefect.ledger.prepared import insert_once
from jittask_prefect.ledger.tables import entries

Make = Callable[..., Shop]
TEN, ELEVEN = datetime(2026, 3, 2, 10), datetime(2026, 3, 2, 11)


@pytest.fixture
def locking(on: Make, server: Server) -> Make:
    if server.kind == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    return on


def saving(s: Shop, **fields: object) -> tuple[threading.Thread, list[str]]:
    """A save in a thread, and what its caller was told."""
    said: list[str] = []

    def save() -> None:
        try:
            s.save(**fields)
            said.append("saved")
        except Exception:  # noqa: BLE001  whatever it is: the caller knows that nothing was saved
            said.append("refused")

    thread = threading.Thread(target=save, daemon=True)
    thread.start()
    return thread, said


def settled(s: Shop, statement: str) -> None:
    """Let every connection of the app begin with a statement."""

    def begin(connection: Any, _record: Any) -> None:
        connection.cursor().execute(statement)
        connection.commit()

    s.app.engine().dispose()
    event.listen(s.app.engine(), "connect", begin)


def until_it_waits(connection: Connection) -> None:
    """Until another transaction waits for a lock."""
    query = WAITING[connection.dialect.name]
    for _ in range(60):
        with connection.engine.connect() as looking:
            if looking.exec_driver_sql(query).scalar():
                return
        time.sleep(
            0.15
        )  # InnoDB shows an old picture to whoever asks again within 0.1 s
    raise AssertionError("nobody waits")


def test_a_deadlock_in_the_hook(locking: Make, server: Server) -> None:
    # The save has the row and waits for the ledger, another transaction the other way round. The database gives one of
    # them up; where it is the save, its caller must be told: nothing of it was saved.
    s = locking()
    s.save(id=1, at=TEN)
    if server.kind == "postgresql":
        settled(
            s, "SET deadlock_timeout = '3s'"
        )  # looked at once only, so not before the other one waits too
    with s.app.engine().connect() as other:
        if server.kind == "mariadb":  # gives up whoever has changed less
            other.exec_driver_sql(
                "INSERT INTO bill (id, status, count) SELECT seq, 'heavy', 0 FROM seq_100_to_1100"
            )
        else:  # gives up whoever has waited for its deadlock_timeout first
            other.exec_driver_sql("SET deadlock_timeout = '60s'")
        other.execute(update(entries).values(message="held"))
        thread, said = saving(s, id=1, at=ELEVEN, status="changed")
        until_it_waits(other)
        other.exec_driver_sql("UPDATE bill SET count = 7 WHERE id = 1")
        other.commit()
    thread.join(20)
    assert (said, s.row(1).status) in ((["saved"], "changed"), (["refused"], "open"))
    assert s.row(1).count == 7


def test_a_ledger_that_is_locked_too_long(locking: Make, server: Server) -> None:
    s = locking()
    s.save(id=1, at=TEN)
    soon = {
        "postgresql": "SET lock_timeout = '200ms'",
        "mariadb": "SET innodb_lock_wait_timeout = 1",
    }[server.kind]
    settled(s, soon)
    with s.app.engine().connect() as other:
        other.execute(update(entries).values(message="held"))
        thread, said = saving(s, id=1, at=ELEVEN, status="changed")
        thread.join(20)
        other.rollback()
    assert (said, s.row(1).status) in ((["saved"], "changed"), (["refused"], "open"))


def test_what_a_long_transaction_sees(on: Make) -> None:
    # A session that has read before (REPEATABLE READ on MariaDB) saves after others did: each row is planned from
    # what is committed, and no task of the others is undone.
    s = on()
    s.save(id=1, at=TEN)
    cls = s.element("models.Bill")
    with s.session() as long:
        assert long.get(cls, 1).at == TEN
        long.commit()
        assert long.get(cls, 1).at == TEN
        s.save(id=2, at=TEN)
        s.save(id=1, count=1)
        long.add(cls(id=3, at=TEN))
        try:
            long.commit()
        except SQLAlchemyError:  # SQLite: the snapshot is an old one
            long.rollback()
            long.add(cls(id=3, at=TEN))
            long.commit()
    s.sync()
    assert s.tasks() == [
        "1 03-02 10:00 #1 pending",
        "2 03-02 10:00 #1 pending",
        "3 03-02 10:00 #1 pending",
    ]
    assert s.did() == []


def test_a_row_that_moved_under_a_long_transaction(on: Make, server: Server) -> None:
    # The long one read the row at 10:00, another moved it to 11:00, the long one moves it to 12:00: one task, at 12.
    if server.kind == "sqlite":
        pytest.skip("SQLite refuses to write from an old snapshot")
    s = on()
    s.save(id=1, at=TEN)
    cls = s.element("models.Bill")
    with s.session() as long:
        row = long.get(cls, 1)
        assert row.at == TEN
        s.save(id=1, at=ELEVEN)
        row.at = datetime(2026, 3, 2, 12)
        long.commit()
    s.sync()
    [left] = s.entries(status="pending")
    assert f"{left.due:%H:%M}" == "12:00"
    assert [e.outcome for e in s.entries(status="ended")] == [
        "superseded",
        "superseded",
    ]
    assert s.did() == []


def test_a_sync_in_a_pool_of_old_connections(on: Make) -> None:
    # a connection that comes back from the pool begins anew: it sees what was committed since
    s = on()
    with s.session() as session:
        session.get(s.element("models.Bill"), 1)
    s.insert(id=1, status="open", at=TEN, count=0)
    assert s.did() == ["create 1 03-02 10:00"]
    s.raw("UPDATE bill SET at = '2026-03-02 09:00:00'")
    assert s.did("2026-03-02 08:01") == ["reschedule 1 03-02 09:00"]


def test_two_syncs_that_plan_the_same(on: Make) -> None:
    # one plan applied twice, as when a lease ran out: INSERT IGNORE, ON CONFLICT DO NOTHING
    from jittask_prefect.rows import planning, sync

    s = on()
    s.insert(id=1, status="open", at=TEN, count=0)
    plan = planning.plan(s.app, s.now)
    for _ in range(2):
        with s.app.engine().begin() as connection:
            for action in plan.actions:
                sync.apply_all(connection, s.app.name, [action], "models.Bill", s.now)
    assert s.tasks() == ["1 03-02 10:00 #1 pending"]
    assert s.did() == []


def test_an_entry_that_does_not_fit_is_no_silent_cut(on: Make) -> None:
    # MariaDB's INSERT IGNORE turns errors into warnings, and cuts: half a name is worse than an error

    s = on()
    s.save(id=1, at=TEN)
    [entry] = s.entries()
    values = {**entry.values(), "task_id": "other", "row_key": "x" * 256}
    with s.app.engine().begin() as connection:
        try:
            made = insert_once(connection, entries, values)
        except SQLAlchemyError:
            made = False
    kept = [e.row_key for e in s.entries(task_id="other")]
    assert (made, kept) in ((False, []), (True, ["x" * 256]))  # SQLite has no lengths


@pytest.mark.parametrize("together", [False, True])
def test_the_ledger_refuses_an_entry(
    on: Make, server: Server, caplog: pytest.LogCaptureFixture, together: bool
) -> None:
    # an error of ours in the last statements of a save, which PostgreSQL gets in one round trip: the row is saved,
    # rows of the same transaction before and after it are planned, and the next sync finds it once it can; in one
    # flush with others each row is tried alone
    rule = {
        "sqlite": "CREATE TRIGGER refused BEFORE INSERT ON jittask_ledger WHEN NEW.row_key = '2' "
        "BEGIN SELECT RAISE(ABORT, 'refused'); END",
        "postgresql": "ALTER TABLE jittask_ledger ADD CONSTRAINT refused CHECK (row_key <> '2')",
        "mariadb": "CREATE TRIGGER refused BEFORE INSERT ON jittask_ledger FOR EACH ROW "
        "IF NEW.row_key = '2' THEN SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 1048, MESSAGE_TEXT = 'refused'; END IF",
    }
    drop = {"postgresql": "ALTER TABLE jittask_ledger DROP CONSTRAINT refused"}.get(
        server.kind, "DROP TRIGGER refused"
    )
    s = on()
    cls = s.element("models.Bill")
    s.raw(rule[server.kind])
    try:
        with s.session() as session:
            for key in (1, 2, 3):
                session.add(cls(id=key, at=TEN))
                if not together:
                    session.flush()
            session.commit()
        s.save(id=2, at=ELEVEN)
    finally:
        s.raw(drop)
    # Without a savepoint the first try of a flush leaves tasks, which the second try supersedes.
    assert [f"{e.row_key} {e.due:%H:%M}" for e in s.entries(status="pending")] == [
        "1 10:00",
        "3 10:00",
    ]
    assert {e.outcome for e in s.entries()} <= {None, "superseded"}
    assert "refused" in caplog.text
    assert s.did() == ["create 2 03-02 11:00"]


def test_many_rows_of_one_flush(on: Make) -> None:
    s = on()
    cls = s.element("models.Bill")
    with s.session() as session:
        session.add_all([cls(id=key, at=TEN) for key in range(1, 701)])
        session.commit()
    with s.session() as session:
        for key in (1, 350, 700):
            session.get(cls, key).at = ELEVEN
        session.commit()
    assert len(s.entries(status="pending")) == 700
    assert sorted(e.row_key for e in s.entries(outcome="superseded")) == [
        "1",
        "350",
        "700",
    ]
    assert sorted(e.row_key for e in s.entries(generation=2)) == ["1", "350", "700"]
    assert s.did() == []


def test_a_full_disk_that_takes_the_transaction(shop: Make) -> None:
    """SQLite may undo the whole transaction then: its owner is told, or the row is saved."""
    s = shop()
    s.save(id=1, at=TEN)
    engine = create_engine(s.app.database_url())
    cls = s.element("models.Bill")
    refused: set[int] = set()
    with Session(engine) as session:
        pages = session.execute(text("PRAGMA page_count")).scalar_one()
        session.execute(text(f"PRAGMA max_page_count = {pages}"))
        for key in range(2, 60):
            try:
                session.add(cls(id=key, at=TEN))
                session.commit()
            except SQLAlchemyError:
                session.rollback()
                refused.add(key)
    engine.dispose()
    with s.app.engine().connect() as connection:
        found = set(connection.execute(text("SELECT id FROM bill")).scalars())
    assert found == set(range(1, 60)) - refused
    s.sync("2026-03-02 08:01")
    assert {int(e.row_key) for e in s.entries(status="pending")} == found
