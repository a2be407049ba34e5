"""Database connections that a function leaves open: their transactions would lock others out.

Each connection, of any pool of SQLAlchemy, is noted with its thread, and with its coroutine of an event loop that rows
share, from checkout to return.
"""

from __future__ import annotations

import logging
import threading
from contextvars import ContextVar
from typing import Any

from sqlalchemy import event
from sqlalchemy.pool import Pool

from jittask_prefect.elements.row_session import ROW_SESSION
from jittask_prefect.errors import JittaskError

OURS = "jittask-"
"""Begin of the names of this package's threads, which give their connections back."""
COROUTINE: ContextVar[object | None] = ContextVar("jittask_coroutine", default=None)
"""The row's coroutine, in an event loop that several rows share."""
_open: dict[int, tuple[Any, int, object | None]] = {}
log = logging.getLogger("jittask")


class LeftOpenError(JittaskError):
    """the function left a transaction open: it was rolled back"""


def _note(raw: Any, record: Any, proxy: Any) -> None:
    if not threading.current_thread().name.startswith(OURS):
        _open[id(record)] = record, threading.get_ident(), COROUTINE.get()


def _forget(raw: Any, record: Any) -> None:
    _open.pop(id(record), None)


event.listen(Pool, "checkout", _note)
event.listen(Pool, "checkin", _forget)
event.listen(Pool, "detach", _forget)


def open_connections() -> set[int]:
    """The open connections, each as a number."""
    return set(_open)


def roll_back_new(before: set[int]) -> None:
    """Roll back the connections that this thread has opened and not given back.

    Args:
        before: The answer of `open_connections` before the function. The connection of the
            row's session is not the function's, and stays.

    Raises:
        LeftOpenError: A connection had a transaction.
    """
    mine = threading.get_ident()
    new = [
        record
        for key, (record, thread, _) in list(_open.items())
        if key not in before and thread == mine
    ]
    kept = _row_connection() if new else None
    left = [
        raw
        for record in new
        if (raw := record.driver_connection) is not None and raw is not kept
    ]
    if any([_roll_back(raw) for raw in left]):
        raise LeftOpenError


def connections_of_thread(thread: int | None) -> list[Any]:
    """The drivers' connections that a thread has open."""
    return [
        record.driver_connection
        for record, of, _ in list(_open.values())
        if of == thread
    ]


def connections_of_coroutine(coroutine: object) -> dict[int, Any]:
    """The drivers' connections that a row's coroutine has open, by their numbers."""
    return {
        key: record.driver_connection
        for key, (record, _, of) in list(_open.items())
        if of is coroutine
    }


def _roll_back(raw: Any) -> bool:
    """Roll a driver's connection back; whether there was a transaction."""
    busy = _in_transaction(raw)
    try:
        raw.rollback()
    except Exception as error:  # noqa: BLE001  drivers have errors of their own
        log.warning(
            "a connection that a function left open could not be rolled back: %s", error
        )
    return busy


def _in_transaction(raw: Any) -> bool:
    if hasattr(raw, "in_transaction"):  # sqlite3
        return bool(raw.in_transaction)
    if hasattr(raw, "server_status"):  # PyMySQL: SERVER_STATUS_IN_TRANS
        return bool(raw.server_status & 1)
    info = getattr(raw, "info", None)  # psycopg: 0 is idle
    return bool(getattr(info, "transaction_status", 0))


def _row_connection() -> Any:
    session = ROW_SESSION.get(None)
    try:
        return session and session.row_transaction.raw.driver_connection
    except Exception:  # noqa: BLE001  a session that is rolled back anyway
        return None
