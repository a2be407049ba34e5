"""Opening hours between a form's text and an e.json."""

from __future__ import annotations

from typing import Any

import pytest

from jittask_prefect.dialogs.opening_hours import hours_of, hours_text

DAY = {"from": "08:00", "to": "18:00"}


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("08:00 to 18:00", DAY),
        ("08:00 to 18:00 on working days", {**DAY, "workdays": 1}),
        ("08:00 to 24:00 on Monday, Sunday", {**DAY, "to": "24:00", "weekdays": [1, 7]}),
        ("08:00 to 18:00\n22:00 to 06:00", [DAY, {"from": "22:00", "to": "06:00"}]),
    ],
)  # fmt: skip
def test_each_text_has_its_window_and_back(text: str, window: Any) -> None:
    assert hours_of(text) == window
    assert hours_text(window) == text


@pytest.mark.parametrize(
    "text",
    ["08:00-18:00", " 08:00 – 18:00 ", "\n08:00 to 18:00\n\n"],
)
def test_other_ways_to_write_it(text: str) -> None:
    assert hours_of(text) == DAY
    assert hours_of(f"{text.strip()} FRIDAY and monday") == {**DAY, "weekdays": [1, 5]}


@pytest.mark.parametrize(
    "text", ["office hours", "8:00 to 18:00", "08:00 to 18:00 on Funday", "08:00"]
)
def test_what_is_no_window(text: str) -> None:
    with pytest.raises(ValueError, match="a window on each line"):
        hours_of(text)
