"""The rows that are due beyond the ledger's horizon, counted by hour from their dates.

The due times of a row follow from its dates alone. So the database groups rows by their dates, in a statement for all
templates whose date columns are of one type.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Engine, Select, func, literal, null, select, union_all
from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.elements.app import check_rows
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.errors import JittaskError
from jittask_prefect.rows.row_reading import row_columns
from jittask_prefect.rows.scan import Scan
from jittask_prefect.schedule.instants import TICK

MOST_DATES = 1000
"""Different dates of a template's rows; above this number the rows are not counted."""
MOST_IN_ALL = 10_000
"""Different dates of all templates: planning them takes about a second."""
MOST_OCCURRENCES = 5000
"""Occurrences of a template that are counted singly."""
AT_ONCE = 50
"""Templates in a statement."""
BAD_DATES = (ValueError, TypeError, OverflowError)
log = logging.getLogger("jittask")
VALUES = ("starts", "ends", "own_1", "own_2")
"""The names of a row's dates, then of its own zone and calendar, in a statement; null where the task has none."""
Pair = tuple[tuple[Any, ...], int]
"""The values that decide when a row is due, and the number of rows with these values."""


@dataclass
class RowCounts:
    """The rows of some templates that are due in a window.

    Attributes:
        due: By template, due times with the number of rows, in no order.
        uncounted: Templates whose rows are too many, or cannot be read.
        planned: The number of different dates that were planned.
    """

    due: dict[str, list[tuple[datetime, int]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    uncounted: set[str] = field(default_factory=set)
    planned: int = 0


@dataclass(frozen=True)
class _Asked:
    """A template and its query."""

    template: DateFieldType
    scan: Scan
    query: Select[Any]


def rows_due(
    engine: Engine,
    templates: Iterable[DateFieldType],
    now: datetime,
    after: datetime,
    before: datetime,
    found: RowCounts,
) -> None:
    """Count the rows that are due after an instant and before another.

    Args:
        engine: The engine of the rows' database.
        templates: Enabled templates of rows in that database.
        now: The present instant, for `Q.today` and `Q.now`.
        after: The start of the window, excluded; in the future.
        before: The end of the window, excluded.
        found: Takes the counts.
    """
    alike: dict[object, list[_Asked]] = defaultdict(list)
    for template in templates:
        try:
            asked = _asked(engine, template, now, after, before)
        except (JittaskError, SQLAlchemyError) as error:
            log.debug("%s: its rows are not counted: %s", template.fullName, error)
            found.uncounted.add(template.fullName)
            continue
        if asked is not None:
            alike[_types(asked.scan)].append(asked)
    for group in alike.values():
        for start in range(0, len(group), AT_ONCE):
            part = group[start : start + AT_ONCE]
            for each, pairs in _pairs(engine, part, found):
                _count(each.template, pairs, after, before, found)


def _asked(
    engine: Engine,
    template: DateFieldType,
    now: datetime,
    after: datetime,
    before: datetime,
) -> _Asked | None:
    check_rows(template)
    scan = Scan(template, now, engine.dialect.name)
    condition = scan.condition((after, before - TICK))
    if condition is None:
        return None
    columns = row_columns(template)
    places = [*VALUES[: len(columns.dates)], *VALUES[2 : 2 + len(columns.own)]]
    values = dict(zip(places, columns.asked(scan.model), strict=True))
    asked = [values.get(place, null()).label(place) for place in VALUES]
    # A column of a related row is a query in itself, and could not be grouped by.
    rows = select(*asked).where(condition).subquery()
    name, number = (
        literal(template.fullName).label("task"),
        func.count().label("number"),
    )
    query = select(name, *rows.c, number).group_by(*rows.c).limit(MOST_DATES + 1)
    return _Asked(template, scan, query)


def _types(scan: Scan) -> object:
    """A union returns dates of a single type unchanged."""
    return tuple(repr(getattr(scan.model, column.key).type) for column in scan.dates)


def _pairs(
    engine: Engine, asked: Sequence[_Asked], found: RowCounts
) -> Iterator[tuple[_Asked, list[Pair]]]:
    """The dates of each template's rows; a template that spoils the statement is left out."""
    by_name = {each.template.fullName: each for each in asked}
    parts = [each.query.subquery().select() for each in asked]
    pairs: dict[str, list[Pair]] = defaultdict(list)
    try:
        with engine.connect() as connection:
            records = connection.execute(union_all(*parts) if parts[1:] else parts[0])
            for name, *values, count in records:
                pairs[name].append((tuple(values), count))
    except (SQLAlchemyError, *BAD_DATES) as error:
        if len(asked) == 1:
            log.debug("%s: its rows are not counted: %s", *by_name, error)
            found.uncounted |= set(by_name)
            return
        half = len(asked) // 2
        yield from _pairs(engine, asked[:half], found)
        yield from _pairs(engine, asked[half:], found)
        return
    for name, of_task in pairs.items():
        yield by_name[name], of_task


def _count(
    template: DateFieldType,
    pairs: Sequence[Pair],
    after: datetime,
    before: datetime,
    found: RowCounts,
) -> None:
    name, left, due = template.fullName, MOST_OCCURRENCES, []
    found.planned += len(pairs)
    if len(pairs) > MOST_DATES or found.planned > MOST_IN_ALL:
        found.uncounted.add(name)
        return
    columns = row_columns(template)
    ends = len(columns.dates)
    for (*dates, first, second), count in pairs:
        try:
            own = (first, second)[: len(columns.own)]
            series = template.series_of(columns.times([*dates[:ends], *own]))
            if series is None:
                continue
            occurrences = islice(series.between(after + TICK, before), left + 1)
            times = [occurrence.due for occurrence in occurrences]
        except BAD_DATES as error:
            log.debug("%s: a date is not counted: %s", name, error)
            continue
        left -= len(times)
        if left < 0:
            found.uncounted.add(name)
            return
        due += [(at, count) for at in times]
    found.due[name] += due
