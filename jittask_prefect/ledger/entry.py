"""A task as the ledger holds it, and the reads that many need: by id, by flow run."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from hashlib import sha1
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Engine, literal, or_, select, tuple_

from jittask_prefect.ledger.keys import from_json
from jittask_prefect.ledger.lease_time import caller_time, clock
from jittask_prefect.ledger.tables import entries

NAMESPACE = uuid.UUID("6f6d2f0e-6a59-4b0e-9d0c-6a6974746173")


@dataclass(frozen=True, slots=True)
class Entry:
    """A task. The fields are the columns of `jittask_ledger`, in their order.

    Attributes:
        task_id: UUIDv5 of the identity; for an execution of a scheduled task its flow run's id.
        app: The app's name.
        row_key: The row's key as text; empty for scheduled tasks.
        nominal: The occurrence before the holiday move; null for executions outside the schedule.
        generation: Rises with each reschedule of the row.
        anchor: Start of the row's series (its date with the offset): tells a changed date from a repeated save. Null
            once the row is gone: a row that is inserted with its key later has a past of its own.
        start_value: The row's `startField` as the database held it when the task was planned; null where the row is to
            be looked at again. A row whose dates stand here needs no planning.
        end_value: Its `endField` likewise.
        created: When the task became known; lateness counts from here where this is after the due time.
        status: pending, executing, completed, error or ended.
        queue: Of a pending task: `waiting` for a free place, `admitted` to a place. Else null.
        outcome: How the task ended: completed, failed, timeout, died, forced, superseded, missed, skipped.
        flow_run_id: The flow run that executes the task, or is to.
        batch: Its batch's number among those of its template and due time; null where the task has a flow run of its own.
        dirty: Prefect does not reflect this task yet.
        owner: The executing process, as `host:pid:token`.
        lease_until: Until when the owner is taken to be alive.
        attempt: How often the task was begun.
        result: The function's result, as JSON.
        func_name: The function of `createTimerTask`, and in `arg_dict` its arguments as JSON.
        returned: `afterReturn` has been called, or is not to be: nothing of the task was to run any more.
        level: The name of the offset that the occurrence comes from, where the task has several; else null.
        zone_value: The value of the row's `timezoneField` when the task was planned, empty where the row had none; null
            where the task has no such field.
        calendar_value: The value of its `calendarField` likewise.
        not_before: The opening that a late task waits for, or waited for: it counts as due then. Null where the task
            waited for none.
        first_run_id: The flow run that a task of `createTimerTask` was made with: its caller knows the task by that id.
        progress: Of an executing task: `claimed` until its function begins. Of a task that was ended at work: `left`
            once its function has returned. Else null.
    """

    task_id: str
    app: str
    template: str
    model: str | None
    row_key: str
    nominal: datetime | None
    generation: int
    anchor: datetime | None
    start_value: datetime | None
    end_value: datetime | None
    due: datetime
    created: datetime
    status: str
    queue: str | None
    outcome: str | None
    message: str
    flow_run_id: str | None
    batch: int | None
    dirty: bool
    owner: str | None
    lease_until: datetime | None
    attempt: int
    started: datetime | None
    finished: datetime | None
    result: str | None
    func_name: str | None
    arg_dict: str | None
    returned: bool
    level: str | None
    zone_value: str | None
    calendar_value: str | None
    not_before: datetime | None
    first_run_id: str | None
    progress: str | None

    @property
    def known_id(self) -> str:
        """The id by which functions, records and callers know the task; the same for all flow runs that it gets."""
        return self.first_run_id or self.task_id

    @property
    def late_from(self) -> datetime:
        """From when on the task is late: its due time, or the opening that it waits for, or waited for."""
        return self.not_before or self.due

    @property
    def outside_schedule(self) -> bool:
        """Whether somebody asked for the task, beside the occurrences of its schedule or of its row's date."""
        return self.nominal is None

    @property
    def returned_value(self) -> Any:
        """The function's result; None where there is none."""
        return None if self.result is None else from_json(self.result)

    def values(self) -> dict[str, Any]:
        """The columns' values, by name."""
        return {name: getattr(self, name) for name in COLUMNS}

    def claimed_in(self, run_id: str) -> Entry:
        """The task once more, claimed in a flow run; `dataclasses.replace` takes five times as long."""
        values = list(_VALUES(self))
        values[_RUN], values[_ATTEMPT] = run_id, self.attempt + 1
        return Entry(*values)


COLUMNS = tuple(field.name for field in fields(Entry))
_VALUES = attrgetter(*COLUMNS)
_RUN, _ATTEMPT = COLUMNS.index("flow_run_id"), COLUMNS.index("attempt")
BLANK: dict[str, Any] = {
    **dict.fromkeys(COLUMNS),
    "row_key": "",
    "generation": 0,
    "status": "pending",
    "message": "",
    "dirty": True,
    "attempt": 0,
    "returned": False,
}
"""The values of a new task where nothing else is said."""


def new_entry(**values: Any) -> Entry:
    """A task that no table holds yet: task_id, app, template, due and created are needed."""
    return Entry(**(BLANK | values))


def to_entry(record: Any) -> Entry:
    """A result row of `select(entries, …)` as an Entry."""
    return Entry(*record[: len(COLUMNS)])


def to_entries(records: Iterable[Any]) -> list[Entry]:
    """Result rows of `select(entries, …)` as entries."""
    return [to_entry(record) for record in records]


def identity(
    app: str, template: str, row_key: str, nominal: datetime, generation: int
) -> str:
    """The id of a row's task: a UUIDv5 of app, template, row key, nominal occurrence and generation."""
    moment = nominal.astimezone(UTC).isoformat()
    parts = (app, template, row_key, moment, str(generation))
    return _uuid5("\x1f".join(parts))


def _uuid5(name: str) -> str:
    """`str(uuid.uuid5(NAMESPACE, name))`, without the object: a first sync makes one for each row."""
    text = sha1(NAMESPACE.bytes + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(text[16], 16) & 3]
    return (
        f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}"
    )


def find_entry(connection: Connection, task_id: str) -> Entry | None:
    """The entry of a task id, or of a flow run's id; also of a flow run that the task was made with and has no more."""
    names = (entries.c.task_id, entries.c.flow_run_id, entries.c.first_run_id)
    mine = or_(*(name == task_id for name in names))
    record = connection.execute(select(entries).where(mine)).first()
    return None if record is None else to_entry(record)


def entries_of_run(connection: Connection, run_id: str) -> list[Entry]:
    """The entries of a flow run: a single task's, or a batch's."""
    query = select(entries).where(entries.c.flow_run_id == run_id)
    return to_entries(connection.execute(query.order_by(entries.c.task_id)))


def in_order(
    engine: Engine,
    app: str,
    size: int,
    *where: Any,
    start: tuple[datetime, str] | None = None,
) -> Iterator[list[Entry]]:
    """Entries of an app in the order of due time and id, some at a time; the database is free in between.

    Args:
        engine: To the ledger.
        app: The app's name.
        size: How many at a time.
        where: Conditions.
        start: Due time and id of the entry behind which to begin.
    """
    place = (entries.c.due, entries.c.task_id)
    while True:
        query = select(entries).where(entries.c.app == app, *where)
        if start is not None:
            at = zip(start, place, strict=True)
            behind = tuple_(*(literal(value, column.type) for value, column in at))
            query = query.where(entries.c.due >= start[0], tuple_(*place) > behind)
        with engine.connect() as connection:
            found = connection.execute(query.order_by(*place).limit(size))
            part = to_entries(found)
        if part:
            yield part
        if len(part) < size:
            return
        start = (part[-1].due, part[-1].task_id)


def owners_of(connection: Connection, task_ids: Sequence[str]) -> set[str | None]:
    """Who executes tasks; None among them where nobody executes a task: the task was ended."""
    mine = (entries.c.task_id.in_(task_ids), entries.c.status == "executing")
    found = connection.execute(select(entries.c.owner).where(*mine)).scalars().all()
    left = {None} if len(found) < len(task_ids) else set[None]()
    return {*found, *left}


def living_tasks(connection: Connection, app: str, now: datetime) -> set[str]:
    """The tasks that are executing and whose lease holds."""
    mine = (
        entries.c.app == app,
        entries.c.status == "executing",
        entries.c.lease_until >= clock(caller_time(now)),
    )
    return set(connection.execute(select(entries.c.task_id).where(*mine)).scalars())


def without_return(connection: Connection, app: str, before: datetime) -> list[Entry]:
    """The tasks that ended before an instant and whose `afterReturn` nobody has called: the caller to be has died."""
    query = select(entries).where(
        entries.c.returned.is_(False),
        entries.c.finished < before,
        entries.c.app == app,
    )
    return to_entries(connection.execute(query))
