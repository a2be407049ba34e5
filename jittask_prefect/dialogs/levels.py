"""Named offsets as a form has them: a level on each line, `first: 3 days after at 09:00`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jittask_prefect.dialogs.words import UNITS
from jittask_prefect.schedule.offset import MOST_LEVELS

LEVELS = (
    f"a level on each line, {MOST_LEVELS} at most, such as first: 3 days after, early: 1 working day before at 09:00, or "
    "today: on the date at 09:00"
)
ON_TIME = "on the date"
_LINE = re.compile(
    rf"([^:]+): ?(?:{ON_TIME}|(\d{{1,9}}) ([a-z ]+) (before|after))(?: at (\d\d:\d\d))?",
    re.ASCII | re.IGNORECASE,
)
_NAMES = {word: unit for unit, word in UNITS.items()}
_NAMES |= {word.removesuffix("s"): unit for unit, word in UNITS.items()}
_DIRECTIONS = {-1: "before", 0: "", 1: "after"}


def levels_of(text: str) -> list[dict[str, Any]]:
    """The list `startOffset` of a form's text.

    Raises:
        ValueError: A line is no level; the error names the allowed form.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not 1 <= len(lines) <= MOST_LEVELS:
        raise ValueError(LEVELS)
    return [_level(line) for line in lines]


def levels_text(levels: Sequence[dict[str, Any]]) -> str:
    """The text of a form for a list `startOffset`, as a timer dumps the list."""
    return "\n".join(map(_line, levels))


def _level(line: str) -> dict[str, Any]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(LEVELS)

    name, number, unit, direction, at = match.groups()
    level: dict[str, Any] = {"name": name.strip(), "offsetType": 0}
    if number is not None and int(number):
        if unit.lower() not in _NAMES:
            raise ValueError(LEVELS)
        kind = -1 if direction.lower() == "before" else 1
        of = {"offset": int(number), "offsetUnit": _NAMES[unit.lower()]}
        level |= {"offsetType": kind, **of}
    return {**level, "time": at} if at else level


def _line(level: dict[str, Any]) -> str:
    number, kind = level.get("offset", 0), level["offsetType"]
    text = ON_TIME
    if kind:
        unit = UNITS[level["offsetUnit"]]
        counted = unit.removesuffix("s") if number == 1 else unit
        text = f"{number} {counted} {_DIRECTIONS[kind]}"
    at = f" at {level['time']}" if "time" in level else ""
    return f"{level['name']}: {text}{at}"
