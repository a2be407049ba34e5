"""The forms' words for the values of e.json."""

from __future__ import annotations

from jittask_prefect.schedule.values import MOST_WORKDAYS
from jittask_prefect.schedule.words import ordinal

WHEN = {0: "On the date", -1: "Before", 1: "After"}
UNITS = {
    "second": "seconds",
    "minute": "minutes",
    "hour": "hours",
    "day": "days",
    "workday": "working days",
    "week": "weeks",
    "month": "months",
    "year": "years",
}
REPEAT = {
    "normal": "No repeat",
    "minute": "Every minute",
    "hour": "Hourly",
    "day": "Daily",
    "workday": "Every working day",
    "week": "Weekly",
    "month": "Monthly",
    "year": "Yearly",
    "custom": "Custom",
}
WEEKDAYS = {
    1: "Monday",
    2: "Tuesday",
    3: "Wednesday",
    4: "Thursday",
    5: "Friday",
    6: "Saturday",
    7: "Sunday",
}
MONTHS = {
    1: "January",
    2: "February",
    3: "March",
    4: "April",
    5: "May",
    6: "June",
    7: "July",
    8: "August",
    9: "September",
    10: "October",
    11: "November",
    12: "December",
}
DAYS = {**{number: str(number) for number in range(1, 32)}, -1: "Last"}
WEEKS = {
    1: "First",
    2: "Second",
    3: "Third",
    4: "Fourth",
    5: "Fifth",
    -1: "Last",
    -2: "Last but one",
    -3: "Third from the end",
    -4: "Fourth from the end",
    -5: "Fifth from the end",
}
WORKDAYS = {
    **{number: ordinal(number) for number in range(1, MOST_WORKDAYS + 1)},
    -1: "Last",
    **{-n: f"{ordinal(n)} from the end" for n in range(2, MOST_WORKDAYS + 1)},
}
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
