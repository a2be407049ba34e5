"""Late occurrences of a row: which run, and which are recorded as missed, by policy, grace and lookback."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jittask_prefect.elements.config import Missed
from jittask_prefect.rows.lateness import not_to_run
from jittask_prefect.schedule.series import Occurrence

NOW = datetime(2026, 3, 20, 8, tzinfo=UTC)
HOURS = (50, 3, 2, 0.01, -5)
"""How long ago each occurrence was due."""


def left_out(known: bool, shut: bool = False, **missed: Any) -> dict[float, str]:
    """The reasons, by the hours since an occurrence was due."""
    dues = {hours: NOW - timedelta(hours=hours) for hours in HOURS}
    found = [Occurrence(due, due) for due in dues.values()]
    until = NOW if known else None
    reasons = not_to_run(found, NOW, Missed(**missed), until, (), shut)
    return {hours: reasons[due] for hours, due in dues.items() if due in reasons}


LATER = "missed: a later occurrence is due too"
NONE = "missed: late, and missed.policy is none"
BEFORE = "missed: more than 86400 s ago"


@pytest.mark.parametrize(
    ("policy", "known", "expected"),
    [
        ("latest", False, {50: LATER, 3: LATER, 2: LATER}),
        ("all", False, {}),
        ("none", False, {50: NONE, 3: NONE, 2: NONE}),
        # What became due by a change of the row is never late, but old beyond `lookback`.
        ("latest", True, {50: BEFORE, 3: LATER, 2: LATER}),
        ("all", True, {50: BEFORE}),
        ("none", True, {50: BEFORE, 3: LATER, 2: LATER}),
    ],
)
def test_a_policy(policy: str, known: bool, expected: dict[float, str]) -> None:
    assert left_out(known, policy=policy) == expected


def test_grace_and_lookback_are_seconds() -> None:
    assert left_out(False, grace=3 * 3600) == {50: LATER}
    assert left_out(True, policy="all", lookback=2.5 * 3600).keys() == {50, 3}


def test_outside_the_hours_nothing_is_late_by_the_policy_none() -> None:
    assert NONE not in left_out(False, shut=True, policy="none").values()
