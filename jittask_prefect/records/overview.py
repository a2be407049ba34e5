"""One page of an app, as facts and as what people read: every task, the last hours and the next, a day, what is wrong.

Everything here is pure: `overview_facts` asks the databases and Prefect, `overview_page` and `overview_text` print.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from zoneinfo import ZoneInfo

from jittask_prefect.records.statistics import STATUSES
from jittask_prefect.schedule.instants import DAY, clamped, midnight

HOUR = timedelta(hours=1)
AROUND = 24 * HOUR
"""The span of the picture before and after the present hour."""
LATE_AFTER = timedelta(minutes=1)
"""A task that is due is called overdue after this time: a worker needs some seconds to begin a run."""
IN_A_ROW = 2
"""Failures one after the other from which on a task is listed as failing."""
CALENDAR_ENDS = timedelta(days=60)
"""How long before its last published day a calendar is listed."""
MOST_NAMED = 5
"""Tasks that a line names; it counts the others."""


# Facts


@dataclass(frozen=True)
class TaskFacts:
    """What a template says of itself.

    Attributes:
        name: The full name.
        title: The title, any text.
        rule: The rule in words.
        group: The first tag; empty without tags.
        rows: Whether each row has a task.
        state: Why nothing is due by itself: `disabled`, `paused`, `by code only` or `its Type decides`; empty where the
            rule decides.
        next_due: The next due time of a schedule; None for rows, and where nothing comes.
        declared: Whether the task is a decorated function, which no form edits.
    """

    name: str
    title: str
    rule: str = ""
    group: str = ""
    rows: bool = False
    state: str = ""
    next_due: datetime | None = None
    declared: bool = False


@dataclass(frozen=True)
class Open:
    """The open tasks of a template: how many wait, are late, are executed; the first late and the next due time."""

    pending: int = 0
    overdue: int = 0
    executing: int = 0
    late_since: datetime | None = None
    next_due: datetime | None = None


@dataclass(frozen=True)
class Last:
    """The last task of a template that ended.

    Attributes:
        status: `completed`, `error` or `ended`.
        at: When the task ended.
        message: The reason of a failure or an end.
        row: The row's key; empty for a scheduled task.
        in_a_row: The failures since the last completed task.
    """

    status: str
    at: datetime
    message: str = ""
    row: str = ""
    in_a_row: int = 0


Counted = Mapping[tuple[str, datetime], Mapping[str, int]]
"""By template and beginning of an hour (UTC), the number of tasks of each status that are due in that hour."""


class Kind(IntEnum):
    """The kinds of troubles, the worst first."""

    SERVER = 1
    WORKER = 2
    BROKEN = 3
    OVERDUE = 4
    FAILING = 5
    CALENDAR = 6
    PAUSED = 7
    UNKNOWN = 8


@dataclass(frozen=True)
class Trouble:
    """What is wrong now, in a line.

    Attributes:
        kind: The kind.
        text: The sentence, any text in it.
        task: The full name of the task that the line is about; empty for others.
        title: The task's title.
    """

    kind: Kind
    text: str
    task: str = ""
    title: str = ""


@dataclass(frozen=True)
class Facts:
    """All that the page is made of.

    Attributes:
        app: The app's name.
        title: The app's title.
        zone: The app's zone, in which the page's times are.
        now: The present instant; aware.
        day: The day to show hour by hour.
        tasks: The templates.
        open: By template, its open tasks.
        last: By template, its last task.
        near: The tasks from a day before the present hour to the end of tomorrow.
        of_day: The tasks of `day`.
        uncounted: The templates whose rows are too many to count.
        troubles: What databases, server and files say.
        asked_prefect: Whether Prefect answered: only Prefect knows that a schedule's run is late.
    """

    app: str
    title: str
    zone: ZoneInfo
    now: datetime
    day: date
    tasks: Sequence[TaskFacts]
    open: Mapping[str, Open] = field(default_factory=dict)
    last: Mapping[str, Last] = field(default_factory=dict)
    near: Counted = field(default_factory=dict)
    of_day: Counted = field(default_factory=dict)
    uncounted: frozenset[str] = frozenset()
    troubles: Sequence[Trouble] = ()
    asked_prefect: bool = True


# The page


@dataclass(frozen=True)
class TaskLine:
    """A task as the page shows it.

    Attributes:
        facts: What the template says of itself.
        next_due: When the next task is due, in the app's zone; None where nothing is known to come.
        next_count: How many rows are due on that day; None for a scheduled task, and for a day that is not counted.
        last: The last task that ended.
        pending: The number of waiting tasks.
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
    """The tasks of a tag, what is wrong first."""

    name: str
    tasks: Sequence[TaskLine]


@dataclass(frozen=True)
class Hour:
    """An hour of the picture, and how many tasks of each status are due in it."""

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
    """An hour of the day with all that is due in it."""

    start: datetime
    tasks: Sequence[Planned]


@dataclass(frozen=True)
class Overview:
    """The page of an app.

    Attributes:
        wrong: What is wrong now, the worst first.
        groups: The tasks by tag, a group with troubles first.
        hours: The last 24 hours and the next.
        day: The day that is shown hour by hour.
        day_hours: Its hours in which tasks are due.
        uncounted: The titles of tasks whose rows are too many to count on that day.
        asked_prefect: Whether Prefect answered.
    """

    app: str
    title: str
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
    def since(self) -> datetime:
        """The beginning of the last 24 hours, a full hour."""
        return self.hours[0].start

    def as_dict(self) -> dict[str, object]:
        """The page as `jittask overview --json` prints it."""
        zone = self.now.tzinfo
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
                _task_dict(task, group.name, zone)
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


def _task_dict(task: TaskLine, group: str, zone: object) -> dict[str, object]:
    facts, last = task.facts, task.last

    def iso(at: datetime | None) -> str | None:
        return at.astimezone(zone).isoformat() if at else None  # type: ignore[arg-type]

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
            "failuresInARow": last.in_a_row,
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
    failed = _failed(facts)
    lines = [_line(facts, task, failed[task.name]) for task in facts.tasks]
    wrong = sorted(
        [*facts.troubles, *_troubles(facts, lines)],
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


def hour_of(at: datetime, zone: ZoneInfo) -> datetime:
    """The beginning of an instant's hour on the clocks of a zone; in UTC."""
    local = at.astimezone(zone)
    passed = timedelta(
        minutes=local.minute, seconds=local.second, microseconds=local.microsecond
    )
    return at.astimezone(UTC) - passed


def near_window(now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """From a day before the present hour to the end of tomorrow, UTC; never less than a day on."""
    hour = hour_of(now, zone)
    _, end = day_window(now.astimezone(zone).date() + DAY, zone)
    return hour - AROUND, max(end, hour + AROUND)


def day_window(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The first instant of a day in a zone, and that of the next; UTC."""
    return clamped(midnight(day), zone), clamped(midnight(day + DAY), zone)


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


def _line(facts: Facts, task: TaskFacts, failed: int) -> TaskLine:
    found = facts.open.get(task.name, Open())
    known = [at for at in (task.next_due, found.next_due) if at is not None]
    next_due = min(known).astimezone(facts.zone) if known else None
    return TaskLine(
        facts=task,
        next_due=next_due,
        next_count=_rows_that_day(facts, task, next_due),
        last=facts.last.get(task.name),
        pending=found.pending,
        overdue=found.overdue,
        executing=found.executing,
        failed=failed,
    )


def _rows_that_day(facts: Facts, task: TaskFacts, due: datetime | None) -> int | None:
    """How many rows are still due on the day of the next one; None beyond the counted days."""
    _, end = near_window(facts.now, facts.zone)
    if not task.rows or due is None or due >= end or task.name in facts.uncounted:
        return None
    count = 0
    for (name, start), counts in facts.near.items():
        if name == task.name and start.astimezone(facts.zone).date() == due.date():
            count += counts.get("pending", 0)
    return count or None


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


# Troubles


def _troubles(facts: Facts, lines: Iterable[TaskLine]) -> Iterator[Trouble]:
    paused: dict[str, list[TaskLine]] = {}
    for line in lines:
        task, last = line.facts, line.last
        since = facts.open.get(task.name, Open()).late_since
        if line.overdue:
            told = f"{line.overdue:,} overdue"
            if since is not None:
                told += f", since {moment(since, facts.now, facts.zone)}"
            yield Trouble(Kind.OVERDUE, told, task.name, task.title)
        if last is not None and last.in_a_row >= IN_A_ROW:
            told = f"failed {last.in_a_row:,} times in a row"
            told += f", last {moment(last.at, facts.now, facts.zone)}"
            about = f"row {last.row}: {last.message}" if last.row else last.message
            yield Trouble(
                Kind.FAILING, f"{told}: {about}".rstrip(": "), task.name, task.title
            )
        if task.state in ("disabled", "paused"):
            paused.setdefault(task.state, []).append(line)
    for state, found in paused.items():
        how = "by `enable` 0" if state == "disabled" else "in Prefect"
        yield Trouble(Kind.PAUSED, f"paused {how}: {listed(found)}")


def listed(lines: Sequence[TaskLine]) -> str:
    """The titles of some tasks, the first few by name."""
    names = [line.facts.title for line in lines[:MOST_NAMED]]
    more = len(lines) - len(names)
    return ", ".join(names) + (f" and {more:,} more" if more else "")


# Words


def moment(at: datetime, now: datetime, zone: ZoneInfo) -> str:
    """An instant as people say it: `today 09:00`, `Thu 3 Dec 09:00`, with the year where it is another one.

    Args:
        at: The instant.
        now: The present instant.
        zone: The zone of the clock time.
    """
    local, today = at.astimezone(zone), now.astimezone(zone).date()
    days = (local.date() - today).days
    near = {-1: "yesterday", 0: "today", 1: "tomorrow"}.get(days)
    return f"{near or day_text(local.date(), today)} {local:%H:%M}"


def day_text(day: date, today: date) -> str:
    """A day in words, `Thu 3 Dec`; with its year where that is another than today's."""
    year = "" if day.year == today.year else f" {day.year}"
    return f"{day:%a} {day.day} {day:%b}{year}"
