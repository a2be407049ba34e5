"""The golden cases: answers of an independent brute force, never recomputed by the code under test."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jittask_prefect.schedule.timer import Timer

CASES = json.loads(Path(__file__).with_name("occurrences.json").read_text())["cases"]


@pytest.mark.parametrize(
    "case",
    CASES,
    ids=[f"{n}-{case['timerCfg']['timezone']}" for n, case in enumerate(CASES)],
)
def test_the_occurrences_are_those_of_the_brute_force(case: dict[str, Any]) -> None:
    timer = Timer(case["timerCfg"], calendar=case["calendar"])
    found = timer.occurrences(
        datetime.fromisoformat(case["after"]), datetime.fromisoformat(case["before"])
    )
    assert [f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" for at in found] == case[
        "expected"
    ]


def test_there_are_as_many_cases_as_the_file_says() -> None:
    assert len(CASES) == 80
