"""The lock of an element's code is one of Python's import locks: a circle of two threads is an error."""

from __future__ import annotations

import threading

import pytest

from jittask_prefect.elements.import_lock import CircleError, import_lock


def test_a_thread_may_hold_it_twice() -> None:
    with import_lock("jittask_lock_a"), import_lock("jittask_lock_a"):
        pass


def test_two_threads_that_would_wait_for_each_other() -> None:
    first_held, second_waits, errors = threading.Event(), threading.Event(), []

    def second() -> None:
        with import_lock("jittask_lock_b"):
            second_waits.set()
            first_held.wait(20)
            try:
                with import_lock("jittask_lock_a"):
                    pass
            except CircleError as error:
                errors.append(error)

    thread = threading.Thread(target=second, daemon=True)
    with import_lock("jittask_lock_a"):
        thread.start()
        assert second_waits.wait(20)
        first_held.set()
        try:
            with import_lock("jittask_lock_b"):
                pass
        except CircleError as error:
            errors.append(error)
    thread.join(20)
    assert len(errors) == 1


def test_others_wait() -> None:
    seen: list[str] = []

    def other() -> None:
        with import_lock("jittask_lock_a"):
            seen.append("other")

    thread = threading.Thread(target=other, daemon=True)
    with import_lock("jittask_lock_a"):
        thread.start()
        seen.append("first")
    thread.join(20)
    assert seen == ["first", "other"]


def test_an_error_gives_it_back() -> None:
    with pytest.raises(KeyError), import_lock("jittask_lock_a"):
        raise KeyError
    with import_lock("jittask_lock_a"):
        pass
