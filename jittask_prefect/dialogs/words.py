"""What the forms call the values of e.json, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WHEN = {0: "On the date", -1: "Before", 1: "After"}
UNITS = {"second": "seconds", "minute": "minutes", "hour": "hours", "day": "days", "week": "weeks", "month": "months",
         "year": "years"}  # fmt: skip
REPEAT = {
    "normal": "No repeat",
    "minute": "Every minute",
    "hour": "Hourly",
    "day": "Daily",
    "week": "Weekly",
    "month": "Monthly",
    "year": "Yearly",
    "custom": "Custom",
}
WEEKDAYS = dict(
    enumerate(
        ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
        1,
    )
)
MONTHS = dict(
    enumerate(
        ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
         "December"), 1,
    )
)  # fmt: skip
DAYS = {**{number: str(number) for number in range(1, 32)}, -1: "Last"}
WEEKS = {1: "First", 2: "Second", 3: "Third", 4: "Fourth", 5: "Fifth", -1: "Last", -2: "Last but one",
         -3: "Third from the end", -4: "Fourth from the end", -5: "Fifth from the end"}  # fmt: skip
MONTH_END = {"last": "The month's last day", "skip": "No occurrence"}
HOLIDAY = {
    "next": "To the next working day",
    "previous": "To the previous working day",
    "nearest": "To the nearest working day",
    "skip": "Left out: the next cycle's stands",
}
MISSED = {"latest": "Run the latest", "all": "Run all, in order", "none": "Run none"}
DISPATCH = {
    "auto": "Together from 20 rows on",
    "row": "A flow run for each row",
    "batch": "Always together",
}
ROW_RUNS = {"failed": "Failed ones", "all": "All"}
OVERLAP = {"queue": "Wait", "skip": "Not run", "replace": "End the earlier one"}
SWITCH = {True: "On", False: "Off"}
INNER = "customFunc of its inner.py"


def meant(words: Mapping[Any, str], said: str) -> Any:
    """The value that one of the words stands for."""
    return {word: value for value, word in words.items()}[said]
