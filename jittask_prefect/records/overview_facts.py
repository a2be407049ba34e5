"""The facts of an app's overview, asked of templates and databases.

The number of statements depends on the number of databases and types of date columns. A
statement of the ledger takes 200 tasks, a statement of rows 50.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import islice
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.ledger import versions, watermarks
from jittask_prefect.ledger.pause import paused_since
from jittask_prefect.records.app_facts import (
    HOUR,
    IN_A_ROW,
    Facts,
    Kind,
    Open,
    Trouble,
    day_window,
    hour_of,
    near_window,
)
from jittask_prefect.records.moments import moment
from jittask_prefect.records.overview_ledger import (
    HourCounts,
    LedgerFacts,
    read_ledger,
)
from jittask_prefect.records.overview_prefect import PrefectFacts
from jittask_prefect.records.overview_rows import RowCounts, rows_due
from jittask_prefect.records.overview_templates import (
    Failures,
    broken,
    calendars,
    task_facts,
)
from jittask_prefect.rows.row_labels import row_labels
from jittask_prefect.rows.template_planner import fingerprint
from jittask_prefect.schedule.instants import DAY, TICK

MOST_OCCURRENCES = 5000
"""Occurrences of a schedule that are counted singly in a window."""
log = logging.getLogger("jittask")
Window = tuple[datetime, datetime]
_counted: WeakKeyDictionary[Meta, dict[Window, Counter[datetime] | None]] = (
    WeakKeyDictionary()
)


def facts(
    app: App, prefect: PrefectFacts, now: datetime, day: date | None = None
) -> Facts:
    """All that is known of an app.

    Args:
        app: The app.
        prefect: Prefect's facts.
        now: The present instant; aware.
        day: The day to count hour by hour, in the app's zone; tomorrow where absent.

    Raises:
        LedgerError: The ledger's tables are of another version.
    """
    zone, templates = app.zone, app.templates()
    shown = day or now.astimezone(zone).date() + DAY
    windows = [near_window(now, zone), day_window(shown, zone)]
    inside = _holds(*windows)
    if inside:  # the day is counted with its neighbours
        del windows[1]
    paused, failures = _paused(app, now), Failures()
    counted = _counted_in(app, templates, now, windows, failures)
    ledger = counted.ledger
    _add_late(ledger, prefect.late, zone)
    known = {} if paused else prefect.there
    tasks = [task_facts(template, now, known, failures) for template in templates]
    _name_rows(app, ledger)
    return Facts(
        app=app.name,
        title=app.title,
        zone=zone,
        now=now,
        day=shown,
        tasks=tasks,
        open=ledger.open,
        last=ledger.last,
        near=ledger.hours[0],
        of_day=_part(ledger.hours[0], *inside) if inside else ledger.hours[1],
        uncounted=frozenset(counted.uncounted),
        troubles=[
            *broken(app, templates),
            *calendars(templates, now),
            *paused,
            *counted.troubles,
            *prefect.troubles,
            *failures.troubles(tasks),
        ],
        asked_prefect=prefect.asked,
    )


def _holds(near: Window, day: Window) -> Window | None:
    """The window of the day, where its hours are hours of the other window."""
    within = near[0] <= day[0] and day[1] <= near[1]
    return day if within and not (day[0] - near[0]) % HOUR else None


def _part(counts: HourCounts, low: datetime, high: datetime) -> HourCounts:
    return {key: found for key, found in counts.items() if low <= key[1] < high}


def _paused(app: App, now: datetime) -> list[Trouble]:
    """A line for the pause of the whole app; its paused deployments need none of their own."""
    try:
        since = paused_since(app)
    except SQLAlchemyError:
        return []  # the database's own line says more
    if since is None:
        return []
    told = f"the whole app is paused, since {moment(since, now, app.zone)}"
    return [Trouble(Kind.APP_PAUSED, f"{told}: `jittask resume` ends the pause")]


def _name_rows(app: App, ledger: LedgerFacts) -> None:
    """Add the labels of the rows that the page names: the rows of consecutive failures."""
    rows = {
        (name, last.row)
        for name, last in ledger.last.items()
        if last.row and last.in_a_row >= IN_A_ROW
    }
    for (name, _), label in row_labels(app, rows).items():
        ledger.last[name] = replace(ledger.last[name], label=label)


def _add_late(
    ledger: LedgerFacts, late: Iterable[tuple[str, datetime]], zone: ZoneInfo
) -> None:
    """Add the late runs of schedules to the open tasks, and to the hours of their due times."""
    entered = Counter(
        {name: each.overdue for name, each in ledger.open.items() if each.overdue}
    )
    for name, at in late:
        if entered[name] > 0:  # by a sync already
            entered[name] -= 1
            continue
        found = ledger.open.get(name, Open())
        since = min(filter(None, (found.late_since, at)))
        ledger.open[name] = replace(found, overdue=found.overdue + 1, late_since=since)
        ledger.hours[0][name, hour_of(at, zone)]["overdue"] += 1


# Databases


@dataclass
class _Counted:
    """The facts of ledgers and rows; the titles of tasks that are not counted, and the databases that do not answer."""

    ledger: LedgerFacts
    uncounted: set[str] = field(default_factory=set)
    troubles: list[Trouble] = field(default_factory=list)


def _counted_in(
    app: App,
    templates: Sequence[Meta],
    now: datetime,
    windows: Sequence[Window],
    failures: Failures,
) -> _Counted:
    """The tasks in all databases, and the occurrences of schedules to come."""
    found = _Counted(LedgerFacts.of(windows))
    about = (templates, now, windows, found.ledger, found.uncounted)
    for database in app.databases():
        try:
            _read_database(app, database, *about)
        except SQLAlchemyError as error:
            which = f"the database {database}" if database else "the app's database"
            said = str(getattr(error, "orig", None) or error).partition("\n")[0]
            trouble = Trouble(Kind.SERVER, f"{which} does not answer: {said}")
            found.troubles.append(trouble)
    for window, counts in zip(windows, found.ledger.hours, strict=True):
        too_many = _count_schedules(templates, now, window, counts, failures)
        found.uncounted |= set(too_many)
    return found


def _read_database(
    app: App,
    database: str,
    templates: Sequence[Meta],
    now: datetime,
    windows: Sequence[Window],
    ledger: LedgerFacts,
    uncounted: set[str],
) -> None:
    of_rows = [
        template
        for template in templates
        if isinstance(template, DateFieldType)
        and template.enable
        and app.database_of(template.model_name) == database
    ]
    border, names = now, [template.fullName for template in templates]
    with app.engine(database).connect() as connection:
        if versions.there(connection):
            memories = watermarks.memories(connection, app.name)
            border = min(
                (_known_until(each, memories, now) for each in of_rows),
                default=windows[0][1],
            )
            args = (connection, app.name, names, now, windows, border)
            read_ledger(*args, ledger)
    if not of_rows:
        return
    for (low, high), counts in zip(windows, ledger.hours, strict=True):
        after = max(border, low - TICK)
        if after >= high:
            continue
        found = RowCounts()
        rows_due(app.engine(database), of_rows, now, after, high, found)
        uncounted |= found.uncounted
        for name, due in found.due.items():
            for at, count in due:
                counts[name, low + (at - low) // HOUR * HOUR]["pending"] += count
            _first_due(ledger, name, min((at for at, _ in due), default=None))


def _known_until(
    template: DateFieldType,
    memories: Mapping[str, watermarks.Memory],
    now: datetime,
) -> datetime:
    """Until when the ledger has the tasks of a template's rows."""
    memory = memories.get(template.fullName)
    if memory and memory.upto and memory.config == fingerprint(template):
        return max(now, memory.upto)
    return now


def _first_due(ledger: LedgerFacts, name: str, at: datetime | None) -> None:
    """Note a due time of rows, where nothing is due before."""
    found = ledger.open.get(name, Open())
    if at is not None and (found.next_due is None or at < found.next_due):
        ledger.open[name] = replace(found, next_due=at)


# Schedules


def _count_schedules(
    templates: Iterable[Meta],
    now: datetime,
    window: Window,
    counts: HourCounts,
    failures: Failures,
) -> Iterator[str]:
    """Add the future occurrences of schedules to the hours; the names of tasks with too many."""
    low = max(now, window[0])
    for template in templates:
        rows = isinstance(template, DateFieldType)
        if rows or not template.enable or template.own_times or template.by_code:
            continue
        try:
            found = _occurrences(template, now, window)
        except Exception as error:  # noqa: BLE001  of the app's own code
            failures.note(template, error)
            continue
        if found is None:
            yield template.fullName
            continue
        for start, count in found.items():
            if start + HOUR <= low:
                continue
            known = counts[template.fullName, start]
            # An occurrence that was ended, or entered, before its time stands in the ledger already.
            ahead = sum(known.values()) if start > now else 0
            known["pending"] += max(0, count - ahead)


def _occurrences(
    template: Meta, now: datetime, window: Window
) -> Counter[datetime] | None:
    """The occurrences of a schedule from now on, by hour; None where they are too many.

    Whole hours are counted once: a template and its hours stay the same for many syncs.
    """
    present = max(window[0], hour_of(now, template.app.zone))
    if present >= window[1]:
        return Counter()
    known = _counted.setdefault(template, {})
    span = (present, window[1])
    if span not in known:
        for old in [each for each in known if each[0] < present]:
            del known[old]
        known[span] = _by_hour(template, *span, window[0])
    found = known[span]
    if found is None or now <= present:
        return found
    over = _by_hour(template, present, min(now, window[1]), window[0])
    return None if over is None else found - over


def _by_hour(
    template: Meta, after: datetime, before: datetime, low: datetime
) -> Counter[datetime] | None:
    series, found = template.series(), Counter[datetime]()
    if series is None:
        return found
    due = islice(series.between(after, before), MOST_OCCURRENCES + 1)
    for number, occurrence in enumerate(due):
        if number == MOST_OCCURRENCES:
            return None
        found[low + (occurrence.due - low) // HOUR * HOUR] += 1
    return found
