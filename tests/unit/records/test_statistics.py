"""Statistics from the ledger, its page and its charts: the expected values are counted by hand."""

from __future__ import annotations

import base64
import itertools
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from jittask_prefect import App
from jittask_prefect.errors import ArgumentError, PrefectApiError
from jittask_prefect.ledger.entry import BLANK
from jittask_prefect.ledger.tables import entries
from jittask_prefect.prefect_api import links
from jittask_prefect.records import (
    charts,
    month_grid,
    page_text,
    statistics,
    template_pages,
    text,
)
from jittask_prefect.records.charts import DayCell
from jittask_prefect.records.statistics import Spread
from jittask_prefect.testing import FakePrefect, build_app

NOW = datetime(2026, 9, 14, 3, tzinfo=UTC)  # a Monday, 11:00 in Shanghai
SECOND = timedelta(seconds=1)
NUMBER = itertools.count(1)
MODEL = """
from datetime import date
from sqlmodel import Field, SQLModel

class Bill(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    at: date | None = None
"""


def scheduled(title: str, repeat: dict[str, Any], **timer: Any) -> Any:
    about = {
        "type": "tasks.NormalType",
        "title": title,
        "timerCfg": {"startTime": "2026-09-01 09:00:00", "repeat": repeat, **timer},
    }
    return {"e.json": about, "inner.py": "def customFunc():\n    pass\n"}


ELEMENTS: dict[str, Any] = {
    "models/Bill": {
        "e.json": {"type": "models.NormalType", "title": "Bill"},
        "model.py": MODEL,
    },
    "tasks/Collect": {
        "e.json": {
            "type": "tasks.DateFieldType",
            "title": "Collect",
            "modelPath": "models.Bill",
            "timerCfg": {
                "startField": "at",
                "startOffset": {"offsetType": 0, "time": "10:00"},
                "repeat": {"repeatType": "normal"},
                "skipHoliday": 1,
            },
        },
        "inner.py": "def customFunc(row):\n    pass\n",
    },
    # Fridays; October 2 is a holiday (National Day, 1 to 7), and so is September 25 (Mid-Autumn, 25 to 27).
    "tasks/Weekly": scheduled(
        "Weekly <b>|`x`", {"repeatType": "week", "weekday": [5]}, skipHoliday=1
    ),
    "tasks/Often": scheduled("Often", {"repeatType": "minute", "period": 5}),
}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    made = build_app(
        tmp_path / "app", ELEMENTS, timezone="Asia/Shanghai", calendar="CN"
    )
    yield made
    made.close()


def put(
    app: App,
    due: datetime,
    status: str = "completed",
    *,
    late: float = 1,
    took: float = 2,
    **more: Any,
) -> None:
    started = due + late * SECOND
    ran = (
        {"started": started, "finished": started + took * SECOND}
        if status in ("completed", "error")
        else {}
    )
    values = {
        "task_id": f"task-{next(NUMBER)}", "template": "tasks.Collect", "model": "models.Bill",
        "row_key": "1", "nominal": due, "generation": next(NUMBER), "due": due, "created": due - timedelta(days=1),
        "status": status, "outcome": None, "message": "", "dirty": False, "returned": True, **ran, **more,
    }  # fmt: skip
    blank = {**BLANK, "app": app.name}
    with app.engine().begin() as connection:
        connection.execute(insert(entries).values(blank | values))


def of(
    app: App, name: str = "tasks.Collect", **span: datetime
) -> statistics.Statistics:
    template = app.template(name)
    return statistics.of_template(
        template, statistics.day_borders(template, NOW, **span), NOW
    )


def test_statuses_by_day_of_the_tasks_zone(app: App) -> None:
    put(app, datetime(2026, 9, 12, 15, 59, tzinfo=UTC))  # 23:59 of the 12th
    put(app, datetime(2026, 9, 12, 16, 0, tzinfo=UTC))  # midnight: the 13th
    put(
        app,
        datetime(2026, 9, 13, 1, tzinfo=UTC),
        "error",
        outcome="failed",
        message="error: row 5 is bad",
    )
    put(app, datetime(2026, 9, 14, 2, tzinfo=UTC), "pending")
    put(app, datetime(2026, 9, 14, 4, tzinfo=UTC), "pending")
    put(app, datetime(2026, 9, 14, 16, tzinfo=UTC), "pending")  # tomorrow
    put(app, datetime(2026, 8, 15, 15, 59, tzinfo=UTC))  # the day before the thirty
    found = of(app)
    assert (found.start.isoformat(), found.end.isoformat()) == (
        "2026-08-16T00:00:00+08:00", "2026-09-15T00:00:00+08:00",
    )  # fmt: skip
    assert len(found.days) == 30
    assert {day: dict(number) for day, number in found.days.items() if number} == {
        date(2026, 9, 12): {"completed": 1},
        date(2026, 9, 13): {"completed": 1, "error": 1},
        date(2026, 9, 14): {"overdue": 1, "pending": 1},
    }
    assert found.counts == {"completed": 2, "error": 1, "overdue": 1, "pending": 1}


def test_another_app_in_the_same_database_is_not_counted(app: App) -> None:
    put(app, NOW, "error", outcome="failed", message="error: no")
    with app.engine().begin() as connection:
        connection.execute(update(entries).values(app="other"))
    found = of(app)
    assert (found.counts, found.duration, found.reasons) == ({}, None, [])


def test_percentiles_are_nearest_ranks() -> None:
    assert Spread.of([]) is None
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0, 1)
    assert Spread.of([float(n) for n in range(20, 0, -1)]) == Spread(
        10.0, 19.0, 20.0, 20
    )


def test_duration_and_lateness(app: App) -> None:
    due = datetime(2026, 9, 10, 1, tzinfo=UTC)
    put(app, due, late=1, took=2)
    put(app, due, late=3, took=4)
    # Saved an hour after it was due: late by five seconds only.
    put(app, due, "error", late=3605, took=60, created=due + timedelta(hours=1))
    put(app, due, "ended", outcome="missed", message="missed: later than 60 s")
    # A run of a schedule becomes known when it begins, nine seconds late.
    put(
        app,
        due,
        template="tasks.Weekly",
        row_key="",
        model=None,
        created=due + 9 * SECOND,
        late=9,
        took=0.5,
    )
    found = of(app)
    assert found.duration == Spread(4.0, 60.0, 60.0, 3)
    assert found.lateness == Spread(3.0, 5.0, 5.0, 3)
    assert of(app, "tasks.Weekly").lateness == Spread(9.0, 9.0, 9.0, 1)


def test_reasons_that_differ_in_numbers_only_are_one(app: App) -> None:
    due = datetime(2026, 9, 10, 1, tzinfo=UTC)
    for row in range(3):
        said = f"error: ValueError: row {row} is bad\nTraceback"
        put(app, due + row * SECOND, "error", outcome="failed", message=said)
    put(app, due, "error", outcome="died", message="error: worker died")
    put(app, due, "ended", outcome="forced", message="ended: forced")
    found = [(r.count, r.status, r.outcome, r.text, r.last) for r in of(app).reasons]
    assert found == [
        (3, "error", "failed", "error: ValueError: row # is bad", due + 2 * SECOND),
        (1, "ended", "forced", "ended: forced", due),
        (1, "error", "died", "error: worker died", due),
    ]


def test_what_is_not_among_the_most_frequent_reasons_is_counted_too(app: App) -> None:
    due = datetime(2026, 9, 10, 1, tzinfo=UTC)
    for letter in "abcdefghijkl":
        put(app, due, "error", outcome="failed", message=f"error: {letter}")
    reasons = of(app).reasons
    assert len(reasons) == 11
    assert (reasons[-1].text, reasons[-1].count) == ("other reasons", 2)


def test_a_span_of_ones_own(app: App) -> None:
    start, end = (
        datetime(2026, 9, 10, 2, tzinfo=UTC),
        datetime(2026, 9, 11, 4, tzinfo=UTC),
    )
    for due in (start - SECOND, start, end - SECOND, end):
        put(app, due)
    found = of(app, start=start, end=end)
    assert {day.isoformat(): dict(n) for day, n in found.days.items()} == {
        "2026-09-10": {"completed": 1},
        "2026-09-11": {"completed": 1},
    }
    assert len(of(app, start=NOW - timedelta(days=399)).days) == 400
    with pytest.raises(ArgumentError, match="at most 400"):
        of(app, start=NOW - timedelta(days=401))
    with pytest.raises(ArgumentError, match="allowed: --to later"):
        of(app, start=end, end=start)


def test_what_the_command_prints(app: App) -> None:
    due = datetime(2026, 9, 10, 1, tzinfo=UTC)
    put(app, due, took=0.25)
    put(app, due, "error", outcome="failed", message="error: no", took=200)
    lines = list(text.template_statistics(of(app)))
    assert (
        lines[1] == "1 completed, 1 error, 0 ended, 0 executing, 0 overdue, 0 pending"
    )
    assert (
        lines[2]
        == "took: half within 0.25 s, 95 % within 3 min 20 s, longest 3 min 20 s; 2 runs measured"
    )
    assert lines[6].split() == ["1", "error", "2026-09-10", "error:", "no"]
    assert lines[-1].split() == ["Thu", "2026-09-10", "1", "1", "0", "0", "0", "0"]
    data = of(app).as_dict()
    assert data["statuses"] == {
        "completed": 1, "error": 1, "ended": 0, "executing": 0, "overdue": 0, "pending": 0,
    }  # fmt: skip
    assert data["reasons"][0]["last"] == "2026-09-10T09:00:00+08:00"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.2, "0.20 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (3661, "1 h 1 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_seconds_for_a_reader(value: float, said: str) -> None:
    assert statistics.duration_text(value) == said


# Charts


def test_bars_are_as_high_as_they_should(app: App) -> None:
    days = {
        date(2026, 9, 1): Counter(completed=100, error=50),
        date(2026, 9, 2): Counter(error=1),
    }
    root = ElementTree.fromstring(charts.by_day(days))
    boxes = [e.attrib for e in root.iter("{http://www.w3.org/2000/svg}rect")][
        3:
    ]  # after the ground and the legend
    # The axis ends at 200 and is 146 high: 100 are 73.0, 50 are 36.5; one, which would be 0.73, is seen.
    assert [(b["fill"], b["height"]) for b in boxes] == [
        ("#16a34a", "73.00"), ("#dc2626", "36.50"), ("#dc2626", "2.00"),
    ]  # fmt: skip
    texts = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[:2] == ["completed 100", "error 51"]
    assert texts[2:5] == ["0", "100", "200"]


@pytest.mark.parametrize(
    ("most", "top"),
    [(0, 2), (2, 2), (3, 4), (11, 20), (99, 100), (101, 200), (6001, 8000)],
)
def test_the_top_of_an_axis(most: int, top: int) -> None:
    assert charts.axis_top(most) == top


def test_a_closure_is_named_beside_the_grid(tmp_path: Path) -> None:
    closed = [{"days": "10-05/10-09", "name": "Autumn closure"}]
    weekly = scheduled("Weekly", {"repeatType": "week", "weekday": [5]}, skipHoliday=1)
    made = build_app(
        tmp_path,
        {"tasks/Weekly": weekly},
        calendar="office",
        calendars={"office": {"closed": closed}},
    )
    found = month_grid.month_grid(made.template("tasks.Weekly"), NOW)
    # Friday, October 9; the closure and a weekend end on Monday, October 12.
    (moved,) = found.moves
    assert moved.moved == "Autumn closure"
    assert moved.due is not None and moved.due.date() == date(2026, 10, 12)
    assert found.days[date(2026, 10, 5)].kind == "holiday"


def test_what_comes_next_with_moves(app: App) -> None:
    found = month_grid.month_grid(app.template("tasks.Weekly"), NOW)
    assert (min(found.days), found.last) == (date(2026, 9, 1), date(2026, 10, 31))
    shown = {
        d.isoformat(): c for d, c in found.days.items() if c.here or c.away or c.dropped
    }
    kind = {day.isoformat(): cell.kind for day, cell in found.days.items()}
    assert {d: (c.here, c.moved, c.away) for d, c in shown.items()} == {
        "2026-09-18": ("09:00", False, ()),
        "2026-09-25": ("", False, (date(2026, 9, 28),)),
        "2026-09-28": ("09:00", True, ()),
        "2026-10-02": ("", False, (date(2026, 10, 8),)),
        "2026-10-08": ("09:00", True, ()),
        "2026-10-09": ("09:00", False, ()),
        "2026-10-16": ("09:00", False, ()),
        "2026-10-23": ("09:00", False, ()),
        "2026-10-30": ("09:00", False, ()),
    }
    assert (kind["2026-10-01"], kind["2026-10-10"], kind["2026-10-11"]) == (
        "holiday",
        "makeup",
        "weekend",
    )
    assert [(m.nominal.date().isoformat() if m.nominal else "", m.moved) for m in found.moves] == [
        ("2026-09-25", "Mid-Autumn Festival"), ("2026-10-02", "National Day"),
    ]  # fmt: skip


def test_what_comes_often_is_only_said_to_come(app: App) -> None:
    found = month_grid.month_grid(app.template("tasks.Often"), NOW)
    assert found.days[date(2026, 9, 13)].here == ""
    assert {
        found.days[date(2026, 9, 14)].here,
        found.days[date(2026, 10, 31)].here,
    } == {"≥25"}
    assert found.next[0].due is not None and found.next[0].due.astimezone(UTC) == NOW


def test_rows_come_next_as_they_are_now(app: App) -> None:
    with app.session("") as session:
        bill = app.getElement("models.Bill")
        session.add_all(
            [bill(id=n, at=date(2026, 10, 2)) for n in (1, 2)]
            + [bill(id=3, at=date(2026, 9, 21))]
        )
        session.commit()
    found = month_grid.month_grid(app.template("tasks.Collect"), NOW)
    assert [(o.row, f"{o.due:%m-%d %H:%M}") for o in found.next] == [
        ("3", "09-21 10:00"), ("1", "10-08 10:00"), ("2", "10-08 10:00"),
    ]  # fmt: skip
    eighth = found.days[date(2026, 10, 8)]
    assert (eighth.here, eighth.moved) == ("2×", True)
    assert found.days[date(2026, 10, 2)].away == (date(2026, 10, 8),)


def test_of_too_many_rows_it_is_only_said_that_there_are(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(month_grid, "MOST_ROWS", 2)
    with app.session("") as session:
        bill = app.getElement("models.Bill")
        session.add_all([bill(id=n, at=date(2026, 9, 21)) for n in (1, 2, 3)])
        session.commit()
    found = month_grid.month_grid(app.template("tasks.Collect"), NOW)
    assert found.note.startswith(
        "More than 2 rows have dates in these months: `jittask pending tasks.Collect --until 2026-10-31`"
    )
    assert not any(cell.here for cell in found.days.values())


def test_what_is_written_stays_written_where_prefect_fails_in_between(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, put = FakePrefect(), template_pages.write_page

    def failing(api_: FakePrefect, template: Any, *about: Any) -> str:
        api.down = template.fullName == "tasks.Often"
        return put(api_, template, *about)

    monkeypatch.setattr(template_pages, "write_page", failing)
    with pytest.raises(PrefectApiError):
        template_pages.refresh(app, api, NOW)
    api.down = False
    monkeypatch.setattr(template_pages, "write_page", put)
    assert template_pages.refresh(app, api, NOW + timedelta(minutes=1)) == [
        "tasks.Often",
        "tasks.Weekly",
    ]


def test_the_grid_is_sound_svg() -> None:
    cells = [DayCell(date(2026, 9, 1) + timedelta(days=n)) for n in range(61)]
    cells[24] = DayCell(date(2026, 9, 25), "holiday", away=(date(2026, 9, 28),))
    cells[27] = DayCell(date(2026, 9, 28), here="09:00", moved=True)
    root = ElementTree.fromstring(charts.months(cells, date(2026, 9, 14)))
    texts = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert (
        texts.count("September 2026")
        == texts.count("October 2026")
        == texts.count("→ 28")
        == 1
    )
    assert "holiday" in texts and "make-up day" in texts


# The page, and keeping it


def test_a_page_shows_data_as_it_is(app: App) -> None:
    template = app.template("tasks.Weekly")
    bad = "error: <img src=x onerror=alert(1)> | `{{ x }}`"
    due = datetime(2026, 9, 10, 1, tzinfo=UTC)
    put(
        app,
        due,
        "error",
        template="tasks.Weekly",
        row_key="",
        outcome="failed",
        message=bad,
    )
    text = "\n".join(
        page_text.page_lines(
            template,
            of(app, "tasks.Weekly"),
            month_grid.month_grid(template, NOW),
            NOW,
        )
    )
    assert "### Weekly &lt;b&gt;\\|\\`x\\`: last 30 days" in text
    assert "error: &lt;img src=x onerror=alert(#)&gt; \\| \\`\\{\\{ x \\}\\}\\`" in text
    assert "<" not in re.sub(r"base64,[^)]*", "", text)
    assert "| Fri 2026-10-02 09:00 | Thu 2026-10-08 09:00 | National Day |" in text
    for uri in re.findall(r"data:image/svg\+xml;base64,([^)]*)\)", text):
        ElementTree.fromstring(base64.b64decode(uri))
    assert text.count("data:image/svg+xml") == 2


def test_pages_are_written_when_tasks_ended_or_the_day_is_over(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        template_pages, "MAX_SECONDS", 60
    )  # a busy machine takes longer than a sync has
    api = FakePrefect()
    everything = {"tasks.Collect", "tasks.Often", "tasks.Weekly"}
    assert set(template_pages.refresh(app, api, NOW)) == everything
    assert set(api.pages) == {
        "stats-test--tasks-collect",
        "stats-test--tasks-often",
        "stats-test--tasks-weekly",
    }
    assert template_pages.refresh(app, api, NOW + timedelta(minutes=1)) == []
    put(app, NOW + timedelta(minutes=1))
    calls = len(api.calls)
    assert (
        template_pages.refresh(app, api, NOW + timedelta(minutes=2)) == []
    )  # it is too young
    assert len(api.calls) == calls
    assert template_pages.refresh(app, api, NOW + timedelta(minutes=6)) == [
        "tasks.Collect"
    ]
    assert (
        f"[completed]({links.runs('completed', tag='tasks.Collect')[:20]}"
        in api.pages["stats-test--tasks-collect"]
    )
    assert template_pages.refresh(app, api, NOW + timedelta(minutes=12)) == []
    assert set(template_pages.refresh(app, api, NOW + timedelta(days=1))) == everything


def test_a_sync_writes_a_few_pages_and_the_next_one_the_rest(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_pages, "MAX_PAGES", 2)
    api = FakePrefect()
    first, second = (
        template_pages.refresh(app, api, NOW),
        template_pages.refresh(app, api, NOW + timedelta(minutes=1)),
    )
    assert (len(first), len(second)) == (2, 1)
    assert not set(first) & set(second)


def test_a_template_that_is_gone_takes_its_page_along(app: App) -> None:
    api = FakePrefect()
    template_pages.refresh(app, api, NOW)
    shutil.rmtree(app.path / "tasks" / "Weekly")
    again = App(app.path)
    assert template_pages.refresh(again, api, NOW + timedelta(minutes=1)) == []
    assert set(api.pages) == {"stats-test--tasks-collect", "stats-test--tasks-often"}
    again.close()
