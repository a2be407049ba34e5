"""A task is claimed and ended by its key: only that task is locked, whatever MariaDB's statistics say."""

from __future__ import annotations

from functools import partial

import pytest
from sqlalchemy import Update
from sqlalchemy.dialects import mysql, postgresql, sqlite

from jittask_prefect.ledger import planned_rows, statements

BY_KEY = "UPDATE jittask_ledger FORCE INDEX (PRIMARY) SET "


@pytest.mark.parametrize(
    "make",
    [
        partial(statements.claim, False),
        partial(statements.claim, True),
        statements.finish,
        planned_rows._supersede,
        lambda: statements.update_task().values(status="ended"),
    ],
)
def test_mariadb_finds_a_task_by_its_key(make: partial[Update]) -> None:
    """By another index it would lock neighbours too, and end in 1213 where somebody closes several tasks at once."""
    assert str(make().compile(dialect=mysql.dialect())).startswith(BY_KEY)
    for dialect in (postgresql.dialect(), sqlite.dialect()):
        assert "INDEX" not in str(make().compile(dialect=dialect))
