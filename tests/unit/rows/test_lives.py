"""A row that is inserted with the key of a deleted one has a past of its own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from shop import Shop
from sqlalchemy import delete, text

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
HOURLY = {"repeat": {"repeatType": "hour"}, "missed": {"policy": "all"}}


def by_session(s: Shop) -> None:
    s.drop(1)


def by_statement(s: Shop) -> None:
    with s.session() as session:
        session.execute(
            delete(s.element("models.Bill")).where(s.element("models.Bill").id == 1)
        )
        session.commit()


def by_raw_sql(s: Shop) -> None:
    s.raw("DELETE FROM bill WHERE id = 1")


def unseen(s: Shop) -> None:
    s.insert(id=1, status="open", at=TEN, count=0)


def seen(s: Shop) -> None:
    s.save(id=1, at=TEN)


# One of the two has to be seen.
@pytest.mark.parametrize(
    ("gone", "come"), [(by_session, seen), (by_session, unseen), (by_statement, seen), (by_statement, unseen),
                       (by_raw_sql, seen)],
)  # fmt: skip
def test_a_new_row_with_an_old_key_is_done_again(
    shop: Make, gone: Callable[[Shop], None], come: Any
) -> None:
    """The same key and date as a row that was done: another row, another task."""
    _again(shop(), gone, come)


def test_a_new_row_with_an_old_key_on_each_server(on: Make) -> None:
    """The deletion that a statement makes is looked up in the table, on each kind of database."""
    _again(on(), by_statement, seen)


def _again(s: Shop, gone: Callable[[Shop], None], come: Callable[[Shop], None]) -> None:
    s.sync()
    s.save(id=1, at=TEN)
    s.sync()
    assert [o.status for o in s.work("2026-03-02 10:00")] == ["completed"]
    gone(s.at("2026-03-02 10:05"))
    come(s)
    s.sync("2026-03-02 10:06")
    assert [o.status for o in s.work()] == ["completed"]
    assert (
        s.tasks() == ["1 03-02 10:00 #1 completed", "1 03-02 10:00 #2 completed"]
        and s.row(1).count == 1
    )
    assert len({e.task_id for e in s.entries()}) == 2
    assert s.did("2026-03-02 10:07") == []


def test_a_forced_end_does_not_bind_the_next_row_of_the_key(shop: Make) -> None:
    """A forced end closes an occurrence of its row, not of the one that comes after it."""
    s = shop()
    s.save(id=1, at=TEN)
    assert s.element("services.TaskSvc").forcedEnd(s.entries()[0].task_id)["changed"]
    s.save(id=1, count=5)
    assert s.tasks(status="pending") == []
    s.drop(1)
    s.save(id=1, at=TEN)
    assert s.tasks() == ["1 03-02 10:00 #1 forced", "1 03-02 10:00 #2 pending"]


def test_one_flush_may_replace_a_row(shop: Make) -> None:
    """`session.delete` and `session.add` of one key in one flush: the row that is added is a new one."""
    s = shop()
    s.save(id=1, at=TEN)
    s.sync()
    s.work("2026-03-02 10:00")
    bill = s.element("models.Bill")
    with s.session() as session:
        session.delete(session.get(bill, 1))
        session.add(bill(id=1, at=TEN))
        session.commit()
    assert s.tasks() == ["1 03-02 10:00 #1 completed", "1 03-02 10:00 #2 pending"]


def test_a_rollback_brings_the_past_back(shop: Make) -> None:
    """A deletion that is rolled back was none: what was done stays done."""
    s = shop()
    s.save(id=1, at=TEN)
    s.sync()
    s.work("2026-03-02 10:00")
    with s.session() as session:
        session.delete(session.get(s.element("models.Bill"), 1))
        session.flush()
        session.rollback()
    s.save(id=1, at=TEN, status="paid")
    assert s.did() == [] and s.tasks() == ["1 03-02 10:00 #1 completed"]


def test_a_row_that_is_gone_when_it_is_due_was_seen_to_be_gone(shop: Make) -> None:
    """The look at the due moment sees a deletion, too, and a row that comes later is another one."""
    s = shop(**HOURLY)
    s.sync()
    s.save(id=1, at=TEN)
    s.sync()
    s.work("2026-03-02 10:00")
    s.sync()
    s.raw("DELETE FROM bill WHERE id = 1")
    assert [o.message for o in s.work("2026-03-02 11:00")] == [
        "superseded: the row is gone"
    ]
    s.at("2026-03-02 11:05").insert(id=1, status="open", at=TEN, count=0)
    s.sync()
    s.work()
    assert s.tasks(status="completed") == [
        f"1 03-02 {hour}:00 #{n} completed" for hour, n in ((10, 1), (10, 2), (11, 2))
    ]


def test_what_nobody_sees_is_the_same_row(shop: Make) -> None:
    """Raw SQL that deletes a row and inserts it again: the sync finds it as it was."""
    s = shop()
    s.sync()
    s.save(id=1, at=TEN)
    s.sync()
    s.work("2026-03-02 10:00")
    s.raw("DELETE FROM bill WHERE id = 1")
    s.insert(id=1, status="open", at=TEN, count=0)
    assert s.did("2026-03-02 10:01") == [] and s.tasks() == [
        "1 03-02 10:00 #1 completed"
    ]


def test_deletedatefieldtask_before_the_deletion_ends_no_life(shop: Make) -> None:
    """Said of a row that is still there, it ends what is open; what was done stays done while the row is there."""
    s = shop(**HOURLY)
    s.save(id=1, at=TEN)
    s.sync()
    s.work("2026-03-02 10:00")
    s.element("services.TaskSvc").deleteDateFieldTask({"prevData": s.row(1)})
    assert s.tasks(status="pending") == [] and all(e.anchor for e in s.entries())
    s.raw("DELETE FROM bill WHERE id = 1")
    with s.app.engine().connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM bill")).scalar() == 0
    s.element("services.TaskSvc").deleteDateFieldTask(
        {"prevData": {"model": "models.Bill", "id": 1}}
    )
    assert not any(e.anchor for e in s.entries())
