"""Cron and RRULE: against dateutil, and against the reading of each field by itself."""

from __future__ import annotations

import random
import time
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from dateutil.rrule import rrulestr

from jittask_prefect.errors import ConfigError
from jittask_prefect.schedule.custom import CustomRule
from jittask_prefect.schedule.rrule import RRule
from jittask_prefect.schedule.timer import Timer

WEEKDAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]


def some_rule(pick: random.Random) -> str:
    def numbers(low: int, high: int) -> str:
        return ",".join(map(str, pick.sample(range(low, high + 1), pick.randint(1, 3))))

    freq = pick.choice(["MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"])
    parts = [f"FREQ={freq}"]
    if pick.random() < 0.5:
        parts.append(
            f"INTERVAL={pick.choice([7, 45, 90] if freq == 'MINUTELY' else [1, 2, 3, 5, 13])}"
        )
    if pick.random() < 0.3:
        parts.append(f"BYMONTH={numbers(1, 12)}")
    if pick.random() < 0.2:
        parts.append(f"BYMONTHDAY={pick.choice([numbers(1, 31), '-1', '-2,5'])}")
    if pick.random() < 0.1:
        parts.append(f"BYYEARDAY={pick.choice([numbers(1, 366), '-1', '-300,5'])}")
    if pick.random() < 0.1:
        parts.append(f"BYWEEKNO={pick.choice([numbers(1, 53), '-1', '1', '53'])}")
    if pick.random() < 0.3:
        days = pick.sample(WEEKDAYS, pick.randint(1, 4))
        if freq in ("MONTHLY", "YEARLY") and pick.random() < 0.6:
            days = [pick.choice(["1", "2", "-1", "5"]) + day for day in days]
        parts.append(f"BYDAY={','.join(days)}")
    if pick.random() < 0.3:
        parts.append(f"BYHOUR={numbers(0, 23)}")
    if pick.random() < 0.2:
        parts.append(f"BYMINUTE={numbers(0, 59)}")
    if pick.random() < 0.2:
        parts.append(f"WKST={pick.choice(WEEKDAYS)}")
    if (
        pick.random() < 0.1 and freq != "WEEKLY"
    ):  # dateutil counts a first week's positions from DTSTART on
        parts.append(f"BYSETPOS={pick.choice(['1', '-1', '2,-2'])}")
    return ";".join(parts)


def test_rules_mean_what_they_mean_to_dateutil() -> None:
    pick = random.Random(7)
    compared = 0
    while compared < 200:
        text = some_rule(pick)
        start = datetime(2024, 1, 1) + timedelta(
            days=pick.randint(0, 700), minutes=pick.randint(0, 1439)
        )
        try:
            series = RRule.read(text).at(start)
        except ValueError:
            continue
        if not series.matches():
            continue
        low = start + timedelta(pick.randint(0, 60))
        high = low + timedelta(20 if series.sub_daily else 500)
        theirs = []
        for at in rrulestr(text, dtstart=start).xafter(low, inc=True):
            if at >= high:
                break
            theirs.append(at)
        assert list(series.wall_times(low, high)) == theirs, text
        compared += 1


def weeks_by_hand(day: date, wkst: int) -> set[int]:
    """The number of a day's week, from the first and from the last: week 1 is the one of January 4 (ISO 8601)."""

    def begin(at: date) -> date:
        return at - timedelta((at.weekday() - wkst) % 7)

    year = next(
        y for y in (day.year + 1, day.year, day.year - 1) if begin(date(y, 1, 4)) <= day
    )
    first, after = begin(date(year, 1, 4)), begin(date(year + 1, 1, 4))
    number = (begin(day) - first).days // 7 + 1
    return {number, number - (after - first).days // 7 - 1}


def test_positions_of_weeks_and_numbers_of_weeks_are_those_counted_by_hand() -> None:
    """BYSETPOS counts in the whole week, the start's own too; dateutil, as other tests use it, does not."""
    pick = random.Random(11)
    for _ in range(60):
        wkst, interval = pick.randrange(7), pick.choice([1, 2, 3])
        weekdays = sorted(pick.sample(range(7), pick.randint(1, 5)))
        start = datetime(2020, 1, 1, 9) + timedelta(pick.randint(0, 2500))
        end = start + timedelta(800)
        days = [start.date() + timedelta(n) for n in range(801)]
        names = ",".join(WEEKDAYS[n] for n in weekdays)
        tail = f"INTERVAL={interval};WKST={WEEKDAYS[wkst]};BYDAY={names}"
        place = pick.choice([1, 2, -1, -2])
        own = start.date() - timedelta((start.weekday() - wkst) % 7)
        expected = []
        for monday in range(0, 810, 7 * interval):
            week = [own + timedelta(monday + n) for n in range(7)]
            found = [day for day in week if day.weekday() in weekdays]
            at = place - 1 if place > 0 else len(found) + place
            expected += found[at : at + 1] if at >= 0 else []
        series = RRule.read(f"FREQ=WEEKLY;{tail};BYSETPOS={place}").at(start)
        assert [at.date() for at in series.wall_times(start, end)] == [
            day for day in expected if start.date() <= day < days[-1]
        ]
        number = pick.choice([1, 2, 20, 51, 52, 53, -1, -2, -51, -52, -53])
        rule = RRule.read(f"FREQ=YEARLY;{tail};BYWEEKNO={number}")
        by_hand = [
            day
            for day in days[:-1]
            if day.weekday() in weekdays and number in weeks_by_hand(day, wkst)
        ]
        by_hand = [day for day in by_hand if (day.year - start.year) % interval == 0]
        assert [at.date() for at in rule.at(start).wall_times(start, end)] == by_hand, (
            number
        )


def wall(rule: str, start: str, low: str, high: str) -> list[str]:
    series = RRule.read(rule).at(datetime.fromisoformat(start))
    return [
        f"{at:%m-%d %H:%M}"
        for at in series.wall_times(
            datetime.fromisoformat(low), datetime.fromisoformat(high)
        )
    ]


def test_weekdays_with_and_without_a_number_are_either() -> None:
    # RFC 5545 §3.3.10. March 2026: the first Monday is the 2nd, Wednesdays are 4, 11, 18, 25.
    found = wall(
        "FREQ=MONTHLY;BYDAY=WE,1MO", "2026-01-01 09:00", "2026-03-01", "2026-04-01"
    )
    assert found == [
        "03-02 09:00",
        "03-04 09:00",
        "03-11 09:00",
        "03-18 09:00",
        "03-25 09:00",
    ]


@pytest.mark.parametrize(
    "rule",
    ["FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30", "FREQ=YEARLY;BYWEEKNO=1;BYMONTH=6",
     "FREQ=MINUTELY;INTERVAL=1440;BYHOUR=5", "FREQ=HOURLY;INTERVAL=24;BYHOUR=5", "FREQ=WEEKLY;BYDAY=MO;BYSETPOS=9",
     "FREQ=YEARLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYMONTH=1;BYSETPOS=366", "FREQ=YEARLY;INTERVAL=4;BYMONTH=2;BYMONTHDAY=29"],
)  # fmt: skip
def test_a_rule_that_never_matches_is_refused_at_once(rule: str) -> None:
    begun = time.process_time()
    with pytest.raises(ConfigError, match="never does"):
        Timer(
            {
                "startTime": "2026-01-05 09:00:00",
                "repeat": {"repeatType": "custom", "rrule": rule},
            }
        )
    assert (
        time.process_time() - begun < 2
    )  # 0.1 by design; a hang, not a slow machine, is what this finds


@pytest.mark.parametrize(
    "rule", ["FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO", "FREQ=YEARLY;INTERVAL=40"]
)
def test_a_rule_that_seldom_matches_is_taken(rule: str) -> None:
    timer = Timer(
        {
            "startTime": "2025-01-05 09:00:00",
            "repeat": {"repeatType": "custom", "rrule": rule},
        }
    )
    assert timer.nextTime(datetime(2025, 2, 1)) is not None


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ("FREQ=DAILY;COUNT=3", "COUNT"),
        ("FREQ=DAILY;UNTIL=20270101T000000Z", "UNTIL"),
        ("DTSTART:20260101T000000\nRRULE:FREQ=DAILY", "DTSTART"),
        ("FREQ=DAILY\nEXDATE:20260101T000000", "one RRULE line"),
        ("INTERVAL=2", "FREQ"),
        ("FREQ=FORTNIGHTLY", "FREQ"),
        ("FREQ=DAILY;INTERVAL=0", "INTERVAL"),
        ("FREQ=DAILY;BYDAY=XX", "BYDAY"),
        ("FREQ=DAILY;BYDAY=1MO", "BYDAY"),
        ("FREQ=DAILY;BYHOUR=24", "BYHOUR"),
        ("FREQ=DAILY;BYEASTER=0", "BYEASTER"),
        ("FREQ=DAILY;FREQ=WEEKLY", "each name once"),
        ("", "NAME=VALUE"),
    ],
)
def test_what_is_no_rule_is_refused(rule: str, allowed: str) -> None:
    with pytest.raises(ValueError, match=allowed):
        RRule.read(rule)


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 9 * * *", ["03-01 09:00", "03-02 09:00", "03-03 09:00"]),
        ("*/30 9 1 * *", ["03-01 09:00", "03-01 09:30"]),
        (
            "5,10 9-10 1 3 *",
            ["03-01 09:05", "03-01 09:10", "03-01 10:05", "03-01 10:10"],
        ),
        ("0 0-23/12 1 mar *", ["03-01 00:00", "03-01 12:00"]),
        ("0 9 * * 7", ["03-01 09:00"]),  # March 1, 2026 is a Sunday
        ("0 9 * * 0", ["03-01 09:00"]),
        ("0 9 * * mon-TUE", ["03-02 09:00", "03-03 09:00"]),
        ("0 9 * * sat-sun", ["03-01 09:00"]),
        ("0 9 3 * 1", ["03-02 09:00", "03-03 09:00"]),  # the 3rd or a Monday
        # Only * leaves a field out (crontab(5)): the 1st to 31st, or a Monday.
        ("0 9 1-31 * 1", ["03-01 09:00", "03-02 09:00", "03-03 09:00"]),
        ("0 9 2/2 * *", ["03-02 09:00"]),
        # A field that begins with * leaves *and* (crontab(5)): odd days that are Tuesdays; from 2/2 on *or*.
        ("0 9 */2 * 2", ["03-03 09:00"]),
        ("0 9 */2 * 1", []),
        (
            "0 9 3 * */2",
            ["03-03 09:00"],
        ),  # a Tuesday, of Sunday 0, Tuesday 2, Thursday 4 and Saturday 6
        ("0 9 1-31/2 * 1", ["03-01 09:00", "03-02 09:00", "03-03 09:00"]),
    ],
)
def test_cron_fields(cron: str, expected: list[str]) -> None:
    series = CustomRule.read(cron, None).at(datetime(2026, 1, 1))
    assert [
        f"{at:%m-%d %H:%M}"
        for at in series.wall_times(datetime(2026, 3, 1), datetime(2026, 3, 4))
    ] == expected


@pytest.mark.parametrize(
    "cron",
    ["0 9 * *", "0 0 9 * * *", "60 9 * * *", "0 24 * * *", "0 9 0 * *", "0 9 32 * *", "0 9 * 13 *", "0 9 * * 8",
     "0 9 * * noday", "5-1 9 * * *", "*/0 9 * * *", "0 9 30 2 *", "0 9 31 4,6,9,11 *", "@daily", "", "a b c d e",
     "0 9 L * *", "0 9 * * 1#2", "0, 9 * * *"],
)  # fmt: skip
def test_what_is_no_cron_is_refused(cron: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Timer(
            {
                "startTime": "2026-01-05 09:00:00",
                "repeat": {"repeatType": "custom", "cron": cron},
            }
        )
    (problem,) = caught.value.problems
    assert problem.key == "timerCfg.repeat.cron"


def test_seeking_costs_the_same_from_a_start_long_ago() -> None:
    def cost(start: str, repeat: dict[str, Any]) -> float:
        timer = Timer({"startTime": start, "repeat": repeat})
        begun = time.process_time()
        for n in range(20):
            timer.nextTime(datetime(2026, 1, 1) + timedelta(n))
        return time.process_time() - begun

    for repeat in ({"repeatType": "minute"}, {"repeatType": "day", "period": 3}, {"repeatType": "month"},
                   {"repeatType": "custom", "rrule": "FREQ=HOURLY;INTERVAL=5"}):  # fmt: skip
        assert (
            cost("1970-01-01 00:00:00", repeat)
            < 5 * cost("2025-12-01 00:00:00", repeat) + 1
        )


def test_a_fraction_of_a_second_in_a_rows_date_costs_it_no_occurrence() -> None:
    at = datetime(2026, 3, 22, 1, 45, 0, 123456)
    for rule in ("FREQ=DAILY", "FREQ=HOURLY;INTERVAL=24", "FREQ=MONTHLY;BYMONTHDAY=22"):
        series = Timer(
            {"startField": "at", "repeat": {"repeatType": "custom", "rrule": rule}}
        ).series(at)
        assert series is not None
        found = [
            o.due for o in series.between(datetime(2026, 3, 1), datetime(2026, 5, 1))
        ]
        assert found[0].replace(tzinfo=None) == at and found[1].microsecond == 123456


def test_several_times_on_a_day_are_finer_than_a_day_in_cron_and_rrule_alike() -> None:
    # Friday 2026-12-25 and 2027-01-01 are holidays in the US.
    for rule in (
        {"cron": "0 9,17 * * 5"},
        {"rrule": "FREQ=WEEKLY;BYDAY=FR;BYHOUR=9,17;BYMINUTE=0"},
    ):
        cfg = {
            "startTime": "2026-01-01 00:00:00",
            "repeat": {"repeatType": "custom", **rule},
            "skipHoliday": 1,
        }
        found = Timer(cfg, "US").occurrences(
            datetime(2026, 12, 18), datetime(2027, 1, 9)
        )
        assert [f"{at:%m-%d %H}" for at in found] == [
            "12-18 09",
            "12-18 17",
            "01-08 09",
            "01-08 17",
        ]


@pytest.mark.parametrize(
    "rule",
    [
        {"cron": "0 9,17 1 * *"},
        {"rrule": "FREQ=MONTHLY;BYMONTHDAY=1;BYHOUR=9,17;BYMINUTE=0"},
    ],
    ids=str,
)
def test_two_times_on_a_day_of_the_month_move_together_and_keep_their_month(
    rule: dict[str, str],
) -> None:
    """January 1, 2027 is a holiday in the US (a Friday), and nothing else of that month would run."""
    cfg = {
        "startTime": "2026-01-01 00:00:00",
        "repeat": {"repeatType": "custom", **rule},
        "skipHoliday": 1,
    }
    found = Timer(cfg, "US").occurrences(datetime(2026, 12, 1), datetime(2027, 2, 2))
    expected = ["12-01 09", "12-01 17", "01-04 09", "01-04 17", "02-01 09", "02-01 17"]
    assert [f"{at:%m-%d %H}" for at in found] == expected
