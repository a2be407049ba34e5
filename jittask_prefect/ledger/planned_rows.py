"""Rows' tasks as the hook and the sync read and write them: many at once, by prepared statements.

A plan is applied in this order: supersede, forget, insert, remember. Only then do the remembered dates of a row hold.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection, Select, Update, bindparam, select, update

from jittask_prefect.ledger.entry import BLANK, Entry
from jittask_prefect.ledger.many_rows import insert_all
from jittask_prefect.ledger.prepared import name_of, prepared
from jittask_prefect.ledger.statements import update_task
from jittask_prefect.ledger.tables import entries


class KeptTimes(NamedTuple):
    """The values of a row that a task was planned from, as the ledger keeps them: dates, zone and calendar."""

    start: datetime | None
    end: datetime | None = None
    zone: str | None = None
    calendar: str | None = None

    def columns(self) -> dict[str, Any]:
        """The same by the columns of the ledger."""
        return dict(zip(TIMES, self, strict=True))


TIMES = ("start_value", "end_value", "zone_value", "calendar_value")
"""The columns of `KeptTimes`."""
TaskTimes = tuple[str, KeptTimes]
Row = tuple[str, str]
"""A template's full name and a row's key."""
KEYS_AT_ONCE = 512

# Reads

# The columns that planning reads; a dataclass would take several times as long to make.
_Planned = namedtuple(
    "_Planned",
    "task_id template row_key nominal generation anchor start_value end_value zone_value calendar_value due status "
    "outcome message flow_run_id not_before level",
)


def of_rows(
    connection: Connection,
    app: str,
    templates: Sequence[str],
    keys: Sequence[str],
    trip: AbstractContextManager[Any] | None = None,
) -> dict[Row, list[Entry]]:
    """The part of some rows' entries that planning reads, by template and row key; they are only to be read.

    Args:
        connection: In a transaction.
        app: The app's name.
        templates: Their full names.
        keys: The rows' keys.
        trip: Entered while the statements are sent; the answers are fetched afterwards.
    """
    found: dict[Row, list[Entry]] = {
        (name, key): [] for name in templates for key in keys
    }
    asked = []

    with trip or nullcontext():
        for start in range(0, len(keys), KEYS_AT_ONCE):
            part = keys[start : start + KEYS_AT_ONCE]
            # Few statements: sizes are powers of two, and the last key fills the rest.
            size = 1 << (len(part) - 1).bit_length()
            name = ("of rows", len(templates), size)
            make = partial(_of_rows, len(templates), size)
            query = prepared(connection, name, make)
            binds = {f"of{number}": name for number, name in enumerate(templates)}
            binds |= {
                f"row{number}": part[min(number, len(part) - 1)]
                for number in range(size)
            }
            asked.append((query, query.run(connection, [binds | {"app": app}])))

    for query, cursor in asked:
        for record in query.records(cursor):
            entry = _Planned._make(record)
            found[entry.template, entry.row_key].append(cast(Entry, entry))

    return found


def _of_rows(templates: int, size: int) -> Select[Any]:
    c = entries.c
    names = [bindparam(f"of{n}", type_=c.template.type) for n in range(templates)]
    keys = [bindparam(f"row{n}", type_=c.row_key.type) for n in range(size)]
    columns = [c[name] for name in _Planned._fields]
    mine = (c.app == bindparam("app", type_=c.app.type), c.template.in_(names))
    # What somebody asked for beside a row's occurrences is no part of its plan.
    occurrences = c.nominal.is_not(None)

    return select(*columns).where(*mine, c.row_key.in_(keys), occurrences)


def of_former_life(found: Sequence[Entry]) -> list[Entry]:
    """The entries of `of_rows` as `end_lives` leaves them."""
    return [
        cast(Entry, cast(_Planned, entry)._replace(anchor=None, start_value=None))
        for entry in found
    ]


def counted_anew(
    found: Sequence[Entry],
    times: KeptTimes,
    starts_of: Callable[[str | None], Sequence[datetime]],
) -> list[Entry]:
    """The entries of a row whose values are the same, and whose working days are counted by other days now.

    They belong to the row's present series, so that a task that was done stays done.

    Args:
        found: The row's entries.
        times: The row's values now.
        starts_of: The start of the row's series now, by level; several where no level has that name.
    """
    return [
        _moved_to(entry, starts_of(entry.level))
        if entry.anchor and _is_planned_from(entry, times)
        else entry
        for entry in found
    ]


def kept_times(entry: Entry) -> KeptTimes:
    """The values of its row that a task was planned from."""
    dates = entry.start_value, entry.end_value
    return KeptTimes(*dates, entry.zone_value, entry.calendar_value)


def _is_planned_from(entry: Entry, times: KeptTimes) -> bool:
    """Whether a task was planned from these values; the end counts for nothing."""
    return times.start is not None and kept_times(entry)._replace(
        end=None
    ) == times._replace(end=None)


def _moved_to(entry: Entry, starts: Sequence[datetime]) -> Entry:
    if len(starts) > 1:
        return entry
    [anchor] = starts
    nominal = anchor if entry.nominal == entry.anchor else entry.nominal
    if isinstance(entry, Entry):
        return replace(entry, anchor=anchor, nominal=nominal)
    return cast(Entry, entry._replace(anchor=anchor, nominal=nominal))


def rows_that_wait(
    connection: Connection, app: str, template: str, after: str, limit: int
) -> list[str]:
    """The keys of rows with a pending task, in order, from the key behind `after` on (empty: from the first)."""
    mine = (
        entries.c.app == app,
        entries.c.template == template,
        entries.c.status == "pending",
        entries.c.nominal.is_not(None),
        entries.c.row_key > after,
    )
    query = select(entries.c.row_key).where(*mine).distinct()
    found = connection.execute(query.order_by(entries.c.row_key).limit(limit))

    return list(found.scalars())


# Writes

_NEW = {name: value for name, value in BLANK.items() if value is not None}
"""The columns of a new task that are not null; a driver takes as long for each null as for any value."""


def plan(connection: Connection, tasks: Sequence[dict[str, Any]]) -> None:
    """Insert tasks: nothing → pending, or → ended where the occurrence was missed; a known identity is left out.

    Args:
        connection: In a transaction.
        tasks: The same columns of each; the others are as for any new task.
    """
    insert_all(connection, entries, [_NEW | values for values in tasks])


def supersede(
    connection: Connection, tasks: Sequence[tuple[str, str]], now: datetime
) -> None:
    """End tasks, each with a message, that no longer agree with their rows. Condition: pending."""
    of = [{"task": task_id, "why": why, "now": now} for task_id, why in tasks]
    _write(connection, "supersede", _supersede, of)


def _supersede() -> Update:
    values: dict[str, Any] = {
        "status": "ended",
        "queue": None,
        "outcome": "superseded",
        "message": bindparam("why"),
        "finished": bindparam("now"),
        "dirty": True,
        "returned": True,
        "start_value": None,
    }
    mine = (entries.c.task_id == bindparam("task"), entries.c.status == "pending")
    return update_task().where(*mine).values(**values)


def forget_dates(connection: Connection, app: str, rows: Sequence[Row]) -> None:
    """Have the next sync plan rows, whatever was planned for their dates before."""
    _clear(connection, app, rows, "start_value")


def end_lives(connection: Connection, app: str, rows: Sequence[Row]) -> None:
    """Note that rows are gone: tasks done for them bind no later row of the same key."""
    _clear(connection, app, rows, "anchor", "start_value")


def _clear(connection: Connection, app: str, rows: Sequence[Row], *names: str) -> None:
    """Set columns of all tasks of some rows to null, where the first of the columns is not."""
    of = [{"app": app, "of": template, "row": key} for template, key in rows]
    _write(connection, f"clear {names[0]}", partial(_clearing, names), of)


def _clearing(names: Sequence[str]) -> Update:
    mine = (
        entries.c.app == bindparam("app", type_=entries.c.app.type),
        entries.c.template == bindparam("of"),
        entries.c.row_key == bindparam("row"),
        entries.c[names[0]].is_not(None),
    )
    return update(entries).where(*mine).values(**dict.fromkeys(names))


def remember_dates(connection: Connection, tasks: Sequence[TaskTimes]) -> None:
    """Write down from which values of their rows tasks were planned."""
    of = [{"task": task, **times._asdict()} for task, times in tasks]
    _write(connection, "remember", _remember_dates, of)


def _remember_dates() -> Update:
    statement = update(entries).where(entries.c.task_id == bindparam("task"))
    names = zip(TIMES, KeptTimes._fields, strict=True)
    return statement.values({column: bindparam(name) for column, name in names})


def _write(
    connection: Connection,
    name: str,
    make: Callable[[], Update],
    of: Sequence[Mapping[str, Any]],
) -> None:
    if of:
        prepared(connection, name, make).run(connection, of).close()


def count_rows(connection: Connection) -> None:
    """Have PostgreSQL look at how many entries there are; a role that does not own the table changes nothing.

    PostgreSQL itself looks a minute later. A ledger that grows from empty to many thousands in one sync would be read
    as a whole until then, for each piece of rows.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"ANALYZE {name_of(entries, connection)}")
