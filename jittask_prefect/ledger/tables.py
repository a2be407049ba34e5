"""The two tables of the ledger and the types of their columns; they stand in each database that has rows of the app.

`jittask_ledger` has a row for each task. `jittask_state` has named values: leases, watermarks, the tables' version.
All instants are UTC. Several apps may share a database: the column `app` keeps them apart.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    Index,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    and_,
    func,
    or_,
)
from sqlalchemy.types import DateTime, String, Text, TypeDecorator

OPEN = ("pending", "executing")
FINAL = ("completed", "error", "ended")
CLAIMED = "claimed"
"""The value of `progress` of a task that is executing, and whose function has not begun."""
LEFT = "left"
"""The value of `progress` of a task that was ended while at work, and whose function has returned since."""


class ColumnDateTime(TypeDecorator[datetime]):
    """A row's date as its column holds the date: a wall time, or UTC for a column of instants; to the microsecond."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name not in ("mysql", "mariadb"):
            return dialect.type_descriptor(DateTime())
        from sqlalchemy.dialects.mysql import DATETIME

        return dialect.type_descriptor(DATETIME(fsp=6))

    def bind_processor(
        self, dialect: Dialect
    ) -> Callable[[datetime | None], Any] | None:
        """The same text for SQLite as SQLAlchemy writes, in a fifth of the time: a first sync writes half a million."""
        if dialect.name != "sqlite":
            return super().bind_processor(dialect)
        convert = self.process_bind_param

        def text(value: datetime | None) -> str | None:
            at = convert(value, dialect)
            return None if at is None else at.isoformat(" ", "microseconds")

        return text

    def process_bind_param(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        return value


class UtcDateTime(ColumnDateTime):
    """An instant: aware in Python, UTC without a zone in the database; to the microsecond."""

    cache_ok = True

    def process_bind_param(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


metadata = MetaData()
"""Apart from the app's own metadata: no `create_all` of the app makes these tables (Alembic: `docs/existing.md`)."""

entries = Table(
    "jittask_ledger",
    metadata,
    Column("task_id", String(36), primary_key=True),
    Column("app", String(80), nullable=False),
    Column("template", String(80), nullable=False),
    Column("model", String(80)),
    Column("row_key", String(255), nullable=False),
    Column("nominal", UtcDateTime),
    Column("generation", Integer, nullable=False),
    Column("anchor", UtcDateTime),
    Column("start_value", ColumnDateTime),
    Column("end_value", ColumnDateTime),
    Column("due", UtcDateTime, nullable=False),
    Column("created", UtcDateTime, nullable=False),
    Column("status", String(12), nullable=False),
    Column("queue", String(12)),
    Column("outcome", String(12)),
    Column("message", Text, nullable=False),
    Column("flow_run_id", String(36), index=True),
    Column("batch", Integer),
    Column("dirty", Boolean, nullable=False),
    Column("owner", String(200)),
    Column("lease_until", UtcDateTime),
    Column("attempt", Integer, nullable=False),
    Column("started", UtcDateTime),
    Column("finished", UtcDateTime),
    Column("result", Text),
    Column("func_name", String(200)),
    Column("arg_dict", Text),
    Column("returned", Boolean, nullable=False),
    Column("level", String(64)),
    Column("zone_value", String(64)),
    Column("calendar_value", String(80)),
    Column("not_before", UtcDateTime),
    Column("first_run_id", String(36)),
    Column("progress", String(12)),
    UniqueConstraint(
        "app",
        "template",
        "row_key",
        "nominal",
        "generation",
        name="uq_jittask_ledger_identity",
    ),
    Index("ix_jittask_ledger_open", "status", "due", "template"),
    Index("ix_jittask_ledger_dirty", "dirty", "due"),
    Index("ix_jittask_ledger_due", "template", "due"),
    Index("ix_jittask_ledger_return", "returned", "finished"),
    Index("ix_jittask_ledger_planned", "template", "row_key", "start_value"),
)


def of_app(app: str) -> ColumnElement[bool]:
    """Of an entry in a query: whether the task is this app's; another app may have equal names."""
    return entries.c.app == app


outside_schedule = entries.c.nominal.is_(None)
"""Of an entry in a query: whether somebody asked for the task, beside the occurrences of its schedule or row."""

late_from = func.coalesce(entries.c.not_before, entries.c.due)
"""Of an entry in a query: the same as `Entry.late_from`."""


def late_before(at: datetime) -> ColumnElement[bool]:
    """Of an entry in a query: whether the task was due, and its opening hours had come, before an instant."""
    opened = or_(entries.c.not_before.is_(None), entries.c.not_before < at)
    return and_(entries.c.due < at, opened)


states = Table(
    "jittask_state",
    metadata,
    Column("app", String(80), primary_key=True),
    Column("name", String(120), primary_key=True),
    Column("value", String(255), nullable=False),
    Column("until", UtcDateTime),
)
"""Who writes which name: `sync` (the lease of the sync) and `turn` (the lock of those who count executions) the
functions of `state_table` and `limits`; `rate:TEMPLATE` `rate`; `schema` and `schema:oldest` `versions`; `identity` `guard`;
`rows:TEMPLATE` `watermarks`; `retention:…` `retention`; `handover:…` and `agreed` the sync; `paused` `pause`; `renewed` and `renewed:…`
`deploying/renewal_memory`; `pages` and `page:…` `records/template_pages`, `overview` `records/overview_page`;
`idle:RUN` `running/sync_flow`; `named:…` `deploying/next_names`."""
