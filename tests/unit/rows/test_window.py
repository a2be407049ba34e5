"""The window of a sync, raw SQL, the re-check at the due moment, and what happens in Prefect."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import pytest
from shop import GONE, Shop, model_of, rows_task, utc

from jittask_prefect.errors import LedgerError, PrefectApiError
from jittask_prefect.ledger import planned_rows, state_table
from jittask_prefect.records.listing import RecordFilter, records
from jittask_prefect.rows import handover, planning, sync
from jittask_prefect.testing import FakePrefect, deploy

Make = Callable[..., Shop]
OPEN = "Q('status','=','open')"
HOURLY = {"repeat": {"repeatType": "hour"}}
INSERT = "INSERT INTO bill (id, status, at, count) VALUES (:id, 'open', :at, 0)"


def insert(s: Shop, key: int, at: str, database: str = "") -> None:
    s.raw(INSERT, database, id=key, at=f"{at}:00.000000")


def move(s: Shop, at: str) -> None:
    s.raw("UPDATE bill SET at = :at WHERE id = 1", at=f"{at}:00.000000")


def test_the_window_begins_an_overlap_before_the_last_sync(shop: Make) -> None:
    # a transaction that was open during the last sync commits a row that was due before it: at least 10 minutes
    s = shop(missed={"lookback": 600})
    s.sync("2026-03-02 08:00")
    s.sync("2026-03-02 09:00")
    insert(s, 1, "2026-03-02 08:50")  # 10 minutes before the last sync: out
    insert(s, 2, "2026-03-02 08:51")
    assert s.did("2026-03-02 09:01") == ["create 2 03-02 08:51"]
    assert [o.status for o in s.work()] == ["completed"]


def test_a_date_in_the_past_is_due_at_once_within_lookback(shop: Make) -> None:
    s = shop()  # lookback: a day
    s.save(id=1, at=datetime(2026, 3, 1, 8))  # a day ago to the second
    s.save(id=2, at=datetime(2026, 3, 1, 7, 59))
    s.save(id=3, at=datetime(2026, 3, 5))
    s.save(id=3, at=datetime(2020, 1, 1))
    assert s.tasks() == [
        "3 01-01 00:00 #2 missed", "2 03-01 07:59 #1 missed", "1 03-01 08:00 #1 pending", "3 03-05 00:00 #1 superseded",
    ]  # fmt: skip
    assert "more than 86400 s ago" in s.entries(outcome="missed")[0].message
    s.sync()
    assert [o.status for o in s.work()] == ["completed"]
    assert [s.row(key).count for key in (1, 2, 3)] == [1, 0, 0]


@pytest.mark.parametrize("policy", ["latest", "all", "none"])
def test_what_moves_into_the_past_is_not_late(shop: Make, policy: str) -> None:
    # lateness counts from when it became known; no worker and no sync was away
    s = shop(missed={"policy": policy})
    s.save(id=1, at=datetime(2026, 3, 2, 6))
    s.sync("2026-03-02 08:00")
    assert [o.outcome for o in s.work("2026-03-02 08:01")] == ["completed"]


@pytest.mark.parametrize("policy", ["latest", "all", "none"])
def test_raw_sql_that_inserts_what_was_due_before_the_last_sync(
    shop: Make, policy: str
) -> None:
    s = shop(missed={"policy": policy})
    s.sync("2026-03-02 08:00")
    s.sync("2026-03-02 08:20")
    insert(s, 1, "2026-03-02 08:15")
    s.sync("2026-03-02 08:21")
    assert [o.outcome for o in s.work()] == ["completed"]


def test_raw_sql_moves_a_date_into_the_past(shop: Make) -> None:
    # as a save would: due at once within lookback, a day
    s = shop()
    s.sync("2026-03-01 08:00")
    insert(s, 1, "2026-03-09 09:00")
    s.sync("2026-03-02 08:00")
    move(s, "2026-03-01 09:00")
    assert s.did("2026-03-02 08:01") == ["create 1 03-01 09:00"]
    assert [o.status for o in s.work()] == ["completed"]
    assert s.did("2026-03-02 08:02") == []


def test_raw_sql_newly_and_earlier_due(shop: Make) -> None:
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 12))
    s.sync()
    insert(s, 2, "2026-03-02 11:00")
    move(s, "2026-03-02 10:00")
    assert s.did("2026-03-02 08:01") == [
        "reschedule 1 03-02 10:00",
        "create 2 03-02 11:00",
    ]
    assert len(s.work("2026-03-02 12:00")) == 2  # the old run is cancelled
    assert (s.row(1).count, s.row(2).count) == (1, 1)


def test_raw_sql_later_is_seen_at_the_due_moment(shop: Make) -> None:
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    move(s, "2026-03-09 10:00")  # beyond the horizon: no sync looks there
    assert s.did("2026-03-02 08:01") == []
    [outcome] = s.work("2026-03-02 10:00")
    assert (outcome.status, outcome.outcome) == (
        "ended",
        "superseded",
    ) and "another one" in outcome.message
    assert s.row(1).count == 0
    assert s.tasks() == ["1 03-02 10:00 #1 superseded", "1 03-09 10:00 #2 pending"]
    s.sync("2026-03-08 10:30")
    assert [o.status for o in s.work("2026-03-09 10:00")] == ["completed"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE bill SET status = 'paid'", "filter"),
        ("UPDATE bill SET at = NULL", "no date"),
        ("DELETE FROM bill", "gone"),
    ],
)
def test_the_row_is_read_again_at_the_due_moment(
    shop: Make, change: str, reason: str
) -> None:
    s = shop(filter=OPEN)
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    s.raw(change)
    assert (
        s.did("2026-03-02 08:01") == []
    )  # it is not due in any window: nothing to see
    [outcome] = s.work("2026-03-02 10:00")
    assert (outcome.status, outcome.outcome) == (
        "ended",
        "superseded",
    ) and reason in outcome.message
    assert s.did("2026-03-02 10:01") == []


def test_disabled_at_the_due_moment(shop: Make) -> None:
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    s.config(enable=0)
    [outcome] = s.work("2026-03-02 10:00")
    assert (outcome.status, outcome.message) == ("ended", "ended: the task is disabled")
    assert s.row(1).count == 0


def test_cancel_in_prefect_closes_the_occurrence_until_the_date_changes(
    shop: Make,
) -> None:
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    [run] = s.api.all_runs
    s.api.set_state(run, "CANCELLING")
    report = s.sync("2026-03-02 08:01")
    assert s.tasks() == ["1 03-02 10:00 #1 forced"]
    assert [(d, e.row_key) for d, e in report.died] == [
        ("", "1")
    ]  # afterReturn is to be called
    s.save(id=1, status="seen")
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    assert s.did("2026-03-02 08:02") == []
    s.save(id=1, at=datetime(2026, 3, 2, 11))
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    assert "1 03-02 10:00 #3 pending" in s.tasks()


def test_a_deleted_run_is_made_again_unless_it_was_finished(shop: Make) -> None:
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.save(id=2, at=datetime(2026, 3, 2, 9))
    s.sync()
    s.work("2026-03-02 09:00")
    for run in list(s.api.all_runs):
        s.api.delete_run(run)
    report = s.sync("2026-03-02 09:01")
    assert report.created == 1
    [run] = s.api.all_runs.values()
    assert run["parameters"] == {
        "template": "tasks.Task",
        "taskId": s.entries(row_key="1")[0].task_id,
    }
    assert [o.status for o in s.work("2026-03-02 10:00")] == ["completed"]


def test_a_deployment_that_was_deleted_with_its_runs(shop: Make) -> None:
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    s.api.delete_deployment(s.api.all_deployments["tasks.Task"]["id"])
    report = s.sync("2026-03-02 08:01")
    assert report.problems == [
        "tasks.Task: no deployment of that name; run `jittask deploy`"
    ]
    deploy(s.app, s.api, s.now)
    assert s.sync("2026-03-02 08:02").created == 1


@pytest.mark.parametrize("state", ["CRASHED", "FAILED"])
def test_a_run_that_crashed_before_it_began_is_made_again(
    shop: Make, state: str
) -> None:
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    [first] = s.api.all_runs
    s.api.set_state(first, state)
    s.sync("2026-03-02 10:01")
    assert [o.status for o in s.work()] == ["completed"]
    assert len(s.api.all_runs) == 2
    assert s.entries()[0].attempt == 1  # what never began has cost no retry


def test_the_runs_of_a_broken_template_wait_until_it_works_again(shop: Make) -> None:
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    [first] = s.api.all_runs
    s.config(slip=1)  # no such key
    s.api.set_state(first, "FAILED")  # the worker could not load it

    for instant in ("2026-03-02 10:01", "2026-03-02 10:02"):
        report = s.sync(instant)
        assert report.created == 0
        assert any(
            "tasks.Task: its tasks wait" in problem for problem in report.problems
        )
    assert list(s.api.all_runs) == [first]

    s._elements["tasks/Task"]["e.json"].pop("slip")
    s.config()
    assert s.sync("2026-03-02 10:03").created == 1
    assert [o.status for o in s.work()] == ["completed"]


def test_a_run_that_crashes_and_is_lost_again_and_again(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    for minute in range(1, 5):
        [run] = s.api.due(utc("2026-03-02 10:00"))
        s.api.set_state(run["id"], "CRASHED")
        with monkeypatch.context() as patch:
            patch.setattr(handover.handover_marks, "runs_made", lambda *a: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                s.sync(f"2026-03-02 10:0{minute}")
        s.sync()
    assert len(s.api.all_runs) == 5
    assert [o.status for o in s.work()] == ["completed"]


def test_a_run_that_somebody_marked_as_completed_is_closed(shop: Make) -> None:
    # else the task would stand there as overdue for ever
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    s.api.set_state(next(iter(s.api.all_runs)), "COMPLETED")
    s.sync("2026-03-02 10:01")
    assert [e.message for e in s.entries()] == ["ended: marked as completed in Prefect"]


def test_prefect_restored_from_an_empty_copy(shop: Make) -> None:
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    s.api = FakePrefect()
    deploy(s.app, s.api, s.now)
    assert s.sync("2026-03-02 08:01").created == 1
    assert [o.status for o in s.work("2026-03-02 10:00")] == ["completed"]


# Crashes: each step may stop anywhere


def test_a_crash_between_ledger_and_prefect(shop: Make) -> None:
    s = shop()
    insert(s, 1, "2026-03-02 10:00")
    s.api.down = True
    with pytest.raises(PrefectApiError):
        s.sync()
    assert s.tasks() == ["1 03-02 10:00 #1 pending"]
    s.api.down = False
    assert s.sync("2026-03-02 08:00").created == 1  # the lease was given back


def test_one_run_that_prefect_refuses_does_not_keep_the_others(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = shop()
    insert(s, 1, "2026-03-02 10:00")
    insert(s, 2, "2026-03-02 11:00")
    real = s.api.create_run

    def refuse(*args: Any, **keys: Any) -> Any:
        if "Bill 1" in keys["name"]:
            raise PrefectApiError("422")
        return real(*args, **keys)

    with monkeypatch.context() as patch:
        patch.setattr(s.api, "create_run", refuse)
        report = s.sync()
    assert (report.created, report.problems) == (1, ["tasks.Task, row 1: 422"])
    assert s.sync("2026-03-02 08:01").created == 1


def test_a_crash_between_prefect_and_the_recording_of_the_run(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = shop()
    insert(s, 1, "2026-03-02 10:00")
    with monkeypatch.context() as patch:
        patch.setattr(handover.handover_marks, "runs_made", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            s.sync()
    assert s.entries()[0].flow_run_id is None and len(s.api.all_runs) == 1
    s.sync("2026-03-02 08:01")
    assert [s.entries()[0].flow_run_id] == list(s.api.all_runs)


def test_a_run_that_was_never_recorded_and_its_row_changed(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    with monkeypatch.context() as patch:
        patch.setattr(handover.handover_marks, "runs_made", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            s.sync()
    s.save(id=1, at=datetime(2026, 3, 2, 11))
    s.sync("2026-03-02 08:01")
    # the old run is found by its key
    assert sorted(r["state_type"] for r in s.api.all_runs.values()) == [
        "CANCELLED",
        "SCHEDULED",
    ]
    assert [o.status for o in s.work("2026-03-02 12:00")] == ["completed"]
    assert s.row(1).count == 1


def test_a_run_that_was_never_recorded_and_began(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    with monkeypatch.context() as patch:
        patch.setattr(handover.handover_marks, "runs_made", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            s.sync()
    assert [o.status for o in s.work("2026-03-02 10:00")] == ["completed"]
    s.sync("2026-03-02 10:01")
    assert [s.entries()[0].flow_run_id] == list(
        s.api.all_runs
    )  # taken down by the claim


def test_a_template_without_its_table_is_reported_and_the_others_go_on(
    shop: Make,
) -> None:
    s = shop(
        more={
            "models/Gone": model_of(GONE),
            "tasks/Early": rows_task("day", model="models.Gone"),
        }
    )
    s.raw("DROP TABLE gone")
    insert(s, 1, "2026-03-02 10:00")
    report = s.sync()
    assert [p.partition(":")[0] for p in report.problems] == ["tasks.Early"]
    assert s.tasks() == ["1 03-02 10:00 #1 pending"]


def test_the_watermark_moves_after_the_plan_is_applied(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync that dies while it applies has looked at nothing: the next one begins where the last whole one ended."""
    s = shop(missed={"lookback": 600})
    s.sync("2026-03-02 08:00")
    insert(s, 1, "2026-03-02 08:30")

    def dies(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(planned_rows, "plan", dies)
        with pytest.raises(MemoryError):
            s.sync("2026-03-02 09:00")
    # From 07:50 on. Ten minutes before 09:00 would be too late.
    assert s.did("2026-03-02 09:15") == ["create 1 03-02 08:30"]


def test_the_watermark_of_a_template_that_failed_stays(shop: Make) -> None:
    late = {"startOffset": {"offsetType": 0, "time": "08:30"}}
    s = shop(
        missed={"lookback": 600},
        more={
            "models/Gone": model_of(GONE),
            "tasks/Gone": rows_task(
                "day", model="models.Gone", missed={"lookback": 600}, **late
            ),
        },
    )
    s.sync("2026-03-02 08:00")
    s.raw("ALTER TABLE gone RENAME TO away")
    problems = s.sync("2026-03-02 09:00").problems
    assert [p.partition(":")[0] for p in problems] == ["tasks.Gone"]
    s.raw("ALTER TABLE away RENAME TO gone")
    s.raw("INSERT INTO gone (id, day) VALUES (7, '2026-03-02')")
    insert(s, 1, "2026-03-02 08:30")  # of the template that did not fail: too late
    assert s.did("2026-03-02 09:15") == ["create 7 03-02 08:30"]


def test_one_sync_at_a_time_and_a_dead_ones_lease_runs_out(shop: Make) -> None:
    s = shop()
    dead = utc("2026-03-02 08:00")
    with s.app.engine().begin() as connection:
        assert state_table.take_lease(
            connection, s.app.name, "sync", "dead", dead, sync.LEASE_SECONDS
        )
    assert sync.run(s.app, s.api, s.now, "me", clock=lambda: s.now) is None
    assert s.sync("2026-03-02 08:01:01").problems == []


def test_no_tables(shop: Make) -> None:
    s = shop()
    s.raw("DROP TABLE jittask_ledger")
    s.raw("DROP TABLE jittask_state")
    insert(s, 1, "2026-03-02 10:00")
    assert [a.row for a in planning.plan(s.app, s.now).actions] == [
        "1"
    ]  # a dry run needs none
    with pytest.raises(LedgerError, match="jittask db upgrade"):
        s.sync()


def test_records_of_tables_of_another_version(shop: Make) -> None:
    s = shop()
    s.raw("UPDATE jittask_state SET value = '1' WHERE name = 'schema'")
    with pytest.raises(
        LedgerError,
        match="version 1, and this jittask-prefect works with version 5 only",
    ):
        records(s.app, s.api, s.now, RecordFilter())


def two(s: Make) -> Shop:
    crm = model_of("from datetime import date\nfrom sqlmodel import Field, SQLModel\n"
                   "class Lead(SQLModel, table=True):\n    id: int = Field(primary_key=True)\n    day: date\n"
                   "    count: int = 0", database="crm")  # fmt: skip
    return s(
        more={"models/Lead": crm, "tasks/Call": rows_task("day", model="models.Lead")},
        app_json={"databases": {"crm": "sqlite:///crm.db"}},
    )


def test_two_databases_each_with_its_ledger(shop: Make) -> None:
    s = two(shop)
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.save("models.Lead", id=1, day=date(2026, 3, 3))
    assert (s.tasks(), s.tasks("crm")) == (
        ["1 03-02 10:00 #1 pending"],
        ["1 03-03 00:00 #1 pending"],
    )
    assert s.sync().created == 2
    assert [o.status for o in s.work("2026-03-03 00:00")] == ["completed", "completed"]
    assert (s.row(1).count, s.row(1, "models.Lead").count) == (1, 1)
    s.again(**{"tasks/Call": None})  # the last template of its database
    s.raw("UPDATE lead SET day = '2026-03-04'", "crm")
    s.sync("2026-03-03 00:01")
    assert s.tasks("crm", status="pending") == []


def test_the_last_template_of_a_database_is_removed(shop: Make) -> None:
    s = two(shop)
    s.save("models.Lead", id=1, day=date(2026, 3, 3))
    s.sync()
    s.again(**{"tasks/Call": None})
    assert s.did("2026-03-02 08:01") == ["end 1 03-03 00:00"]
    assert s.tasks("crm") == ["1 03-03 00:00 #1 superseded"]


@pytest.mark.parametrize("broken", ["unreachable", "no ledger"])
def test_a_database_in_trouble_keeps_no_other_from_working(
    shop: Make, broken: str
) -> None:
    s = two(shop)
    if broken == "no ledger":
        s.raw("DROP TABLE jittask_state", "crm")
        s.raw("DROP TABLE jittask_ledger", "crm")
    else:
        s.app._engines["crm"].dispose()
        s._json["databases"] = {"crm": "sqlite:////nowhere/at/all.db"}
        (s.folder / "app.json").write_text(
            (s.folder / "app.json")
            .read_text()
            .replace("sqlite:///crm.db", "sqlite:////nowhere/at/all.db")
        )
        s.app.close()
        s.app = type(s.app)(s.folder)
    insert(s, 1, "2026-03-02 10:00")
    report = s.sync()
    assert len(report.problems) == 1 and "crm" in report.problems[0]
    assert report.created == 1
    assert [o.status for o in s.work("2026-03-02 10:00")] == ["completed"]


# Missed


def late(shop: Make, policy: str, **keys: object) -> Shop:
    """An hourly task from 09:00; the sync at 08:00, and then nobody until 12:30."""
    s = shop(
        missed={"policy": policy, **keys},
        **HOURLY,
        endTimeType=1,
        endTime="2026-03-02 23:00:00",
    )
    insert(s, 1, "2026-03-02 09:00")
    return s


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize(
    ("policy", "ran"),
    [
        ("all", ["09:00", "10:00", "11:00", "12:00"]),
        ("latest", ["12:00"]),
        ("none", []),
    ],
)
def test_what_became_due_while_nobody_was_there(
    shop: Make, policy: str, ran: list[str], planned: bool
) -> None:
    s = late(shop, policy)
    if planned:  # no worker; else no sync either
        s.sync("2026-03-02 08:00")
    else:
        s.raw("UPDATE bill SET at = '2026-03-09'")
        s.sync("2026-03-02 08:00")
        move(s, "2026-03-02 09:00")
    s.sync("2026-03-02 12:30")
    s.work()
    done = [f"{e.due:%H:%M}" for e in s.entries(status="completed")]
    assert done == ran
    missed = s.entries(outcome="missed")
    assert len(missed) == 4 - len(ran) and all(
        e.message.startswith("missed: ") for e in missed
    )
    assert s.did("2026-03-02 12:31") == [] and s.work() == []


@pytest.mark.parametrize("policy", ["all", "latest", "none"])
def test_up_to_grace_late_is_on_time(shop: Make, policy: str) -> None:
    s = late(shop, policy, grace=60)
    s.sync("2026-03-02 08:00")
    assert [o.status for o in s.work("2026-03-02 09:01")] == ["completed"]
    [outcome] = s.work("2026-03-02 10:01:01")
    assert outcome.status == ("ended" if policy == "none" else "completed")


def test_an_outage_longer_than_lookback_is_no_change_of_a_date(shop: Make) -> None:
    s = shop(missed={"policy": "latest", "lookback": 3600})
    insert(s, 1, "2026-03-03 10:00")
    s.sync("2026-03-02 08:00")
    s.sync(
        "2026-03-05 08:00"
    )  # a weekend without a sync: the newest of the row is made good
    assert [o.status for o in s.work()] == ["completed"]


def test_all_runs_in_the_order_of_due_times(shop: Make) -> None:
    s = shop(missed={"policy": "all"})
    s.sync()
    for key, at in ((1, "11:00"), (2, "09:00"), (3, "10:00")):
        insert(s, key, f"2026-03-02 {at}")
    s.sync("2026-03-02 12:00")
    names = [r["name"] for r in s.api.due(s.now)]
    assert names == [
        f"Task · Bill {k} · 2026-03-02 {t}"
        for k, t in ((2, "09:00"), (3, "10:00"), (1, "11:00"))
    ]


def test_what_a_holiday_carries_past_the_end_is_told_once(
    shop: Make, caplog: pytest.LogCaptureFixture
) -> None:
    # China's National Day holiday 2026: October 1 to 7; the row ends on the 3rd.
    repeat = {"repeatType": "day", "period": 1}
    s = shop(
        repeat=repeat, endTimeType=2, endField="until", skipHoliday=1, calendar="CN"
    )
    s.sync("2026-09-30 08:00")
    s.save(id=1, at=datetime(2026, 9, 30, 9), until=date(2026, 10, 3))
    for instant in (
        "2026-10-01 08:59",
        "2026-10-01 09:00",
        "2026-10-01 09:01",
        "2026-10-01 09:02",
    ):
        s.sync(instant)
    told = [r.getMessage() for r in caplog.records if "dropped" in r.getMessage()]
    assert told == [
        "tasks.Task, row 1: 2026-10-01 09:00 dropped: the holiday move carries it past the end"
    ]
    assert [entry.due for entry in s.entries()] == [utc("2026-09-30 09:00")]
