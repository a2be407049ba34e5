"""Database connections that a function leaves open: their transactions would lock others out, for as long as it lives.

Whatever pool of SQLAlchemy they are from, each is noted with its thread when it is taken, until it is given back.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from sqlalchemy import event
from sqlalchemy.pool import Pool

from jittask_prefect.elements.row_session import ROW_SESSION
from jittask_prefect.errors import JittaskError

OURS = "jittask-"  # the threads of ours, which give theirs back
_open: dict[int, tuple[Any, int]] = {}
log = logging.getLogger("jittask")


class LeftOpenError(JittaskError):
    """the function left a transaction open: it was rolled back"""


def _taken(raw: Any, record: Any, proxy: Any) -> None:
    if not threading.current_thread().name.startswith(OURS):
        _open[id(record)] = record, threading.get_ident()


def _given_back(raw: Any, record: Any) -> None:
    _open.pop(id(record), None)


event.listen(Pool, "checkout", _taken)
event.listen(Pool, "checkin", _given_back)
event.listen(Pool, "detach", _given_back)


def there() -> set[int]:
    """The connections that are open now."""
    return set(_open)


def close(before: set[int]) -> None:
    """Roll back what this thread has opened since, and not given back; the row's session is not the function's.

    Args:
        before: What `there` said then.

    Raises:
        LeftOpenError: There was a transaction in it.
    """
    mine = threading.get_ident()
    new = [
        record
        for key, (record, thread) in list(_open.items())
        if key not in before and thread == mine
    ]
    kept = _of_row() if new else None
    left = [
        raw
        for record in new
        if (raw := record.driver_connection) is not None and raw is not kept
    ]
    if any([roll_back(raw) for raw in left]):
        raise LeftOpenError


def of_thread(thread: int | None) -> list[Any]:
    """The drivers' connections that a thread has open."""
    return [
        record.driver_connection for record, of in list(_open.values()) if of == thread
    ]


def roll_back(raw: Any) -> bool:
    """Roll a driver's connection back; whether there was a transaction."""
    busy = _busy(raw)
    try:
        raw.rollback()
    except Exception as error:  # noqa: BLE001  drivers have errors of their own, and asynchronous ones another way
        log.warning(
            "a connection that a function left open could not be rolled back: %s", error
        )
    return busy


def _busy(raw: Any) -> bool:
    if hasattr(raw, "in_transaction"):  # sqlite3
        return bool(raw.in_transaction)
    if hasattr(raw, "server_status"):  # PyMySQL: SERVER_STATUS_IN_TRANS
        return bool(raw.server_status & 1)
    return bool(
        getattr(getattr(raw, "info", None), "transaction_status", 0)
    )  # psycopg: 0 is idle


def _of_row() -> Any:
    session = ROW_SESSION.get(None)
    try:
        return (
            None if session is None else session.row_transaction.raw.driver_connection
        )
    except Exception:  # noqa: BLE001  a session that is to be rolled back anyway
        return None
