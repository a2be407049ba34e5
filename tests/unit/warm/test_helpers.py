"""The helpers of flow runs that share a worker's places."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from jittask_prefect.warm.children import ChildPool
from jittask_prefect.warm.flow_file import FlowFile
from jittask_prefect.warm.helpers import Helpers

PLACES = 5


class Child:
    """Stands for a process that helps until somebody says that its rows are done."""

    pid = runs = 0

    def __init__(self) -> None:
        self.heard: list[Mapping[str, Any]] = []
        self.done = asyncio.Event()

    def send(self, message: Mapping[str, Any]) -> None:
        self.heard.append(message)

    async def request(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        self.heard.append(job)
        await self.done.wait()
        return {}


class Worker:
    """A worker with some places, and flow runs that lead helpers."""

    def __init__(self) -> None:
        self.runs: list[Helpers] = []
        self.at_work: list[Child] = []

    def run(self) -> Helpers:
        leader, pool = cast(Any, Child()), cast(ChildPool, self)
        about = (cast(FlowFile, None), pool, self.room, logging.getLogger())
        self.runs.append(Helpers(leader, {}, *about))
        return self.runs[-1]

    def room(self) -> int:
        numbers = [run.number for run in self.runs]
        return PLACES - numbers.count(0) - sum(numbers)

    async def acquire(self, file: object) -> Child:
        self.at_work.append(Child())
        return self.at_work[-1]

    def release(self, *child: object) -> None:
        """The process is idle."""

    async def end(self, run: Helpers) -> None:
        """The rows of a run are done."""
        run.close()
        for child in self.at_work:
            child.done.set()
        await run.over()
        self.runs.remove(run)
        for other in self.runs:
            other.offer()


@pytest.mark.parametrize(("closed", "helpers"), [(False, 4), (True, 0)])
def test_a_run_gets_the_places_of_another_that_ends_unless_it_ends_itself(
    closed: bool, helpers: int
) -> None:
    async def scene() -> None:
        worker = Worker()
        first, second = worker.run(), worker.run()
        first.want(4)
        await asyncio.sleep(0)
        second.want(4)
        assert (first.number, second.number) == (4, 0)
        if closed:
            second.close()
        await worker.end(first)
        assert second.number == helpers

    asyncio.run(scene())


BEGIN, ENOUGH = {"begin": True}, {"enough": True}


def _begin(run: Helpers) -> None:
    run._leader.has_begun()


@pytest.mark.parametrize(
    ("then", "heard"),
    [
        (_begin, BEGIN),
        (lambda run: run.want(0), ENOUGH),
        (lambda run: run.close(), ENOUGH),
    ],
)
def test_a_helper_that_is_there_before_its_leaders_first_row_waits_for_it(
    then: Callable[[Helpers], None], heard: Mapping[str, Any]
) -> None:
    async def scene() -> None:
        worker = Worker()
        run = worker.run()
        run.want(1)
        await asyncio.sleep(0)
        [child] = worker.at_work
        assert child.heard == [{"help": 1, "early": True}]
        then(run)
        assert child.heard[1:] == [heard]
        await worker.end(run)

    asyncio.run(scene())


def test_a_helper_that_comes_after_its_leaders_first_row_does_not_wait() -> None:
    async def scene() -> None:
        worker = Worker()
        run = worker.run()
        _begin(run)
        run.want(1)
        await asyncio.sleep(0)
        [child] = worker.at_work
        assert child.heard == [{"help": 1}]
        run.close()
        assert child.heard == [{"help": 1}]  # and goes on with the rows
        await worker.end(run)

    asyncio.run(scene())


def test_helpers_that_left_for_other_tasks_are_not_replaced() -> None:
    async def scene() -> None:
        worker = Worker()
        first, second = worker.run(), worker.run()
        second.want(3)
        await asyncio.sleep(0)
        for child in worker.at_work:
            child.done.set()
        await second.over()
        await worker.end(first)
        assert second.number == 0

    asyncio.run(scene())
