"""A savepoint around the package's statements in somebody else's transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import count
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger.error_codes import (
    ABORTED,
    MYSQL_DEADLOCK,
    MYSQL_LOCK_WAIT,
    NO_SAVEPOINT,
    code,
)
from jittask_prefect.ledger.prepared import wrapped

_ROLLBACKS = count()


class TransactionLost(JittaskError, PendingRollbackError):
    """The database has undone the transaction: nothing is saved. Roll back, and try again."""


def took_the_transaction(error: Exception) -> bool:
    """Whether an error has undone the caller's transaction as well: the caller must be told."""
    return isinstance(error, TransactionLost) or code(error) == MYSQL_DEADLOCK


def in_autocommit(connection: Connection) -> bool:
    """Whether there is no transaction, and so no savepoint: each statement commits (PostgreSQL, MariaDB)."""
    if connection.dialect.name == "sqlite":
        return False  # there a savepoint makes a transaction
    driver = connection.connection.dbapi_connection
    state = getattr(driver, "get_autocommit", None) or getattr(
        driver, "autocommit", False
    )
    return bool(state() if callable(state) else state)


def nested(connection: Connection) -> AbstractContextManager[Any]:
    """SQLAlchemy's own savepoint, where there can be one."""
    return nullcontext() if in_autocommit(connection) else connection.begin_nested()


class Savepoint:
    """Statements in the caller's transaction: an error of theirs must not undo that transaction.

    On PostgreSQL a failed statement aborts the transaction, unless a savepoint stands before. Not elsewhere: on SQLite
    a savepoint that comes first would be the transaction, and commit when released. SQLAlchemy's own savepoint costs as much
    as planning does. A connection in AUTOCOMMIT has no transaction, and needs none.

    After an error the caller's transaction is as it was before, or `TransactionLost` is raised in its place: a COMMIT
    of an aborted transaction would be a rollback without a word.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection, self._raw = connection, connection.connection
        driver, kind = self._raw.driver_connection, connection.dialect.name
        self._needed = kind == "postgresql" and not in_autocommit(connection)
        self._lite = kind == "sqlite" and getattr(driver, "in_transaction", False)
        self._open = False
        self._cursor: Any = None
        at_once = (
            None if connection.dialect.is_async else getattr(driver, "pipeline", None)
        )
        self._trip: Callable[[], AbstractContextManager[Any]] = (
            at_once or nullcontext
        )  # psycopg: one round trip
        # In a pipeline that fails, psycopg takes statements for prepared that the server never saw.
        self._how = {"prepare": False} if at_once else {}

    def __enter__(self) -> Savepoint:
        return self

    def begin(self) -> None:
        """Make the savepoint now: SQLAlchemy's own statements come first, which wait for their answers."""
        if self._needed and not self._open:
            self._say("SAVEPOINT jittask")
            self._open = True

    @contextmanager
    def first(self) -> Iterator[None]:
        """The first statements; their answers are there afterwards."""
        if not self._needed:
            yield
            return
        with self._sent():
            if not self._open:
                self._say("SAVEPOINT jittask")
                self._open = True
            yield

    @contextmanager
    def last(self) -> Iterator[None]:
        """The last statements, whose answers nobody reads."""
        if not self._open:
            yield
            return
        with self._sent():
            yield
            self._say("RELEASE SAVEPOINT jittask")
        self._open = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, *_: object
    ) -> None:
        if error is None and self._open:
            try:
                self._say("RELEASE SAVEPOINT jittask")
                self._open = False
            except Exception as late:
                self._back(late)
                raise
        elif error is not None:
            self._back(error)

    def _back(self, error: BaseException) -> None:
        """Bring the caller's transaction back to its state before."""
        try:
            if self._open:
                self._open = False
                # A text that psycopg has not seen yet: only then psycopg forgets its prepared statements.
                self._say(f"ROLLBACK TO SAVEPOINT jittask -- {next(_ROLLBACKS)}")
                self._say("RELEASE SAVEPOINT jittask")
                return
            lost = (
                isinstance(error, DBAPIError)
                and code(error) != MYSQL_DEADLOCK
                and self._is_gone(error)
            )
        except Exception as failed:  # noqa: BLE001  whatever the error: the transaction is not as before
            if code(error) == ABORTED and code(failed) == NO_SAVEPOINT:
                return  # the caller's own statement had aborted it: no savepoint could be made
            raise TransactionLost(f"{TransactionLost.__doc__} {failed}") from error
        if lost:
            raise TransactionLost(f"{TransactionLost.__doc__} {error}") from error

    def _is_gone(self, error: DBAPIError) -> bool:
        """Whether the database has undone more than the statement that failed."""
        dialect = self._connection.dialect
        if dialect.name == "sqlite":  # a full disk
            return self._lite and not self._raw.driver_connection.in_transaction  # type: ignore[union-attr]
        if dialect.name not in ("mysql", "mariadb"):
            return False
        if getattr(dialect, "is_mariadb", False):
            lost = "NOT @@autocommit AND NOT @@in_transaction"
        else:
            lost = f"@@innodb_rollback_on_timeout AND {code(error) == MYSQL_LOCK_WAIT}"
        self._say(f"SELECT {lost}")
        return bool(self._cursor.fetchone()[0])

    @contextmanager
    def _sent(self) -> Iterator[None]:
        """In one round trip; a driver's own error is raised as SQLAlchemy would."""
        try:
            with self._trip():
                yield
        except self._connection.dialect.loaded_dbapi.Error as error:
            raise wrapped(self._connection, "SAVEPOINT jittask", error) from error

    def _say(self, statement: str) -> None:
        self._cursor = self._cursor or self._raw.cursor()
        try:
            self._cursor.execute(statement, **self._how)
        except self._connection.dialect.loaded_dbapi.Error as error:
            raise wrapped(self._connection, statement, error) from error
