"""Which occurrences of a row a plan asks about, and when a task stands for one of them; pure, with dates by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jittask_prefect.elements.config import Missed
from jittask_prefect.ledger.entry import new_entry
from jittask_prefect.rows.level_tasks import stands
from jittask_prefect.rows.plan import since_moved, wanted
from jittask_prefect.schedule.series import Series
from jittask_prefect.schedule.timer import Timer

NOW = datetime(2026, 3, 20, 8, tzinfo=UTC)
HORIZON = NOW + timedelta(days=30)
LEVELS = [
    {"name": name, "offsetType": 1, "offset": days, "offsetUnit": "day"}
    for name, days in (("first", 3), ("second", 14), ("final", 30))
]


def series(value: datetime, **cfg: Any) -> Series:
    timer = Timer({"startField": "due", "timezone": "UTC", **cfg})
    found = timer.series(value)
    assert found is not None
    return found


def asked(found: Series, **missed: Any) -> list[str]:
    """The occurrences that are asked about when a row's date moved."""
    about = since_moved(found, NOW, Missed(**missed), HORIZON)
    return [f"{each.due:%m-%d} {each.level or ''}".strip() for each in about]


@pytest.mark.parametrize(
    ("date", "lookback", "expected"),
    [
        ("2026-03-19", 86400, ["03-22 first", "04-02 second", "04-18 final"]),
        # The first level, on 19 March, lies within two days, and not within a day.
        ("2026-03-16", 172800, ["03-19 first", "03-30 second", "04-15 final"]),
        ("2026-03-16", 3600, ["03-19 first", "03-30 second", "04-15 final"]),
        # Of levels before the lookback the last is asked about, beside those to come.
        ("2026-03-02", 86400, ["03-16 second", "04-01 final"]),
        ("2026-03-02", 30 * 86400, ["03-05 first", "03-16 second", "04-01 final"]),
        ("2026-01-02", 86400, ["02-01 final"]),
    ],
)
def test_levels_of_a_moved_date(date: str, lookback: int, expected: list[str]) -> None:
    found = series(datetime.fromisoformat(date), startOffset=LEVELS)
    assert asked(found, lookback=lookback) == expected


def test_a_single_date_is_asked_about_however_old_and_a_repeat_is_not() -> None:
    old = datetime(2026, 1, 5)
    assert asked(series(old)) == ["01-05"]
    assert asked(series(old, repeat={"repeatType": "week"}))[:2] == ["03-23", "03-30"]


def test_the_sync_asks_from_behind_its_mark_up_to_the_horizon() -> None:
    found = series(datetime(2026, 3, 2), startOffset=LEVELS)
    due = [
        each.due for each in wanted(found, NOW - timedelta(days=4, hours=8), HORIZON)
    ]
    assert due == [datetime(2026, 4, 1, tzinfo=UTC)]
    due = [each.due for each in wanted(found, NOW, datetime(2026, 4, 1, tzinfo=UTC))]
    assert due == [datetime(2026, 4, 1, tzinfo=UTC)]


def test_a_task_stands_by_due_time_nominal_time_and_level() -> None:
    found = series(datetime(2026, 3, 2), startOffset=LEVELS)
    at = datetime(2026, 3, 16, tzinfo=UTC)
    about = {"task_id": "t", "app": "shop", "template": "tasks.T", "created": NOW}
    entry = new_entry(**about, due=at, nominal=at, level="second")
    assert stands(entry, found)
    assert not stands(replace(entry, level="first"), found)
    assert not stands(replace(entry, level=None), found)
    assert not stands(replace(entry, nominal=None), found)
    assert not stands(replace(entry, due=at + timedelta(1)), found)
