"""An occurrence whose due instant equals that of a completed one of the same row is not run again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from shop import Shop, rows_task, utc
from sqlalchemy import update

from jittask_prefect.ledger import transitions
from jittask_prefect.ledger.entry import Entry

Make = Callable[..., Shop]
DAILY: dict[str, Any] = {"repeat": {"repeatType": "day"}, "missed": {"lookback": 7200}}
FIRST, CORRECTED = datetime(2026, 3, 1, 9), datetime(2026, 2, 28, 9)
FAILS = "def customFunc(row):\n    raise ValueError('no')\n"


def by_save(s: Shop, at: datetime) -> None:
    s.save(id=1, at=at)


def by_statement(s: Shop, at: datetime) -> None:
    bill = s.element("models.Bill")
    with s.session() as session:
        session.execute(update(bill).where(bill.id == 1).values(at=at))
        session.commit()


def by_raw_sql(s: Shop, at: datetime) -> None:
    s.raw("UPDATE bill SET at = :at WHERE id = 1", at=f"{at}.000000")


WAYS = [by_save, by_statement, by_raw_sql]


def reminded(shop: Make, **keys: Any) -> Shop:
    """A daily reminder that was done at 09:00; it is 10:00."""
    s = shop(**{**DAILY, **keys})
    s.sync()
    s.save(id=1, at=FIRST)
    s.sync("2026-03-02 09:00")
    assert len(s.work()) == 1
    s.sync("2026-03-02 10:00")
    return s


@pytest.mark.parametrize("way", WAYS)
def test_a_corrected_date_does_not_remind_twice(
    shop: Make, way: Callable[[Shop, datetime], None]
) -> None:
    """Today's 09:00 was done as an occurrence of the old series, and is one of the new series."""
    s = reminded(shop)
    way(s, CORRECTED)
    s.sync()
    assert s.work() == [] and s.row(1).count == 1
    assert "create" not in {a.action for a in s.sync("2026-03-02 10:01").actions}
    assert s.tasks(status="pending") == ["1 03-03 09:00 #2 pending"]
    assert [o.status for o in s.work("2026-03-03 09:00")] == ["completed"] and s.row(
        1
    ).count == 2


@pytest.mark.parametrize("way", WAYS)
def test_another_due_instant_is_another_occurrence(
    shop: Make, way: Callable[[Shop, datetime], None]
) -> None:
    """Corrected to 09:30, today's occurrence of half an hour ago is run."""
    s = reminded(shop)
    way(s, FIRST + timedelta(minutes=30))
    s.sync()
    assert [o.status for o in s.work()] == ["completed"] and s.row(1).count == 2


@pytest.mark.parametrize("way", WAYS)
def test_what_failed_was_not_done(
    shop: Make, way: Callable[[Shop, datetime], None]
) -> None:
    """The occurrence that failed at 09:00 is run as one of the new series."""
    s = reminded(shop, inner=FAILS)
    way(s, CORRECTED)
    s.sync()
    assert [o.status for o in s.work()] == ["error"]
    assert s.tasks(status="error") == [
        "1 03-02 09:00 #1 failed",
        "1 03-02 09:00 #2 failed",
    ]


def test_what_was_ended_was_not_done(shop: Make) -> None:
    """A forced end binds until the date changes, and no longer."""
    s = shop(**DAILY)
    s.save(id=1, at=FIRST)
    task = s.entries(status="pending")[0]
    assert s.element("services.TaskSvc").forcedEnd(task.task_id)["changed"]
    s.at("2026-03-02 10:00").save(id=1, at=CORRECTED)
    s.sync()
    assert [o.status for o in s.work()] == ["completed"]


@pytest.mark.parametrize("way", WAYS)
def test_a_date_that_goes_away_and_comes_back_was_done(
    shop: Make, way: Callable[[Shop, datetime], None]
) -> None:
    """A → B → A of a single date: A was done before, B is superseded, and nothing runs again."""
    s = shop()
    s.sync()
    s.save(id=1, at=datetime(2026, 3, 2, 9))
    s.sync()
    s.work("2026-03-02 09:00")
    way(s.at("2026-03-02 10:00"), datetime(2026, 3, 2, 15))
    s.sync()
    way(s, datetime(2026, 3, 2, 9))
    s.sync("2026-03-02 10:01")
    assert s.work() == [] and s.work("2026-03-02 15:00") == [] and s.row(1).count == 1
    assert s.did("2026-03-02 15:01") == [] and s.tasks(status="pending") == []


def test_two_dates_that_a_holiday_moves_to_one_instant(shop: Make) -> None:
    """Saturday the 7th and Sunday the 8th are both done on Monday the 9th."""
    s = shop("day", workdaysOnly=1, skipHoliday=0)
    s.save(id=1, day=date(2026, 3, 7))
    s.sync("2026-03-09 00:00")
    s.work()
    s.save(id=1, day=date(2026, 3, 8))
    s.sync("2026-03-09 00:01")
    assert s.work() == [] and s.tasks() == ["1 03-09 00:00 #1 completed"]
    assert s.did("2026-03-09 00:02") == []


def at_work(s: Shop, entry: Entry) -> None:
    """A worker begins a task, and is at it."""
    with s.app.engine().begin() as connection:
        assert transitions.claim(
            connection, entry.task_id, "worker", "its run", s.now, 600
        )


def ends(s: Shop, entry: Entry, status: str) -> None:
    with s.app.engine().begin() as connection:
        assert transitions.finish(
            connection,
            entry.task_id,
            "worker",
            status=status,
            outcome=status,
            message="",
            result=None,
            now=s.now,
        )


@pytest.mark.parametrize("dispatch", ["row", "batch"])
@pytest.mark.parametrize(("ended", "runs"), [("completed", 0), ("error", 1)])
def test_a_date_corrected_while_the_function_is_at_work(
    shop: Make, dispatch: str, ended: str, runs: int
) -> None:
    """The task of the new series waits for the one at work, and runs only where that one does not complete."""
    s = shop(
        **{**DAILY, "missed": {"policy": "all", "lookback": 7200}}, dispatch=dispatch
    )
    s.sync()
    s.save(id=1, at=FIRST)
    s.save(id=2, at=FIRST)
    s.sync("2026-03-02 09:00")
    first = s.entries(row_key="1", status="pending")[0]
    at_work(s, first)
    s.save(id=1, at=CORRECTED)
    s.sync()
    s.work()
    assert s.row(2).count == 1
    assert "1 03-02 09:00 #2 pending" in [
        line.replace("queued", "pending") for line in s.tasks(row_key="1")
    ]
    assert s.row(1).count == 0
    ends(s, first, ended)
    for minute in range(1, 4):
        s.sync(f"2026-03-02 09:{minute:02}")
        s.work()
    assert s.row(1).count == runs
    assert [
        e.status
        for e in s.entries(row_key="1", due=utc("2026-03-02 09:00"), generation=2)
    ] == ["completed" if runs else "ended"]
    s.sync("2026-03-03 09:00")
    s.work()
    assert s.row(1).count == runs + 1


def test_of_two_that_wait_the_later_one_is_run(shop: Make) -> None:
    """A sync that read the row before a save, and wrote after it, leaves a task of the former date: it never begins."""
    s = shop(**DAILY)
    s.save(id=1, at=FIRST)
    s.save(id=1, at=CORRECTED)
    s.sync()
    old, new = s.entries(due=utc("2026-03-02 09:00"))
    s.raw(
        "UPDATE jittask_ledger SET status = 'pending', outcome = NULL WHERE task_id = :id",
        id=old.task_id,
    )
    s.at("2026-03-02 09:00")
    assert s.run(new, run_id="b").status == "completed"
    assert s.run(old, run_id="a").message.startswith(
        "not run: the task is ended (superseded: a later task of the row"
    )
    assert s.row(1).count == 1


def test_a_template_of_its_own_is_done_for_itself(shop: Make) -> None:
    """What another template has done of the row, at the same instant, says nothing."""
    s = shop(**DAILY, more={"tasks/Other": rows_task(**DAILY)})
    s.sync()
    s.save(id=1, at=FIRST)
    s.sync("2026-03-02 09:00")
    assert [o.status for o in s.work()] == ["completed"] * 2
