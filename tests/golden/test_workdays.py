"""Golden cases of working days that are counted: answers of a walk from day to day, never recomputed by the code under test."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from golden_cases import cases, row_date

from jittask_prefect.schedule.timer import Timer

CASES = cases("workdays")
KINDS = {
    "offset": 24,
    "offset, holiday rule": 12,
    "offset, then a plain repeat": 16,
    "offset, then a plain repeat, holiday rule": 20,
    "offset, then a counted repeat": 12,
    "offset to a day on which clocks change": 16,
    "end in working days": 14,
    "counted repeat": 24,
    "counted repeat, holiday rule": 10,
}


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{n}-{case['kind']}" for n, case in enumerate(CASES)]
)
def test_the_due_times_are_those_of_the_walk(case: dict[str, Any]) -> None:
    timer = Timer(case["timerCfg"], calendar=case["calendar"])
    series = timer.series(row_date(case["value"]), row_date(case["end"]))
    assert series is not None
    window = (datetime.fromisoformat(case[name]) for name in ("after", "before"))
    found = [each.due.astimezone(UTC) for each in series.between(*window)]
    assert [f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in found] == case["expected"]


def test_there_are_as_many_cases_as_the_list_says() -> None:
    assert Counter(case["kind"] for case in CASES) == KINDS
    assert len(CASES) == 148
