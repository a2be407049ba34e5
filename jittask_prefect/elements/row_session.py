"""The session of a row's execution: its commits hold together with the task's completion, or not at all.

A row's function may have been written for an ordinary session. Its commits can take effect only with the task's
completion. So `commit` sets a savepoint, the *point*: a later `rollback` or `close` goes back to the point, never behind
the point. A function that never commits costs no statement more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

from sqlalchemy import Connection, Engine, TextClause, event
from sqlalchemy.engine import NestedTransaction
from sqlalchemy.orm import SessionTransaction, SessionTransactionOrigin
from sqlmodel import Session

from jittask_prefect.errors import JittaskError

POINT = "jittask_point"
LOST = (
    "the database gave the transaction of the row's task up after the function had committed: "
    "the function's commit is lost, so the task cannot be completed"
)
# Of libpq: a transaction is open, and no error has aborted it; and a statement without rows was done.
IN_TRANSACTION, COMMAND_OK = 2, 1
GIVEN_UP = "the time of the row's task is over: its function has no database any more"
ENDS = (
    "ends the transaction of the row's task, which must commit with the task's completion: "
    "use the session's commit() and rollback()"
)
DETACHED = "detach() of the row's connection takes it from the row's task: take a connection of your own from app.engine()"
_ENDS = re.compile(
    r"(commit|end|abort|begin|start\s+transaction|prepare\s+transaction|rollback(?!(\s+\w+)?\s+to\b))\b",
    re.IGNORECASE,
)
# Quoted texts and names, comments, and PostgreSQL's bodies in dollars: no statement stands in these.
_NO_WORDS = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/",
    re.DOTALL,
)


ROW_SESSION: ContextVar[RowSession | None] = ContextVar(
    "jittask_row_session", default=None
)


class RowSessionError(JittaskError):
    """The row's session cannot do this."""


class RowTransaction:
    """The database connection and the transaction of a row's task; in a batch of each row in turn.

    Attributes:
        raw: The pool's connection.
        committed: The function has committed: the point is there.
        written: The function has written since the last commit or rollback.
        lost: The function's commit is gone, and the task must not complete.
        given_up: The function did not return in time; its further statements are refused.
        goes_on: Another row's transaction follows at once: on PostgreSQL the commit begins that transaction too.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.raw: Any = engine.raw_connection()
        self.committed = self.written = self.lost = self.given_up = False
        self._ending = self._over = self.goes_on = False
        self._cursor: Any = None

    def begin(self) -> None:
        """Begin with another row."""
        self.committed = self.written = self.lost = self._ending = self._over = False
        self.goes_on = False

    def connection(self) -> Connection:
        """A connection for a session's transaction.

        Raises:
            RowSessionError: The connection is lost, and the function's commit with it.
        """
        if not self.raw.is_valid:
            if self.lost:
                raise RowSessionError(LOST)

            self.raw, self._cursor = self.engine.raw_connection(), None

        return _Connection(self)

    def cursor(self) -> Any:
        """The cursor for the statements that each row needs; psycopg takes as long to make another as to fill in a statement."""
        if self.given_up:
            raise RowSessionError(GIVEN_UP)
        if self._cursor is None:
            self._cursor = self.raw.cursor()
        return self._cursor

    def commit(self) -> None:
        """Set the point, or, where the task ends, commit."""
        self.written = False
        if self._ending:
            if self.committed:
                self._at_point("RELEASE SAVEPOINT")
            if self.lost:
                raise RowSessionError(LOST)

            if not (self.goes_on and commit_and_chain(self.raw.driver_connection)):
                self.raw.commit()
            self._over = True
        elif self._busy():
            if self.committed:
                self._say(f"RELEASE SAVEPOINT {POINT}")

            self._say(f"SAVEPOINT {POINT}")
            self.committed = True

    def rollback(self) -> None:
        """Undo all since the point."""
        self.written = False
        if self.committed and not self.lost and self.raw.is_valid:
            self._at_point("ROLLBACK TO SAVEPOINT")
        elif self.raw.is_valid:
            self.raw.rollback()

    def invalidate(self, *how: Any, **more: Any) -> None:
        """Mark the connection as broken."""
        self.lost = self.lost or self.committed
        self.raw.invalidate(*how, **more)

    def savepoint(self) -> None:
        """Ensure a transaction: on SQLite the release of a savepoint that came first would commit."""
        if not self._busy():
            self._say("BEGIN")

    def end(self) -> None:
        """From here on a commit takes effect."""
        self._ending = True

    def undo(self) -> None:
        """Undo everything, unless a commit has taken effect."""
        if not self._over and self.raw.is_valid:
            try:
                self.raw.rollback()
            except Exception as error:  # noqa: BLE001  drivers have errors of their own; without a connection all is undone
                self.raw.invalidate(error)

    def close(self) -> None:
        """Give the connection back to its pool."""
        self.raw.close()

    def _busy(self) -> bool:
        return self.engine.dialect.name != "sqlite" or bool(
            self.raw.driver_connection.in_transaction
        )

    def _at_point(self, statement: str) -> None:
        """Act on the point. A missing point means that the database rolled back: a deadlock (MariaDB), a full disk (SQLite)."""
        try:
            self._say(f"{statement} {POINT}")
        except Exception as error:
            self.lost = True
            raise RowSessionError(LOST) from error

    def _say(self, statement: str) -> None:
        cursor = self.raw.cursor()
        try:
            cursor.execute(statement)
        finally:
            cursor.close()


def commit_and_chain(driver: Any) -> bool:
    """Commit, and begin the next transaction in the same round trip; False, and nothing is done, but with psycopg.

    By libpq itself: psycopg asks whether a transaction has begun before it begins one.
    """
    libpq = getattr(driver, "pgconn", None)
    if libpq is None or libpq.transaction_status != IN_TRANSACTION:
        return False
    with driver.lock:
        result = libpq.exec_(b"COMMIT AND CHAIN")
    if result.status != COMMAND_OK:
        from psycopg import errors  # the driver's own: another app may not have psycopg

        raise errors.error_from_result(result)
    return True


class _Driver:
    """The driver's connection, or the pool's proxy, as a row's function sees them."""

    __slots__ = ("_of", "_real")

    def __init__(self, of: RowTransaction, real: Any) -> None:
        object.__setattr__(self, "_of", of)
        object.__setattr__(self, "_real", real)

    def cursor(self, *args: Any, **keys: Any) -> Any:
        if self._of.given_up:
            raise RowSessionError(GIVEN_UP)
        return self._real.cursor(*args, **keys)

    def commit(self) -> None:
        self._of.commit()

    def rollback(self) -> None:
        self._of.rollback()

    def close(self) -> None:
        self._of.rollback()

    def invalidate(self, *how: Any, **more: Any) -> None:
        self._of.invalidate(*how, **more)

    def detach(self) -> None:
        raise RowSessionError(DETACHED)

    def executescript(self, script: str) -> None:
        """Refused: sqlite3 commits before a script, whatever its statements."""
        raise RowSessionError(f"executescript() {ENDS}")

    def _close_special(self, **_how: Any) -> None:
        """SQLAlchemy's `close` after a rollback."""

    @property
    def dbapi_connection(self) -> Any:
        return _Driver(self._of, self._real.dbapi_connection)

    @property
    def driver_connection(self) -> Any:
        return _Driver(self._of, self._real.driver_connection)

    def __enter__(self) -> _Driver:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.rollback()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value)


class _Connection(Connection):
    def __init__(self, of: RowTransaction) -> None:
        self._of = of
        super().__init__(of.engine, connection=cast(Any, _Driver(of, of.raw)))

    def commit(self) -> None:
        """Set the point; the session's transaction goes on."""
        self._of.commit()

    def rollback(self) -> None:
        """Go back to the point; the session's transaction goes on."""
        self._of.rollback()

    def kept_cursor(self) -> Any:
        """The cursor of the row's transaction, which nobody closes."""
        return self._of.cursor()

    def begin_nested(self) -> NestedTransaction:
        self._of.savepoint()
        return super().begin_nested()

    def execute(self, statement: Any, *args: Any, **keys: Any) -> Any:
        if isinstance(statement, TextClause):
            _no_end(statement.text)
        self._of.written = self._of.written or not getattr(
            statement, "is_select", False
        )
        return super().execute(statement, *args, **keys)

    def exec_driver_sql(self, statement: str, *args: Any, **keys: Any) -> Any:
        _no_end(statement)
        self._of.written = True
        return super().exec_driver_sql(statement, *args, **keys)


def _no_end(text: str) -> None:
    """Refuse a text in which a statement ends the transaction."""
    if any(
        _ENDS.match(statement.strip())
        for statement in _NO_WORDS.sub(" ", text).split(";")
    ):
        raise RowSessionError(f"{text.strip()[:200]!r} as text {ENDS}")


class RowSession(Session):
    """The session of a row's execution: commits of element code take effect with the task's completion.

    Args:
        transaction: The row's; the session's own transactions are parts of it.
    """

    def __init__(self, transaction: RowTransaction) -> None:
        self.row_transaction = transaction
        self.ending = False
        super().__init__(transaction.engine, expire_on_commit=False)

    def begin(self, nested: bool = False) -> SessionTransaction:
        """Begin a transaction; the transaction that reading the row began is no obstacle, and holds."""
        now = self.get_transaction()
        if (
            not nested
            and now is not None
            and now.origin is SessionTransactionOrigin.AUTOBEGIN
        ):
            self.commit()
        return super().begin(nested)

    @contextmanager
    def block(self) -> Iterator[None]:
        """A `with app.session()` of the function: an error that leaves the block undoes the block since its last commit.

        Uncommitted changes from before the block stay; only with such changes the block needs a savepoint.
        """
        before = self.row_transaction.written or bool(
            self.new or self.dirty or self.deleted
        )
        savepoint = self.begin_nested() if before else None
        try:
            yield
        except BaseException:
            (
                savepoint if savepoint is not None and savepoint.is_active else self
            ).rollback()
            raise

        if savepoint is not None and savepoint.is_active:
            savepoint.commit()

    def finish(self) -> None:
        """Commit for good."""
        self.row_transaction.end()
        self.ending = True
        super().commit()


@contextmanager
def row_session(
    engine: Engine, transaction: RowTransaction | None = None
) -> Iterator[RowSession]:
    """The session that `app.session()` gives inside; without `finish` all is undone at the end.

    Args:
        engine: The database's engine.
        transaction: The batch's transaction, which stays open; absent, the row has its own.
    """
    own = transaction or RowTransaction(engine)
    own.begin()
    try:
        with RowSession(own) as session:
            token = ROW_SESSION.set(session)
            try:
                yield session
            finally:
                ROW_SESSION.reset(token)
    finally:
        try:
            own.undo()
        finally:
            if transaction is None or own.given_up:
                own.close()


def _after_transaction_create(
    session: RowSession, transaction: SessionTransaction
) -> None:
    if transaction.parent is None:
        try:
            session.connection(
                bind_arguments={"bind": session.row_transaction.connection()}
            )
        except BaseException:
            transaction.close()  # else the session would take an ordinary connection
            raise


event.listen(RowSession, "after_transaction_create", _after_transaction_create)
