"""The table of a task's fields: the forms for new tasks and the form for editing are parts of the table, in its order."""

from __future__ import annotations

from jittask_prefect.dialogs import words
from jittask_prefect.dialogs.fields import (
    CLOCK,
    DAY,
    FLAG,
    JSON,
    LINE,
    LINES,
    SECONDS,
    TEXT,
    Field,
    choice,
    matching,
    whole,
)

OFFSET, END_OFFSET = "timerCfg.startOffset", "timerCfg.endOffset"
REPEAT = "timerCfg.repeat"
COUNTED = ("minute", "hour", "day", "workday", "week", "month", "year")
OF_MONTHS = ("month", "year")
ALL_ROWS = "*"
"""The text of a digest that takes all rows."""

TITLE = Field(
    "title",
    "Task name",
    LINE,
    "What people call the task, in any language",
    "Remind the customer",
    required=True,
    key="title",
    clearable=False,
)
NAME = Field(
    "name",
    "English name",
    matching("^[A-Za-z_][A-Za-z0-9_]{0,63}$"),
    "The name of the folder",
    "RemindTheCustomer",
    if_empty="made from the task name",
)
CODE = Field(
    "code",
    "inner.py",
    TEXT,
    "Python; replaces what is there",
    "def customFunc(): ...",
    clearable=False,
)

TASK_FIELDS: tuple[Field, ...] = (
    TITLE,
    choice("startField", "Model and date field", about="One task for each row, due by this date of the row",
           example="Contract.endDate", source="date fields", rows=True, required=True, clearable=False),
    choice("when", "Due", words.WHEN, key=f"{OFFSET}.offsetType", usual=0, default="On the date", rows=True,
           clearable=False),
    Field("offset", "How long before or after", whole(), "A number of units", "7", key=f"{OFFSET}.offset",
          default=0, rows=True, clearable=False),
    choice("offsetUnit", "Unit", words.UNITS, "The unit of that number", example="days",
           key=f"{OFFSET}.offsetUnit", default="days", rows=True, clearable=False),
    Field("atTime", "At", CLOCK, "The clock time of that day, with days and longer units", "09:00",
          key=f"{OFFSET}.time", rows=True),
    Field("levels", "Due at several times", TEXT, "A name and an offset on each line; the function learns the name",
          "first: 3 days after at 09:00", rows=True),
    Field("filter", "Filter", TEXT, "Only rows that satisfy a Q expression", "Q(status='active')", key="filter",
          if_empty="every row", rows=True),
    Field("startDate", "Start", DAY, "The first day", "2026-12-01", rows=False, required=True, clearable=False),
    Field("startTime", "Start time", CLOCK, "The clock time in the task's zone", "09:00", rows=False,
          default="09:00", clearable=False),
    Field("endDate", "End", DAY, "The last day; without a time the whole day", "2027-12-31"),
    Field("endTime", "End time", CLOCK, "The last clock time of that day", "18:00", parent="endDate"),
    choice("repeat", "Repeat cycle", words.REPEAT, "How often", example="Weekly", key=f"{REPEAT}.repeatType",
           default="No repeat", clearable=False),
    Field("period", "Every … cycles", whole(1), "1: each; 2: every other", "2", key=f"{REPEAT}.period",
          usual=1, default=1, cycles=COUNTED),
    choice("weekdays", "Weekdays", words.WEEKDAYS, "Weekly; or with a week of the month", many=True,
           example="Monday and Thursday", key=f"{REPEAT}.weekday", cycles=("week", *OF_MONTHS)),
    choice("days", "Days of the month", words.DAYS, "Days by number", many=True, example="1 and Last",
           key=f"{REPEAT}.day", cycles=OF_MONTHS),
    choice("months", "Months", words.MONTHS, "Of each year", many=True, example="January and July",
           key=f"{REPEAT}.month", cycles=("year",)),
    Field("skipHoliday", "Skip legal holidays", FLAG, "A date on a holiday moves to the next workday",
          "1 October in China", key="timerCfg.skipHoliday", usual=False, default=False, clearable=False),
    choice("func", "Function", about="A function in the task's own folder, or a service's",
           example="services.NoticeSvc.sendDigest", source="functions", default=words.INNER, clearable=False),
    Field("enable", "Enabled", FLAG, "Off: the task is paused and nothing of it runs", "Off over the summer",
          key="enable", usual=True, default=True, clearable=False),
    choice("endField", "or end by a date field", about="The row's last day", example="Contract.endDate",
           source="date fields", rows=True),
    choice("endWhen", "End due", words.WHEN, "On that date, or before or after the date", example="After",
           key=f"{END_OFFSET}.offsetType", usual=0, rows=True, parent="endField", clearable=False),
    Field("endOffset", "How long before or after the end", whole(), "A number of units", "3",
          key=f"{END_OFFSET}.offset", rows=True, parent="endField", clearable=False),
    choice("endOffsetUnit", "Unit of the end", words.UNITS, "The unit of that number", example="months",
           key=f"{END_OFFSET}.offsetUnit", rows=True, parent="endField", clearable=False),
    Field("endAtTime", "End at", CLOCK, "The clock time of that day", "18:00", key=f"{END_OFFSET}.time",
          rows=True, parent="endField"),
    choice("week", "Weeks of the month", words.WEEKS, "With weekdays", many=True, example="First, with Monday",
           key=f"{REPEAT}.week", cycles=OF_MONTHS),
    choice("workdays", "Working days of the month", words.WORKDAYS, "By the calendar", many=True,
           example="1st and Last", key=f"{REPEAT}.workday", cycles=OF_MONTHS),
    choice("monthEnd", "Where a month has no such day", words.MONTH_END, "Day 31 in a short month",
           example="The month's last day", key=f"{REPEAT}.monthEnd", usual="last", cycles=OF_MONTHS),
    Field("cron", "Custom: cron", LINE, "Five fields", "0 9 * * 1-5", key=f"{REPEAT}.cron", cycles=("custom",)),
    Field("rrule", "or custom: RRULE", TEXT, "One line", "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=1",
          key=f"{REPEAT}.rrule", cycles=("custom",)),
    Field("dates", "or custom: dates", TEXT, "yyyy-MM-dd or yyyy-MM-dd HH:mm:ss, one on each line",
          "2026-12-24", cycles=("custom",)),
    choice("holidayPolicy", "What falls on a holiday", words.HOLIDAY, "Where such a date goes",
           example="To the next working day", key="timerCfg.holidayPolicy", usual="next"),
    Field("workdaysOnly", "Working days only", FLAG, "Weekends count as holidays", "a Saturday moves to Monday",
          key="timerCfg.workdaysOnly", usual=False, default=False, clearable=False),
    choice("calendar", "Calendar", about="The app's, or a country's", example="CN or DE-BY",
           key="timerCfg.calendar", source="calendars"),
    choice("timezone", "Time zone", about="An IANA name", example="Europe/Berlin", key="timerCfg.timezone",
           source="time zones"),
    Field("window", "Opening hours", TEXT, "A task due outside waits for the next opening; a window on each line",
          "08:00 to 18:00 on working days"),
    Field("timezoneField", "Time zone of each row", LINE, "A text column of the row, or of a related row",
          "customer__timezone", key="timerCfg.timezoneField", rows=True),
    Field("calendarField", "Calendar of each row", LINE, "A text column of the row, or of a related row",
          "customer__region", key="timerCfg.calendarField", rows=True),
    choice("type", "Type", about="A task Type of the app's own, or the built-in one", example="tasks.AuditedType",
           key="type", source="types", clearable=False),
    Field("argDict", "Arguments", JSON, "Keyword arguments for the function, as a JSON object",
          '{"region": "north"}', rows=False),
    choice("missed", "What was missed", words.MISSED, "Due times that passed without a worker", example="Run the latest",
           key="missed.policy", usual="latest"),
    Field("grace", "On time up to", SECONDS, "Seconds after the due time", "60", key="missed.grace", usual=60,
          if_empty="60"),
    Field("lookback", "Look back", SECONDS, "Seconds before now; older dates are recorded as missed", "3600",
          key="missed.lookback", usual=86400, if_empty="a day"),
    Field("retries", "Retries", whole(), "How often a failed task is tried again", "3", key="retries", usual=0),
    Field("retryDelay", "Delay before a retry", SECONDS, "Seconds", "60", key="retryDelay", usual=0),
    Field("timeout", "Time limit", SECONDS, "Seconds; past the limit the task is an error", "600", key="timeout",
          usual=43200, if_empty="12 hours"),
    Field("limit", "At a time", whole(1), "How many executions at most", "1", key="concurrency.limit",
          if_empty="no limit"),
    choice("overlap", "When the limit is reached", words.OVERLAP, "What happens to a task that finds the limit reached", example="Wait",
           key="concurrency.overlap", usual="queue", parent="limit"),
    Field("rate", "At most", LINE, "How often the function begins, over all workers; per second, minute, hour, day",
          "100/minute", key="rate", if_empty="no limit"),
    Field("tags", "Tags", LINES, "Words by which people find the task", "mail", key="tags"),
    Field("description", "Description", TEXT, "Markdown, for the task's page", "Sent to the **owner**",
          key="description"),
    choice("dispatch", "Flow runs", words.DISPATCH, "For rows that are due at one instant",
           example="Always together", key="dispatch", usual="auto", rows=True),
    Field("parallel", "Rows at once", whole(1), "How many rows of a flow run one process has at work at once, 100 at most",
          "10", key="parallel", usual=1, if_empty="1", rows=True),
    Field("digest", "Rows of one call", LINE, "The function gets a list: rows that are due together and have the same value in this column, "
          f"or in one of a related row; {ALL_ROWS} for all that are due together", "owner_id", key="digest.by", if_empty="a row at a time", rows=True),
    choice("rowRuns", "Rows shown as task runs", words.ROW_RUNS, "In a flow run of many rows", example="All",
           key="rowRuns", usual="failed", rows=True),
)  # fmt: skip
BY_NAME = {field.name: field for field in TASK_FIELDS}
OF_OFFSET = {f.name for f in TASK_FIELDS if f.key.startswith(f"{OFFSET}.")}
"""The fields of a row's offset. A task with several named offsets has none of them."""


def children(name: str) -> set[str]:
    """The fields that say nothing without a field."""
    return {field.name for field in TASK_FIELDS if field.parent == name}
