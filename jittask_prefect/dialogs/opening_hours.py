"""Opening hours as a form has them: a window on each line, `08:00 to 18:00 on working days`."""

from __future__ import annotations

import re
from typing import Any

from jittask_prefect.dialogs.words import WEEKDAYS

WORKING_DAYS = "working days"
HOURS = (
    "a window on each line, such as 08:00 to 18:00, 08:00 to 18:00 on working days, or "
    "22:00 to 06:00 on Friday, Saturday"
)
_LINE = re.compile(r"(\d\d:\d\d) ?(?:to|-|–) ?(\d\d:\d\d)(?: (?:on )?(.+))?", re.ASCII)
_NUMBERS = {name.casefold(): number for number, name in WEEKDAYS.items()}


def hours_of(text: str) -> dict[str, Any] | list[dict[str, Any]]:
    """The key `window` of a form's text.

    Raises:
        ValueError: A line is no window; the error names the allowed form.
    """
    found = [_window(line.strip()) for line in text.splitlines() if line.strip()]
    return found[0] if len(found) == 1 else found


def hours_text(window: dict[str, Any] | list[dict[str, Any]]) -> str:
    """The text of a form for the key `window`."""
    several = window if isinstance(window, list) else [window]
    return "\n".join(map(_line, several))


def _window(line: str) -> dict[str, Any]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(HOURS)

    opens, closes, days = match.groups()
    window: dict[str, Any] = {"from": opens, "to": closes}
    if days is None:
        return window
    if days.casefold() == WORKING_DAYS:
        return {**window, "workdays": 1}

    named = re.split(r", ?| and | ", days.casefold())
    if not set(named) <= _NUMBERS.keys():
        raise ValueError(HOURS)
    return {**window, "weekdays": sorted({_NUMBERS[name] for name in named})}


def _line(window: dict[str, Any]) -> str:
    text = f"{window['from']} to {window['to']}"
    if window.get("workdays"):
        return f"{text} on {WORKING_DAYS}"
    days = [WEEKDAYS[day] for day in window.get("weekdays", ())]
    return f"{text} on {', '.join(days)}" if days else text
