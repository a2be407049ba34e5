"""The tasks of a call are claimed, ended and put back together; each in the states that its condition names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from jittask_prefect.ledger import digest_calls, transitions
from jittask_prefect.ledger.entry import Entry, find_entry, new_entry, owners_of

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
DONE: dict[str, Any] = {
    "status": "completed", "outcome": "completed", "message": "", "result": 3, "now": NOW, "returned": True,
}  # fmt: skip
FATES = ("pending", "executing", "completed", "error", "ended")


def written(connection: Connection, **statuses: str) -> None:
    """Tasks by their ids, each in a state; those at work are in a call of `me`."""
    for number, (task_id, status) in enumerate(statuses.items(), 1):
        values: dict[str, Any] = {
            "task_id": task_id, "app": "shop", "template": "tasks.T", "row_key": str(number), "nominal": NOW,
            "generation": 1, "due": NOW, "created": NOW, "status": status, "flow_run_id": "run", "batch": 1,
            "dirty": False,
        }  # fmt: skip
        if status == "executing":
            at_work = {"owner": "me", "lease_until": NOW, "started": NOW, "attempt": 1}
            values |= at_work
        assert transitions.enter(connection, new_entry(**values))


def found(connection: Connection, task_id: str) -> Entry:
    entry = find_entry(connection, task_id)
    assert entry is not None
    return entry


@pytest.mark.parametrize("wait", [False, True])
def test_only_waiting_tasks_are_claimed(connection: Connection, wait: bool) -> None:
    written(connection, **dict(zip("abcde", FATES, strict=True)), f="pending")
    ids = ["f", "e", "d", "c", "b", "a"]
    about = ("you", "other run", NOW, 25)
    assert digest_calls.claim_all(connection, ids, *about, wait=wait) == ["f", "a"]
    claimed = found(connection, "a")
    assert (claimed.status, claimed.owner, claimed.attempt) == ("executing", "you", 1)
    assert (claimed.flow_run_id, claimed.batch) == ("other run", 1)
    assert (claimed.progress, claimed.started) == ("claimed", NOW)
    assert found(connection, "b").owner == "me"


def test_all_end_together(connection: Connection) -> None:
    written(connection, a="executing", b="executing")
    assert digest_calls.finish_all(connection, ["a", "b"], "me", **DONE)
    for task_id in "ab":
        entry = found(connection, task_id)
        assert (entry.status, entry.returned_value, entry.owner) == (
            "completed",
            3,
            None,
        )


@pytest.mark.parametrize("other", ["pending", "completed", "error", "ended"])
def test_a_task_that_is_not_at_work_keeps_the_others_from_ending(
    connection: Connection, other: str
) -> None:
    written(connection, a="executing", b=other)
    assert not digest_calls.finish_all(connection, ["a", "b"], "me", **DONE)


def test_another_owners_task_keeps_the_others_from_ending(
    connection: Connection,
) -> None:
    written(connection, a="executing", b="executing")
    assert not digest_calls.finish_all(connection, ["a", "b"], "you", **DONE)
    assert not transitions.begin(connection, ["a", "b"], "you")
    assert not transitions.next_attempt(connection, ["a", "b"], "you")
    assert transitions.give_back(connection, ["a", "b"], "you") == 0
    assert found(connection, "a").status == "executing"


def test_a_call_begins_and_counts_as_a_whole(connection: Connection) -> None:
    written(connection, a="executing", b="executing", c="ended")
    assert transitions.begin(connection, ["a", "b"], "me")
    assert not transitions.begin(connection, ["a", "b", "c"], "me")
    assert transitions.next_attempt(connection, ["a", "b"], "me")
    assert [found(connection, each).attempt for each in "ab"] == [2, 2]
    assert {found(connection, each).progress for each in "ab"} == {"claimed"}


def test_the_tasks_of_a_call(connection: Connection) -> None:
    """Claimed at one instant by one owner, in one flow run."""
    written(connection, a="executing", b="executing", c="pending")
    later = NOW + timedelta(seconds=1)
    for task_id, row, owner, started in (
        ("d", "7", "me", later),
        ("e", "8", "you", NOW),
    ):
        transitions.enter(
            connection,
            new_entry(
                task_id=task_id, app="shop", template="tasks.T", row_key=row, nominal=NOW, generation=1, due=NOW,
                created=NOW, status="executing", flow_run_id="run", batch=1, owner=owner, started=started,
            ),
        )  # fmt: skip
    of_call = digest_calls.tasks_of(connection, found(connection, "a"))
    assert sorted(entry.task_id for entry in of_call) == ["a", "b"]


def test_tasks_are_put_back_without_an_attempt(connection: Connection) -> None:
    written(connection, a="executing", b="executing", c="ended")
    task = found(connection, "a")
    digest_calls.put_back(connection, task, ["b", "c"])
    back = found(connection, "b")
    assert (back.status, back.attempt, back.owner) == ("pending", 0, None)
    assert (back.flow_run_id, back.batch, back.dirty) == ("run", 1, False)
    assert back.started is None
    assert found(connection, "c").status == "ended"
    assert found(connection, "a").status == "executing"


def test_tasks_of_another_call_are_not_put_back(connection: Connection) -> None:
    written(connection, a="executing", b="executing")
    task = found(connection, "a")
    transitions.give_back(connection, ["b"], "me")
    about = ("me", "run", NOW + timedelta(seconds=1), 25)
    assert digest_calls.claim_all(connection, ["b"], *about, wait=True) == ["b"]
    digest_calls.put_back(connection, task, ["b"])
    assert found(connection, "b").status == "executing"


def test_who_has_tasks(connection: Connection) -> None:
    written(connection, a="executing", b="executing", c="ended")
    assert owners_of(connection, ["a", "b"]) == {"me"}
    assert owners_of(connection, ["a", "c"]) == {"me", None}
    assert owners_of(connection, []) == set()
