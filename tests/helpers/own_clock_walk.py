"""A brute force for rows that have a zone and a calendar of their own: which of both counts, then from day to day.

Independent of the package, as `workday_walk` is: zones are those of the standard library, calendars those of `holidays`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any
from zoneinfo import available_timezones

import holidays
from workday_walk import Cfg, walk

ZONES = frozenset(available_timezones())
SUBDIVISIONS = holidays.list_supported_countries()


@lru_cache(maxsize=100)
def calendar_named(name: str | None) -> tuple[tuple[str, str | None], ...] | None:
    """The keys of a calendar of app.json for a country or a subdivision; None for any other text."""
    code, dash, subdiv = (name or "").partition("-")
    if code not in SUBDIVISIONS or (dash and subdiv not in SUBDIVISIONS[code]):
        return None
    block = "contiguous" if code == "CN" else "listed"
    return ("country", code), ("subdiv", subdiv or None), ("block", block)


def own_walk(
    cfg: Cfg,
    usual: str | None,
    after: datetime,
    before: datetime,
    row: Mapping[str, Any],
) -> list[datetime]:
    """Every due instant of a row with after <= due < before, UTC.

    Args:
        cfg: The raw timerCfg; its columns are names of the row's values.
        usual: The country of the task's own calendar.
        after: First instant.
        before: Last instant, excluded.
        row: The row's values by column.
    """
    own = row.get(cfg.get("timezoneField", ""))
    zone = own if own in ZONES else cfg["timezone"]
    named = calendar_named(row.get(cfg.get("calendarField", ""))) or calendar_named(
        usual
    )
    there = {"repeat": {"repeatType": "normal"}, **cfg, "timezone": zone}
    calendar = dict(named) if named else None
    end = row.get(cfg.get("endField", ""))
    return walk(there, calendar, after, before, row[cfg["startField"]], end)
