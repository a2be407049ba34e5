"""The overview of an app: the model from facts, and its two printers; every expected value is written by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import pytest
from rich.cells import cell_len

from jittask_prefect.records import overview_markdown, overview_text
from jittask_prefect.records.app_facts import (
    Facts,
    Kind,
    Last,
    Open,
    TaskFacts,
    Trouble,
    day_window,
    hour_of,
    near_window,
)
from jittask_prefect.records.overview import Overview, overview
from jittask_prefect.records.overview_markdown import PageLinks, markdown

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 3, 2, 8, 20, tzinfo=UTC)  # Monday, 09:20 in Berlin
HOSTILE = (
    "<script>alert(1)</script>",
    "![x](https://evil.example/x.png) [y](javascript:alert(1))",
    "| a | b |\n# head\n```\n{{ secret }}",
    "x" * 10_000,
    "\x1b[31mred\x07\x00\x85\u2028",
    "\u202egnp.exe\u2066\u200f",
    "تذكير العقد",
    "合同到期提醒" * 20,
    "",
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def page(tasks: Sequence[TaskFacts], **more: Any) -> Overview:
    about: dict[str, Any] = {"app": "shop", "title": "Shop", "zone": BERLIN, "now": NOW}
    return overview(Facts(**{**about, "day": date(2026, 3, 3), "tasks": tasks, **more}))


RENT = TaskFacts("tasks.Rent", "Rent", "Every month.", next_due=utc("2026-04-01 07:00"))
BILLS = TaskFacts("tasks.Bills", "Bills", "A day before `due`.", rows=True)


# The model


def test_a_task_with_rows_tells_how_many_are_due_on_the_day_of_the_next() -> None:
    near = {
        ("tasks.Bills", utc("2026-03-02 12:00")): {"pending": 3},
        ("tasks.Bills", utc("2026-03-02 15:00")): {"pending": 4, "completed": 9},
        ("tasks.Bills", utc("2026-03-02 23:00")): {"pending": 50},  # tomorrow in Berlin
        ("tasks.Rent", utc("2026-03-02 12:00")): {"pending": 70},
    }
    waits = Open(pending=57, next_due=utc("2026-03-02 12:30"))
    [line] = page([BILLS], near=near, open={"tasks.Bills": waits}).tasks
    assert (line.next_due, line.next_count) == (utc("2026-03-02 12:30"), 7)
    assert line.pending == 57


def test_beyond_the_counted_days_no_number_stands_beside_the_next() -> None:
    waits = Open(pending=1, next_due=utc("2026-03-09 12:30"))
    [line] = page([BILLS], open={"tasks.Bills": waits}).tasks
    assert (line.next_due, line.next_count) == (utc("2026-03-09 12:30"), None)


def test_failures_of_the_last_24_hours_count_and_older_ones_do_not() -> None:
    near = {
        ("tasks.Bills", utc("2026-03-01 07:00")): {"error": 100},
        ("tasks.Bills", utc("2026-03-01 08:00")): {"error": 2},
        ("tasks.Bills", utc("2026-03-02 08:00")): {"error": 1, "completed": 5},
    }
    [line] = page([BILLS], near=near).tasks
    assert line.failed == 3


def test_a_page_without_troubles_names_single_failures() -> None:
    near = {("tasks.Bills", utc("2026-03-02 08:00")): {"error": 1, "completed": 24}}
    found = page([BILLS], near=near)
    told = (
        "1 failed in the last 24 hours: nothing is overdue, failing in a row or paused."
    )
    assert told in list(overview_text.lines(found, 80))
    assert told.replace(": ", "**: ") in markdown(found, PageLinks())
    assert "1 failed in the last 24 hours" in overview_markdown.summary(found, "")


def test_all_is_well_where_nothing_failed() -> None:
    found = page([BILLS, RENT])
    told = "All is well: nothing is overdue, failing or paused."
    assert told in list(overview_text.lines(found, 80))
    assert "all is well" in overview_markdown.summary(found, "")


def test_the_picture_is_a_day_before_the_present_hour_and_a_day_from_it_on() -> None:
    near = {
        ("tasks.Bills", utc("2026-03-02 08:00")): {"completed": 2, "pending": 1},
        ("tasks.Rent", utc("2026-03-02 08:00")): {"error": 1},
        ("tasks.Rent", utc("2026-03-03 08:00")): {"pending": 1},  # beyond
    }
    hours = page([BILLS, RENT], near=near).hours
    assert len(hours) == 48
    assert hours[0].start == utc("2026-03-01 08:00")
    assert hours[24].start.isoformat() == "2026-03-02T09:00:00+01:00"
    assert hours[24].counts == {"completed": 2, "error": 1, "pending": 1}
    assert [h for h in hours if h.counts] == [hours[24]]


def test_what_is_wrong_comes_worst_first_a_line_each() -> None:
    tasks = [
        TaskFacts("tasks.Off", "Off", state="disabled"),
        TaskFacts("tasks.Rest", "Rest", state="paused"),
        BILLS,
        RENT,
    ]
    wrong = page(
        tasks,
        open={"tasks.Bills": Open(overdue=1200, late_since=utc("2026-03-01 20:05"))},
        last={
            "tasks.Rent": Last(
                "error", utc("2026-03-02 07:00"), "OSError: no route", "", 3
            )
        },
        troubles=[
            Trouble(Kind.CALENDAR, "holidays end"),
            Trouble(Kind.WORKER, "no worker"),
        ],
    ).wrong
    assert [(each.kind.name, each.title, each.text) for each in wrong] == [
        ("WORKER", "", "no worker"),
        ("OVERDUE", "Bills", "1,200 overdue, since yesterday 21:05"),
        (
            "FAILING",
            "Rent",
            "failed 3 times in a row, last today 08:00: OSError: no route",
        ),
        ("CALENDAR", "", "holidays end"),
        ("PAUSED", "", "disabled: Off"),
        ("PAUSED", "", "paused in Prefect: Rest"),
    ]


def test_one_failure_is_no_row_of_failures() -> None:
    last = {"tasks.Rent": Last("error", utc("2026-03-02 07:00"), "no", in_a_row=1)}
    assert page([RENT], last=last).wrong == []


def test_groups_with_troubles_and_tasks_with_troubles_come_first() -> None:
    tasks = [
        TaskFacts("tasks.A", "A", group="aaa", next_due=utc("2026-03-02 09:00")),
        TaskFacts("tasks.Late", "Z", group="mmm"),
        TaskFacts("tasks.Soon", "M", group="mmm", next_due=utc("2026-03-02 09:00")),
        TaskFacts("tasks.None", "N"),
        TaskFacts("tasks.B", "B", group="aaa", next_due=utc("2026-03-02 08:30")),
    ]
    found = page(tasks, open={"tasks.Late": Open(overdue=1)})
    assert [(g.name, [t.facts.title for t in g.tasks]) for g in found.groups] == [
        ("mmm", ["Z", "M"]),
        ("aaa", ["B", "A"]),
        ("", ["N"]),
    ]


def test_the_day_goes_hour_by_hour_in_the_apps_zone() -> None:
    of_day = {
        ("tasks.Bills", utc("2026-03-03 08:00")): {"pending": 1200},
        ("tasks.Rent", utc("2026-03-03 08:00")): {"pending": 1},
        ("tasks.Gone", utc("2026-03-02 23:00")): {"error": 1},
        ("tasks.Rent", utc("2026-03-03 10:00")): {"pending": 0},
    }
    hours = page([BILLS, RENT], of_day=of_day).day_hours
    assert [
        (f"{h.start:%H:%M}", [(t.title, dict(t.counts)) for t in h.tasks])
        for h in hours
    ] == [
        ("00:00", [("tasks.Gone", {"error": 1})]),
        ("09:00", [("Bills", {"pending": 1200}), ("Rent", {"pending": 1})]),
    ]


@pytest.mark.parametrize(
    ("zone", "at", "begins"),
    [
        ("UTC", "2026-03-02 08:20:30", "2026-03-02 08:00"),
        ("Asia/Kolkata", "2026-03-02 08:20", "2026-03-02 07:30"),
        ("Asia/Kathmandu", "2026-03-02 08:20", "2026-03-02 08:15"),
    ],
)
def test_an_hour_begins_on_the_clocks_of_the_zone(
    zone: str, at: str, begins: str
) -> None:
    assert hour_of(utc(at), ZoneInfo(zone)) == utc(begins)


def test_days_of_clock_changes_have_23_and_25_hours() -> None:
    for day, hours in ((date(2026, 3, 29), 23), (date(2026, 10, 25), 25)):
        low, high = day_window(day, BERLIN)
        assert high - low == timedelta(hours=hours)


def test_the_counted_span_reaches_to_the_end_of_tomorrow() -> None:
    assert near_window(NOW, BERLIN) == (
        utc("2026-03-01 08:00"),
        utc("2026-03-03 23:00"),
    )


# The printers


def hostile_page(text: str) -> Overview:
    name = "tasks.Bad"
    task = TaskFacts(name, text, "Every day.", text, rows=True)
    hour = {(name, utc("2026-03-03 08:00")): {"pending": 2}}
    return page(
        [task, RENT],
        title=text,
        open={name: Open(overdue=2, next_due=utc("2026-03-03 08:00"))},
        last={name: Last("error", utc("2026-03-02 07:00"), text, text, 5, text)},
        near=hour,
        of_day=hour,
        uncounted=frozenset({name}),
        troubles=[Trouble(Kind.BROKEN, text)],
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_user_is_markup_in_the_ui(text: str) -> None:
    shown = markdown(hostile_page(text), PageLinks("run-id"))
    assert len(shown) < 20_000
    assert "<script" not in shown and "{{" not in shown
    own = re.findall(r"(?<!\\)\]\(([^)]*)\)", shown)
    assert all(link.startswith(("/v2/", "data:image/svg+xml;base64,")) for link in own)
    assert all(c.isprintable() or c == "\n" for c in shown)
    rows = [line for line in shown.splitlines() if line.startswith("| ")]
    cells = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert cells == {3, len(overview_markdown.HEAD) + 1}


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("text", HOSTILE)
def test_no_line_is_wider_than_the_terminal(text: str, width: int) -> None:
    lines = list(overview_text.lines(hostile_page(text), width))
    assert max(map(cell_len, lines)) <= width
    assert all(line.isprintable() for line in lines)
    assert len(lines) < 300


@pytest.mark.parametrize("width", [40, 80])
def test_a_terminal_of_ascii_gets_ascii(width: int) -> None:
    found = overview_text.lines(hostile_page("x" * 100), width, plain=True)
    assert "".join(found).isascii()


def test_the_table_of_a_terminal() -> None:
    found = page(
        [BILLS, RENT],
        open={
            "tasks.Bills": Open(
                7, 2, 0, utc("2026-03-02 07:00"), utc("2026-03-03 08:30")
            )
        },
        last={"tasks.Rent": Last("completed", utc("2026-03-01 08:00"))},
        near={
            ("tasks.Bills", utc("2026-03-02 07:00")): {"error": 1},
            ("tasks.Bills", utc("2026-03-03 08:00")): {"pending": 7},
        },
        of_day={("tasks.Bills", utc("2026-03-03 08:00")): {"pending": 7}},
    )
    assert list(overview_text.lines(found, 80)) == [
        "Shop, Mon 2 Mar 09:20 (Europe/Berlin)",
        "",
        "Needs a look",
        "! Bills: 2 overdue, since today 08:00",
        "",
        "last 24 hours           next 24 hours",
        "                       █                        ",
        "                       !^ now",
        "",
        "Tasks",
        "task                    next                last                pend  late  fail",
        "! Bills                 tomorrow 09:30 (7)  -                      7     2     1",
        "  Rent                  Wed 1 Apr 09:00     ok yesterday 09:00     -     -     -",
        "",
        "Tomorrow, Tue 3 Mar",
        "  09:00  Bills (7 rows)",
    ]


def test_hours_in_which_the_same_is_due_stand_together() -> None:
    of_day = {
        ("tasks.Rent", utc("2026-03-02 23:00") + timedelta(hours=n)): {"pending": 1}
        for n in (0, 1, 2, 5)
    }
    found = list(overview_text.lines(page([RENT], of_day=of_day), 80))
    assert found[-2:] == ["  00:00 … 02:00  each hour: Rent", "  05:00  Rent"]


def test_a_task_of_every_hour_has_a_line_of_its_own() -> None:
    of_day: dict[tuple[str, datetime], dict[str, int]] = {
        ("tasks.Rent", utc("2026-03-02 23:00") + timedelta(hours=n)): {"pending": 60}
        for n in range(24)
    }
    of_day["tasks.Bills", utc("2026-03-03 08:00")] = {"pending": 2}
    found = list(overview_text.lines(page([RENT, BILLS], of_day=of_day), 80))
    assert found[-2:] == [
        "  00:00 … 23:00  each hour: Rent (60 times)",
        "  09:00  Bills (2 rows)",
    ]


def test_the_counts_of_the_page_are_links_to_their_runs() -> None:
    found = page(
        [BILLS],
        open={"tasks.Bills": Open(7, 2)},
        near={("tasks.Bills", utc("2026-03-02 07:00")): {"error": 1}},
    )
    to = PageLinks("run-id", {"tasks.Bills": "/v2/edit-it"}, "retry-id")
    text = markdown(found, to)
    assert text.startswith("As of Mon 2 Mar 09:20 (Europe/Berlin); ")
    [row] = [line for line in text.splitlines() if line.startswith("| **Bills**")]
    links = dict(re.findall(r"\[([^\]]+)\]\(([^)]+)\)", row))
    tag = "tags=shop.tasks.Bills"
    assert links["7"].startswith("/v2/runs?state=Scheduled,") and tag in links["7"]
    assert links["2"].startswith("/v2/runs?state=Late&") and tag in links["2"]
    assert links["1"].startswith("/v2/runs?state=Failed,Crashed,TimedOut&")
    assert "start=2026-03-01T08:00:00.000Z" in links["1"]
    [sums] = [line for line in text.splitlines() if line.startswith("1 tasks")]
    assert sums.endswith(f"1 failed in 24 hours: [Bills]({links['1']})")
    form, _, filled = unquote(links["Run now"]).partition("?parameters=")
    assert form == "/v2/deployments/deployment/run-id/run"
    assert json.loads(filled) == {"task": "Bills · tasks.Bills"}
    assert links["Edit"] == "/v2/edit-it"
    form, _, filled = unquote(links["retry"]).partition("?parameters=")
    assert form == "/v2/deployments/deployment/retry-id/run"
    since = {"since": "2026-03-01"}
    assert json.loads(filled) == {"task": "Bills · tasks.Bills", **since}
    assert links["statistics"] == "/v2/artifacts/key/stats-shop--tasks-bills"


def test_a_task_is_paused_or_enabled_by_a_form_that_says_nothing_else() -> None:
    disabled = replace(BILLS, name="tasks.Off", title="Off · *x*", state="disabled")
    to = PageLinks(editing="edit-id", forms={"End a task": "/v2/end-it"})
    text = markdown(page([BILLS, disabled]), to)
    filled = {
        word: json.loads(unquote(parameters))
        for word, parameters in re.findall(
            r"\[(Pause|Enable)\]\(/v2/deployments/deployment/edit-id/run\?parameters=([^)]+)\)",
            text,
        )
    }
    assert filled == {
        "Pause": {"task": f"{BILLS.title} · tasks.Bills", "enable": "Off"},
        "Enable": {"task": "Off · *x* · tasks.Off", "enable": "On"},
    }
    assert "[End a task](/v2/end-it)" in text


def test_two_hundred_tasks_fit_on_a_page_that_the_ui_shows_whole() -> None:
    tasks = [
        TaskFacts(
            f"tasks.Reminder{n}",
            f"Reminder number {n} of the contracts department",
            "Seven days before `endsOn`, at 09:00 (Europe/Berlin).",
            f"tag {n % 10}",
            rows=True,
        )
        for n in range(200)
    ]
    busy = {
        t.name: Open(1234, 56, 7, utc("2026-03-02 07:00"), utc("2026-03-03 08:30"))
        for t in tasks
    }
    hours = {(t.name, utc("2026-03-03 08:00")): {"pending": 1234} for t in tasks}
    found = page(tasks, open=busy, near=hours, of_day=hours)
    edit = {t.name: "/v2/" + "x" * 1000 for t in tasks}
    text = markdown(found, PageLinks("run-id", edit))
    assert len(text) < overview_markdown.MOST_PAGE
    assert text.count("[statistics](") == 200
    assert "- and 180 more" in text
    assert "and 188 more tasks" in text
    assert "(Cut here.)" not in text


def test_a_task_without_a_filled_form_is_edited_directly() -> None:
    text = markdown(page([BILLS]), PageLinks("run-id", editing="edit-id"))
    form = "/v2/deployments/deployment/edit-id/run?parameters="
    filled = r'{"task": "Bills \u00b7 tasks.Bills"}'
    assert f"[Edit]({form}{filled})" in unquote(text)
