"""Rows of a batch over several processes: side by side, and each with an end of its own."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from place import Place, until
from sqlmodel import Session

from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.tables import FINAL
from jittask_prefect.warm.helpers import LAST_ROWS_SECONDS

NAME = "tasks.WorkBatch"
ROWS = 24


class Batch:
    """Rows that are due at one instant, which is now, and that wait at work until `go`."""

    def __init__(self, work: Place) -> None:
        self.work = work
        for file in ("many.txt", "go"):
            (work.app.path / file).unlink(missing_ok=True)
        at = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=1)
        model = work.app.getElement("models.WorkMany")
        with Session(work.app.engine()) as session:
            session.add_all([model(at=at, status="wait") for _ in range(ROWS)])
            session.commit()
        work.sync()
        self.at = at.replace(tzinfo=UTC)

    def entries(self) -> list[Entry]:
        return [each for each in self.work.entries(NAME) if each.due == self.at]

    def begun(self) -> dict[str, int]:
        """The rows that began, each with its process; a row that began twice is told apart."""
        file = self.work.app.path / "many.txt"
        lines = file.read_text().splitlines() if file.exists() else []
        pairs = [line.split() for line in lines if line.count(" ") == 1]
        assert len(pairs) == len({row for row, _ in pairs})
        return {row: int(pid) for row, pid in pairs}

    def side_by_side(self) -> dict[str, int]:
        """The rows at work, once several processes have some."""
        return until(lambda: (f := self.begun()) if len(self.begun()) >= 6 else {}, 60)

    def go(self) -> list[Entry]:
        """Let the rows end; all entries, once they have ended."""
        (self.work.app.path / "go").touch()

        def ended() -> list[Entry]:
            found = self.entries()
            return found if all(e.status in FINAL for e in found) else []

        return until(ended, 90, what=str(Counter(e.status for e in self.entries())))


@pytest.fixture
def batch(work: Place) -> Iterator[Batch]:
    made = Batch(work)
    yield made
    made.go()


def test_rows_that_wait_are_at_work_beside_each_other(batch: Batch) -> None:
    at_work = batch.side_by_side()
    assert len(set(at_work.values())) == len(at_work)
    entries = batch.go()
    assert {e.status for e in entries} == {"completed"}
    [run_id] = {str(e.flow_run_id) for e in entries}
    assert batch.work.state(run_id, "Completed").message == "24 rows: 24 done"
    assert len(batch.work.api.table(run_id)) == ROWS
    assert len(batch.begun()) == ROWS


def test_a_helper_that_dies_fails_its_own_row_only(batch: Batch) -> None:
    row, pid = list(batch.side_by_side().items())[-1]
    os.kill(pid, signal.SIGKILL)
    [died] = until(lambda: [e for e in batch.entries() if e.status == "error"], 10)
    assert (died.row_key, died.message) == (row, "error: worker died")
    entries = batch.go()
    assert Counter(e.outcome for e in entries) == {"completed": ROWS - 1, "died": 1}
    [run_id] = {str(e.flow_run_id) for e in entries}
    state = batch.work.state(run_id, "Failed")
    assert state.message == "24 rows: 23 done, 1 failed"


def test_the_end_of_a_helpers_row_ends_that_row_alone(batch: Batch) -> None:
    row, pid = list(batch.side_by_side().items())[-1]
    [entry] = [e for e in batch.entries() if e.row_key == row]
    assert batch.work.svc.forcedEnd(entry.task_id)["changed"] is True
    assert not psutil.pid_exists(pid)
    entries = batch.go()
    assert Counter(e.outcome for e in entries) == {"completed": ROWS - 1, "forced": 1}
    assert len({e.flow_run_id for e in entries}) == 1


def test_the_end_of_the_leaders_row_leaves_the_helpers_rows(batch: Batch) -> None:
    (row, pid), *beside = batch.side_by_side().items()
    [entry] = [e for e in batch.entries() if e.row_key == row]
    [run_id] = {str(e.flow_run_id) for e in batch.entries()}
    assert batch.work.svc.forcedEnd(entry.task_id)["changed"] is True
    assert not psutil.pid_exists(pid)
    batch.work.state(run_id, "Crashed")
    ended = time.monotonic()  # the helpers' rows are at work for longer than that
    until(lambda: time.monotonic() > ended + 1.5 * LAST_ROWS_SECONDS, 10)
    at_work = {e.row_key for e in batch.entries() if e.status == "executing"}
    assert at_work >= {key for key, _ in beside}
    entries = batch.go()
    assert Counter(e.outcome for e in entries) == {"completed": ROWS - 1, "forced": 1}
    assert {e.attempt for e in entries} == {1}


def test_cancel_ends_all_processes(batch: Batch) -> None:
    at_work = batch.side_by_side()
    [run_id] = {str(e.flow_run_id) for e in batch.entries()}
    batch.work.api.set_state(run_id, "CANCELLING")
    batch.work.state(run_id, "Cancelled")
    until(lambda: not [p for p in at_work.values() if psutil.pid_exists(p)], 10)
    entries = batch.go()
    assert {e.outcome for e in entries} == {"forced"}
    assert len(batch.begun()) < ROWS


def test_the_leaders_death_gives_helpers_time_for_their_rows(batch: Batch) -> None:
    (row, leader), *_ = batch.side_by_side().items()
    os.kill(leader, signal.SIGKILL)
    entries = batch.go()
    outcomes = Counter(e.outcome for e in entries)
    assert outcomes == {"completed": ROWS - 1, "died": 1}
    [died] = [e for e in entries if e.outcome == "died"]
    assert died.row_key == row
