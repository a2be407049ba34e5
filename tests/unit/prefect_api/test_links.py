"""Links into Prefect's UI, and what stands for data in its Markdown: written down by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from jittask_prefect.deploying import deployments
from jittask_prefect.errors import ArgumentError
from jittask_prefect.prefect_api import links, markup
from jittask_prefect.records import listing
from jittask_prefect.records.listing import RecordFilter
from jittask_prefect.testing import FakePrefect, build_app

NOW = datetime(2026, 9, 14, 3, tzinfo=UTC)
SHANGHAI = timezone(timedelta(hours=8))
MODEL = """
from datetime import date
from sqlmodel import Field, SQLModel

class Bill(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    at: date | None = None
"""
ELEMENTS = {
    "models/Bill": {
        "e.json": {"type": "models.NormalType", "title": "Bill"},
        "model.py": MODEL,
    },
    "tasks/Collect": {
        "e.json": {
            "type": "tasks.DateFieldType",
            "title": "Collect <b>now</b> *all* [x](y) | `z`",
            "modelPath": "models.Bill",
            "timerCfg": {"startField": "at", "repeat": {"repeatType": "normal"}},
        },
        "inner.py": "def customFunc(row):\n    pass\n",
    },
    "tasks/Daily": {
        "e.json": {
            "type": "tasks.NormalType",
            "title": "Daily",
            "timerCfg": {
                "startTime": "2026-01-01 09:00:00",
                "repeat": {"repeatType": "day"},
            },
        },
        "inner.py": "def customFunc():\n    pass\n",
    },
}


def test_one_status_of_a_template_in_a_span_of_time() -> None:
    start, end = (
        datetime(2026, 10, 1, tzinfo=SHANGHAI),
        datetime(2026, 10, 2, tzinfo=SHANGHAI),
    )
    assert links.runs("overdue", tag="tasks.Daily", start=start, end=end) == (
        "/v2/runs?state=Late&tags=tasks.Daily"
        "&start=2026-09-30T16:00:00.000Z&end=2026-10-01T15:59:59.999Z&sort=START_TIME_ASC"
    )


def test_the_page_has_no_range_with_one_end() -> None:
    assert "&start=2026-10-01T00:00:00.000Z&end=2100-01-01T00:00:00.000Z" in links.runs(
        "completed", start=datetime(2026, 10, 1, tzinfo=UTC)
    )
    assert "?start=2000-01-01T00:00:00.000Z&end=2026-09-30T23:59:59.999Z" in links.runs(
        end=datetime(2026, 10, 1, tzinfo=UTC)
    )


def test_a_link_in_markdown_ends_where_it_ends() -> None:
    assert (
        links.runs(tag="models.Bill:a)b c&d")
        == "/v2/runs?tags=models.Bill:a%29b%20c%26d&sort=START_TIME_DESC"
    )


@pytest.mark.parametrize(
    ("ui", "base"),
    [
        ("http://127.0.0.1:4200", "http://127.0.0.1:4200/v2"),
        ("http://127.0.0.1:4200/v2/", "http://127.0.0.1:4200/v2"),
        (
            "https://app.prefect.cloud/account/a/workspace/b",
            "https://app.prefect.cloud/account/a/workspace/b",
        ),
    ],
)
def test_where_the_ui_is(ui: str, base: str) -> None:
    assert links.base(ui) == base


def test_keys_of_artifacts() -> None:
    assert links.key("shop", "tasks.DailyReport") == "stats-shop--tasks-dailyreport"
    assert (
        links.key("shop", "tasks.Daily_Report_2") == "stats-shop--tasks-daily-report-2"
    )
    both = ["tasks.Daily_Report", "tasks.daily_report"]
    keys = {links.key("shop", name, both) for name in both}
    assert len(keys) == 2
    assert all(
        key.startswith("stats-shop--tasks-daily-report-") and key.islower()
        for key in keys
    )


def test_a_description_has_a_link_for_each_status_and_shows_the_title_as_it_is(
    tmp_path: Path,
) -> None:
    app = build_app(tmp_path / "app", ELEMENTS, ready=False)
    said = deployments.description(app.template("tasks.Collect"))
    assert said.startswith(
        "**Collect &lt;b&gt;now&lt;/b&gt; \\*all\\* \\[x\\](y) \\| \\`z\\`**\n"
    )
    last = said.rsplit("\n", 1)[1]
    assert last.startswith(
        "Records: [pending](/v2/runs?state=Scheduled,AwaitingRetry,Pending,"
    )
    for status in ("pending", "executing", "overdue", "completed", "error", "ended"):
        assert f"[{status}](/v2/runs?state=" in last
    assert last.count("&tags=test.tasks.Collect&") == 6
    assert last.endswith(
        "[statistics](/v2/artifacts/key/stats-test--tasks-collect)"
        " · [overview](/v2/artifacts/key/test-overview)"
    )


def test_the_link_of_a_row_is_its_tag_and_of_one_with_a_comma_its_name(
    tmp_path: Path,
) -> None:
    app, api = build_app(tmp_path / "app", ELEMENTS, ready=False), FakePrefect()

    def link(
        name: str | None, row: str | None = None, status: str | None = None
    ) -> str:
        wanted = RecordFilter(name=name, row=row, status=status)
        return listing.link(app, api, NOW, wanted).partition("?")[2]

    assert link(None) == "tags=app:test&sort=START_TIME_DESC"
    assert (
        link("tasks.Daily", None, "error")
        == "state=Failed,Crashed,TimedOut&tags=test.tasks.Daily&sort=START_TIME_DESC"
    )
    assert (
        link("tasks.Collect", "17") == "tags=test.models.Bill:17&sort=START_TIME_DESC"
    )
    assert link("tasks.Collect", '["a", 1]') == (
        "tags=test.tasks.Collect&flow-run-search=Bill%20%5B%22a%22,%201%5D&sort=START_TIME_DESC"
    )
    since = listing.link(app, api, NOW, RecordFilter(start=NOW)).partition("?")[2]
    assert (
        since.partition("&")[2]
        == "start=2026-09-14T03:00:00.000Z&end=2027-09-15T02:59:59.999Z&sort=START_TIME_DESC"
    )
    with pytest.raises(ArgumentError, match="date-field task"):
        link("tasks.Daily", "17")
    with pytest.raises(ArgumentError, match="allowed: pending"):
        link(None, None, "late")


def test_data_in_markdown() -> None:
    assert markup.md("a|b `c` <script> {{ d }}\nnext\x00 \\|") == (
        "a\\|b \\`c\\` &lt;script&gt; \\{\\{ d \\}\\} next\ufffd \\\\\\|"
    )
    assert markup.md("x" * 300) == "x" * 199 + "…"
    assert markup.xml('<a b="c">&\ud800') == "&lt;a b=&quot;c&quot;&gt;&amp;\ufffd"
    assert markup.table(("a", "b"), [("1", "2")]) == [
        "| a | b |",
        "| --- | --- |",
        "| 1 | 2 |",
    ]


def test_a_long_page_is_cut_at_the_end_of_a_line() -> None:
    cut = markup.cut("0123456789\n" * 20_000)
    assert len(cut) <= 100_000
    assert cut.endswith("\n0123456789\n\n(Cut here.)")
    assert markup.cut("short") == "short"
