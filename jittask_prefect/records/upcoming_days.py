"""What comes next of a template, day by day: for the month grid of its statistics, and the table below it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import islice

from sqlalchemy import func, literal, select

from jittask_prefect.elements.app import App, check_rows
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.records import upcoming
from jittask_prefect.records.charts import Cell
from jittask_prefect.rows.scan import Scan
from jittask_prefect.schedule.calendar import Calendar
from jittask_prefect.schedule.instants import day_after
from jittask_prefect.schedule.timer import Series

MOST = 500
"""Occurrences that are looked at one by one; of more, each day is only asked whether it has any."""
A_DAY = 25
ROWS = 2000
"""Rows with a date in the grid's months up to which they are planned; of more only the number is told."""
DAY = timedelta(days=1)


@dataclass(frozen=True)
class One:
    """An occurrence: when it takes place, None where it does not; nominally when; why that differs; of which row."""

    due: datetime | None
    nominal: datetime | None = None
    because: str = ""
    row: str | None = None


@dataclass
class Coming:
    """What comes next.

    Attributes:
        first: The first day of this month.
        last: The last day of the next one.
        days: What each day has to show, every day of both months.
        next: The first occurrences, moved ones among them.
        moves: Those of the two months that are moved or left out.
        note: What else there is to say.
    """

    first: date
    last: date
    days: dict[date, Cell]
    next: list[One] = field(default_factory=list)
    moves: list[One] = field(default_factory=list)
    note: str = ""


def coming(app: App, template: Meta, now: datetime) -> Coming:
    """What comes next of a template in this month and the next one, as the rows are now.

    Args:
        app: The app.
        template: The template.
        now: The present instant.
    """
    zone = template.timer.zone
    today = now.astimezone(zone).date()
    first = today.replace(day=1)
    last = _month_after(_month_after(first)) - DAY
    span = range((last - first).days + 1)
    days = {
        day: Cell(day, kind_of(template.timer.calendar, day))
        for day in (first + n * DAY for n in span)
    }
    found = Coming(first, last, days)
    end = day_after(last, zone)
    if not template.enable:
        found.note = "Disabled: nothing comes next."
    elif template.own_times:
        found.note = "Its Type decides when it runs next."
    elif isinstance(template, DateFieldType):
        _of_rows(app, template, now, end, found)
    elif (series := template.series()) is not None:
        _of_series(series, now, end, found)
    if not found.note and not found.next:
        found.note = "Nothing comes next in these months."
    return found


def kind_of(calendar: Calendar | None, day: date) -> str:
    """What a day is in a calendar; without one Saturday and Sunday are the weekend."""
    if calendar is None:
        return "weekend" if day.weekday() >= 5 else "workday"
    if calendar.holiday_name(day) is not None:
        return "holiday"
    if calendar.is_makeup(day):
        return "makeup"
    return "weekend" if calendar.is_weekend(day) else "workday"


def _month_after(first: date) -> date:
    return (first + 31 * DAY).replace(day=1)


def _of_series(series: Series, now: datetime, end: datetime, found: Coming) -> None:
    items = [
        One(e.due, e.nominal, ": ".join(filter(None, (e.because, e.note))))
        for e in islice(series.explained(now, end), MOST + 1)
    ]
    if len(items) <= MOST:
        _draw(items, found)
        return
    found.next = [
        One(o.due, o.nominal, o.moved or "")
        for o in islice(series.between(now, end), A_DAY)
    ]
    for day, cell in found.days.items():
        low = max(now, day_after(day - DAY, series.zone))
        number = len(
            list(islice(series.between(low, day_after(day, series.zone)), A_DAY))
        )
        if number:
            found.days[day] = replace(
                cell, here=f"{number}×" if number < A_DAY else f"≥{A_DAY}"
            )


def _of_rows(
    app: App, template: DateFieldType, now: datetime, end: datetime, found: Coming
) -> None:
    check_rows(template)
    engine = app.engine(app.database_of(template.model_name))
    condition = Scan(template, now, engine.dialect.name).condition(
        (now - upcoming.TICK, end - upcoming.TICK)
    )
    if condition is not None:
        some = (
            select(literal(1))
            .select_from(template.model)
            .where(condition)
            .limit(ROWS + 1)
            .subquery()
        )
        with engine.connect() as connection:
            number = int(
                connection.execute(select(func.count()).select_from(some)).scalar() or 0
            )
        if number > ROWS:
            until = f"`jittask pending {template.fullName} --until {found.last}`"
            found.note = f"More than {ROWS:,} rows have dates in these months: {until}."
            return
    kept = upcoming.pending(app, template, end, now, MOST + 1)
    tasks = [task for task in kept.found() if task.due >= now]
    _draw([One(t.due, t.nominal, t.moved or "", t.row) for t in tasks[:MOST]], found)
    if len(tasks) > MOST:
        found.note = f"Only the first {MOST} are shown."


def _draw(items: list[One], found: Coming) -> None:
    """Put occurrences into the days that they are of."""
    here: dict[date, list[datetime]] = {}
    moved: dict[date, bool] = {}
    away: dict[date, set[date]] = {}
    dropped: set[date] = set()
    seen: set[tuple[datetime, str | None]] = set()
    for item in items:
        nominal = item.nominal.date() if item.nominal else None
        if item.due is None:
            dropped |= {nominal} if nominal else set()
            found.moves.append(item)
            continue
        day = item.due.date()
        if (item.due, item.row) not in seen:  # two that arrive at one instant are one
            here.setdefault(day, []).append(item.due)
            found.next.append(item)
        seen.add((item.due, item.row))
        if nominal is not None and nominal != day:
            moved[day] = True
            away.setdefault(nominal, set()).add(day)
            found.moves.append(item)
    for day in {*here, *away, *dropped} & set(found.days):
        times = here.get(day, [])
        said = (
            f"{times[0]:%H:%M}"
            if len(set(times)) == 1 == len(times)
            else f"{len(times)}×"
            if times
            else ""
        )
        found.days[day] = replace(
            found.days[day], here=said, moved=moved.get(day, False),
            away=tuple(sorted(away.get(day, ()))), dropped=day in dropped,
        )  # fmt: skip


__all__ = ["Coming", "One", "coming", "kind_of"]
