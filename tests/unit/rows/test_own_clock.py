"""Due times by the row's own clock and calendar: against dates written by hand, and against a brute force."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from own_clock_walk import own_walk
from shop import Shop, in_turn
from zoned_shop import zoned

from jittask_prefect.testing import build_app

Make = Callable[..., Shop]
HOUR = timedelta(hours=1)


def before(n: int, unit: str, clock: str | None = None) -> dict[str, Any]:
    found = {"offsetType": -1, "offset": n, "offsetUnit": unit}
    return found | ({"time": clock} if clock else {})


def after(n: int, unit: str, clock: str | None = None) -> dict[str, Any]:
    return before(n, unit, clock) | {"offsetType": 1}


HOURS = {"from": "08:00", "to": "18:00"}
GOLDEN = [
    # the rule, the row, and when it is due, in UTC
    ("at", {"startOffset": before(1, "day", "09:00")}, {"at": datetime(2026, 3, 29, 12), "zone": "Europe/Berlin"}, "03-28 08:00"),
    ("at", {"startOffset": before(1, "day", "09:00")}, {"at": datetime(2026, 3, 30, 12), "zone": "Europe/Berlin"}, "03-29 07:00"),
    # 02:30 is in the gap in Berlin on 29 March, and in New York on the 8th: an hour later by the clock
    ("at", {}, {"at": datetime(2026, 3, 29, 2, 30), "zone": "Europe/Berlin"}, "03-29 01:30"),
    ("at", {}, {"at": datetime(2026, 3, 8, 2, 30), "zone": "America/New_York"}, "03-08 07:30"),
    ("at", {}, {"at": datetime(2026, 3, 8, 2, 30), "zone": "Europe/Berlin"}, "03-08 01:30"),
    # 02:30 comes twice in Berlin on 25 October: the first time
    ("at", {}, {"at": datetime(2026, 10, 25, 2, 30), "zone": "Europe/Berlin"}, "10-25 00:30"),
    # a day begins with the zone; Kiritimati is 14 hours ahead, Pago Pago 11 behind
    ("day", {}, {"day": date(2026, 6, 10), "zone": "Pacific/Kiritimati"}, "06-09 10:00"),
    ("day", {}, {"day": date(2026, 6, 10), "zone": "Pacific/Pago_Pago"}, "06-10 11:00"),
    # an instant is itself, and its day is that of the zone: 20:00 UTC is the 11th in Tokyo
    ("moment", {"startOffset": before(2, "hour")}, {"moment": datetime(2026, 6, 10, 20, tzinfo=UTC), "zone": "Asia/Tokyo"}, "06-10 18:00"),
    ("moment", {"startOffset": before(1, "day", "09:00")}, {"moment": datetime(2026, 6, 10, 20, tzinfo=UTC), "zone": "Asia/Tokyo"}, "06-10 00:00"),
    ("moment", {"startOffset": before(1, "day", "09:00")}, {"moment": datetime(2026, 6, 10, 20, tzinfo=UTC), "zone": "America/New_York"}, "06-09 13:00"),
    # 6 January is a holiday in Bavaria, and none in Berlin
    ("day", {"skipHoliday": 1}, {"day": date(2026, 1, 6), "region": "DE-BY"}, "01-07 00:00"),
    ("day", {"skipHoliday": 1}, {"day": date(2026, 1, 6), "region": "DE-BE"}, "01-06 00:00"),
    # China's National Day of 2026 lasts from 1 to 7 October; Japan works on the 1st
    ("day", {"skipHoliday": 1}, {"day": date(2026, 10, 1), "region": "CN", "zone": "Asia/Shanghai"}, "10-07 16:00"),
    ("day", {"skipHoliday": 1}, {"day": date(2026, 10, 1), "region": "JP", "zone": "Asia/Tokyo"}, "09-30 15:00"),
    # three working days before Friday 9 October: China's are the 8th and 30 September and the 29th
    ("day", {"startOffset": before(3, "workday")}, {"day": date(2026, 10, 9), "region": "CN"}, "09-29 00:00"),
    ("day", {"startOffset": before(3, "workday")}, {"day": date(2026, 10, 9), "region": "GB"}, "10-06 00:00"),
    # weekends are Friday and Saturday in Saudi Arabia: Friday 12 June moves to Sunday
    ("day", {"workdaysOnly": 1}, {"day": date(2026, 6, 12), "region": "SA"}, "06-14 00:00"),
    ("day", {"workdaysOnly": 1}, {"day": date(2026, 6, 12), "region": "DE"}, "06-12 00:00"),
    # levels, and hours, by the row's clock: nine in Tokyo is midnight by UTC; eight there is 23:00 of the day before
    ("at", {"startOffset": [{"name": "a", **before(1, "day", "09:00")}, {"name": "b", **after(3, "day", "09:00")}]},
     {"at": datetime(2026, 3, 2, 12), "zone": "Asia/Tokyo"}, "03-01 00:00, 03-05 00:00"),
    ("at", {"window": HOURS}, {"at": datetime(2026, 3, 2, 20), "zone": "Asia/Tokyo"}, "03-02 23:00"),
    # levels, and hours, by the row's calendar: China works on Saturday 10 October; the 6th of January is a holiday in Bavaria
    ("day", {"startOffset": [{"name": "a", **before(3, "workday")}, {"name": "b", **after(1, "workday")}]},
     {"day": date(2026, 10, 9), "region": "CN"}, "09-29 00:00, 10-10 00:00"),
    ("day", {"window": HOURS | {"workdays": True}}, {"day": date(2026, 1, 6), "region": "DE-BY"}, "01-07 08:00"),
    ("day", {"window": HOURS | {"workdays": True}}, {"day": date(2026, 1, 6), "region": "DE-BE"}, "01-06 08:00"),
    # neither a zone nor a calendar: the task's own, UTC and the United Kingdom, whose spring holiday is 25 May
    ("day", {"skipHoliday": 1}, {"day": date(2026, 5, 25), "zone": "GMT+8", "region": "XX"}, "05-26 00:00"),
    ("day", {"skipHoliday": 1}, {"day": date(2026, 5, 25), "zone": None, "region": None}, "05-26 00:00"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "rule", "row", "due"), GOLDEN)
def test_a_row_is_due_by_its_own_clock_and_calendar(
    tmp_path: Path, field: str, rule: dict[str, Any], row: dict[str, Any], due: str
) -> None:
    own = {"timezoneField": "zone", "calendarField": "region", "calendar": "GB"}
    app = build_app(tmp_path, zoned(field, **own, **rule), ready=False)
    of: Any = app.template("tasks.Task")
    visit = app.getElement("models.Visit")(**row)
    found = of.occurrences(
        datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC), visit
    )
    assert [f"{at.astimezone(UTC):%m-%d %H:%M}" for at in found] == due.split(", ")


# A brute force

ZONES = ("Asia/Shanghai", "Asia/Tokyo", "Europe/Berlin", "America/New_York", "Pacific/Kiritimati", "Australia/Lord_Howe",
         "Pacific/Pago_Pago", "GMT+8", "", None)  # fmt: skip
REGIONS = ("DE", "DE-BY", "CN", "JP", "SA", "US", "XX", None)
KEEPS_OFF = {"skipHoliday": 1, "workdaysOnly": 1}
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "a day before": ("at", {"startOffset": before(1, "day", "09:00")}),
    "a day": ("day", {}),
    "an instant's day": ("moment", {"startOffset": before(2, "day", "08:30")}),
    "hours before": ("moment", {"startOffset": before(5, "hour")}),
    "three working days before": ("at", {"startOffset": before(3, "workday", "09:00")}),
    "ten working days after": ("day", {"startOffset": {"offsetType": 1, "offset": 10, "offsetUnit": "workday"}}),
    "weekly": ("at", {"repeat": {"repeatType": "week"}}),
    "each working day until": ("day", {"repeat": {"repeatType": "workday"}, "endTimeType": 2, "endField": "until"}),
    "the last working day": ("day", {"repeat": {"repeatType": "month", "workday": -1}}),
    "next": ("at", KEEPS_OFF),
    "previous": ("day", KEEPS_OFF | {"holidayPolicy": "previous"}),
    "nearest": ("moment", KEEPS_OFF | {"holidayPolicy": "nearest"}),
    "weekly, left out": ("day", KEEPS_OFF | {"holidayPolicy": "skip", "repeat": {"repeatType": "week"}}),
}  # fmt: skip
BEGINS = {
    "spring, as clocks change": datetime(2026, 3, 26, 15, tzinfo=UTC),
    "autumn, as China has a week off": datetime(2026, 9, 29, 7, tzinfo=UTC),
}


def some_rows(seed: int, begin: datetime, count: int) -> Iterator[dict[str, Any]]:
    draw = random.Random(seed)
    for number in range(1, count + 1):
        at = begin.replace(tzinfo=None) + timedelta(
            minutes=30 * draw.randint(-900, 700)
        )
        yield {
            "id": number,
            "at": at,
            "day": at.date(),
            "moment": at.replace(tzinfo=UTC),
            "until": at.date() + timedelta(draw.randint(0, 20)),
            "zone": draw.choice(ZONES),
            "region": draw.choice(REGIONS),
            "status": "x",
            "count": 0,
        }


def agree(
    s: Shop, timer: dict[str, Any], begin: datetime, rows: list[dict[str, Any]]
) -> int:
    """Sync by sync, the ledger has the tasks of the brute force; how many."""
    for row in rows:
        s.insert("zoned_visit", **row)
    end = begin
    for hours in (0, 1, 24, 25, 30, 72):
        s.now = begin + hours * HOUR
        s.sync()
        end = s.now + 24 * HOUR
    tick = timedelta(microseconds=1)
    planned = {(e.row_key, e.due) for e in s.entries() if begin < e.due <= end}
    wanted = {
        (str(row["id"]), due)
        for row in rows
        for due in own_walk(timer, timer["calendar"], begin + tick, end + tick, row)
    }
    assert planned == wanted
    return len(wanted)


def test_a_short_text_at_the_edge_of_a_window_is_met(shop: Make) -> None:
    """SQLite's texts may lack the fraction, or the clock time: midnight is met in each spelling."""
    s = shop(
        elements=zoned(startOffset=before(1, "day", "09:00"), timezoneField="zone")
    )
    s.sync("2026-03-01 12:00")
    texts = ("2026-03-04", "2026-03-04 00:00:00", "2026-03-04 00:00:00.000000")
    for number, at in enumerate(texts, 1):
        values = {"id": number, "at": at, "zone": "UTC", "status": "x", "count": 0}
        names = ", ".join(values)
        s.raw(
            f"INSERT INTO zoned_visit ({names}) VALUES (:id, :at, :zone, :status, :count)",
            **values,
        )
    assert s.did("2026-03-03 08:00") == [f"create {n} 03-03 09:00" for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("server", "begin", "rule"),
    in_turn((begin, rule) for begin in BEGINS for rule in RULES),
    indirect=["server"],
)
def test_syncs_plan_what_a_brute_force_finds(on: Make, rule: str, begin: str) -> None:
    field, more = RULES[rule]
    own = {"timezoneField": "zone", "calendarField": "region"}
    timer = {
        "startField": field,
        "timezone": "Europe/Berlin",
        "calendar": "GB",
        **own,
        **more,
    }
    about = {key: value for key, value in timer.items() if key != "startField"}
    s = on(elements=zoned(field, task={"missed": {"policy": "all"}}, **about))
    s.now = BEGINS[begin]
    rows = list(some_rows(len(rule), BEGINS[begin], 80))
    assert agree(s, timer, BEGINS[begin], rows) >= 4
