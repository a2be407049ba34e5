"""Timer + window → the query for the rows that can be due in it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy import inspect as sa_inspect
from sqlmodel import Session

from ..elements.q_bind import Column, Kind, column
from ..elements.types import DateFieldType
from . import ledger


def condition(template: DateFieldType, after: datetime, before: datetime, now: datetime) -> ColumnElement[bool]:
    """What a row must meet to be looked at: a date near enough to the window, and the filter.

    Args:
        template: The date-field template.
        after: Start of the window.
        before: End of the window.
        now: The present instant, for `Q.today` and `Q.now`.
    """
    model, zone = template.model, template.timer.zone
    name = str(template.timer.cfg.start_field)
    field, held = getattr(model, name), column(model, name)
    low, high = template.timer.field_range(after, before)
    parts = [field.is_not(None), template.filter.condition(model, now, zone)]
    if low is not None:
        parts.append(field >= as_column(held, low, zone))
    if high is not None:
        parts.append(field <= as_column(held, high, zone))
    return and_(*parts)


def as_column(held: Column, instant: datetime, zone: ZoneInfo) -> date | datetime:
    """An instant as a value of a column: a date, a naive local time, or an aware one."""
    local = instant.astimezone(zone)
    if held.kind is Kind.DATE:
        return local.date()
    return instant if held.aware else local.replace(tzinfo=None)


def rows(
    session: Session, template: DateFieldType, after: datetime, before: datetime, now: datetime, chunk: int = 500
) -> Iterator[list[Any]]:
    """The rows that can be due in the window, in chunks, read as a stream."""
    model = template.model
    keys = sa_inspect(model).primary_key
    query = select(model).where(condition(template, after, before, now)).order_by(*keys)
    found = session.execute(query, execution_options={"yield_per": chunk}).scalars()
    for part in found.partitions(chunk):
        yield list(part)
        session.expunge_all()


def load(session: Session, template: DateFieldType, key: str) -> Any:
    """The row of a key, fresh from the database; None where there is none, or the key is none of the model's."""
    try:
        value = ledger.key_value(template.model, key)
    except (ValueError, TypeError, ArithmeticError):
        return None
    return session.get(template.model, value, populate_existing=True)
