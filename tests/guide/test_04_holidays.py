"""`skipHoliday` moves what falls on a holiday to a working day, and says so."""

from datetime import datetime
from pathlib import Path
from typing import Any

from jittask_prefect.testing import build_app


def due_days(
    folder: Path, after: str, before: str, calendar: str = "CN", **timer: Any
) -> list[str]:
    """The days on which a daily task of 09:00 is due."""
    daily = {
        "type": "tasks.NormalType",
        "title": "Daily",
        "timerCfg": {
            "startTime": "2026-01-01 09:00:00",
            "repeat": {"repeatType": "day"},
            "skipHoliday": 1,
            **timer,
        },
    }
    app = build_app(
        folder,
        {"tasks/Daily": {"e.json": daily, "inner.py": "def customFunc(): ...\n"}},
        timezone="Asia/Shanghai",
        calendar=calendar,
        calendars={"office": {"country": "CN", "closed": ["2026-09-21/2026-09-22"]}},
    )
    window = (datetime.fromisoformat(after), datetime.fromisoformat(before))
    return [f"{d:%m-%d}" for d in app.getElement("tasks.Daily").occurrences(*window)]


def test_a_holiday_moves_to_the_next_working_day(tmp_path: Path) -> None:
    # China's National Day 2026 is off from 1 to 7 October: seven occurrences arrive on the 8th, as one.
    assert due_days(tmp_path, "2026-09-29", "2026-10-10") == [
        "09-29",
        "09-30",
        "10-08",
        "10-09",
    ]


def test_or_to_the_previous_one_or_nowhere(tmp_path: Path) -> None:
    # `previous` carries them to 30 September, where one is already: two at one instant are one.
    assert due_days(
        tmp_path / "a", "2026-09-29", "2026-10-10", holidayPolicy="previous"
    ) == [
        *("09-29", "09-30", "10-08", "10-09"),
    ]
    assert due_days(
        tmp_path / "b", "2026-10-01", "2026-10-10", holidayPolicy="skip"
    ) == ["10-08", "10-09"]


def test_an_ordinary_weekend_is_no_holiday(tmp_path: Path) -> None:
    # Saturday 11 and Sunday 12 July 2026.
    assert due_days(tmp_path / "a", "2026-07-10", "2026-07-14") == [
        "07-10",
        "07-11",
        "07-12",
        "07-13",
    ]
    assert due_days(tmp_path / "b", "2026-07-10", "2026-07-14", workdaysOnly=1) == [
        "07-10",
        "07-13",
    ]


def test_the_house_has_days_of_its_own(tmp_path: Path) -> None:
    # app.json's calendar `office`: China's, and closed on 21 and 22 September.
    assert due_days(tmp_path, "2026-09-20", "2026-09-24", calendar="office") == [
        "09-20",
        "09-23",
    ]
