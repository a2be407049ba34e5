"""What Prefect's server makes of our schedules is exactly what the timer says, with no instant twice.

The server's own code evaluates the text: prefect/server/schemas/schedules.py.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from server_dates import YEAR, fires
from timer_cases import (
    CALENDARS,
    ZONES,
    Moment,
    at_moment,
    custom_repeats,
    day_repeats,
    moments,
    step_repeats,
    timers,
    turning_repeats,
    windows,
    workday_repeats,
)

from jittask_prefect.errors import ConfigError
from jittask_prefect.schedule.prefect_schedules import at_instant, schedules
from jittask_prefect.schedule.rrule import MAX_RRULE_LENGTH
from jittask_prefect.schedule.schedule_text import NEVER, SLUGS
from jittask_prefect.schedule.timer import Timer

GOLDEN = json.loads(
    (Path(__file__).parents[2] / "golden" / "occurrences.json").read_text()
)["cases"]
NOW = datetime(2026, 9, 20, 13, 7, tzinfo=UTC)
Window = tuple[datetime, datetime]


def check(timer: Timer, now: datetime, windows: list[Window]) -> list[dict[str, Any]]:
    slots = schedules(timer, now)
    assert [slot["slug"] for slot in slots] == list(SLUGS)
    assert all(
        len(slot.get("rrule", "")) <= MAX_RRULE_LENGTH
        and "Z" not in slot.get("rrule", "")
        for slot in slots
    )
    for after, before in windows:
        fired = [
            at for slot in slots if slot["active"] for at in fires(slot, after, before)
        ]
        assert len(set(fired)) == len(fired)
        assert sorted(fired) == [
            at.astimezone(UTC) for at in timer.occurrences(after, before)
        ]
    return slots


def horizon(timer: Timer, now: datetime, more: tuple[int, ...] = ()) -> list[Window]:
    """All 400 days; where minutes and hours make that too much, some days of it, those of DST changes among them."""
    if not timer.sub_daily:
        return [(now, now + YEAR)]
    # From 2026-09-20 on: clocks change on October 4 (Lord Howe), October 25 (Berlin), November 1 (New York).
    return [
        (now + timedelta(n), now + timedelta(n + 2)) for n in (0, 11, 35, 41, *more)
    ]


@pytest.mark.parametrize("case", GOLDEN, ids=range(len(GOLDEN)))
def test_the_golden_timers(case: dict[str, Any]) -> None:
    timer = Timer(case["timerCfg"], calendar=case["calendar"])
    check(timer, NOW, horizon(timer, NOW))
    after = datetime.fromisoformat(case["after"])
    check(timer, after, horizon(timer, after))


relaxed = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck)
)
Case = tuple[dict[str, Any], dict[str, Any] | None]


def made(case: Case) -> Timer:
    try:
        return Timer(*case)
    except ConfigError:
        assume(False)
        raise


@relaxed
@given(timers(day_repeats()), st.integers(0, 2900), moments())
def test_days_and_longer(case: Case, days: int, moment: Moment) -> None:
    now = at_moment(case, datetime(2019, 6, 1, tzinfo=UTC) + timedelta(days), moment)
    check(made(case), now, [(now, now + YEAR)])


@relaxed
@given(timers(step_repeats()), st.integers(0, 2900), moments())
def test_minutes_and_hours(case: Case, days: int, moment: Moment) -> None:
    now = at_moment(case, datetime(2019, 6, 1, tzinfo=UTC) + timedelta(days), moment)
    timer = made(case)
    step = case[0]["repeat"].get("period", 1) * (
        60 if case[0]["repeat"]["repeatType"] == "hour" else 1
    )
    if step >= 120:
        check(timer, now, [(now, now + YEAR)])
    else:
        edge = now + timedelta(364.4)  # where a year of open days ends
        some = [now, edge, *around_changes(timer, now)[: 3 if step >= 15 else 1]]
        check(
            timer, now, [(at, at + timedelta(3 if step >= 15 else 1.2)) for at in some]
        )


@relaxed
@given(timers(custom_repeats()), st.integers(0, 2900), moments())
def test_custom_rules(case: Case, days: int, moment: Moment) -> None:
    now = at_moment(case, datetime(2019, 6, 1, tzinfo=UTC) + timedelta(days), moment)
    timer = made(case)
    series = timer.series()
    assert series is not None
    first = series.next(now - timedelta(microseconds=1))
    begin = min(max(now, first.due), now + timedelta(390)) if first else now
    dense = (
        sum(1 for _ in islice(series.between(begin, begin + timedelta(30)), 300)) == 300
    )
    some = [
        (at, at + timedelta(2)) for at in (now, begin, *around_changes(timer, now)[:2])
    ]
    check(timer, now, some if dense else [(now, now + YEAR)])


@settings(relaxed, max_examples=25)
@given(timers(turning_repeats()), st.integers(-30, 400))
def test_positions_in_the_starts_own_week_and_weeks_at_the_turn_of_the_year(
    case: Case, days: int
) -> None:
    """The server counts a week's positions from DTSTART on, and misreads the weeks 52 and 53 of a year."""
    timer = made(case)
    now = datetime.fromisoformat(case[0]["startTime"]).replace(tzinfo=UTC) + timedelta(
        days
    )
    check(timer, now, [(now, now + YEAR)])


@pytest.mark.parametrize(
    ("rule", "start", "expected"),
    [
        # Thursday: the first of Monday and Friday is the Monday, from the next week on.
        ("FREQ=WEEKLY;BYDAY=MO,FR;BYSETPOS=1", "2026-10-01", ["10-05", "10-12"]),
        (
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,FR;BYSETPOS=2",
            "2026-10-01",
            ["10-02", "10-16"],
        ),
        (
            "FREQ=WEEKLY;WKST=SU;BYDAY=SU,TH,FR;BYSETPOS=-1",
            "2026-10-01",
            ["10-02", "10-09"],
        ),
        # ISO 8601: January 1, 2027 (a Friday) is in week 53 of 2026, and week 1 begins on the 4th.
        (
            "FREQ=YEARLY;BYWEEKNO=53",
            "2026-12-30",
            ["12-30", "12-31", "01-01", "01-02", "01-03"],
        ),
        (
            "FREQ=YEARLY;BYWEEKNO=-53;BYDAY=MO",
            "2024-12-01",
            ["12-29"],
        ),  # week 1 of 2026, which has 53
        ("FREQ=YEARLY;BYWEEKNO=52;BYDAY=SA", "2026-12-01", ["12-26", "01-01"]),
    ],
)
def test_the_first_times_of_such_rules(
    rule: str, start: str, expected: list[str]
) -> None:
    timer = Timer(
        {
            "startTime": f"{start} 00:00:00",
            "repeat": {"repeatType": "custom", "rrule": rule},
        }
    )
    now = datetime.fromisoformat(start).replace(tzinfo=UTC) - timedelta(1)
    found = list(islice(timer.occurrences(now, now + timedelta(2000)), len(expected)))
    assert [f"{at:%m-%d}" for at in found] == expected
    check(timer, now, [(now, now + YEAR)])


@pytest.mark.parametrize(
    ("rule", "lines"),
    [
        (
            {"cron": "*/7 */6 13 2 5"},
            1,
        ),  # 2021-02-13 is a Saturday: closed, so the Fridays of February are left
        ({"cron": "*/7 */6 30 2 5"}, 1),
        ({"cron": "*/7 */6 12 2 1"}, 2),
        (
            {"rrule": "FREQ=MONTHLY;BYDAY=MO,5FR;BYMONTHDAY=1;BYHOUR=9,10"},
            1,
        ),  # no 1st is a fifth Friday
    ],
)
def test_a_line_that_never_fires_is_left_out(rule: dict[str, str], lines: int) -> None:
    """The server would look for its times until the year 9999: 3.8 s at each evaluation."""
    cfg = {
        "startTime": "2021-01-01 00:00:00",
        "repeat": {"repeatType": "custom", **rule},
        "holidayPolicy": "skip",
    }
    timer = Timer(cfg | {"workdaysOnly": True}, calendar=None)
    now = datetime(2020, 12, 24, tzinfo=UTC)
    slots = check(timer, now, [(now, now + YEAR)])
    assert (
        next(slot["rrule"].count("RRULE:") for slot in slots if slot["active"]) == lines
    )


def around_changes(timer: Timer, now: datetime) -> list[datetime]:
    """A day before each change of clocks, and before each run of days off, of the year after `now`."""
    days = [now + timedelta(n) for n in range(1, 398)]
    offsets = [at.astimezone(timer.zone).utcoffset() for at in days]
    off = [
        timer.moves.active
        and timer.moves.blocked(at.astimezone(timer.zone).date()) is not None
        for at in days
    ]
    changes = [
        day
        for day, one, two in zip(days, offsets, offsets[1:], strict=False)
        if one != two
    ]
    return [
        *changes,
        *(
            day
            for day, one, two in zip(days, off, off[1:], strict=False)
            if two and not one
        ),
    ]


CUSTOM = [
    {"cron": "0 9 * * 1-5"},
    {"cron": "30 2 * * *"},
    {"cron": "0 9 13 * 5"},
    {"cron": "0 2,17 1 */3 *"},
    {"cron": "30 2 */2 * 1-5"},
    {"cron": "15 0 29 2 *"},
    {"cron": "*/20 1-3 * * *"},
    {"cron": "0 9,18 * * mon"},
    {"cron": "30 2 1-7 */2 *"},
    {"rrule": "FREQ=DAILY;INTERVAL=3"},
    {"rrule": "FREQ=DAILY;BYHOUR=2,9;BYMINUTE=30"},
    {"rrule": "FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=SU,TU"},
    {"rrule": "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=1,-1"},
    {"rrule": "FREQ=MONTHLY;BYDAY=-1FR"},
    {"rrule": "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1"},
    {"rrule": "FREQ=MONTHLY;INTERVAL=5;BYDAY=WE,1MO"},
    {"rrule": "FREQ=YEARLY;BYWEEKNO=1,20;BYDAY=MO"},
    {"rrule": "FREQ=YEARLY;INTERVAL=2;BYYEARDAY=1,-1"},
    {"rrule": "FREQ=HOURLY;INTERVAL=5"},
    {"rrule": "FREQ=HOURLY;INTERVAL=3;BYDAY=MO,FR;BYMINUTE=10,50"},
    {"rrule": "FREQ=MINUTELY;INTERVAL=90;BYYEARDAY=300,301,-1"},
    {
        "dates": [
            "2026-10-01",
            "2026-10-08",
            "2026-11-01 01:30:00",
            "2027-03-14 02:30:00",
            "2028-05-01",
        ]
    },
]


@pytest.mark.parametrize("custom", CUSTOM, ids=str)
@pytest.mark.parametrize("n", range(6))
def test_custom(custom: dict[str, Any], n: int) -> None:
    zone = ZONES[(n * 4 + CUSTOM.index(custom)) % len(ZONES)]
    calendar = CALENDARS[(n + CUSTOM.index(custom)) % len(CALENDARS)]
    cfg: dict[str, Any] = {
        "startTime": "2024-02-29 02:30:00", "repeat": {"repeatType": "custom", **custom}, "timezone": zone,
        "skipHoliday": int(calendar is not None), "holidayPolicy": ["next", "previous", "nearest", "skip"][n % 4],
    }  # fmt: skip
    if n == 5:
        cfg["endTime"] = "2027-03-28"
    timer = Timer(cfg, calendar)
    check(timer, NOW, horizon(timer, NOW, (175, 189, 396)))


def test_an_interval_is_used_only_where_it_can_know_start_and_end() -> None:
    def first(cfg: dict[str, Any]) -> dict[str, Any]:
        return schedules(
            Timer(
                {"timezone": "Europe/Berlin", "repeat": {"repeatType": "hour"}, **cfg}
            ),
            NOW,
        )[0]

    past = first({"startTime": "1970-01-01 00:00:00"})
    assert past == {
        "slug": "s1", "active": True, "interval": 3600, "anchor_date": "1969-12-31T23:00:00+00:00", "timezone": "UTC",
    }  # fmt: skip
    # Without a DTSTART the server would fire before the start, without an UNTIL after the end.
    assert (
        first({"startTime": "2026-12-01 00:00:00"})["rrule"]
        == "DTSTART:20261130T230000\nRRULE:FREQ=HOURLY;INTERVAL=1"
    )
    ends = first({"startTime": "1970-01-01 00:00:00", "endTime": "2026-12-24"})
    assert (
        ends["rrule"]
        == "DTSTART:20260914T000000\nRRULE:FREQ=HOURLY;INTERVAL=1;UNTIL=20261224T225959"
    )


@pytest.mark.parametrize("period", [1, 7, 60])
@pytest.mark.parametrize("end", [None, "2026-08-30 10:30:00"])
def test_the_last_minute_of_a_year_of_open_days_is_there(
    period: int, end: str | None
) -> None:
    # Windows of open days begin on 2025-09-01 and 365 days later, at midnight UTC, and end where the task does.
    cfg = {
        "startTime": "2025-10-01 01:15:00",
        "repeat": {"repeatType": "minute", "period": period},
        "skipHoliday": 1,
    }
    timer = Timer(cfg | ({"endTime": end} if end else {}), "JP", "Asia/Kolkata")
    now, hour = datetime(2025, 9, 1, 12, tzinfo=UTC), timedelta(hours=1)
    edges = [datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 8, 30, 5, tzinfo=UTC)]
    check(timer, now, [(edge - hour, edge + hour) for edge in edges])


def test_the_text_of_a_daily_task_with_holidays() -> None:
    # From 2026-09-01 on: Mid-Autumn September 25-27, National Day October 1-7, then New Year 2027 as reckoned.
    cfg = {
        "startTime": "2020-01-01 09:00:00",
        "repeat": {"repeatType": "day"},
        "skipHoliday": 1,
    }
    (slot, *idle) = schedules(Timer(cfg, "CN", "Asia/Shanghai"), NOW, days=30)
    start, rule, without = slot["rrule"].split("\n")
    assert (start, rule) == ("DTSTART:20260901T090000", "RRULE:FREQ=DAILY")
    gone = [at[:8] for at in without.removeprefix("EXDATE:").split(",")]
    assert gone == [f"202609{n}" for n in (25, 26, 27)] + [
        f"2026100{n}" for n in range(1, 8)
    ]
    assert [at["active"] for at in idle] == [False] * 3 and {
        at["rrule"] for at in idle
    } == {NEVER}


def test_beyond_the_horizon_a_plain_repeat_goes_on() -> None:
    for repeat in (
        {"repeatType": "day"},
        {"repeatType": "hour", "period": 6},
        {"repeatType": "custom", "cron": "0 9,18 * * *"},
    ):
        cfg = {"startTime": "2020-01-01 09:00:00", "repeat": repeat, "skipHoliday": 1}
        slots = [slot for slot in schedules(Timer(cfg, "CN"), NOW) if slot["active"]]
        later = NOW + timedelta(900)
        assert any(list(fires(slot, later, later + timedelta(3))) for slot in slots)


def test_the_text_is_the_same_all_month() -> None:
    cfg = {
        "startTime": "2020-01-01 09:00:00",
        "repeat": {"repeatType": "week"},
        "skipHoliday": 1,
    }
    timer = Timer(cfg, "CN")
    assert (
        schedules(timer, NOW)
        == schedules(timer, NOW)
        == schedules(timer, NOW + timedelta(9))
    )
    assert schedules(timer, NOW) != schedules(timer, NOW + timedelta(12))


def test_a_timer_with_nothing_to_come_has_no_active_slot() -> None:
    cfg = {
        "startTime": "2020-01-01 09:00:00",
        "repeat": {"repeatType": "day"},
        "endTime": "2026-09-19",
    }
    assert not any(slot["active"] for slot in schedules(Timer(cfg), NOW))
    assert not any(
        list(fires(slot, datetime(2026, 1, 1, tzinfo=UTC), NOW))
        for slot in schedules(Timer(cfg), NOW)
    )
    gone = {
        "startTime": "2026-10-01 09:00:00",
        "repeat": {"repeatType": "normal"},
        "skipHoliday": 1,
        "holidayPolicy": "skip",
    }
    assert not any(slot["active"] for slot in schedules(Timer(gone, "CN"), NOW))


def test_a_single_date_far_ahead_is_there_already() -> None:
    timer = Timer(
        {
            "startTime": "2030-05-02 09:00:00",
            "repeat": {"repeatType": "normal"},
            "timezone": "Asia/Shanghai",
        }
    )
    (slot, *_) = schedules(timer, NOW)
    assert slot["rrule"].endswith("UNTIL=20300502T090000") and slot["active"]


def test_many_dates_are_shared_out_over_the_slots() -> None:
    dates = [f"{datetime(2026, 10, 1) + timedelta(n):%Y-%m-%d}" for n in range(1200)]
    timer = Timer(
        {
            "startTime": "2026-09-30 09:00:00",
            "repeat": {"repeatType": "custom", "dates": dates},
        }
    )
    slots = check(timer, NOW, [(NOW, NOW + timedelta(980))])
    assert sum(slot["active"] for slot in slots) == 4


def test_a_rare_rule_is_written_out_so_that_the_server_does_not_look_for_it_day_by_day() -> (
    None
):
    # February 29 on a Monday: 2044-02-29, 2072-02-29.
    timer = Timer({"startTime": "2020-01-01 00:00:00", "repeat": {"repeatType": "custom", "rrule":
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO"}})  # fmt: skip
    (slot, *idle) = schedules(timer, NOW)
    assert slot["rrule"] == (
        "DTSTART:20440229T000000\n"
        "RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;UNTIL=20440229T000000"
    )
    assert not any(at["active"] for at in idle)


SIXTY = ",".join(map(str, range(60)))


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=SECONDLY;INTERVAL=30",
        f"FREQ=HOURLY;BYMINUTE=0,1;BYSECOND={SIXTY}",
        f"FREQ=DAILY;BYMINUTE={SIXTY};BYSECOND={SIXTY}",
    ],
)
def test_what_the_server_could_not_keep_up_with_is_refused(rule: str) -> None:
    timer = Timer(
        {
            "startTime": "2020-01-01 00:00:00",
            "repeat": {"repeatType": "custom", "rrule": rule},
        }
    )
    with pytest.raises(ConfigError, match="at most 1440"):
        schedules(timer, NOW)


@pytest.mark.parametrize("zone", ["Europe/Dublin", "Africa/Casablanca"])
@pytest.mark.parametrize(
    "repeat",
    [
        {"repeatType": "day"},
        {"repeatType": "week", "weekday": [7]},
        {"repeatType": "custom", "cron": "*/15 * * * *"},
        {"repeatType": "custom", "dates": ["2026-02-15", "2026-10-25", "2026-10-26"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("holidays", [0, 1])
def test_zones_whose_winter_is_the_daylight_saving_time(
    zone: str, repeat: dict[str, Any], holidays: int
) -> None:
    # Dublin's clocks go back on 2026-10-25 at 02:00, Casablanca's on 2026-02-15 at 03:00 (Ramadan); dateutil, and so
    # the server, takes the hour after that for the one before it: what is due at 02:30 and 03:30 would run early.
    for clock, month, day in (("02:30", 10, 24), ("03:30", 2, 14), ("01:30", 10, 24)):
        cfg = {
            "startTime": f"2026-01-01 {clock}:00",
            "repeat": repeat,
            "timezone": zone,
            "skipHoliday": holidays,
        }
        now = datetime(2026, month, day, tzinfo=UTC)
        check(Timer(cfg, {"country": "IE"}), now, [(now, now + timedelta(3))])
    assert (
        at_instant(datetime(2026, 10, 25, 2, 30, tzinfo=UTC), "Europe/Dublin")[0][
            "timezone"
        ]
        == "UTC"
    )


@pytest.mark.parametrize(
    "instant",
    [
        "2026-10-25T00:30:00+00:00",
        "2026-10-25T01:30:00+00:00",
        "2026-03-29T01:30:00+00:00",
    ],
)
def test_once(instant: str) -> None:
    # Berlin: 02:30 comes twice on 2026-10-25, at 00:30 and at 01:30 UTC.
    at = datetime.fromisoformat(instant)
    slots = at_instant(at, "Europe/Berlin")
    fired = [
        found
        for slot in slots
        if slot["active"]
        for found in fires(slot, at - YEAR, at + YEAR)
    ]
    assert fired == [at] and len(slots) == 4


# Opening hours

LONG = timedelta(390)


def opened(case: Case, window: Any) -> Timer:
    return made(({**case[0], "window": window}, case[1]))


@relaxed
@given(
    timers(st.one_of(day_repeats(), workday_repeats())),
    windows(),
    st.integers(0, 2900),
    moments(),
)
def test_opening_hours_of_days_and_longer(
    case: Case, window: Any, days: int, moment: Moment
) -> None:
    now = at_moment(case, datetime(2019, 6, 1, tzinfo=UTC) + timedelta(days), moment)
    check(opened(case, window), now, [(now, now + LONG)])


@relaxed
@given(timers(step_repeats()), windows(), st.integers(0, 2900), moments())
def test_opening_hours_of_minutes_and_hours(
    case: Case, window: Any, days: int, moment: Moment
) -> None:
    now = at_moment(case, datetime(2019, 6, 1, tzinfo=UTC) + timedelta(days), moment)
    timer = opened(case, window)
    hourly = case[0]["repeat"]["repeatType"] == "hour"
    step = case[0]["repeat"].get("period", 1) * (60 if hourly else 1)
    if step >= 120:
        check(timer, now, [(now, now + LONG)])
    else:
        edges = [now + timedelta(n) for n in (143.5, 364.4, 388)]
        some = [now, *edges, *around_changes(timer, now)[:2]]
        check(
            timer, now, [(at, at + timedelta(3 if step >= 15 else 1.2)) for at in some]
        )


@relaxed
@given(timers(custom_repeats()), windows(), st.integers(0, 2900), moments())
def test_opening_hours_of_custom_rules(
    case: Case, window: Any, days: int, moment: Moment
) -> None:
    now = at_moment(case, datetime(2019, 6, 1, tzinfo=UTC) + timedelta(days), moment)
    timer = opened(case, window)
    changes = around_changes(timer, now)[:2]
    some = [
        (at, at + timedelta(2)) for at in (now, now + LONG - timedelta(2), *changes)
    ]
    check(timer, now, some if timer.sub_daily else [(now, now + LONG)])


def test_the_text_with_opening_hours_is_the_same_all_month_and_short() -> None:
    # Two openings that are as usual as each other: Mondays to Wednesdays at 08:00, Thursdays to Saturdays at 10:00.
    hours = [
        {"from": "08:00", "to": "12:00", "weekdays": [1, 2, 3]},
        {"from": "10:00", "to": "14:00", "weekdays": [4, 5, 6]},
    ]
    cfg = {"startTime": "2020-01-01 03:00:00", "repeat": {"repeatType": "day"}}
    timer = Timer({**cfg, "window": hours}, None, "Europe/Berlin")
    texts = {str(schedules(timer, NOW + timedelta(days))) for days in range(9)}
    assert len(texts) == 1
    office = {"from": "08:00", "to": "18:00", "workdays": 1}
    (slot, *_) = schedules(Timer({**cfg, "window": office}, "DE", "Europe/Berlin"), NOW)
    start, rule, without = slot["rrule"].split("\n")
    assert (start, rule) == ("DTSTART:20260901T080000", "RRULE:FREQ=DAILY")
    assert without.startswith("EXDATE:20260905T080000,20260906T080000,")


def test_hours_that_do_not_fit_are_refused_with_a_sentence() -> None:
    hours = [
        {"from": f"{n:02}:{m:02}", "to": f"{n:02}:{m + 3:02}", "weekdays": [1 + (n + m) % 7]}
        for n in range(24) for m in (1, 11, 21, 31)
    ]  # fmt: skip
    cfg = {"startTime": "2020-01-01 00:00:00", "repeat": {"repeatType": "minute"}}
    timer = Timer({**cfg, "window": hours}, None, "Europe/Berlin")
    with pytest.raises(
        ConfigError, match=r"timerCfg.window: found too many opening hours"
    ):
        schedules(timer, NOW)
