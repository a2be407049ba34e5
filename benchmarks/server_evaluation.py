"""One evaluation of a schedule by Prefect's server, as its scheduler does it each minute: at most 10 ms for any timer.

Against the same rule since its start, without DTSTART moved forward, and as it would be written by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from measure import line, scale, seconds
from prefect.server.schemas.schedules import IntervalSchedule, RRuleSchedule

from jittask_prefect import Timer
from jittask_prefect.schedule.prefect_schedules import schedules

HOUR = timedelta(hours=1)
# Just before Mid-Autumn, just before National Day, within it, and an ordinary day.
MOMENTS = [
    datetime(2026, *at, tzinfo=UTC)
    for at in ((9, 24, 15, 59), (9, 30, 15, 59), (10, 3, 4, 0), (11, 18, 0, 0))
]
CHINA = {"skipHoliday": 1, "calendar": "CN", "timezone": "Asia/Shanghai"}
AMERICA = {
    "skipHoliday": 1,
    "workdaysOnly": 1,
    "calendar": "US",
    "timezone": "America/New_York",
}
OPEN = {
    "window": {"from": "10:30", "to": "17:15", "workdays": 1},
    "calendar": "DE-BY",
    "timezone": "Europe/Berlin",
}
PLAIN = {"timezone": "Europe/Berlin"}


def every(kind: str, period: int = 1, **more: Any) -> dict[str, Any]:
    return {"repeatType": kind, "period": period, **more}


def custom(**rule: Any) -> dict[str, Any]:
    return {"repeatType": "custom", **rule}


WEEKDAYS = "BYDAY=MO,TU,WE,TH,FR"
OFFICE = "BYHOUR=9,10,11,12,13,14,15,16,17,18"
DATES = [f"{datetime(2026, 9, 20) + timedelta(n):%Y-%m-%d}" for n in range(1000)]
# Name, repeat, calendar and zone, and how one would write it without us, where that is possible at all.
CASES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("daily, CN", every("day"), CHINA, "FREQ=DAILY"),
    (
        "weekdays, CN",
        every("week", weekday=[1, 2, 3, 4, 5]),
        CHINA,
        f"FREQ=WEEKLY;{WEEKDAYS}",
    ),
    (
        "monthly, CN",
        every("month", day=[1, 15, -1]),
        CHINA,
        "FREQ=MONTHLY;BYMONTHDAY=1,15,-1",
    ),
    ("yearly, CN", every("year"), CHINA, "FREQ=YEARLY"),
    ("hourly, CN", every("hour"), CHINA, "FREQ=HOURLY"),
    ("hourly, working days, New York", every("hour"), AMERICA, "FREQ=HOURLY"),
    ("every 5 minutes, CN", every("minute", 5), CHINA, "FREQ=MINUTELY;INTERVAL=5"),
    (
        "every 7 minutes, working days, New York",
        every("minute", 7),
        AMERICA,
        "FREQ=MINUTELY;INTERVAL=7",
    ),
    ("every minute, CN", every("minute"), CHINA, "FREQ=MINUTELY"),
    ("every minute, working days, New York", every("minute"), AMERICA, "FREQ=MINUTELY"),
    (
        "cron each minute of office hours",
        custom(cron="* 9-18 * * 1-5"),
        CHINA,
        f"FREQ=MINUTELY;{OFFICE}",
    ),
    ("cron each minute", custom(cron="* * * * *"), PLAIN, "FREQ=MINUTELY"),
    (
        "cron, February 29",
        custom(cron="0 0 29 2 *"),
        PLAIN,
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29",
    ),
    (
        "rrule, last weekday",
        custom(rrule=f"FREQ=MONTHLY;{WEEKDAYS};BYSETPOS=-1"),
        CHINA,
        "FREQ=MONTHLY;BYMONTHDAY=-1",
    ),
    ("daily, opening hours", every("day"), OPEN, "FREQ=DAILY"),
    ("hourly, opening hours", every("hour"), OPEN, "FREQ=HOURLY"),
    ("every minute, opening hours", every("minute"), OPEN, "FREQ=MINUTELY"),
    ("1,000 dates", custom(dates=DATES), PLAIN, ""),
]


def scheduled(schedule: Any, now: datetime) -> Iterator[datetime]:
    """What `models/deployments.py` asks of a schedule: up to 100 runs, at least 3 and an hour of them."""
    for number, at in enumerate(
        schedule._get_dates_generator(n=100, start=now, end=now + timedelta(days=100)),
        1,
    ):
        yield at
        if number >= 3 and at >= now + HOUR:
            return


def of(slot: dict[str, Any]) -> Any:
    if "interval" in slot:
        return IntervalSchedule(
            **{key: slot[key] for key in ("interval", "anchor_date", "timezone")}
        )
    return RRuleSchedule(rrule=slot["rrule"], timezone=slot["timezone"])


def evaluated(schedule: Any, now: datetime) -> list[datetime]:
    return list(scheduled(schedule, now))


def main() -> None:
    share = scale(__doc__ or "")
    cases = (
        CASES if share >= 1 else [case for case in CASES if "minute" not in case[0]][:3]
    )
    for name, repeat, more, plain in cases:
        timer = Timer({"startTime": "2024-01-01 09:00:00", "repeat": repeat, **more})
        worst, at, longest = 0.0, MOMENTS[0], 0
        for moment in MOMENTS:
            for slot in (slot for slot in schedules(timer, moment) if slot["active"]):
                longest = max(longest, len(slot.get("rrule", "")))
                worst, at = max(
                    (worst, at), (seconds(partial(evaluated, of(slot), moment)), moment)
                )
        figures = {"milliseconds": worst * 1e3, "characters": longest}
        if not plain:
            line(
                f"server's evaluation: {name}",
                worst * 1e3,
                "milliseconds",
                "10 milliseconds",
                **figures,
            )
            continue
        by_hand = RRuleSchedule(
            rrule=f"DTSTART:20240101T090000\nRRULE:{plain}", timezone=more["timezone"]
        )
        naive = seconds(partial(evaluated, by_hand, at), 1)
        figures |= {"by_hand_milliseconds": naive * 1e3}
        line(
            f"server's evaluation: {name}",
            naive / worst,
            "times",
            "the plain rule since 2024-01-01",
            **figures,
        )


if __name__ == "__main__":
    main()
