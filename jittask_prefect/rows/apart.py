"""A savepoint around what the package does in somebody else's transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from sqlalchemy import Connection


class Apart:
    """What the package does in the caller's transaction, of which an error must not take the transaction with it.

    On PostgreSQL a statement that fails does, unless it stands in a savepoint. Not elsewhere: on SQLite a savepoint
    that comes first would be the transaction, and commit when it is released. SQLAlchemy's own savepoint costs as much
    as planning does.
    """

    def __init__(self, connection: Connection) -> None:
        self._needed, self._open = connection.dialect.name == "postgresql", False
        self._raw = connection.connection
        self._cursor: Any = None
        at_once = None if connection.dialect.is_async else getattr(self._raw.driver_connection, "pipeline", None)
        self._trip: Callable[[], AbstractContextManager[Any]] = at_once or nullcontext  # psycopg: one round trip

    def __enter__(self) -> Apart:
        return self

    @contextmanager
    def first(self) -> Iterator[None]:
        """The first statements; their answers are there after it."""
        if not self._needed:
            yield
            return
        with self._trip():
            self._say("SAVEPOINT jittask")
            self._open = True
            yield

    @contextmanager
    def last(self) -> Iterator[None]:
        """The last statements, whose answers nobody reads."""
        if not self._open:
            yield
            return
        with self._trip():
            yield
            self._say("RELEASE SAVEPOINT jittask")
        self._open = False

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._open:
            if kind is not None:
                self._say("ROLLBACK TO SAVEPOINT jittask")
            self._say("RELEASE SAVEPOINT jittask")

    def _say(self, statement: str) -> None:
        self._cursor = self._cursor or self._raw.cursor()
        self._cursor.execute(statement)
