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

TITLE = Field(
    "title",
    "Name",
    LINE,
    "In any language",
    required=True,
    key="title",
    clearable=False,
)
NAME = Field(
    "name",
    "English name",
    matching("^[A-Za-z_][A-Za-z0-9_]{0,63}$"),
    if_empty="Made from the name",
)
CODE = Field(
    "code", "inner.py", TEXT, "Python; replaces what is there", clearable=False
)

TASK_FIELDS: tuple[Field, ...] = (
    TITLE,
    choice("startField", "Model and date field", about="One task for each row, due by it",
          source="date fields",
          rows=True, required=True, clearable=False),
    choice("when", "Due", words.WHEN, key=f"{OFFSET}.offsetType", usual=0, default="On the date", rows=True,
          clearable=False),
    Field("offset", "How long before or after", whole(), key=f"{OFFSET}.offset", default=0, rows=True,
          clearable=False),
    choice("offsetUnit", "Unit", words.UNITS, key=f"{OFFSET}.offsetUnit", default="days", rows=True,
          clearable=False),
    Field("atTime", "At", CLOCK, "HH:mm: the clock time of that day, with days and longer units",
          key=f"{OFFSET}.time",
          rows=True),
    Field("filter", "Filter", TEXT, "A Q expression, e.g. Q(status='active')", key="filter",
          if_empty="every row", rows=True),
    Field("startDate", "Start", DAY, "The first day", rows=False, required=True, clearable=False),
    Field("startTime", "Start time", CLOCK, "HH:mm, in the task's zone", default="09:00", rows=False,
          clearable=False),
    Field("endDate", "End", DAY, "The last day; without a time the whole day"),
    Field("endTime", "End time", CLOCK, "HH:mm", parent="endDate"),
    choice("repeat", "Repeat cycle", words.REPEAT, key=f"{REPEAT}.repeatType", default="No repeat",
          clearable=False),
    Field("period", "Every … cycles", whole(1), "2 with Weekly: every other week", key=f"{REPEAT}.period",
          usual=1,
          default=1, cycles=COUNTED),
    choice("weekdays", "Weekdays", words.WEEKDAYS, "Weekly; or with a week of the month", many=True,
          key=f"{REPEAT}.weekday",
          cycles=("week", *OF_MONTHS)),
    choice("days", "Days of the month", words.DAYS, "Monthly and yearly", many=True, key=f"{REPEAT}.day",
          cycles=OF_MONTHS),
    choice("months", "Months", words.MONTHS, "Yearly", many=True, key=f"{REPEAT}.month", cycles=("year",)),
    Field("skipHoliday", "Skip legal holidays", FLAG, "What falls on one moves to the next workday",
          key="timerCfg.skipHoliday", usual=False, default=False, clearable=False),
    choice("func", "Function", about="What it calls: a function in its own folder, or a service's",
          source="functions", default=words.INNER, clearable=False),
    Field("enable", "Enabled", FLAG, key="enable", usual=True, default=True, clearable=False),
    choice("endField", "or end by a date field", source="date fields", rows=True),
    choice("endWhen", "End due", words.WHEN, key=f"{END_OFFSET}.offsetType", usual=0, rows=True,
          parent="endField",
          clearable=False),
    Field("endOffset", "How long before or after the end", whole(), key=f"{END_OFFSET}.offset", rows=True,
          parent="endField",
          clearable=False),
    choice("endOffsetUnit", "Unit of the end", words.UNITS, key=f"{END_OFFSET}.offsetUnit", rows=True,
          parent="endField", clearable=False),
    Field("endAtTime", "End at", CLOCK, "HH:mm", key=f"{END_OFFSET}.time", rows=True, parent="endField"),
    choice("week", "Weeks of the month", words.WEEKS, "Monthly and yearly, with weekdays", many=True,
          key=f"{REPEAT}.week",
          cycles=OF_MONTHS),
    choice("workdays", "Working days of the month", words.WORKDAYS, "Monthly and yearly, by the calendar", many=True,
          key=f"{REPEAT}.workday",
          cycles=OF_MONTHS),
    choice("monthEnd", "Where a month has no such day", words.MONTH_END, key=f"{REPEAT}.monthEnd",
          usual="last",
          cycles=OF_MONTHS),
    Field("cron", "Custom: cron", LINE, "Five fields, e.g. 0 9 * * 1-5", key=f"{REPEAT}.cron",
          cycles=("custom",)),
    Field("rrule", "or custom: RRULE", TEXT, "One line, e.g. FREQ=MONTHLY;BYDAY=MO;BYSETPOS=1",
          key=f"{REPEAT}.rrule",
          cycles=("custom",)),
    Field("dates", "or custom: dates", TEXT, "yyyy-MM-dd or yyyy-MM-dd HH:mm:ss, one on each line",
          cycles=("custom",)),
    choice("holidayPolicy", "What falls on a holiday", words.HOLIDAY, key="timerCfg.holidayPolicy",
          usual="next"),
    Field("workdaysOnly", "Working days only", FLAG, "Weekends count as holidays",
          key="timerCfg.workdaysOnly", usual=False,
          default=False, clearable=False),
    choice("calendar", "Calendar", about="The app's, or a country's", key="timerCfg.calendar",
          source="calendars"),
    choice("timezone", "Time zone", about="An IANA name", key="timerCfg.timezone", source="time zones"),
    choice("type", "Type", about="A task Type of the app's own, or the built-in one", key="type",
          source="types",
          clearable=False),
    Field("argDict", "Arguments", JSON, "Keyword arguments for the function, as a JSON object", rows=False),
    choice("missed", "What was missed", words.MISSED, "What no worker ran in time", key="missed.policy",
          usual="latest"),
    Field("grace", "On time up to", SECONDS, "Seconds", key="missed.grace", usual=60, if_empty="60"),
    Field("lookback", "Look back", SECONDS, "Seconds", key="missed.lookback", usual=86400, if_empty="a day"),
    Field("retries", "Retries", whole(), key="retries", usual=0),
    Field("retryDelay", "Delay before a retry", SECONDS, "Seconds", key="retryDelay", usual=0),
    Field("timeout", "Time limit", SECONDS, "Seconds", key="timeout", usual=43200, if_empty="12 hours"),
    Field("limit", "At a time", whole(1), "How many executions at most", key="concurrency.limit",
          if_empty="no limit"),
    choice("overlap", "What is one too many", words.OVERLAP, key="concurrency.overlap", usual="queue",
          parent="limit"),
    Field("rate", "At most", LINE, "How often the function begins, over all workers, e.g. 100/minute; also per second, hour, day",
          key="rate", if_empty="no limit"),
    Field("tags", "Tags", LINES, key="tags"),
    Field("description", "Description", TEXT, "Markdown, for the task's page", key="description"),
    choice("dispatch", "Flow runs", words.DISPATCH, "For rows that are due at one instant", key="dispatch",
          usual="auto", rows=True),
    Field("parallel", "Rows at once", whole(1), "How many rows of a flow run one process has at work at once, 100 at most",
          key="parallel", usual=1, if_empty="1", rows=True),
    choice("rowRuns", "Rows shown as task runs", words.ROW_RUNS, key="rowRuns", usual="failed", rows=True),
)  # fmt: skip
BY_NAME = {field.name: field for field in TASK_FIELDS}


def children(name: str) -> set[str]:
    """The fields that say nothing without a field."""
    return {field.name for field in TASK_FIELDS if field.parent == name}
