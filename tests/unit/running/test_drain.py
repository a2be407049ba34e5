"""A worker stops: rows at work go on, and all others wait for another worker, handed over at once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import pytest
from patience import PATIENCE
from shop import Shop, utc

from jittask_prefect.prefect_api.answers import OWN
from jittask_prefect.running.left_rows import LeftRows
from jittask_prefect.running.outcome import LEFT, Run, Summary
from jittask_prefect.running.run import execute, execute_batch, help_batch
from jittask_prefect.warm.drain import Drain
from jittask_prefect.warm.help import Help

Make = Callable[..., Shop]
TEN, DUE, NAME = datetime(2026, 3, 2, 10), utc("2026-03-02 10:00"), "tasks.Task"
SLOW = """
import threading
GO, BEGUN = threading.Event(), threading.Semaphore(0)
def customFunc(row):
    BEGUN.release()
    GO.wait(60)
    row.count += 1
"""


def ready(
    make: Make, rows: int, *, url: str = "sqlite:///test.db", **keys: Any
) -> Shop:
    s = make(**{"dispatch": "batch", "app_json": {"database": url}, **keys})
    for key in range(1, rows + 1):
        s.save(id=key, at=TEN)
    s.sync()
    return s.at("2026-03-02 10:00")


def batch(s: Shop, drain: Drain, run_id: str, **keys: Any) -> Summary:
    now = s.now
    left = LeftRows(s.app, NAME, lambda: s.api, run_id, lambda: now)
    about = (s.app, NAME, DUE, Run(run_id, DUE), lambda: now)
    how: dict[str, Any] = {"sleep": lambda _seconds: None, "drain": drain, "left": left}
    return execute_batch(*about, **{**how, **keys})


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
@pytest.mark.parametrize("parallel", [1, 3])
def test_rows_that_nobody_has_begun_go_on_in_another_run(
    shop: Make, url: Callable[[str], str], kind: str, parallel: int
) -> None:
    s = ready(shop, 9, url=url(kind), parallel=parallel)
    [run_id] = s.api.all_runs
    drain = Drain()
    summary = batch(s, drain, run_id, told=lambda entry, outcome: drain.begin())
    done = {entry.row_key for entry, _ in summary.tasks}
    left = [e for e in s.entries() if e.row_key not in done]
    assert 1 <= len(done) <= parallel and len(left) == 9 - len(done)
    assert f"; {len(left)} go on in another run" in str(summary)
    assert {(e.status, e.dirty, e.attempt, e.owner) for e in left} == {
        ("pending", False, 0, None)
    }
    [other] = {e.flow_run_id for e in left}
    assert (
        other != run_id and s.api.all_runs[str(other)]["state"]["type"] == "SCHEDULED"
    )
    assert s.api.all_runs[run_id]["labels"] == {OWN: "left"}
    again = batch(s, Drain(), str(other))
    assert str(again) == f"{len(left)} rows: {len(left)} done"
    assert [s.row_count(key) for key in range(1, 10)] == [1] * 9


def test_a_run_whose_worker_stops_before_its_first_row(shop: Make) -> None:
    s = ready(shop, 3)
    [run_id] = s.api.all_runs
    drain = Drain()
    drain.begin()
    summary = batch(s, drain, run_id)
    assert (str(summary), summary.done, summary.label) == (
        "not run: 3 go on in another run, since the worker stops",
        False,
        "left",
    )
    [other] = {e.flow_run_id for e in s.entries()}
    assert other != run_id


def test_rows_are_handed_over_while_others_are_at_work(
    shop: Make, url: Callable[[str], str]
) -> None:
    s = ready(shop, 6, url=url("postgresql"), inner=SLOW)
    inner, drain = s.app.module(NAME, "inner"), Drain()
    [run_id] = s.api.all_runs
    made: list[Summary] = []
    thread = threading.Thread(target=lambda: made.append(batch(s, drain, run_id)))
    thread.start()
    assert inner.BEGUN.acquire(timeout=20 * PATIENCE)
    drain.begin()
    pause = threading.Event()
    while len([e for e in s.entries() if e.flow_run_id not in (run_id, None)]) < 5:
        pause.wait(0.05)
    assert Counter(e.status for e in s.entries()) == {"executing": 1, "pending": 5}
    inner.GO.set()
    thread.join(20 * PATIENCE)
    assert [summary.left for summary in made] == [5]
    assert Counter(e.status for e in s.entries()) == {"completed": 1, "pending": 5}


def test_a_row_that_is_to_be_tried_again_goes_on_with_its_attempts(shop: Make) -> None:
    fails = "def customFunc(row):\n    raise ValueError('no')\n"
    s = ready(shop, 2, inner=fails, retries=3, retryDelay=600)
    [run_id] = s.api.all_runs
    drain = Drain()
    summary = batch(s, drain, run_id, sleep=lambda _seconds: drain.begin())
    assert summary.tasks == [] and summary.left == 2
    assert {(e.status, e.attempt, e.dirty) for e in s.entries()} == {
        ("pending", 1, False)
    }


def test_a_leader_leaves_its_rows_and_ends(shop: Make) -> None:
    s = ready(shop, 6)
    [run_id] = s.api.all_runs
    drain = Drain()
    answer = {"helpers": 0, "begun": 0, "asked": True, "dead": []}

    def send(message: Mapping[str, Any]) -> None:
        if "help" in message:  # the worker has no place for helpers
            help.heard(answer)

    help = Help(send)
    about: dict[str, Any] = {"told": lambda entry, outcome: drain.begin(), "help": help}
    assert batch(s, drain, run_id, **about).left == 5


def test_a_helper_takes_no_further_row(shop: Make) -> None:
    ends = "def customFunc(row):\n    DRAIN.begin()\n    row.count += 1\n"
    s = ready(shop, 6, inner=f"DRAIN = None\n{ends}")
    inner, now = s.app.module(NAME, "inner"), s.now
    inner.DRAIN = Drain()
    [run_id] = s.api.all_runs
    about = (s.app, NAME, DUE, Run(run_id, DUE), lambda: now)
    how: dict[str, Any] = {"enough": bool, "begun": lambda: None, "lost": pytest.fail}
    help_batch(*about, number=1, drain=inner.DRAIN, **how)
    assert Counter(e.status for e in s.entries()) == {"completed": 1, "pending": 5}
    assert {(e.flow_run_id, e.attempt) for e in s.entries(status="pending")} == {
        (run_id, 0)
    }


def single(s: Shop, drain: Drain, **keys: Any) -> tuple[Any, Any]:
    [entry] = s.entries()
    now, run = s.now, Run(str(entry.flow_run_id), DUE)
    about = (s.app, NAME, entry.task_id, run, lambda: now)
    outcome = execute(*about, **{"sleep": lambda _s: None, "drain": drain, **keys})
    [after] = s.entries()
    return outcome, (after.status, after.dirty, after.attempt, after.flow_run_id) == (
        "pending",
        False,
        entry.attempt,
        entry.flow_run_id,
    )


def test_a_task_that_has_not_begun_waits_in_its_own_run(shop: Make) -> None:
    s = ready(shop, 1, dispatch="row")
    drain = Drain()
    drain.begin()
    assert single(s, drain) == (LEFT, True)
    assert s.row_count(1) == 0


def test_a_task_that_waits_for_its_rate_waits_in_its_own_run(shop: Make) -> None:
    s = ready(shop, 1, dispatch="row", rate="1/day")
    [entry] = s.entries()
    before, drain = Drain(), Drain()
    assert execute(
        s.app, NAME, entry.task_id, Run("a", DUE), lambda: s.now, drain=before
    ).status == "completed"  # fmt: skip
    s.save(id=1, at=datetime(2026, 3, 2, 10, 1))
    s.sync("2026-03-02 10:01")
    [_, entry] = s.entries()
    now, run = s.now, Run(str(entry.flow_run_id), entry.due)
    about = (s.app, NAME, entry.task_id, run, lambda: now)
    assert execute(*about, sleep=lambda _s: drain.begin(), drain=drain) == LEFT
    [_, after] = s.entries()
    assert (after.status, after.dirty, after.attempt) == ("pending", False, 0)
    assert after.flow_run_id == entry.flow_run_id
