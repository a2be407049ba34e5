"""Days of a week and of a month as the pieces write them: `"mon"`, `"first monday"`, `"last workday"`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jittask_prefect.validation import quoted

Refuse = Callable[[str, str, str], None]
"""Adds a problem: the argument, the value found, the values allowed."""
Keys = dict[str, Any]
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")  # fmt: skip
PLACES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")  # fmt: skip
PLACED = (
    '1 to 31, -1 for the last day, a weekday by its place such as "first monday" or "last friday", '
    'or a list of either; a working day by its place, "first workday" to "tenth workday", "last workday"'
)


def weekday_numbers(argument: str, given: tuple[Any, ...], refuse: Refuse) -> list[int]:
    found = [_weekday(each) for each in given]
    for each, number in zip(given, found, strict=True):
        if number is None:
            allowed = (
                '"mon" to "sun", or in full, each for itself: Weekly("mon", "thu")'
            )
            refuse(f"{argument}.weekdays", quoted(each), allowed)

    return [number for number in found if number is not None]


def _weekday(text: object) -> int | None:
    """1 for Monday; None for any other text."""
    names = {name: n for n, name in enumerate(WEEKDAYS, 1)}
    short = {name[:3]: n for name, n in names.items()}
    return (names | short).get(text.casefold()) if isinstance(text, str) else None


def day_keys(argument: str, day: Any, refuse: Refuse) -> Keys:
    """The keys of a repeat that name days of the month: by numbers, weekdays by their places, or working days by theirs."""
    days = list(day) if isinstance(day, tuple) else [day]
    if days and all(type(each) is int for each in days):
        return {"day": days if isinstance(day, tuple) else day}

    workdays = [n for each in days if (n := _workday_place(each)) is not None]
    if workdays and len(workdays) == len(days):
        return {"workday": workdays if isinstance(day, tuple) else workdays[0]}

    places: list[tuple[int, int]] = []
    for each in days:
        found = _placed(each)
        if found is None:
            refuse(f"{argument}.day", quoted(each), PLACED)
            return {}
        places.append(found)

    weeks = list(dict.fromkeys(week for week, _ in places))
    weekdays = list(dict.fromkeys(weekday for _, weekday in places))
    if not places or len(set(places)) != len(weeks) * len(weekdays):
        allowed = (
            f"{PLACED}, each weekday at the same places; "
            'others by RRule("FREQ=MONTHLY;BYDAY=1MO,3FR")'
        )
        refuse(f"{argument}.day", quoted(days), allowed)
        return {}

    week = weeks[0] if len(weeks) == 1 else weeks
    return {"subType": "week", "week": week, "weekday": weekdays}


def _placed(text: object) -> tuple[int, int] | None:
    """The place and the weekday of a text such as `second last friday`."""
    *place, day = _words(text) or [""]
    week, weekday = _place(place, 5), _weekday(day)
    return None if week is None or weekday is None else (week, weekday)


def _workday_place(text: object) -> int | None:
    """The place of a text such as `last workday`: 1 for the first, -1 for the last."""
    *place, day = _words(text) or [""]
    return _place(place, len(PLACES)) if day == "workday" else None


def _words(text: object) -> list[str]:
    return text.casefold().split() if isinstance(text, str) else []


def _place(words: list[str], most: int) -> int | None:
    """The number of a place, `first` to the `most`-th, or counted from the end."""
    places = PLACES[:most]
    match words:
        case ["last"]:
            return -1
        case [place] if place in places:
            return places.index(place) + 1
        case [place, "last"] if place in places[1:]:
            return -places.index(place) - 1
        case _:
            return None
