"""A row's own zone and calendar: the columns that name them, and the values that mean the task's own."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from zoned_shop import AT_NINE, zoned

from jittask_prefect import Timer
from jittask_prefect.elements.row_timers import RowTimes
from jittask_prefect.testing import build_app

VISIT_COLUMNS = "at, count, customer_id, day, id, moment, region, status, until, zone"
NO_PATH = (
    "; allowed: a column's name, or relationship__column, no part beginning with _"
)
FROM, TO = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)


def template(folder: Path, field: str = "at", **keys: Any) -> Any:
    elements = zoned(field, **{"startOffset": AT_NINE, **keys})
    return build_app(folder, elements, ready=False).template("tasks.Task")


def visit(of: Any, **values: Any) -> Any:
    return of.app.getElement("models.Visit")(**values)


def due(of: Any, row: Any) -> list[str]:
    return [f"{at:%m-%d %H:%M %Z}" for at in of.occurrences(FROM, TO, row)]


def problems(folder: Path, **keys: Any) -> list[str]:
    app = build_app(folder, zoned(**keys), ready=False)
    return [f"{p.key}: {p.found}; allowed: {p.allowed}" for p in app.check()]


# The columns


@pytest.mark.parametrize("path", ["zone", "customer__timezone"])
def test_a_text_column_of_the_row_or_of_a_related_row(
    tmp_path: Path, path: str
) -> None:
    assert (
        problems(tmp_path, timezoneField=path, calendarField=path, workdaysOnly=1) == []
    )


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("at", "at, which is no text; allowed: a text column of Visit: region, status, zone"),
        ("customer__age", "customer__age, which is no text; allowed: a text column of Customer: region, timezone"),
        ("guests__zone", "Visit.guests, which leads to many rows; allowed: relationships that lead to one row at most"),
        ("customer__zone", "the field 'customer.zone'; allowed: a mapped column of Customer: age, id, region, timezone"),
        ("owner__zone", "the field 'owner.zone': 'owner'; allowed: a relationship of Visit: customer, guests"),
        ("customer", "the field 'customer'; allowed: a mapped column of Visit: " + VISIT_COLUMNS),
        ("customer.timezone", '"customer.timezone"' + NO_PATH),
        ("", '""' + NO_PATH),
        (7, "7" + NO_PATH),
    ],
)  # fmt: skip
def test_any_other_column_is_refused(tmp_path: Path, path: object, found: str) -> None:
    for key in ("timezoneField", "calendarField"):
        folder = tmp_path / key
        assert problems(folder, **{key: path}, workdaysOnly=1) == [
            f"timerCfg.{key}: {found}"
        ]


def test_a_scheduled_task_has_no_rows(tmp_path: Path) -> None:
    timer = {"startTime": "2026-01-05 09:00:00", "timezoneField": "zone"}
    daily = {"type": "tasks.NormalType", "title": "Daily", "timerCfg": timer}
    files = {"e.json": daily, "inner.py": "def customFunc(): ..."}
    app = build_app(tmp_path, {"tasks/Daily": files}, ready=False)
    [problem] = app.check()
    assert problem.key == "timerCfg.timezoneField"
    assert (
        problem.allowed
        == "no such key for a scheduled task, which starts from startTime"
    )


def test_a_calendar_that_no_rule_asks_is_a_note(tmp_path: Path) -> None:
    of = template(tmp_path / "a", calendarField="region")
    notes = of.app.warnings(FROM)
    assert [text for text in notes if "calendarField does nothing" in text]
    of = template(tmp_path / "b", calendarField="region", workdaysOnly=1)
    assert not [text for text in of.app.warnings(FROM) if "calendarField" in text]


# The values


def test_nine_is_nine_in_the_zone_of_the_row(tmp_path: Path) -> None:
    of = template(tmp_path, timezoneField="zone", timezone="Europe/Berlin")
    at = datetime(2026, 3, 10, 15)
    assert due(of, visit(of, at=at, zone="Asia/Tokyo")) == ["03-09 09:00 JST"]
    assert due(of, visit(of, at=at, zone="America/New_York")) == ["03-09 09:00 EDT"]
    assert due(of, visit(of, at=at)) == ["03-09 09:00 CET"]


def test_a_day_begins_in_the_zone_of_the_row(tmp_path: Path) -> None:
    of = template(tmp_path, "day", startOffset=None, timezoneField="zone")
    assert due(of, visit(of, day=date(2026, 3, 10), zone="Asia/Tokyo")) == [
        "03-10 00:00 JST"
    ]


def test_an_instant_has_the_day_of_the_zone_of_the_row(tmp_path: Path) -> None:
    of = template(tmp_path, "moment", timezoneField="zone")
    late = datetime(2026, 3, 10, 20, tzinfo=UTC)  # 11 March in Tokyo
    assert due(of, visit(of, moment=late, zone="Asia/Tokyo")) == ["03-10 09:00 JST"]
    assert due(of, visit(of, moment=late, zone="UTC")) == ["03-09 09:00 UTC"]


def test_the_calendar_of_a_related_row(tmp_path: Path) -> None:
    keys = {"calendarField": "customer__region", "skipHoliday": 1, "calendar": "DE"}
    of = template(tmp_path, "day", startOffset=None, **keys)
    customer = of.app.getElement("models.Customer")
    epiphany = date(2026, 1, 6)  # a holiday in Bavaria, a Tuesday
    bavarian = visit(of, day=epiphany, customer=customer(region="DE-BY"))
    assert due(of, bavarian) == ["01-07 00:00 UTC"]
    assert due(of, visit(of, day=epiphany)) == ["01-06 00:00 UTC"]


@pytest.mark.parametrize(
    "zone",
    [
        "GMT+8",
        "Europe/Berlin ",
        " Europe/Berlin",
        "",
        "europe",
        "../UTC",
        "x" * 500,
        "\u202e",
        "Europe",
    ],
)
def test_an_unknown_zone_is_the_tasks_own(tmp_path: Path, zone: str) -> None:
    of = template(tmp_path, timezoneField="zone", timezone="Asia/Tokyo")
    row = visit(of, at=datetime(2026, 3, 10, 15), zone=zone)
    assert due(of, row) == ["03-09 09:00 JST"]
    kept = of.times(row).zone
    assert kept == zone[:64]
    [note] = of.own_notes(kept, None)
    assert note.startswith("`zone` is ")
    assert note.endswith("; the task's own counts, Asia/Tokyo")


@pytest.mark.parametrize("region", ["XX", "DE ", "DE-XX", "", "office2", "9" * 200])
def test_an_unknown_calendar_is_the_tasks_own(tmp_path: Path, region: str) -> None:
    keys = {"calendarField": "region", "skipHoliday": 1, "calendar": "DE"}
    of = template(tmp_path, "day", startOffset=None, **keys)
    row = visit(of, day=date(2026, 1, 1), region=region)
    assert due(of, row) == ["01-02 00:00 UTC"]
    [note] = of.own_notes(None, of.times(row).calendar)
    assert note.startswith("`region` is ")
    assert note.endswith("; the task's own counts, DE")


def test_a_known_value_has_no_note(tmp_path: Path) -> None:
    keys = {"timezoneField": "zone", "calendarField": "region", "workdaysOnly": 1}
    of = template(tmp_path, **keys)
    assert of.own_notes("Asia/Tokyo", "JP") == []
    assert of.own_notes(None, None) == []  # not known


def test_a_name_of_app_json_is_a_calendar(tmp_path: Path) -> None:
    elements = zoned("day", calendarField="region", workdaysOnly=1)
    office = {"country": None, "closed": ["2026-03-10"]}
    app = build_app(tmp_path, elements, ready=False, calendars={"office": office})
    of: Any = app.template("tasks.Task")
    assert of.own_notes(None, "office") == []


def test_a_timer_is_made_once(tmp_path: Path) -> None:
    of = template(tmp_path, timezoneField="zone", calendarField="region")
    assert of.timer_of("Asia/Tokyo", "JP") is of.timer_of("Asia/Tokyo", "CN")
    assert of.timer_of("", None) is of.timer
    assert of.timer_of("UTC", None) is of.timer
    plain = template(tmp_path / "plain")
    assert plain.timer_of("Asia/Tokyo", None) is plain.timer


def test_the_story_of_a_row_says_why_its_own_does_not_count(tmp_path: Path) -> None:
    of = template(tmp_path, timezoneField="zone", timezone="Asia/Tokyo")
    [told] = of.explain(FROM, TO, visit(of, at=datetime(2026, 3, 10, 15), zone="GMT+8"))
    assert told.zone == "Asia/Tokyo"
    assert told.origin == (
        "1 day before `at` (2026-03-10 15:00), at 09:00; "
        "`zone` is 'GMT+8', no known time zone; the task's own counts, Asia/Tokyo"
    )  # fmt: skip


def test_values_of_a_row_make_its_series(tmp_path: Path) -> None:
    of = template(tmp_path, timezoneField="zone")
    series = of.series_of(RowTimes(datetime(2026, 3, 10, 15), zone="Asia/Tokyo"))
    first = series.next(FROM)
    assert first.due == datetime(2026, 3, 9, 0, tzinfo=UTC)
    assert of.series_of(RowTimes(None, zone="Asia/Tokyo")) is None


def test_a_rule_elsewhere_is_the_same_rule() -> None:
    timer = Timer({"startField": "at", "skipHoliday": 1}, "DE", "UTC")
    there = timer.elsewhere("Asia/Tokyo", timer.calendar)
    assert there.zone.key == "Asia/Tokyo"
    assert there.calendar is timer.calendar
    assert there.cfg.model_copy(update={"timezone": None}) == timer.cfg
