"""`rate`: begins over all processes, evenly spaced, none beyond the rate, and nobody passed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rate_hammer import begins
from sqlalchemy import create_engine, select

from jittask_prefect.ledger import lease_time
from jittask_prefect.ledger.rate import reserve, slot
from jittask_prefect.ledger.tables import metadata, states
from jittask_prefect.schedule.rate import UNITS, Rate, read_rate

BEGIN = datetime(2026, 3, 2, 10, tzinfo=UTC)
RATES = st.builds(Rate, st.integers(1, 1000), st.sampled_from(list(UNITS)))


def most_in(instants: list[datetime], window: timedelta) -> int:
    """The largest number of instants in a half-open window; counted one by one."""
    ordered = sorted(instants)
    return max(
        sum(first <= other < first + window for other in ordered) for first in ordered
    )


@given(RATES, st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_no_window_has_more_begins_than_the_rate(
    rate: Rate, pauses: list[float]
) -> None:
    """Requests come at any times; pauses are in intervals of the rate."""
    now, due, begins = BEGIN, None, list[datetime]()
    for pause in pauses:
        now += pause * rate.interval
        begin, due = slot(rate, due, now)
        assert begin >= now
        begins.append(begin)
    assert begins == sorted(begins), "nobody is passed"
    window = timedelta(seconds=UNITS[rate.unit])
    of_a_second = -(-rate.number // UNITS[rate.unit])
    assert most_in(begins, window) <= rate.number
    assert most_in(begins, timedelta(seconds=1)) <= of_a_second


def test_a_few_begins_by_hand() -> None:
    """Six a minute: one each ten seconds, none together; a pause gives no credit."""
    due, begins = None, list[float]()
    for after in (0, 0, 0, 60, 60):
        begin, due = slot(Rate(6, "minute"), due, BEGIN + timedelta(seconds=after))
        begins.append((begin - BEGIN).total_seconds())
    assert begins == [0, 10, 20, 60, 70]


def test_three_a_second_begin_one_after_the_other() -> None:
    due, begins = None, list[float]()
    for _ in range(5):
        begin, due = slot(Rate(3, "second"), due, BEGIN)
        begins.append(round((begin - BEGIN).total_seconds(), 2))
    assert begins == [0, 0.33, 0.67, 1.0, 1.33]


@pytest.mark.parametrize("text", ["1/second", "100/minute", "7/hour", "1000000/day"])
def test_a_rate_is_read_as_it_is_written(text: str) -> None:
    rate = read_rate(text)
    assert str(rate) == text
    assert rate.interval * rate.number >= timedelta(seconds=UNITS[rate.unit])


@pytest.mark.parametrize(
    "wrong",
    ["0/minute", "5", "5/fortnight", "x/minute", 5, None, True, "", "1/3 seconds", " 5/day", "5/day\n", "-1/day",
     "1000001/day", "5/Day", "1.5/day", "٣/day", ["5/day"]],
)  # fmt: skip
def test_a_wrong_rate_says_what_is_allowed(wrong: Any) -> None:
    with pytest.raises(ValueError, match='like "100/minute"'):
        read_rate(wrong)


# Real threads and processes on the three databases, by the databases' own clocks


@pytest.fixture
def by_the_database() -> Any:
    before = lease_time._by_caller[0]
    lease_time.use_clock_of_caller(False)
    yield
    lease_time.use_clock_of_caller(before)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_processes_and_threads_together_keep_the_rate(
    url: Callable[[str], str], kind: str, tmp_path: Path, by_the_database: None
) -> None:
    """Three processes with four threads each ask for 120 begins, at 40 a second."""
    base, rate = url(kind), Rate(40, "second")
    if kind == "sqlite":
        base = f"sqlite:///{tmp_path}/rate.db"
    metadata.create_all(engine := create_engine(base))
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(3) as pool:
        parts = pool.starmap_async(begins, [(base, rate, 4, 10)] * 3).get(60)
    found = sorted(begun for part in parts for _, begun in part)
    assert len(found) == 120
    instants = [BEGIN + timedelta(seconds=at) for at in found]
    # 40 a second, and a machine that lets a thread sleep too long
    assert most_in(instants, timedelta(seconds=1)) <= 40 + 20
    assert found[-1] - found[0] >= (120 - 1) / 40 - 0.1
    longest = max(begun - asked for part in parts for asked, begun in part)
    assert longest < (found[-1] - found[0]) + 1, "nobody waits for more than the others"
    with engine.connect() as connection:
        query = select(states.c.value, states.c.until).where(
            states.c.name == "rate:tasks.Task"
        )
        [(value, until)] = connection.execute(query).all()
    assert value == "40/second" and until is not None
    engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_the_instants_that_are_reserved_are_evenly_spaced(
    url: Callable[[str], str], kind: str, tmp_path: Path
) -> None:
    """By a clock that stands still the waits are the begins themselves, whoever asks."""
    base = f"sqlite:///{tmp_path}/rate.db" if kind == "sqlite" else url(kind)
    metadata.create_all(engine := create_engine(base))
    before = lease_time._by_caller[0]
    lease_time.use_clock_of_caller()
    try:
        with ThreadPoolExecutor(4) as pool:
            about = (engine, "shop", "tasks.Task", Rate(30, "minute"), BEGIN)
            waits = list(pool.map(lambda _: reserve(*about), range(20)))
        assert sorted(waits) == [2.0 * n for n in range(20)]
        other = reserve(engine, "shop", "tasks.Other", Rate(30, "minute"), BEGIN)
        faster = reserve(engine, "shop", "tasks.Task", Rate(60, "minute"), BEGIN)
        assert (other, faster) == (0, 0), (
            "a rate of its own; a changed rate begins anew"
        )
    finally:
        lease_time.use_clock_of_caller(before)
        engine.dispose()
