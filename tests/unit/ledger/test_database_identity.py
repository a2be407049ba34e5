"""What a database says of itself: two databases differ, two connections to one do not."""

from __future__ import annotations

from pathlib import Path

import pytest
from shop import Server
from sqlalchemy import create_engine

from jittask_prefect.ledger import database_identity


def digest_of(url: str) -> str:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = database_identity.digest(connection)
        # The connection works on, also where the server lacked a variable.
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    engine.dispose()
    return found


def test_another_database_of_a_server_differs_and_a_second_connection_does_not(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = server.url("a"), server.url("b")
    assert digest_of(first) == digest_of(first)
    assert digest_of(first) != digest_of(second)
    assert len(digest_of(first)) == 32
