"""The connections that an engine's pool gives at once, and the rows at work that they suffice for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqlalchemy import Engine
from sqlalchemy.pool import NullPool, QueuePool

from jittask_prefect.errors import JittaskError

if TYPE_CHECKING:
    from jittask_prefect.elements.types import DateFieldType

BESIDE_ROWS = 2
"""Connections for all that is no row: claims, planning, the hand-over."""


def parallel_notes(template: DateFieldType) -> Iterator[str]:
    """Limits that `parallel` meets at run time, each with the next step."""
    app, parallel = template.app, template.cfg.parallel
    try:
        engine = app.engine(app.database_of(template.model_name))
    except JittaskError:
        return  # `problems` says so
    if parallel == 1:
        return
    if engine.dialect.name == "sqlite":
        yield f"parallel {parallel} on SQLite, where one row writes at a time; only waiting for others goes on at once"
    if parallel > app.cfg.maxConcurrency:
        yield (
            f"parallel {parallel}, but maxConcurrency {app.cfg.maxConcurrency}, for which each row at work counts: "
            f"lower parallel, or raise maxConcurrency to {parallel} or more"
        )
    if (most := most_rows(engine, parallel)) < parallel:
        need = parallel * _of_row(engine) + BESIDE_ROWS
        yield (
            f"parallel {parallel} needs {need} connections, and the pool of the engine gives {given_at_once(engine)} "
            f"(pool_size and max_overflow): lower parallel to {most}, or name an engine with a larger pool (`engine`); "
            f"until then {most} rows are at work at once"
        )


def most_rows(engine: Engine, wanted: int) -> int:
    """How many rows may be at work at once; at least 1.

    Args:
        engine: The engine, which has its pool's limits.
        wanted: The number where the pool suffices.
    """
    given = given_at_once(engine)
    if given is None:
        return wanted
    return max(1, min(wanted, (given - BESIDE_ROWS) // _of_row(engine)))


def given_at_once(engine: Engine) -> int | None:
    """How many connections the pool gives at once; None for a pool without a limit."""
    pool = engine.pool
    if isinstance(pool, NullPool):
        return None
    if not isinstance(pool, QueuePool):
        return 1  # a connection that all share, or one of each thread
    unlimited = pool.size() == 0 or pool._max_overflow < 0
    return None if unlimited else pool.size() + pool._max_overflow


def _of_row(engine: Engine) -> int:
    """A row's connection; on SQLite the lease, which renews itself meanwhile, has another."""
    return 2 if engine.dialect.name == "sqlite" else 1
