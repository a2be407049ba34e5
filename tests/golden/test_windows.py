"""Golden cases of opening hours: answers of a walk over all openings, never recomputed by the code under test."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from jittask_prefect.schedule.timer import Timer

CASES = json.loads(Path(__file__).with_name("windows.json").read_text())["cases"]
KINDS = {
    "days": 24,
    "days, holiday rule": 20,
    "counted repeat": 12,
    "minutes and hours": 14,
    "minutes and hours, holiday rule": 8,
    "row, offset": 12,
    "row, offset in working days": 14,
    "row, offset, then a repeat, holiday rule": 14,
    "clocks change, days": 16,
    "clocks change, minutes and hours": 10,
    "end": 10,
}


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{n}-{case['kind']}" for n, case in enumerate(CASES)]
)
def test_the_due_times_are_those_of_the_walk(case: dict[str, Any]) -> None:
    timer = Timer(case["timerCfg"], calendar=case["calendar"])
    value = case["value"]
    kind = date if value is not None and len(value) == 10 else datetime
    series = timer.series(None if value is None else kind.fromisoformat(value))
    assert series is not None
    window = (datetime.fromisoformat(case[name]) for name in ("after", "before"))
    found = [each.due.astimezone(UTC) for each in series.between(*window)]
    assert [f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in found] == case["expected"]


def test_there_are_as_many_cases_as_the_list_says() -> None:
    assert Counter(case["kind"] for case in CASES) == KINDS
    assert len(CASES) == 154
