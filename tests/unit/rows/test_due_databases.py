"""Due time = field ± offset, at `time`, then repeat, end and holidays: each line on SQLite, PostgreSQL and MariaDB.

One row comes by a save (the hook), one of the same dates by raw SQL (the sync); one app has all cases as templates, so
that a server is asked once. 2026-02-23 is a Monday; the horizon of 60 days ends on 2026-04-24 at 08:00 UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from shop import Server, Shop, model_of, rows_task

NOW = "2026-02-23 08:00"
MODEL = """
from datetime import date, datetime
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class Thing(SQLModel, table=True):
    id: int = Field(primary_key=True)
    count: int = 0
    day: date | None = None
    at: NaiveDatetime | None = None
    moment: datetime | None = None
    later: NaiveDatetime | None = None
    last_year: NaiveDatetime | None = None
    next_year: NaiveDatetime | None = None
    may31: date | None = None
    jan31: date | None = None
    leap: date | None = None
    old: NaiveDatetime | None = None
    soon: NaiveDatetime | None = None
    skipped: NaiveDatetime | None = None
    saturday: date | None = None
    sunday: date | None = None
    wednesday: date | None = None
    good_friday: NaiveDatetime | None = None
    monday9: date | None = None
    april6: date | None = None
    friday13: date | None = None
    until: date | None = None
    until_at: NaiveDatetime | None = None
    until_moment: datetime | None = None
    empty: date | None = None
    never: date | None = None
    first: date | None = None
    last: date | None = None
"""
ROW: dict[str, Any] = {
    "day": date(2026, 3, 10),  # a Tuesday
    "at": datetime(2026, 3, 10, 12),
    "moment": datetime(
        2026, 3, 10, 20, tzinfo=timezone(timedelta(hours=8))
    ),  # 12:00 UTC
    "later": datetime(2026, 4, 20, 12),
    "last_year": datetime(2025, 3, 15, 10),
    "next_year": datetime(2027, 3, 15, 10),
    "may31": date(2026, 5, 31),
    "jan31": date(2026, 1, 31),
    "leap": date(2024, 2, 29),
    "old": datetime(2020, 3, 20, 9, 30),
    "soon": datetime(2026, 2, 23, 9, 15, 30),
    "skipped": datetime(2026, 3, 29, 2, 30),  # in Berlin clocks go from 02:00 to 03:00
    "saturday": date(2026, 3, 14),
    "sunday": date(2026, 3, 15),
    "wednesday": date(2026, 3, 18),
    "good_friday": datetime(2026, 4, 3, 10),
    "monday9": date(2026, 3, 9),
    "april6": date(2026, 4, 6),
    "friday13": date(2026, 3, 13),
    "until": date(2026, 3, 12),
    "until_at": datetime(2026, 3, 12, 11),
    "until_moment": datetime(2026, 3, 12, 12, tzinfo=UTC),
    "empty": None,
    "never": date(9999, 12, 31),
    "first": date(1, 1, 1),
    "last": date(9999, 12, 31),
}
CALENDARS = {
    "office": {"country": None, "closed": ["2026-03-10/2026-03-11", "2026-03-18"]},
    "makeup": {"country": None, "closed": ["2026-03-13"], "open": ["2026-03-14"]},
}
DAILY, WEEKLY, YEARLY = ({"repeatType": kind} for kind in ("day", "week", "year"))
SHANGHAI, NEW_YORK, BERLIN = "Asia/Shanghai", "America/New_York", "Europe/Berlin"
OFFICE: dict[str, Any] = {"calendar": "office", "skipHoliday": 1}
QUIET = {"lookback": 0}


def before(number: int, unit: str, **more: Any) -> dict[str, Any]:
    return {
        "startOffset": {"offsetType": -1, "offset": number, "offsetUnit": unit, **more}
    }


def after(number: int, unit: str, **more: Any) -> dict[str, Any]:
    return {
        "startOffset": {"offsetType": 1, "offset": number, "offsetUnit": unit, **more}
    }


def until(end: str) -> dict[str, Any]:
    return {"endTimeType": 1, "endTime": end}


def until_field(
    field: str, kind: int = 0, number: int = 0, unit: str = "day", **more: Any
) -> dict[str, Any]:
    offset = {"offsetType": kind, "offset": number, "offsetUnit": unit, **more}
    return {"endTimeType": 2, "endField": field, "endOffset": offset}


def custom(**rule: Any) -> dict[str, Any]:
    return {"repeat": {"repeatType": "custom", **rule}}


def monthly(**keys: Any) -> dict[str, Any]:
    return {"repeat": {"repeatType": "month", **keys}}


MOVED_TO_12 = ["03-12 00:00 for 03-10 00:00"]
# name: (startField, keys, what is due, in UTC)
CASES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    # --- a date, a naive and an aware datetime
    "date": ("day", {}, ["03-10 00:00"]),
    "date_in_shanghai": ("day", {"timezone": SHANGHAI}, ["03-09 16:00"]),
    "date_in_new_york": ("day", {"timezone": NEW_YORK}, ["03-10 04:00"]),  # summer time since the 8th
    "naive": ("at", {}, ["03-10 12:00"]),
    "naive_in_shanghai": ("at", {"timezone": SHANGHAI}, ["03-10 04:00"]),
    "naive_in_a_gap": ("skipped", {"timezone": BERLIN}, ["03-29 01:30"]),  # 03:30 CEST
    "aware": ("moment", {}, ["03-10 12:00"]),
    "aware_in_shanghai": ("moment", {"timezone": SHANGHAI}, ["03-10 12:00"]),
    "null": ("empty", {}, []),
    "null_with_repeat": ("empty", {"repeat": DAILY}, []),
    "never": ("never", {}, []),
    "first_day_of_all": ("first", {}, []),
    # --- offsets: units and directions
    "on_time": ("at", {"startOffset": {"offsetType": 0, "offset": 0, "offsetUnit": "day"}}, ["03-10 12:00"]),
    "seconds_before": ("at", before(30, "second"), ["03-10 11:59:30"]),
    "seconds_after": ("at", after(30, "seconds"), ["03-10 12:00:30"]),
    "minutes_before": ("at", before(15, "minute"), ["03-10 11:45"]),
    "minutes_after": ("at", after(15, "minutes"), ["03-10 12:15"]),
    "hours_before": ("at", before(13, "hour"), ["03-09 23:00"]),
    "hours_after": ("at", after(13, "hours"), ["03-11 01:00"]),
    "days_before": ("at", before(7, "day"), ["03-03 12:00"]),
    "days_after": ("at", after(7, "days"), ["03-17 12:00"]),
    "weeks_before": ("at", before(1, "week"), ["03-03 12:00"]),
    "weeks_after": ("at", after(2, "weeks"), ["03-24 12:00"]),
    "month_before": ("later", before(1, "month"), ["03-20 12:00"]),
    "month_after": ("at", after(1, "months"), ["04-10 12:00"]),
    "year_before": ("next_year", before(1, "year"), ["03-15 10:00"]),
    "year_after": ("last_year", after(1, "years"), ["03-15 10:00"]),
    "signed": ("at", after(-3, "day"), ["03-07 12:00"]),
    "a_short_month_before": ("may31", before(3, "month"), ["02-28 00:00"]),
    "a_short_month_after": ("jan31", after(1, "month"), ["02-28 00:00"]),
    "a_common_year": ("leap", after(2, "year"), ["02-28 00:00"]),
    "date_seconds": ("day", before(30, "second"), ["03-09 23:59:30"]),
    "date_hours": ("day", after(25, "hour"), ["03-11 01:00"]),
    "date_hours_in_new_york": ("day", {**before(72, "hour"), "timezone": NEW_YORK}, ["03-07 04:00"]),
    "date_days": ("day", before(7, "day"), ["03-03 00:00"]),
    "date_days_in_new_york": ("day", {**before(7, "day"), "timezone": NEW_YORK}, ["03-03 05:00"]),  # EST
    "date_weeks": ("day", after(1, "week"), ["03-17 00:00"]),
    "date_month": ("day", after(1, "month"), ["04-10 00:00"]),
    "aware_seconds": ("moment", after(30, "second"), ["03-10 12:00:30"]),
    "aware_hours": ("moment", before(2, "hour"), ["03-10 10:00"]),
    "aware_days_in_new_york": ("moment", {**before(7, "day"), "timezone": NEW_YORK}, ["03-03 13:00"]),  # 08:00 EST
    "aware_month": ("moment", after(1, "month"), ["04-10 12:00"]),
    # --- at `time`
    "time_of_the_day": ("at", {"startOffset": {"offsetType": 0, "time": "18:30"}}, ["03-10 18:30"]),
    "time_days_before": ("at", before(7, "day", time="09:00"), ["03-03 09:00"]),
    "time_weeks_after": ("at", after(1, "week", time="18:30"), ["03-17 18:30"]),
    "time_month_after": ("at", after(1, "month", time="00:05"), ["04-10 00:05"]),
    "time_year_after": ("last_year", after(1, "year", time="23:59"), ["03-15 23:59"]),
    "date_time": ("day", before(1, "day", time="09:00"), ["03-09 09:00"]),
    "date_time_in_shanghai": ("day", {**before(1, "day", time="09:00"), "timezone": SHANGHAI}, ["03-09 01:00"]),
    "aware_time_in_shanghai": ("moment", {**before(1, "day", time="09:00"), "timezone": SHANGHAI}, ["03-09 01:00"]),
    # 12:00 UTC is 08:00 in New York, of the same day
    "aware_time_in_new_york": ("moment", {**after(1, "day", time="09:00"), "timezone": NEW_YORK}, ["03-11 13:00"]),
    # --- ends
    "end_day": ("at", {"repeat": DAILY, **until("2026-03-12")}, ["03-10 12:00", "03-11 12:00", "03-12 12:00"]),
    "end_before": ("at", {"repeat": DAILY, **until("2026-03-12 11:59:59")}, ["03-10 12:00", "03-11 12:00"]),
    "end_at": ("at", {"repeat": DAILY, **until("2026-03-11 12:00:00")}, ["03-10 12:00", "03-11 12:00"]),
    "end_before_start": ("at", {"repeat": DAILY, **until("2026-03-09")}, []),
    "end_in_shanghai": (
        "moment", {"repeat": DAILY, "timezone": SHANGHAI, **until("2026-03-11 19:59:59")}, ["03-10 12:00"],
    ),
    "end_field_date": (
        "at", {"repeat": DAILY, **until_field("until")}, ["03-10 12:00", "03-11 12:00", "03-12 12:00"],
    ),
    "end_field_day_before": (
        "at", {"repeat": DAILY, **until_field("until", -1, 1)}, ["03-10 12:00", "03-11 12:00"],
    ),
    "end_field_week_after": (
        "at", {"repeat": WEEKLY, **until_field("until", 1, 1, "week")}, ["03-10 12:00", "03-17 12:00"],
    ),
    "end_field_month_after": (
        "at", {"repeat": {"repeatType": "week", "period": 2}, **until_field("until", 1, 1, "month")},
        ["03-10 12:00", "03-24 12:00", "04-07 12:00"],
    ),
    "end_field_hour_before": (
        "at", {"repeat": DAILY, **until_field("until", -1, 1, "hour")}, ["03-10 12:00", "03-11 12:00"],
    ),
    "end_field_time": (
        "at", {"repeat": DAILY, **until_field("until", 0, 0, time="12:00")},
        ["03-10 12:00", "03-11 12:00", "03-12 12:00"],
    ),
    "end_field_time_before": (
        "at", {"repeat": DAILY, **until_field("until", 0, 0, time="11:59")}, ["03-10 12:00", "03-11 12:00"],
    ),
    "end_field_naive": ("at", {"repeat": DAILY, **until_field("until_at")}, ["03-10 12:00", "03-11 12:00"]),
    "end_field_naive_after": (
        "at", {"repeat": DAILY, **until_field("until_at", 1, 60, "minute")},
        ["03-10 12:00", "03-11 12:00", "03-12 12:00"],
    ),
    "end_field_aware": (
        "at", {"repeat": DAILY, **until_field("until_moment")}, ["03-10 12:00", "03-11 12:00", "03-12 12:00"],
    ),
    "end_field_aware_before": (
        "at", {"repeat": DAILY, **until_field("until_moment", -1, 1, "second")}, ["03-10 12:00", "03-11 12:00"],
    ),
    "end_field_date_in_new_york": (  # the 12th ends at 04:00 UTC of the 13th
        "moment", {"repeat": DAILY, "timezone": NEW_YORK, **until_field("until")},
        ["03-10 12:00", "03-11 12:00", "03-12 12:00"],
    ),
    "end_field_null": (
        "day", {"repeat": WEEKLY, **until_field("empty")},
        ["03-10 00:00", "03-17 00:00", "03-24 00:00", "03-31 00:00", "04-07 00:00", "04-14 00:00", "04-21 00:00"],
    ),
    "end_field_never": (
        "day", {"repeat": {"repeatType": "week", "period": 3}, **until_field("last")},
        ["03-10 00:00", "03-31 00:00", "04-21 00:00"],
    ),
    # --- repeats
    "minute": (
        "soon", {"repeat": {"repeatType": "minute", "period": 20}, **until("2026-02-23 10:00:00")},
        ["02-23 09:15:30", "02-23 09:35:30", "02-23 09:55:30"],
    ),
    "hour": (
        "soon", {"repeat": {"repeatType": "hour", "period": 5}, **until("2026-02-23")},
        ["02-23 09:15:30", "02-23 14:15:30", "02-23 19:15:30"],
    ),
    "hour_from_long_ago": (
        "old", {"repeat": {"repeatType": "hour"}, "missed": QUIET, **until("2026-02-23 10:30:00")},
        ["02-23 08:30", "02-23 09:30", "02-23 10:30"],
    ),
    "day": (
        "day", {"repeat": {"repeatType": "day", "period": 3}, **until("2026-03-20")},
        ["03-10 00:00", "03-13 00:00", "03-16 00:00", "03-19 00:00"],
    ),
    "day_from_long_ago": (
        "old", {"repeat": DAILY, "missed": QUIET, **until("2026-02-25")},
        ["02-23 09:30", "02-24 09:30", "02-25 09:30"],
    ),
    "day_over_a_clock_change": (  # 12:00 in Berlin: 11:00 UTC, from March 29 on 10:00 UTC
        "at", {"repeat": {"repeatType": "day", "period": 9}, "timezone": BERLIN, **until("2026-04-06")},
        ["03-10 11:00", "03-19 11:00", "03-28 11:00", "04-06 10:00"],
    ),
    "week_days": (
        "at", {"repeat": {"repeatType": "week", "weekday": [1, 5]}, **until("2026-03-23")},
        ["03-13 12:00", "03-16 12:00", "03-20 12:00", "03-23 12:00"],
    ),
    "biweekly": (
        "day", {"repeat": {"repeatType": "week", "period": 2}},
        ["03-10 00:00", "03-24 00:00", "04-07 00:00", "04-21 00:00"],
    ),
    "month_31": ("jan31", monthly(), ["02-28 00:00", "03-31 00:00"]),
    "month_31_skip": ("jan31", monthly(monthEnd="skip"), ["03-31 00:00"]),
    "month_last_day": ("at", monthly(day=[-1]), ["03-31 12:00"]),
    "month_days": ("at", monthly(day=[5, 20]), ["03-20 12:00", "04-05 12:00", "04-20 12:00"]),
    "month_first_monday": ("at", monthly(week=1, weekday=[1]), ["04-06 12:00"]),
    "month_last_friday": ("at", monthly(week=-1, weekday=[5]), ["03-27 12:00"]),
    "month_from_long_ago": ("old", monthly(), ["03-20 09:30", "04-20 09:30"]),
    "every_second_month": ("old", monthly(period=2), ["03-20 09:30"]),
    "year": ("old", {"repeat": YEARLY}, ["03-20 09:30"]),
    "leap_year": ("leap", {"repeat": YEARLY}, ["02-28 00:00"]),
    "year_with_offset": ("leap", {"repeat": YEARLY, **after(1, "month", time="09:00")}, ["03-29 09:00"]),
    "year_months": (
        "old", {"repeat": {"repeatType": "year", "month": [3, 4], "day": [5]}}, ["03-05 09:30", "04-05 09:30"],
    ),
    "year_second_sunday": (
        "old", {"repeat": {"repeatType": "year", "month": 3, "week": 2, "weekday": [7]}}, ["03-08 09:30"],
    ),
    "every_third_year": ("old", {"repeat": {"repeatType": "year", "period": 3}}, ["03-20 09:30"]),
    "cron": (
        "day", custom(cron="0 9 * * 1"),
        ["03-16 09:00", "03-23 09:00", "03-30 09:00", "04-06 09:00", "04-13 09:00", "04-20 09:00"],
    ),
    "cron_finer_than_a_day": ("at", custom(cron="*/30 9 11 3 *"), ["03-11 09:00", "03-11 09:30"]),
    "rrule": (
        "at", custom(rrule="FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,TH"),
        ["03-10 12:00", "03-12 12:00", "03-24 12:00", "03-26 12:00", "04-07 12:00", "04-09 12:00", "04-21 12:00",
         "04-23 12:00"],
    ),
    "dates": ("at", custom(dates=["2026-03-15", "2026-03-16 07:00:00"]), ["03-15 12:00", "03-16 07:00"]),
    # --- holidays
    "next": ("day", OFFICE, MOVED_TO_12),
    "previous": ("day", {**OFFICE, "holidayPolicy": "previous"}, ["03-09 00:00 for 03-10 00:00"]),
    "nearest": ("day", {**OFFICE, "holidayPolicy": "nearest"}, ["03-09 00:00 for 03-10 00:00"]),
    "nearest_tie": ("wednesday", {**OFFICE, "holidayPolicy": "nearest"}, ["03-19 00:00 for 03-18 00:00"]),
    "skip": ("day", {**OFFICE, "holidayPolicy": "skip"}, []),
    "cycle": ("day", {**OFFICE, "holidayPolicy": "cycle", "repeat": WEEKLY, **until("2026-03-17")}, ["03-17 00:00"]),
    "next_at_its_time": ("at", OFFICE, ["03-12 12:00 for 03-10 12:00"]),
    "two_arrive_at_one": (  # of the 10th, 11th and 12th the last was there anyway
        "day", {**OFFICE, "repeat": DAILY, **until("2026-03-12")}, ["03-12 00:00"],
    ),
    "a_weekend_is_none": ("saturday", OFFICE, ["03-14 00:00"]),
    "workdays_only": ("saturday", {"workdaysOnly": 1}, ["03-16 00:00 for 03-14 00:00"]),
    "workdays_previous": (
        "sunday", {"workdaysOnly": 1, "holidayPolicy": "previous"}, ["03-13 00:00 for 03-15 00:00"],
    ),
    "workdays_nearest": ("sunday", {"workdaysOnly": 1, "holidayPolicy": "nearest"}, ["03-16 00:00 for 03-15 00:00"]),
    "a_makeup_saturday": ("friday13", {"calendar": "makeup", "skipHoliday": 1}, ["03-14 00:00 for 03-13 00:00"]),
    "germany": (  # Good Friday the 3rd, Easter Monday the 6th: Tuesday, in Berlin's summer time
        "good_friday", {"calendar": "DE", "skipHoliday": 1, "timezone": BERLIN, "workdaysOnly": 1},
        ["04-07 08:00 for 04-03 08:00"],
    ),
    "china": (  # Qingming, April 4 to 6
        "april6", {"calendar": "CN", "skipHoliday": 1, "timezone": SHANGHAI}, ["04-06 16:00 for 04-05 16:00"],
    ),
    "hours_keep_off": (
        "monday9", {**OFFICE, "repeat": {"repeatType": "hour", "period": 12}, **until("2026-03-12")},
        ["03-09 00:00", "03-09 12:00", "03-12 00:00", "03-12 12:00"],
    ),
    "offset_then_holiday": (
        "friday13", {**OFFICE, **before(2, "day", time="09:00")}, ["03-12 09:00 for 03-11 09:00"],
    ),
    # --- working days that are counted: the office is closed on the 10th, the 11th and the 18th
    "workdays_before": ("day", {"calendar": "office", **before(2, "workday", time="09:00")}, ["03-06 09:00"]),
    "workdays_after": ("day", {"calendar": "office", **after(1, "workdays")}, ["03-12 00:00"]),
    "workdays_after_at_its_time": ("at", {"calendar": "office", **after(3, "workday")}, ["03-16 12:00"]),
    "workdays_of_a_moment": (  # 12:00 UTC is 08:00 in New York, from the 8th on in summer time
        "moment", {"calendar": "office", "timezone": NEW_YORK, **before(2, "workday", time="09:00")}, ["03-06 14:00"],
    ),
    "workdays_move_no_more": (
        "day", {**OFFICE, "workdaysOnly": 1, "holidayPolicy": "previous", **after(1, "workday")}, ["03-12 00:00"],
    ),
    "workdays_then_weekly": (
        "day", {**OFFICE, **before(4, "workday"), "repeat": WEEKLY, **until("2026-03-18")},
        ["03-04 00:00", "03-12 00:00 for 03-11 00:00"],
    ),
    "every_third_workday": (
        "day", {"calendar": "office", "repeat": {"repeatType": "workday", "period": 3}, **until("2026-03-20")},
        ["03-12 00:00", "03-17 00:00"],
    ),
    "last_workday_of_the_month": (
        "day", {"repeat": {"repeatType": "month", "workday": -1}, **until("2026-04-10")}, ["03-31 00:00"],
    ),
    "end_field_in_workdays": (
        "at", {"repeat": {"repeatType": "workday"}, **until_field("until", 1, 2, "workday")},
        ["03-10 12:00", "03-11 12:00", "03-12 12:00", "03-13 12:00", "03-16 12:00"],
    ),
}  # fmt: skip
Seen = dict[str, dict[str, list[str]]]


@pytest.fixture(scope="module")
def seen(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """What each way of arriving left in the ledger, by template; and what further looks changed."""
    elements: dict[str, Any] = {"models/Thing": model_of(MODEL)}
    for name, (field, keys, _) in CASES.items():
        elements[f"tasks/{name}"] = rows_task(field, model="models.Thing", **keys)
    with pytest.MonkeyPatch.context() as patch:
        settings = {**server.app_json(), "horizon": 24 * 60, "calendars": CALENDARS}
        s = Shop(
            tmp_path_factory.mktemp(server.kind) / "app",
            patch,
            elements,
            now=NOW,
            **settings,
        )
        assert len(s.app.templates()) == len(CASES)
        found: Seen = {}
        s.save("models.Thing", id=1, **ROW)
        found["the hook"] = due(s, "1")
        s.insert("thing", id=2, count=0, **ROW)
        report = s.sync()
        found["the sync"] = due(s, "2")
        found["a sync after the hook"] = {
            a.template: [a.action] for a in report.actions if changes(a, "1")
        }
        found["a sync after the sync"] = {"": s.did()}
        found["a minute later"] = {"": s.did("2026-02-23 08:01")}
        s.save("models.Thing", id=2, count=1)
        s.save("models.Thing", id=1, **ROW)
        found["a save that changes nothing"] = {"": s.did()}
        found["problems"] = {"": report.problems}
        found["after all that"] = due(s, "2")
        s.app.close()
    yield found
    server.empty()


def changes(action: Any, row: str) -> bool:
    return action.row == row and action.action != "skip"


def due(s: Shop, row: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {name: [] for name in CASES}
    for e in s.entries(row_key=row):
        assert e.nominal is not None
        text = f"{e.due:%m-%d %H:%M:%S}".removesuffix(":00")
        if e.nominal != e.due:
            text += f" for {e.nominal:%m-%d %H:%M}"
        if e.generation != 1 or e.status != "pending":
            text += f" #{e.generation} {e.outcome or e.status}"
        found[e.template.removeprefix("tasks.")].append(text)
    return found


@pytest.mark.parametrize("name", CASES)
def test_what_is_due(seen: Seen, name: str) -> None:
    expected = CASES[name][2]
    ways = ("the hook", "the sync", "after all that")
    assert {way: seen[way][name] for way in ways} == dict.fromkeys(ways, expected)


def test_what_the_hook_planned_stands(seen: Seen) -> None:
    assert seen["problems"] == {"": []}
    assert seen["a sync after the hook"] == {}


@pytest.mark.parametrize(
    "what", ["a sync after the sync", "a minute later", "a save that changes nothing"]
)
def test_a_second_look_changes_nothing(seen: Seen, what: str) -> None:
    assert seen[what] == {"": []}
