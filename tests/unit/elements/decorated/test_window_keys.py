"""`window=` of the decorators → the key `window` of a `timerCfg`."""

from __future__ import annotations

from datetime import time
from typing import Any

import pytest

from jittask_prefect import Window
from jittask_prefect.elements.decorated.window_keys import window_keys


def keys(given: object) -> tuple[Any, list[tuple[str, str]]]:
    problems: list[tuple[str, str]] = []
    found = window_keys(given, lambda argument, value, _: problems.append((argument, value)))  # fmt: skip
    return found, problems


def test_a_window_and_a_list_of_them() -> None:
    day = {"from": "08:00", "to": "18:00"}
    assert keys(Window("08:00", "18:00")) == (day, [])
    assert keys([Window("08:00", "18:00")]) == (day, [])
    found, problems = keys((Window(time(8), "18:00"), Window("18:00", "24:00", weekdays=["fri"])))  # fmt: skip
    assert found == [day, {"from": "18:00", "to": "24:00", "weekdays": [5]}]
    assert problems == []
    assert keys(Window("08:00", "18:00", workdays=True))[0] == {**day, "workdays": 1}


@pytest.mark.parametrize(
    ("given", "argument", "value"),
    [
        ("08:00", "window", "'08:00'"),
        ([], "window", "[]"),
        ([Window("08:00", "18:00"), None], "window", "None"),
        (Window(8, "18:00"), "window.opens", "8"),  # type: ignore[arg-type]
        (Window("08:00", time(18, 0, 30)), "window.closes", "datetime.time(18, 0, 30)"),
        (Window("08:00", "18:00", weekdays=["someday"]), "window.weekdays", "'someday'"),  # type: ignore[list-item]
        (Window("08:00", "18:00", weekdays="mon"), "window.weekdays", None),  # type: ignore[arg-type]
        (Window("08:00", "18:00", workdays=2), "window.workdays", "2"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_mistakes_name_the_argument(
    given: object, argument: str, value: str | None
) -> None:
    found, problems = keys(given)
    if value is None:  # a single weekday needs no list
        assert (found["weekdays"], problems) == ([1], [])
    else:
        assert problems == [(argument, value)]


def test_a_window_is_written_as_its_call() -> None:
    text = "Window(opens='08:00', closes='18:00', workdays=True)"
    assert repr(Window("08:00", "18:00", workdays=True)) == text
    assert repr(eval(text)) == text
