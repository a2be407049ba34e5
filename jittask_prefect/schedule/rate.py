"""A rate: so many begins in a unit of time, evenly spaced (`rate` in e.json)."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import NamedTuple

UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
"""The units of a rate, in seconds."""
RATE_TEXT = 'a whole number from 1 to 1000000, and second, minute, hour or day, like "100/minute"'
_RATE = re.compile(rf"([0-9]{{1,7}})/({'|'.join(UNITS)})")


class Rate(NamedTuple):
    """Begins of functions in a unit of time: `100/minute`."""

    number: int
    unit: str

    def __str__(self) -> str:
        return f"{self.number}/{self.unit}"

    @property
    def interval(self) -> timedelta:
        """From one begin to the next, rounded up, so that no unit has more begins."""
        return timedelta(microseconds=-(-UNITS[self.unit] * 1_000_000 // self.number))


def read_rate(value: object) -> Rate:
    """The rate of a text like `100/minute`.

    Raises:
        ValueError: The value is none; the message says what is allowed.
    """
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None or not 1 <= int(found[1]) <= 1_000_000:
        raise ValueError(RATE_TEXT)
    return Rate(int(found[1]), found[2])
