"""The next occurrence of 100,000 rows, each with a start of its own, minding China's holidays.

Against `dateutil.rrule` for each row, which knows no holidays; with an offset in working days against none; and a start
in 1970 against one of this year.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import partial

from dateutil.rrule import MONTHLY, YEARLY, rrule
from measure import line, scale, seconds

from jittask_prefect import Timer

NOW = datetime(2026, 9, 20, 5, tzinfo=UTC)
LOCAL = datetime(2026, 9, 20, 13)  # the same in Shanghai
ZONE = "Asia/Shanghai"


def rows(number: int) -> list[datetime]:
    made = random.Random(7)
    return [
        datetime(1990, 1, 1) + timedelta(minutes=made.randrange(36 * 365 * 1440))
        for _ in range(number)
    ]


def many(share: float) -> None:
    starts = rows(max(1000, int(100_000 * share)))
    sample = starts[: max(20, int(1000 * share))]
    for kind, freq in (("year", YEARLY), ("month", MONTHLY)):
        timer = Timer(
            {"startField": "at", "repeat": {"repeatType": kind}, "skipHoliday": 1},
            "CN",
            ZONE,
        )
        timer.next_times(starts[:1], NOW)  # the calendar's table is made once
        ours = seconds(partial(timer.next_times, starts, NOW)) / len(starts)
        theirs = seconds(partial(by_dateutil, freq, sample), 3) / len(sample)
        rate = {"per_second": round(1 / ours), "rows": len(starts)}
        line(
            f"next of many rows, every {kind}, CN",
            theirs / ours,
            "times",
            "dateutil.rrule for each row",
            **rate,
        )


def counted(share: float) -> None:
    """Rows with an offset in working days, at a single date and with a repeat."""
    starts = rows(max(1000, int(100_000 * share)))
    offset = {"offsetType": -1, "offset": 3, "offsetUnit": "workday", "time": "09:00"}
    for kind in ("normal", "year", "month"):
        cfg = {"startField": "at", "repeat": {"repeatType": kind}}
        timer = Timer({**cfg, "startOffset": offset}, "CN", ZONE)
        plain = Timer(cfg, "CN", ZONE)
        for each in (timer, plain):
            each.next_times(starts[:1], NOW)
        ours, theirs = (
            seconds(partial(each.next_times, starts, NOW)) / len(starts)
            for each in (timer, plain)
        )
        rate = {"per_second": round(1 / ours), "rows": len(starts)}
        line(
            f"next of many rows, three working days before, {kind}",
            ours / theirs,
            "times",
            "the task without an offset",
            **rate,
        )


def by_dateutil(freq: int, starts: list[datetime]) -> None:
    for at in starts:
        rrule(freq, dtstart=at).after(LOCAL)


def since(share: float) -> None:
    asked = [NOW + timedelta(hours=n) for n in range(max(50, int(2000 * share)))]
    for kind in ("year", "month", "day"):
        taken = []
        for start in ("1970-01-31 09:00:00", "2026-01-31 09:00:00"):
            cfg = {"startTime": start, "repeat": {"repeatType": kind}, "skipHoliday": 1}
            timer = Timer(cfg, "CN", ZONE)
            timer.nextTime(NOW)
            taken.append(seconds(partial(each, timer, asked)) / len(asked))
        micro = {"microseconds": taken[0] * 1e6}
        line(
            f"next after any instant, every {kind} since 1970",
            taken[0] / taken[1],
            "times",
            "since 2026",
            **micro,
        )


def each(timer: Timer, asked: list[datetime]) -> None:
    for at in asked:
        timer.nextTime(at)


def main() -> None:
    share = scale(__doc__ or "")
    many(share)
    counted(share)
    since(share)


if __name__ == "__main__":
    main()
