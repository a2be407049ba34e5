"""A due time that a `previous` or `nearest` move carries before now became due: it is run, or recorded as missed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import pytest
from shop import Shop, model_of, rows_task, utc
from sqlalchemy import insert, update

from jittask_prefect.records.row_history import row_history
from jittask_prefect.records.upcoming import pending

Make = Callable[..., Shop]
SATURDAY = datetime(
    2026, 3, 7, 9
)  # and closed, as are the days before it: it moves to the day before those
CLOSED = {"skipHoliday": 1, "holidayPolicy": "previous"}
MONTHLY = {"repeat": {"repeatType": "month"}}


def office(shop: Make, first: str, **keys: Any) -> Shop:
    """A task of an office that is closed from a day on until March 13."""
    calendars = {"office": {"closed": [f"{first}/2026-03-13"]}}
    keys = {**({} if "elements" in keys else CLOSED), **keys}
    return shop(app_json={"calendar": "office", "calendars": calendars}, **keys)


def by_save(s: Shop) -> None:
    s.save(id=1, at=SATURDAY)


def by_bulk_update(s: Shop) -> None:
    bill = s.element("models.Bill")
    s.save(id=1, at=None)
    with s.session() as session:
        session.execute(update(bill).where(bill.id == 1).values(at=SATURDAY))
        session.commit()


def by_bulk_insert(s: Shop) -> None:
    with s.session() as session:
        session.execute(
            insert(s.element("models.Bill")),
            [{"id": 1, "status": "open", "at": SATURDAY, "count": 0}],
        )
        session.commit()


def by_raw_sql(s: Shop) -> None:
    s.insert(id=1, status="open", at=f"{SATURDAY}.000000", count=0)


WAYS = [by_save, by_bulk_update, by_bulk_insert, by_raw_sql]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "keys",
    [{}, {"holidayPolicy": "nearest"}, MONTHLY],
    ids=["previous", "nearest", "monthly"],
)
def test_a_moved_due_time_just_past_runs_at_once(
    shop: Make, way: Callable[[Shop], None], keys: dict[str, Any]
) -> None:
    """The row's day is ahead, its due time 23 hours ago, and `lookback` a day."""
    s = office(shop, "2026-03-05", **keys)
    s.sync("2026-03-02 08:00")
    s.sync("2026-03-05 07:59")
    way(s.at("2026-03-05 08:00"))
    s.sync()
    assert [o.status for o in s.work()] == ["completed"]
    assert s.tasks(status="completed") == ["1 03-04 09:00 #1 completed"]
    assert s.did("2026-03-05 08:01") == [] and s.row_count(1) == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "keys",
    [{}, {"holidayPolicy": "nearest"}, MONTHLY],
    ids=["previous", "nearest", "monthly"],
)
def test_a_moved_due_time_long_past_is_recorded_as_missed(
    shop: Make, way: Callable[[Shop], None], keys: dict[str, Any]
) -> None:
    """The row's day is ahead, its due time two days ago, and `lookback` a day."""
    s = office(shop, "2026-03-04", **keys)
    s.sync("2026-03-02 08:00")
    s.sync("2026-03-05 08:59")
    way(s.at("2026-03-05 09:00"))
    s.sync()
    assert s.work() == [] and s.tasks(status="ended") == ["1 03-03 09:00 #1 missed"]
    assert s.did("2026-03-05 09:01") == [] and s.did("2026-03-06 09:00") == []
    assert s.work("2026-03-07 09:00") == []


@pytest.mark.parametrize("way", [by_save, by_raw_sql])
def test_the_day_itself_may_be_past_as_well(
    shop: Make, way: Callable[[Shop], None]
) -> None:
    """Saved at noon of the closed day: its nominal time is within `lookback`, its due time is not."""
    s = office(shop, "2026-03-04")
    s.sync("2026-03-02 08:00")
    s.sync("2026-03-07 11:59")
    way(s.at("2026-03-07 12:00"))
    s.sync()
    assert s.work() == [] and s.tasks() == ["1 03-03 09:00 #1 missed"]


def test_a_first_enabling_looks_at_due_times_too(shop: Make) -> None:
    """It never looks back: what a move has carried before it leaves no task; what is due later does."""
    s = office(shop, "2026-03-05")
    by_raw_sql(s)
    assert s.did("2026-03-05 08:00") == [] and s.did("2026-03-05 08:01") == []
    assert s.did("2026-03-05 08:02", since="2026-03-04 08:59") == [
        "create 1 03-04 09:00"
    ]


def test_a_closed_time_of_months_is_looked_back_over(shop: Make) -> None:
    """A date is carried as far as its calendar says, here over sixty days."""
    s = office(shop, "2026-01-05")
    s.sync("2026-01-02 08:00")
    s.at("2026-03-05 08:00")
    by_save(s)
    assert s.tasks() == ["1 01-02 09:00 #1 missed"]


@pytest.mark.parametrize("way", [by_save, by_raw_sql])
def test_a_day_without_a_clock_time_is_carried_to_its_midnight(
    shop: Make, way: Callable[[Shop], None]
) -> None:
    """A date is due at 00:00: the first moment of the day that the sync looks back to."""
    s = office(
        shop,
        "2026-03-04",
        elements={"models/Bill": model_of(), "tasks/Task": rows_task("day", **CLOSED)},
    )
    s.sync("2026-03-02 08:00")
    s.sync("2026-03-05 07:59")
    s.at("2026-03-05 08:00")
    if way is by_save:
        s.save(id=1, day=date(2026, 3, 6))
    else:
        s.insert(id=1, status="open", day="2026-03-06", count=0)
    s.sync()
    assert s.tasks() == ["1 03-03 00:00 #1 missed"]


def test_a_row_s_view_names_the_last_due_time(shop: Make) -> None:
    """`jittask row` goes by due times as well: nothing is to come though the row's day is ahead."""
    s = office(shop, "2026-01-05")
    s.at("2026-03-05 08:00")
    by_raw_sql(s)
    part = row_history(s.app, "models.Bill", "1", s.now, 5, 5).parts[0]
    assert part.end == "nothing more is due; the last was Fri 2026-01-02 09:00 UTC"
    assert (
        pending(
            s.app.template("tasks.Task"), utc("2026-04-01 00:00"), s.now, 10
        ).records
        == []
    )
