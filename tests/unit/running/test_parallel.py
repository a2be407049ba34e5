"""`parallel`: several rows of a batch at work at once in one process, each with what is its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from patience import PATIENCE
from shop import Shop, utc
from sqlalchemy import create_engine

from jittask_prefect.elements.databases import Databases
from jittask_prefect.ledger import transitions
from jittask_prefect.running import lease, process_end, team
from jittask_prefect.running.outcome import Run, Summary
from jittask_prefect.running.rows_of_instant import RowsOfInstant
from jittask_prefect.running.run import execute_batch

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
MEET = """
import threading
ALL = threading.Barrier(4)
SEEN = []
def customFunc(row):
    if row.id <= 4:
        ALL.wait(20)
    with app.session() as session:
        SEEN.append((row.id, session.get(type(row), row.id) is row, threading.current_thread().name))
    row.count += 1
"""
MEET_ASYNC = """
import asyncio
import threading
HERE, SEEN = [], []
async def customFunc(row):
    HERE.append(row.id)
    while len(HERE) < 4:
        await asyncio.sleep(0.01)
    with app.session() as session:
        SEEN.append((row.id, session.get(type(row), row.id) is row, threading.get_ident()))
    row.count += 1
"""
SLOW = """
import threading
GO, BEGUN = threading.Event(), threading.Semaphore(0)
def customFunc(row):
    row.count += 1
    BEGUN.release()
    if row.id == 1:
        GO.wait(60)
"""


def ready(make: Make, url: str, rows: int, *, limit: int = 8, **keys: Any) -> Shop:
    """Rows that are due at ten, in a batch; it is ten o'clock."""
    json = {"database": url, "maxConcurrency": limit}
    s = make(**{"dispatch": "batch", "parallel": 4, "app_json": json, **keys})
    for key in range(1, rows + 1):
        s.save(id=key, at=TEN)
    s.sync()
    return s.at("2026-03-02 10:00")


def batch(s: Shop, **keys: Any) -> Summary:
    """The flow run of the batch, in this process."""
    [run_id] = s.api.all_runs
    due, now = utc("2026-03-02 10:00"), s.now
    about = (s.app, "tasks.Task", due, Run(run_id, due), lambda: now)
    return execute_batch(*about, **{"sleep": lambda _seconds: None, **keys})


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def base(request: pytest.FixtureRequest, url: Callable[[str], str]) -> str:
    return url(request.param)


def test_rows_are_at_work_at_once_each_with_its_own_session(
    shop: Make, base: str
) -> None:
    s = ready(shop, base, 30, inner=MEET)
    assert str(batch(s)) == "30 rows: 30 done"
    assert [s.row_count(key) for key in range(1, 31)] == [1] * 30
    assert {(e.status, e.attempt) for e in s.entries()} == {("completed", 1)}
    seen = s.app.module("tasks.Task", "inner").SEEN
    assert sorted(key for key, own, _ in seen if own) == list(range(1, 31))


def test_async_functions_share_one_event_loop(shop: Make, base: str) -> None:
    s = ready(shop, base, 12, inner=MEET_ASYNC)
    assert str(batch(s)) == "12 rows: 12 done"
    seen = s.app.module("tasks.Task", "inner").SEEN
    assert len({loop for _, _, loop in seen}) == 1
    assert sorted(key for key, own, _ in seen if own) == list(range(1, 13))
    assert [s.row_count(key) for key in range(1, 13)] == [1] * 12


def test_with_one_row_at_a_time_no_thread_is_added(shop: Make) -> None:
    """`parallel` absent: the rows run one after the other, in the order of their keys."""
    s = ready(shop, "sqlite:///test.db", 5, parallel=1, inner=MEET.replace("4", "1"))
    assert [e.row_key for e, _ in batch(s).tasks] == ["1", "2", "3", "4", "5"]
    threads = {name for _, _, name in s.app.module("tasks.Task", "inner").SEEN}
    assert not [t for t in threading.enumerate() if t.name.startswith(team.THREAD)]
    assert len(threads) == 5


def test_a_failing_row_is_tried_again_and_leaves_the_others_alone(
    shop: Make, base: str
) -> None:
    inner = (
        "TRIED = []\ndef customFunc(row):\n    TRIED.append(row.id)\n    row.count += 1\n"
        "    if row.id == 3:\n        raise ValueError('three')\n"
    )
    s = ready(shop, base, 10, inner=inner, retries=1)
    summary = batch(s)
    assert str(summary) == "10 rows: 9 done, 1 failed"
    [(entry, outcome)] = summary.failed
    assert (entry.row_key, entry.attempt, outcome.message) == (
        "3",
        2,
        "error: ValueError: three",
    )
    assert s.row_count(3) == 0
    assert sorted(s.app.module("tasks.Task", "inner").TRIED) == sorted(
        [*range(1, 11), 3]
    )


def test_each_row_at_work_counts_for_the_limits(shop: Make, base: str) -> None:
    """With two slots of the app two rows are at work, and nobody gives up the rows that the others take."""
    at_work = (
        "import threading, time\nGATE, NOW, MOST = threading.Lock(), [], []\n"
        "def customFunc(row):\n    with GATE:\n        NOW.append(row.id)\n        MOST.append(len(NOW))\n"
        "    time.sleep(0.02)\n    with GATE:\n        NOW.remove(row.id)\n    row.count += 1\n"
    )
    s = ready(shop, base, 20, inner=at_work, limit=2)
    summary = batch(s)
    assert (str(summary), summary.queued) == ("20 rows: 20 done", "")
    assert max(s.app.module("tasks.Task", "inner").MOST) <= 2


def test_slots_that_become_free_are_taken_by_rows_beside_those_at_work(
    shop: Make, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of four slots are taken at first: the last rows meet, four at once."""
    monkeypatch.setattr(team, "FULL_SECONDS", 0)
    meet = (
        "import threading\nALL, FREE = threading.Barrier(4), []\n"
        "def customFunc(row):\n    if row.id == 2:\n        FREE.pop()()\n"
        "    if row.id > 5:\n        ALL.wait(20)\n    row.count += 1\n"
    )
    s = ready(shop, base, 9, inner=meet, limit=4)
    for key in (10, 11):
        s.save(id=key, at=datetime(2026, 3, 2, 9, 59))
    others = [s.entries(row_key=str(key))[0] for key in (10, 11)]
    with s.app.engine().begin() as connection:
        for other in others:
            about = (other.task_id, "elsewhere", "elsewhere", s.now, 25)
            assert transitions.claim(connection, *about)

    refused, full = threading.Event(), RowsOfInstant.full

    def watched(calls: RowsOfInstant, *about: Any) -> Any:
        found = full(calls, *about)
        if found:
            refused.set()
        return found

    def free() -> None:
        assert refused.wait(20)
        with s.app.engine().begin() as connection:
            for other in others:
                transitions.give_back(connection, [other.task_id], "elsewhere")

    monkeypatch.setattr(RowsOfInstant, "full", watched)
    s.app.module("tasks.Task", "inner").FREE.append(free)
    assert str(batch(s)) == "9 rows: 9 done"


def test_without_a_slot_the_rows_wait_as_those_of_one_executor(
    shop: Make, base: str
) -> None:
    s = ready(shop, base, 6, limit=1)
    s.save(id=9, at=datetime(2026, 3, 2, 9, 59))
    [other] = s.entries(row_key="9")
    with s.app.engine().begin() as connection:
        about = (other.task_id, "elsewhere", "elsewhere", s.now, 25)
        assert transitions.claim(connection, *about)
    assert str(batch(s)).startswith("not run: queued: 1 of 1 executions")
    assert {e.queue for e in s.entries(status="pending")} == {"waiting"}


def test_a_time_limit_leaves_one_row_and_the_others_go_on(
    shop: Make, base: str
) -> None:
    s = ready(shop, base, 8, inner=SLOW, timeout=1.0 * PATIENCE)
    summary = batch(s)
    s.app.module("tasks.Task", "inner").GO.set()
    assert str(summary) == "8 rows: 7 done, 1 failed"
    [(entry, outcome)] = summary.failed
    assert (entry.row_key, outcome.outcome) == ("1", "timeout")
    assert [s.row_count(key) for key in range(1, 9)] == [0, *[1] * 7]


ASYNC_LIMIT = """
import asyncio
ENDED = []
async def customFunc(row):
    row.count += 1
    if row.id == 1:
        try:
            await asyncio.sleep(60)
        finally:
            ENDED.append(row.id)
    await asyncio.sleep(0.05)
"""


def test_a_time_limit_cancels_one_coroutine_alone(shop: Make, base: str) -> None:
    s = ready(shop, base, 8, inner=ASYNC_LIMIT, timeout=1.0 * PATIENCE)
    assert str(batch(s)) == "8 rows: 7 done, 1 failed"
    assert s.app.module("tasks.Task", "inner").ENDED == [1]
    assert [s.row_count(key) for key in range(1, 9)] == [0, *[1] * 7]


BLOCKING = """
import time
async def customFunc(row):
    row.count += 1
    if row.id == 1:
        time.sleep(6)
"""


def test_a_coroutine_that_blocks_the_loop_costs_its_neighbours_and_no_later_row(
    shop: Make,
) -> None:
    s = ready(shop, "sqlite:///test.db", 9, inner=BLOCKING, timeout=2.0)
    summary = batch(s)
    failed = {entry.row_key for entry, _ in summary.failed}
    assert "1" in failed and len(failed) <= 4
    assert len(summary.tasks) == 9


EXITS = """
import sys
async def customFunc(row):
    row.count += 1
    if row.id == 2:
        sys.exit(3)
"""


def test_an_exit_in_a_coroutine_is_the_error_of_its_row(shop: Make) -> None:
    s = ready(shop, "sqlite:///test.db", 6, inner=EXITS)
    summary = batch(s)
    assert [(e.row_key, o.message) for e, o in summary.failed] == [
        ("2", "error: SystemExit: 3")
    ]
    assert len(summary.tasks) == 6


LEAVES_OPEN = """
from sqlalchemy import text
KEPT = []
async def customFunc(row):
    row.count += 1
    if row.id == 2:
        KEPT.append(app.engine().connect())
        KEPT[0].execute(text("SELECT 1"))
"""


def test_a_transaction_that_a_coroutine_leaves_open_is_rolled_back(
    shop: Make, url: Callable[[str], str]
) -> None:
    s = ready(shop, url("postgresql"), 6, inner=LEAVES_OPEN)
    summary = batch(s)
    [(entry, outcome)] = summary.failed
    assert entry.row_key == "2" and "left a transaction open" in outcome.message
    [kept] = s.app.module("tasks.Task", "inner").KEPT
    kept.close()


AROUND = """
import contextlib, contextvars
NAME = contextvars.ContextVar("name")
@contextlib.contextmanager
def sync():
    token = NAME.set("sync")
    yield
    NAME.reset(token)
@contextlib.asynccontextmanager
async def later():
    token = NAME.set("later")
    yield
    NAME.reset(token)
"""


@pytest.mark.parametrize("which", ["sync", "later"])
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_each_row_is_within_the_context_of_the_app(
    shop: Make, which: str, kind: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "around_each.py").write_text(AROUND)
    monkeypatch.syspath_prepend(str(tmp_path))
    inner = f"import around_each\n{kind} customFunc(row):\n    return around_each.NAME.get()\n"
    json = {"database": "sqlite:///test.db", "around": f"around_each:{which}"}
    s = ready(shop, "", 6, inner=inner, app_json=json)
    summary = batch(s)
    assert [outcome.result for _, outcome in summary.tasks] == [which] * 6


# A row that must be killed


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(team, "BESIDE_SECONDS", 10.0 * PATIENCE)
    yield


LOST = """
import threading
GO, BESIDE, BEGUN = threading.Event(), threading.Event(), threading.Semaphore(0)
DONE = []
def customFunc(row):
    row.count += 1
    BEGUN.release()
    (GO if row.id == 1 else BESIDE).wait(60)
    DONE.append(row.id)
"""


def test_a_row_that_is_ended_lets_the_rows_beside_end_and_no_other_begin(
    shop: Make, base: str, quick: None
) -> None:
    """The process takes no more rows, waits for those at work, then leaves; rows that nobody began wait again."""
    if base.startswith("sqlite"):
        pytest.skip("a writing row has the file to itself")
    s = ready(shop, base, 20, inner=LOST)
    inner, left = s.app.module("tasks.Task", "inner"), threading.Event()
    made: list[Summary] = []
    thread = threading.Thread(
        target=lambda: made.append(batch(s, lost=left.set)), daemon=True
    )
    thread.start()
    for _ in range(4):
        assert inner.BEGUN.acquire(timeout=20 * PATIENCE)
    [first] = s.entries(row_key="1")
    with s.app.engine().begin() as connection:
        about: dict[str, Any] = {"outcome": "forced", "message": "forced end"}
        within = ("executing",)
        assert transitions.end(
            connection, first.task_id, **about, now=s.now, within=within
        )
    assert not left.wait(1.0)
    inner.BESIDE.set()
    assert left.wait(20 * PATIENCE)
    assert len(inner.DONE) == 3
    inner.GO.set()
    thread.join(20 * PATIENCE)
    assert not inner.BEGUN.acquire(timeout=0.1)
    found = {e.row_key: e.status for e in s.entries()}
    assert sorted(found.values()) == ["completed"] * 3 + ["ended"] + ["pending"] * 16
    assert found["1"] == "ended" and s.row_count(1) == 0
    assert {e.owner for e in s.entries(status="pending")} == {None}


def test_the_rows_beside_get_five_seconds() -> None:
    assert team.BESIDE_SECONDS == 5


def test_an_error_of_an_executor_ends_the_run_once_the_others_have_ended(
    shop: Make, url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    s = ready(shop, url("postgresql"), 20)
    real, count = transitions.finish, threading.Semaphore(5)

    def finish(*args: Any, **keys: Any) -> bool:
        if not count.acquire(blocking=False):
            raise MemoryError("no room")
        return real(*args, **keys)

    monkeypatch.setattr(transitions, "finish", finish)
    with pytest.raises(MemoryError):
        batch(s)
    found = [e.status for e in s.entries()]
    assert found.count("completed") == 5 and "pending" in found


# Connections


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_small_pool_has_fewer_rows_at_work(
    shop: Make, url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Nothing waits for ever, whatever the pool: Types with `afterReturn` ask for connections between rows too."""
    base = url("postgresql")
    at_most: list[int] = []
    engine = create_engine(base, pool_size=size, max_overflow=0, pool_timeout=5)
    monkeypatch.setattr(Databases, "_made", lambda *_: engine)
    audited = {
        "tasks/Audited": {
            "e.json": {"type": "tasks.Meta", "title": "Audited"},
            "type.py": "from jittask_prefect import DateFieldType\nENDED = []\n"
            "class Audited(DateFieldType):\n    def afterReturn(self, task):\n        ENDED.append(task.taskId)\n",
        }
    }
    s = ready(shop, base, 25, parallel=20, type="tasks.Audited", more=audited)
    from sqlalchemy import event

    event.listen(
        engine, "checkout", lambda *_: at_most.append(engine.pool.checkedout())
    )
    assert str(batch(s)) == "25 rows: 25 done"
    assert max(at_most) <= size
    assert {e.returned for e in s.entries()} == {True}


TWO = """
import threading
GO, BESIDE, BEGUN = threading.Event(), threading.Event(), threading.Semaphore(0)
def customFunc(row):
    BEGUN.release()
    (GO if row.id == 1 else BESIDE).wait(60)
"""


def test_a_row_that_returns_as_it_is_ended_has_left_its_process(
    shop: Make, url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its executor has no further row; another executor's row is at work: the process must not be killed for that."""
    monkeypatch.setattr(lease, "LOOK_SECONDS", 60.0)  # the lease does not see the end
    s = ready(shop, url("postgresql"), 2, inner=TWO, parallel=2)
    inner, made = s.app.module("tasks.Task", "inner"), list[Summary]()
    thread = threading.Thread(target=lambda: made.append(batch(s)), daemon=True)
    thread.start()
    for _ in range(2):
        assert inner.BEGUN.acquire(timeout=20 * PATIENCE)
    [first] = s.entries(row_key="1")
    with s.app.engine().begin() as connection:
        about: dict[str, Any] = {"outcome": "forced", "message": "forced end"}
        within = ("executing",)
        end = transitions.end
        assert end(connection, first.task_id, **about, now=s.now, within=within)
    assert not process_end._went_on(s.app, "", first, None)
    inner.GO.set()
    pause = threading.Event()
    for _ in range(200):
        if left := process_end._went_on(s.app, "", first, None):
            break
        pause.wait(0.1)
    assert left and s.entries(row_key="2")[0].status == "executing"
    inner.BESIDE.set()
    thread.join(20 * PATIENCE)
    assert {e.row_key: e.status for e in s.entries()} == {
        "1": "ended",
        "2": "completed",
    }
