"""An attempt's end: the time limit and the commit exclude each other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from shop import Shop

from jittask_prefect.ledger import transitions
from jittask_prefect.running.attempt_thread import AttemptThread

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)


class Limit:
    """The end of an attempt, whose time limit is over at a given moment."""

    def __init__(
        self, done: threading.Event, moment: threading.Event, over: threading.Event
    ) -> None:
        self.done, self.moment, self.over = done, moment, over

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is None:
            return self.done.wait(20)
        assert self.moment.wait(20)
        self.over.set()
        return False


def test_the_time_limit_waits_for_a_commit_that_has_begun(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is over while the task's end is being written: the task is completed, not a time-out as well."""
    s = shop(timeout=60)
    s.save(id=1, at=TEN)
    s.sync("2026-03-02 10:00")
    [task] = s.entries()
    ending, over, left = (threading.Event() for _ in range(3))
    start, leave, finish = AttemptThread.start, AttemptThread.leave, transitions.finish

    def limited(self: AttemptThread, work: Callable[[], None], name: str) -> Any:
        done = start(self, work, name)
        return Limit(done, ending, over) if task.task_id in name else done

    def given_up(self: AttemptThread) -> None:
        left.set()
        leave(self)

    def slow(*args: Any, **keys: Any) -> bool:
        ending.set()
        assert over.wait(20)
        left.wait(0.5)  # set where the attempt is given up although its commit began
        return finish(*args, **keys)

    monkeypatch.setattr(AttemptThread, "start", limited)
    monkeypatch.setattr(AttemptThread, "leave", given_up)
    monkeypatch.setattr(transitions, "finish", slow)
    assert s.run(task).outcome == "completed"
    assert (s.tasks(), s.row(1).count) == (["1 03-02 10:00 #1 completed"], 1)
