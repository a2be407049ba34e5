"""The ledger: what was handed over, claimed and finished. Its unique constraint is the idempotency.

Two tables stand in each database of the app: `jittask_ledger`, one row for each task (an identity: template, row key,
nominal occurrence, generation), and `jittask_state`, which holds leases, watermarks and the version of the tables.
All instants are stored in UTC. Functions take a connection and never commit: the caller's transaction does.
"""

from __future__ import annotations

import uuid
from collections import namedtuple
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, ClassVar, cast

from sqlalchemy import (
    Connection,
    Dialect,
    Index,
    MetaData,
    UniqueConstraint,
    and_,
    bindparam,
    delete,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.mysql import DATETIME as MYSQL_DATETIME
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import class_mapper
from sqlalchemy.types import DateTime, String, Text, TypeDecorator
from sqlmodel import Field, SQLModel

from jittask_prefect.errors import LedgerError
from jittask_prefect.ledger.prepared import Prepared, prepared, schema_of

SCHEMA_VERSION = "3"
NAMESPACE = uuid.UUID("6f6d2f0e-6a59-4b0e-9d0c-6a6974746173")
OPEN = ("pending", "executing")
MYSQL_DUPLICATE = 1062
FINAL = ("completed", "error", "ended")


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: aware in Python, UTC without a zone in the database, to the microsecond."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return dialect.type_descriptor(
            MYSQL_DATETIME(fsp=6)
            if dialect.name in ("mysql", "mariadb")
            else DateTime()
        )

    def process_bind_param(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class Stored(TypeDecorator[datetime]):
    """A row's date as its column holds it: a wall time, or UTC where the column holds instants; to the microsecond."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return dialect.type_descriptor(
            MYSQL_DATETIME(fsp=6)
            if dialect.name in ("mysql", "mariadb")
            else DateTime()
        )


class _Own(SQLModel):
    """Tables apart from the app's own metadata: no `create_all` of theirs makes them (Alembic: `docs/existing.md`)."""

    metadata: ClassVar[MetaData] = MetaData()


class Entry(_Own, table=True):
    """One task.

    Attributes:
        task_id: UUIDv5 of the identity; for an execution of a scheduled task its flow run's id.
        row_key: The row's key as text; empty for scheduled tasks.
        nominal: The occurrence before the holiday move; null for executions outside the schedule.
        anchor: Start of the row's series (its date with the offset): tells a changed date from a repeated save. Null
            once the row is gone: a row that is inserted with its key later has a past of its own.
        start_value: The row's `startField` as the database held it when the task was planned; null where the row is to
            be looked at again. A row whose dates stand here needs no planning.
        end_value: Its `endField` likewise.
        batch: Its batch's number among those of its template and due time; null where it has a flow run of its own.
        outcome: How it ended: completed, failed, timeout, died, forced, superseded, missed, skipped.
        dirty: Prefect does not reflect this row yet.
        owner: Who executes it, as `host:pid:token`.
        returned: `afterReturn` has been called, or is not to be: nothing of the task was to run any more.
        created: When the task became known; lateness counts from here where it is after the due time.
    """

    __tablename__ = "jittask_ledger"
    __table_args__ = (
        UniqueConstraint(
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

    task_id: str = Field(primary_key=True, sa_type=String(36))
    template: str = Field(sa_type=String(80))
    model: str | None = Field(default=None, sa_type=String(80))
    row_key: str = Field(default="", sa_type=String(255))
    nominal: datetime | None = Field(default=None, sa_type=UtcDateTime)
    generation: int = 0
    anchor: datetime | None = Field(default=None, sa_type=UtcDateTime)
    start_value: datetime | None = Field(default=None, sa_type=Stored)
    end_value: datetime | None = Field(default=None, sa_type=Stored)
    due: datetime = Field(sa_type=UtcDateTime)
    created: datetime = Field(sa_type=UtcDateTime)
    status: str = Field(default="pending", sa_type=String(12))
    outcome: str | None = Field(default=None, sa_type=String(12))
    message: str = Field(default="", sa_type=Text)
    flow_run_id: str | None = Field(default=None, sa_type=String(36), index=True)
    batch: int | None = None
    dirty: bool = True
    owner: str | None = Field(default=None, sa_type=String(200))
    lease_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    attempt: int = 0
    started: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished: datetime | None = Field(default=None, sa_type=UtcDateTime)
    result: str | None = Field(default=None, sa_type=Text)
    func_name: str | None = Field(default=None, sa_type=String(200))
    arg_dict: str | None = Field(default=None, sa_type=Text)
    returned: bool = False


class State(_Own, table=True):
    """A named value with an optional end: leases, watermarks, the version of the tables."""

    __tablename__ = "jittask_state"

    name: str = Field(primary_key=True, sa_type=String(120))
    value: str = Field(default="", sa_type=String(255))
    until: datetime | None = Field(default=None, sa_type=UtcDateTime)


entries: Any = Entry.__table__  # type: ignore[attr-defined]
FORMER = "run:"  # and a flow run's id, in jittask_state: the task that had it
states: Any = State.__table__  # type: ignore[attr-defined]


# Tables


def version(connection: Connection) -> str | None:
    """The version of the tables, None where there are none."""
    if not sa_inspect(connection).has_table(
        "jittask_state", schema=schema_of(connection)
    ):
        return None
    return get(connection, "schema")


def there(connection: Connection, where: str = "") -> bool:
    """Whether there are the tables, of this version: for reading, which can do without.

    Args:
        connection: To the database.
        where: How an error calls it; by its own name where empty.

    Raises:
        LedgerError: They are of another version.
    """
    found = version(connection)
    if found not in (None, SCHEMA_VERSION):
        of = where or f"database {connection.engine.url.database}"
        raise LedgerError(
            f"{of} has ledger tables of version {found}, not {SCHEMA_VERSION}: run `jittask db upgrade`"
        )
    return found is not None


def require(connection: Connection, where: str) -> None:
    """Refuse to work without the tables.

    Raises:
        LedgerError: They are missing or of another version.
    """
    if not there(connection, where):
        raise LedgerError(f"{where} has no ledger tables: run `jittask db upgrade`")


# State: watermarks and leases


def get(connection: Connection, name: str) -> str | None:
    """The value of that name."""
    found = connection.execute(
        select(states.c.value).where(states.c.name == name)
    ).scalar()
    return None if found is None else str(found)


def starting_with(connection: Connection, prefix: str) -> dict[str, str]:
    """The values of all names that begin with a prefix, by name."""
    query = select(states.c.name, states.c.value).where(
        states.c.name.startswith(prefix, autoescape=True)
    )
    return {r.name: r.value for r in connection.execute(query)}


def put(connection: Connection, name: str, value: str | None) -> None:
    """Set a value; None removes it."""
    if value is None:
        connection.execute(delete(states).where(states.c.name == name))
    elif not connection.execute(
        update(states).where(states.c.name == name).values(value=value)
    ).rowcount:
        insert_once(connection, states, {"name": name, "value": value})


def take_lease(
    connection: Connection, name: str, owner: str, now: datetime, seconds: float
) -> bool:
    """Take or renew a lease that expires by itself, whatever happens to its owner.

    Args:
        name: What the lease is for.
        owner: Who takes it; the same owner may renew.
        now: The present instant.
        seconds: How long it holds without renewal.

    Returns:
        Whether the owner has it now.
    """
    until = now + timedelta(seconds=seconds)
    free = or_(
        states.c.value == owner,
        states.c.value == "",
        states.c.until.is_(None),
        states.c.until < now,
    )
    changed = connection.execute(
        update(states)
        .where(states.c.name == name, free)
        .values(value=owner, until=until)
    )
    return bool(changed.rowcount) or insert_once(
        connection, states, {"name": name, "value": owner, "until": until}
    )


def free_lease(connection: Connection, name: str, owner: str) -> None:
    """Give a lease back."""
    connection.execute(
        update(states)
        .where(states.c.name == name, states.c.value == owner)
        .values(value="", until=None)
    )


# Entries


def identity(
    app: str, template: str, row_key: str, nominal: datetime, generation: int
) -> str:
    """The id of a row's task: a UUIDv5 of template, row key, nominal occurrence and generation."""
    moment = nominal.astimezone(UTC).isoformat()
    return str(
        uuid.uuid5(
            NAMESPACE, "\x1f".join((app, template, row_key, moment, str(generation)))
        )
    )


def insert_once(connection: Connection, table: Any, values: Mapping[str, Any]) -> bool:
    """Insert a row unless its key is taken; whether it was inserted. Needs no savepoint, so it may stand first."""
    if connection.dialect.name in ("postgresql", "sqlite"):
        return bool(
            _unless_there(connection, table, values).run(connection, [values]).rowcount
        )
    try:
        # MariaDB undoes no more than the statement; its IGNORE would also cut what is too long.
        connection.execute(insert(table).values(**values))
    except IntegrityError as error:
        if getattr(error.orig, "args", ())[:1] != (MYSQL_DUPLICATE,):
            raise
        return False
    return True


def insert_all(
    connection: Connection, table: Any, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert rows, those left out whose key is taken."""
    if not rows:
        return
    if connection.dialect.name in ("postgresql", "sqlite"):
        _unless_there(connection, table, rows[0]).run(connection, rows).close()
        return
    for values in rows:
        insert_once(connection, table, values)


def _unless_there(
    connection: Connection, table: Any, values: Mapping[str, Any]
) -> Prepared:
    """The INSERT of such values."""
    kind = postgresql if connection.dialect.name == "postgresql" else sqlite
    columns = list(values)
    name = ("insert", table.name, *columns)
    return prepared(
        connection, name, lambda: kind.insert(table).on_conflict_do_nothing(), columns
    )


def of_rows(
    connection: Connection,
    templates: Sequence[str],
    keys: Sequence[str],
    trip: AbstractContextManager[Any] | None = None,
) -> dict[tuple[str, str], list[Entry]]:
    """What planning reads of the entries of some rows, by template and row key; they are only to be read.

    Args:
        connection: In a transaction.
        templates: Their full names.
        keys: The rows' keys.
        trip: Entered while the statements are sent; the answers are fetched after it.
    """
    found: dict[tuple[str, str], list[Entry]] = {
        (name, key): [] for name in templates for key in keys
    }
    asked = []
    with trip or nullcontext():
        for start in range(0, len(keys), 512):
            part = keys[start : start + 512]
            size = (
                1 << (len(part) - 1).bit_length()
            )  # few statements, and each key of the last one again and again
            query = prepared(
                connection,
                ("of rows", len(templates), size),
                partial(_of_rows, len(templates), size),
            )
            binds = {f"of{number}": name for number, name in enumerate(templates)}
            binds |= {
                f"row{number}": part[min(number, len(part) - 1)]
                for number in range(size)
            }
            asked.append((query, query.run(connection, [binds])))
    for query, cursor in asked:
        for record in query.records(cursor):
            entry = _Planned._make(record)
            found[entry.template, entry.row_key].append(cast(Entry, entry))
    return found


def _of_rows(templates: int, size: int) -> Any:
    names = [
        bindparam(f"of{number}", type_=entries.c.template.type)
        for number in range(templates)
    ]
    keys = [
        bindparam(f"row{number}", type_=entries.c.row_key.type)
        for number in range(size)
    ]
    columns = [entries.c[name] for name in _Planned._fields]
    return select(*columns).where(
        entries.c.template.in_(names), entries.c.row_key.in_(keys)
    )


def with_open(
    connection: Connection, template: str, after: str, most: int
) -> list[str]:
    """The keys of rows with a pending task, in order, from the one behind `after` on (empty: from the first)."""
    query = (
        select(entries.c.row_key)
        .where(
            entries.c.template == template,
            entries.c.status == "pending",
            entries.c.row_key > after,
        )
        .distinct()
        .order_by(entries.c.row_key)
        .limit(most)
    )
    return list(connection.execute(query).scalars())


# What planning reads of an entry; a model's instance would take ten times as long to make.
_Planned = namedtuple(
    "_Planned",
    "task_id template row_key nominal generation anchor start_value end_value due status outcome message flow_run_id",
)


def to_entry(record: Any) -> Entry:
    """A result row as an Entry that belongs to no session; a thousand at once, so not by SQLModel's own way."""
    entry = class_mapper(Entry).class_manager.new_instance()
    entry.__dict__.update(record._mapping)
    return entry


def find(connection: Connection, task_id: str) -> Entry | None:
    """The entry of a task id, or of a flow run's id; also of one that the task was made with and has no more."""
    record = _of_id(connection, task_id)
    if record is None and (first := get(connection, FORMER + task_id)) is not None:
        record = _of_id(connection, first)
    return None if record is None else to_entry(record)


def _of_id(connection: Connection, task_id: str) -> Any:
    query = select(entries).where(
        or_(entries.c.task_id == task_id, entries.c.flow_run_id == task_id)
    )
    return connection.execute(query).first()


def replace_run(connection: Connection, task_id: str, run_id: str) -> None:
    """Note that a task that `createTimerTask` made gets another flow run: its caller knows it by the one before."""
    before = connection.execute(
        select(entries.c.flow_run_id).where(entries.c.task_id == task_id)
    ).scalar()
    if before and before != run_id:
        put(connection, FORMER + before, task_id)


def of_run(connection: Connection, run_id: str) -> list[Entry]:
    """The entries of a flow run: one, or those of a batch."""
    found = connection.execute(
        select(entries)
        .where(entries.c.flow_run_id == run_id)
        .order_by(entries.c.task_id)
    )
    return [to_entry(record) for record in found]


def close(
    connection: Connection,
    task_id: str,
    *,
    outcome: str,
    message: str,
    now: datetime,
    status: str = "ended",
    within: Sequence[str] = ("pending",),
) -> bool:
    """Close a task that is in one of the given states; whether it was."""
    closed = {
        "status": status,
        "outcome": outcome,
        "message": message,
        "finished": now,
        "dirty": True,
    }
    changed = connection.execute(
        update(entries)
        .where(entries.c.task_id == task_id, entries.c.status.in_(within))
        .values(
            **closed, owner=None, lease_until=None, returned=outcome == "superseded"
        )
    )
    return bool(changed.rowcount)


def supersede(
    connection: Connection, tasks: Sequence[tuple[str, str]], now: datetime
) -> None:
    """Close pending tasks, each with a message, that are no longer what their rows say."""
    if tasks:
        of = [{"task": task_id, "why": why, "now": now} for task_id, why in tasks]
        prepared(connection, "supersede", _supersede).run(connection, of).close()


def _supersede() -> Any:
    values = {
        "status": "ended",
        "outcome": "superseded",
        "dirty": True,
        "returned": True,
        "start_value": None,
    }
    mine = and_(entries.c.task_id == bindparam("task"), entries.c.status == "pending")
    return (
        update(entries)
        .where(mine)
        .values(**values, finished=bindparam("now"), message=bindparam("why"))
    )


def look_again(connection: Connection, rows: Sequence[tuple[str, str]]) -> None:
    """Have the next sync plan rows, each with its template, whatever was planned for their dates before."""
    if rows:
        of = [{"of": template, "row": key} for template, key in rows]
        prepared(connection, "look again", _look_again).run(connection, of).close()


def _look_again() -> Any:
    mine = (
        entries.c.template == bindparam("of"),
        entries.c.row_key == bindparam("row"),
    )
    return (
        update(entries)
        .where(*mine, entries.c.start_value.is_not(None))
        .values(start_value=None)
    )


def end_lives(connection: Connection, rows: Sequence[tuple[str, str]]) -> None:
    """Note that rows, each with a template, are gone: what was done for them binds no other row of their keys."""
    if rows:
        of = [{"of": template, "row": key} for template, key in rows]
        prepared(connection, "end lives", _end_lives).run(connection, of).close()


def _end_lives() -> Any:
    mine = (
        entries.c.template == bindparam("of"),
        entries.c.row_key == bindparam("row"),
    )
    return (
        update(entries)
        .where(*mine, entries.c.anchor.is_not(None))
        .values(anchor=None, start_value=None)
    )


def of_former_life(found: Sequence[Entry]) -> list[Entry]:
    """What `end_lives` makes of entries that `of_rows` has read."""
    return [
        cast(Entry, cast(_Planned, entry)._replace(anchor=None, start_value=None))
        for entry in found
    ]


def mark(
    connection: Connection,
    tasks: Sequence[tuple[str, datetime | None, datetime | None]],
) -> None:
    """Write down from which dates of their rows tasks were planned."""
    if tasks:
        of = [
            {"task": task_id, "start": start, "end": end}
            for task_id, start, end in tasks
        ]
        prepared(connection, "mark", _mark).run(connection, of).close()


def _mark() -> Any:
    statement = update(entries).where(entries.c.task_id == bindparam("task"))
    return statement.values(start_value=bindparam("start"), end_value=bindparam("end"))
