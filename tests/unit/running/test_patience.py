"""A database that takes no further connection: an execution waits, from its first connection on, and other code does not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime

import pytest
from patience import PATIENCE
from shop import Shop, utc
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from jittask_prefect.elements.patience import is_full
from jittask_prefect.running.outcome import Run
from jittask_prefect.running.run import execute, execute_batch

Make = Callable[..., Shop]
TEN, DUE, NAME = datetime(2026, 3, 2, 10), utc("2026-03-02 10:00"), "tasks.Task"


class Refused(logging.Handler):
    """Notes that an execution waits."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if "takes no further connection" in record.getMessage():
            self.seen.set()


@pytest.mark.parametrize("dispatch", ["row", "batch"])
def test_an_execution_waits_for_its_first_connection(
    shop: Make, few: Callable[[int], str], dispatch: str
) -> None:
    address, handler = few(-1), Refused()
    s = shop(dispatch=dispatch, app_json={"database": address})
    s.save(id=1, at=TEN)
    s.sync()
    [task] = s.entries()
    s.at("2026-03-02 10:00")
    now, run = s.now, Run(str(task.flow_run_id), DUE)
    s.app.engine().dispose()
    few(1)
    other = create_engine(address)
    done: list[object] = []

    def work() -> None:
        if dispatch == "row":
            done.append(execute(s.app, NAME, task.task_id, run, lambda: now).status)
        else:
            done.append(str(execute_batch(s.app, NAME, DUE, run, lambda: now)))

    logging.getLogger("jittask").addHandler(handler)
    thread = threading.Thread(target=work)
    with other.connect():
        thread.start()
        assert handler.seen.wait(20 * PATIENCE)
        with pytest.raises(OperationalError):  # as without jittask: nobody waits
            s.app.engine().connect()
        few(-1)
    thread.join(60 * PATIENCE)
    logging.getLogger("jittask").removeHandler(handler)
    assert done == ["completed" if dispatch == "row" else "1 row: 1 done"]
    assert s.row_count(1) == 1
    other.dispose()
    s.app.close()


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (Exception("FATAL:  sorry, too many clients already"), True),
        (Exception('FATAL:  too many connections for role "shop"'), True),
        (Exception(1040, "Too many connections"), True),
        (Exception(1203, "User shop already has more than 'x' connections"), True),
        (Exception('FATAL:  password authentication failed for user "shop"'), False),
        (Exception(1045, "Access denied for user"), False),
    ],
)
def test_which_errors_are_of_a_full_database(error: Exception, full: bool) -> None:
    assert is_full(error) is full
