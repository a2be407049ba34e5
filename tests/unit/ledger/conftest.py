"""A database with the ledger's tables, of each kind, in a transaction that is rolled back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from shop import Server
from sqlalchemy import Connection, Engine, create_engine

from jittask_prefect.ledger.versions import upgrade_ledger


@pytest.fixture
def connection(server: Server, tmp_path: Path) -> Iterator[Connection]:
    """A connection to an empty ledger."""
    file = f"sqlite:///{tmp_path / 'ledger.db'}"
    engine = create_engine(file if server.kind == "sqlite" else server.url())
    server.empty()
    with engine.begin() as made:
        upgrade_ledger(made)
    with engine.connect() as found, found.begin() as transaction:
        yield found
        if transaction.is_active:
            transaction.rollback()
    engine.dispose()
    server.empty()  # MariaDB keeps what was written before a change of the tables


@pytest.fixture(scope="module")
def ledger(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """A database with an empty ledger for a module whose tests commit nothing and change no table."""
    file = f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}"
    engine = create_engine(file if server.kind == "sqlite" else server.url())
    server.empty()
    with engine.begin() as made:
        upgrade_ledger(made)
    yield engine
    engine.dispose()
    server.empty()
