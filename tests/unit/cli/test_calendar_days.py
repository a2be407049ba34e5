"""`jittask calendar NAME --add N --from DATE`: working days counted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jittask_prefect.cli.commands import cli
from jittask_prefect.errors import JittaskError
from jittask_prefect.schedule import clock
from jittask_prefect.testing import build_app


def said(*words: str) -> Any:
    found = CliRunner().invoke(cli, ["calendar", *words])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JITTASK_APP", raising=False)


def test_ten_working_days_after() -> None:
    lines = said("DE-BY", "--add", "10", "--from", "2026-12-18").stdout.splitlines()
    assert lines == [
        "Tue 2027-01-05 is 10 working days after Fri 2026-12-18 (DE-BY)",
        "  Fri 2026-12-25  Christmas Day",
        "  Fri 2027-01-01  New Year's Day",
    ]


def test_back_and_as_json() -> None:
    # The 6th is a holiday in Bavaria, the 1st everywhere.
    text = said("DE-BY", "--add", "-3", "--from", "2026-01-07", "--json").stdout
    assert json.loads(text) == {
        "calendar": "DE-BY", "from": "2026-01-07", "add": -3, "date": "2025-12-31",
        "holidays": [{"date": "2026-01-01", "name": "New Year's Day"}, {"date": "2026-01-06", "name": "Epiphany"}],
    }  # fmt: skip


def test_in_an_app_today_is_the_day_of_its_zone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Monday, 23:30 UTC: Tuesday in Shanghai, still Monday in Honolulu.
    monkeypatch.setattr(clock, "now", lambda: datetime(2026, 3, 2, 23, 30, tzinfo=UTC))
    for zone, today in (
        ("Asia/Shanghai", "2026-03-03"),
        ("Pacific/Honolulu", "2026-03-02"),
    ):
        made = build_app(tmp_path / today, {}, timezone=zone)
        made.close()
        monkeypatch.setenv("JITTASK_APP", str(made.path))
        found = json.loads(said("DE-BY", "--add", "1", "--json").stdout)
        assert found["from"] == today


def test_a_count_beyond_the_published_days_warns() -> None:
    found = said("CN", "--add", "2000", "--from", "2026-11-30")
    assert "later days are a forecast" in found.output


@pytest.mark.parametrize(
    ("country", "add", "start", "known"),
    [
        # The library lists holidays of Germany from 1991, of Japan from 1949: the calendar's table begins in 1950.
        ("DE-BY", "10", "1990-12-27", "from 1991 to 2100 only"),
        ("DE-BY", "-10", "1991-01-03", "from 1991 to 2100 only"),
        ("JP", "-1", "1950-01-02", "from 1950 to 2099 only"),
    ],
)
def test_a_count_before_the_first_known_year_warns(
    country: str, add: str, start: str, known: str
) -> None:
    found = said(country, "--add", add, "--from", start)
    assert f"holidays of {country} are known {known}" in " ".join(found.output.split())


def test_a_count_within_the_known_years_does_not_warn() -> None:
    assert "known" not in said("DE-BY", "--add", "10", "--from", "1991-01-02").output


def test_of_many_holidays_the_first_forty_are_printed() -> None:
    # 2,000 working days are about eight years, with nearly ten holidays each.
    words = ("DE-BY", "--add", "2000", "--from", "2016-01-04")
    lines = said(*words).stdout.splitlines()
    whole = json.loads(said(*words, "--json").stdout)["holidays"]
    assert len(lines) == 1 + 40 + 1 and len(whole) > 60
    assert lines[-1] == f"  … and {len(whole) - 40} more (--json has all)"
    assert lines[40].endswith(whole[39]["name"])


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (("DE-BY",), "a year (`jittask calendar DE-BY 2026`), or --add"),
        (("DE-BY", "2026", "--add", "1"), "or --add"),
        (("DE-BY", "2026", "--from", "2026-01-01"), "only with --add"),
        (("DE-BY", "--add", "0"), "-1 for the one before"),
        (("DE-BY", "--add", "99999999"), "within the years 1 to 9999"),
        (("DE-BY", "--add", "1", "--from", "tomorrow"), "a day as yyyy-MM-dd"),
        (("XX", "--add", "1"), "country code"),
    ],
)
def test_what_cannot_be_counted(words: tuple[str, ...], allowed: str) -> None:
    with pytest.raises(JittaskError) as caught:
        said(*words)
    assert allowed in str(caught.value)
