"""Ledger and Prefect brought together: at what cost, in which parts, and what an older copy of either does."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from typing import Any

import pytest
from shop import SERVERS, Shop, utc

from jittask_prefect.errors import PrefectApiError
from jittask_prefect.rows import flow_runs, handover, settling
from jittask_prefect.running.outcome import TAKEN, label_of

Make = Callable[..., Shop]
FAR = datetime(2026, 3, 2, 20)  # the shop's clock shows 08:00
NEAR = datetime(2026, 3, 2, 8, 10)


@pytest.fixture(params=SERVERS)
def database(request: pytest.FixtureRequest, url: Callable[[str], str]) -> str:
    """The URL of an empty business database."""
    return url(request.param)


def asked(s: Shop, instant: str) -> list[str]:
    """A sync's questions about runs, before those for runs that nobody begins or ends, that crashed, or that disagree."""
    s.api.calls.clear()
    s.sync(instant)
    calls, others = s.api.calls[:-5], s.api.calls[-5:]
    calls = [call for call in calls if call not in ("deployments", "of_flows")]
    assert others == ["runs"] * 5
    return calls


def runs(s: Shop, *states: str) -> list[dict[str, Any]]:
    return [r for r in s.api.all_runs.values() if r["state_type"] in states]


def row_of(run: dict[str, Any]) -> str:
    """Model and key in a run's name: `Task · Bill 1 · 2026-03-02 08:06` is of `Bill 1`."""
    row: str = run["name"].split(" · ")[1]
    return row


# What a sync costs


def test_the_runs_that_are_due_first_are_asked_for_and_the_others_in_turn(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "AT_ONCE", 250)
    s = shop()
    for _ in range(600):
        s.save(at=FAR)
    s.save(at=NEAR)
    s.sync()
    # In pages of 200: 250 that are due first, then 250, then the 101 that are left, then from the start again.
    for minute in (1, 2, 3, 4):
        assert asked(s, f"2026-03-02 08:0{minute}") == ["runs"] * (
            4 if minute % 2 else 3
        )


def test_a_sync_without_ended_tasks_asks_once_for_all(shop: Make) -> None:
    s = shop()
    s.save(id=1, at=FAR)
    s.save(id=2, at=NEAR)
    s.sync()
    assert asked(s, "2026-03-02 08:01") == ["runs"]


@pytest.mark.parametrize("due", [FAR, NEAR])
def test_cancelled_marked_and_deleted_runs_are_found_by_the_next_sync(
    shop: Make, due: datetime
) -> None:
    s = shop()
    for key in (1, 2, 3, 4):
        s.save(id=key, at=due)
    s.sync()
    of = {e.row_key: str(e.flow_run_id) for e in s.entries()}
    s.api.set_state(of["1"], "CANCELLED")
    s.api.set_state(of["2"], "COMPLETED")
    s.api.delete_run(of["3"])
    s.sync("2026-03-02 08:01")
    assert {e.row_key: e.message for e in s.entries() if e.status == "ended"} == {
        "1": "ended: cancelled in Prefect",
        "2": "ended: marked as completed in Prefect",
    }
    [third] = s.entries(row_key="3")
    assert third.flow_run_id not in (of["3"], None) and not third.dirty
    assert (
        s.entries(row_key="4")[0].flow_run_id == of["4"]
        and len(runs(s, "SCHEDULED")) == 2
    )


def test_a_run_whose_process_was_refused_is_no_persons_cancel(shop: Make) -> None:
    """A process that stood still lost its lease to another; what it says when it wakes is not the end of the task."""
    s = shop()
    s.save(id=1, at=NEAR)
    s.sync()
    [entry] = s.entries()
    s.api.mark(str(entry.flow_run_id), str(label_of(TAKEN)))
    s.api.set_state(str(entry.flow_run_id), "CANCELLED", message=TAKEN.message)
    s.sync("2026-03-02 08:01")
    [again] = s.entries()
    assert again.status == "pending" and again.flow_run_id != entry.flow_run_id


def test_where_many_are_due_each_sync_asks_for_the_next(
    shop: Make, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "AT_ONCE", 2)
    s = shop(app_json={"database": database})
    for key in (1, 2, 3, 4, 5):
        s.save(id=key, at=datetime(2026, 3, 2, 8, 5 + key))
    s.sync("2026-03-02 08:00")  # asks for nothing: nothing was handed over
    for run in list(s.api.all_runs):
        s.api.delete_run(run)
    made = []
    for minute in (1, 2, 3):
        before = set(s.api.all_runs)
        s.sync(f"2026-03-02 08:0{minute}")
        made.append(
            sorted(row_of(r)[-1] for i, r in s.api.all_runs.items() if i not in before)
        )
    # Two that are due first, and two in turn.
    assert made == [["1", "2", "3", "4"], ["5"], []]


# Handing over in parts


def test_every_part_is_handed_over_also_where_all_are_due_at_one_instant(
    shop: Make, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "CHUNK", 3)
    monkeypatch.setattr(handover, "BATCH", 2)
    s = shop(app_json={"database": database})
    for key in range(1, 11):
        s.save(id=key, at=FAR)
    create, refused = s.api.create_run, s.entries(row_key="4")[0].task_id

    def but_one(deployment: str, **keys: Any) -> Any:
        if keys["key"] == refused:
            raise PrefectApiError("answered 500")
        return create(deployment, **keys)

    monkeypatch.setattr(s.api, "create_run", but_one)
    report = s.sync()
    assert report.created == 9 and report.problems == [
        "tasks.Task, row 4: answered 500"
    ]
    assert [e.row_key for e in s.entries(dirty=True)] == ["4"]
    monkeypatch.setattr(s.api, "create_run", create)
    assert (
        s.sync("2026-03-02 08:01").created == 1
        and not s.entries(dirty=True)
        and len(s.api.all_runs) == 10
    )
    gone = s.entries()[-1]
    s.api.delete_run(str(gone.flow_run_id))
    assert s.sync("2026-03-02 08:02").created == 1 and len(s.api.all_runs) == 10
    assert s.entries(row_key=gone.row_key)[0].flow_run_id in s.api.all_runs


def test_a_task_closed_while_its_run_is_made_stays_to_be_cancelled(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = shop()
    s.save(id=1, at=FAR)
    s.save(id=2, at=FAR)
    create = s.api.create_run

    def then_closed(deployment: str, **keys: Any) -> Any:
        run = create(deployment, **keys)
        if "Bill 1 ·" in run.name:
            s.save(id=1, at=None)
        return run

    monkeypatch.setattr(s.api, "create_run", then_closed)
    s.sync()
    assert [
        (e.row_key, e.status, bool(e.flow_run_id)) for e in s.entries(dirty=True)
    ] == [("1", "ended", True)]
    s.sync("2026-03-02 08:01")
    assert [row_of(run) for run in runs(s, "CANCELLED")] == ["Bill 1"]
    assert not s.entries(dirty=True)


def test_a_hand_over_whose_calls_keep_failing_gives_up(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = shop()
    for key in range(1, 6):
        s.save(id=key, at=FAR)
    seconds = iter(range(0, 1000, 12))  # each call takes 12 s and fails

    def fails(deployment: str, **keys: Any) -> Any:
        s.api.calls.append("create_run")
        raise PrefectApiError("answered 503")

    monkeypatch.setattr(s.api, "create_run", fails)
    monkeypatch.setattr(flow_runs.time, "monotonic", lambda: next(seconds))
    with pytest.raises(PrefectApiError):
        handover.hand_over(s.app, "", s.api, s.now, handover.Report())
    assert s.api.calls.count("create_run") == 3  # 36 s, where 30 are allowed
    assert len(s.entries(dirty=True)) == 5


def test_a_slow_server_makes_a_hand_over_slow_and_does_not_end_it(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three calls two fail, each after 12 s: 72 s of failures, and never 30 s without a success."""
    s = shop()
    for key in range(1, 10):
        s.save(id=key, at=FAR)
    seconds = iter(range(0, 10_000, 12))
    create, calls = s.api.create_run, iter(range(1000))

    def every_third(deployment: str, **keys: Any) -> Any:
        if next(calls) % 3 == 2:
            return create(deployment, **keys)
        raise PrefectApiError("answered 503")

    monkeypatch.setattr(s.api, "create_run", every_third)
    monkeypatch.setattr(flow_runs.time, "monotonic", lambda: next(seconds))
    for created, left in ((3, 6), (2, 4), (1, 3)):
        report = handover.Report()
        handover.hand_over(s.app, "", s.api, s.now, report)
        assert (report.created, len(s.entries(dirty=True))) == (created, left)
        assert len(report.problems) == left


def test_runs_that_cannot_be_ended_do_not_keep_later_rows_from_their_runs(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = shop()
    for key in (1, 2, 3):
        s.save(id=key, at=NEAR)
    s.sync()
    for key in (1, 2, 3):
        s.drop(key)
    s.save(id=9, at=FAR)
    seconds = iter(range(0, 10_000, 12))

    def locked(*args: Any, **keys: Any) -> Any:
        raise PrefectApiError("answered 503")

    monkeypatch.setattr(s.api, "set_state", locked)
    monkeypatch.setattr(flow_runs.time, "monotonic", lambda: next(seconds))
    with pytest.raises(PrefectApiError):
        handover.hand_over(s.app, "", s.api, s.now, handover.Report())
    assert [row_of(run) for run in runs(s, "SCHEDULED")][-1] == "Bill 9"


# Of some rows only


def by_row(s: Shop) -> dict[str, list[str]]:
    """Of each row the tasks that Prefect has not been told of."""
    return {
        key: [e.status for e in s.entries(dirty=True) if e.row_key == key]
        for key in ("1", "2", "3")
    }


@pytest.mark.parametrize("dispatch", ["row", "auto", "batch"])
def test_an_end_hands_over_what_concerns_its_row_and_not_what_others_left(
    shop: Make, database: str, dispatch: str
) -> None:
    s = shop(
        app_json={"database": database}, dispatch=dispatch, repeat={"repeatType": "day"}
    )
    s.save(id=1, at=NEAR)
    s.sync()
    [first] = s.entries()
    for key in (2, 3):  # no sync yet
        s.save(id=key, at=NEAR)
    assert by_row(s) == {"1": [], "2": ["pending"], "3": ["pending"]}
    s.at("2026-03-02 08:11")  # the next occurrence is less than 24 hours away
    assert s.element("services.TaskSvc").forcedEnd(first.task_id)["changed"] is True
    assert by_row(s) == {"1": [], "2": ["pending"], "3": ["pending"]}
    ended, following = sorted(
        (e for e in s.entries() if e.row_key == "1"), key=lambda e: e.due
    )
    assert ended.status == "ended" and (following.due, following.status) == (
        utc("2026-03-03 08:10"),
        "pending",
    )
    assert s.api.all_runs[str(ended.flow_run_id)]["state_type"] == "CANCELLED"
    assert (
        following.flow_run_id is not None and following.flow_run_id != ended.flow_run_id
    )
    s.sync("2026-03-02 08:12")
    assert by_row(s) == {"1": [], "2": [], "3": []}


def test_a_row_that_is_due_with_many_others_goes_with_them_into_a_batch(
    shop: Make,
) -> None:
    s = shop(repeat={"repeatType": "day"})
    s.save(id=1, at=NEAR)
    s.sync()
    [first] = s.entries()
    s.at("2026-03-02 08:11")
    for key in range(2, 40):  # they begin with its next occurrence
        s.save(id=key, at=datetime(2026, 3, 3, 8, 10))
    s.save(id=40, at=datetime(2026, 3, 3, 8, 5))
    s.element("services.TaskSvc").forcedEnd(first.task_id)
    assert [e.row_key for e in s.entries(dirty=True)] == ["40"]
    assert {e.batch for e in s.entries() if e.due == utc("2026-03-03 08:10")} == {1}
    assert len(runs(s, "SCHEDULED")) == 1


# Older copies


class Copy:
    """A copy of the business database (rows and ledger are one file), to go back to."""

    def __init__(self, s: Shop) -> None:
        self.s, self.file, self.copy = s, s.folder / "test.db", s.folder / "copy.db"
        with closing(sqlite3.connect(self.file)) as connection:
            connection.execute("VACUUM INTO ?", (str(self.copy),))

    def restore(self) -> None:
        self.s.app.close()
        for log in self.s.folder.glob("test.db-*"):
            log.unlink()
        shutil.copy(self.copy, self.file)
        self.s.again()


@pytest.mark.parametrize("handed", [True, False])
def test_a_restored_database_does_not_do_again_what_was_done(
    shop: Make, handed: bool
) -> None:
    s = shop(
        inner="def customFunc(row):\n    (app.path / 'done').open('a').write(f'{row.id} ')\n"
    )
    s.save(id=1, at=datetime(2026, 3, 2, 9))
    s.save(id=2, at=FAR)
    if handed:
        s.sync()
    copy = Copy(s)
    s.sync("2026-03-02 08:01")
    assert [o.status for o in s.work("2026-03-02 09:00")] == ["completed"]
    copy.restore()
    assert [e.status for e in s.entries()] == ["pending", "pending"]
    s.sync("2026-03-02 09:05")
    first, second = s.entries()
    assert (first.status, first.outcome, first.dirty, first.returned) == (
        "completed",
        "completed",
        False,
        True,
    )
    assert first.message == "done according to Prefect; the ledger is older than that"
    assert f"{first.started:%H:%M} {first.finished:%H:%M}" == "09:00 09:00"
    assert second.status == "pending" and len(runs(s, "SCHEDULED")) == 1
    assert s.did("2026-03-02 09:06") == [] and s.work("2026-03-02 09:07") == []
    assert (s.folder / "done").read_text() == "1 "


def test_a_restored_database_does_not_try_again_what_failed(shop: Make) -> None:
    s = shop(inner="def customFunc(row):\n    raise ValueError('no such bill')\n")
    s.save(id=1, at=datetime(2026, 3, 2, 9))
    s.sync()
    copy = Copy(s)
    assert [o.status for o in s.work("2026-03-02 09:00")] == ["error"]
    copy.restore()
    s.sync("2026-03-02 09:05")
    [entry] = s.entries()
    assert (entry.status, entry.outcome) == ("error", "failed")
    assert entry.message == (
        "error: ValueError: no such bill (according to Prefect; the ledger is older than that)"
    )
    assert s.work("2026-03-02 09:06") == [] and len(s.api.all_runs) == 1


def test_a_restored_database_has_what_was_superseded_since_run_again(
    shop: Make,
) -> None:
    s = shop()
    s.save(id=1, at=FAR)
    s.sync()
    copy = Copy(s)
    s.save(id=1, at=datetime(2026, 3, 2, 21))
    s.sync("2026-03-02 08:01")
    assert [r["state"]["message"][:11] for r in runs(s, "CANCELLED")] == ["superseded:"]
    copy.restore()
    s.sync("2026-03-02 08:07")
    assert s.tasks() == ["1 03-02 20:00 #1 pending"]
    assert [o.status for o in s.work("2026-03-02 20:00")] == ["completed"] and s.row(
        1
    ).count == 1


def test_a_restored_database_keeps_what_a_person_ended(shop: Make) -> None:
    s = shop()
    s.save(id=1, at=FAR)
    s.sync()
    copy = Copy(s)
    s.element("services.TaskSvc").forcedEnd(s.entries()[0].task_id)
    assert [r["state"]["message"] for r in runs(s, "CANCELLED")] == [
        "ended: forced end"
    ]
    copy.restore()
    s.sync("2026-03-02 08:05")
    assert s.tasks() == ["1 03-02 20:00 #1 forced"] and not runs(s, "SCHEDULED")


def test_a_restored_prefect_runs_nothing_twice_and_misses_nothing(shop: Make) -> None:
    s = shop()
    for key, hour in ((1, 9), (2, 10)):
        s.save(id=key, at=datetime(2026, 3, 2, hour))
    s.sync()
    old = {i: dict(r) for i, r in s.api.all_runs.items()}
    keys = dict(s.api._by_key)
    s.save(id=3, at=datetime(2026, 3, 2, 11))
    s.sync("2026-03-02 08:01")
    assert [o.status for o in s.work("2026-03-02 09:00")] == ["completed"]
    s.api.all_runs, s.api._by_key = old, keys  # 1 waits again, 3 is not there
    s.sync("2026-03-02 09:01")
    assert sorted(row_of(run) for run in runs(s, "SCHEDULED")) == [
        "Bill 1",
        "Bill 2",
        "Bill 3",
    ]
    assert [(o.status, o.message) for o in s.work("2026-03-02 11:00")] == [
        ("completed", "nothing ran: this run has completed the task before"),
        ("completed", ""),
        ("completed", ""),
    ]
    assert [s.row(key).count for key in (1, 2, 3)] == [1, 1, 1]


def test_a_restored_prefect_has_cancelled_again_what_was_ended_since(
    shop: Make,
) -> None:
    s = shop()
    for key in (1, 2):
        s.save(id=key, at=FAR)
    s.sync()
    old = {i: dict(r) for i, r in s.api.all_runs.items()}
    keys = dict(s.api._by_key)
    s.save(id=1, at=datetime(2026, 3, 2, 21))
    s.sync("2026-03-02 08:01")
    s.api.all_runs, s.api._by_key = (
        old,
        keys,
    )  # as many as the ledger has: 1 at 20:00 instead of 1 at 21:00
    s.sync("2026-03-02 08:07")
    s.sync("2026-03-02 08:08")
    assert [
        (row_of(r), r["expected_start_time"][11:16], r["state_type"])
        for r in s.api.all_runs.values()
    ] == [
        ("Bill 1", "20:00", "CANCELLED"),
        ("Bill 2", "20:00", "SCHEDULED"),
        ("Bill 1", "21:00", "SCHEDULED"),
    ]
    # Those that wait, and the ended tasks that would be due.
    assert asked(s, "2026-03-02 08:09") == ["runs", "runs"]
