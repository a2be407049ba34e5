"""Changes of the list of levels in an e.json: what is done stays done, what waits moves, whatever the opening hours do besides."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from shop import Shop

from jittask_prefect.task_svc.service import TaskSvc

Make = Callable[..., Shop]
DUE = date(2026, 3, 2)
"""A Monday."""
TEN = {"window": {"from": "10:00", "to": "18:00"}}
"""Hours that move 09:00 to 10:00."""


def level(
    name: str, days: int, unit: str = "day", time: str = "09:00"
) -> dict[str, Any]:
    return {"name": name, **offset(days, unit, time)}


def offset(days: int, unit: str = "day", time: str = "09:00") -> dict[str, Any]:
    kind = 1 if days > 0 else -1
    return {"offsetType": kind, "offset": abs(days), "offsetUnit": unit, "time": time}


FIRST, SECOND, FINAL = LEVELS = [
    level("first", 3),
    level("second", 14),
    level("final", 30),
]


def timer(start: Any, **keys: Any) -> dict[str, Any]:
    return {"timerCfg": {"startField": "day", "startOffset": start, **keys}}


def told(s: Shop, *, superseded: bool = False) -> list[str]:
    """The ledger, as `due level outcome`."""
    return [
        f"{e.due:%m-%d %H:%M} {e.level} {e.outcome or e.status}"
        for e in s.entries()
        if superseded or e.outcome != "superseded"
    ]


def with_first_done(make: Make, start: Any = LEVELS, **keys: Any) -> Shop:
    """A shop with a bill whose first reminder was sent on 5 March at 09:00."""
    about = {"startOffset": start, "app_json": {"horizon": 24 * 60}, **keys}
    s = make("day", **about)
    s.save(id=1, day=DUE)
    s.sync()
    s.work("2026-03-05 09:00")
    s.sync("2026-03-05 09:01")
    return s


WAITS = ["03-16 09:00 second pending", "04-01 09:00 final pending"]
DONE = "03-05 09:00 first completed"
NEW = level("new", 20)
CHANGES: dict[str, tuple[Any, list[str]]] = {
    "none": (LEVELS, WAITS),
    "turned round": ([FINAL, SECOND, FIRST], WAITS),
    "last in front": ([FINAL, FIRST, SECOND], WAITS),
    "new in front": (
        [NEW, FIRST, SECOND, FINAL],
        [WAITS[0], "03-22 09:00 new pending", WAITS[1]],
    ),
    "done one removed": ([SECOND, FINAL], WAITS),
    "waiting one removed": ([FIRST, FINAL], WAITS[1:]),
    "done one renamed": ([level("one", 3), SECOND, FINAL], WAITS),
    "waiting one renamed": (
        [FIRST, level("two", 14), FINAL],
        ["03-16 09:00 two pending", WAITS[1]],
    ),
    "offset of a waiting one": (
        [FIRST, level("second", 10), FINAL],
        ["03-12 09:00 second pending", WAITS[1]],
    ),
    "offset of the done one": (
        [level("first", 5), SECOND, FINAL],
        ["03-07 09:00 first pending", *WAITS],
    ),
    "names swapped": (
        [level("second", 3), level("first", 14), FINAL],
        ["03-16 09:00 first pending", WAITS[1]],
    ),
    "the offset of the done one alone": (offset(3), []),
    "the offset of a waiting one alone": (offset(14), ["03-16 09:00 None pending"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_done_stays_done_when_the_list_changes(shop: Make, change: str) -> None:
    """At first the list alone, then hours that move each level by an hour: 5 March 10:00 is still to come."""
    start, waits = CHANGES[change]
    s = with_first_done(shop)
    s.config(**timer(start))
    s.sync("2026-03-05 09:02")
    assert told(s) == [DONE, *waits]
    assert s.sync("2026-03-05 09:03").changes == 0
    s.config(**timer(start, **TEN))
    s.sync("2026-03-05 09:04")
    assert told(s) == [DONE, *(line.replace("09:", "10:") for line in waits)]
    assert s.sync("2026-03-05 09:05").changes == 0


@pytest.mark.parametrize(
    "change", ["turned round", "done one renamed", "the offset of the done one alone"]
)
def test_what_is_done_stays_done_when_list_and_hours_change_at_once(
    shop: Make, change: str
) -> None:
    start, waits = CHANGES[change]
    s = with_first_done(shop)
    s.config(**timer(start, **TEN))
    s.sync("2026-03-05 09:02")
    assert told(s) == [DONE, *(line.replace("09:", "10:") for line in waits)]
    s.save(id=1, count=1)
    assert s.sync("2026-03-05 09:03").changes == 0


@pytest.mark.parametrize(
    "change", ["none", "turned round", "new in front", "done one removed"]
)
def test_hours_that_moved_a_level_before_the_list_changes(
    shop: Make, change: str
) -> None:
    """The second reminder waits in a later generation than the others have."""
    start, _ = CHANGES[change]
    s = with_first_done(shop)
    s.config(**timer(LEVELS, **TEN))
    s.sync("2026-03-05 09:02")
    s.config(**timer(start))
    s.sync("2026-03-05 09:03")
    assert told(s)[0] == DONE
    assert [line for line in told(s) if "new" not in line] == [DONE, *WAITS]


def test_a_single_offset_that_was_done_stays_done_in_a_list(shop: Make) -> None:
    s = with_first_done(shop, offset(3))
    assert told(s) == ["03-05 09:00 None completed"]
    s.config(**timer([NEW, FIRST], **TEN))
    s.sync("2026-03-05 09:02")
    waits = "03-22 10:00 new pending"
    assert told(s) == ["03-05 09:00 None completed", waits]


def test_an_offset_that_goes_and_comes_back(shop: Make) -> None:
    s = with_first_done(shop)
    for minute, days in enumerate((5, 3, 5, 3), 2):
        s.config(**timer([level("first", days), SECOND, FINAL]))
        s.sync(f"2026-03-05 09:0{minute}")
    assert told(s) == [DONE, *WAITS]
    s.config(**timer([level("first", 5), SECOND, FINAL], **TEN))
    s.sync("2026-03-05 09:08")
    later = ["03-07 10:00 first pending", "03-16 10:00 second pending"]
    assert told(s) == [DONE, *later, "04-01 10:00 final pending"]


@pytest.mark.parametrize(
    "change",
    [
        "turned round",
        "new in front",
        "done one removed",
        "offset of the done one",
        "offset of a waiting one",
        "names swapped",
        "waiting one renamed",
    ],
)
def test_a_level_that_somebody_ended_stays_ended_until_the_date_changes(
    shop: Make, change: str
) -> None:
    """Also where hours moved the others, and their offsets changed later: the ended task has the oldest generation."""
    start, _ = CHANGES[change]
    s = with_first_done(shop)
    [final] = s.entries(level="final")
    TaskSvc(s.app, s.api).forcedEnd(final.task_id)
    s.config(**timer(LEVELS, **TEN))
    s.sync("2026-03-05 09:02")
    s.config(**timer(start, **TEN))
    s.sync("2026-03-05 09:03")
    assert [line for line in told(s) if "final" in line] == ["04-01 09:00 final forced"]
    for day in (DUE + timedelta(1), DUE):
        s.save(id=1, day=day)
    assert [line for line in told(s) if "final" in line] == [
        "04-01 09:00 final forced",
        "04-01 10:00 final pending",
    ]


def test_a_level_that_somebody_ended_stays_ended_where_hours_moved_another_whose_offset_changes(
    shop: Make,
) -> None:
    """The last one is due at noon: the hours move the others alone. Another date begins anew, also from the same list."""
    noon = level("final", 30, time="12:00")
    s = with_first_done(shop, [FIRST, SECOND, noon])
    [final] = s.entries(level="final")
    TaskSvc(s.app, s.api).forcedEnd(final.task_id)
    s.config(**timer([FIRST, SECOND, noon], **TEN))
    s.sync("2026-03-05 09:02")
    for minute, days in enumerate((10, 12, 14), 3):
        s.config(**timer([FIRST, level("second", days), noon], **TEN))
        s.sync(f"2026-03-05 09:0{minute}")
        assert told(s) == [
            DONE,
            f"03-{2 + days} 10:00 second pending",
            "04-01 12:00 final forced",
        ]
        assert s.sync(f"2026-03-05 09:0{minute}").changes == 0
    s.save(id=1, day=DUE + timedelta(4))
    assert told(s)[-1] == "04-05 12:00 final pending"
    s.save(id=1, day=DUE)
    assert told(s)[-2:] == ["04-01 12:00 final forced", "04-01 12:00 final pending"]


def test_a_date_moved_by_the_distance_of_two_levels_is_another_date(shop: Make) -> None:
    """11 days later: the first reminder is due when the second was, which somebody had ended."""
    s = with_first_done(shop)
    [second] = s.entries(level="second")
    TaskSvc(s.app, s.api).forcedEnd(second.task_id)
    s.save(id=1, day=DUE + timedelta(11))
    assert told(s) == [
        DONE,
        "03-16 09:00 second forced",
        "03-16 09:00 first pending",
        "03-27 09:00 second pending",
        "04-12 09:00 final pending",
    ]


def test_a_level_whose_clock_time_is_set_stays_where_only_the_hour_of_the_date_changes(
    shop: Make,
) -> None:
    hours = {"name": "soon", "offsetType": 1, "offset": 5, "offsetUnit": "hour"}
    s = shop("at", startOffset=[hours, FIRST], app_json={"horizon": 24 * 60})
    s.save(id=1, at=s.now.replace(tzinfo=None))
    [first] = s.entries(level="first")
    s.save(id=1, at=s.now.replace(tzinfo=None) + timedelta(hours=2))
    [same] = s.entries(level="first")
    assert same.task_id == first.task_id
    assert told(s) == ["03-02 15:00 soon pending", "03-05 09:00 first pending"]


def test_a_repeat_goes_on_from_another_last_level(shop: Make) -> None:
    """Weekly from the level of 14 days; then a level of 16 days comes behind."""
    weekly = {"repeat": {"repeatType": "week"}}
    s = with_first_done(shop, [FIRST, SECOND], **weekly)
    s.work("2026-03-16 09:00")
    s.sync("2026-03-16 09:01")
    s.config(**timer([level("last", 16), SECOND, FIRST], **weekly, **TEN))
    s.sync("2026-03-16 09:02")
    done = [DONE, "03-16 09:00 second completed"]
    assert told(s)[:4] == [
        *done,
        "03-18 10:00 last pending",
        "03-25 10:00 last pending",
    ]


def test_counted_levels_that_were_done_stay_done_with_another_offset(
    shop: Make,
) -> None:
    """As after other days in the calendar: nobody can tell both apart."""
    start = [level("first", 3, "workday"), level("second", 10, "workday")]
    s = with_first_done(shop, start, calendar="DE")
    s.config(
        **timer(
            [level("second", 11, "workday"), level("first", 5, "workday")],
            calendar="DE",
        )
    )
    s.sync("2026-03-05 09:02")
    assert told(s) == [DONE, "03-17 09:00 second pending"]
