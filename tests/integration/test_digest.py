"""Digests on a real server and worker: whole calls side by side, killed, ended in one row, and cancelled."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from patience import PATIENCE
from place import Place, until
from sqlmodel import Session

from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.tables import FINAL

NAME = "tasks.WorkDigest"
Began = tuple[str, int, list[str]]
"""A call as its function has seen the call: the owner, the process, the rows."""


class Digests:
    """Rows of some owners that are due at one instant, about now; their calls wait at work until `go`."""

    def __init__(self, work: Place, owners: dict[str, int], ahead: float) -> None:
        self.work = work
        for file in ("digests.txt", "go-digests"):
            (work.app.path / file).unlink(missing_ok=True)
        at = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=ahead)
        model = work.app.getElement("models.WorkOwned")
        with Session(work.app.engine()) as session:
            for owner, number in owners.items():
                session.add_all([model(at=at, status=owner) for _ in range(number)])
            session.commit()
        work.sync()
        self.at = at.replace(tzinfo=UTC)

    def entries(self) -> dict[str, Entry]:
        """The tasks by their rows."""
        found = self.work.entries(NAME)
        return {each.row_key: each for each in found if each.due == self.at}

    def begun(self) -> list[Began]:
        """The calls that began, in their order."""
        file = self.work.app.path / "digests.txt"
        lines = file.read_text().splitlines() if file.exists() else []
        parts = [line.split() for line in lines if line.count(" ") == 2]
        return [(owner, int(pid), keys.split(",")) for owner, pid, keys in parts]

    def at_work(self, number: int) -> list[Began]:
        return until(
            lambda: self.begun()[:number] if len(self.begun()) >= number else [], 60
        )

    def go(self) -> dict[str, Entry]:
        """Let the calls end; the tasks once they have ended."""
        (self.work.app.path / "go-digests").touch()

        def ended() -> dict[str, Entry]:
            found = self.entries()
            return found if all(e.status in FINAL for e in found.values()) else {}

        return until(ended, 90, what=str(self.outcomes()))

    def outcomes(self) -> Counter[str]:
        return Counter(e.outcome or e.status for e in self.entries().values())

    def done(self) -> Counter[int]:
        """How often the rows have had the effect of a call."""
        model = self.work.app.getElement("models.WorkOwned")
        with Session(self.work.app.engine()) as session:
            rows = [session.get(model, int(key)) for key in self.entries()]
            return Counter(row.done for row in rows)


@pytest.fixture
def digests(work: Place) -> Iterator[Callable[..., Digests]]:
    made: list[Digests] = []

    def make(ahead: float = -1, **owners: int) -> Digests:
        made.append(Digests(work, owners, ahead))
        return made[-1]

    yield make
    for each in made:
        each.go()


def test_whole_calls_are_at_work_beside_each_other(
    digests: Callable[..., Digests],
) -> None:
    d = digests(ann=4, bob=1, cat=3, dan=5)
    at_work = d.at_work(4)
    assert sorted((owner, len(keys)) for owner, _, keys in at_work) == [
        ("ann", 4), ("bob", 1), ("cat", 3), ("dan", 5)
    ]  # fmt: skip
    assert len({pid for _, pid, _ in at_work}) > 1
    entries = d.go()
    assert d.outcomes() == {"completed": 13}
    assert d.done() == {1: 13}
    assert {e.attempt for e in entries.values()} == {1}
    assert Counter(e.returned_value for e in entries.values()) == {
        4: 4,
        1: 1,
        3: 3,
        5: 5,
    }
    [run_id] = {str(e.flow_run_id) for e in entries.values()}
    assert d.work.state(run_id, "Completed").message == "13 rows: 13 done"
    assert len(d.work.api.table(run_id)) == 13


def test_a_process_that_is_killed_in_a_call(digests: Callable[..., Digests]) -> None:
    """All rows of the call are tried again together, with a retry counted; the calls beside are left alone."""
    d = digests(ann=3, bob=2, cat=2)
    at_work = d.at_work(3)
    owner, pid, keys = at_work[-1]
    os.kill(pid, signal.SIGKILL)
    until(lambda: [o for o, *_ in d.begun()].count(owner) == 2, 90)
    assert d.begun()[-1][2] == keys
    entries = d.go()
    assert d.outcomes() == {"completed": 7}
    assert d.done() == {1: 7}
    assert {key for key, e in entries.items() if e.attempt == 2} >= set(keys)


def test_the_end_of_one_row_at_work(digests: Callable[..., Digests]) -> None:
    """Its process is gone on return; the others of the call begin again at once, and no retry is counted."""
    d = digests(ann=3, bob=2, cat=1)
    [(_, pid, keys)] = [call for call in d.at_work(3) if call[0] == "ann"]
    first, *others = keys
    ended = d.work.svc.forcedEnd(d.entries()[first].task_id)
    assert (ended["changed"], ended["status"]) == (True, "ended")
    assert not psutil.pid_exists(pid)
    until(lambda: [keys for o, _, keys in d.begun() if o == "ann"][1:] == [others], 60)
    entries = d.go()
    assert d.outcomes() == {"completed": 5, "forced": 1}
    assert d.done() == {1: 5, 0: 1}
    assert {entries[key].attempt for key in others} == {1}


def test_the_end_of_one_row_whose_call_has_sqlite_locked(
    digests: Callable[..., Digests],
) -> None:
    """Its process is killed first, and its worker may write the death of all rows down before the end."""
    d = digests(ahead=8 * PATIENCE, locks=3)  # the sync ends before
    [(_, pid, keys)] = d.at_work(1)
    first, *others = keys
    d.work.svc.forcedEnd(d.entries()[first].task_id)
    assert not psutil.pid_exists(pid)
    until(lambda: len(d.begun()) == 2, 60)
    assert d.begun()[1][2] == others
    entries = d.go()
    assert d.outcomes() == {"completed": 2, "forced": 1}
    assert {entries[key].attempt for key in others} == {1}


def test_cancel_ends_all_calls(digests: Callable[..., Digests]) -> None:
    d = digests(ann=3, bob=2, cat=1)
    at_work = d.at_work(3)
    [run_id] = {str(e.flow_run_id) for e in d.entries().values()}
    d.work.api.set_state(run_id, "CANCELLING")
    d.work.state(run_id, "Cancelled")
    until(lambda: not [p for _, p, _ in at_work if psutil.pid_exists(p)], 10)
    d.go()
    assert d.outcomes() == {"forced": 6}
    assert d.done() == {0: 6}
