"""Rows with a zone of their own: saved, synchronized, changed, and due."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from shop import Shop
from zoned_shop import AT_NINE, zoned

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
    assert s.row_count is not None


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
        s.insert("visit", id=number, at=AT, zone=zone, status="x", count=0)
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
