"""The database's own code of an error, whatever the driver tells besides."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError

from jittask_prefect.ledger import error_codes


class DriverError(Exception):
    """An error as a driver raises it."""

    sqlstate: str | None = None


def raised(*values: object, sqlstate: str | None = None) -> OperationalError:
    """An error as SQLAlchemy hands it on."""
    of = DriverError(*values)
    of.sqlstate = sqlstate
    return OperationalError("SELECT 1", None, of)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (raised("canceling statement", sqlstate="57014"), "57014"),
        (raised(1213, "Deadlock found"), 1213),
        (raised(1213, "Deadlock found", sqlstate="40001"), 1213),
        (raised("database is locked"), None),
    ],
    ids=["PostgreSQL", "MariaDB", "MariaDB with a SQLSTATE", "SQLite"],
)
def test_code(error: OperationalError, code: str | int | None) -> None:
    assert error_codes.code(error) == code
