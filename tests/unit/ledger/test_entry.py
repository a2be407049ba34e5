"""A task's id: the UUIDv5 of its identity, the same for whoever plans the task."""

from __future__ import annotations

import random
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from jittask_prefect.ledger.entry import identity, new_entry

SPACE = uuid.UUID("6f6d2f0e-6a59-4b0e-9d0c-6a6974746173")
NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)


def test_the_id_of_a_task_stays_what_it_is() -> None:
    """Ids stand in ledgers and in Prefect: another way to make them would run tasks again. By `sha1sum` and the bits of RFC 9562."""
    found = identity("shop", "tasks.Reminder", "17", NINE, 1)
    assert found == "337cf6c5-112c-5555-9691-a17975182b8f"


def test_the_instant_counts_not_its_zone() -> None:
    there = NINE.astimezone(timezone(timedelta(hours=8)))
    assert identity("a", "t", "1", there, 1) == identity("a", "t", "1", NINE, 1)


@pytest.mark.parametrize("seed", range(5))
def test_ids_are_those_of_the_standard_library(seed: int) -> None:
    rnd = random.Random(seed)
    for _ in range(200):
        key = "".join(chr(rnd.choice([65, 233, 0x4E2D, 0x1F600])) for _ in range(9))
        at, generation = (
            NINE + timedelta(seconds=rnd.randrange(10**7)),
            rnd.randrange(9),
        )
        name = "\x1f".join(["shop", "tasks.T", key, at.isoformat(), str(generation)])
        expected = str(uuid.uuid5(SPACE, name))
        assert identity("shop", "tasks.T", key, at, generation) == expected


def test_a_claimed_task_differs_by_its_run_and_its_attempt() -> None:
    at = datetime(2026, 3, 2, 9, tzinfo=UTC)
    task = new_entry(task_id="a", app="shop", template="tasks.X", due=at, created=at, batch=3, attempt=1)  # fmt: skip
    assert task.claimed_in("run") == replace(task, flow_run_id="run", attempt=2)
