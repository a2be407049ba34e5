"""`datatypes`, `currentTime` and the comparisons of objects with a value."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from jittask_prefect.elements.original.jit_values import (
    DataTypes,
    GlobalVar,
    ValueForgotten,
)
from jittask_prefect.testing import at

datatypes: Any = DataTypes()


def test_a_value_of_a_data_type() -> None:
    made = datatypes.Stext.new({"name": "title", "title": "Title"}, "hello")
    assert (made.value, made.isNull(), made.isEqual("hello")) == ("hello", False, True)
    made.value = None
    assert (made.isNull(), made.gt("a"), made.lte("a")) == (True, False, False)


def test_a_value_by_keyword_and_a_field_of_a_model() -> None:
    assert datatypes.Money(value=8.5).value == 8.5
    assert (
        datatypes.AutoInt(name="id", title="id", primaryKey=True, readOnly=1).value
        is None
    )


def test_dates_compare_with_texts() -> None:
    due = datatypes.Date.new({}, date(2026, 3, 2))
    assert (
        due.gte("2026-03-02")
        and due.lt(date(2026, 3, 3))
        and due.isEqual(datatypes.Date.new({}, "2026-03-02"))
    )


def test_a_dict_gives_its_entries_as_objects() -> None:
    made = datatypes.JitDict.new({}, {"a": 1, "b": None})
    assert (made.a.value, made["a"].value, made.b.isNull(), made.c.isNull()) == (
        1,
        1,
        True,
        True,
    )
    made.a.value = 2
    made.c = datatypes.Numeric.new({}, 3)
    made["d"] = 4
    assert made.value == {"a": 2, "b": None, "c": 3, "d": 4}
    assert list(made) == ["a", "b", "c", "d"] and "a" in made and len(made) == 4
    with pytest.raises(ValueForgotten, match=r"write a\.value"):
        bool(made.a)


@pytest.mark.parametrize("name", ["JitList", "RowList"])
def test_lists_iterate(name: str) -> None:
    made = getattr(datatypes, name).new({}, [3, 1])
    made.append(2)
    assert (list(made), len(made), made[0], 1 in made, bool(made)) == (
        [3, 1, 2],
        3,
        3,
        True,
        True,
    )


def test_names_that_are_no_data_types() -> None:
    with pytest.raises(AttributeError, match="begins with a capital"):
        _ = datatypes.stext


def test_the_current_time_is_the_wall_clock_of_the_app() -> None:
    variables = GlobalVar("Asia/Shanghai")
    with at(datetime(2026, 3, 2, 8, 30, 1, 5, tzinfo=UTC)):
        assert variables.currentTime.value == datetime(2026, 3, 2, 16, 30, 1)
        assert variables.currentTime() == datetime(2026, 3, 2, 16, 30, 1)
        assert variables.currentTime.gt("2026-03-02 16:00:00")
    with pytest.raises(AttributeError, match="it has currentTime"):
        _ = variables.currentUser
