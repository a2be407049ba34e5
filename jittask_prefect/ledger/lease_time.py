"""Leases go by the database's clock: hosts whose clocks differ agree on whose lease is over.

`caller_time` alone decides whose clock counts. Tests set the caller's clock, so that time stays an argument there::

    lease_time.use_clock_of_caller()
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, literal, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from jittask_prefect.ledger.tables import UtcDateTime

_by_caller = [False]


def use_clock_of_caller(by_caller: bool = True) -> None:
    """Have leases of this process go by the instants that callers give, instead of the database's clock."""
    _by_caller[0] = by_caller


def caller_time(now: datetime, seconds: float = 0.0) -> datetime | None:
    """The instant that a lease goes by, some seconds from now; None: the database's clock says."""
    return now + timedelta(seconds=seconds) if _by_caller[0] else None


class _Clock(FunctionElement[datetime]):
    """The database's clock in UTC, some seconds from now; a clock that goes on within a transaction."""

    type = UtcDateTime()
    name = "jittask_clock"
    inherit_cache = True


@compiles(_Clock, "postgresql")
def _postgresql(element: Any, compiler: Any, **keys: Any) -> str:
    seconds = compiler.process(element.clauses, **keys)
    return f"(timezone('utc', clock_timestamp()) + make_interval(secs => {seconds}))"


@compiles(_Clock, "sqlite")
def _sqlite(element: Any, compiler: Any, **keys: Any) -> str:
    seconds = compiler.process(element.clauses, **keys)
    now = f"strftime('%Y-%m-%d %H:%M:%f', 'now', ({seconds}) || ' seconds')"
    return f"({now} || '000')"  # six digits, as SQLAlchemy writes a DateTime


@compiles(_Clock, "mysql")
@compiles(_Clock, "mariadb")
def _mysql(element: Any, compiler: Any, **keys: Any) -> str:
    seconds = compiler.process(element.clauses, **keys)
    return f"(UTC_TIMESTAMP(6) + INTERVAL ({seconds}) SECOND)"


def clock(
    at: datetime | ColumnElement[Any] | None, seconds: float | ColumnElement[Any] = 0.0
) -> ColumnElement[Any]:
    """A lease's instant in a statement: the caller's where given, else the database's, some seconds from now.

    Args:
        at: The answer of `caller_time`, or a parameter for that.
        seconds: The seconds, or a parameter for them.
    """
    if not isinstance(at, ColumnElement):
        at = bindparam(None, at, type_=UtcDateTime())
    return func.coalesce(at, _Clock(seconds), type_=UtcDateTime())


def is_over(connection: Connection, until: datetime, now: datetime) -> bool:
    """Whether a lease is over, by the database's clock.

    Args:
        connection: To the database that has the lease.
        until: The lease's end.
        now: The caller's instant, for tests.
    """
    over = literal(until, UtcDateTime()) < clock(caller_time(now))
    return bool(connection.execute(select(over)).scalar())
