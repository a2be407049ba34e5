"""A connection that a function leaves open: its transaction is rolled back, and the task is an error that says so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest
from shop import COUNT, SERVERS, Shop, utc

from jittask_prefect.running.outcome import Run
from jittask_prefect.running.run import execute
from jittask_prefect.warm import leaks

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
SAID = "error: LeftOpenError: the function left a transaction open: it was rolled back"
OPENS = """
from sqlalchemy import text
KEPT = []
def customFunc(row=None):
    KEPT.append(app.engine().connect())
    KEPT[-1].execute(text("INSERT INTO bill (id, status, count) VALUES (7, 'left', 0)"))
    {then}
"""
WRITES = "KEPT[-1].execute(text(\"INSERT INTO bill (id, status, count) VALUES (7, 'left', 0)\"))"


def scheduled(
    shop: Make, inner: str, database: str = "sqlite:///test.db", **keys: object
) -> tuple[str, str]:
    """How a scheduled task with this inner.py ends."""
    timer = {"startTime": "2026-03-01 09:00:00", "repeat": {"repeatType": "day"}}
    about = {"type": "tasks.NormalType", "title": "Daily", "timerCfg": timer, **keys}
    s = shop(
        more={"tasks/Daily": {"e.json": about, "inner.py": inner}},
        app_json={"database": database},
    )
    due = utc("2026-03-02 09:00")
    outcome = execute(s.app, "tasks.Daily", None, Run("run", due, True), lambda: due)
    s.save(id=1, at=TEN)  # nobody is locked out
    assert s.row(7) is None and s.row(1) is not None
    return outcome.status, outcome.message


@pytest.mark.parametrize("database", SERVERS)
@pytest.mark.parametrize(
    ("then", "message"),
    [
        ("return 1", SAID),
        ("raise ValueError('no')", "error: ValueError: no"),
        ("raise SystemExit", "error: SystemExit: "),
    ],
)
def test_a_transaction_that_was_left_open(
    shop: Make, url: Callable[[str], str], database: str, then: str, message: str
) -> None:
    assert scheduled(shop, OPENS.format(then=then), url(database)) == ("error", message)
    assert leaks.open_connections(), "and the process that has them is replaced"


def test_a_function_that_never_returns_holds_no_lock(shop: Make) -> None:
    inner = OPENS.format(then="import time; time.sleep(20)")
    assert scheduled(shop, inner, timeout=0.5) == (
        "error",
        "error: still running after 0.5 s",
    )


def test_what_is_only_read_is_no_error(shop: Make) -> None:
    assert (
        scheduled(
            shop,
            OPENS.format(then="").replace(WRITES, "KEPT[-1].execute(text('SELECT 1'))"),
        )[0]
        == "completed"
    )


def test_what_is_given_back_is_no_error(shop: Make) -> None:
    assert scheduled(shop, "from sqlalchemy import text\ndef customFunc():\n    with app.engine().begin() as c:\n"
                           "        c.execute(text('UPDATE bill SET count = 1'))\n")[0] == "completed"  # fmt: skip


def test_the_session_of_a_row_is_not_the_functions(shop: Make) -> None:
    s = shop(inner=COUNT)
    s.save(id=1, at=TEN)
    s.sync("2026-03-02 10:00")
    assert [o.status for o in s.work()] == ["completed"]
    assert s.row(1).count == 1
