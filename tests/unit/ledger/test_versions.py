"""The ledger's tables have one version; any other one is refused by name, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import pytest
from shop import Shop
from sqlalchemy import text

from jittask_prefect.errors import LedgerError
from jittask_prefect.ledger import state_table, versions
from jittask_prefect.ledger.entry import COLUMNS, Entry
from jittask_prefect.ledger.tables import entries


def test_the_fields_of_an_entry_are_the_columns_in_their_order() -> None:
    """`to_entry` relies on it."""
    assert tuple(column.name for column in entries.columns) == COLUMNS
    assert tuple(field.name for field in fields(Entry)) == COLUMNS


@pytest.mark.parametrize("found", ["1", "3", "5"])
def test_another_version_is_refused_with_what_to_do(
    shop: Callable[..., Shop], found: str
) -> None:
    s = shop()
    with s.app.engine().begin() as connection:
        state_table.put(connection, "", "schema", found)
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
