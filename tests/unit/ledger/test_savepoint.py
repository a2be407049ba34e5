"""A savepoint in somebody else's transaction: on SQLite it is never the first statement."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from shop import Shop

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)


def test_on_sqlite_tasks_roll_back_with_a_transaction_that_they_began(
    shop: Make,
) -> None:
    """A savepoint that comes first would be the transaction, and commit when released."""
    s = shop()
    s.insert(id=1, status="open", count=0, at=TEN)
    service = s.element("services.TaskSvc")
    with s.session() as session:
        row = session.get(s.element("models.Bill"), 1)
        assert service.saveDateFieldTask({"postData": row})["created"] == 1
        session.rollback()
    assert s.tasks() == []
    with s.session() as session:
        row = session.get(s.element("models.Bill"), 1)
        assert service.saveDateFieldTask({"postData": row})["created"] == 1
        session.commit()
    assert s.tasks() == ["1 03-02 10:00 #1 pending"]
