"""`jittask pause` and `jittask resume` while the rows of an instant are at work in several processes, on PostgreSQL."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from own_server import own_server
from place import Place, model, rows, until, worker
from sqlmodel import Session

from jittask_prefect.ledger import pause
from jittask_prefect.schedule import clock

NAME = "tasks.SpreadPause"
ROWS = 160
PROCESSES = 2  # at least: the flow run's own, and a helper
# Each row leaves a line when it begins: its key, and its process.
WAITS = """
import os, time
def customFunc(row):
    row.done += 1
    with open(app.path / "begun.txt", "a") as file:
        file.write(f"{row.id} {os.getpid()}\\n")
    time.sleep(0.5)
"""


@pytest.fixture
def place(
    tmp_path: Path, prefect_database: Path, url: Callable[[str], str]
) -> Iterator[Place]:
    elements = {
        "models/SpreadPause": model("SpreadPause"),
        "tasks/SpreadPause": rows("SpreadPause", WAITS),
    }
    folder, address = tmp_path / "app", url("postgresql")
    with own_server(tmp_path / "server", prefect_database):
        made = Place.build(folder, elements, name="spread", database=address)
        made.deploy()
        with worker(tmp_path / ".jittask", cwd=tmp_path):
            due_now(made)
            yield made
        made.remove()


def due_now(place: Place) -> None:
    """Rows that are due at one instant, which is now."""
    at = clock.now().replace(tzinfo=None) - timedelta(seconds=1)
    of = place.app.getElement("models.SpreadPause")
    with Session(place.app.engine()) as session:
        session.add_all([of(id=number, at=at) for number in range(ROWS)])
        session.commit()
    place.sync()


def begun(place: Place) -> list[list[str]]:
    """The rows that began, each with its process."""
    file = place.app.path / "begun.txt"
    return (
        [line.split() for line in file.read_text().splitlines()]
        if file.exists()
        else []
    )


def statuses(place: Place) -> Counter[str]:
    return Counter(entry.status for entry in place.entries(NAME))


def side_by_side(place: Place, more: int = 12) -> None:
    """Wait until so many further rows have begun, in several processes."""
    before = len(begun(place))

    def look() -> bool:
        new = begun(place)[before:]
        return len(new) >= more and len({pid for _, pid in new}) >= PROCESSES

    until(look, 60, what=f"{statuses(place)}")


def at_rest(place: Place) -> int:
    """How many rows have begun, once none is at work any more."""
    until(lambda: not statuses(place)["executing"], 30)
    return len(begun(place))


def done_once(place: Place) -> None:
    """All rows are done, each in one attempt, and each once."""
    until(
        lambda: statuses(place) == {"completed": ROWS}, 120, what=f"{statuses(place)}"
    )
    assert sorted(int(key) for key, _ in begun(place)) == list(range(ROWS))
    assert {entry.attempt for entry in place.entries(NAME)} == {1}
    assert place.sql("SELECT count(*) FROM spreadpause WHERE done = 1") == ROWS


def test_rows_in_several_processes_rest_and_go_on_where_they_were(place: Place) -> None:
    """Twice, with the commands: each row runs once. What pause and resume take is printed."""
    for _ in range(2):
        side_by_side(place)
        load, began = os.getloadavg()[0], time.monotonic()
        said = place.jittask("pause")
        took = time.monotonic() - began
        assert "is paused since now" in said.stdout, said.stderr
        rested = at_rest(place)
        rest = time.monotonic() - began
        assert rested < ROWS
        place.sync()
        assert at_rest(place) == rested
        began = time.monotonic()
        said = place.jittask("resume")
        resumed = time.monotonic() - began
        assert "and goes on" in said.stdout, said.stderr
        side_by_side(place, PROCESSES)
        print(
            f"load {load:.1f}: pause {took:.1f} s, at rest after {rest:.1f} s; "
            f"resume {resumed:.1f} s, rows go on after {time.monotonic() - began:.1f} s"
        )
    done_once(place)


@pytest.mark.parametrize("seconds", [0, 1.2])
def test_a_pause_that_is_over_while_rows_are_still_at_work(
    place: Place, seconds: float
) -> None:
    """The rows that had to wait go on at once, whether their flow run has ended by the end of the pause or not."""
    side_by_side(place)
    pause.pause(place.app, clock.now())
    since = time.monotonic()
    until(lambda: time.monotonic() >= since + seconds, 10, every=0.05)
    pause.resume(place.app)
    place.sync()
    side_by_side(place, 40)
    done_once(place)
