"""The oracle of the exactly-once campaign sees each of the four failures; its dates are counted by hand."""

from __future__ import annotations

from datetime import datetime

import pytest
from oracle import Effect, Oracle, dues

NINE, TEN, NOON = (datetime(2037, 3, 16, hour) for hour in (9, 10, 12))  # a Monday


@pytest.mark.parametrize(
    ("template", "at", "expected"),
    [
        ("tasks.Once", TEN, ["16 10"]),
        ("tasks.Before", TEN, ["16 08"]),
        ("tasks.Every", datetime(2037, 3, 16, 7), ["16 07", "16 09", "16 11"]),
        ("tasks.Daily", datetime(2037, 3, 14, 11), ["14 11", "15 11", "16 11"]),
        ("tasks.Office", datetime(2037, 3, 12, 8), ["13 08"]),
        ("tasks.Office", datetime(2037, 3, 13, 8), ["16 08"]),  # the 14th is a Saturday
        (
            "tasks.Office",
            datetime(2037, 3, 15, 13),
            [],
        ),  # the 16th, 13:00, is still to come
        ("tasks.Office", datetime(2037, 3, 17, 8), []),
    ],
)
def test_when_each_template_is_due(
    template: str, at: datetime, expected: list[str]
) -> None:
    assert [f"{due:%d %H}" for due in dues(template, at, NOON)] == expected


def test_closed_days_are_no_working_days() -> None:
    late = datetime(2037, 3, 31)
    assert [*dues("tasks.Office", datetime(2037, 3, 17, 8), late)] == [
        datetime(2037, 3, 19, 8)
    ]  # the 18th is closed
    assert [*dues("tasks.Office", datetime(2037, 3, 19, 8), late)] == [
        datetime(2037, 3, 23, 8)
    ]  # the 20th, a weekend


def told(*, at: datetime | None = NINE, open: bool = True) -> Oracle:
    """A row since moment 10, due at nine or not, seen at ten."""
    oracle = Oracle()
    oracle.change(
        1,
        10,
        20,
        NINE,
        "raw",
        kind="office" if at is None else "once",
        at=at,
        open=open,
    )
    return oracle


def effect(
    task: str = "a", began: int = 100, claimed: int = 90, template: str = "tasks.Once"
) -> Effect:
    due = {"tasks.Once": NINE, "tasks.Before": datetime(2037, 3, 16, 7)}[template]
    return Effect(task, template, 1, NINE, due, began, claimed)


def counted(oracle: Oracle) -> dict[str, int]:
    return {name: number for name, number in oracle.count.items() if number}


def test_each_once_is_right() -> None:
    oracle = told()
    oracle.effect(effect(), TEN)
    oracle.effect(effect("b", template="tasks.Before"), TEN)
    oracle.settle(TEN)
    assert counted(oracle) == {} and len(oracle.expected) == 2


def test_lost() -> None:
    oracle = told()
    oracle.effect(effect(), TEN)
    oracle.settle(TEN)
    oracle.settle(NOON)
    assert counted(oracle) == {"Lost": 1} and "tasks.Before" in oracle.found[0][2]


def test_not_yet_due_is_not_lost() -> None:
    oracle = told(at=NOON)
    oracle.settle(datetime(2037, 3, 16, 9, 59))
    assert counted(oracle) == {} and oracle.expected == set()


def test_dup() -> None:
    oracle = told()
    oracle.effect(effect("a"), TEN)
    oracle.effect(effect("b"), TEN)
    assert counted(oracle) == {"Dup": 1}


def test_a_date_that_comes_back_was_done() -> None:
    """What was done at an instant is not done again, whatever the row's date was in between."""
    oracle = told()
    oracle.effect(effect("a"), TEN)
    oracle.effect(effect("z", template="tasks.Before"), TEN)
    oracle.change(1, 200, 210, TEN, "orm", at=NOON)
    oracle.change(1, 300, 310, TEN, "orm", at=NINE)
    oracle.settle(TEN)
    assert counted(oracle) == {}
    oracle.effect(effect("b", 400, 390), TEN)
    assert counted(oracle) == {"Dup": 1}


def test_a_date_that_comes_back_undone_is_due_again() -> None:
    """Nothing was done before the date went away: it is expected once."""
    oracle = told()
    oracle.effect(effect("z", template="tasks.Before"), TEN)
    oracle.change(1, 200, 210, TEN, "orm", at=NOON)
    oracle.change(1, 300, 310, TEN, "orm", at=NINE)
    oracle.effect(effect("b", 400, 390), TEN)
    assert counted(oracle) == {}
    oracle.settle(TEN)
    assert counted(oracle) == {}


@pytest.mark.parametrize(
    ("change", "claimed", "counters"),
    [
        (
            {"at": NOON},
            190,
            {},
        ),  # the change was committed between 180 and 220: it may have come after the row was read
        ({"at": NOON}, 230, {"Stale": 1}),
        ({"open": False}, 230, {"Stale": 1}),
        ({"gone": True}, 230, {"Stale": 1}),
    ],
)
def test_stale(
    change: dict[str, object], claimed: int, counters: dict[str, int]
) -> None:
    oracle = told()
    oracle.change(1, 180, 220, TEN, "raw", **change)
    oracle.effect(effect("a", 240, claimed), TEN)
    assert counted(oracle) == counters


def test_early_is_stale() -> None:
    oracle = told()
    oracle.effect(effect(), datetime(2037, 3, 16, 8, 59))
    assert counted(oracle) == {"Stale": 1}


def test_what_was_missed_is_stale() -> None:
    oracle = Oracle()
    oracle.change(
        1, 10, 20, datetime(2037, 3, 18, 10), "raw", kind="once", at=NINE
    )  # due 51 hours ago; a day counts
    oracle.effect(effect(template="tasks.Before"), datetime(2037, 3, 18, 10))
    assert counted(oracle) == {"Stale": 1}


def test_ghost() -> None:
    oracle = told()
    oracle.closed["tasks.Once", 1, 1, NINE] = 95
    oracle.effect(effect(), TEN)
    assert counted(oracle) == {"Ghost": 1}
    oracle = told()
    oracle.ended["a"] = 95
    oracle.effect(effect(), TEN)
    assert counted(oracle) == {"Ghost": 1}


def test_what_was_ended_is_not_lost() -> None:
    oracle = told()
    oracle.effect(effect("b", template="tasks.Before"), TEN)
    oracle.closed["tasks.Once", 1, 1, NINE] = 95
    oracle.settle(TEN)
    assert counted(oracle) == {}
