"""Rows of a flow run, spread: how many helpers pay, and what leader and helpers do; helpers are threads here."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from shop import Shop, rows_task, utc

from jittask_prefect.ledger import transitions
from jittask_prefect.ledger.tables import entries
from jittask_prefect.running import spread
from jittask_prefect.running.lease import process_name
from jittask_prefect.running.outcome import Run, Summary
from jittask_prefect.running.rows_of_instant import RowsOfInstant
from jittask_prefect.running.run import execute_batch, help_batch
from jittask_prefect.running.spread import Pace, helpers_that_pay
from jittask_prefect.warm.drain import Drain
from jittask_prefect.warm.help import Help

Make = Callable[..., Shop]
TEN, DUE, NAME = datetime(2026, 3, 2, 10), utc("2026-03-02 10:00"), "tasks.Task"
# A row is slow, and says which thread did it.
SLOW = """
import threading, time
def customFunc(row):
    time.sleep(0.05)
    row.count += 1
    return threading.current_thread().name
"""


@pytest.mark.parametrize(
    ("rows", "wall", "processor", "most", "helpers"),
    [
        (300, 0.1, 0.001, 8, 8),  # waits: as many as the app allows
        (5, 0.1, 0.001, 8, 5),  # one row each
        (2, 0.01, 0.001, 8, 0),  # over before a helper is there
        (1, 60, 0.001, 8, 0),  # a single helper brings nothing: the leader would rest
        (1000, 0.0012, 0.0005, 8, 2),  # writes: as many as there are processors
        (50, 0.0012, 0.0005, 8, 0),
        (1000, 0.3, 0.29, 8, 2),  # computes
        (300, 0.1, 0.001, 1, 0),
        (100, 0.015, 0.001, 8, 8),  # waits for a quick answer
    ],
)
def test_how_many_helpers_pay(
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    wall: float,
    processor: float,
    most: int,
    helpers: int,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert helpers_that_pay(rows, Pace(wall, processor), most) == helpers


@pytest.mark.parametrize(
    ("wall", "rest", "helpers"),
    [
        (0.015, 0.5, 8),
        (0.015, 0.1, 2),  # waits for its turn on the processor, like all others
        (0.1, 0.0, 8),  # longer than for a turn
    ],
)
def test_rows_that_write_on_a_busy_machine_are_not_taken_for_rows_that_wait(
    monkeypatch: pytest.MonkeyPatch, wall: float, rest: float, helpers: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert helpers_that_pay(1000, Pace(wall, 0.001, rest), 8) == helpers


class Worker:
    """Answers a leader as the worker does; its helpers are threads."""

    def __init__(self, s: Shop, run: str, *, enough: Callable[[], bool] = bool) -> None:
        self.s, self.run, self.enough = s, run, enough
        self.help = Help(self.send)
        self.asked: list[int] = []
        self.paces: list[Pace] = []
        self._at_work = self._begun = self._started = 0
        # Set by the leader's first row, or where helpers are let go.
        self.leader_begun, self.let_go = threading.Event(), threading.Event()
        self.waiting = threading.Semaphore(0)
        # Until then helpers are on their way.
        self.may_begin, self.has_begun = threading.Event(), threading.Event()
        self.may_begin.set()
        self._gate = threading.Lock()

    def send(self, message: Mapping[str, Any]) -> None:
        if "pace" in message:
            self.paces.append(Pace(*message["pace"]))
            return
        if "begun" in message:
            self.leader_begun.set()
            return
        self.asked.append(message["help"])
        with self._gate:
            new = []
            if not message["help"]:
                self.let_go.set()
                self.leader_begun.set()
            while self._at_work < message["help"]:
                self._at_work += 1
                self._started += 1
                about = {"target": self._help, "args": (self._started,)}
                new.append(threading.Thread(**about))  # type: ignore[arg-type]
            self._tell(asked=True)
        for thread in new:
            thread.start()

    def _help(self, number: int) -> None:
        about = (self.s.app, NAME, DUE, Run(self.run, DUE), lambda: self.s.now)
        ways: dict[str, Any] = {"begun": self._has_begun, "lost": pytest.fail}
        ways["enough"] = lambda: self.let_go.is_set() or self.enough()
        if not self.leader_begun.is_set():
            ways["begin"] = self._wait
        try:
            assert self.may_begin.wait(20)
            help_batch(*about, number=number, **ways)
        finally:  # a leader waits for its helpers, whatever ends them
            with self._gate:
                self._at_work -= 1
                self._tell()

    def _wait(self) -> None:
        self.waiting.release()
        assert self.leader_begun.wait(20)

    def _has_begun(self) -> None:
        with self._gate:
            self._begun += 1
            self._tell()
        self.has_begun.set()

    def _tell(self, *, asked: bool = False, dead: tuple[int, ...] = ()) -> None:
        begun = min(self._begun, self._at_work)
        at_work = {"helpers": self._at_work, "begun": begun}
        self.help.heard({**at_work, "asked": asked, "dead": dead})


def begun(s: Shop, rows: int) -> str:
    for key in range(1, rows + 1):
        s.save(id=key, at=TEN)
    s.sync()
    s.at("2026-03-02 10:00")
    [run] = s.api.all_runs
    return run


def lead(s: Shop, run: str, worker: Worker | None) -> Summary:
    about = (s.app, NAME, DUE, Run(run, DUE), lambda: s.now)
    return execute_batch(*about, help=worker and worker.help)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_each_row_is_done_once_and_the_summary_has_them_all(
    shop: Make, url: Callable[[str], str], kind: str
) -> None:
    s = shop(inner=SLOW, dispatch="batch", app_json={"database": url(kind)})
    worker = Worker(s, run := begun(s, 40))
    summary = lead(s, run, worker)
    assert worker.asked and worker.asked[0] > 1
    assert str(summary) == "40 rows: 40 done"
    assert [s.row_count(key) for key in range(1, 41)] == [1] * 40
    threads = {outcome.result for _, outcome in summary.tasks}
    assert len(threads) == 40  # each says its own task
    assert {(e.status, e.attempt) for e in s.entries()} == {("completed", 1)}


def test_rows_that_a_helper_leaves_are_done_by_the_leader(shop: Make) -> None:
    s = shop(inner=SLOW, dispatch="batch")
    worker = Worker(s, run := begun(s, 12), enough=lambda: True)
    assert str(lead(s, run, worker)) == "12 rows: 12 done"
    assert worker.asked


def test_the_leader_goes_on_until_a_helper_has_a_row(
    shop: Make, url: Callable[[str], str]
) -> None:
    on = {"database": url("postgresql")}  # several write at a time
    s = shop(inner=SLOW, dispatch="batch", app_json=on)
    worker = Worker(s, run := begun(s, 40))
    worker.may_begin.clear()
    since_asked: list[bool] = []

    def told(*_: object) -> None:
        since_asked.append(bool(worker.asked))
        if sum(since_asked) == 5:
            worker.may_begin.set()
            assert worker.has_begun.wait(20)

    about = (s.app, NAME, DUE, Run(run, DUE), lambda: s.now)
    summary = execute_batch(*about, help=worker.help, told=told)
    assert str(summary) == "40 rows: 40 done"
    assert worker.has_begun.is_set()


@pytest.mark.parametrize(("pace", "asks"), [((0.05, 0.001), True), ((0.001, 0.001), False)])  # fmt: skip
def test_the_pace_of_the_last_run_tells_before_the_first_row_has_ended(
    shop: Make, monkeypatch: pytest.MonkeyPatch, pace: tuple[float, float], asks: bool
) -> None:
    monkeypatch.setattr(spread, "LOOK_SECONDS", 60)  # so that this run tells nothing
    s = shop(inner=SLOW, dispatch="batch")
    worker = Worker(s, run := begun(s, 20))
    worker.help.pace = pace
    asked: list[list[int]] = []
    about = (s.app, NAME, DUE, Run(run, DUE), lambda: s.now)
    summary = execute_batch(
        *about, help=worker.help, told=lambda *_: asked.append(list(worker.asked))
    )
    assert str(summary) == "20 rows: 20 done"
    assert asked[0] == worker.asked == ([8] if asks else [])
    assert not worker.paces


def test_helpers_are_there_before_the_due_time_and_begin_with_the_leaders_first_row(
    shop: Make,
) -> None:
    s = shop(inner=SLOW, dispatch="batch")
    worker = Worker(s, run := begun(s, 20))
    worker.help.pace = (0.05, 0.001)
    s.at("2026-03-02 09:59:59.6")

    def sleep(_seconds: float) -> None:
        for _ in range(8):
            assert worker.waiting.acquire(timeout=20)
        assert worker.asked == [8]
        assert {e.status for e in s.entries()} == {"pending"}
        s.at("2026-03-02 10:00")

    about = (s.app, NAME, DUE, Run(run, DUE), lambda: s.now)
    summary = execute_batch(*about, help=worker.help, sleep=sleep)
    assert str(summary) == "20 rows: 20 done"
    assert worker.has_begun.is_set()
    assert [s.row_count(key) for key in range(1, 21)] == [1] * 20


def test_a_row_that_moved_after_the_list_was_read_is_left_alone(shop: Make) -> None:
    s = shop(inner=SLOW, dispatch="batch")
    worker = Worker(s, run := begun(s, 12))
    worker.help.pace = (0.05, 0.001)
    s.at("2026-03-02 09:59:59.6")

    def sleep(_seconds: float) -> None:
        s.save(id=3, at=datetime(2026, 3, 2, 11))
        s.at("2026-03-02 10:00")

    about = (s.app, NAME, DUE, Run(run, DUE), lambda: s.now)
    summary = execute_batch(*about, help=worker.help, sleep=sleep)
    assert str(summary) == "11 rows: 11 done"
    assert s.row_count(3) == 0
    [entry] = s.entries(row_key="3", status="pending")
    assert entry.due == utc("2026-03-02 11:00")


def test_helpers_are_let_go_where_the_run_has_no_first_row(shop: Make) -> None:
    s = shop(inner=SLOW, dispatch="batch")
    worker, drain = Worker(s, run := begun(s, 20)), Drain()
    worker.help.pace = (0.05, 0.001)
    s.at("2026-03-02 09:59:59.6")

    def sleep(_seconds: float) -> None:
        assert worker.waiting.acquire(timeout=20)
        drain.begin()  # the worker stops

    about = (s.app, NAME, DUE, Run(run, DUE), lambda: s.now)
    summary = execute_batch(*about, help=worker.help, sleep=sleep, drain=drain)
    assert not summary.tasks
    assert worker.asked == [8, 0]
    assert worker.help.over
    assert {e.status for e in s.entries()} == {"pending"}


def test_the_pace_is_that_of_rows_though_the_leader_rests_after_its_own(
    shop: Make, monkeypatch: pytest.MonkeyPatch, url: Callable[[str], str]
) -> None:
    # Several write at a time; and two at once take longer than the leader's first look.
    on = {"database": url("postgresql"), "maxConcurrency": 2}
    s = shop(inner=SLOW, dispatch="batch", app_json=on)
    worker = Worker(s, run := begun(s, 60))
    worker.help.pace = (0.05, 0.001)
    monkeypatch.setattr(spread, "LOOK_SECONDS", 1.0)
    assert str(lead(s, run, worker)) == "60 rows: 60 done"
    [pace] = worker.paces
    assert 0.05 <= pace.wall < 0.3


def test_the_pace_counts_from_the_first_claim_on(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = shop(dispatch="batch")
    worker, paces, turn = Worker(s, run := begun(s, 12)), list[Pace](), RowsOfInstant.turn  # fmt: skip

    def slow_turn(calls: RowsOfInstant) -> Any:
        if not calls.begun:
            time.sleep(1)  # as a process that connects for the first time
        return turn(calls)

    monkeypatch.setattr(RowsOfInstant, "turn", slow_turn)
    monkeypatch.setattr("jittask_prefect.running.spread.SLOW_SECONDS", 10.0)
    monkeypatch.setattr("jittask_prefect.running.spread.LOOK_SECONDS", 0.001)
    monkeypatch.setattr(
        "jittask_prefect.running.spread.helpers_that_pay",
        lambda rows, pace, most: paces.append(pace) or 0,
    )
    assert str(lead(s, run, worker)) == "12 rows: 12 done"
    assert paces and paces[0].wall < 0.5


QUICK_FIRST = SLOW.replace("sleep(0.05)", "sleep(0.05 if row.id > 1 else 0)")


SLOW_FIRST = SLOW.replace("sleep(0.05)", "sleep(0.05 if row.id > 1 else 3)")


def test_the_summary_has_the_rows_of_helpers_that_ended_before_the_leaders_row(
    shop: Make,
) -> None:
    s = shop(inner=SLOW_FIRST, dispatch="batch")
    worker = Worker(s, run := begun(s, 9))
    assert str(lead(s, run, worker)) == "9 rows: 9 done"
    assert worker.has_begun.is_set()


def test_a_quick_first_row_says_nothing_of_the_others(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread, "AGAIN_SECONDS", 0.1)
    s = shop(inner=QUICK_FIRST, dispatch="batch")
    worker = Worker(s, run := begun(s, 60))
    assert str(lead(s, run, worker)) == "60 rows: 60 done"
    assert worker.asked


def test_helpers_that_have_left_are_asked_for_again(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread, "AGAIN_SECONDS", 0.1)
    s = shop(inner=SLOW, dispatch="batch")
    left = iter([True] * 8)  # the first helpers leave at once
    worker = Worker(s, run := begun(s, 60), enough=lambda: next(left, False))
    assert str(lead(s, run, worker)) == "60 rows: 60 done"
    assert len(worker.asked) > 1


def test_a_helper_stays_while_another_task_waits_for_its_own_template(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = rows_task(concurrency={"limit": 1}, filter="Q(id=0)")
    s = shop(inner=SLOW, dispatch="batch", more={"tasks/Other": other})
    run = begun(s, 12)
    monkeypatch.setattr(spread, "WAITING_SECONDS", 0.0)
    add = {**s.entries(row_key="1")[0].values(), "template": "tasks.Other"}
    about = {"row_key": "1", "flow_run_id": None, "batch": None}
    waits = {**add, **about, "task_id": "waits", "queue": "waiting", "row_key": "2"}
    works = {**add, **about, "task_id": "works", "status": "executing", "owner": "o"}
    works |= {"lease_until": s.now + timedelta(seconds=25)}
    with s.app.engine().begin() as connection:
        for entry in (waits, works):
            connection.execute(entries.insert().values(**entry))
    help_batch(
        *(s.app, NAME, DUE, Run(run, DUE), lambda: s.now),
        number=1,
        enough=bool,
        begun=lambda: None,
        lost=pytest.fail,  # type: ignore[arg-type]
    )
    assert [s.row_count(key) for key in range(1, 13)] == [1] * 12


def test_a_helper_lives_on_a_connection_for_its_rows_and_one_for_its_lease(
    shop: Make, few: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    s = shop(inner=SLOW, dispatch="batch", app_json={"database": few(-1)})
    run = begun(s, 12)
    monkeypatch.setattr(spread, "WAITING_SECONDS", 0.0)
    s.app.engine().dispose()
    few(2)
    with s.app.lease_engine().connect():
        about = (s.app, NAME, DUE, Run(run, DUE), lambda: s.now)
        help_batch(*about, number=1, enough=bool, begun=lambda: None, lost=pytest.fail)
    assert {e.outcome for e in s.entries()} == {"completed"}
    s.app.close()


def test_without_a_worker_that_helps(shop: Make) -> None:
    s = shop(inner=SLOW, dispatch="batch")
    run = begun(s, 12)
    assert str(lead(s, run, None)) == "12 rows: 12 done"


@pytest.mark.parametrize(("retries", "outcome"), [(0, "died"), (1, "completed")])
def test_a_row_whose_helper_died(shop: Make, retries: int, outcome: str) -> None:
    s = shop(inner=SLOW, dispatch="batch", retries=retries)
    run = begun(s, 12)
    [lost, *_] = s.entries(row_key="12")
    with s.app.engine().begin() as connection:
        # A process of this host, which is gone.
        owner = process_name(999_999_999) + "token"
        about = (lost.task_id, owner, run, s.now, 25.0)
        assert transitions.claim(connection, *about, in_batch=True)

    worker = Worker(s, run)
    send = worker.help._send

    def dies(message: Mapping[str, Any]) -> None:
        worker.help.heard(
            {"helpers": 1, "begun": 1, "asked": False, "dead": [999_999_999]}
        )
        send(message)

    worker.help._send = dies
    summary = lead(s, run, worker)
    [entry] = s.entries(row_key="12")
    assert entry.outcome == outcome
    assert (entry.flow_run_id, s.row_count(12)) == (run, retries)
    counts = Counter(o.outcome for _, o in summary.tasks)
    assert counts == Counter({"completed": 11}) + Counter([outcome])


def test_a_helper_leaves_when_others_wait_for_a_place(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = shop(inner=SLOW, dispatch="batch")
    run = begun(s, 12)
    monkeypatch.setattr("jittask_prefect.running.spread.WAITING_SECONDS", 0.0)
    with s.app.engine().begin() as connection:
        # A task of another template waits for a place.
        other = {**s.entries(row_key="1")[0].values(), "task_id": "other"}
        other |= {"template": "tasks.Other", "row_key": "", "queue": "waiting"}
        connection.execute(entries.insert().values(**other))
    about = (s.app, NAME, DUE, Run(run, DUE), lambda: s.now)
    help_batch(*about, number=1, enough=bool, begun=pytest.fail, lost=pytest.fail)
    left = [e for e in s.entries() if e.status == "pending" and e.task_id != "other"]
    assert len(left) == 12


def test_the_summary_of_a_retry_has_the_rows_of_that_attempt_only(shop: Make) -> None:
    inner = SLOW.replace(
        "    time.sleep", "    assert row.status != 'bad'\n    time.sleep"
    )
    s = shop(inner=inner, dispatch="batch")
    for key in range(1, 13):
        s.save(id=key, at=TEN, status="bad" if key > 6 else "")
    s.sync()
    s.at("2026-03-02 10:00")
    [run] = s.api.all_runs
    assert str(lead(s, run, Worker(s, run))) == "12 rows: 6 done, 6 failed"
    s.raw("UPDATE bill SET status = ''")
    s.at("2026-03-02 10:05")
    assert str(lead(s, run, Worker(s, run))) == "6 rows: 6 done"
