"""Days of a calendar that a release of `holidays` changes re-plan the rows whose due times change, and only those."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime
from pathlib import Path

import pytest
from shop import Shop, utc

from jittask_prefect.ledger import watermarks
from jittask_prefect.rows import planning
from jittask_prefect.rows.template_planner import fingerprint, rule_of
from jittask_prefect.schedule import calendar
from jittask_prefect.schedule.calendar import Calendar, CalendarCfg
from jittask_prefect.schedule.country import listing
from jittask_prefect.schedule.holiday_moves import HolidayMoves
from jittask_prefect.testing import FakePrefect

Make = Callable[..., Shop]
WEDNESDAY = date(2026, 3, 4)
Release = Callable[..., None]


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Iterator[Release]:
    """Install a release of `holidays` that lists other days: `release(holidays={…}, makeup={…})`."""

    def install(
        holidays: dict[date, str] | None = None, makeup: frozenset[date] = frozenset()
    ) -> None:
        def listed(country: object, first: int, last: int) -> object:
            found = listing(country, first, last)  # type: ignore[arg-type]
            return found._replace(
                holidays={**found.holidays, **(holidays or {})},
                makeup=found.makeup | makeup,
            )

        monkeypatch.setattr(calendar, "listing", listed)
        calendar._known_days.cache_clear()

    yield install
    calendar._known_days.cache_clear()


def test_the_rows_concerned_are_planned_anew(shop: Make, release: Release) -> None:
    """A new holiday moves the row of that day; the other row's task is not touched, and the report says so."""
    s = shop("day", calendar="DE", skipHoliday=1, app_json={"horizon": 96})
    s.save(id=1, day=WEDNESDAY)
    s.save(id=2, day=date(2026, 3, 3))
    s.save(id=3, day=date(2026, 3, 20))  # beyond the horizon
    s.sync()
    untouched = [e for e in s.entries() if e.row_key != "1"]
    release({WEDNESDAY: "Tag der Arbeit"})
    s.again()
    report = s.sync("2026-03-02 08:01")
    assert [(a.action, a.row, a.due) for a in report.actions] == [
        ("reschedule", "1", utc("2026-03-05 00:00"))
    ]
    assert report.calendars == [
        "tasks.Task: the days of the calendar DE have changed; the tasks of 1 rows are planned anew"
    ]
    assert [e for e in s.entries() if e.row_key != "1"] == untouched
    again = s.sync("2026-03-02 08:02")
    assert again.actions == [] and again.calendars == []


def test_a_changed_file_of_holidays_plans_the_rows_concerned_anew(
    shop: Make, tmp_path: Path
) -> None:
    file = tmp_path / "holidays.csv"
    file.write_text("date,name\n2026-03-20,Founding day\n")
    office = {"office": {"csv": str(file)}}
    about = {"horizon": 96, "calendars": office}
    s = shop("day", calendar="office", skipHoliday=1, app_json=about)
    s.save(id=1, day=WEDNESDAY)
    s.save(id=2, day=date(2026, 3, 3))
    s.sync()
    untouched = [e for e in s.entries() if e.row_key != "1"]
    file.write_text("date,name\n2026-03-04,Founding day\n")
    s.again()
    report = s.sync("2026-03-02 08:01")
    assert [(a.action, a.row, a.due) for a in report.actions] == [
        ("reschedule", "1", utc("2026-03-05 00:00"))
    ]
    assert report.calendars == [
        "tasks.Task: the days of the calendar own calendar have changed; the tasks of 1 rows are planned anew"
    ]
    assert [e for e in s.entries() if e.row_key != "1"] == untouched
    # A file that cannot be read: the task is broken, and nothing of its ends.
    file.write_text("date,name\n04.03.2026,Founding day\n")
    before = s.entries()
    s.again()
    assert s.sync("2026-03-02 08:02").actions == [] and s.entries() == before


def test_a_row_beyond_the_horizon_moves_as_well(shop: Make, release: Release) -> None:
    """What a save has planned for weeks ahead follows a new holiday, and its day within the horizon is right."""
    s = shop("day", calendar="DE", skipHoliday=1)
    s.save(id=1, day=date(2026, 3, 18))
    s.sync()
    release({date(2026, 3, 18): "New"})
    s.again()
    assert s.did("2026-03-02 08:01") == ["reschedule 1 03-19 00:00"]


@pytest.mark.parametrize(
    ("policy", "due"), [("next", "03-09 00:00"), ("previous", "03-06 00:00")]
)
def test_make_up_days_count(
    shop: Make, release: Release, policy: str, due: str
) -> None:
    """A Saturday that becomes a working day: the row of that day is due on it."""
    s = shop(
        "day",
        calendar="DE",
        workdaysOnly=1,
        holidayPolicy=policy,
        app_json={"horizon": 240},
    )
    s.save(id=1, day=date(2026, 3, 7))
    s.sync()
    assert s.tasks() == [f"1 {due} #1 pending"]
    release(makeup=frozenset({date(2026, 3, 7)}))
    s.again()
    assert s.did("2026-03-02 08:01") == ["reschedule 1 03-07 00:00"]


@pytest.mark.parametrize(
    "repeat", [{}, {"repeat": {"repeatType": "month"}}], ids=["single", "monthly"]
)
@pytest.mark.parametrize(
    ("lookback", "outcome"), [(86400, "pending"), (3600, "missed")]
)
def test_a_due_time_that_new_days_put_into_the_past(
    shop: Make, release: Release, repeat: dict[str, object], lookback: int, outcome: str
) -> None:
    """A day off that is none any more: its task is due since midnight, and runs within `lookback`, else was missed."""
    release({WEDNESDAY: "Old"})
    s = shop(
        "day", calendar="DE", skipHoliday=1, missed={"lookback": lookback}, **repeat
    )
    s.save(id=1, day=WEDNESDAY)
    s.sync()
    s.sync("2026-03-04 11:59")
    assert s.tasks() == ["1 03-05 00:00 #1 pending"]
    release()
    s.again()
    s.sync("2026-03-04 12:00")
    assert s.tasks() == [f"1 03-04 00:00 #2 {outcome}", "1 03-05 00:00 #1 superseded"]
    assert s.did("2026-03-04 12:01") == []


def test_what_looks_at_no_holidays_is_left_alone(shop: Make, release: Release) -> None:
    """A calendar without `skipHoliday` decides nothing, nor do the names of the days."""
    s = shop("day", calendar="DE")
    s.save(id=1, day=WEDNESDAY)
    s.sync()
    before = fingerprint(s.app.template("tasks.Task"))
    release({WEDNESDAY: "New"})
    s.again()
    assert s.sync("2026-03-02 08:01").calendars == []
    assert fingerprint(s.app.template("tasks.Task")) == before
    cfgs = [
        CalendarCfg(country="CN", language=language) for language in ("en_US", "zh_CN")
    ]
    assert (
        len({HolidayMoves(Calendar(cfg), True, True, "next").digest for cfg in cfgs})
        == 1
    )


def test_a_memory_without_days_is_one_of_an_earlier_version(shop: Make) -> None:
    """The first sync after an upgrade looks at all rows, changes nothing, and does not count as an edit."""
    s = shop("day", calendar="DE", skipHoliday=1)
    s.sync()
    s.sync("2026-03-02 08:30")
    s.save(id=1, day=date(2026, 3, 3))
    s.sync()
    before = s.entries()
    with s.app.engine().begin() as connection:
        memory = watermarks.memories(connection, s.app.name)["tasks.Task"]
        assert memory.config is not None and "-" in memory.config
        old = watermarks.Memory(
            memory.mark, memory.upto, memory.floor, rule_of(memory.config)
        )
        watermarks.remember(connection, s.app.name, "tasks.Task", old)
    report = s.sync("2026-03-02 09:00")
    assert report.actions == [] and report.calendars == [] and s.entries() == before
    with s.app.engine().connect() as connection:
        assert watermarks.memories(connection, s.app.name)["tasks.Task"].floor == utc(
            "2026-03-02 08:00"
        )


def test_a_dry_run_says_so_too(shop: Make, release: Release) -> None:
    """`jittask sync --dry-run` tells what new days would change, and changes nothing."""
    s = shop("at", calendar="DE", skipHoliday=1, app_json={"horizon": 96})
    s.save(id=1, at=datetime(2026, 3, 4, 9))
    s.sync()
    release({WEDNESDAY: "New"})
    s.again()
    report = planning.plan(s.app, s.now)
    assert [a.action for a in report.actions] == ["reschedule"] and len(
        report.calendars
    ) == 1
    assert s.tasks() == ["1 03-04 09:00 #1 pending"] and isinstance(s.api, FakePrefect)


TWO_BEFORE = {
    "startOffset": {
        "offsetType": -1,
        "offset": 2,
        "offsetUnit": "workday",
        "time": "09:00",
    }
}


@pytest.mark.parametrize("repeat", [{}, {"repeat": {"repeatType": "week"}}], ids=["single", "weekly"])  # fmt: skip
def test_working_days_that_are_counted_otherwise(
    shop: Make, release: Release, repeat: dict[str, object]
) -> None:
    """Friday 6 March less two working days is the 4th; a new holiday on the 5th makes it the 3rd; and only there."""
    s = shop("day", calendar="DE", app_json={"horizon": 96}, **TWO_BEFORE, **repeat)
    s.save(id=1, day=date(2026, 3, 6))
    s.save(id=2, day=date(2026, 3, 5))
    s.sync()
    assert s.tasks() == ["2 03-03 09:00 #1 pending", "1 03-04 09:00 #1 pending"]
    untouched = [e for e in s.entries() if e.row_key != "1"]
    release({date(2026, 3, 5): "New"})
    s.again()
    report = s.sync("2026-03-02 08:01")
    assert [(a.action, a.row, a.due) for a in report.actions] == [
        ("reschedule", "1", utc("2026-03-03 09:00"))
    ]
    assert len(report.calendars) == 1
    assert [e for e in s.entries() if e.row_key != "1"] == untouched
    assert s.sync("2026-03-02 08:02").actions == []


def test_a_counted_task_that_was_done_stays_done(shop: Make, release: Release) -> None:
    """Monday 9 March less two working days was the 5th; the day off on the 6th that was known is none any more."""
    release({date(2026, 3, 6): "Old"})
    s = shop("day", calendar="DE", app_json={"horizon": 240}, **TWO_BEFORE)
    s.save(id=1, day=date(2026, 3, 9))
    s.sync()
    s.work("2026-03-04 09:00")
    assert s.tasks() == ["1 03-04 09:00 #1 completed"]
    release()
    s.again()
    assert s.did("2026-03-04 10:00") == []
    assert s.tasks() == ["1 03-04 09:00 #1 completed"]
