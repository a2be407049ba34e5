"""The occurrences of a template in this month and the next: for the grid and the tables of its page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import islice

from sqlalchemy import func, literal, select

from jittask_prefect.elements.app import check_rows
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.records import upcoming
from jittask_prefect.records.charts import DayCell
from jittask_prefect.records.record import Record, of_occurrence
from jittask_prefect.records.year_grid import calendar_day
from jittask_prefect.rows.scan import Scan
from jittask_prefect.schedule.instants import DAY, TICK, day_after
from jittask_prefect.schedule.timer import Series

MOST_OCCURRENCES = 500
"""Above this number each day shows only the number of its occurrences."""
MOST_A_DAY = 25
MOST_ROWS = 2000
"""Above this number of rows with a date in these months no row is planned."""


@dataclass
class MonthGrid:
    """Two months of a template.

    Attributes:
        days: Every day of both months.
        next: The first occurrences, moved ones among them.
        moves: The occurrences of the two months that are moved or left out.
        note: A further explanation.
    """

    days: dict[date, DayCell]
    next: list[Record] = field(default_factory=list)
    moves: list[Record] = field(default_factory=list)
    note: str = ""

    @property
    def last(self) -> date:
        """The last day."""
        return max(self.days)


def month_grid(template: Meta, now: datetime) -> MonthGrid:
    """The occurrences of a template in this month and the next, planned from the rows as they are now.

    Args:
        template: The template.
        now: The present instant.
    """
    zone = template.timer.zone
    first = now.astimezone(zone).date().replace(day=1)
    following = _next_month(_next_month(first))
    days = [first + n * DAY for n in range((following - first).days)]
    calendar = template.timer.calendar
    grid = MonthGrid({d: DayCell(d, calendar_day(calendar, d).kind) for d in days})
    end = day_after(days[-1], zone)
    if not template.enable:
        grid.note = "Disabled: nothing comes next."
    elif template.own_times:
        grid.note = "Its Type decides when it runs next."
    elif isinstance(template, DateFieldType):
        _of_rows(template, now, end, grid)
    elif (series := template.series()) is not None:
        _of_series(template, series, now, end, grid)
    if not grid.note and not grid.next:
        grid.note = "Nothing comes next in these months."
    return grid


def _next_month(first: date) -> date:
    return (first + 31 * DAY).replace(day=1)


def _of_series(
    template: Meta, series: Series, now: datetime, end: datetime, grid: MonthGrid
) -> None:
    records = []
    for item in islice(series.explained(now, end), MOST_OCCURRENCES + 1):
        reason = ": ".join(filter(None, (item.because, item.note)))
        records.append(of_occurrence(template, now, item.due, item.nominal, reason))
    if len(records) <= MOST_OCCURRENCES:
        _draw(records, grid)
        return
    grid.next = [
        of_occurrence(template, now, item.due, item.nominal, item.moved)
        for item in islice(series.between(now, end), MOST_A_DAY)
    ]
    for day, cell in grid.days.items():
        start = max(now, day_after(day - DAY, series.zone))
        found = series.between(start, day_after(day, series.zone))
        count = len(list(islice(found, MOST_A_DAY)))
        if count:
            cell.here = f"{count}×" if count < MOST_A_DAY else f"≥{MOST_A_DAY}"


def _of_rows(
    template: DateFieldType, now: datetime, end: datetime, grid: MonthGrid
) -> None:
    check_rows(template)
    engine = template.app.engine(template.app.database_of(template.model_name))
    scan = Scan(template, now, engine.dialect.name)
    condition = scan.condition((now - TICK, end - TICK))
    if condition is not None:
        rows = select(literal(1)).select_from(template.model).where(condition)
        counted = rows.limit(MOST_ROWS + 1).subquery()
        with engine.connect() as connection:
            query = select(func.count()).select_from(counted)
            count = connection.execute(query).scalar_one()
        if count > MOST_ROWS:
            command = f"`jittask pending {template.fullName} --until {grid.last}`"
            grid.note = (
                f"More than {MOST_ROWS:,} rows have dates in these months: {command}."
            )
            return
    kept = upcoming.pending(template, end, now, MOST_OCCURRENCES + 1)
    records = [record for record in kept.records if record.status == "pending"]
    _draw(records[:MOST_OCCURRENCES], grid)
    if len(records) > MOST_OCCURRENCES:
        grid.note = f"Only the first {MOST_OCCURRENCES} are shown."


def _draw(records: Iterable[Record], grid: MonthGrid) -> None:
    """Put occurrences into the cells of their days; a move may lead out of the two months."""
    times: defaultdict[date, list[datetime]] = defaultdict(list)
    seen = set()
    for record in records:
        due, nominal = record.due, record.nominal or record.due
        left = grid.days.get(nominal.date()) if nominal else None
        if due is None:
            grid.moves.append(record)
            if left:
                left.dropped = True
            continue
        if (
            due,
            record.row,
        ) not in seen:  # a row's occurrences of an instant count once
            seen.add((due, record.row))
            times[due.date()].append(due)
            grid.next.append(record)
        if nominal is None or nominal.date() == due.date():
            continue
        grid.moves.append(record)
        if arrived := grid.days.get(due.date()):
            arrived.moved = True
        if left:
            left.away = tuple(sorted({*left.away, due.date()}))
    for day, found in times.items():
        if cell := grid.days.get(day):
            cell.here = f"{len(found)}×" if found[1:] else f"{found[0]:%H:%M}"
