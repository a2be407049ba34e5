"""Where the time of a row goes that only writes: statements, round trips, commits, and Python.

Batches in this process alone, without a server: some by the clock, the last with libpq's trace of all messages. Bare
commits on one connection are counted in the same way: they are the ceiling.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from measure import line
from sqlalchemy import Engine, event

from jittask_prefect.elements import row_session

# Messages of the wire protocol: a statement is executed, and the answer to a round trip ends.
STATEMENTS, ROUND_TRIP = ("Query", "Execute"), "ReadyForQuery"
Work = Callable[[], object]
Prepare = Callable[[], Work]
WAITS: Counter[str] = Counter()
"""Microseconds in which the process waited for the database: for `commits`, and for `others`."""


class Watched(psycopg.Connection[Any]):
    """A connection whose waits for the database are timed."""

    _here = threading.local()

    def wait(self, *args: Any, **more: Any) -> Any:
        begun = time.perf_counter_ns()
        try:
            return super().wait(*args, **more)
        finally:
            kind = "commits" if getattr(self._here, "commits", False) else "others"
            WAITS[kind] += (time.perf_counter_ns() - begun) // 1000

    def commit(self) -> None:
        self._here.commits = True
        try:
            super().commit()
        finally:
            self._here.commits = False


def timed_chain(chain: Callable[[Any], bool], driver: Any) -> bool:
    """A commit that begins the next row's transaction: libpq is asked for it directly."""
    begun = time.perf_counter_ns()
    try:
        return chain(driver)
    finally:
        WAITS["commits"] += (time.perf_counter_ns() - begun) // 1000


@contextmanager
def watched(engine: Engine, trace: Path | None = None) -> Iterator[None]:
    """Have the engine's connections watched, and traced into files of a folder."""

    def connected(connection: Any, _: object) -> None:
        connection.__class__ = Watched  # the app opens its connections itself
        if trace is not None:
            file = os.open(trace / str(id(connection)), os.O_CREAT | os.O_WRONLY)
            connection.pgconn.trace(file)

    engine.dispose()
    event.listen(engine, "connect", connected)
    chain = row_session.commit_and_chain
    row_session.commit_and_chain = partial(timed_chain, chain)
    try:
        yield
    finally:
        row_session.commit_and_chain = chain
        engine.dispose()
        event.remove(engine, "connect", connected)


@dataclass(frozen=True)
class Cost:
    """The time of a job, in milliseconds, and what the job sends."""

    wall: float
    processor: float
    commit: float
    others: float
    statements: float
    round_trips: float


def cost(engine: Engine, count: int, turns: int, prepare: Prepare) -> Cost:
    """The cost of one job: medians of some turns, and the messages of one more.

    Args:
        engine: Whose connections are watched.
        count: How many jobs there are in a turn.
        turns: How many turns, beside one that warms up.
        prepare: Prepares a turn; the answer has the jobs done.
    """
    with watched(engine):
        timed = [_times(prepare(), count) for _ in range(turns + 1)][1:]
    with tempfile.TemporaryDirectory() as name, watched(engine, folder := Path(name)):
        work = prepare()
        before = _messages(folder)
        work()
        sent = _messages(folder) - before
    statements = sum(sent[kind] for kind in STATEMENTS) / count
    times = [median(each) for each in zip(*timed, strict=True)]
    return Cost(*times, statements, sent[ROUND_TRIP] / count)


def _times(work: Work, count: int) -> tuple[float, float, float, float]:
    """Milliseconds a job: by the clock, of the processor, in commits, and in other waits for the database."""
    WAITS.clear()
    begun, used = time.perf_counter(), time.process_time()
    work()
    wall, processor = time.perf_counter() - begun, time.process_time() - used
    found = (wall, processor, WAITS["commits"] / 1e6, WAITS["others"] / 1e6)
    return tuple(seconds * 1000 / count for seconds in found)  # type: ignore[return-value]


def _messages(folder: Path) -> Counter[str]:
    """How many messages of each kind were traced."""
    lines = [row.split("\t") for file in folder.iterdir() for row in file.open()]
    return Counter(parts[3].strip() for parts in lines if len(parts) > 3)


def tell(row: Cost, bare: Cost, count: int) -> None:
    """Print a row's cost beside that of a bare commit."""
    about = {
        "milliseconds": row.wall,
        "in_commit": row.commit,
        "in_other_statements": row.others,
        "in_python": row.wall - row.commit - row.others,
        "of_processor": row.processor,
        "statements": row.statements,
        "round_trips": row.round_trips,
    }
    beside = {
        "bare_milliseconds": bare.wall,
        "bare_in_commit": bare.commit,
        "bare_in_other_statements": bare.others,
        "bare_in_python": bare.wall - bare.commit - bare.others,
        "bare_statements": bare.statements,
        "bare_round_trips": bare.round_trips,
    }
    name = f"where the time of a writing row goes, {count} rows, a process, no server"
    line(name, row.wall / bare.wall, "bare commits", "4", **about, **beside)
