"""A cron expression as RRULEs: one, or two joined where day of month and day of week are joined by *or*."""

from __future__ import annotations

from datetime import datetime

import pytest

from jittask_prefect.schedule.cron import read_cron
from jittask_prefect.schedule.custom import CustomRule


@pytest.mark.parametrize(
    ("cron", "rules"),
    [
        ("0 9 * * *", ["FREQ=DAILY;BYHOUR=9;BYMINUTE=0;BYSECOND=0"]),
        (
            "30 8 1,15 * *",
            ["FREQ=DAILY;BYHOUR=8;BYMINUTE=30;BYMONTHDAY=1,15;BYSECOND=0"],
        ),
        ("0 9 * * 1-5", ["FREQ=DAILY;BYHOUR=9;BYMINUTE=0;BYSECOND=0;BYDAY=MO,TU,WE,TH,FR"]),
        (
            "0 9 1 jan sun",
            [
                "FREQ=DAILY;BYHOUR=9;BYMINUTE=0;BYMONTH=1;BYMONTHDAY=1;BYSECOND=0",
                "FREQ=DAILY;BYHOUR=9;BYMINUTE=0;BYMONTH=1;BYSECOND=0;BYDAY=SU",
            ],
        ),
        # No 31 February: only the Mondays are left.
        ("0 9 31 2 1", ["FREQ=DAILY;BYHOUR=9;BYMINUTE=0;BYMONTH=2;BYSECOND=0;BYDAY=MO"]),
    ],
)  # fmt: skip
def test_an_expression_as_rules(cron: str, rules: list[str]) -> None:
    assert [rule.text for rule in read_cron(cron)] == [f"RRULE:{r}" for r in rules]


def test_joined_times_come_in_order_each_once() -> None:
    # June 1, 2026 is a Monday.
    series = CustomRule.read("0 9 1 * 1", None).at(datetime(2026, 5, 30))
    low, high = datetime(2026, 5, 30), datetime(2026, 7, 2)
    days = [at.strftime("%m-%d") for at in series.wall_times(low, high)]
    assert days == ["06-01", "06-08", "06-15", "06-22", "06-29", "07-01"]
    assert series.first(datetime(2026, 6, 30)) == datetime(2026, 7, 1, 9)


def test_times_of_cron_have_no_fraction_of_a_second() -> None:
    start = datetime(2026, 6, 1, 9, 0, 0, 1)
    series = CustomRule.read("* * * * *", None).at(start)
    assert series.first(start) == datetime(2026, 6, 1, 9, 1)
