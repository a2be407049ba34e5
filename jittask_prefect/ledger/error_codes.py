"""Errors of databases, by the codes that the databases give them."""

from __future__ import annotations

from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    NoSuchTableError,
)

Code = str | int | None
ABORTED, NO_SAVEPOINT, NO_RIGHT = "25P02", "3B001", "42501"  # PostgreSQL's SQLSTATE
TAKEN, NOT_SUPPORTED = "23505", "0A000"
"""PostgreSQL's SQLSTATE of a key that is taken; of a statement that does not exist for such a table."""
NO_TABLE = ("42P01", 1146)
MYSQL_DEADLOCK, MYSQL_LOCK_WAIT = 1213, 1205
TEMPORARY = ("55P03", "57014", "40001", "40P01", MYSQL_LOCK_WAIT, 1969, 3024)
"""Locks held and time used up: the same statement once more would wait as long again."""


def code(error: BaseException) -> Code:
    """The database's own code of an error: SQLSTATE on PostgreSQL, a number on MariaDB; None where there is none."""
    of = getattr(error, "orig", None)
    first = (*getattr(of, "args", ()), None)[0]
    if isinstance(first, int):
        return first  # newer versions of PyMySQL give a SQLSTATE besides

    state = getattr(of, "sqlstate", None) or getattr(of, "pgcode", None)
    return str(state) if state else None


def is_of_database(error: Exception) -> bool:
    """Whether an error is the database's and not a row's: other rows would meet the same."""
    return isinstance(error, DBAPIError) and not isinstance(
        error, (DataError, IntegrityError)
    )


def is_temporary(error: Exception) -> bool:
    """Whether an error is a lock or a time-out."""
    return code(error) in TEMPORARY


def error_line(error: BaseException) -> str:
    """An error in a line: its kind, and the database's message."""
    of = getattr(error, "orig", None) or error
    said = f"{type(of).__name__}: {str(of).strip().partition(chr(10))[0]}"
    if is_of_missing_table(error):
        said += "; run your migrations, or `jittask db upgrade --models`, which makes missing tables"
    return said


def is_of_missing_table(error: BaseException) -> bool:
    """Whether an error says that a table is not there."""
    if isinstance(error, NoSuchTableError) or code(error) in NO_TABLE:
        return True
    of = getattr(error, "orig", None)
    return str(of).startswith("no such table")  # SQLite
