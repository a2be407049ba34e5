"""`window=` of a decorated task → the key `window` of its `timerCfg`."""

from __future__ import annotations

from datetime import time

from jittask_prefect.elements.decorated.month_days import (
    Keys,
    Refuse,
    weekday_numbers,
)
from jittask_prefect.elements.decorated.windows import Window
from jittask_prefect.validation import quoted

WINDOWS = 'Window("08:00", "18:00", workdays=True), or a list of them'
CLOCK = (
    'a clock time in the task\'s zone, in whole minutes: "08:00", or datetime.time(8)'
)


def window_keys(given: object, refuse: Refuse) -> Keys | list[Keys]:
    """The key `window` of a task's `window=`: `{"from": "08:00", "to": "18:00", "workdays": 1}`, or a list."""
    several = list(given) if isinstance(given, list | tuple) else [given]
    keys = list[Keys]()
    for each in several:
        if isinstance(each, Window):
            keys.append(_keys(each, refuse))
        else:
            refuse("window", quoted(each), WINDOWS)

    if not several:
        refuse("window", quoted(given), WINDOWS)
    return keys[0] if len(keys) == 1 else keys


def _keys(window: Window, refuse: Refuse) -> Keys:
    keys = Keys()
    for key, name in (("from", "opens"), ("to", "closes")):
        given = getattr(window, name)
        text = given.isoformat("minutes") if _whole_minute(given) else given
        if isinstance(text, str):
            keys[key] = text
        else:
            refuse(f"window.{name}", quoted(given), CLOCK)

    if window.weekdays is not None:
        days = window.weekdays
        some = days if isinstance(days, tuple) else (days,)
        keys["weekdays"] = weekday_numbers("window", some, refuse)
    if not isinstance(window.workdays, bool):
        refuse("window.workdays", quoted(window.workdays), "True or False")
    elif window.workdays:
        keys["workdays"] = 1

    return keys


def _whole_minute(given: object) -> bool:
    return isinstance(given, time) and given == time(given.hour, given.minute)
