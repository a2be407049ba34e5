"""The ledger's part of an app's page: a few statements for each database, however many tasks the app has."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Subquery,
    and_,
    case,
    cast,
    func,
    literal,
    not_,
    or_,
    select,
    union_all,
)
from sqlalchemy.types import String

from jittask_prefect.ledger.tables import (
    FINAL,
    OPEN,
    entries,
    late_before,
    late_from,
    of_app,
)
from jittask_prefect.records.app_facts import LATE_AFTER, Last, Open

NAMES = 200
"""Names in a statement: SQLite takes 500 parts of a union at most."""
MESSAGE_LENGTH = 200
WORST = ("error", "ended", "completed")
"""The statuses of ended tasks, the worst first."""
NEVER = datetime(2000, 1, 1, tzinfo=UTC)
HourCounts = dict[tuple[str, datetime], Counter[str]]


@dataclass
class LedgerFacts:
    """The facts of an app's ledgers.

    Attributes:
        open: By template, its open tasks.
        last: By template, its last task that ended, with the number of failures in a row.
        hours: The tasks of each window, by template and hour.
    """

    open: dict[str, Open] = field(default_factory=dict)
    last: dict[str, Last] = field(default_factory=dict)
    hours: list[HourCounts] = field(default_factory=list)

    @classmethod
    def of(cls, windows: Sequence[tuple[datetime, datetime]]) -> LedgerFacts:
        """The facts before a ledger is read, with room for some windows."""
        return cls(hours=[defaultdict(Counter) for _ in windows])


def read_ledger(
    connection: Connection,
    app: str,
    names: Sequence[str],
    now: datetime,
    windows: Sequence[tuple[datetime, datetime]],
    border: datetime,
    facts: LedgerFacts,
) -> None:
    """Add the facts of one ledger to the facts of an app.

    Args:
        connection: To the database.
        app: The app's name.
        names: The full names of its templates.
        now: The present instant.
        windows: The spans of time to count by hour, each from a full hour of the app's zone on.
        border: The instant from which rows tell what is pending, instead of the ledger.
        facts: Takes the findings.
    """
    read_open(connection, app, now, facts)
    for window, counts in zip(windows, facts.hours, strict=True):
        for name, at, status, count in _by_hour(connection, app, now, window, border):
            counts[name, at][status] += count
    for start in range(0, len(names), NAMES):
        _read_last(connection, app, names[start : start + NAMES], now, facts)


# Open tasks


def _status(now: datetime) -> ColumnElement[Any]:
    """The status for people: a pending task is overdue some time after its due time, or after the opening for which the task waits."""
    late = and_(entries.c.status == "pending", late_before(now - LATE_AFTER))
    return case((late, "overdue"), else_=entries.c.status)


def read_open(
    connection: Connection, app: str, now: datetime, facts: LedgerFacts
) -> None:
    """Add the open tasks of one ledger, counted by template and status; arguments as of `read_ledger`."""
    c = entries.c
    # Grouped by the columns of a subquery: PostgreSQL takes the same expression with other parameters for a different one.
    shown, due = _status(now).label("shown"), late_from.label("due")
    columns = (c.app, c.template, shown, due)
    of = select(*columns).where(c.status.in_(OPEN)).subquery().c
    query = select(of.app, of.template, of.shown, func.count(), func.min(of.due))
    query = query.group_by(of.app, of.template, of.shown)
    for owner, name, status, count, first in connection.execute(query):
        # A condition on the app would have SQLite walk through all tasks of the app, by the index of identities.
        if owner != app:
            continue
        before = facts.open.get(name, Open())
        after = {
            "pending": before.pending,
            "overdue": before.overdue,
            "executing": before.executing,
        }
        after[status] += int(count)
        next_due, since = before.next_due, before.late_since
        if status == "pending":
            next_due = min(filter(None, (next_due, first)))
        elif status == "overdue":
            since = min(filter(None, (since, first)))
        facts.open[name] = Open(**after, late_since=since, next_due=next_due)


# Tasks by hour


def _by_hour(
    connection: Connection,
    app: str,
    now: datetime,
    window: tuple[datetime, datetime],
    border: datetime,
) -> Iterator[tuple[str, datetime, str, int]]:
    """The number of tasks of each template, hour and status; superseded ones were never to run."""
    c = entries.c
    low, high = window
    of_rows_beyond = and_(c.row_key != "", c.status == "pending", c.due > border)
    mine = (
        of_app(app),
        c.status.in_((*OPEN, *FINAL)),  # by the index on status and due time
        c.due >= low,
        c.due < high,
        or_(c.outcome.is_(None), c.outcome != "superseded"),
        not_(of_rows_beyond),
    )
    step, length = _step(low)
    text = _text_of(connection, c.due, length)
    status = _status(now).label("shown")
    of = select(c.template, text.label("at"), status).where(*mine).subquery().c
    query = select(of.template, of.at, of.shown, func.count())
    for name, at, shown, count in connection.execute(
        query.group_by(of.template, of.at, of.shown)
    ):
        instant = datetime.fromisoformat(f"{at}{':00' if length == 13 else ''}")
        past = (instant.replace(tzinfo=UTC) - low) // step
        yield str(name), low + past * step, str(shown), int(count)


def _step(low: datetime) -> tuple[timedelta, int]:
    """The hour, and the characters of a time in UTC that tell hours apart: minutes too in zones of half an hour."""
    return timedelta(hours=1), 13 if low.minute == 0 else 16


def _text_of(connection: Connection, column: Any, length: int) -> ColumnElement[Any]:
    """The first characters of an instant as `2026-03-02 09:00`."""
    if connection.dialect.name == "postgresql":
        pattern = "YYYY-MM-DD HH24:MI"[: 18 if length == 16 else 15]
        return func.to_char(column, pattern)
    return func.substr(cast(column, String(32)), 1, length)


# Last tasks


def _named(names: Sequence[str]) -> Subquery:
    """The names as a table, written so that SQLite, PostgreSQL and MariaDB take the statement."""
    return union_all(
        *(select(literal(name).label("name")) for name in names)
    ).subquery()


def _read_last(
    connection: Connection,
    app: str,
    names: Sequence[str],
    now: datetime,
    facts: LedgerFacts,
) -> None:
    """The ended tasks of each template's newest instant; the worst of these tasks by name."""
    instants = _newest_instants(connection, app, names, now)
    if not instants:
        return
    worst: dict[str, tuple[str, Last]] = {}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for name, status, count, finished, task_id in connection.execute(
        _ended_by_status(app, instants)
    ):
        counts[name][status] += count
        before = worst.get(name)
        if before is None or WORST.index(status) < WORST.index(before[1].status):
            worst[name] = task_id, Last(status, finished or instants[name])
    texts = _texts(connection, [task_id for task_id, _ in worst.values()])
    failing = []
    for name, (task_id, last) in worst.items():
        known = facts.last.get(name)
        if known is not None and last.at <= known.at:
            continue
        message, row = texts.get(task_id, ("", ""))
        facts.last[name] = replace(
            last, message=message, row=row, counts=dict(counts[name])
        )
        if last.status == "error":
            failing.append(name)
    if failing:
        for name, count in _in_a_row(connection, app, failing, now):
            facts.last[name] = replace(facts.last[name], in_a_row=count)


def _newest_instants(
    connection: Connection, app: str, names: Sequence[str], now: datetime
) -> dict[str, datetime]:
    """The newest due time of each template with an ended task, found by the index on template and due time."""
    c, named = entries.c, _named(names)
    newest = (
        select(c.due)
        .where(
            of_app(app),
            c.template == named.c.name,
            c.due <= now,
            c.status.in_(FINAL),
            or_(c.outcome.is_(None), c.outcome != "superseded"),
        )
        .order_by(c.due.desc())
        .limit(1)
        .scalar_subquery()
    )
    found = connection.execute(select(named.c.name, newest))
    return {name: due for name, due in found if due is not None}


def _ended_by_status(app: str, instants: Mapping[str, datetime]) -> Select[Any]:
    """The ended tasks of each template's instant, counted by status: number, last end, and the id of one such task."""
    c = entries.c
    at = union_all(
        *(
            select(literal(name).label("name"), literal(due, c.due.type).label("due"))
            for name, due in instants.items()
        )
    ).subquery()
    query = select(
        c.template, c.status, func.count(), func.max(c.finished), func.min(c.task_id)
    ).join(at, and_(c.template == at.c.name, c.due == at.c.due))
    mine = (
        of_app(app),
        c.status.in_(FINAL),
        or_(c.outcome.is_(None), c.outcome != "superseded"),
    )
    return query.where(*mine).group_by(c.template, c.status)


def _texts(
    connection: Connection, task_ids: Sequence[str]
) -> dict[str, tuple[str, str]]:
    """The first line of the message, and the row's key, of some tasks."""
    c, found = entries.c, {}
    message = func.substr(c.message, 1, MESSAGE_LENGTH)
    query = select(c.task_id, message, c.row_key).where(c.task_id.in_(task_ids))
    for task_id, said, row in connection.execute(query):
        line = (said or "").strip().partition("\n")[0].removeprefix("error: ")
        found[task_id] = line, row or ""
    return found


def _in_a_row(
    connection: Connection, app: str, names: Sequence[str], now: datetime
) -> Iterator[tuple[str, int]]:
    """The failures of some templates that are due after their last completed task."""
    c, named = entries.c, _named(names)
    good, bad = entries.alias("good").c, entries.alias("bad").c
    last_good = (
        select(good.due)
        .where(
            good.app == app,
            good.template == named.c.name,
            good.status == "completed",
            good.due <= now,
        )
        .order_by(good.due.desc())
        .limit(1)
        .scalar_subquery()
    )
    since = select(
        named.c.name,
        func.coalesce(last_good, literal(NEVER, c.due.type)).label("since"),
    ).subquery()
    count = (
        select(func.count())
        .where(
            bad.app == app,
            bad.template == since.c.name,
            bad.status == "error",
            bad.due > since.c.since,
            bad.due <= now,
        )
        .scalar_subquery()
    )
    for name, found in connection.execute(select(since.c.name, count)):
        yield str(name), int(found)
