"""The thread of an execution: one for all attempts, another one after what does not return."""

from __future__ import annotations

import threading
from contextvars import ContextVar

import pytest

from jittask_prefect.running.attempt_thread import AttemptThread

HELD: ContextVar[str] = ContextVar("held", default="")


def test_one_thread_does_all_each_in_a_context_of_its_own() -> None:
    seen: list[tuple[int, str, str]] = []

    def work() -> None:
        seen.append(
            (threading.get_ident(), threading.current_thread().name, HELD.get())
        )
        HELD.set("spoiled")

    HELD.set("ours")
    with AttemptThread() as lane:
        for name in ("one", "two"):
            assert lane.start(work, name).wait(10)
        ident = lane.ident
    assert seen == [(ident, "one", "ours"), (ident, "two", "ours")]
    assert ident != threading.get_ident() and HELD.get() == "ours"
    assert "two" not in [thread.name for thread in threading.enumerate()]


def test_what_does_not_return_keeps_its_thread_and_nobody_waits_for_it() -> None:
    go, second = threading.Event(), threading.Event()
    with AttemptThread() as lane:
        stuck = lane.start(lambda: bool(go.wait(30)), "stuck")
        left = next(
            thread for thread in threading.enumerate() if thread.ident == lane.ident
        )
        lane.leave()
        assert lane.start(second.set, "next").wait(10)
    assert second.is_set() and not stuck.is_set()
    go.set()
    left.join(10)
    assert stuck.is_set() and not left.is_alive()


def test_an_interruption_does_not_wait_for_what_is_at_work() -> None:
    go = threading.Event()
    with pytest.raises(KeyboardInterrupt), AttemptThread() as lane:
        done = lane.start(lambda: bool(go.wait(30)), "long")
        raise KeyboardInterrupt
    assert not done.is_set()
    go.set()
    assert done.wait(10)
