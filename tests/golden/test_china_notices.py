"""China's calendar, day by day, against the State Council's notices of 2019 to 2026."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from jittask_prefect.schedule.calendar import Calendar

NOTICES = json.loads((Path(__file__).parent / "china_notices.json").read_text())[
    "notices"
]


def days(ranges: list[str]) -> set[date]:
    found = set()
    for text in ranges:
        first, _, last = text.partition("/")
        day = date.fromisoformat(first)
        while day <= date.fromisoformat(last or first):
            found.add(day)
            day += timedelta(1)
    return found


@pytest.mark.parametrize("notice", NOTICES, ids=[n["year"] for n in NOTICES])
def test_every_day_of_a_notice(notice: dict[str, Any]) -> None:
    china = Calendar.read("CN")
    assert china is not None
    off, worked = days(notice["off"]), days(notice["worked"])
    # What a notice says of the last days of the year before, and nothing of what the next one says of this year's last.
    every = days(
        [f"{min(off | worked | {date(notice['year'], 1, 1)})}/{notice['year']}-12-28"]
    )
    assert {day for day in every if china.is_holiday(day)} == off
    assert {day for day in every if china.is_makeup(day)} == worked
    ordinary = every - off - worked
    assert {day for day in ordinary if china.is_working_day(day)} == {
        day for day in ordinary if day.weekday() < 5
    }
    assert all(china.is_working_day(day) for day in worked) and not any(
        china.is_working_day(day) for day in off
    )


def test_2026_has_33_days_off_and_6_make_up_days() -> None:
    notice = NOTICES[-1]
    assert (notice["year"], len(days(notice["off"])), len(notice["worked"])) == (
        2026,
        33,
        6,
    )
