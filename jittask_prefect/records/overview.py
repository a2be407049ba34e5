"""One page of an app: every task, the last hours and the next, a day hour by hour, the faults.

Everything here is pure: `overview_facts` asks databases and Prefect, `overview_markdown` and `overview_text` print.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from zoneinfo import ZoneInfo

from jittask_prefect.records.app_facts import (
    AROUND,
    HOUR,
    Facts,
    Kind,
    Last,
    Open,
    TaskFacts,
    Trouble,
    hour_of,
    near_window,
)
from jittask_prefect.records.moments import day_text, moment
from jittask_prefect.records.overview_troubles import troubles_of
from jittask_prefect.records.statistics import STATUSES


@dataclass(frozen=True)
class TaskLine:
    """A task as the page shows it.

    Attributes:
        facts: The template's own facts.
        next_due: When the next task is due, in the app's zone; None where nothing is known to come.
        next_count: How many rows are due on that day; None for a scheduled task, and for a day that is not counted.
        last: The last task that ended.
        pending: The number of waiting tasks; of a schedule those of the next 24 hours.
        overdue: The number of late tasks.
        executing: The number of tasks at work.
        failed: The number of failures among the tasks due in the last 24 hours.
        wrong: The worst kind of trouble; None without.
    """

    facts: TaskFacts
    next_due: datetime | None
    next_count: int | None
    last: Last | None
    pending: int
    overdue: int
    executing: int
    failed: int
    wrong: Kind | None = None


@dataclass(frozen=True)
class Group:
    """The tasks of a tag, faulty tasks first."""

    name: str
    tasks: Sequence[TaskLine]


@dataclass(frozen=True)
class Hour:
    """An hour of the chart, and the number of tasks of each status that are due in that hour."""

    start: datetime
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Planned:
    """The tasks of a template that are due in an hour of the day.

    Attributes:
        name: The full name.
        title: The title.
        rows: Whether rows are counted.
        counts: The number of tasks of each status.
    """

    name: str
    title: str
    rows: bool
    counts: Mapping[str, int]


@dataclass(frozen=True)
class DayHour:
    """An hour of the day with the tasks that are due in that hour."""

    start: datetime
    tasks: Sequence[Planned]


@dataclass(frozen=True)
class Overview:
    """The page of an app.

    Attributes:
        app: The app's name.
        title: The app's title.
        zone: The app's zone, in which the page's times are.
        now: The present instant, in that zone.
        wrong: The present faults, the worst first.
        groups: The tasks by tag, a group with troubles first.
        hours: The last 24 hours and the next.
        day: The day that is shown hour by hour.
        day_hours: Its hours in which tasks are due.
        uncounted: The titles of tasks whose rows are too many to count on that day.
        asked_prefect: Whether Prefect answered.
    """

    app: str
    title: str
    zone: ZoneInfo
    now: datetime
    day: date
    wrong: Sequence[Trouble]
    groups: Sequence[Group]
    hours: Sequence[Hour]
    day_hours: Sequence[DayHour]
    uncounted: Sequence[str]
    asked_prefect: bool

    @property
    def tasks(self) -> list[TaskLine]:
        """All tasks, in the page's order."""
        return [task for group in self.groups for task in group.tasks]

    @property
    def calm(self) -> tuple[str, str]:
        """The words of a page without troubles, in short and in a sentence: single failures are named."""
        failed = sum(task.failed for task in self.tasks)
        if not failed:
            return "All is well", "nothing is overdue, failing or paused"
        told = "nothing is overdue, failing in a row or paused"
        return f"{failed:,} failed in the last 24 hours", told

    @property
    def since(self) -> datetime:
        """The beginning of the last 24 hours, a full hour."""
        return self.hours[0].start

    @property
    def as_of(self) -> str:
        """The present instant with the zone: `Mon 30 Nov 15:35 (Asia/Shanghai)`."""
        today = self.now.date()
        return f"{day_text(today, today)} {self.now:%H:%M} ({self.zone.key})"

    def moment(self, at: datetime) -> str:
        """An instant as people say it, on the app's clocks."""
        return moment(at, self.now, self.zone)

    def as_dict(self) -> dict[str, object]:
        """The page as `jittask overview --json` prints it."""
        return {
            "app": self.app,
            "title": self.title,
            "asOf": self.now.isoformat(timespec="seconds"),
            "wrong": [
                {
                    "kind": each.kind.name.lower(),
                    "task": each.task or None,
                    "text": each.text,
                }
                for each in self.wrong
            ],
            "tasks": [
                _task_dict(task, group.name, self.zone)
                for group in self.groups
                for task in group.tasks
            ],
            "hours": [
                {"from": hour.start.isoformat(), **hour.counts} for hour in self.hours
            ],
            "day": {
                "date": self.day.isoformat(),
                "hours": [
                    {
                        "from": hour.start.isoformat(),
                        "tasks": [
                            {"fullName": task.name, "title": task.title, **task.counts}
                            for task in hour.tasks
                        ],
                    }
                    for hour in self.day_hours
                ],
                "notCounted": list(self.uncounted),
            },
        }


def _task_dict(task: TaskLine, group: str, zone: ZoneInfo) -> dict[str, object]:
    facts, last = task.facts, task.last

    def iso(at: datetime | None) -> str | None:
        return at.astimezone(zone).isoformat() if at else None

    return {
        "fullName": facts.name,
        "title": facts.title,
        "group": group or None,
        "rule": facts.rule,
        "state": facts.state or None,
        "nextDue": iso(task.next_due),
        "dueThatDay": task.next_count,
        "last": last
        and {
            "status": last.status,
            "at": iso(last.at),
            "message": last.message,
            "row": last.row or None,
            **({"label": last.label} if last.label else {}),
            "failuresInARow": last.in_a_row,
            "counts": dict(last.counts),
        },
        "pending": task.pending,
        "overdue": task.overdue,
        "executing": task.executing,
        "failedIn24Hours": task.failed,
    }


def overview(facts: Facts) -> Overview:
    """The page of an app.

    Args:
        facts: All that is known of the app.
    """
    zone, titles = facts.zone, {task.name: task.title for task in facts.tasks}
    failed, pending = _failed(facts), _pending_by_day(facts)
    coming = _coming(facts)
    lines = [
        _line(facts, task, failed[task.name], pending, coming) for task in facts.tasks
    ]
    wrong = sorted(
        [*facts.troubles, *troubles_of(facts, lines)],
        key=lambda each: (each.kind, each.title, each.task),
    )
    worst: dict[str, Kind] = {}
    for each in wrong:
        if each.task:
            worst.setdefault(each.task, each.kind)
    lines = [replace(line, wrong=worst.get(line.facts.name)) for line in lines]
    return Overview(
        app=facts.app,
        title=facts.title,
        zone=zone,
        now=facts.now.astimezone(zone),
        day=facts.day,
        wrong=wrong,
        groups=_groups(lines),
        hours=_picture(facts),
        day_hours=list(_day_hours(facts)),
        uncounted=sorted(titles[name] for name in facts.uncounted if name in titles),
        asked_prefect=facts.asked_prefect,
    )


# Hours


def _picture(facts: Facts) -> list[Hour]:
    present = hour_of(facts.now, facts.zone)
    starts = [present + n * HOUR for n in range(-24, 24)]
    counts = {start: Counter[str]() for start in starts}
    for (_, start), found in facts.near.items():
        if start in counts:
            counts[start].update(found)
    return [
        Hour(start.astimezone(facts.zone), _in_order(counts[start])) for start in starts
    ]


def _failed(facts: Facts) -> Counter[str]:
    """The failures of each template among the tasks due in the last 24 hours."""
    since = hour_of(facts.now, facts.zone) - AROUND
    found = Counter[str]()
    for (name, start), counts in facts.near.items():
        if since <= start <= facts.now:
            found[name] += counts.get("error", 0)
    return found


def _coming(facts: Facts) -> Counter[str]:
    """The pending tasks of each template in this hour and the next 24."""
    present, found = hour_of(facts.now, facts.zone), Counter[str]()
    for (name, start), counts in facts.near.items():
        if present <= start <= present + AROUND:
            found[name] += counts.get("pending", 0)
    return found


def _day_hours(facts: Facts) -> Iterator[DayHour]:
    tasks = {task.name: task for task in facts.tasks}
    by_hour: dict[datetime, list[Planned]] = {}
    for (name, start), counts in facts.of_day.items():
        task = tasks.get(name, TaskFacts(name, name))
        shown = _in_order(counts)
        if shown:
            planned = Planned(name, task.title, task.rows, shown)
            by_hour.setdefault(start, []).append(planned)
    for start in sorted(by_hour):
        local = start.astimezone(facts.zone)
        yield DayHour(local, sorted(by_hour[start], key=lambda p: (p.title, p.name)))


def _in_order(counts: Mapping[str, int]) -> dict[str, int]:
    return {status: counts[status] for status in STATUSES if counts.get(status, 0) > 0}


# Tasks


def _pending_by_day(facts: Facts) -> Counter[tuple[str, date]]:
    """The number of pending tasks by template and day, in the app's zone."""
    found, days = Counter[tuple[str, date]](), dict[datetime, date]()
    for (name, start), counts in facts.near.items():
        if start not in days:
            days[start] = start.astimezone(facts.zone).date()
        found[name, days[start]] += counts.get("pending", 0)
    return found


def _line(
    facts: Facts,
    task: TaskFacts,
    failed: int,
    pending: Counter[tuple[str, date]],
    coming: Counter[str],
) -> TaskLine:
    found = facts.open.get(task.name, Open())
    # A schedule's tasks are not in the ledger before they begin: those of the next 24 hours are counted.
    ahead = 0 if task.rows else coming[task.name]
    known = [at for at in (task.next_due, found.next_due) if at is not None]
    next_due = min(known).astimezone(facts.zone) if known else None
    return TaskLine(
        facts=task,
        next_due=next_due,
        next_count=_rows_that_day(facts, task, next_due, pending),
        last=facts.last.get(task.name),
        pending=max(found.pending, ahead),
        overdue=found.overdue,
        executing=found.executing,
        failed=failed,
    )


def _rows_that_day(
    facts: Facts,
    task: TaskFacts,
    due: datetime | None,
    pending: Counter[tuple[str, date]],
) -> int | None:
    """How many rows are still due on the day of the next due row; None beyond the counted days."""
    _, end = near_window(facts.now, facts.zone)
    if not task.rows or due is None or due >= end or task.name in facts.uncounted:
        return None
    return pending[task.name, due.date()] or None


def _groups(lines: Iterable[TaskLine]) -> list[Group]:
    by_tag: dict[str, list[TaskLine]] = {}
    for line in lines:
        by_tag.setdefault(line.facts.group, []).append(line)
    groups = [Group(tag, sorted(found, key=_urgency)) for tag, found in by_tag.items()]
    # Those without a tag come last among equals.
    return sorted(
        groups, key=lambda g: (_worst(g.tasks), not g.name, g.name.casefold())
    )


def _urgency(line: TaskLine) -> tuple[int, bool, float, str, str]:
    due = line.next_due
    return (
        _worst([line]),
        due is None,
        due.timestamp() if due else 0.0,
        line.facts.title,
        line.facts.name,
    )


def _worst(lines: Iterable[TaskLine]) -> int:
    return min((line.wrong or 99 for line in lines), default=99)
