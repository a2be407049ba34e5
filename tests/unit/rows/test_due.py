"""Due time = field ± offset, at `time`, then `repeat` up to the end, then the holiday rule; seen through a sync."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from shop import Shop, utc

Make = Callable[..., Shop]
DAY_BEFORE = {"offsetType": -1, "offset": 1, "offsetUnit": "day", "time": "09:00"}


def offset(kind: int, number: int, unit: str, **more: Any) -> dict[str, Any]:
    return {"offsetType": kind, "offset": number, "offsetUnit": unit, **more}


@pytest.mark.parametrize(
    ("start", "due"),
    [
        (None, "03-10 12:00"),
        (offset(0, 0, "day"), "03-10 12:00"),
        (offset(-1, 30, "second"), "03-10 11:59"),
        (offset(-1, 15, "minute"), "03-10 11:45"),
        (offset(1, 2, "hour"), "03-10 14:00"),
        (offset(-1, 7, "day"), "03-03 12:00"),
        (offset(-1, 7, "days", time="09:00"), "03-03 09:00"),
        (offset(1, 1, "week", time="18:30"), "03-17 18:30"),
        (offset(1, 1, "month"), "04-10 12:00"),
        (offset(1, -3, "day"), "03-07 12:00"),  # the older form: 1 with a signed number
    ],
)
def test_the_field_with_an_offset(
    shop: Make, start: dict[str, Any] | None, due: str
) -> None:
    s = shop(app_json={"horizon": 24 * 60}, **({"startOffset": start} if start else {}))
    s.raw(
        "INSERT INTO bill (id, status, at, count) VALUES (1, 'open', '2026-03-10 12:00:00.000000', 0)"
    )
    assert s.did() == [f"create 1 {due}"]


def test_a_year_after_the_last_of_february(shop: Make) -> None:
    s = shop("day", startOffset=offset(1, 1, "month"), app_json={"horizon": 24 * 60})
    s.save(
        day=date(2026, 1, 31)
    )  # a month after it: February's last day, inserted after it was due
    assert s.tasks() == ["1 02-28 00:00 #1 missed"]


def test_a_date_is_due_at_midnight_of_the_zone(shop: Make) -> None:
    s = shop("day", timezone="Asia/Shanghai", app_json={"horizon": 48})
    s.save(day=date(2026, 3, 4))  # 00:00 in Shanghai is 16:00 UTC of the day before
    assert s.tasks() == ["1 03-03 16:00 #1 pending"]


def test_a_naive_datetime_is_local_and_an_aware_one_is_itself(shop: Make) -> None:
    s = shop("at", timezone="America/New_York")
    s.save(at=datetime(2026, 3, 2, 9))  # 09:00 EST
    assert s.tasks() == ["1 03-02 14:00 #1 pending"]
    m = shop("moment", timezone="America/New_York")
    m.raw("DELETE FROM bill")
    m.raw("DELETE FROM jittask_ledger")
    m.save(moment=datetime(2026, 3, 2, 22, tzinfo=timezone(timedelta(hours=8))))
    assert m.tasks() == ["1 03-02 14:00 #1 pending"]
    assert (
        m.did("2026-03-02 08:01") == []
    )  # the database gives it back in UTC: the same instant


def test_time_sets_the_clock_of_the_day_in_the_zone(shop: Make) -> None:
    # 03-02 23:30 UTC is 03-03 07:30 in Shanghai; a day before at 09:00 there is 03-02 01:00 UTC: before the insert.
    s = shop("moment", timezone="Asia/Shanghai", startOffset=DAY_BEFORE)
    s.save(moment=utc("2026-03-02 23:30"))
    assert s.tasks() == ["1 03-02 01:00 #1 pending"]


def test_a_repeated_hour_is_one_task(shop: Make) -> None:
    # Berlin, 2026-10-25: 02:30 comes twice; the first is 00:30 UTC. Datetimes of two zones in such an hour never
    # compare as equal (PEP 495), which must not make the row's task a new one at every look.
    s = shop("at", timezone="Europe/Berlin").at("2026-10-24 12:00")
    s.save(at=datetime(2026, 10, 25, 2, 30))
    assert s.did() == [] and s.did("2026-10-24 12:01") == []
    s.save(id=1, status="seen")
    assert s.tasks() == ["1 10-25 00:30 #1 pending"]
    assert [o.status for o in s.work("2026-10-25 00:30")] == ["completed"]
    assert s.did("2026-10-25 00:31") == [] and s.row(1).count == 1


def test_a_skipped_hour_moves_forward(shop: Make) -> None:
    s = shop("at", timezone="Europe/Berlin").at("2026-03-28 12:00")
    s.save(at=datetime(2026, 3, 29, 2, 30))  # no such time: 03:30 CEST, 01:30 UTC
    assert s.tasks() == ["1 03-29 01:30 #1 pending"]
    assert s.did("2026-03-28 12:01") == []


def test_repeats_from_the_due_date_up_to_a_fixed_end(shop: Make) -> None:
    s = shop(
        "day",
        repeat={"repeatType": "week"},
        endTimeType=1,
        endTime="2026-03-17",
        app_json={"horizon": 24 * 60},
    )
    s.save(day=date(2026, 3, 3))
    # an end without a time includes its whole day
    assert s.tasks() == [
        "1 03-03 00:00 #1 pending",
        "1 03-10 00:00 #1 pending",
        "1 03-17 00:00 #1 pending",
    ]


def test_repeats_up_to_a_field_with_an_offset(shop: Make) -> None:
    end = {"endTimeType": 2, "endField": "until", "endOffset": offset(-1, 1, "day")}
    s = shop("day", repeat={"repeatType": "day"}, **end, app_json={"horizon": 24 * 60})
    s.save(day=date(2026, 3, 3), until=date(2026, 3, 6))
    assert s.tasks() == [f"1 03-0{d} 00:00 #1 pending" for d in (3, 4, 5)]
    s.save(
        id=1, until=date(2026, 3, 5)
    )  # an earlier end: the same identities, one of them ended
    assert s.tasks() == [
        "1 03-03 00:00 #1 pending",
        "1 03-04 00:00 #1 pending",
        "1 03-05 00:00 #1 superseded",
    ]
    s.save(id=1, until=None)  # no end: as far as the horizon reaches
    assert len(s.entries(status="pending")) == 60


def test_then_the_holiday_rule(shop: Make) -> None:
    # 2026-05-01 Labour Day in Germany is a Friday, the next working day is Monday the 4th.
    s = shop(
        "day",
        startOffset=DAY_BEFORE,
        calendar="DE",
        skipHoliday=1,
        app_json={"horizon": 24 * 90},
    )
    s.save(day=date(2026, 5, 2))
    [entry] = s.entries()
    assert (entry.nominal, entry.due) == (
        utc("2026-05-01 09:00"),
        utc("2026-05-04 09:00"),
    )
    assert s.did("2026-03-02 08:01") == []


def test_the_window_is_what_the_sync_asks_for(shop: Make) -> None:
    # the end of the horizon is inclusive: 24 h after 08:00
    s = shop("at")
    s.raw("INSERT INTO bill (id, status, at, count) VALUES (1,'open','2026-03-03 08:00:00.000000',0),"
          "(2,'open','2026-03-03 08:00:01.000000',0)")  # fmt: skip
    assert s.did() == ["create 1 03-03 08:00"]
    assert s.did("2026-03-02 08:01") == ["create 2 03-03 08:00"]


def test_dates_at_the_ends_of_the_calendar_are_never_due(shop: Make) -> None:
    s = shop("day", startOffset=offset(1, 1, "year"))
    s.save(day=date(9999, 12, 31))
    s.save(day=date(1, 1, 1))
    s.save(day=date(2025, 3, 2))
    assert s.sync().problems == []
    assert s.tasks(status="pending") == ["3 03-02 00:00 #1 pending"]


def test_what_memory_holds_and_what_the_database_keeps(shop: Make) -> None:
    # A datetime in a date column loses its time, an aware one in a naive column its zone: the task must not flap.
    s = shop("day")
    s.save(day=datetime(2026, 3, 3, 7, 30))
    assert s.did("2026-03-02 08:01") == []
    assert s.tasks() == ["1 03-03 00:00 #1 pending"]
    n = shop("at", timezone="Asia/Shanghai")
    n.raw("DELETE FROM bill")
    n.raw("DELETE FROM jittask_ledger")
    n.save(at=datetime(2026, 3, 2, 18, tzinfo=UTC))
    assert n.did("2026-03-02 08:01") == []
