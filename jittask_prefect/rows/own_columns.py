"""The columns of a row's own zone and calendar in SQL: which values occur, and rows with such values.

A value is compared as the ledger keeps it: empty for null, cut to the ledger's length, by code point.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from jittask_prefect.elements.row_timers import KINDS, LONGEST
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.filters.columns import Column
from jittask_prefect.filters.paths import value_of
from jittask_prefect.filters.sql_functions import Spelled
from jittask_prefect.ledger.tables import entries
from jittask_prefect.rows.row_reading import row_columns
from jittask_prefect.validation import quoted

Own = tuple[str | None, str | None]
"""The values of a row's zone and calendar as the ledger keeps them; None where the task has no such field."""
MOST = 1000
"""Pairs of values that are told apart; where there are more, rows are read that are not due."""
AT_ONCE = 200
KEPT_IN = {
    "timezoneField": entries.c.zone_value,
    "calendarField": entries.c.calendar_value,
}


class OwnColumns:
    """The two columns of a template's rows.

    Args:
        template: The template; it names one of the two fields at least.
    """

    def __init__(self, template: DateFieldType) -> None:
        columns = row_columns(template)
        self._of = {
            key: _kept(column, template.model, key) for key, column in columns.own
        }

    def unchanged(self) -> Iterator[ColumnElement[bool]]:
        """That the values of the row are those that the ledger keeps beside its task."""
        for key, value in self._of.items():
            yield _exact(KEPT_IN[key]) == value

    def pairs(
        self, connection: Connection, condition: ColumnElement[bool]
    ) -> list[Own] | None:
        """The pairs of values of the rows that meet a condition; None where there are more than MOST."""
        named = [value.label(f"own_{n}") for n, value in enumerate(self._of.values())]
        query = select(*named).where(condition).distinct().limit(MOST + 1)
        found = [
            [_text(value) for value in record] for record in connection.execute(query)
        ]
        return [self._own(values) for values in found] if len(found) <= MOST else None

    def counts(
        self, connection: Connection, condition: ColumnElement[bool]
    ) -> Iterator[tuple[Own, int]]:
        """The number of rows that meet a condition, by their pair of values."""
        named = [value.label(f"own_{n}") for n, value in enumerate(self._of.values())]
        rows = select(*named).where(condition).subquery()
        query = select(*rows.c, func.count()).group_by(*rows.c)
        for *values, count in connection.execute(query):
            yield self._own([_text(value) for value in values]), count

    def _own(self, values: Sequence[str]) -> Own:
        by_key = dict(zip(self._of, values, strict=True))
        return by_key.get("timezoneField"), by_key.get("calendarField")

    def among(self, pairs: Sequence[Own]) -> ColumnElement[bool]:
        """That a row has one of some pairs of values."""
        by_zone: dict[str | None, list[str | None]] = {}
        for zone, calendar in pairs:
            by_zone.setdefault(zone, []).append(calendar)
        if "calendarField" not in self._of:
            return self._in("timezoneField", list(by_zone))
        if "timezoneField" not in self._of:
            return self._in("calendarField", by_zone[None])
        return any_of(
            [
                and_(
                    self._in("timezoneField", [zone]),
                    self._in("calendarField", calendars),
                )
                for zone, calendars in by_zone.items()
            ]
        )

    def _in(self, key: str, values: Sequence[str | None]) -> ColumnElement[bool]:
        value = self._of[key]
        if len(values) == 1:
            found: ColumnElement[bool] = value == sa.literal(values[0], sa.String())
            return found
        listed: ColumnElement[bool] = value.in_(
            [sa.literal(each, sa.String()) for each in values]
        )
        return listed


def _kept(column: Column, model: Any, key: str) -> Any:
    """The value of a row's column as the ledger keeps the value, to be compared exactly."""

    def cut(value: Any) -> Any:
        plain = func.rtrim(value) if isinstance(column.type, sa.CHAR) else value
        return func.substr(plain, 1, LONGEST[key])

    return _exact(
        func.coalesce(value_of(column, model, cut), sa.literal("", sa.String()))
    )


def _exact(value: Any) -> Any:
    return Spelled("code points", value, type_=sa.String())


def _text(value: Any) -> str:
    """A value as a text; MariaDB gives the bytes of an exact text."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def any_of(parts: Sequence[ColumnElement[bool]]) -> ColumnElement[bool]:
    """The parts, joined by OR in groups: SQLite nests at most 1,000 conditions."""
    if len(parts) <= AT_ONCE:
        return or_(*parts)
    groups = [or_(*parts[n : n + AT_ONCE]) for n in range(0, len(parts), AT_ONCE)]
    return or_(*map(sa.sql.elements.Grouping, groups))


# Rows without a known value

SHOWN = 3
"""Values that a sentence names."""


def unknown_values(
    connection: Connection, template: DateFieldType, now: datetime
) -> Iterator[str]:
    """How many rows of a template have no known zone, or calendar, of their own; a sentence for each of the two fields.

    Args:
        connection: To the database of the rows.
        template: The template.
        now: The present instant, for the template's filter.
    """
    if not template.own_fields:
        return
    start = getattr(template.model, str(template.timer.cfg.start_field))
    met = template.filter.condition(template.model, now, template.timer.zone)
    counts = list(OwnColumns(template).counts(connection, start.is_not(None) & met))
    for place, key in enumerate(KEPT_IN):
        unknown: Counter[str] = Counter()
        for own, count in counts:
            if (value := own[place]) is not None and template.row_timers.unknown(
                key, value
            ):
                unknown[value] += count
        if unknown:
            yield f"{template.fullName}: {_told(template, key, unknown)}"


def _told(template: DateFieldType, key: str, unknown: Counter[str]) -> str:
    most = sorted(unknown, key=lambda value: (-unknown[value], value))[:SHOWN]
    named = ", ".join(quoted(value) if value else "empty" for value in most)
    more = ", …" if len(unknown) > SHOWN else ""
    rows = f"{unknown.total():,} rows whose `{template.own_fields[key]}`"
    usual = template.row_timers.usual_text(key)
    return f"{rows} is no known {KINDS[key]} ({named}{more}); the task's own counts, {usual}"
