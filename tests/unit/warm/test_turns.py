"""Which of several workers claims a flow run: by hand-made lists, and by workers that share a list for a while."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun

from jittask_prefect.warm.places import DueRun
from jittask_prefect.warm.turns import Turns, first_due

NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)
TASKS, FIRST = UUID(int=1), UUID(int=2)
FOUR = ("ada", "bea", "cleo", "dora")


def a_run(number: int, at: float = 0, queue: UUID = TASKS, **parameters: str) -> DueRun:
    """A flow run that is due so many seconds after nine; the same one for the same arguments."""
    key = uuid5(queue, str(number))
    about = {"id": key, "work_queue_id": queue, "parameters": parameters}
    return DueRun(NINE + timedelta(seconds=at), FlowRun.model_construct(**about), False)


def runs(number: int, queue: UUID = TASKS, **parameters: str) -> list[DueRun]:
    """Flow runs that are due at nine."""
    return [a_run(place, 0, queue, **parameters) for place in range(number)]


def sorted_by(worker: Turns, due: Sequence[DueRun], seconds: float) -> list[DueRun]:
    return worker.sort(due, NINE + timedelta(seconds=seconds))


def test_a_worker_alone_takes_all_in_their_order() -> None:
    due = runs(20)
    assert sorted_by(Turns("ada"), due, 0) == due
    assert sorted_by(Turns("ada", ("ada",)), due, 0) == due


def test_each_run_is_one_workers() -> None:
    due = runs(100)
    shares = [sorted_by(Turns(name, FOUR), due, 0) for name in FOUR]
    found = sorted(due.index(run) for share in shares for run in share)
    assert found == list(range(100))
    assert min(map(len, shares)) > 15


def test_of_a_batch_each_worker_has_one_flow_run() -> None:
    due = runs(4, due="9")
    shares = [sorted_by(Turns(name, FOUR), due, -5) for name in FOUR]
    assert [len(share) for share in shares] == [1, 1, 1, 1]
    assert {share[0].flow_run.id for share in shares} == {r.flow_run.id for r in due}
    more = [len(sorted_by(Turns(n, FOUR), runs(8, due="9"), -5)) for n in FOUR]
    assert more == [2, 2, 2, 2]


def test_runs_of_a_worker_that_takes_none_are_anothers_until_that_one_is_faster() -> (
    None
):
    due = runs(1)
    [first] = [name for name in FOUR[:2] if sorted_by(Turns(name, FOUR[:2]), due, 0)]
    [other] = set(FOUR[:2]) - {first}
    worker = Turns(other, FOUR[:2])
    assert sorted_by(worker, due, -5) == sorted_by(worker, due, 0.9) == []
    assert sorted_by(worker, due, 1.1) == due
    assert sorted_by(worker, due, -5) == due, "of the next minute"
    assert sorted_by(worker, runs(1, queue=FIRST), 0) in ([], runs(1, queue=FIRST))

    worker.lost(due[0].flow_run)
    assert sorted_by(worker, due, -5) == []


def test_a_queue_that_a_worker_does_not_take_tells_nothing_of_another_queue() -> None:
    of_both = [*runs(40), *runs(40, queue=FIRST)]
    worker = Turns("ada", FOUR[:2])
    before = sorted_by(worker, of_both, -5)
    only = [run for run in of_both if run.flow_run.work_queue_id == TASKS]
    for seconds in (0, 5, 10, 15):
        sorted_by(worker, only, seconds)
    after = sorted_by(worker, of_both, -5)
    assert set(runs_of(after, FIRST)) == set(runs_of(before, FIRST))
    assert len(runs_of(after, TASKS)) == 40 > len(runs_of(before, TASKS))


def runs_of(found: Sequence[DueRun], queue: UUID) -> list[UUID]:
    return [r.flow_run.id for r in found if r.flow_run.work_queue_id == queue]


def test_a_worker_with_due_runs_of_its_own_waits_longer() -> None:
    worker, due = Turns("ada", FOUR[:2]), runs(40)
    own = sorted_by(worker, due, 0)
    assert sorted_by(worker, due, 9) == own
    assert sorted_by(worker, due, 10.5) == due


def test_a_worker_without_runs_takes_from_the_end_of_anothers() -> None:
    worker, due = Turns("ada", FOUR[:2]), runs(40)
    own = sorted_by(worker, due, 0)
    others = [run for run in due if run not in own]
    assert sorted_by(worker, others, 0.1) == [], "the other one has just begun"
    assert sorted_by(worker, others[1:], 1.1) == [others[-1]]
    assert sorted_by(worker, others[-4:], 1.3) == [], "about to be taken"


# Workers that share a list for a while


@dataclass
class Worker:
    """A worker that asks each second and after each run, and has two runs at work at most."""

    turns: Turns
    polls: float  # the next time, in seconds after nine
    waiting: list[DueRun] = field(default_factory=list)
    going_for: dict[UUID, float] = field(default_factory=dict)  # until the claim
    at_work: list[float] = field(default_factory=list)  # until the end
    won: int = 0
    lost: int = 0


class Workers:
    """Workers of one server, in steps of 50 ms.

    Args:
        known: The names that each of them knows, with workers that do not live.
        dues: When runs are due, in seconds after nine.
        busy: How long a run is at work, in seconds.
    """

    def __init__(
        self, known: Sequence[str], dues: Sequence[float], busy: float
    ) -> None:
        self._random, self._busy = random.Random(1), busy
        self._gone: dict[UUID, DueRun] = {}
        self._left: dict[UUID, DueRun] = {}
        for number, due in enumerate(dues):
            run = a_run(number, due)
            self._left[run.flow_run.id] = run
        self.all = [Worker(Turns(n, known), -self._some(3)) for n in FOUR]
        self.late: list[float] = []

    def run(self) -> None:
        """See all runs taken."""
        step = -80
        while self._left:
            for worker in self.all:
                self._step(worker, step / 20)
            step += 1

    def _some(self, seconds: float) -> float:
        return seconds * self._random.uniform(0.6, 1.4)

    def _step(self, worker: Worker, now: float) -> None:
        ended = [end for end in worker.at_work if end <= now]
        worker.at_work = [end for end in worker.at_work if end > now]
        claims = [key for key, when in worker.going_for.items() if when <= now]
        for key in claims:
            self._claim(worker, key, now)
        if worker.polls <= now or ((ended or claims) and not worker.waiting):
            self._ask(worker, now)
        self._begin(worker, now)

    def _ask(self, worker: Worker, now: float) -> None:
        at = NINE + timedelta(seconds=now)
        known = [
            run
            for key, run in self._left.items()
            if key not in worker.going_for and run.due <= at + timedelta(seconds=10)
        ]
        worker.waiting = worker.turns.sort(known[:200], at)
        worker.polls = now + self._some(1)

    def _begin(self, worker: Worker, now: float) -> None:
        for run in list(worker.waiting):
            free = len(worker.going_for) + len(worker.at_work) < 2
            if free and run.due <= NINE + timedelta(seconds=now):
                worker.waiting.remove(run)
                worker.going_for[run.flow_run.id] = now + self._some(0.1)

    def _claim(self, worker: Worker, key: UUID, now: float) -> None:
        del worker.going_for[key]
        if key in self._left:
            run = self._gone[key] = self._left.pop(key)
            worker.won += 1
            worker.at_work.append(now + self._some(self._busy))
            self.late.append(now - (run.due - NINE).total_seconds())
            return
        worker.lost += 1
        worker.waiting.clear()
        worker.turns.lost(self._gone[key].flow_run)


AT_ONCE = [0.0] * 160
EACH_MINUTE = [20.0 * number for number in range(30)]
LATE = [number - 300.0 for number in range(300)]


@pytest.mark.parametrize(
    ("known", "dues", "busy", "most"),
    [
        (FOUR, AT_ONCE, 0.3, 0.05),
        (FOUR, AT_ONCE, 3.0, 0.05),
        (FOUR, LATE, 0.3, 0.05),
        (FOUR, EACH_MINUTE, 0.3, 0.05),
        # Until each has seen that a worker is gone, they go for its runs together.
        ((*FOUR, "gone"), AT_ONCE, 0.3, 0.1),
        ((*FOUR, "gone"), EACH_MINUTE, 0.3, 0.1),
    ],
)
def test_four_workers_lose_few_claims_to_each_other_and_none_is_idle(
    known: Sequence[str], dues: Sequence[float], busy: float, most: float
) -> None:
    workers = Workers(known, dues, busy)
    workers.run()
    won = [worker.won for worker in workers.all]
    lost = sum(worker.lost for worker in workers.all)
    assert sum(won) == len(dues)
    assert lost < most * (lost + len(dues))
    if dues is EACH_MINUTE:
        assert sorted(workers.late)[len(dues) // 2] < 0.2
    else:
        assert min(won) > 0.8 * len(dues) / 4


def test_without_turns_most_claims_are_lost() -> None:
    workers = Workers((), AT_ONCE, 0.3)
    workers.run()
    lost = sum(worker.lost for worker in workers.all)
    assert lost > 0.5 * (lost + len(AT_ONCE))


@pytest.mark.parametrize(("workers", "listed"), [(0, 20), (1, 23), (4, 32), (70, 200)])
def test_a_worker_asks_for_some_due_runs_for_each_worker(
    workers: int, listed: int
) -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method != "POST":  # for a token
            return httpx.Response(404)
        asked.append((request.url.path, json.loads(request.content)))
        return httpx.Response(200, json=[])

    assert due_in_the_pool(answer, workers) == []
    [(path, body)] = asked
    assert path == "/api/work_pools/our pool/get_scheduled_flow_runs"
    assert body["work_queue_names"] == ["shop.first", "shop"]
    assert datetime.fromisoformat(body["scheduled_before"]) == NINE
    assert body["limit"] == listed


def test_a_pool_that_is_not_there_has_no_due_runs() -> None:
    assert due_in_the_pool(lambda request: httpx.Response(404, json={}), 1) == []
    with pytest.raises(httpx.HTTPStatusError):
        due_in_the_pool(lambda request: httpx.Response(403, json={}), 1)


def due_in_the_pool(
    answer: Callable[[httpx.Request], httpx.Response], workers: int
) -> list[FlowRun]:
    async def ask() -> list[FlowRun]:
        how = {"transport": httpx.MockTransport(answer)}
        async with PrefectClient("http://prefect/api", httpx_settings=how) as client:
            about = (client, "our pool", ("shop.first", "shop"), NINE, workers)
            return await first_due(*about)

    return asyncio.run(ask())
