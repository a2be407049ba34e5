"""Digests: the rows that are due at one instant and have one value are a call, which commits as a whole or not at all."""

from __future__ import annotations

import json
import random
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
from shop import Shop, model_of, rows_task, utc
from sqlalchemy import insert, select, text, update

from jittask_prefect.ledger import transitions
from jittask_prefect.ledger.digest_calls import claim_all
from jittask_prefect.ledger.limits import Full
from jittask_prefect.ledger.tables import entries
from jittask_prefect.rows import batches, digest_rows
from jittask_prefect.running import process_end
from jittask_prefect.running.calls import Call, Work
from jittask_prefect.running.digests import DigestsOfInstant
from jittask_prefect.running.end import force_end
from jittask_prefect.running.executor import work_off
from jittask_prefect.running.outcome import Outcome, Run, Summary
from jittask_prefect.running.process_end import close
from jittask_prefect.running.run import execute_batch

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
DUE = "2026-03-02 10:00"
OWNED = """
from datetime import datetime
from pydantic import NaiveDatetime
from sqlalchemy.orm import registry
from sqlmodel import Field, Relationship, SQLModel, Text

class Base(SQLModel, registry=registry()):
    pass

class Bill(Base, table=True):
    id: int | None = Field(default=None, primary_key=True)
    status: str = "open"
    at: NaiveDatetime | None = None
    owner_id: int | None = Field(default=None, foreign_key="owner.id")
    count: int = 0
    told: str = Field(default="", sa_type=Text)
    owner: "Owner" = Relationship()

class Owner(Base, table=True):
    id: int | None = Field(default=None, primary_key=True)
    team: str | None = None
"""
TELL = """
import json
def customFunc(rows):
    keys = json.dumps([row.id for row in rows])
    for row in rows:
        row.count += 1
        row.told += keys
    return len(rows)
"""
BY_OWNER = {"by": "owner_id"}


@pytest.fixture
def digests(on: Make) -> Callable[..., Shop]:
    """A shop with a digest: bills by their owner, unless another `digest` is given."""

    def make(*, inner: str = TELL, app_json: Any = None, **keys: Any) -> Shop:
        task = rows_task("at", inner=inner, **{"digest": BY_OWNER, **keys})
        elements = {"models/Bill": model_of(OWNED), "tasks/Task": task}
        s = on(elements=elements, app_json=app_json or {})
        for owner, team in ((1, "a"), (2, "b"), (3, "a")):
            s.insert("owner", id=owner, team=team)
        return s

    return make


def bills(s: Shop, owners: dict[int, int | None], **more: Any) -> None:
    """Bills by key, each with its owner, due at ten."""
    with s.session() as session:
        for key, owner in owners.items():
            session.add(
                s.element("models.Bill")(id=key, at=TEN, owner_id=owner, **more)
            )
        session.commit()


def told(s: Shop) -> dict[int, list[int]]:
    """By key, the keys of the rows that were with it in its call."""
    with s.app.engine().connect() as connection:
        rows = connection.execute(text("SELECT id, told FROM bill ORDER BY id"))
        return {key: json.loads(keys) if keys else [] for key, keys in rows}


def together(s: Shop) -> list[list[int]]:
    """The calls, each with the keys of its rows; rows that no call had are left out."""
    return [list(keys) for keys in sorted({tuple(v) for v in told(s).values() if v})]


def statuses(s: Shop) -> dict[int, str]:
    return {int(e.row_key): e.outcome or e.status for e in s.entries()}


# Which rows are together


def test_rows_of_one_owner_are_a_call(digests: Make) -> None:
    s = digests()
    bills(s, {1: 1, 2: 2, 3: 1, 4: 2, 5: 1, 11: 1, 6: 3})
    s.sync()
    [run] = s.api.all_runs.values()
    assert run["parameters"] == {"template": "tasks.Task", "due": utc(DUE).isoformat()}
    outcomes = s.work(DUE)
    assert together(s) == [[1, 3, 5, 11], [2, 4], [6]]
    assert [o.outcome for o in outcomes] == ["completed"] * 7
    found = {e.row_key: (e.status, e.attempt, e.returned_value) for e in s.entries()}
    assert found["11"] == ("completed", 1, 4)
    assert found["6"] == ("completed", 1, 1)
    assert len({e.task_id for e in s.entries()}) == 7
    assert run["state_type"] == "COMPLETED"
    assert s.api.table(run["id"])[0]["taskId"] in {e.task_id for e in s.entries()}


def test_all_rows_are_a_call(digests: Make) -> None:
    s = digests(digest={})
    bills(s, {1: 1, 2: 2, 3: None})
    s.sync()
    s.work(DUE)
    assert together(s) == [[1, 2, 3]]


def test_rows_by_a_column_of_another_row(digests: Make) -> None:
    """Owners 1 and 3 are of one team; a row without an owner has no team."""
    s = digests(digest={"by": "owner__team"})
    bills(s, {1: 1, 2: 2, 3: 3, 4: None, 5: None})
    s.sync()
    s.work(DUE)
    assert together(s) == [[1, 3], [2], [4, 5]]


def test_other_instants_are_other_calls(digests: Make) -> None:
    s = digests()
    bills(s, {1: 1, 2: 1})
    s.save(id=3, at=TEN + timedelta(minutes=1), owner_id=1)
    s.sync()
    s.work("2026-03-02 10:01")
    assert together(s) == [[1, 2], [3]]


def test_the_value_counts_that_the_row_has_at_its_due_time(digests: Make) -> None:
    s = digests()
    bills(s, {1: 1, 2: 2})
    s.sync()
    s.raw("UPDATE bill SET owner_id = 2 WHERE id = 1")
    s.work(DUE)
    assert together(s) == [[1, 2]]


def test_five_hundred_rows_in_a_call_at_most(digests: Make) -> None:
    s = digests(digest={})
    bills(s, dict.fromkeys(range(1, 502), 1))
    s.sync()
    s.work(DUE)
    assert together(s) == [list(range(1, 501)), [501]]


def test_a_row_that_joins_the_waiting_flow_run(digests: Make) -> None:
    s = digests()
    bills(s, {1: 1})
    s.sync()
    bills(s, {2: 1})
    s.sync()
    assert len(s.api.all_runs) == 1
    s.work(DUE)
    assert together(s) == [[1, 2]]


def test_all_rows_of_an_instant_share_a_flow_run(digests: Make) -> None:
    """Several workers, and more rows than a batch has, would else share an owner's rows out."""
    s = digests()
    s.api.all_workers = 4
    bills(s, {key: key % 2 + 1 for key in range(1, 621)})
    s.sync()
    assert len(s.api.all_runs) == 1
    s.work(DUE)
    assert sorted(map(len, together(s))) == [310, 310]


def test_more_rows_than_a_flow_run_has(
    digests: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls of five, flow runs of twenty: 45 rows of one owner are nine calls in three flow runs."""
    monkeypatch.setattr(digest_rows, "CALL_SIZE", 5)
    monkeypatch.setattr(batches, "DIGEST_SIZE", 20)
    monkeypatch.setattr(DigestsOfInstant, "size", 20)
    s = digests(inner=TELL, digest={})
    bills(s, dict.fromkeys(range(101, 146), 1))
    s.sync()
    assert len(s.api.all_runs) == 3
    s.work(DUE)
    expected = [list(range(first, first + 5)) for first in range(101, 146, 5)]
    assert together(s) == expected
    assert {e.attempt for e in s.entries()} == {1}


def test_calls_by_chance(digests: Make) -> None:
    """Owners, ends and changes by chance; the calls are counted here by hand."""
    chance = random.Random(19)
    s = digests(filter="Q(status='open')")
    owners = {key: chance.choice([None, 1, 2, 3]) for key in range(1, 61)}
    bills(s, owners)
    s.sync()
    paid, gone, ended = (set(chance.sample(range(1, 61), 6)) for _ in range(3))
    for key in ended:
        [task] = s.entries(row_key=str(key))
        force_end(s.app, lambda: s.api, task.task_id, lambda: s.now)
    for key in paid:
        s.raw("UPDATE bill SET status = 'paid' WHERE id = :id", id=key)
    for key in gone:
        s.raw("DELETE FROM bill WHERE id = :id", id=key)
    s.work(DUE)
    left = [key for key in owners if key not in paid | gone | ended]
    expected = [[key for key in left if owners[key] == o] for o in (None, 1, 2, 3)]
    assert together(s) == sorted(filter(None, expected))


# Which rows are not in a call


def test_a_row_that_is_not_due_any_more_is_left_out(digests: Make) -> None:
    s = digests(filter="Q(status='open')")
    bills(s, dict.fromkeys(range(1, 6), 1))
    s.sync()
    s.raw("UPDATE bill SET status = 'paid' WHERE id = 2")
    s.raw("DELETE FROM bill WHERE id = 3")
    s.raw("UPDATE bill SET at = '2026-03-05 10:00:00' WHERE id = 4")
    s.work(DUE)
    assert together(s) == [[1, 5]]
    assert statuses(s) == {
        1: "completed",
        2: "superseded",
        3: "superseded",
        4: "superseded",
        5: "completed",
    } | {4: "pending"}  # planned anew, for the fifth
    assert sorted(e.outcome or e.status for e in s.entries(row_key="4")) == [
        "pending",
        "superseded",
    ]


def test_a_call_without_a_row_that_is_due_calls_nothing(digests: Make) -> None:
    s = digests(inner="def customFunc(rows):\n    raise ValueError('called')\n")
    bills(s, {1: 1, 2: 1})
    s.sync()
    s.raw("DELETE FROM bill")
    assert [o.outcome for o in s.work(DUE)] == ["superseded", "superseded"]


def test_a_row_that_was_ended_before_is_not_in_the_call(digests: Make) -> None:
    s = digests()
    bills(s, {1: 1, 2: 1, 3: 1})
    s.sync()
    [task] = s.entries(row_key="2")
    force_end(s.app, lambda: s.api, task.task_id, lambda: s.now)
    s.work(DUE)
    assert together(s) == [[1, 3]]
    assert statuses(s) == {1: "completed", 2: "forced", 3: "completed"}


def test_a_date_that_cannot_be_read_spoils_its_own_row(digests: Make) -> None:
    s = digests()
    if s.app.engine().dialect.name != "sqlite":
        pytest.skip("other databases refuse such a date")
    bills(s, {1: 1, 2: 1, 3: 1})
    s.sync()
    s.raw("UPDATE bill SET at = 'soon' WHERE id = 2")
    s.work(DUE)
    assert together(s) == [[1, 3]]
    [bad] = s.entries(row_key="2")
    assert (bad.status, bad.outcome) == ("error", "failed")
    assert "the row cannot be read" in bad.message


def test_a_late_row_is_missed_alone(digests: Make) -> None:
    s = digests(missed={"policy": "none", "grace": 60})
    bills(s, {1: 1, 2: 1})
    s.sync()
    s.at("2026-03-02 10:30")
    bills(s, {3: 1})  # known since now: not late
    s.sync()
    s.work()
    assert together(s) == [[3]]
    assert statuses(s) == {1: "missed", 2: "missed", 3: "completed"}


# As a whole


FAIL_ON_300 = """
def customFunc(rows):
    for number, row in enumerate(rows, 1):
        row.count += 1
        if number == 300:
            raise ValueError("the 300th row")
"""


def test_a_function_that_fails_on_its_300th_row(digests: Make) -> None:
    s = digests(inner=FAIL_ON_300)
    bills(s, {key: 1 + key // 400 for key in range(1, 500)})
    s.sync()
    s.work(DUE)
    found = statuses(s)
    assert {found[key] for key in range(1, 400)} == {"failed"}
    assert {found[key] for key in range(400, 500)} == {"completed"}
    counts = {s.row_count(key) for key in (1, 299, 300, 301, 399)}
    assert counts == {0}
    assert s.row_count(400) == s.row_count(499) == 1
    assert {e.message for e in s.entries(status="error")} == {
        "error: ValueError: the 300th row"
    }


FAIL_ONCE = """
tried = []
def customFunc(rows):
    tried.append([row.id for row in rows])
    for row in rows:
        row.count += 1
    if len(tried) == 1:
        raise ValueError("once")
"""


def test_a_retry_is_one_of_the_whole_call(digests: Make) -> None:
    s = digests(inner=FAIL_ONCE, retries=1)
    bills(s, {1: 1, 2: 1, 3: 2})
    s.sync()
    s.work(DUE)
    assert statuses(s) == {1: "completed", 2: "completed", 3: "completed"}
    assert {int(e.row_key): e.attempt for e in s.entries()} == {1: 2, 2: 2, 3: 1}
    assert [s.row_count(key) for key in (1, 2, 3)] == [1, 1, 1]


def test_rows_that_were_left_out_of_a_call_that_fails(digests: Make) -> None:
    """They did not fail: no function had them."""
    inner = "def customFunc(rows):\n    raise ValueError('no')\n"
    s = digests(inner=inner)
    bills(s, {1: 1, 2: 1, 3: 1})
    s.sync()
    s.raw("DELETE FROM bill WHERE id = 2")
    s.raw("UPDATE bill SET at = '2026-03-05 10:00:00' WHERE id = 3")
    s.work(DUE)
    assert statuses(s) == {1: "failed", 2: "superseded", 3: "pending"}
    [gone] = s.entries(row_key="2")
    assert gone.anchor is None  # a later row of that key has a past of its own
    assert [e.due.day for e in s.entries(row_key="3", status="pending")] == [5]


def test_a_call_beyond_its_time_limit(digests: Make) -> None:
    inner = (
        "import time\n"
        "def customFunc(rows):\n"
        "    for row in rows: row.count += 1\n"
        "    time.sleep(1)\n"
    )
    s = digests(inner=inner, timeout=0.3)
    bills(s, {1: 1, 2: 1})
    s.sync()
    s.work(DUE)
    assert statuses(s) == {1: "timeout", 2: "timeout"}
    assert [s.row_count(key) for key in (1, 2)] == [0, 0]


def test_the_next_occurrences_of_all_rows(digests: Make) -> None:
    s = digests(repeat={"repeatType": "day"})
    bills(s, {1: 1, 2: 1, 3: 2})
    s.sync()
    s.work(DUE)
    due = {(e.row_key, e.due.day) for e in s.entries(status="pending")}
    assert due == {("1", 3), ("2", 3), ("3", 3)}
    s.sync()
    s.work("2026-03-03 10:00")
    assert [s.row_count(key) for key in (1, 2, 3)] == [2, 2, 2]


def test_a_function_that_changes_the_dates_of_its_rows(digests: Make) -> None:
    inner = (
        "from datetime import timedelta\n"
        "def customFunc(rows):\n"
        "    for row in rows:\n"
        "        row.count += 1\n"
        "        row.at += timedelta(days=1)\n"
    )
    s = digests(inner=inner)
    bills(s, {1: 1, 2: 1})
    s.sync()
    s.work(DUE)
    assert {(e.row_key, e.due.day) for e in s.entries(status="pending")} == {
        ("1", 3),
        ("2", 3),
    }


# Ends


DURING = """
from digest_hook import during
CALLED = []
def customFunc(rows):
    CALLED.append([row.id for row in rows])
    if len(CALLED) == 1:
        during()
    for row in rows:
        row.count += 1
        row.told += str(CALLED[-1])
"""


SLOWLY = """
import time
def customFunc(rows):
    for row in rows:
        row.count += 1
    time.sleep(0.03)
"""
DURING_SECOND = """
from digest_hook import during
CALLED = []
def customFunc(rows):
    CALLED.append(len(rows))
    if len(CALLED) == 1:
        raise ValueError("first")
    if len(CALLED) == 2:
        during()
"""


@pytest.fixture
def during(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Have something done by others while the first call is at work, before the call has written."""

    hook: Any = ModuleType("digest_hook")
    acts: list[Callable[[], object]] = []
    hook.during = lambda: acts[0]()
    monkeypatch.setitem(sys.modules, "digest_hook", hook)

    def at_work(act: Callable[[], object]) -> None:
        acts.append(act)

    return at_work


def end_at_work(s: Shop, *keys: int) -> list[str]:
    """End tasks at work in the ledger, as another process does; the rows that wait again."""
    tasks = [s.entries(row_key=str(key))[0] for key in keys]
    assert {task.status for task in tasks} == {"executing"}
    closed = close(s.app, "", tasks, "ended: forced end", lambda: s.now)
    assert [task.row_key for task in closed.ended] == list(map(str, keys))
    return sorted(task.row_key for task in closed.left)


def test_one_row_is_ended_while_its_call_is_at_work(
    digests: Make, during: Callable[..., None]
) -> None:
    """The call rolls back, the row ends, and the others begin again at once, without an attempt counted."""
    s = digests(inner=DURING, retries=0)
    left: list[str] = []
    during(lambda: left.extend(end_at_work(s, 2)))
    bills(s, {1: 1, 2: 1, 3: 1, 4: 2})
    s.sync()
    [run] = s.api.all_runs.values()
    s.work(DUE)
    assert left == ["1", "3"]
    assert statuses(s) == {1: "completed", 2: "forced", 3: "completed", 4: "completed"}
    assert {int(e.row_key): e.attempt for e in s.entries()} == {1: 1, 2: 1, 3: 1, 4: 1}
    assert together(s) == [[1, 3], [4]]
    assert [s.row_count(key) for key in (1, 2, 3, 4)] == [1, 0, 1, 1]
    assert run["state_type"] == "COMPLETED"
    table = {row["row"]: row["outcome"] for row in s.api.table(run["id"])}
    assert table == {
        "1": "completed",
        "2": "forced",
        "3": "completed",
        "4": "completed",
    }


def test_a_row_is_ended_in_its_second_attempt(
    digests: Make, during: Callable[..., None]
) -> None:
    """The first attempt has failed and counts; the second does not."""
    s = digests(inner=DURING_SECOND, retries=1)
    during(lambda: end_at_work(s, 1))
    bills(s, {1: 1, 2: 1})
    s.sync()
    s.work(DUE)
    assert statuses(s) == {1: "forced", 2: "completed"}
    assert s.entries(row_key="2")[0].attempt == 2


def test_a_call_of_which_a_row_was_ended_between_claim_and_begin(
    digests: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = digests(rate="1000/second")
    bills(s, {1: 1, 2: 1})
    s.sync()
    real, waits = transitions.begin, [True]

    def begin(connection: Any, ids: Any, owner: str) -> bool:
        if waits.pop() if waits else False:
            connection.rollback()
            end_at_work(s, 1)
        return real(connection, ids, owner)

    monkeypatch.setattr(transitions, "begin", begin)
    s.work(DUE)
    assert statuses(s) == {1: "forced", 2: "completed"}
    assert together(s) == [[2]]
    assert s.entries(row_key="2")[0].attempt == 1


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("server", ["sqlite"], indirect=True)
def test_where_sqlite_is_locked_the_others_begin_again_after_the_kill(
    digests: Make, monkeypatch: pytest.MonkeyPatch, retries: int
) -> None:
    """The worker may write the death of all rows down before the end of the one is written."""
    monkeypatch.setattr(process_end, "LOCKED_MS", 50)
    s = digests(retries=retries)
    bills(s, {1: 1, 2: 1, 3: 1})
    s.sync()
    work = work_of(s)
    assert DigestsOfInstant(work, utc(DUE)).claim("me") is not None
    with s.app.engine().begin() as connection:
        ids = [e.task_id for e in s.entries()]
        assert transitions.begin(connection, ids, "me")
    with s.app.engine().connect() as function:
        function.exec_driver_sql("BEGIN IMMEDIATE")

        def killed(_task: Any, now: datetime, _went_on: object) -> None:
            function.rollback()
            for entry in s.entries(status="executing"):
                with s.app.engine().begin() as worker:
                    if not transitions.retry(worker, entry, retries):
                        assert transitions.fail(worker, entry, now)

        monkeypatch.setattr(process_end, "kill", killed)
        [task] = s.entries(row_key="2")
        closed = close(s.app, "", [task], "ended: forced end", lambda: s.now)
        assert sorted(entry.row_key for entry in closed.left) == ["1", "3"]
    # A row that waits for its retry by then is ended by the next look of `forcedEnd`.
    assert closed.ended == ([] if retries else [task])
    force_end(s.app, lambda: s.api, task.task_id, lambda: s.now)
    assert statuses(s) == {1: "pending", 2: "forced", 3: "pending"}
    assert {e.attempt for e in s.entries(status="pending")} == {0}
    s.sync()
    s.work()
    assert together(s) == [[1, 3]]


def test_cancel_ends_the_whole_call(digests: Make, during: Callable[..., None]) -> None:
    s = digests(inner=DURING)
    during(lambda: end_at_work(s, 1, 2))
    bills(s, {1: 1, 2: 1, 3: 2})
    s.sync()
    s.work(DUE)
    assert statuses(s) == {1: "forced", 2: "forced", 3: "completed"}
    assert [s.row_count(key) for key in (1, 2, 3)] == [0, 0, 1]


def test_ends_beside_several_executors(digests: Make) -> None:
    """Whoever writes several tasks locks them in one order: nobody meets a deadlock, and each row is done once."""
    s = digests(inner=SLOWLY)
    if s.app.engine().dialect.name == "sqlite":
        pytest.skip("one writer at a time")
    bills(s, {key: key % 3 + 1 for key in range(1, 91)})
    s.sync()
    work, chance = work_of(s), random.Random(7)
    over = threading.Event()

    def end_some() -> None:
        while not over.wait(0.02):
            open_ = [e for e in s.entries() if e.status in ("pending", "executing")]
            for task in chance.sample(open_, min(1, len(open_))):
                close(s.app, "", [task], "ended: forced end", lambda: s.now)

    calls = [DigestsOfInstant(work, utc(DUE), helper) for helper in range(3)]
    executors = [threading.Thread(target=work_off, args=(work, c)) for c in calls]
    ender = threading.Thread(target=end_some)
    for thread in (ender, *executors):
        thread.start()
    for thread in executors:
        thread.join(120)
    over.set()
    ender.join(60)
    work_off(work, DigestsOfInstant(work, utc(DUE)))
    found = statuses(s)
    assert set(found.values()) <= {"completed", "forced"}
    assert {key: s.row_count(key) for key in found} == {
        key: int(how == "completed") for key, how in found.items()
    }
    assert not [e for e in s.entries() if e.owner]


def test_retry_of_the_flow_run_has_its_failed_rows_again(digests: Make) -> None:
    s = digests(inner=FAIL_ONCE)
    bills(s, {1: 1, 2: 1, 3: 2})
    s.sync()
    s.work(DUE)
    assert statuses(s) == {1: "failed", 2: "failed", 3: "completed"}
    work = work_of(s)
    work_off(work, DigestsOfInstant(work, utc(DUE)))
    assert statuses(s) == {1: "completed", 2: "completed", 3: "completed"}
    assert [s.row_count(key) for key in (1, 2, 3)] == [1, 1, 1]
    assert s.entries(row_key="1")[0].attempt == 2


def test_retry_holds_where_the_first_claim_is_undone(digests: Make) -> None:
    """Row 2 failed. Row 1 was superseded in the claim by a later task of the row, so that the claim was made again."""
    s = digests(digest={}, inner=FAIL_ONCE)
    bills(s, {1: 1, 2: 1})
    s.sync()
    s.work(DUE)
    assert statuses(s) == {1: "failed", 2: "failed"}
    [first, _] = s.entries()
    values = {"status": "pending", "outcome": None, "finished": None}
    later = {"task_id": "later", "generation": 2, **values}
    with s.app.engine().begin() as connection:
        mine = entries.c.task_id == first.task_id
        connection.execute(update(entries).where(mine).values(**values))
        connection.execute(insert(entries), [first.values() | later])

    work = work_of(s)
    work_off(work, DigestsOfInstant(work, utc(DUE)))
    ends = {(e.row_key, e.generation): e.outcome for e in s.entries()}
    assert ends == {("1", 1): "superseded", ("1", 2): "completed", ("2", 1): "completed"}  # fmt: skip
    assert [s.row_count(key) for key in (1, 2)] == [1, 1]


def test_another_process_has_a_task_of_the_call(digests: Make) -> None:
    """The list is read again, so that the rows with one value stay together."""
    s = digests()
    bills(s, {1: 1, 2: 1, 3: 1, 4: 2})
    s.sync()
    work = work_of(s)
    calls = DigestsOfInstant(work, utc(DUE))
    calls.read_ahead()
    with s.app.engine().begin() as connection:
        about = ("other", work.run.id, s.now, 25)
        ids = [e.task_id for e in s.entries() if e.row_key in ("2", "4")]
        assert claim_all(connection, ids, *about, wait=True) == ids
    call = calls.claim("me")
    assert isinstance(call, Call)
    assert [e.row_key for e in call.tasks] == ["1", "3"]
    assert {e.owner for e in s.entries(status="executing")} == {"me", "other"}
    assert calls.claim("me") is None


def work_of(s: Shop) -> Work:
    s.at(DUE)
    [run_id] = s.api.all_runs
    about = (s.app, "", s.app.template("tasks.Task"), Run(run_id, s.now))
    return Work(*about, lambda: s.now, lambda _seconds: None, Summary(), None)


def test_a_call_is_put_off_beside_somebody_who_ends_its_tasks(
    shop: Make, url: Callable[[str], str]
) -> None:
    """Both lock the tasks in the order of their ids: whoever waits for the first task holds none of the others."""
    elements = {
        "models/Bill": model_of(),
        "tasks/Task": rows_task("at", inner=TELL, digest={}),
    }
    s = shop(elements=elements, app_json={"database": url("postgresql")})
    with s.session() as session:
        for key in range(12):
            session.add(s.element("models.Bill")(id=key, at=TEN, count=0))
        session.commit()
    s.sync()
    calls = DigestsOfInstant(work_of(s), utc(DUE))
    call = calls.claim("me")
    assert isinstance(call, Call)
    first, *others = sorted(call.ids)
    engine = s.app.engine()
    putting = threading.Thread(target=calls.put_off, args=(call, "me"))
    with engine.connect() as ender:
        ender.execute(
            select(entries).where(entries.c.task_id == first).with_for_update()
        )
        putting.start()
        waits = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        with engine.connect() as looker:
            while not looker.execute(waits).scalar_one():
                looker.rollback()
        free = select(entries.c.task_id).where(entries.c.task_id.in_(others))
        assert len(ender.execute(free.with_for_update(skip_locked=True)).all()) == 11
    putting.join()
    assert {e.status for e in s.entries()} == {"pending"}


def test_a_call_counts_as_one(digests: Make) -> None:
    """Of the app's two places a call of three rows takes one."""
    s = digests(app_json={"maxConcurrency": 2}, concurrency={"limit": 2})
    bills(s, {1: 1, 2: 1, 3: 1, 4: 2, 5: 3})
    s.sync()
    calls = DigestsOfInstant(work_of(s), utc(DUE))
    first, second, third = (calls.claim(owner) for owner in ("a", "b", "c"))
    assert isinstance(first, Call) and len(first.tasks) == 3
    assert isinstance(second, Call)
    assert isinstance(third, Full)
    assert len(s.entries(status="executing")) == 4
    assert s.entries(row_key="5")[0].attempt == 0  # rolled back


def test_a_failed_call_is_told_as_one(digests: Make) -> None:
    s = digests(inner="def customFunc(rows):\n    raise ValueError('no')\n")
    bills(s, {1: 1, 2: 1, 3: 2})
    s.sync()
    [run_id] = s.api.all_runs
    s.at(DUE)
    told: list[list[str]] = []

    def tell(tasks: Any, outcome: Outcome) -> None:
        assert outcome.outcome == "failed"
        told.append([task.row_key for task in tasks])

    about = (s.app, "tasks.Task", utc(DUE), Run(run_id, s.now), lambda: s.now)
    execute_batch(*about, told=tell)
    assert told == [["1", "2"], ["3"]]


# Opening hours


def test_a_late_call_waits_for_its_opening_hours(digests: Make) -> None:
    s = digests(window={"from": "08:00", "to": "18:00"})
    bills(s, {1: 1, 2: 1, 3: 2})
    s.sync()
    assert s.work("2026-03-02 20:00") == []
    assert {e.not_before for e in s.entries()} == {utc("2026-03-03 08:00")}
    s.sync("2026-03-03 08:00")
    s.work()
    assert together(s) == [[1, 2], [3]]
    assert {e.attempt for e in s.entries()} == {1}


def test_a_failed_call_waits_for_its_opening_hours_as_a_whole(digests: Make) -> None:
    hours = {"from": "08:00", "to": "10:01"}
    s = digests(window=hours, inner=FAIL_ONCE, retries=1, retryDelay=60)
    bills(s, {1: 1, 2: 1})
    s.sync()
    s.work(DUE)
    waits = [(e.status, e.attempt, e.not_before) for e in s.entries()]
    assert waits == [("pending", 1, utc("2026-03-03 08:00"))] * 2
    s.sync("2026-03-03 08:00")
    s.work()
    assert [(e.status, e.attempt) for e in s.entries()] == [("completed", 2)] * 2
    assert [s.row_count(key) for key in (1, 2)] == [1, 1]


# By a person


def test_a_run_for_one_row_gets_a_list(digests: Make) -> None:
    s = digests()
    bills(s, {1: 1, 2: 1})
    service = s.app.getElement("services.TaskSvc")
    assert service is not None
    s.sync()
    [task] = s.entries(row_key="1")
    outcome = s.at(DUE).run(task)
    assert outcome.status == "completed"
    assert together(s) == [[1]]


def test_a_function_of_create_timer_task_has_its_arguments(digests: Make) -> None:
    inner = TELL + "\ndef other(month):\n    return month\n"
    s = digests(inner=inner)
    service = s.app.getElement("services.TaskSvc")
    service.createTimerTask(
        "tasks.Task", DUE, "other", "tasks.DateFieldType", {"month": 3}
    )
    [outcome] = s.work(DUE)
    assert outcome.result == 3
