"""Rows with a zone of their own: saved, synchronized, changed, and due."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from shop import Shop, in_turn
from zoned_shop import AT_NINE, zoned

from jittask_prefect.cli import doctor
from jittask_prefect.errors import ArgumentError
from jittask_prefect.records.record import of_entry
from jittask_prefect.rows.own_columns import unknown_values
from jittask_prefect.running.trial import load_row

Make = Callable[..., Shop]
AT = datetime(2026, 3, 3, 15)
"""Due the day before, at nine: 2 March, 00:00 UTC of Tokyo, 08:00 of Berlin, 09:00 of UTC, 14:00 of New York."""


def visits(
    make: Make,
    field: str = "at",
    *,
    now: str = "2026-03-01 20:00",
    task: Any = None,
    **timer: Any,
) -> Shop:
    timer = {"startOffset": AT_NINE, "timezoneField": "zone", **timer}
    s = make(elements=zoned(field, task=task, **timer))
    s.at(now)
    s.sync()
    return s


def kept(s: Shop) -> list[str]:
    return [
        f"{e.row_key} {e.due:%m-%d %H:%M} {e.zone_value!r} {e.outcome or e.status}"
        for e in s.entries()
    ]


def test_a_save_plans_by_the_zone_of_the_row(on: Make) -> None:
    s = visits(on)
    for zone in ("Asia/Tokyo", "Europe/Berlin", "America/New_York", None, "GMT+8"):
        s.save("models.Visit", at=AT, zone=zone)
    assert kept(s) == [
        "1 03-02 00:00 'Asia/Tokyo' pending",
        "2 03-02 08:00 'Europe/Berlin' pending",
        "4 03-02 09:00 '' pending",
        "5 03-02 09:00 'GMT+8' pending",
        "3 03-02 14:00 'America/New_York' pending",
    ]
    assert s.did() == []
    assert [o.status for o in s.work("2026-03-02 08:00")] == ["completed"] * 2


def test_a_sync_finds_what_raw_sql_left(on: Make) -> None:
    s = visits(on)
    zones = (
        "Asia/Tokyo",
        "Europe/Berlin",
        "America/New_York",
        None,
        "GMT+8",
        "Pacific/Kiritimati",
        "Pacific/Pago_Pago",
    )
    for number, zone in enumerate(zones, 1):
        s.insert("zoned_visit", id=number, at=AT, zone=zone, status="x", count=0)
    assert s.did() == [
        "create 1 03-02 00:00",
        "create 2 03-02 08:00",
        "create 4 03-02 09:00",
        "create 5 03-02 09:00",
        "create 3 03-02 14:00",
        "create 7 03-02 20:00",
    ]
    assert s.did() == []
    # Row 6 was due on the 1st at 19:00, an hour before the first sync.
    assert s.entries(row_key="6") == []


# Changes


def test_a_changed_zone_moves_the_task_as_a_changed_date_does(on: Make) -> None:
    s = visits(on)
    s.save("models.Visit", id=1, at=AT, zone="Asia/Tokyo")
    s.save("models.Visit", id=1, zone="Europe/Berlin")
    assert s.tasks() == ["1 03-02 00:00 #1 superseded", "1 03-02 08:00 #2 pending"]
    assert s.did() == []
    s.save("models.Visit", id=1, zone="Asia/Tokyo")  # A → B → A: three identities
    assert s.tasks(status="pending") == ["1 03-02 00:00 #3 pending"]


def test_a_sync_finds_a_zone_that_raw_sql_changed(on: Make) -> None:
    s = visits(on)
    s.save("models.Visit", id=1, at=AT, zone="Europe/Berlin")
    s.raw("UPDATE zoned_visit SET zone = 'Asia/Tokyo'")
    assert s.did() == ["reschedule 1 03-02 00:00"]
    assert s.did() == []
    s.raw("UPDATE zoned_visit SET zone = NULL")
    assert s.did() == ["reschedule 1 03-02 09:00"]
    assert s.did() == []


def test_a_change_of_case_or_of_spaces_is_a_change(on: Make) -> None:
    """Whatever a column's collation says of texts that look alike."""
    s = visits(on)
    s.save("models.Visit", id=1, at=AT, zone="Europe/Berlin")
    for other in ("europe/berlin", "Europe/Berlin "):
        s.raw("UPDATE zoned_visit SET zone = :zone", zone=other)
        assert s.did() == ["reschedule 1 03-02 09:00"]
        s.raw("UPDATE zoned_visit SET zone = 'Europe/Berlin'")
        assert s.did() == ["reschedule 1 03-02 08:00"]
        assert s.did() == []


def test_a_bulk_statement_is_followed(on: Make) -> None:
    s = visits(on)
    s.save("models.Visit", id=1, at=AT, zone="Europe/Berlin")
    visit = s.element("models.Visit")
    with s.session() as session:
        session.execute(sa.update(visit).values(zone="Asia/Tokyo"))
        session.execute(
            sa.insert(visit),
            [
                {
                    "id": 2,
                    "at": AT,
                    "zone": "America/New_York",
                    "status": "x",
                    "count": 0,
                }
            ],
        )
        session.commit()
    assert s.tasks(status="pending") == [
        "1 03-02 00:00 #2 pending",
        "2 03-02 14:00 #1 pending",
    ]
    assert s.did() == []


# A related row


def related(make: Make, **timer: Any) -> Shop:
    s = visits(make, **{"timezoneField": "customer__timezone", **timer})
    s.save("models.Customer", id=1, timezone="Europe/Berlin")
    s.save("models.Customer", id=2, timezone="Asia/Tokyo")
    return s


def test_the_zone_of_a_related_row(on: Make) -> None:
    s = related(on)
    for number, customer in enumerate((1, 2, None), 1):
        s.save("models.Visit", id=number, at=AT, customer_id=customer)
    assert kept(s) == [
        "2 03-02 00:00 'Asia/Tokyo' pending",
        "1 03-02 08:00 'Europe/Berlin' pending",
        "3 03-02 09:00 '' pending",
    ]
    s.save(
        "models.Visit", id=1, customer_id=2
    )  # another customer: the row's own column
    assert s.tasks(row_key="1", status="pending") == ["1 03-02 00:00 #2 pending"]
    assert s.did() == []


def test_a_change_of_the_related_row_is_found_by_the_sync(on: Make) -> None:
    s = related(on)
    s.save("models.Visit", id=1, at=AT, customer_id=1)
    s.save("models.Customer", id=1, timezone="Asia/Tokyo")
    assert s.tasks() == ["1 03-02 08:00 #1 pending"]  # no save of the row
    assert s.did() == ["reschedule 1 03-02 00:00"]
    assert s.did() == []


def test_a_change_of_the_related_row_is_found_at_the_due_moment(shop: Make) -> None:
    s = related(shop)
    s.save("models.Visit", id=1, at=AT, customer_id=2)
    s.sync()
    s.save("models.Customer", id=2, timezone="America/New_York")
    [outcome] = s.work("2026-03-02 00:00")
    assert outcome.message == "superseded: the row's date is another one now"
    assert s.tasks() == ["1 03-02 00:00 #1 superseded", "1 03-02 14:00 #2 pending"]
    assert [o.status for o in s.work("2026-03-02 14:00")] == []
    s.sync()
    assert [o.status for o in s.work()] == ["completed"]


# Hook = sync, and twice = once

ZONES = (
    "Asia/Tokyo",
    "Europe/Berlin",
    "America/New_York",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
    "GMT+8",
    "",
    None,
)
REGIONS = ("DE", "DE-BY", "CN", "JP", "SA", "XX", None)
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "once": ("at", {}),
    "a day": ("day", {"startOffset": None}),
    "an instant": ("moment", {}),
    "an instant itself": ("moment", {"startOffset": {"offsetType": -1, "offset": 2, "offsetUnit": "hour"}}),
    "weekly": ("at", {"repeat": {"repeatType": "week"}}),
    "yearly": ("day", {"repeat": {"repeatType": "year"}}),
    "hourly": ("at", {"repeat": {"repeatType": "hour", "period": 5}}),
    "three working days": ("at", {"startOffset": {"offsetType": -1, "offset": 3, "offsetUnit": "workday", "time": "09:00"}}),
    "off holidays": ("day", {"skipHoliday": 1, "workdaysOnly": 1, "calendar": "GB"}),
    "before holidays": ("day", {"skipHoliday": 1, "workdaysOnly": 1, "calendar": "GB", "holidayPolicy": "previous"}),
    "levels": ("day", {"startOffset": [
        {"name": "early", "offsetType": -1, "offset": 3, "offsetUnit": "workday", "time": "09:00"},
        {"name": "late", "offsetType": 1, "offset": 2, "offsetUnit": "day", "time": "09:00"},
    ]}),
    "hours": ("at", {"window": {"from": "08:00", "to": "11:00", "workdays": True}, "calendar": "GB"}),
    "until": ("at", {"repeat": {"repeatType": "day"}, "endTimeType": 2, "endField": "until"}),
}  # fmt: skip


def rows_around(now: datetime, count: int) -> Iterator[dict[str, Any]]:
    """Rows with dates of the days around an instant, zones and regions, from a fixed seed."""
    draw = random.Random(7)
    for number in range(1, count + 1):
        at = now.replace(tzinfo=None) + timedelta(hours=draw.randint(-400, 400))
        yield {
            "id": number,
            "at": at,
            "day": at.date(),
            "moment": at.replace(tzinfo=UTC),
            "until": at.date() + timedelta(draw.randint(0, 60)),
            "zone": draw.choice(ZONES),
            "region": draw.choice(REGIONS),
            "status": "x",
            "count": 0,
        }


def plan(s: Shop) -> set[tuple[Any, ...]]:
    return {
        (
            e.row_key,
            e.nominal,
            e.due,
            e.generation,
            e.status,
            e.zone_value,
            e.calendar_value,
            e.start_value,
        )
        for e in s.entries()
        if s.now < e.due <= s.now + timedelta(hours=24)
    }


@pytest.mark.parametrize(("server", "rule"), in_turn(RULES), indirect=["server"])
def test_the_hook_and_the_sync_agree(on: Make, rule: str) -> None:
    field, timer = RULES[rule]
    s = visits(on, field, now="2026-09-30 20:00", calendarField="region", **timer)
    rows = list(rows_around(s.now, 150))
    for row in rows:
        s.insert("zoned_visit", **row)
    s.sync()
    by_sync = plan(s)
    assert by_sync
    assert s.did() == []
    s.raw("DELETE FROM zoned_visit")
    with s.app.engine().begin() as connection:
        connection.execute(sa.text("DELETE FROM jittask_ledger"))
    with s.session() as session:
        session.add_all([s.element("models.Visit")(**row) for row in rows])
        session.commit()
    assert plan(s) == by_sync
    assert s.did() == []
    assert plan(s) == by_sync


# New days


def test_new_days_of_a_calendar_that_rows_name_move_their_tasks(shop: Make) -> None:
    """A new name, other days, another name: only the rows concerned are planned anew."""
    office: dict[str, Any] = {"country": "DE"}
    timer = {"calendarField": "region", "skipHoliday": 1, "calendar": "GB"}
    s = shop(
        elements=zoned("day", **timer),
        app_json={"calendars": {"office": office}, "horizon": 96},
    )
    s.sync("2026-03-01 20:00")
    for number, region in enumerate(("office", "branch", "FR", None), 1):
        s.save("models.Visit", id=number, day=date(2026, 3, 4), region=region)
    s.sync()
    office["closed"] = ["2026-03-04"]
    s.again()
    report = s.sync("2026-03-01 20:01")
    assert [(a.action, a.row, f"{a.due:%m-%d}") for a in report.actions] == [
        ("reschedule", "1", "03-05")
    ]
    assert report.calendars == [
        "tasks.Task: the days of the calendars that rows name have changed; the tasks of 1 rows are planned anew"
    ]
    assert s.did("2026-03-01 20:02") == []
    s._json["calendars"]["branch"] = {
        "country": "GB",
        "closed": ["2026-03-04/2026-03-05"],
    }
    s.again()
    assert s.did("2026-03-01 20:03") == ["reschedule 2 03-06 00:00"]
    assert s.did("2026-03-01 20:04") == []


# What people see


def test_records_names_and_the_function_have_the_zone_of_the_row(shop: Make) -> None:
    inner = "def customFunc(row):\n    return app.task.dueTime.isoformat()\n"
    s = shop(
        elements=zoned(
            inner=inner,
            startOffset=AT_NINE,
            timezoneField="zone",
            timezone="Europe/Berlin",
        )
    )
    s.at("2026-03-01 20:00")
    s.sync()
    s.save("models.Visit", id=1, at=AT, zone="Asia/Tokyo")
    s.save("models.Visit", id=2, at=AT, zone="GMT+8")
    s.sync()
    names = sorted(str(run.name) for run in s.api.runs())
    assert names == [
        "Task · Visit 1 · 2026-03-02 09:00",
        "Task · Visit 2 · 2026-03-02 09:00",
    ]
    s.work("2026-03-02 08:00")
    first, second = (of_entry(s.app, entry, s.now) for entry in s.entries())
    assert first.as_dict()["dueTime"] == "2026-03-02T09:00:00+09:00"
    assert first.result == "2026-03-02T09:00:00+09:00"
    assert first.message == ""
    assert second.as_dict()["dueTime"] == "2026-03-02T09:00:00+01:00"
    assert second.message == (
        "`zone` is 'GMT+8', no known time zone; the task's own counts, Europe/Berlin"
    )


def test_doctor_counts_rows_without_a_known_name(on: Make) -> None:
    s = visits(on, calendarField="customer__region", workdaysOnly=1, calendar="DE")
    s.save("models.Customer", id=1, region="XX")
    s.save("models.Customer", id=2, region="JP")
    for number, (zone, customer) in enumerate(
        (("GMT+8", 1), ("GMT+8", 2), (None, 2), ("Asia/Tokyo", None)), 1
    ):
        s.save("models.Visit", id=number, at=AT, zone=zone, customer_id=customer)
    s.save("models.Visit", id=9, zone="Mars")  # no date: no task
    with s.app.engine().connect() as connection:
        told = list(unknown_values(connection, s.app.template("tasks.Task"), s.now))  # type: ignore[arg-type]
    assert told == [
        "tasks.Task: 3 rows whose `zone` is no known time zone ('GMT+8', empty); the task's own counts, UTC",
        "tasks.Task: 2 rows whose `customer__region` is no known calendar (empty, 'XX'); the task's own counts, DE",
    ]
    found = [f.text for f in doctor._database(s.app, "", s.now) if f.state == "warning"]
    assert set(told) <= set(found)


def test_a_detached_row_says_that_its_related_row_is_missing(shop: Make) -> None:
    s = related(shop)
    s.save("models.Visit", id=1, at=AT, customer_id=1)
    template = s.app.template("tasks.Task")
    with pytest.raises(
        ArgumentError,
        match="a row whose customer__timezone is not loaded; allowed: a row of an open",
    ):
        template.explain(s.now, s.now + timedelta(9), s.row(1, "models.Visit"))
    [told] = template.explain(
        s.now, s.now + timedelta(9), load_row(s.app, template, "1")
    )
    assert told.zone == "Europe/Berlin"


def test_the_task_after_a_done_one_has_the_zone_of_the_row(on: Make) -> None:
    """Its record names the row's clock at once, and not only after a sync; the sync finds nothing to do."""
    levels = [
        {"name": name, **AT_NINE, "offset": n} for name, n in (("a", 2), ("b", 1))
    ]
    s = visits(
        on, startOffset=levels, calendarField="region", calendar="GB", skipHoliday=1
    )
    s.save("models.Visit", at=datetime(2026, 3, 4, 15), zone="Asia/Tokyo", region="JP")
    s.sync()
    s.work("2026-03-02 00:00")
    [after] = s.entries(level="b")
    assert (after.zone_value, after.calendar_value) == ("Asia/Tokyo", "JP")
    assert (
        of_entry(s.app, after, s.now).as_dict()["dueTime"]
        == "2026-03-03T09:00:00+09:00"
    )
    assert s.did() == []
    [same] = s.entries(level="b")
    assert (same.task_id, same.generation) == (after.task_id, 1)
