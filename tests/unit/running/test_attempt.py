"""An attempt's end: the time limit and the commit exclude each other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from patience import PATIENCE
from shop import Shop

from jittask_prefect.ledger import transitions
from jittask_prefect.running.attempt import Attempt
from jittask_prefect.running.attempt_thread import AttemptThread

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)


def test_the_time_limit_waits_for_a_commit_that_has_begun(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is over while the task's end is being written: the task is completed, not a time-out as well."""
    s = shop(timeout=1.0 * PATIENCE)
    s.save(id=1, at=TEN)
    s.sync("2026-03-02 10:00")
    [task] = s.entries()
    over, left = threading.Event(), threading.Event()
    give_up, leave, finish = Attempt.give_up, AttemptThread.leave, transitions.finish

    def given_up(self: Attempt, thread: AttemptThread, done: threading.Event) -> Any:
        over.set()
        return give_up(self, thread, done)

    def left_behind(self: AttemptThread) -> None:
        left.set()
        leave(self)

    def slow(*args: Any, **keys: Any) -> bool:
        assert over.wait(20 * PATIENCE)
        left.wait(0.5)  # set where the attempt is given up although its commit began
        return finish(*args, **keys)

    monkeypatch.setattr(Attempt, "give_up", given_up)
    monkeypatch.setattr(AttemptThread, "leave", left_behind)
    monkeypatch.setattr(transitions, "finish", slow)
    assert s.run(task).outcome == "completed"
    assert (s.tasks(), s.row(1).count) == (["1 03-02 10:00 #1 completed"], 1)
