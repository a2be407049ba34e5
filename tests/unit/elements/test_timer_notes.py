"""Notes of `jittask check` on timers that count working days; whose calendar such a timer takes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

from shop import Shop

from jittask_prefect.elements.timer_notes import timer_notes
from jittask_prefect.records.preview import ics
from jittask_prefect.schedule.calendar import Calendar, CalendarCfg
from jittask_prefect.schedule.words import describe

Make = Callable[..., Shop]
NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
MONDAY_TO_FRIDAY = (
    "it counts Monday to Friday as working days, and no holidays, "
    "since neither the task nor the app has a calendar"
)


def after(days: int) -> dict[str, Any]:
    return {"offsetType": 1, "offset": days, "offsetUnit": "workday", "time": "09:00"}


def notes(s: Shop, now: datetime = NOW) -> list[str]:
    return list(timer_notes(s.app.template("tasks.Task"), now))


def test_without_any_calendar_the_note_says_what_is_counted(shop: Make) -> None:
    assert notes(shop("day", startOffset=after(3))) == [MONDAY_TO_FRIDAY]


def test_the_apps_calendar_counts_where_the_task_names_none(shop: Make) -> None:
    s = shop("day", startOffset=after(1), app_json={"calendar": "DE-BY"})
    calendar = s.app.template("tasks.Task").timer.calendar
    assert calendar is not None and calendar.label == "DE-BY"
    assert notes(s) == []


def test_a_count_over_the_published_days_is_noted(shop: Make) -> None:
    calendar = Calendar(CalendarCfg(country="CN"))
    known = calendar.reliable_until
    assert known is not None
    early = datetime(known.year - 2, 11, 1, tzinfo=UTC)  # 14 months before the end
    near, far = (
        shop("day", startOffset=after(days), calendar="CN") for days in (3, 400)
    )
    assert notes(near, early) == []
    assert notes(far, early) == [calendar.limit]


def test_a_counted_day_is_no_weekend_to_keep_off(shop: Make) -> None:
    keys = {"calendar": "DE-BY", "workdaysOnly": 1}
    assert notes(shop("day", startOffset=after(3), **keys)) == []
    monthly = {"repeat": {"repeatType": "month"}}
    [note] = notes(shop("day", startOffset=after(3), **keys, **monthly))
    assert note.startswith("workdaysOnly alone keeps off weekends only")


def test_an_icalendar_has_the_counted_day_and_says_where_it_comes_from(
    shop: Make,
) -> None:
    s = shop("day", startOffset=after(3), calendar="DE-BY", timezone="Europe/Berlin")
    template = s.app.template("tasks.Task")
    s.save(id=1, day=date(2026, 12, 23))
    row = s.row(1)
    found = template.explain(datetime(2026, 1, 1), datetime(2028, 1, 1), row)
    # The 24th, Monday the 28th and the 29th: Christmas Day is a Friday.
    text = ics(found, "tasks.Task 1", "Notice", describe(template.timer), NOW).decode()
    lines = text.replace("\r\n ", "").splitlines()
    assert "DTSTART:20261229T080000Z" in lines
    [said] = [line for line in lines if line.startswith("DESCRIPTION:")]
    assert "3 working days after `day` (2026-12-23)\\, at 09:00" in said
    assert "working days are those of DE-BY" in said


def test_hours_on_working_days_without_a_calendar_are_noted(shop: Make) -> None:
    hours = {"from": "08:00", "to": "18:00", "workdays": 1}
    assert notes(shop("day", window=hours)) == [MONDAY_TO_FRIDAY]
    assert notes(shop("day", window=hours, app_json={"calendar": "DE-BY"})) == []


def test_hours_that_are_shut_on_every_day_that_is_left_are_noted(shop: Make) -> None:
    weekend = {"from": "08:00", "to": "18:00", "weekdays": [6, 7]}
    keys: dict[str, Any] = {"workdaysOnly": 1, "repeat": {"repeatType": "hour"}}
    never = "it is never due: holidays, weekends or opening hours take away each occurrence of every row"
    assert notes(shop("day", window=weekend, **keys)) == [never]
    whole = {"from": "00:00", "to": "24:00", "weekdays": [6, 7]}
    ends = {"endTimeType": 1, "endTime": "2030-01-01"}
    assert notes(shop("day", window=whole, **keys, **ends)) == [never]
    # Days and longer are moved, not left out; and on a Friday there is an hour left.
    daily = {**keys, "repeat": {"repeatType": "day"}}
    assert notes(shop("day", window=weekend, **daily)) == []
    longer = {**weekend, "weekdays": [5, 6]}
    assert notes(shop("day", window=longer, **keys)) == []
    assert notes(shop("day", window={"from": "00:00", "to": "24:00"}, **keys)) == []


def test_a_scheduled_task_whose_times_miss_the_hours_is_noted(shop: Make) -> None:
    hours = {"from": "08:00", "to": "08:15"}
    timer = {"startTime": "2026-01-01 00:30:00", "repeat": {"repeatType": "hour"}}
    hourly = {"type": "tasks.NormalType", "title": "Hourly", "timerCfg": {**timer, "window": hours}}  # fmt: skip
    s = shop("day", more={"tasks/Hourly": {"e.json": hourly, "inner.py": "def customFunc(): ..."}})  # fmt: skip
    never = "it is never due: no occurrence lies between startTime and endTime, or holidays or opening hours take away each"
    assert list(timer_notes(s.app.template("tasks.Hourly"), NOW)) == [never]


def test_preview_and_calendar_file_name_the_hours(shop: Make) -> None:
    template = shop("day", window={"from": "08:00", "to": "18:00"}).app.template("tasks.Task")  # fmt: skip
    series = template.timer.series(datetime(2026, 3, 2, 20))
    assert series is not None
    (item,) = series.explain(NOW, datetime(2026, 3, 4, tzinfo=UTC))
    assert (item.because, f"{item.due:%d %H:%M}") == ("opening hours", "03 08:00")
    assert template.timer.moved_by(item.nominal) == "opening hours"
    text = ics([item], "tasks.Task", "Task", describe(template.timer), NOW).decode()
    assert "because of opening hours" in " ".join(text.replace("\r\n ", "").split())


def test_hours_that_prefect_s_schedule_cannot_hold_are_a_problem_of_check(
    shop: Make,
) -> None:
    """Not of the deploy alone: 96 windows of a minutely task, each on one day of the week."""
    s = shop()
    starts = [(hour, minute) for hour in range(24) for minute in (1, 11, 21, 31)]
    hours = [
        {"from": f"{hour:02}:{minute:02}", "to": f"{hour:02}:{minute + 3:02}", "weekdays": [1 + (hour + minute) % 7]}
        for hour, minute in starts
    ]  # fmt: skip
    timer = {
        "startTime": "2020-01-01 00:00:00",
        "repeat": {"repeatType": "minute"},
        "timezone": "Europe/Berlin",
    }
    task = {"type": "tasks.NormalType", "title": "Often"}
    inner = "def customFunc(): pass\n"
    for window, told in ((hours[:1], []), (hours, ["too many opening hours"])):
        config = {**task, "timerCfg": {**timer, "window": window}}
        s.again(**{"tasks/Often": {"e.json": config, "inner.py": inner}})
        found = s.app.check(NOW)
        assert [problem.found for problem in found] == told
    assert found[0].file == "tasks/Often/e.json"
    assert found[0].key == "timerCfg.window"
