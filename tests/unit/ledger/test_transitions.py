"""Each transition lets a task through in the states that its condition names, and leaves it alone in all others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from jittask_prefect.ledger import (
    handover_marks,
    limits,
    planned_rows,
    retries,
    state_table,
    transitions,
)
from jittask_prefect.ledger.entry import (
    Entry,
    find_entry,
    living_tasks,
    new_entry,
    without_return,
)
from jittask_prefect.ledger.tables import entries
from jittask_prefect.ledger.twins import end_twins

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
STATUSES = ("pending", "executing", "completed", "error", "ended")
Call = Callable[[Connection, Entry], Any]
DONE: dict[str, Any] = {
    "status": "completed", "outcome": "completed", "message": "", "result": None, "now": NOW,
}  # fmt: skip


@pytest.fixture
def connection(ledger: Engine) -> Iterator[Connection]:
    """A connection to an empty ledger, whose changes are rolled back."""
    with ledger.connect() as found, found.begin() as transaction:
        yield found
        transaction.rollback()


def task(status: str = "pending", **about: Any) -> Entry:
    values = {
        "task_id": "t", "app": "shop", "template": "tasks.T", "row_key": "1", "nominal": NOW, "generation": 1,
        "anchor": NOW, "due": NOW, "created": NOW, "status": status, "flow_run_id": "run", "dirty": False,
        "start_value": datetime(2026, 3, 2), "attempt": 1,
    }  # fmt: skip
    if status == "executing":
        values |= {"owner": "me", "lease_until": NOW, "started": NOW}
    if status in ("completed", "error", "ended"):
        values |= {"finished": NOW, "outcome": "failed"}
    return new_entry(**(values | about))


def changes(connection: Connection, entry: Entry, call: Call) -> bool:
    """Whether a call changes a task that is written down just before."""
    assert transitions.enter(connection, entry)
    before = find_entry(connection, entry.task_id)
    call(connection, entry)
    return find_entry(connection, entry.task_id) != before


# The transition, the states that it lets through, and the state after it.
TRANSITIONS: dict[str, tuple[Call, str, str]] = {
    "claim": (
        lambda c, e: transitions.claim(c, e.task_id, "new", "other", NOW, 25),
        "pending",
        "executing",
    ),
    "claim by Retry of the run in which the task failed": (
        lambda c, e: transitions.claim(c, e.task_id, "new", "run", NOW, 25),
        "pending error",
        "executing",
    ),
    "claim in a batch": (
        lambda c, e: transitions.claim(
            c, e.task_id, "new", "other", NOW, 25, in_batch=True
        ),
        "pending",
        "executing",
    ),
    "renew": (
        lambda c, e: transitions.renew(c, "me", NOW, 25),
        "executing",
        "executing",
    ),
    "renew of another owner": (
        lambda c, e: transitions.renew(c, "you", NOW, 25),
        "",
        "",
    ),
    "next attempt": (
        lambda c, e: transitions.next_attempt(c, [e.task_id], "me"),
        "executing",
        "executing",
    ),
    "next attempt of another owner": (
        lambda c, e: transitions.next_attempt(c, [e.task_id], "you"),
        "",
        "",
    ),
    "finish": (
        lambda c, e: transitions.finish(c, e.task_id, "me", **DONE),
        "executing",
        "completed",
    ),
    "finish of another owner": (
        lambda c, e: transitions.finish(c, e.task_id, "you", **DONE),
        "",
        "",
    ),
    "give back": (
        lambda c, e: transitions.give_back(c, [e.task_id], "me"),
        "executing",
        "pending",
    ),
    "give back of another owner": (
        lambda c, e: transitions.give_back(c, [e.task_id], "you"),
        "",
        "",
    ),
    "retry": (lambda c, e: transitions.retry(c, e, 1), "executing", "pending"),
    "retry after another owner's claim": (
        lambda c, e: transitions.retry(c, replace(e, owner="you"), 1),
        "",
        "",
    ),
    "retry without retries": (lambda c, e: transitions.retry(c, e, 0), "", ""),
    "retry a batch": (
        lambda c, e: retries.retry_batch(c, "shop", "tasks.T", NOW, "run"),
        "error",
        "pending",
    ),
    "retry another batch": (
        lambda c, e: retries.retry_batch(c, "shop", "tasks.T", NOW, "other"),
        "",
        "",
    ),
    "retry of a lost run": (
        lambda c, e: retries.retry_lost(c, "shop", "run", "tasks.T"),
        "error",
        "pending",
    ),
    "retry of another lost run": (
        lambda c, e: retries.retry_lost(c, "shop", "other"),
        "",
        "",
    ),
    "end": (
        lambda c, e: transitions.end(
            c, e.task_id, outcome="forced", message="", now=NOW
        ),
        "pending",
        "ended",
    ),
    "end what is open": (
        lambda c, e: transitions.end(
            c,
            e.task_id,
            outcome="forced",
            message="",
            now=NOW,
            within=("pending", "executing"),
        ),
        "pending executing",
        "ended",
    ),
    "fail": (lambda c, e: transitions.fail(c, e, NOW), "executing", "error"),
    "fail after another owner's claim": (
        lambda c, e: transitions.fail(c, replace(e, owner="you"), NOW),
        "",
        "",
    ),
    "restore": (
        lambda c, e: transitions.restore(
            c,
            e.task_id,
            status="completed",
            outcome="completed",
            message="",
            run_id="run",
            started=NOW,
            finished=NOW,
        ),
        "pending",
        "completed",
    ),
    "supersede": (
        lambda c, e: planned_rows.supersede(c, [(e.task_id, "why")], NOW),
        "pending",
        "ended",
    ),
    "queue": (
        lambda c, e: limits.queue(
            c, limits.Full("queue", "full"), entries.c.task_id == e.task_id
        ),
        "pending",
        "pending",
    ),
    "the run was lost": (
        lambda c, e: handover_marks.run_lost(c, e.task_id, "run"),
        "pending",
        "pending",
    ),
    "another run was lost": (
        lambda c, e: handover_marks.run_lost(c, e.task_id, "other"),
        "",
        "",
    ),
    "cancel again": (
        lambda c, e: handover_marks.cancel_again(c, ["run"]),
        "ended",
        "ended",
    ),
    "leave a batch": (
        lambda c, e: handover_marks.batch_left(c, [e.task_id], "run"),
        "pending",
        "pending",
    ),
    "leave another batch": (
        lambda c, e: handover_marks.batch_left(c, [e.task_id], "other"),
        "",
        "",
    ),
    "join a batch": (
        lambda c, e: handover_marks.batch_joined(c, [e.task_id], 2, "other"),
        "pending",
        "pending",
    ),
}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_transition_has_its_condition(
    connection: Connection, name: str, status: str
) -> None:
    call, allowed, after = TRANSITIONS[name]
    changed = changes(connection, task(status), call)
    assert changed == (status in allowed.split())
    found = find_entry(connection, "t")
    assert found is not None and found.status == (after if changed else status)


@pytest.mark.parametrize("status", STATUSES)
def test_after_return_is_taken_once_for_each_end(
    connection: Connection, status: str
) -> None:
    transitions.enter(connection, task(status))
    taken = [transitions.take_return(connection, "t") for _ in range(3)]
    assert taken == [status in ("completed", "error", "ended"), False, False]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("attempt", [1, 2])
def test_a_run_is_noted_for_its_attempt_and_clean_while_the_task_waits(
    connection: Connection, status: str, attempt: int
) -> None:
    transitions.enter(connection, task(status, dirty=True, attempt=attempt))
    handover_marks.runs_made(connection, [(task(), "made")])
    found = find_entry(connection, "t")
    assert found is not None
    assert found.flow_run_id == ("made" if attempt == 1 else "run")
    assert found.dirty == (status != "pending" or attempt == 2)


@pytest.mark.parametrize("status", STATUSES)
def test_an_end_is_shown_where_there_is_one(
    connection: Connection, status: str
) -> None:
    transitions.enter(connection, task(status, dirty=True))
    handover_marks.end_shown(connection, ["t"])
    found = find_entry(connection, "t")
    assert found is not None
    assert found.dirty == (status in ("pending", "executing"))


def test_whoever_ends_a_task_claims_the_next_only_with_it(
    connection: Connection,
) -> None:
    transitions.enter(connection, task("executing"))
    transitions.enter(connection, task(task_id="u", row_key="2"))
    other = transitions.Following("u", "run", 25)
    assert not transitions.finish(connection, "t", "you", following=other, **DONE)
    assert not other.claimed
    assert transitions.finish(connection, "t", "me", following=other, **DONE)
    assert other.claimed
    found = find_entry(connection, "u")
    assert found is not None and (found.status, found.owner) == ("executing", "me")
    assert (found.attempt, found.batch, found.finished) == (2, 0, None)


@pytest.mark.parametrize("begun", [True, False])
def test_a_death_right_after_that_claim_counts_unless_the_begin_is_written_down(
    connection: Connection, begun: bool
) -> None:
    """Nothing tells the ledger whether the function had begun; with a `rate` each begin has a commit of its own."""
    transitions.enter(connection, task("executing"))
    transitions.enter(connection, task(task_id="u", row_key="2", attempt=0))
    following = transitions.Following("u", "run", 25, begun)
    assert transitions.finish(connection, "t", "me", following=following, **DONE)
    dead = find_entry(connection, "u")
    assert dead is not None
    assert transitions.retry(connection, dead, 0) is not begun
    assert transitions.fail(connection, dead, NOW) is begun
    after = find_entry(connection, "u")
    assert after is not None
    assert (after.status, after.attempt) == (("error", 1) if begun else ("pending", 0))


def two_apps(connection: Connection, *statuses: str, **about: Any) -> None:
    """The same tasks of two apps in one database."""
    for app in ("shop", "other"):
        for number, status in enumerate(statuses):
            key = str(number)
            made = task(status, task_id=f"{app}{key}", app=app, row_key=key, **about)
            assert transitions.enter(connection, made)


def of_apps(connection: Connection, name: str) -> list[Any]:
    """A column of each app's first task."""
    found = [find_entry(connection, f"{app}0") for app in ("shop", "other")]
    return [getattr(each, name) for each in found]


def test_two_apps_in_a_database_keep_apart(connection: Connection) -> None:
    two_apps(connection, "pending", "executing", owner="me", lease_until=NOW)
    rows = ("shop", ["tasks.T"], ["0", "1"])
    found = planned_rows.of_rows(connection, *rows)
    ids = {entry.task_id for of in found.values() for entry in of}
    assert ids == {"shop0", "shop1"}
    waits = ("shop", "tasks.T", "", 10)
    assert planned_rows.rows_that_wait(connection, *waits) == ["0"]
    planned_rows.forget_dates(connection, "shop", [("tasks.T", "0")])
    assert of_apps(connection, "start_value") == [None, datetime(2026, 3, 2)]
    planned_rows.end_lives(connection, "shop", [("tasks.T", "0")])
    assert of_apps(connection, "anchor") == [None, NOW]
    assert living_tasks(connection, "shop", NOW) == {"shop1"}


def test_the_limits_of_two_apps_are_their_own(connection: Connection) -> None:
    later = NOW + timedelta(seconds=20)
    two_apps(connection, "executing", "executing", lease_until=later)
    entry = find_entry(connection, "shop0")
    assert entry is not None
    assert limits.full(connection, entry, None, 2, NOW) is None
    wait = limits.Full("queue", "full")
    transitions.give_back(connection, ["shop1"], "me")
    assert limits.queue(connection, wait, entries.c.task_id == "shop1") == 1
    assert limits.waiting(connection, "shop", NOW)
    assert not limits.waiting(connection, "other", NOW)


def test_what_two_apps_have_left_is_their_own(connection: Connection) -> None:
    two_apps(connection, "error", batch=1)
    later = NOW + timedelta(minutes=2)
    left = without_return(connection, "shop", later)
    assert [entry.task_id for entry in left] == ["shop0"]
    retries.retry_batch(connection, "shop", "tasks.T", NOW, "run")
    assert of_apps(connection, "status") == ["pending", "error"]
    for app in ("shop", "other"):
        state_table.put(connection, app, "agreed", app)
    state_table.put(connection, "shop", "agreed", None)
    assert state_table.starting_with(connection, "shop", "ag") == {}
    assert state_table.get(connection, "other", "agreed") == "other"
    assert state_table.take_lease(connection, "shop", "sync", "a", NOW, 25)
    assert not state_table.take_lease(connection, "shop", "sync", "b", NOW, 25)
    assert state_table.take_lease(connection, "other", "sync", "b", NOW, 25)


def test_a_twin_is_of_the_same_app(connection: Connection) -> None:
    two_apps(connection, "completed")
    mine = task(task_id="new", app="third", row_key="0", generation=2)
    transitions.enter(connection, mine)
    assert end_twins(connection, mine, NOW) is None
    again = task(task_id="again", row_key="0", generation=2)
    transitions.enter(connection, again)
    assert end_twins(connection, again, NOW) == "done"
