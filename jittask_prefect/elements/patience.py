"""Executions wait where a database takes no further connection; other code gets the error at once, as without jittask."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Dialect

WAIT_SECONDS, AGAIN_SECONDS = 60.0, 0.5
FULL = (
    "too many clients",
    "too many connections",
    "remaining connection slots",
    "max_user_connections",
    "the database system is starting up",
    "the database system is shutting down",
    "the database system is in recovery mode",
)
"""Parts of the messages, in lower case: PostgreSQL's driver has no code for a connection that it did not get."""
FULL_CODES = ("53300", "57P03", 1040, 1203, 1226)
ADVICE = (
    "raise the database's limit (max_connections, or CONNECTION LIMIT of role and database), or lower maxConcurrency, "
    "`parallel`, or the --limit of the workers"
)
_PATIENT: ContextVar[bool] = ContextVar("jittask_patient", default=False)
T = TypeVar("T")
log = logging.getLogger("jittask")


@contextmanager
def waits_for_connections() -> Iterator[None]:
    """In the block, and in threads with a copy of its context, new connections wait until the database takes them."""
    token = _PATIENT.set(True)
    try:
        yield
    finally:
        _PATIENT.reset(token)


@contextmanager
def asks_once() -> Iterator[None]:
    """In the block, a connection is there at once, or not at all: for questions that can do without an answer."""
    token = _PATIENT.set(False)
    try:
        yield
    finally:
        _PATIENT.reset(token)


def is_full(error: BaseException) -> bool:
    """Whether a driver's error says that the database takes no further connection just now."""
    codes: tuple[Any, ...] = (*error.args[:1], getattr(error, "sqlstate", None))
    said = str(error).lower()
    return any(code in FULL_CODES for code in codes) or any(t in said for t in FULL)


def of_own_engine(dialect: Dialect, _record: Any, args: Any, parameters: Any) -> Any:
    """A new connection of the team's own engine in an execution; elsewhere None, so that SQLAlchemy opens it."""
    if not _PATIENT.get():
        return None
    return connected(partial(dialect.connect, *args, **parameters))


def connected(connect: Callable[[], T]) -> T:
    """A new connection; in an execution after a wait, where the database takes none at first.

    Args:
        connect: Opens the connection.

    Raises:
        Exception: The driver's error; of a database that is full, after `WAIT_SECONDS`.
    """
    until = time.monotonic() + WAIT_SECONDS
    told = False
    while True:
        try:
            return connect()
        except Exception as error:
            over = time.monotonic() > until
            if not _PATIENT.get() or over or not is_full(error):
                raise
            if not told:
                about = (str(error).strip(), WAIT_SECONDS, ADVICE)
                message = "the database takes no further connection (%s); a task waits for at most %g s: %s"
                log.warning(message, *about)
            told = True
        time.sleep(AGAIN_SECONDS)
