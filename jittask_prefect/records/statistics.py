"""The results of a template's tasks in a span of days: by status, durations, lateness, reasons of failures.

Everything comes from the ledger, which keeps what Prefect deletes. The ledger knows a run of a schedule from the
start of its execution on, not before.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from math import ceil
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, literal, select

from jittask_prefect.elements.types import Meta
from jittask_prefect.errors import ArgumentError
from jittask_prefect.ledger.tables import entries, late_before, late_from, of_app
from jittask_prefect.records.ledgers import connections, databases_of
from jittask_prefect.schedule.instants import DAY, TICK, day_after

STATUSES = ("completed", "error", "ended", "executing", "overdue", "pending")
"""In the order of tables and charts."""
DAYS = 30
MOST_DAYS = 400
DAYS_AT_ONCE = 60
"""Days that a statement counts."""
MEASURED = 10_000
"""The newest runs, whose duration and lateness are read singly."""
MOST_MESSAGES, MOST_REASONS, MESSAGE_LENGTH = 10_000, 10, 200
OTHERS = "other reasons"
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Spread:
    """The spread of some seconds: the nearest rank of each percentile."""

    p50: float
    p95: float
    max: float
    runs: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread | None:
        """The spread; None for no values."""
        if not seconds:
            return None
        ranked = sorted(seconds)
        ranks = (ceil(len(ranked) * percent / 100) for percent in (50, 95, 100))
        p50, p95, longest = (round(ranked[rank - 1], 3) for rank in ranks)
        return cls(p50, p95, longest, len(ranked))


@dataclass(frozen=True)
class Reason:
    """A reason why tasks did not complete.

    Attributes:
        text: The first line of the message; `#` stands for each number, so that messages which differ only in
            numbers are the same reason.
        count: The number of tasks.
        last: The latest due time; None for the sum of other reasons.
    """

    status: str
    outcome: str
    text: str
    count: int
    last: datetime | None


@dataclass(frozen=True)
class Statistics:
    """The statistics of a template.

    Attributes:
        start: The start of the span, in the template's zone.
        end: The end of the span, excluded.
        days: The number of tasks of each status that were due on each day, for every day of the span.
        duration: From start to end of the tasks that ran.
        lateness: From the due time, or from the time at which the task became known if later, to the start.
        reasons: The reasons of failures and ends, the most frequent first.
    """

    template: str
    title: str
    start: datetime
    end: datetime
    days: Mapping[date, Counter[str]]
    duration: Spread | None = None
    lateness: Spread | None = None
    reasons: list[Reason] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        """The number of tasks of each status."""
        return sum(self.days.values(), Counter())

    def as_dict(self) -> dict[str, Any]:
        """The statistics as `jittask stats --json` prints them."""
        zone = self.start.tzinfo
        return {
            "fullName": self.template,
            "title": self.title,
            "from": self.start.isoformat(),
            "to": self.end.isoformat(),
            "statuses": {status: self.counts[status] for status in STATUSES},
            "duration": self.duration and asdict(self.duration),
            "lateness": self.lateness and asdict(self.lateness),
            "reasons": [
                {
                    "status": reason.status,
                    "outcome": reason.outcome,
                    "reason": reason.text,
                    "count": reason.count,
                    "last": reason.last and reason.last.astimezone(zone).isoformat(),
                }
                for reason in self.reasons
            ],
            "days": [
                {"date": day.isoformat(), **{s: counts[s] for s in STATUSES}}
                for day, counts in self.days.items()
            ],
        }


def day_borders(
    template: Meta,
    now: datetime,
    start: datetime | None = None,
    end: datetime | None = None,
) -> list[datetime]:
    """The borders of the days of a span, in the template's zone; by default the last 30 days with today.

    Args:
        template: The template.
        now: The present instant.
        start: The start of the span; aware.
        end: The end of the span, excluded; aware.

    Raises:
        ArgumentError: The span is empty, or longer than 400 days.
    """
    zone = template.timer.zone
    end = (end or day_after(now.astimezone(zone).date(), zone)).astimezone(zone)
    first = (end - TICK).date() - DAYS * DAY
    start = (start or day_after(first, zone)).astimezone(zone)
    if start >= end:
        span = f"from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"
        raise ArgumentError(f"a span {span}; allowed: --to later than --from")
    days = (end - start).days
    if end - start > timedelta(days=MOST_DAYS):
        raise ArgumentError(f"a span of {days} days; allowed: at most {MOST_DAYS}")
    borders = [start]
    while borders[-1] < end:
        midnight = day_after(borders[-1].date(), zone).astimezone(zone)
        borders.append(min(midnight, end))
    return borders


def of_template(
    template: Meta, borders: Sequence[datetime], now: datetime
) -> Statistics:
    """The statistics of a template.

    Args:
        template: The template.
        borders: The borders of the days (`day_borders`).
        now: The present instant: pending tasks due before are overdue.
    """
    name, start, end = template.fullName, borders[0], borders[-1]
    days = {border.date(): Counter[str]() for border in borders[:-1]}
    durations: list[float] = []
    latenesses: list[float] = []
    reasons: Counter[tuple[str, str, str]] = Counter()
    last: dict[tuple[str, str, str], datetime] = {}
    for _, connection in connections(template.app, databases_of(template)):
        for first in range(0, len(borders) - 1, DAYS_AT_ONCE):
            part = borders[first : first + DAYS_AT_ONCE + 1]
            for day, status, count in _by_day(connection, template, part, now):
                days[part[day].date()][status] += count
        mine = _due_between(template, start, end)
        for duration, lateness in _measured(connection, mine):
            durations.append(duration)
            latenesses.append(lateness)
        for key, count, due in _reasons(connection, mine):
            reasons[key] += count
            last[key] = max(due, last.get(key, due))
    ranked = sorted(reasons, key=lambda key: (-reasons[key], key[2]))[:MOST_REASONS]
    frequent = [Reason(*key, reasons[key], last[key]) for key in ranked]
    total = sum(days.values(), Counter())
    for status in ("error", "ended"):
        known = sum(reason.count for reason in frequent if reason.status == status)
        if total[status] > known:
            frequent.append(Reason(status, "", OTHERS, total[status] - known, None))
    return Statistics(
        template=name,
        title=template.title,
        start=start,
        end=end,
        days=days,
        duration=Spread.of(durations[:MEASURED]),
        lateness=Spread.of(latenesses[:MEASURED]),
        reasons=frequent,
    )


def _due_between(
    template: Meta, start: datetime, end: datetime
) -> list[ColumnElement[bool]]:
    c = entries.c
    mine = (of_app(template.app.name), c.template == template.fullName)
    return [*mine, c.due >= start, c.due < end]


def _by_day(
    connection: Connection,
    template: Meta,
    borders: Sequence[datetime],
    now: datetime,
) -> Iterator[tuple[int, str, int]]:
    """The number of tasks of each status between two borders each: (number of the day, status, count)."""
    c = entries.c
    day = case(*((c.due < at, literal(n)) for n, at in enumerate(borders[1:])))
    late = (c.status == "pending") & late_before(now)
    status = case((late, "overdue"), else_=c.status)
    # Grouped by the columns of a subquery: to PostgreSQL the same expression with
    # parameters of its own is another expression.
    mine = _due_between(template, borders[0], borders[-1])
    of = select(day.label("day"), status.label("status")).where(*mine).subquery().c
    query = select(of.day, of.status, func.count()).group_by(of.day, of.status)
    for number, name_, count in connection.execute(query):
        yield int(number), str(name_), int(count)


def _measured(
    connection: Connection, mine: Sequence[ColumnElement[bool]]
) -> Iterator[tuple[float, float]]:
    """Duration and lateness of the newest runs, in seconds."""
    c = entries.c
    query = (
        select(
            late_from.label("due"),
            c.created,
            c.started,
            c.finished,
            c.row_key,
            c.nominal,
        )
        .where(
            *mine,
            c.status.in_(("completed", "error")),
            c.started.is_not(None),
            c.finished.is_not(None),
        )
        .order_by(c.due.desc())
        .limit(MEASURED)
    )
    for run in connection.execute(query):
        # A run of a schedule becomes known at its start, which excuses no lateness.
        of_schedule = run.nominal is not None and not run.row_key
        since = run.due if of_schedule else max(run.due, run.created)
        duration, lateness = run.finished - run.started, run.started - since
        yield max(0.0, duration.total_seconds()), max(0.0, lateness.total_seconds())


def _reasons(
    connection: Connection, mine: Sequence[ColumnElement[bool]]
) -> Iterator[tuple[tuple[str, str, str], int, datetime]]:
    """The reasons of failures and ends: ((status, outcome, text), count, latest due time)."""
    c = entries.c
    text = func.substr(c.message, 1, MESSAGE_LENGTH).label("text")
    failed = c.status.in_(("error", "ended"))
    of = select(c.status, c.outcome, text, c.due).where(*mine, failed).subquery().c
    query = (
        select(of.status, of.outcome, of.text, func.count(), func.max(of.due))
        .group_by(of.status, of.outcome, of.text)
        .order_by(func.count().desc())
        .limit(MOST_MESSAGES)
    )
    for status, outcome, message, count, due in connection.execute(query):
        line = (message or outcome or "").partition("\n")[0].strip()
        key = (status, outcome or "", _NUMBER.sub("#", line))
        yield key, int(count), due.astimezone(UTC)


def duration_text(seconds: float) -> str:
    """Some seconds for a reader: `0.22 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    for size, unit, part, smaller in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"
