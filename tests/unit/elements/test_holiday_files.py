"""Holidays from files of the company: the days that they mean, and the sentence where they cannot be read."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from jittask_prefect.elements import check, holiday_files
from jittask_prefect.elements.holiday_files import MAX_BYTES
from jittask_prefect.errors import ConfigError
from jittask_prefect.testing import build_app
from jittask_prefect.warm import loaded_file

DAILY = {
    "type": "tasks.NormalType",
    "title": "Daily",
    "timerCfg": {
        "startTime": "2026-12-21 09:00:00",
        "repeat": {"repeatType": "day"},
        "skipHoliday": 1,
        "calendar": "office",
    },
}


def ics(*events: str) -> str:
    """An iCalendar file; each event as its lines without BEGIN and END, joined by `|`."""
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//company//holidays//EN"]
    for number, event in enumerate(events):
        uid = [] if "UID:" in event else [f"UID:{number}"]
        lines += ["BEGIN:VEVENT", *uid, *event.split("|"), "END:VEVENT"]
    return "\r\n".join([*lines, "END:VCALENDAR", ""])


def listed(folder: Path, text: str | bytes, kind: str = "ics") -> dict[str, str]:
    """The days that a file lists, with their names."""
    name = f"holidays.{kind}"
    data = text.encode() if isinstance(text, str) else text
    (folder / name).write_bytes(data)
    found = holiday_files.read(folder, {kind: name}, "calendars.office")
    assert found is not None
    return {str(day): called for day, called in found.names.items()}


def refused(folder: Path, text: str | bytes, kind: str = "ics") -> str:
    """The only problem of a file, as a person reads it."""
    with pytest.raises(ConfigError) as caught:
        listed(folder, text, kind)
    (problem,) = caught.value.problems
    return str(problem)


def test_events_of_whole_days(tmp_path: Path) -> None:
    found = listed(tmp_path, ics(
        "DTSTART;VALUE=DATE:20261224|SUMMARY:Christmas Eve",
        # DTEND is the day after the last: the 28th to the 30th.
        "DTSTART;VALUE=DATE:20261228|DTEND;VALUE=DATE:20261231|SUMMARY:Between the years\\, closed",
        "DTSTART;VALUE=DATE:20270104|DURATION:P2D|SUMMARY:Stocktaking",
        # Some programs write the same day for the end.
        "DTSTART;VALUE=DATE:20270108|DTEND;VALUE=DATE:20270108",
    ))  # fmt: skip
    assert found == {
        "2026-12-24": "Christmas Eve",
        "2026-12-28": "Between the years, closed",
        "2026-12-29": "Between the years, closed",
        "2026-12-30": "Between the years, closed",
        "2027-01-04": "Stocktaking",
        "2027-01-05": "Stocktaking",
        "2027-01-08": "holiday",
    }


def test_yearly_events(tmp_path: Path) -> None:
    found = listed(tmp_path, ics(
        "DTSTART;VALUE=DATE:20241224|RRULE:FREQ=YEARLY|SUMMARY:Eve",
        # The company's day: the first Monday of September, without that of 2026.
        "DTSTART;VALUE=DATE:20250901|RRULE:FREQ=YEARLY;BYMONTH=9;BYDAY=1MO|EXDATE;VALUE=DATE:20260907|SUMMARY:Outing",
        "DTSTART;VALUE=DATE:20250315|RRULE:FREQ=YEARLY;COUNT=2|SUMMARY:Twice",
        "DTSTART;VALUE=DATE:20250620|RRULE:FREQ=YEARLY;UNTIL=20270620|SUMMARY:Until",
        "DTSTART;VALUE=DATE:20251230|DTEND;VALUE=DATE:20260103|RRULE:FREQ=YEARLY;COUNT=2|SUMMARY:Over",
        "DTSTART;VALUE=DATE:20260105|RDATE;VALUE=DATE:20260119,20260202|SUMMARY:Also",
    ))  # fmt: skip
    assert found["2024-12-24"] == found["2026-12-24"] == found["2100-12-24"] == "Eve"
    assert "2023-12-24" not in found and "2101-12-24" not in found
    assert [day for day in found if found[day] == "Outing"][:3] == [
        "2025-09-01",
        "2027-09-06",
        "2028-09-04",
    ]
    assert [day for day in found if found[day] == "Twice"] == [
        "2025-03-15",
        "2026-03-15",
    ]
    assert [day for day in found if found[day] == "Until"] == [
        "2025-06-20",
        "2026-06-20",
        "2027-06-20",
    ]
    assert [day for day in found if found[day] == "Over"] == [
        "2025-12-30", "2025-12-31", "2026-01-01", "2026-01-02",
        "2026-12-30", "2026-12-31", "2027-01-01", "2027-01-02",
    ]  # fmt: skip
    assert [day for day in found if found[day] == "Also"] == [
        "2026-01-05",
        "2026-01-19",
        "2026-02-02",
    ]


def test_a_moved_and_a_cancelled_occurrence_of_a_yearly_event(tmp_path: Path) -> None:
    found = listed(tmp_path, ics(
        "UID:a|DTSTART;VALUE=DATE:20250510|RRULE:FREQ=YEARLY;COUNT=3|SUMMARY:Founding day",
        "UID:a|RECURRENCE-ID;VALUE=DATE:20260510|DTSTART;VALUE=DATE:20260511|SUMMARY:Founding day, a Monday",
        "UID:a|RECURRENCE-ID;VALUE=DATE:20270510|DTSTART;VALUE=DATE:20270510|STATUS:CANCELLED",
        "UID:b|DTSTART;VALUE=DATE:20260601|STATUS:CANCELLED|SUMMARY:Called off",
    ))  # fmt: skip
    assert found == {
        "2025-05-10": "Founding day",
        "2026-05-11": "Founding day, a Monday",
    }


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ("DTSTART:20261224T120000Z|DTEND:20261224T130000Z|SUMMARY:Lunch",
         'the event "Lunch": found DTSTART 2026-12-24 12:00; allowed: an all-day event'),
        ("DTSTART;VALUE=DATE:20261224|DTEND:20261224T130000Z|SUMMARY:Lunch", "DTEND 2026-12-24 13:00"),
        ("DTSTART;VALUE=DATE:20261224|DURATION:PT36H|SUMMARY:Lunch", "allowed: whole days"),
        ("DTSTART;VALUE=DATE:20261224|DTEND;VALUE=DATE:20261223", "DTEND 2026-12-23 before DTSTART 2026-12-24"),
        ("DTSTART;VALUE=DATE:20261224|DTEND;VALUE=DATE:20461223", "at most 3660 days"),
        ("DTSTART;VALUE=DATE:20261224|DURATION:P99999999W", "at most 3660 days"),
        ("DTSTART;VALUE=DATE:99991231|DURATION:P30D", "beyond the calendar"),
        ("SUMMARY:No day", "found DTSTART nothing"),
        ("DTSTART;VALUE=DATE:20261324|SUMMARY:Month 13", 'the event "Month 13": found DTSTART'),
        ("DTSTART;VALUE=DATE:20261224|DTSTART;VALUE=DATE:20261225", "2 parts DTSTART; allowed: one DTSTART"),
        ("DTSTART;VALUE=DATE:20261224|RRULE:FREQ=YEARLY|RRULE:FREQ=YEARLY", "2 parts RRULE"),
        # Endless, and more than some days a year.
        ("DTSTART;VALUE=DATE:20261224|RRULE:FREQ=DAILY", "found RRULE:FREQ=DAILY; allowed: RRULE:FREQ=YEARLY"),
        ("DTSTART;VALUE=DATE:20261224|RRULE:FREQ=SECONDLY", "allowed: RRULE:FREQ=YEARLY"),
        ("DTSTART;VALUE=DATE:20261224|RRULE:FREQ=WEEKLY;COUNT=3", "allowed: RRULE:FREQ=YEARLY"),
        ("DTSTART;VALUE=DATE:19500101|RRULE:FREQ=YEARLY;BYDAY=MO,TU,WE,TH,FR,SA,SU", "at most 40000 days"),
        ("DTSTART;VALUE=DATE:20261224|RRULE:FREQ=YEARLY;BYHOUR=1,2", "without BYHOUR"),
        ("DTSTART;VALUE=DATE:20261224|RRULE:FREQ=YEARLY;BYMONTH=13", "BYMONTH"),
        ("DTSTART;VALUE=DATE:20261224|RRULE:FREQ=NEVER", "found RRULE"),
        ("DTSTART;VALUE=DATE:20261224|RRULE:FREQ=YEARLY|EXDATE:20261224T000000Z", "EXDATE 2026-12-24 00:00"),
        ("DTSTART;VALUE=DATE:20261224|STATUS:CANCELLED", "found no day; allowed: at least one day"),
        ("DTSTART;VALUE=DATE:18001224", "found no day; allowed: at least one day from 1950 to 2100"),
    ],
)  # fmt: skip
def test_an_event_that_is_no_holiday_is_named_and_nothing_is_read(
    tmp_path: Path, event: str, said: str
) -> None:
    fine = "DTSTART;VALUE=DATE:20261226|SUMMARY:Fine"
    events = [event] if "no day;" in said else [fine, event, fine]
    text = refused(tmp_path, ics(*events))
    assert text.startswith("holidays.ics: ") and said in text and "\n" not in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found nothing"),
        ("<html>Log in, please</html>", "Log in, please"),
        (ics("DTSTART;VALUE=DATE:20261224")[:-20], "at its end; allowed: an iCalendar file"),
        ("hello\r\nEND:VCALENDAR", "allowed: an iCalendar file"),
        ("END:VCALENDAR", "allowed: an iCalendar file"),
        (ics(), "found no day"),
        (ics(*["DTSTART;VALUE=DATE:20261224"] * 2001), "found 2,001 events; allowed: at most 2,000 of them"),
        # 300 events in each of 151 years.
        (ics(*["DTSTART;VALUE=DATE:19500101|RRULE:FREQ=YEARLY"] * 300), "at most 40000 days in all"),
        ("BEGIN:VCALENDAR\r\n" + "BEGIN:VEVENT\r\n" * 5000 + "END:VEVENT\r\n" * 5000 + "END:VCALENDAR", "allowed:"),
        (b"\xff\xfe\x00B", "a byte that is no UTF-8, at 0"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "no UTF-8"),
    ],
    ids=["empty", "page", "cut", "text", "end", "no event", "events", "yearly events", "nested", "utf-16", "picture"],
)  # fmt: skip
def test_what_is_no_icalendar_file_is_refused_in_a_sentence(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    told = refused(tmp_path, text)
    assert told.startswith("holidays.ics: ") and said in told and len(told) < 400


def test_a_csv_file_has_dates_and_names(tmp_path: Path) -> None:
    text = 'date,name\n2026-12-24,Christmas Eve\n2026-12-28/2026-12-29,"Winter, closed"\n\n,\n05-04,Founding day\n'
    found = listed(tmp_path, text, "csv")
    assert found["2026-12-24"] == "Christmas Eve"
    assert found["2026-12-29"] == "Winter, closed"
    assert found["1950-05-04"] == found["2100-05-04"] == "Founding day"
    assert len(found) == 3 + 151
    # As a German spreadsheet writes it: a mark at the beginning, semicolons, further columns.
    other = "\ufeffName;Date;Office\r\nHeiligabend;2026-12-24;all\r\n"
    assert listed(tmp_path, other, "csv") == {"2026-12-24": "Heiligabend"}
    assert listed(tmp_path, "date\n2026-12-24\n", "csv") == {"2026-12-24": "holiday"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'line 1: found ""; allowed: a first line with the column date'),
        ("2026-12-24,Eve\n", 'line 1: found "2026-12-24,Eve"; allowed: a first line with the column date'),
        ("date,date\n", "line 1"),
        ("date,name\n24.12.2026,Eve\n", 'line 2: found "24.12.2026"; allowed: "yyyy-MM-dd"'),
        ("date,name\n2026-12-24,Eve\n2026-02-30,None\n", "line 3: found \"2026-02-30\"; allowed: days that exist"),
        ("date,name\n,Eve\n", 'line 2: found ""; allowed: "yyyy-MM-dd"'),
        ("date,name\n2026-12-24,Christmas, first day\n", "line 2: found 3 cells; allowed: 2 cells"),
        ("date,name\n2026-12-24\n", "line 2: found 1 cells; allowed: 2 cells"),
        ('date,name\n2026-12-24,"Eve\n', "allowed: cells as a spreadsheet writes them"),
        ("date,name\n", "found no day"),
        ("date,name\n1850-01-01,Old\n", "found no day"),
        ("date\n" + "1950-01-01/1959-12-31\n1960-01-01/1969-12-31\n1970-01-01/1979-12-31\n1980-01-01/1989-12-31\n"
         + "1990-01-01/1999-12-31\n2000-01-01/2009-12-31\n2010-01-01/2019-12-31\n2020-01-01/2029-12-31\n"
         + "2030-01-01/2039-12-31\n2040-01-01/2049-12-31\n2050-01-01/2059-12-31\n", "allowed: at most 40000 days"),
        (b"date,name\n2026-12-24,F\xeate\n", "a byte that is no UTF-8, at 22"),
    ],
)  # fmt: skip
def test_what_is_no_csv_of_days_is_refused_in_a_sentence(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    told = refused(tmp_path, text, "csv")
    assert told.startswith("holidays.csv: ") and said in told and "\n" not in told


def test_names_of_a_file_are_short_and_without_control_characters(
    tmp_path: Path,
) -> None:
    long = "x" * 300
    found = listed(
        tmp_path, f'date,name\n2026-12-24,"a\n\x1b[31mb"\n2026-12-25,{long}\n', "csv"
    )
    assert found["2026-12-24"] == "a \\x1b[31mb"
    assert found["2026-12-25"] == "x" * 199 + "…"


@pytest.mark.parametrize("kind", ["ics", "csv"])
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("gone", 'found "gone", which is not there; allowed: the path of a file'),
        ("folder", 'found "folder", which is none; allowed: a file'),
        ("pipe", 'found "pipe", which is none; allowed: a file'),
        ("big", f'found "big" of 52,428,800 bytes; allowed: a file of at most {MAX_BYTES:,} bytes'),
        ("a\0b", "which cannot be read"),
        ("x" * 5000, "which cannot be read"),
        ("app.json/x", "which cannot be read"),
    ],
    ids=["gone", "folder", "pipe", "big", "null", "long", "below a file"],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_a_mistake_of_app_json(
    tmp_path: Path, kind: str, path: str, said: str
) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "big").open("wb") as big:
        big.truncate(50 * 1024 * 1024)
    app = build_app(
        tmp_path,
        {"tasks/Daily": {"e.json": DAILY, "inner.py": "def customFunc(): ..."}},
        calendars={"office": {kind: path}},
    )
    told = [str(problem) for problem in check.problems(app)]
    assert any(
        text.startswith(f"app.json: calendars.office.{kind}: ") and said in text
        for text in told
    )
    assert app.templates() == []


@pytest.mark.parametrize("value", ["", 7, ["a.ics"], {"file": "a.ics"}, True])
def test_the_path_is_a_text(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"calendars\.office\.ics"):
        build_app(tmp_path, calendars={"office": {"ics": value}})


def test_a_file_belongs_to_an_app(tmp_path: Path) -> None:
    from jittask_prefect import Timer

    cfg = {
        "startTime": "2026-01-01 09:00:00",
        "skipHoliday": 1,
        "repeat": {"repeatType": "normal"},
    }
    with pytest.raises(
        ConfigError, match=r"calendar\.ics.*only in a calendar of an app"
    ):
        Timer(cfg, {"ics": "holidays.ics"})


def office(folder: Path, **calendar: Any) -> Any:
    """An app with a daily task that keeps off the office's holidays."""
    task = {"e.json": DAILY, "inner.py": "def customFunc(): ..."}
    return build_app(folder, {"tasks/Daily": task}, calendars={"office": calendar})


def due(app: Any) -> list[str]:
    window = datetime(2026, 12, 21, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)
    found = app.getElement("tasks.Daily").occurrences(*window)
    return [f"{at:%m-%d}" for at in found]


def test_country_file_closed_and_open_days_are_one_calendar(tmp_path: Path) -> None:
    (tmp_path / "days").mkdir(parents=True)
    (tmp_path / "days" / "holidays.ics").write_text(ics(
        "DTSTART;VALUE=DATE:20261224|SUMMARY:Christmas Eve",
        "DTSTART;VALUE=DATE:20261225|SUMMARY:First day of Christmas",
        "DTSTART;VALUE=DATE:20261228|DTEND;VALUE=DATE:20261230|SUMMARY:Bridge",
    ))  # fmt: skip
    (tmp_path / "more.csv").write_text(
        "date,name\n2026-12-24,Eve\n2026-12-30,Inventory\n"
    )
    app = office(
        tmp_path,
        country="DE-BY",
        ics="days/holidays.ics",
        csv="more.csv",
        open=["2026-12-29"],
        closed=[{"days": "12-21", "name": "Yearly meeting"}],
    )
    # Closed on the 21st, holidays from the 24th to the 26th (Saturday) and on the 28th and 30th; the 27th is an ordinary
    # Sunday, on which a daily task runs. Each occurrence of a day off moves to a working day, where one is already.
    assert due(app) == ["12-22", "12-23", "12-27", "12-29"]
    calendar = app.calendar_named("office")
    assert calendar.label == "DE-BY"
    assert [calendar.holiday_name(date(2026, 12, n)) for n in (21, 24, 25, 28, 29, 30)] == [
        "Yearly meeting", "Christmas Eve", "Christmas Day", "Bridge", None, "Inventory",
    ]  # fmt: skip


def test_a_make_up_day_on_which_the_company_is_closed_is_no_working_day(
    tmp_path: Path,
) -> None:
    # Saturday, October 10, 2026, pays for the National Day's week (State Council's notice for 2026).
    (tmp_path / "holidays.csv").write_text("date,name\n2026-10-10,Move\n")
    calendar = office(tmp_path, country="CN", csv="holidays.csv").calendar_named(
        "office"
    )
    assert not calendar.is_working_day(date(2026, 10, 10))
    assert calendar.holiday_name(date(2026, 10, 10)) == "Move"


@pytest.mark.parametrize(
    ("rule", "until"), [("", date(2027, 12, 31)), ("|RRULE:FREQ=YEARLY", None)]
)
def test_a_file_alone_is_reliable_until_the_year_of_its_last_day(
    tmp_path: Path, rule: str, until: date | None
) -> None:
    text = ics(f"DTSTART;VALUE=DATE:20270101{rule}|SUMMARY:New Year")
    (tmp_path / "holidays.ics").write_text(text)
    app = office(tmp_path, ics="holidays.ics")
    calendar = app.calendar_named("office")
    assert calendar.reliable_until == until
    assert calendar.known_years == range(1950, 2101)
    told = " ".join(check.warnings(app, datetime(2027, 6, 1, tzinfo=UTC)))
    assert ("its files list holidays until 2027-12-31" in told) is (until is not None)


def test_other_days_of_a_file_make_another_digest_and_names_do_not(
    tmp_path: Path,
) -> None:
    """The sync compares digests; `tests/unit/rows/test_new_days.py` has the effect."""

    def digest(event: str) -> str:
        (tmp_path / "holidays.ics").write_text(ics(event))
        template = office(tmp_path, ics="holidays.ics").template("tasks.Daily")
        return str(template.timer.moves.digest)

    before = digest("DTSTART;VALUE=DATE:20261224|SUMMARY:Eve")
    assert digest("DTSTART;VALUE=DATE:20261224|SUMMARY:Christmas Eve") == before
    assert digest("DTSTART;VALUE=DATE:20261223|SUMMARY:Eve") != before


def test_a_changed_file_is_noticed_by_a_warm_process(tmp_path: Path) -> None:
    file = tmp_path / "holidays.ics"
    file.write_text(ics("DTSTART;VALUE=DATE:20261224|SUMMARY:Eve"))
    assert office(tmp_path, ics="holidays.ics").calendar_named("office") is not None
    flows = str(tmp_path / "jittask_flows.py")
    before = loaded_file.modification_times(flows)[str(file)]
    os.utime(file, ns=(1, 1))
    assert loaded_file.modification_times(flows)[str(file)] == 1 != before
