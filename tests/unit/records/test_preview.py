"""What `preview` and `calendar` print, and the iCalendar that other programs import."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from icalendar import Calendar as ICalendar
from rich.text import Text
from typer.testing import CliRunner

from jittask_prefect.cli.commands import cli
from jittask_prefect.records import preview, year_grid
from jittask_prefect.schedule.calendar import Calendar
from jittask_prefect.schedule.timer import Timer

NOW = datetime(2026, 9, 20, 13, 7, tzinfo=UTC)
RENT = {
    "startTime": "2026-01-01 09:00:00",
    "repeat": {"repeatType": "month", "day": [1, 8]},
    "skipHoliday": 1,
}


def timer(**more: object) -> Timer:
    return Timer({**RENT, **more}, "CN", "Asia/Shanghai")


def cells(
    found: Timer, after: str, before: str, count: int = 20
) -> list[tuple[str, ...]]:
    told = found.explain(datetime.fromisoformat(after), datetime.fromisoformat(before))
    return [
        line.cells() for line in preview.preview_lines(preview.first_due(told, count))
    ]


def test_each_line_says_when_from_where_and_why() -> None:
    # October 1 to 7, 2026, is National Day; October 8 has an occurrence of its own.
    assert cells(timer(), "2026-09-01", "2026-10-09") == [
        ("Tue 2026-09-01 09:00 CST", "", "", ""),
        ("Tue 2026-09-08 09:00 CST", "", "", ""),
        (
            "–",
            "Thu 2026-10-01 09:00",
            "National Day",
            "one with the occurrence of 2026-10-08 09:00",
        ),
        ("Thu 2026-10-08 09:00 CST", "", "", ""),
    ]
    moved = timer(repeat={"repeatType": "month", "day": [1]})
    assert cells(moved, "2026-10-01", "2026-10-09") == [
        ("Thu 2026-10-08 09:00 CST", "Thu 2026-10-01 09:00", "National Day", "")
    ]
    ended = timer(repeat={"repeatType": "month", "day": [1]}, endTime="2026-10-05")
    assert cells(ended, "2026-10-01", "2026-10-09") == [
        (
            "–",
            "Thu 2026-10-01 09:00",
            "National Day",
            "dropped: the holiday move carries it past the end",
        )
    ]


def test_what_one_holiday_drops_is_one_line() -> None:
    hourly = timer(repeat={"repeatType": "hour", "period": 12})
    assert cells(hourly, "2026-09-30", "2026-10-09", count=3) == [
        ("Wed 2026-09-30 09:00 CST", "", "", ""),
        ("Wed 2026-09-30 21:00 CST", "", "", ""),
        ("–", "Thu 2026-10-01 09:00 … 10-07 21:00 (14)", "National Day", "skipped"),
        ("Thu 2026-10-08 09:00 CST", "", "", ""),
    ]


def test_a_clock_change_is_told() -> None:
    # Berlin 2026: forward on March 29 from 02:00 to 03:00, back on October 25 from 03:00 to 02:00.
    daily = Timer(
        {
            "startTime": "2026-01-01 02:30:00",
            "repeat": {"repeatType": "day"},
            "timezone": "Europe/Berlin",
        }
    )
    assert [row[0] + row[3] for row in cells(daily, "2026-03-28", "2026-03-31")] == [
        "Sat 2026-03-28 02:30 CET",
        "Sun 2026-03-29 03:30 CESTclocks go forward over 02:30",
        "Mon 2026-03-30 02:30 CEST",
    ]
    assert [row[0] + row[3] for row in cells(daily, "2026-10-25", "2026-10-26")] == [
        "Sun 2026-10-25 02:30 CESTclocks go back: the first 02:30 of two"
    ]
    # An hour of elapsed time meets no such thing.
    hourly = Timer(
        {
            "startTime": "2026-01-01 00:30:00",
            "repeat": {"repeatType": "hour"},
            "timezone": "Europe/Berlin",
        }
    )
    assert {row[3] for row in cells(hourly, "2026-10-25", "2026-10-26", 100)} == {""}


def test_lazily_told_is_told_the_same_across_windows() -> None:
    # `previous` carries October 1 to September 30, out of a later window; nothing is told twice.
    found = timer(repeat={"repeatType": "day", "period": 3}, holidayPolicy="previous")
    series = found.series()
    assert series is not None
    told = list(series.explained(datetime(2026, 1, 1), datetime(2028, 9, 1)))
    assert len({item.nominal for item in told}) == len(told)
    dues = [item.due for item in told if item.due is not None]
    assert sorted(dues) == list(
        found.occurrences(datetime(2026, 1, 1), datetime(2028, 9, 1))
    )


def test_an_icalendar_says_what_takes_place() -> None:
    found = timer().explain(datetime(2026, 9, 1), datetime(2026, 12, 1))
    text = preview.ics(
        found, "tasks.Rent", "Rent; due, 房租", "Every month on days 1 and 8", NOW
    )
    assert text.startswith(b"BEGIN:VCALENDAR\r\n") and text.endswith(
        b"END:VCALENDAR\r\n"
    )
    assert all(len(line) <= 75 for line in text.split(b"\r\n")), (
        "RFC 5545 §3.1: lines of at most 75 octets"
    )
    read = ICalendar.from_ical(text)
    assert read["version"] == "2.0" and read["method"] == "PUBLISH" and "prodid" in read
    events = read.walk("VEVENT")
    starts = [event["dtstart"].dt for event in events]
    # 09:00 in Shanghai is 01:00 UTC, which every program reads without a zone table.
    assert [f"{at:%m-%d %H:%M %Z}" for at in starts] == [
        f"{day} 01:00 UTC" for day in ("09-01", "09-08", "10-08", "11-01", "11-08")
    ]
    for event in events:
        assert (
            event["dtstamp"].dt == NOW.replace(microsecond=0)
            and event["summary"] == "Rent; due, 房租"
        )
        assert event["dtend"].dt - event["dtstart"].dt == timedelta(minutes=15)
    moved = timer(repeat={"repeatType": "month", "day": [1]}).explain(
        datetime(2026, 10, 1), datetime(2026, 10, 9)
    )
    (event,) = ICalendar.from_ical(
        preview.ics(moved, "tasks.Rent", "Rent", "", NOW)
    ).walk("VEVENT")
    assert "moved from 2026-10-01 09:00 because of National Day" in event["description"]


def test_an_event_keeps_its_uid_when_it_moves_so_that_a_second_import_replaces_it() -> (
    None
):
    window = datetime(2026, 10, 1), datetime(2026, 10, 9)

    def uids(found: Timer, name: str = "tasks.Rent") -> list[str]:
        text = preview.ics(found.explain(*window), name, "Rent", "", NOW)
        return [str(event["uid"]) for event in ICalendar.from_ical(text).walk("VEVENT")]

    monthly = {"repeatType": "month", "day": [1]}
    moved, kept = timer(repeat=monthly), timer(repeat=monthly, skipHoliday=0)
    assert uids(moved) == uids(kept) and len(uids(moved)) == 1
    assert uids(moved, "tasks.Rent 42") != uids(moved)


# The grid


def said(*arguments: str) -> list[str]:
    done = CliRunner().invoke(cli, ["calendar", *arguments], env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


def test_the_year_as_a_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JITTASK_APP", raising=False)
    lines = said("CN", "2026")
    assert lines[0] == "CN 2026 (block: contiguous)"
    at = next(n for n, line in enumerate(lines) if "October 2026" in line)
    left = lines[at].index("October") - 8
    months = [line[left : left + 28] for line in lines[at : at + 8]]
    assert months == [
        "        October 2026        ",
        " Mo  Tu  We  Th  Fr  Sa  Su ",
        "              1*  2*  3*  4*",
        "  5*  6*  7*  8   9  10+ 11·",
        " 12  13  14  15  16  17· 18·",
        " 19  20  21  22  23  24· 25·",
        " 26  27  28  29  30  31·    ",
        "                            ",
    ]
    assert "* Oct 1 – Oct 7     7  National Day" in lines
    assert (
        "+ worked: Sun Jan 4, Sat Feb 14, Sat Feb 28, Sat May 9, Sun Sep 20, Sat Oct 10"
        in lines
    )
    assert "holidays (*): 33, make-up days (+): 6, weekends (·)" in lines
    assert not [line for line in lines if "warning" in line]
    assert said("DE-BY", "2026")[0] == "DE-BY 2026"
    assert re.search(
        r"holidays of CN are published until 20\d\d-12-31", "".join(said("CN", "2050"))
    )
    assert "holidays of CN are known from 1950 to 2100 only" in "".join(
        said("CN", "2101")
    )


def test_a_year_as_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JITTASK_APP", str(tmp_path))
    about = {
        "name": "shop",
        "calendars": {
            "office": {
                "country": "SA",
                "closed": ["2026-09-24"],
                "open": ["2026-02-22"],
            }
        },
    }
    (tmp_path / "app.json").write_text(json.dumps(about))
    found = json.loads("\n".join(said("office", "2026", "--json")))
    assert (
        found["calendar"] == "SA"
        and found["block"] == "listed"
        and found["reliableUntil"] >= "2025-12-31"
    )
    named = {item["date"]: item["name"] for item in found["holidays"]}
    # Founding Day, February 22, is a Sunday on which this house is open; September 23 is National Day.
    assert (
        named["2026-09-24"] == "closed"
        and "2026-02-22" not in named
        and named["2026-09-23"].startswith("National")
    )
    assert found["makeUpDays"] == ["2026-02-22"]
    # Friday and Saturday.
    assert {date.fromisoformat(day).weekday() for day in found["weekends"]} == {4, 5}


def test_a_year_with_named_days_of_the_house(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JITTASK_APP", str(tmp_path))
    office = {
        "closed": [
            {"days": "2026-08-03/2026-08-21", "name": "Summer closure [all]"},
            {"days": "12-27/01-02", "name": "Winter closure"},
        ],
        "open": [{"days": "2026-12-19", "name": "Stocktaking"}, "2026-12-12"],
    }
    about = {"name": "shop", "calendars": {"office": office}}
    (tmp_path / "app.json").write_text(json.dumps(about))
    lines = said("office", "2026")
    assert "* Jan 1 – Jan 2     2  Winter closure" in lines
    assert "* Aug 3 – Aug 21   19  Summer closure [all]" in lines
    assert "* Dec 27 – Dec 31   5  Winter closure" in lines
    assert "+ worked: Sat Dec 12, Sat Dec 19 (Stocktaking)" in lines


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["XX", "2026"], "ISO 3166"),
        (["DE-XX", "2026"], "BY"),
        (["CN", "0"], "greater than"),
    ],
)
def test_a_country_or_year_that_is_none(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["calendar", *arguments])
    assert done.exit_code != 0 and told in done.output + str(done.exception)


def test_the_year_of_a_grid_is_complete() -> None:
    china = Calendar.read("CN")
    assert china is not None
    assert [len(year_grid.year(china, n)) for n in (2024, 2025)] == [366, 365]
    for width in (30, 64, 96, 200):
        lines = [
            Text.from_markup(line).plain
            for line in year_grid.grid(year_grid.year(china, 2026), width)
        ]
        assert all(len(line) <= max(width, 28) for line in lines)
        assert sum(line.count("2026") for line in lines) == 12


LEVELS = [
    {"name": "first", "offsetType": 1, "offset": 3, "offsetUnit": "day"},
    {"name": "second", "offsetType": 1, "offset": 10, "offsetUnit": "day"},
]


def test_levels_stand_in_lines_events_and_json() -> None:
    cfg = {"startField": "due", "startOffset": LEVELS, "workdaysOnly": 1}
    series = Timer(cfg, None, "UTC").series(date(2026, 3, 4))
    assert series is not None
    found = series.explain(datetime(2026, 3, 1), datetime(2026, 4, 1))
    # 7 and 14 March are Saturdays.
    assert [line.cells() for line in preview.preview_lines(found)] == [
        ("Mon 2026-03-09 00:00 UTC", "Sat 2026-03-07 00:00", "weekend", "level first"),
        ("Mon 2026-03-16 00:00 UTC", "Sat 2026-03-14 00:00", "weekend", "level second"),
    ]
    assert [item.as_dict()["level"] for item in found] == ["first", "second"]
    events = ICalendar.from_ical(preview.ics(found, "tasks.X", "Remind", "", NOW))
    assert [str(event["summary"]) for event in events.walk("VEVENT")] == [
        "Remind: first",
        "Remind: second",
    ]
    assert len({str(event["uid"]) for event in events.walk("VEVENT")}) == 2


def test_levels_that_are_left_out_have_a_line_each() -> None:
    cfg = {
        "startField": "due",
        "startOffset": LEVELS,
        "workdaysOnly": 1,
        "holidayPolicy": "skip",
    }
    series = Timer(cfg, None, "UTC").series(date(2026, 3, 4))
    assert series is not None
    found = series.explain(datetime(2026, 3, 1), datetime(2026, 4, 1))
    assert [line.cells()[3] for line in preview.preview_lines(found)] == [
        "level first; skipped",
        "level second; skipped",
    ]
