"""Golden cases of levels: answers of a walk from day to day, never recomputed by the code under test."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from golden_cases import cases, row_date

from jittask_prefect.schedule.timer import Timer

CASES = cases("levels")
KINDS = {
    "late levels": 20,
    "early and late": 20,
    "working days": 20,
    "holiday rule": 20,
    "one instant": 12,
    "repeat": 36,
    "repeat, holiday rule": 36,
    "end": 12,
    "clock change": 12,
}


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{n}-{case['kind']}" for n, case in enumerate(CASES)]
)
def test_the_occurrences_are_those_of_the_walk(case: dict[str, Any]) -> None:
    timer = Timer(case["timerCfg"], calendar=case["calendar"])
    series = timer.series(row_date(case["value"]), row_date(case["end"]))
    assert series is not None
    window = (datetime.fromisoformat(case[name]) for name in ("after", "before"))
    found = [
        [f"{each.due.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}", each.level]
        for each in series.between(*window)
    ]
    assert found == case["expected"]


def test_there_are_as_many_cases_as_the_list_says() -> None:
    assert Counter(case["kind"] for case in CASES) == KINDS
    names = {level for case in CASES for _, level in case["expected"]}
    assert {"first", "second", "final", "early", "days", "gap", "hours"} <= names
