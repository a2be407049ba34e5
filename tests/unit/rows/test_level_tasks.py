"""Levels of a row's tasks: each an occurrence with an identity of its own, whoever plans it, and however late the row is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from level_walk import walk_levels
from shop import MODEL, Shop, model_of, rows_task, utc

from jittask_prefect.ledger.tables import entries
from jittask_prefect.rows.planning import plan
from jittask_prefect.schedule import calendar as calendars
from jittask_prefect.schedule.country import listing
from jittask_prefect.task_svc.service import TaskSvc

Make = Callable[..., Shop]
DUE = date(2026, 3, 2)
"""A Monday."""
TOLD = "def customFunc(row):\n    return app.task.level\n"


def level(name: str, number: int, unit: str = "day", **more: Any) -> dict[str, Any]:
    kind = (number > 0) - (number < 0)
    offset = {"offsetType": kind, "offset": abs(number), "offsetUnit": unit}
    return {"name": name, **offset, **more}


LEVELS = [
    level("first", 3, time="09:00"),
    level("second", 14, time="09:00"),
    level("final", 30, time="09:00"),
]


def reminders(make: Make, field: str = "day", **keys: Any) -> Shop:
    """A shop with three reminders of each bill, planned for two months."""
    app_json = {"horizon": 24 * 60, **keys.pop("app_json", {})}
    about = {"startOffset": LEVELS, "inner": TOLD, **keys}
    return make(field, app_json=app_json, **about)


def told(s: Shop, **where: Any) -> list[str]:
    """The ledger, as `row due level #generation outcome`."""
    return [
        f"{e.row_key} {e.due:%m-%d %H:%M} {e.level} #{e.generation} {e.outcome or e.status}"
        for e in s.entries(**where)
    ]


# Planning


def test_each_level_is_a_task_and_its_function_learns_the_level(on: Make) -> None:
    s = reminders(on)
    s.save(id=1, day=DUE)
    assert told(s) == [
        "1 03-05 09:00 first #1 pending",
        "1 03-16 09:00 second #1 pending",
        "1 04-01 09:00 final #1 pending",
    ]
    s.sync()
    for at, name in (("03-05", "first"), ("03-16", "second"), ("04-01", "final")):
        [outcome] = s.work(f"2026-{at} 09:00")
        assert outcome.result == name
        s.sync()
    assert {e.status for e in s.entries()} == {"completed"}
    assert len({e.task_id for e in s.entries()}) == 3


@pytest.mark.parametrize("unit", ["day", "workday", "month"])
def test_rows_saved_at_one_instant_are_planned_alike(shop: Make, unit: str) -> None:
    """As the rows of one flush are: the second row is asked for the window of the first."""
    levels = [level("early", -1, unit), level("late", 3, unit)]
    s = shop("day", startOffset=levels, calendar="DE", app_json={"horizon": 24 * 120})
    for number in (1, 2, 3):
        s.save(id=number, day=DUE + timedelta(7))
    planned = {n: [t[2:] for t in told(s, row_key=str(n))] for n in (1, 2, 3)}
    assert planned[1] and planned[1] == planned[2] == planned[3]


@pytest.mark.parametrize("dispatch", ["row", "batch"])
def test_rows_of_different_levels_may_be_due_together(
    shop: Make, dispatch: str
) -> None:
    s = reminders(shop, dispatch=dispatch, app_json={"horizon": 24 * 60})
    for key, days in ((1, 30), (2, 14), (3, 3)):
        s.save(id=key, day=date(2026, 4, 20) - timedelta(days))
    s.sync("2026-04-19 09:00")
    s.work("2026-04-20 09:00")
    done = {e.row_key: e.returned_value for e in s.entries(status="completed")}
    assert done == {"1": "final", "2": "second", "3": "first"}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"repeat": {"repeatType": "week"}},
        {"workdaysOnly": 1, "holidayPolicy": "previous"},
        {"startOffset": [level("b", 2, "hour"), level("a", 2), level("c", 48, "hour")]},
        {"startOffset": [level("a", -3, "workday"), level("b", 1, "month")]},
    ],
    ids=str,
)
def test_a_row_planned_by_the_hook_is_planned_as_by_the_sync(
    shop: Make, keys: dict[str, Any]
) -> None:
    """For dates from long past to coming ones, and each as the walk says."""
    cfg = {"startOffset": LEVELS, "timezone": "UTC", **keys}
    cfg.setdefault("repeat", {"repeatType": "normal"})
    days = [DUE + timedelta(n) for n in range(-40, 41, 5)]

    def planned(s: Shop) -> list[Any]:
        return sorted(
            (int(e.row_key), e.due, e.nominal, e.level, e.anchor, e.task_id)
            for e in s.entries()
            if e.status == "pending" and e.due <= s.now + timedelta(60)
        )

    s = reminders(shop, **keys)
    s.sync("2026-02-01 08:00")
    s.sync("2026-03-02 07:59")
    s.at("2026-03-02 08:00")
    for number, day in enumerate(days):
        s.save(id=number + 1, day=day)
    by_hook = planned(s)
    with s.app.engine().begin() as connection:
        connection.execute(entries.delete())
    s.sync()
    assert planned(s) == by_hook
    lookback = utc("2026-03-01 08:00")
    coming = [
        (number + 1, found.due, found.nominal, found.level)
        for number, day in enumerate(days)
        for found in walk_levels(cfg, None, lookback, s.now + timedelta(60), day)
    ]
    assert {each[:4] for each in by_hook} >= {
        each for each in coming if each[1] > s.now
    }
    assert {each[:4] for each in by_hook} <= set(coming)


def test_a_plan_applied_twice_is_applied_once(shop: Make) -> None:
    s = reminders(shop, repeat={"repeatType": "week"})
    for key in range(1, 6):
        s.insert(id=key, day=DUE + timedelta(key), status="open", count=0)
    first = s.sync()
    assert first.changes > 15
    before = s.entries()
    again = s.sync()
    assert again.changes == 0 and s.entries() == before
    assert {a.action for a in plan(s.app, s.now).actions} == {"skip"}


def test_a_date_that_goes_away_and_comes_back_has_three_identities(shop: Make) -> None:
    s = reminders(shop)
    for day in (DUE, DUE + timedelta(5), DUE):
        s.save(id=1, day=day)
    assert told(s, status="pending") == [
        "1 03-05 09:00 first #3 pending",
        "1 03-16 09:00 second #3 pending",
        "1 04-01 09:00 final #3 pending",
    ]
    assert len({e.task_id for e in s.entries()}) == 9
    assert s.sync().changes == 0


def test_a_level_that_was_done_stays_done_and_the_others_move(shop: Make) -> None:
    s = reminders(shop)
    s.save(id=1, day=DUE)
    s.sync()
    s.work("2026-03-05 09:00")
    s.save(id=1, day=DUE + timedelta(7))
    assert told(s, status="completed") == ["1 03-05 09:00 first #1 completed"]
    assert told(s, status="pending") == [
        "1 03-12 09:00 first #2 pending",
        "1 03-23 09:00 second #2 pending",
        "1 04-08 09:00 final #2 pending",
    ]


def test_one_level_is_ended_and_the_others_stay(shop: Make) -> None:
    s = reminders(shop)
    s.save(id=1, day=DUE)
    second = s.entries(level="second")[0]
    TaskSvc(s.app, s.api).forcedEnd(second.task_id)
    s.save(id=1, status="sent")
    s.sync()
    assert [e.outcome or e.status for e in s.entries()] == [
        "pending",
        "forced",
        "pending",
    ]


def test_a_repeat_goes_on_from_the_last_level_with_its_name(shop: Make) -> None:
    s = reminders(shop, repeat={"repeatType": "week"})
    s.save(id=1, day=DUE)
    s.sync()
    assert [e.level for e in s.entries()] == ["first", "second", *["final"] * 5]
    s.work("2026-04-01 09:00")
    s.sync("2026-04-01 09:01")
    [outcome] = s.work("2026-04-08 09:00")
    assert outcome.result == "final"


def test_levels_of_one_instant_are_one_task(shop: Make) -> None:
    levels = [level("week", 1, "week"), level("days", 7), level("hours", 168, "hour")]
    s = reminders(shop, startOffset=levels)
    s.save(id=1, day=DUE)
    assert told(s) == ["1 03-09 00:00 week #1 pending"]


@pytest.mark.parametrize("way", ["save", "insert"])
def test_each_level_is_due_by_the_clock_of_the_row(shop: Make, way: str) -> None:
    """Nine o'clock in Tokyo is 00:00 UTC; in New York 14:00 UTC, from 8 March on 13:00."""
    zoned = MODEL.replace(
        "    count: int", "    zone: str | None = None\n    count: int"
    )
    task = rows_task("day", startOffset=LEVELS, inner=TOLD)
    task["e.json"]["timerCfg"] |= {"timezoneField": "zone", "timezone": "UTC"}
    about = {"models/Bill": model_of(zoned), "tasks/Task": task}
    s = shop(elements=about, app_json={"horizon": 24 * 60})
    s.sync("2026-02-01 08:00")
    s.sync("2026-03-02 08:00")
    for key, zone in ((1, "Asia/Tokyo"), (2, "America/New_York"), (3, None)):
        row = {"id": key, "day": DUE, "zone": zone, "status": "open", "count": 0}
        s.save(**row) if way == "save" else s.insert(**row)
    s.sync("2026-03-02 08:01")
    assert sorted(told(s)) == [
        "1 03-05 00:00 first #1 pending",
        "1 03-16 00:00 second #1 pending",
        "1 04-01 00:00 final #1 pending",
        "2 03-05 14:00 first #1 pending",
        "2 03-16 13:00 second #1 pending",
        "2 04-01 13:00 final #1 pending",
        "3 03-05 09:00 first #1 pending",
        "3 03-16 09:00 second #1 pending",
        "3 04-01 09:00 final #1 pending",
    ]
    assert s.sync("2026-03-02 08:02").changes == 0


# Late rows


@pytest.mark.parametrize("way", ["save", "insert"])
@pytest.mark.parametrize(
    ("missed", "run"),
    [
        ({"policy": "latest"}, ["second"]),
        ({"policy": "all"}, ["first", "second"]),
    ],
)
def test_a_row_that_comes_late_gets_the_level_that_is_due_now(
    shop: Make, way: str, missed: dict[str, Any], run: list[str]
) -> None:
    """Twenty days after its date; what lies within `lookback` counts, here a month."""
    s = reminders(shop, missed={**missed, "lookback": 30 * 86400})
    s.sync("2026-02-01 08:00")
    s.sync("2026-03-22 08:00")
    row = {"id": 1, "day": DUE, "status": "open", "count": 0}
    s.save(**row) if way == "save" else s.insert(**row)
    s.sync("2026-03-22 08:01")
    done = [outcome.result for outcome in s.work("2026-03-22 08:02")]
    assert sorted(done) == run
    outcomes = {e.level: e.outcome or e.status for e in s.entries()}
    assert outcomes["final"] == "pending"
    assert outcomes["first"] == ("completed" if "first" in run else "missed")


def test_a_level_before_the_lookback_is_recorded_and_not_run(shop: Make) -> None:
    s = reminders(shop)
    s.at("2026-03-22 08:00").save(id=1, day=DUE)
    assert told(s) == [
        "1 03-16 09:00 second #1 missed",
        "1 04-01 09:00 final #1 pending",
    ]
    assert "more than 86400 s ago" in s.entries()[0].message
    assert s.work() == []


def test_a_level_that_waits_too_long_gives_way_to_a_later_one(shop: Make) -> None:
    """No worker ran for a fortnight: with `latest` only the second reminder is sent."""
    s = reminders(shop)
    s.save(id=1, day=DUE)
    s.sync()
    s.at("2026-03-16 10:00")
    s.sync()
    assert [o.result for o in s.work() if o.result] == ["second"]
    assert told(s)[:2] == [
        "1 03-05 09:00 first #1 missed",
        "1 03-16 09:00 second #1 completed",
    ]


# Other levels in the e.json, other days in the calendar


def test_another_name_of_a_level_plans_its_pending_tasks_anew(shop: Make) -> None:
    s = reminders(shop)
    s.save(id=1, day=DUE)
    s.sync()
    s.work("2026-03-05 09:00")
    s.sync("2026-03-05 09:01")
    timer = {
        "startField": "day",
        "startOffset": [*LEVELS[:1], level("again", 14, time="09:00"), LEVELS[2]],
    }
    s.config(
        timerCfg={
            **timer,
            "startOffset": [{**LEVELS[0], "name": "one"}, *timer["startOffset"][1:]],
        }
    )
    report = s.sync("2026-03-05 09:02")
    assert [(a.action, a.level, a.reason) for a in report.actions] == [
        ("reschedule", "again", "was level second")
    ]
    assert told(s) == [
        "1 03-05 09:00 first #1 completed",
        "1 03-16 09:00 second #1 superseded",
        "1 03-16 09:00 again #2 pending",
        "1 04-01 09:00 final #1 pending",
    ]
    assert s.sync("2026-03-05 09:03").changes == 0
    [outcome] = s.work("2026-03-16 09:00")
    assert outcome.result == "again"


def test_levels_in_the_place_of_a_single_offset(shop: Make) -> None:
    s = reminders(
        shop,
        startOffset={**LEVELS[0]}
        and {k: v for k, v in LEVELS[0].items() if k != "name"},
    )
    s.save(id=1, day=DUE)
    s.sync()
    assert told(s) == ["1 03-05 09:00 None #1 pending"]
    s.config(timerCfg={"startField": "day", "startOffset": LEVELS})
    s.sync("2026-03-02 08:01")
    assert told(s, status="pending") == [
        "1 03-05 09:00 first #2 pending",
        "1 03-16 09:00 second #1 pending",
        "1 04-01 09:00 final #1 pending",
    ]
    assert s.sync("2026-03-02 08:02").changes == 0


@pytest.mark.parametrize("kind", ["normal", "month"])
def test_counted_levels_move_with_the_calendar_and_what_was_done_stays_done(
    shop: Make, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    levels = [level("first", 2, "workday"), level("second", 5, "workday")]
    keys: dict[str, Any] = {"startOffset": levels, "repeat": {"repeatType": kind}}
    s = reminders(shop, calendar="DE", app_json={"horizon": 24 * 20}, **keys)
    s.save(id=1, day=DUE)
    s.sync()
    s.work("2026-03-04 00:00")
    s.sync("2026-03-04 00:01")

    def listed(country: object, first: int, last: int) -> object:
        found = listing(country, first, last)  # type: ignore[arg-type]
        new = {date(2026, 3, 3): "New", date(2026, 3, 5): "New"}
        return found._replace(holidays={**found.holidays, **new})

    monkeypatch.setattr(calendars, "listing", listed)
    calendars._known_days.cache_clear()
    s.again()
    s.sync("2026-03-04 00:02")
    # Tuesday and Thursday are off: the fifth working day is Wednesday 11 March instead of Monday 9 March.
    assert told(s) == [
        "1 03-04 00:00 first #1 completed",
        "1 03-09 00:00 second #1 superseded",
        "1 03-11 00:00 second #2 pending",
    ]
    assert s.sync("2026-03-04 00:03").changes == 0
    calendars._known_days.cache_clear()


# What people see


def test_run_names_and_records_name_the_level(shop: Make) -> None:
    s = reminders(shop, dispatch="row")
    s.save(id=1, day=DUE)
    s.sync("2026-03-05 08:00")
    names = [run["name"] for run in s.api.all_runs.values()]
    assert "Task · Bill 1 · first · 2026-03-05 09:00" in names
    s.work("2026-03-05 09:00")
    svc = TaskSvc(s.app, s.api)
    found = svc.getTaskRecords("tasks.Task", status="completed")
    assert [record["level"] for record in found] == ["first"]


@pytest.mark.parametrize("level_name", [None, "x"])
def test_an_action_says_its_level_where_it_has_one(
    shop: Make, level_name: str | None
) -> None:
    offset = {k: v for k, v in LEVELS[0].items() if k != "name"}
    levels = [{"name": level_name, **offset}] if level_name else offset
    s = reminders(shop, startOffset=levels)
    s.insert(id=1, day=DUE, status="open", count=0)
    [action] = plan(s.app, s.now).actions
    assert action.as_dict().get("level") == level_name


def test_two_templates_of_a_model_have_levels_of_their_own(shop: Make) -> None:
    other = [level("soon", 1), level("late", 2)]
    s = shop(
        elements={
            "models/Bill": model_of(),
            "tasks/Task": rows_task("day", startOffset=LEVELS),
            "tasks/Other": rows_task("day", startOffset=other),
        },
        app_json={"horizon": 24 * 60},
    )
    s.save(id=1, day=DUE)
    found = [(e.template, e.level) for e in s.entries()]
    names = [
        ("tasks.Task", ("first", "second", "final")),
        ("tasks.Other", ("soon", "late")),
    ]
    assert sorted(found) == sorted(
        pair for name, of in names for pair in product([name], of)
    )
    assert datetime(2026, 3, 2) < s.entries()[0].due.replace(tzinfo=None)
