"""A row's task beside its occurrences: a record of that row, done once, with the regular occurrence as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from shop import Shop

from jittask_prefect.dialogs.flows import one_at_a_time
from jittask_prefect.errors import ArgumentError, PrefectApiError, UnknownTask
from jittask_prefect.running.by_hand import Begun, run_row

Make = Callable[..., Shop]
NAME = "tasks.Task"


def asked(s: Shop, row: str | None, ask: str | None = None) -> Begun:
    return run_row(s.app, s.api, NAME, row, s.now, ask)


def saved(s: Shop) -> Shop:
    """Row 1, due tomorrow at 09:00."""
    s.save(id=1, at=datetime(2026, 3, 3, 9, 0))
    s.sync()
    return s


def test_the_run_is_a_record_of_the_row_and_its_occurrence_stays(shop: Make) -> None:
    s = saved(shop())
    begun = asked(s, "1")
    assert not begun.before and begun.run_id in begun.url
    [run] = [r for r in s.api.runs() if r.id == begun.run_id]
    assert "test.models.Bill:1" in run.tags
    assert [o.result for o in s.work()] == [1]
    assert s.tasks() == ["1 03-02 08:00 #0 completed", "1 03-03 09:00 #1 pending"]
    [record] = s.app.getElement("services.TaskSvc").getTaskRecords(NAME, "completed")
    assert (record["row"], record["result"]) == ("1", 1)
    s.sync("2026-03-03 09:00")
    s.work()
    assert s.row_count(1) == 2
    assert s.tasks() == ["1 03-02 08:00 #0 completed", "1 03-03 09:00 #1 completed"]


def test_neither_date_nor_filter_nor_enable_are_asked(shop: Make) -> None:
    s = shop(filter="Q(status='other')", enable=0)
    s.save(id=1)
    asked(s, "1")
    assert [o.status for o in s.work()] == ["completed"]


def test_changes_of_the_row_leave_it_alone(shop: Make) -> None:
    s = saved(shop())
    asked(s, "1")
    s.save(id=1, at=datetime(2026, 3, 5, 9, 0))
    s.config(title="Other", filter="Q(status='other')")
    s.sync()
    assert "1 03-02 08:00 #0 pending" in s.tasks()
    assert [o.status for o in s.work()] == ["completed"]


def test_a_row_that_is_gone_meanwhile(shop: Make) -> None:
    s = saved(shop())
    asked(s, "1")
    s.drop(1)
    [outcome] = s.work()
    assert outcome.message == "superseded: the row is gone"


@pytest.mark.parametrize("status", ["pending", "executing"])
def test_a_second_request_is_told_of_the_first(shop: Make, status: str) -> None:
    s = saved(shop())
    first = asked(s, "1", "form 1")
    s.raw("UPDATE jittask_ledger SET status = :s WHERE nominal IS NULL", s=status)
    second = asked(s, "1", "form 2")
    assert second.before and second.run_id == first.run_id
    assert len(s.api.runs()) == 1


def test_a_request_that_is_carried_out_twice_makes_one_task(shop: Make) -> None:
    """Its process died after the task was made, and was done; somebody tries the form's run again."""
    s = saved(shop())
    first = asked(s, "1", "form 1")
    s.work()
    second = asked(s, "1", "form 1")
    assert second.before and second.run_id == first.run_id
    assert s.work() == [] and s.row_count(1) == 1


def test_a_later_request_runs_again(shop: Make) -> None:
    s = saved(shop())
    for number in (1, 2):
        asked(s, "1", f"form {number}")
        s.work()
    assert s.row_count(1) == 2


def test_a_failure_has_the_retries_of_every_row(shop: Make) -> None:
    inner = (
        "tries = []\n"
        "def customFunc(row):\n"
        "    tries.append(1)\n"
        "    if len(tries) < 3: raise ValueError('not yet')\n"
        "    row.count += 1\n"
    )
    s = saved(shop(inner=inner, retries=2))
    asked(s, "1")
    assert [o.status for o in s.work()] == ["completed"]
    [entry] = s.entries(status="completed")
    assert (entry.attempt, s.row_count(1)) == (3, 1)


def test_it_is_ended_as_every_task(shop: Make) -> None:
    s = saved(shop())
    begun = asked(s, "1")
    ended = s.app.getElement("services.TaskSvc").forcedEnd(begun.run_id)
    assert ended["status"] == "ended" and s.work() == []


def test_many_rows_by_hand_are_no_batch(shop: Make) -> None:
    s = shop(dispatch="batch")
    for key in range(1, 26):
        s.save(id=key)
        asked(s, str(key))
    s.sync()
    assert len(s.api.runs()) == 25
    assert {o.status for o in s.work()} == {"completed"}


def test_where_prefect_refuses_nothing_is_kept(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = saved(shop())

    def refuses(*_: object, **__: object) -> None:
        raise PrefectApiError("refused")

    monkeypatch.setattr(s.api, "create_run", refuses)
    with pytest.raises(PrefectApiError):
        asked(s, "1")
    assert s.tasks() == ["1 03-03 09:00 #1 pending"]


def test_a_process_that_dies_before_prefect_knows_the_task(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next sync makes the run, and the form's retry finds the same."""
    s = saved(shop())

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(s.api, "create_run", dies)
        asked(s, "1", "form 1")
    s.sync()
    begun = asked(s, "1", "form 1")
    assert begun.before and len(s.api.runs()) == 1
    assert [o.status for o in s.work()] == ["completed"]


@pytest.mark.parametrize(
    ("row", "said"), [(None, "name a row"), ("77", "has no row '77'")]
)
def test_a_row_that_is_none(shop: Make, row: str | None, said: str) -> None:
    s = saved(shop())
    with pytest.raises(ArgumentError, match=said):
        asked(s, row)


def test_a_task_that_is_not_deployed(shop: Make) -> None:
    s = saved(shop())
    s.api.all_deployments.pop(NAME)
    with pytest.raises(UnknownTask, match="jittask deploy"):
        asked(s, "1")


# A run that a person makes on the page of the task, by the row's key


def run_of(s: Shop, name: str = NAME, **parameters: Any) -> str:
    deployment = s.api.all_deployments[name]
    made = s.api.create_run(
        deployment["id"],
        key=str(len(s.api.all_runs)),
        name="brave-fox",
        due=s.now,
        tags=[],
        parameters={"template": name, **parameters},
    )
    return made.id


def test_the_run_form_of_a_task_of_rows_asks_for_the_row(shop: Make) -> None:
    s = saved(shop())
    form = s.api.all_deployments[NAME]["parameter_openapi_schema"]
    assert form["required"] == ["row"] and list(form["properties"]) == ["row"]
    run_id = run_of(s, row="1")
    assert [o.result for o in s.work()] == [1]
    [entry] = s.entries(row_key="1", status="completed")
    assert (entry.task_id, entry.flow_run_id, entry.nominal) == (run_id, run_id, None)
    assert "1 03-03 09:00 #1 pending" in s.tasks()


def test_a_copy_of_a_rows_run_runs_for_the_row_that_the_person_names(
    shop: Make,
) -> None:
    """The copy has the id of the task, too."""
    s = saved(shop())
    s.save(id=2)
    asked(s, "1")
    s.work()
    [entry] = s.entries(status="completed")
    run_of(s, taskId=entry.task_id, row="2")
    assert [o.status for o in s.work()] == ["completed"]
    assert (s.row_count(1), s.row_count(2)) == (1, 1)


def test_retry_of_such_a_run_is_one_task(shop: Make) -> None:
    inner = "tries = []\ndef customFunc(row):\n    tries.append(1)\n    if len(tries) < 2: raise ValueError\n    row.count += 1\n"
    s = saved(shop(inner=inner))
    run_id = run_of(s, row="1")
    assert [o.status for o in s.work()] == ["error"]
    for status in ("completed", "completed"):
        s.api.set_state(run_id, "SCHEDULED", name="AwaitingRetry", force=True)
        assert [o.status for o in s.work()] == [status]
    assert s.row_count(1) == 1 and len(s.entries(nominal=None)) == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("77", "models.Bill has no row '77'; some that it has: 1"),
        ("one", "models.Bill has no row 'one'"),
        ("9" * 30, "models.Bill has no row"),
        ("x" * 300, "the key of a row, as text"),
        (5, "the key of a row, as text"),
        ({"a": 1}, "the key of a row, as text"),
        ("", "the run names none"),
    ],
)
def test_a_run_whose_row_is_none(shop: Make, row: Any, said: str) -> None:
    s = saved(shop())
    run_id = run_of(s, row=row)
    assert s.work() == []
    run = s.api.run(run_id)
    assert run and run.state_name == "Failed"
    assert run.message.startswith("not run: ") and said in run.message
    assert s.entries(nominal=None) == []


def test_a_row_for_a_scheduled_task(shop: Make) -> None:
    timer = {"startTime": "2026-01-01 08:00:00", "repeat": {"repeatType": "day"}}
    about = {"type": "tasks.NormalType", "title": "Daily", "timerCfg": timer}
    inner = "def customFunc():\n    return 1\n"
    s = shop(more={"tasks/Daily": {"e.json": about, "inner.py": inner}})
    run_id = run_of(s, "tasks.Daily", row="1")
    s.work()
    run = s.api.run(run_id)
    assert run and "tasks.Daily is no task of rows" in run.message
    form = s.api.all_deployments["tasks.Daily"]["parameter_openapi_schema"]
    assert "required" not in form


def test_two_people_at_once_run_the_row_once(shop: Make) -> None:
    """Two forms of one app are carried out one after the other, by a lock on its folder."""
    s = saved(shop())
    found: list[Begun] = []

    def submit(ask: str) -> None:
        with one_at_a_time(s.app.path):
            found.append(asked(s, "1", ask))

    threads = [threading.Thread(target=submit, args=(f"form {n}",)) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(begun.before for begun in found) == [False, True]
    assert [o.status for o in s.work()] == ["completed"]
    assert s.row_count(1) == 1
