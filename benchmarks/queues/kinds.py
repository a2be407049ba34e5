"""The kinds of functions that `peers.py` compares, and the sides that take turns with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, text

EFFECT = "CREATE TABLE effect (id bigserial PRIMARY KEY, job int, at timestamptz DEFAULT clock_timestamp())"
SPANS = text(
    "SELECT extract(epoch FROM max(at) - min(at)), extract(epoch FROM max(at) - :due),"
    " count(DISTINCT job), count(*) FROM effect"
)
WAITING = "    time.sleep({wait})\n"
INNER = """
import time

def customFunc(row):
{wait}    with app.session() as session:
        session.connection().exec_driver_sql("INSERT INTO effect (job) VALUES (%s)", (row.id,))
"""
# Makes all jobs due, and has them done; returns the instant from which on they might begin.
Turn = Callable[[int], datetime]


@dataclass(frozen=True)
class Kind:
    """A kind of function.

    Attributes:
        name: Its name on the command line.
        rows: How many jobs there are where nobody says otherwise.
        least: How many jobs there are at least.
        wait: How long the function waits before it writes, in seconds.
    """

    name: str
    rows: int
    least: int
    wait: float = 0.0

    @property
    def inner(self) -> str:
        """The function as a task of ours."""
        return INNER.format(wait=WAITING.format(wait=self.wait) if self.wait else "")


KINDS = {
    kind.name: kind for kind in (Kind("writes", 1000, 20), Kind("waits", 300, 5, 0.1))
}


@dataclass(frozen=True)
class Side:
    """A way to have the jobs done.

    Attributes:
        name: The queue, its version, and its settings.
        places: How many jobs can be at work at once.
        turn: Has some jobs done.
    """

    name: str
    places: int
    turn: Turn


@dataclass(frozen=True)
class Span:
    """What one turn took, in seconds.

    Attributes:
        count: How many jobs.
        first: From the first row to the last.
        due: From the due instant to the last row.
    """

    count: int
    first: float
    due: float

    def rate(self, since: str) -> float:
        """Jobs a second, since the first row or the due instant."""
        return (
            (self.count - 1) / self.first if since == "first" else self.count / self.due
        )

    def share(self, kind: Kind, places: int, since: str) -> float:
        """The share of the ideal, in which all places wait all the time; the first row has waited as well."""
        ideal = self.count * kind.wait / places
        return ideal / (self.due if since == "due" else self.first + kind.wait)


def measured(engine: Engine, count: int, turn: Turn) -> Span:
    """The spans of one turn, by the database's clock; each job is done once."""
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE effect"))
    due = turn(count)
    with engine.connect() as connection:
        first, whole, jobs, rows = connection.execute(SPANS, {"due": due}).one()
    assert jobs == rows == count, f"{jobs} jobs of {count}, {rows} rows"
    return Span(count, float(first), float(whole))


def second(engine: Engine, all_at_once: Callable[[], datetime]) -> datetime:
    """Have all jobs done twice, for the second time by processes that have done such jobs; the second's instant."""
    all_at_once()
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE effect"))
    return all_at_once()


def present(engine: Engine) -> datetime:
    """The present instant, by the database's clock."""
    return ask(engine, "SELECT clock_timestamp()")


def ask(engine: Engine, question: str) -> Any:
    """The single value of a query."""
    with engine.connect() as connection:
        return connection.execute(text(question)).scalar_one()


def await_effects(engine: Engine, count: int, side: str) -> None:
    """Wait until all jobs are done; the database is asked rarely, not to be in the way."""
    deadline = time.monotonic() + 60 + count / 5
    while (done := ask(engine, "SELECT count(*) FROM effect")) < count:
        assert time.monotonic() < deadline, f"{side}: {done} of {count} done"
        time.sleep(0.5)
