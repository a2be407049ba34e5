"""What became of a template's tasks in a span of days: by status, how long, how late, why not. From the ledger alone.

The ledger keeps what Prefect no longer does. What it does not know is what waits of a schedule: a run of a schedule
comes into the ledger when it begins.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from math import ceil
from typing import Any

from sqlalchemy import case, func, literal, select

from jittask_prefect.elements.app import DEFAULT, App
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import ArgumentError
from jittask_prefect.ledger import versions
from jittask_prefect.ledger.tables import entries
from jittask_prefect.schedule.instants import day_after

STATUSES = ("completed", "error", "ended", "executing", "overdue", "pending")
DAYS = 30
MOST_DAYS = 400
AT_ONCE = 60
"""Days that one statement counts."""
MEASURED = 10_000
"""Runs, the newest ones, whose duration and lateness are looked at one by one."""
MESSAGES, REASONS, SAID = 10_000, 10, 200
OTHERS = "other reasons"
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Spread:
    """How some seconds are spread: the nearest rank of each percentile."""

    p50: float
    p95: float
    max: float
    runs: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread | None:
        """None where there are none."""
        if not seconds:
            return None
        known = sorted(seconds)
        p50, p95 = (known[ceil(len(known) * percent / 100) - 1] for percent in (50, 95))
        return cls(round(p50, 3), round(p95, 3), round(known[-1], 3), len(known))

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"p50": self.p50, "p95": self.p95, "max": self.max, "runs": self.runs}


@dataclass(frozen=True)
class Reason:
    """Why tasks did not complete; `#` stands for each number, so that what differs only there is one."""

    status: str
    outcome: str
    said: str
    count: int
    last: datetime | None


@dataclass(frozen=True)
class Stats:
    """The statistics of one template.

    Attributes:
        start: Begin of the span, in the template's zone.
        end: Its end, excluded.
        days: How many tasks of each status were due on each day, every day of the span.
        duration: Of those that ran, from begin to end.
        lateness: Of those that ran, from the due time, or from when the task became known later, to the begin.
        reasons: Why tasks failed or were ended, the most frequent first.
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
        """How many tasks of each status there were."""
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
            "duration": self.duration and self.duration.as_dict(),
            "lateness": self.lateness and self.lateness.as_dict(),
            "reasons": [
                {
                    "status": r.status,
                    "outcome": r.outcome,
                    "reason": r.said,
                    "count": r.count,
                    "last": r.last.astimezone(zone).isoformat() if r.last else None,
                }
                for r in self.reasons
            ],
            "days": [
                {"date": day.isoformat(), **{s: n[s] for s in STATUSES}}
                for day, n in self.days.items()
            ],
        }


def span(
    template: Meta,
    now: datetime,
    start: datetime | None = None,
    end: datetime | None = None,
) -> list[datetime]:
    """The borders of the days of a span, in the template's zone: without start and end the last 30 days with today.

    Raises:
        ArgumentError: The span is empty, or longer than 400 days.
    """
    zone = template.timer.zone
    end = (end or day_after(now.astimezone(zone).date(), zone)).astimezone(zone)
    first = (end - timedelta(microseconds=1)).date() - timedelta(days=DAYS)
    start = (start or day_after(first, zone)).astimezone(zone)
    if start >= end:
        raise ArgumentError(
            f"a span from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}; allowed: --to later than --from"
        )
    if end - start > timedelta(days=MOST_DAYS):
        raise ArgumentError(
            f"a span of {(end - start).days} days; allowed: at most {MOST_DAYS}"
        )
    borders = [start]
    while borders[-1] < end:
        borders.append(min(day_after(borders[-1].date(), zone).astimezone(zone), end))
    return borders


def of_template(
    app: App, template: Meta, borders: Sequence[datetime], now: datetime
) -> Stats:
    """The statistics of a template.

    Args:
        app: The app.
        template: The template.
        borders: The borders of the days, of one zone, ascending (`span`).
        now: The present instant: what waits since before is overdue.
    """
    days = {border.date(): Counter[str]() for border in borders[:-1]}
    durations: list[float] = []
    latenesses: list[float] = []
    reasons: dict[tuple[str, str, str], Reason] = {}
    of = (
        app.database_of(template.model_name)
        if isinstance(template, DateFieldType)
        else DEFAULT
    )
    for database in dict.fromkeys(
        [of, DEFAULT]
    ):  # executions outside the schedule are in the default one
        with app.engine(database).connect() as connection:
            if not versions.there(connection):
                continue
            for first in range(0, len(borders) - 1, AT_ONCE):
                part = borders[first : first + AT_ONCE + 1]
                for day, status, number in _by_day(
                    connection, template.fullName, part, now
                ):
                    days[part[day].date()][status] += number
            mine = _mine(template.fullName, borders[0], borders[-1])
            for took, late in _measured(connection, mine):
                durations.append(took)
                latenesses.append(late)
            for reason in _reasons(connection, mine):
                _add(reasons, reason)
    frequent = sorted(reasons.values(), key=lambda r: (-r.count, r.said))[:REASONS]
    total = sum(days.values(), Counter())
    for status in ("error", "ended"):
        if rest := total[status] - sum(r.count for r in frequent if r.status == status):
            frequent.append(Reason(status, "", OTHERS, rest, None))
    return Stats(
        template.fullName, template.title, borders[0], borders[-1], days,
        Spread.of(durations[:MEASURED]), Spread.of(latenesses[:MEASURED]), frequent,
    )  # fmt: skip


def _mine(name: str, start: datetime, end: datetime) -> tuple[Any, ...]:
    return (entries.c.template == name, entries.c.due >= start, entries.c.due < end)


def _by_day(
    connection: Any, name: str, borders: Sequence[datetime], now: datetime
) -> Iterator[tuple[int, str, int]]:
    """How many tasks of each status are due between each two borders, these by number."""
    whens = [
        (entries.c.due < border, literal(number))
        for number, border in enumerate(borders[1:])
    ]
    status = case(
        ((entries.c.status == "pending") & (entries.c.due < now), "overdue"),
        else_=entries.c.status,
    )
    # Grouped by a subquery's columns: the same expression with parameters of its own is another one to PostgreSQL.
    each = select(case(*whens).label("day"), status.label("status")).where(
        *_mine(name, borders[0], borders[-1])
    )
    of = each.subquery().c
    for day, is_, number in connection.execute(
        select(of.day, of.status, func.count()).group_by(of.day, of.status)
    ):
        yield int(day), str(is_), int(number)


def _measured(connection: Any, mine: Sequence[Any]) -> Iterator[tuple[float, float]]:
    """Duration and lateness of the newest runs, in seconds."""
    c = entries.c
    ran = (
        c.status.in_(("completed", "error")),
        c.started.is_not(None),
        c.finished.is_not(None),
    )
    query = select(c.due, c.created, c.started, c.finished, c.row_key, c.nominal).where(
        *mine, *ran
    )
    for r in connection.execute(query.order_by(c.due.desc()).limit(MEASURED)):
        # A run of a schedule becomes known when it begins; that is no excuse.
        since = (
            r.due if r.nominal is not None and not r.row_key else max(r.due, r.created)
        )
        yield (
            max(0.0, (r.finished - r.started).total_seconds()),
            max(0.0, (r.started - since).total_seconds()),
        )


def _reasons(connection: Any, mine: Sequence[Any]) -> Iterator[Reason]:
    c = entries.c
    failed = c.status.in_(("error", "ended"))
    said = func.substr(c.message, 1, SAID)
    of = (
        select(c.status, c.outcome, said.label("said"), c.due)
        .where(*mine, failed)
        .subquery()
        .c
    )
    query = select(
        of.status,
        of.outcome,
        of.said,
        func.count().label("number"),
        func.max(of.due).label("last"),
    )
    query = (
        query.group_by(of.status, of.outcome, of.said)
        .order_by(func.count().desc())
        .limit(MESSAGES)
    )
    for r in connection.execute(query):
        text = _NUMBER.sub("#", (r.said or r.outcome or "").partition("\n")[0].strip())
        yield Reason(
            r.status, r.outcome or "", text, int(r.number), r.last.astimezone(UTC)
        )


def _add(known: dict[tuple[str, str, str], Reason], one: Reason) -> None:
    key = (one.status, one.outcome, one.said)
    other = known.get(key)
    if other is not None:
        one = Reason(
            *key,
            one.count + other.count,
            max(filter(None, (one.last, other.last)), default=None),
        )
    known[key] = one


def seconds(value: float) -> str:
    """Some seconds for a reader: `0.22 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`."""
    if value < 10:
        return f"{value:.2f} s"
    whole = round(value)
    for size, word, part, smaller in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size} {word}" + (
                f" {rest} {smaller}" if (rest := whole % size // part) else ""
            )
    return f"{whole} s"
