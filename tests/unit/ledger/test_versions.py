"""The ledger's tables have one version; any other one is refused by name, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime

import pytest
from shop import Shop
from sqlalchemy import Connection, insert, inspect, select, text

from jittask_prefect.errors import LedgerError
from jittask_prefect.ledger import hindrance, pause, state_table, versions
from jittask_prefect.ledger.entry import COLUMNS, Entry, find_entry, new_entry
from jittask_prefect.ledger.tables import entries

NEW = (
    "level",
    "zone_value",
    "calendar_value",
    "not_before",
    "first_run_id",
    "progress",
)
"""The columns that version 5 brought."""


def test_the_fields_of_an_entry_are_the_columns_in_their_order() -> None:
    """`to_entry` relies on it."""
    assert tuple(column.name for column in entries.columns) == COLUMNS
    assert tuple(field.name for field in fields(Entry)) == COLUMNS


def give_version(s: Shop, version: str) -> None:
    """Have the ledger's tables say that they are of a version, which only its own release reads."""
    with s.app.engine().begin() as connection:
        state_table.put(connection, "", "schema", version)
        state_table.put(connection, "", "schema:oldest", version)


@pytest.mark.parametrize("found", ["1", "3", "6"])
def test_another_version_is_refused_with_what_to_do(
    shop: Callable[..., Shop], found: str
) -> None:
    s = shop()
    give_version(s, found)
    with s.app.engine().connect() as connection:
        for refuse in (
            versions.there,
            versions.upgrade_ledger,
            lambda c: versions.require(c, "the database"),
        ):
            with pytest.raises(LedgerError) as error:
                refuse(connection)
            said = str(error.value)
            assert f"version {found}, and this jittask-prefect works with" in said
            assert "install the jittask-prefect that made them" in said
            assert "drop the tables jittask_ledger and jittask_state" in said


@pytest.mark.parametrize("found", ["4", "6"])
def test_a_save_beside_tables_of_another_version_says_so(
    shop: Callable[..., Shop], caplog: pytest.LogCaptureFixture, found: str
) -> None:
    """`jittask db upgrade` is no help where the tables are newer, so the log does not send anybody there."""
    s = shop()
    give_version(s, found)
    hindrance.forget()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    [said] = [m for m in caplog.messages if "rows are found by the sync only" in m]
    assert f"has ledger tables of version {found}" in said
    assert ("stop the workers, then run `jittask db upgrade`" in said) == (found == "4")
    assert ("install the jittask-prefect that made them" in said) == (found == "6")


@pytest.mark.parametrize("found", ["4", "6"])
def test_no_pause_begins_or_ends_in_tables_of_another_version(
    shop: Callable[..., Shop], found: str
) -> None:
    s = shop()
    give_version(s, found)
    with pytest.raises(LedgerError, match=f"tables of version {found}"):
        pause.pause(s.app, s.now)
    with s.app.engine().begin() as connection:
        assert state_table.get(connection, "shop", "paused") is None
        state_table.put(connection, "shop", "paused", "2026-03-02T08:00:00+00:00")
    with pytest.raises(LedgerError, match=f"tables of version {found}"):
        pause.resume(s.app)
    with s.app.engine().begin() as connection:
        since = state_table.get(connection, "shop", "paused")
    assert since == "2026-03-02T08:00:00+00:00"


def test_a_version_without_the_apps_name_is_refused_too(
    shop: Callable[..., Shop],
) -> None:
    """The table of version 3 had no column `app`: the version is read without it."""
    s = shop()
    with s.app.engine().begin() as connection:
        connection.execute(text("DROP TABLE jittask_state"))
        connection.execute(text("CREATE TABLE jittask_state (name TEXT, value TEXT)"))
        connection.execute(text("INSERT INTO jittask_state VALUES ('schema', '3')"))
    with (
        s.app.engine().connect() as connection,
        pytest.raises(LedgerError, match="tables of version 3"),
    ):
        versions.require(connection, "the database")


def test_newer_tables_that_let_this_release_work(shop: Callable[..., Shop]) -> None:
    """The tables are brought up first; then the programs, one by one: saves, syncs and executions go on."""
    s = shop()
    s.raw("ALTER TABLE jittask_ledger ADD COLUMN colour VARCHAR(20)")
    with s.app.engine().begin() as connection:
        state_table.put(connection, "", "schema", "6")
    hindrance.forget()

    with s.app.engine().connect() as connection:
        assert versions.there(connection)
        assert not versions.upgrade_ledger(connection)
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    assert s.tasks() == ["1 03-02 10:00 #1 pending"]
    s.sync()
    assert [o.status for o in s.work("2026-03-02 10:00")] == ["completed"]

    with s.app.engine().begin() as connection:
        state_table.put(connection, "", "schema:oldest", "6")
        with pytest.raises(LedgerError, match="version 6, and this jittask-prefect"):
            versions.require(connection, "the database")


def test_the_tables_are_made_once(shop: Callable[..., Shop]) -> None:
    s = shop()
    with s.app.engine().begin() as connection:
        assert not versions.upgrade_ledger(connection)
        connection.execute(text("DROP TABLE jittask_ledger"))
        connection.execute(text("DROP TABLE jittask_state"))
        assert versions.version(connection) is None
        with pytest.raises(LedgerError, match="run `jittask db upgrade`"):
            versions.require(connection, "the database")
        assert versions.upgrade_ledger(connection)
        assert versions.version(connection) == versions.SCHEMA_VERSION


def as_version_4(connection: Connection) -> None:
    """Take the ledger back to the tables of version 4, with a task of each kind that had other columns then."""
    of_table = " ON jittask_ledger" if connection.dialect.name != "sqlite" else ""
    if connection.dialect.name == "postgresql":
        of_table = ""
    connection.execute(text(f"DROP INDEX ix_jittask_ledger_first_run{of_table}"))
    for name in NEW:
        connection.execute(text(f"ALTER TABLE jittask_ledger DROP COLUMN {name}"))
    state_table.put(connection, "", "schema", "4")
    about = {
        "app": "shop",
        "template": "tasks.Remind",
        "due": datetime(2026, 3, 2, tzinfo=UTC),
        "created": datetime(2026, 3, 1, tzinfo=UTC),
    }
    tasks = [
        new_entry(task_id="t-made", func_name="f", flow_run_id="r-2", **about),
        new_entry(task_id="t-same", func_name="f", flow_run_id="r-8", **about),
        new_entry(task_id="t-begins", status="executing", queue="claimed", **about),
        new_entry(task_id="t-left", status="ended", queue="left", **about),
        new_entry(task_id="t-waits", queue="waiting", **about),
    ]
    for task in tasks:
        old = {n: v for n, v in task.values().items() if n not in NEW}
        connection.execute(insert(entries).values(**old))
    state_table.put(connection, "shop", "run:r-1", "t-made")


def test_workers_are_stopped_only_where_their_release_does_not_know_newer_tables(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From version 5 on the tables are brought up first, and the programs follow one by one."""
    monkeypatch.setattr(versions, "SCHEMA_VERSION", "6")
    monkeypatch.setattr(versions, "FORMER_VERSION", "5")
    said = "the database has ledger tables of version 5: run `jittask db upgrade`"
    with pytest.raises(LedgerError, match=f"^{said}$"):
        versions.require(connection, "the database")


def test_version_4_is_brought_up_and_loses_nothing(connection: Connection) -> None:
    as_version_4(connection)
    with pytest.raises(LedgerError, match="version 4: stop the workers, then run"):
        versions.require(connection, "the database")

    assert versions.upgrade_ledger(connection)
    assert not versions.upgrade_ledger(connection)

    columns = [entries.c.task_id, entries.c.queue, entries.c.progress]
    found = connection.execute(select(*columns).order_by(entries.c.task_id))
    assert [tuple(record) for record in found] == [
        ("t-begins", None, "claimed"),
        ("t-left", None, "left"),
        ("t-made", None, None),
        ("t-same", None, None),
        ("t-waits", "waiting", None),
    ]
    for known in ("t-made", "r-1", "r-2"):
        made = find_entry(connection, known)
        assert made is not None
        assert (made.task_id, made.known_id) == ("t-made", "r-1")
    same = find_entry(connection, "t-same")
    assert same is not None and same.known_id == "r-8"
    assert state_table.get(connection, "shop", "run:r-1") is None


def test_an_upgrade_that_was_cut_off_goes_on(connection: Connection) -> None:
    """MariaDB commits each ALTER TABLE by itself."""
    as_version_4(connection)
    connection.execute(text("ALTER TABLE jittask_ledger ADD COLUMN level VARCHAR(64)"))

    assert versions.upgrade_ledger(connection)

    there = {c["name"] for c in inspect(connection).get_columns("jittask_ledger")}
    assert there == set(COLUMNS)
