"""The idempotency key of a task's next flow run: another key after each run that came to nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from jittask_prefect.ledger.entry import new_entry
from jittask_prefect.rows.flow_runs import run_key

TEN = datetime(2026, 3, 2, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("about", "key"),
    [
        ({}, "t"),
        ({"attempt": 1}, "t/1"),
        ({"attempt": 2}, "t/2"),
        ({"flow_run_id": "before"}, "t/before"),
        ({"attempt": 2, "flow_run_id": "before"}, "t/2/before"),
    ],
)
def test_task_attempt_and_previous_run_stand_in_the_key(
    about: dict[str, Any], key: str
) -> None:
    made = {"task_id": "t", "app": "shop", "template": "tasks.T", "due": TEN}
    assert run_key(new_entry(**made, created=TEN, **about)) == key
