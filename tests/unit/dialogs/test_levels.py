"""Named offsets between a form's text and an e.json."""

from __future__ import annotations

from typing import Any

import pytest

from jittask_prefect.dialogs.levels import levels_of, levels_text
from jittask_prefect.schedule.timer import Timer


def level(name: str, number: int, unit: str = "day", **more: Any) -> dict[str, Any]:
    kind = 1 if number > 0 else -1
    of = {"offsetType": kind, "offset": abs(number), "offsetUnit": unit}
    return {"name": name, **of, **more}


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("first: 3 days after", [level("first", 3)]),
        ("first: 1 day after at 09:00\nfinal: 30 days after",
         [level("first", 1, time="09:00"), level("final", 30)]),
        ("2nd.try_x: 1 working day before", [level("2nd.try_x", -1, "workday")]),
        ("b: 5 working days after at 23:59", [level("b", 5, "workday", time="23:59")]),
        ("Erste Mahnung: 2 weeks before\nm: 1 month after\ny: 2 years after",
         [level("Erste Mahnung", -2, "week"), level("m", 1, "month"), level("y", 2, "year")]),
        ("s: 90 seconds after\nn: 1 minute before\nh: 2 hours after",
         [level("s", 90, "second"), level("n", -1, "minute"), level("h", 2, "hour")]),
        ("today: on the date\nnine: on the date at 09:00",
         [{"name": "today", "offsetType": 0}, {"name": "nine", "offsetType": 0, "time": "09:00"}]),
    ],
)  # fmt: skip
def test_each_text_has_its_levels_and_back(
    text: str, levels: list[dict[str, Any]]
) -> None:
    assert levels_of(text) == levels
    assert levels_text(levels) == text
    dumped = Timer({"startField": "day", "startOffset": levels}).cfg.dump()
    assert levels_text(dumped["startOffset"]) == text


def test_other_ways_to_write_it() -> None:
    expected = [level("first", 1), level("b", -2, "workday")]
    assert levels_of(" first:1 Days After \n\n b : 2 working day before") == expected
    assert levels_of("a: 0 days after") == [{"name": "a", "offsetType": 0}]


@pytest.mark.parametrize(
    "text",
    [
        "", "first", "first:", "first: 3 days", "first: three days after", "3 days after", "a: 3 moons after",
        "a: 3 days after at 9:00", "a: -3 days after", "a: 1 day after 09:00", "a: on the day",
        "\n".join(f"n{n}: {n} days after" for n in range(1, 102)),
    ],
)  # fmt: skip
def test_what_is_no_level(text: str) -> None:
    with pytest.raises(ValueError, match="a level on each line, 100 at most"):
        levels_of(text)
