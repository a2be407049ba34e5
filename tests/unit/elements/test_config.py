"""e.json of a task, key by key: what is taken, and what a mistake is answered with."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from app_files import DAILY, REMIND, only, patched, write

from jittask_prefect import App
from jittask_prefect.errors import ConfigError

REPEAT = "timerCfg.repeat"
OFFSET = "timerCfg.startOffset"

# What is wrong in e.json → the key that is named, what was found there, and a part of what is allowed.
BAD_SCHEDULED: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "unknown key": ({"titel": "x"}, "titel", "", "title"),
    "unknown key in timerCfg": (
        {"timerCfg.start": "x"},
        "timerCfg.start",
        "",
        "startTime",
    ),
    "unknown key in repeat": ({f"{REPEAT}.every": 2}, f"{REPEAT}.every", "", "period"),
    "unknown key in missed": (
        {"missed": {"polic": "all"}},
        "missed.polic",
        "",
        "policy",
    ),
    "unknown key in concurrency": (
        {"concurrency": {"limit": 1, "max": 2}},
        "concurrency.max",
        "",
        "overlap",
    ),
    "no title": ({"title": ...}, "title", "nothing", ""),
    "title of a number": ({"title": 5}, "title", "5", ""),
    "empty title": ({"title": ""}, "title", '""', ""),
    "no timerCfg": ({"timerCfg": ...}, "timerCfg", "nothing", ""),
    "timerCfg of a text": ({"timerCfg": "daily"}, "timerCfg", "daily", ""),
    "no startTime": (
        {"timerCfg.startTime": ...},
        "timerCfg.startTime",
        "nothing",
        "required",
    ),
    "30 February": (
        {"timerCfg.startTime": "2026-02-30 09:00:00"},
        "timerCfg.startTime",
        "2026-02-30",
        "yyyy",
    ),
    "startTime of a number": (
        {"timerCfg.startTime": 20260105},
        "timerCfg.startTime",
        "20260105",
        "yyyy",
    ),
    "endTime of a word": (
        {"timerCfg.endTime": "never"},
        "timerCfg.endTime",
        "never",
        "yyyy-MM-dd",
    ),
    "unknown repeatType": (
        {f"{REPEAT}.repeatType": "daily"},
        f"{REPEAT}.repeatType",
        "daily",
        "day",
    ),
    "period 0": ({f"{REPEAT}.period": 0}, f"{REPEAT}.period", "0", "1"),
    "period -1": ({f"{REPEAT}.period": -1}, f"{REPEAT}.period", "-1", "1"),
    "period 1.5": ({f"{REPEAT}.period": 1.5}, f"{REPEAT}.period", "1.5", ""),
    "period true": ({f"{REPEAT}.period": True}, f"{REPEAT}.period", "true", ""),
    "weekday 0": (
        {REPEAT: {"repeatType": "week", "weekday": [0]}},
        f"{REPEAT}.weekday",
        "0",
        "1",
    ),
    "weekday 8": (
        {REPEAT: {"repeatType": "week", "weekday": [8]}},
        f"{REPEAT}.weekday",
        "8",
        "7",
    ),
    "no weekday in the list": (
        {REPEAT: {"repeatType": "week", "weekday": []}},
        f"{REPEAT}.weekday",
        "[]",
        "",
    ),
    "day 0": (
        {REPEAT: {"repeatType": "month", "day": [0]}},
        f"{REPEAT}.day",
        "0",
        "31",
    ),
    "day 32": (
        {REPEAT: {"repeatType": "month", "day": [32]}},
        f"{REPEAT}.day",
        "32",
        "31",
    ),
    "day -2": (
        {REPEAT: {"repeatType": "month", "day": [-2]}},
        f"{REPEAT}.day",
        "-2",
        "-1",
    ),
    "month 13": (
        {REPEAT: {"repeatType": "year", "month": 13}},
        f"{REPEAT}.month",
        "13",
        "12",
    ),
    "week 6": (
        {REPEAT: {"repeatType": "month", "week": 6, "weekday": [1]}},
        f"{REPEAT}.week",
        "6",
        "5",
    ),
    "week 0": (
        {REPEAT: {"repeatType": "month", "week": 0, "weekday": [1]}},
        f"{REPEAT}.week",
        "0",
        "5",
    ),
    "unknown monthEnd": (
        {REPEAT: {"repeatType": "month", "monthEnd": "first"}},
        f"{REPEAT}.monthEnd",
        "first",
        "skip",
    ),
    "cron of six fields": (
        {REPEAT: {"repeatType": "custom", "cron": "0 0 9 * * 1"}},
        f"{REPEAT}.cron",
        "0 0 9 * * 1",
        "five",
    ),
    "rrule with COUNT": (
        {REPEAT: {"repeatType": "custom", "rrule": "FREQ=DAILY;COUNT=3"}},
        f"{REPEAT}.rrule",
        "COUNT",
        "",
    ),
    "dates of no date": (
        {REPEAT: {"repeatType": "custom", "dates": ["soon"]}},
        f"{REPEAT}.dates",
        "soon",
        "yyyy",
    ),
    "skipHoliday of a word": (
        {"timerCfg.skipHoliday": "yes"},
        "timerCfg.skipHoliday",
        "yes",
        "0",
    ),
    "skipHoliday 2": ({"timerCfg.skipHoliday": 2}, "timerCfg.skipHoliday", "2", "1"),
    "unknown holidayPolicy": (
        {"timerCfg.holidayPolicy": "after"},
        "timerCfg.holidayPolicy",
        "after",
        "nearest",
    ),
    "unknown calendar": (
        {"timerCfg.skipHoliday": 1, "timerCfg.calendar": "offices"},
        "timerCfg.calendar",
        "offices",
        "",
    ),
    "unknown zone": (
        {"timerCfg.timezone": "Asia/Peking"},
        "timerCfg.timezone",
        "Asia/Peking",
        "IANA",
    ),
    "startField of a scheduled task": (
        {"timerCfg.startField": "endDate"},
        "timerCfg.startField",
        "",
        "startTime",
    ),
    "enable of a word": ({"enable": "yes"}, "enable", "yes", "1"),
    "enable 2": ({"enable": 2}, "enable", "2", "1"),
    "unknown funcType": ({"funcType": "inner"}, "funcType", "inner", "Inner"),
    "Global without func": ({"funcType": "Global"}, "func", "nothing", "services."),
    "Inner with func": (
        {"func": "services.NoticeSvc.send"},
        "func",
        "services.NoticeSvc.send",
        "Global",
    ),
    "func of two parts": (
        {"funcType": "Global", "func": "NoticeSvc.send"},
        "func",
        "NoticeSvc.send",
        "services.",
    ),
    "modelPath of a scheduled task": (
        {"modelPath": "models.Contract"},
        "modelPath",
        "models.Contract",
        "date-field",
    ),
    "filter of a scheduled task": (
        {"filter": "Q(status='a')"},
        "filter",
        "Q(status='a')",
        "date-field",
    ),
    "timeout 0": ({"timeout": 0}, "timeout", "0", ""),
    "timeout of a text": ({"timeout": "60"}, "timeout", "60", ""),
    "retries -1": ({"retries": -1}, "retries", "-1", "0"),
    "retryDelay -1": ({"retryDelay": -1}, "retryDelay", "-1", "0"),
    "unknown policy": (
        {"missed": {"policy": "newest"}},
        "missed.policy",
        "newest",
        "latest",
    ),
    "grace -1": ({"missed": {"grace": -1}}, "missed.grace", "-1", "0"),
    "lookback of a text": (
        {"missed": {"lookback": "day"}},
        "missed.lookback",
        "day",
        "",
    ),
    "rate 0": ({"rate": "0/minute"}, "rate", '"0/minute"', 'like "100/minute"'),
    "rate without a unit": (
        {"rate": "5"},
        "rate",
        '"5"',
        "second, minute, hour or day",
    ),
    "rate of a fortnight": ({"rate": "5/fortnight"}, "rate", "fortnight", "or day"),
    "rate of a letter": ({"rate": "x/minute"}, "rate", "x/minute", "a whole number"),
    "rate of a number": ({"rate": 5}, "rate", "5", 'like "100/minute"'),
    "parallel of a scheduled task": (
        {"parallel": 2},
        "parallel",
        "2",
        "1: a scheduled task has no rows",
    ),
    "limit 0": ({"concurrency": {"limit": 0}}, "concurrency.limit", "0", "1"),
    "unknown overlap": (
        {"concurrency": {"limit": 1, "overlap": "drop"}},
        "concurrency.overlap",
        "drop",
        "replace",
    ),
    "tags of a text": ({"tags": "nightly"}, "tags", "nightly", ""),
    "argDict of a list": ({"argDict": [1]}, "argDict", "[1]", ""),
    "template in title": ({"title": "{{ $HOME }}"}, "title", "{{ $HOME }}", "{{"),
    "template in description": (
        {"description": "x {{ a }}"},
        "description",
        "{{ a }}",
        "{{",
    ),
    "template in tags": ({"tags": ["ok", "{{ a }}"]}, "tags", "{{ a }}", "{{"),
    "__prefect_kind in title": (
        {"title": "__prefect_kind"},
        "title",
        "__prefect_kind",
        "__prefect_kind",
    ),
    "unknown Type": (
        {"type": "tasks.WeirdType"},
        "type",
        "tasks.WeirdType",
        "tasks.NormalType",
    ),
    "a model's Type": (
        {"type": "models.NormalType"},
        "type",
        "models.NormalType",
        "tasks.",
    ),
    "no type": ({"type": ...}, "type", "nothing", "tasks.NormalType"),
    "type of a number": ({"type": 1}, "type", "1", "tasks.NormalType"),
    "unknown service": (
        {"funcType": "Global", "func": "services.NoSvc.send"},
        "func",
        "services.NoSvc",
        "NoticeSvc",
    ),
    "unknown method": (
        {"funcType": "Global", "func": "services.NoticeSvc.sent"},
        "func",
        "services.NoticeSvc.sent",
        "send",
    ),
    "private method": (
        {"funcType": "Global", "func": "services.NoticeSvc.__init__"},
        "func",
        "services.NoticeSvc.__init__",
        "",
    ),
    "arguments that the function does not take": (
        {"argDict": {"a": 1}},
        "",
        "customFunc",
        "",
    ),
}


@pytest.mark.parametrize(
    "patch, key, found, allowed", BAD_SCHEDULED.values(), ids=BAD_SCHEDULED
)
def test_a_mistake_in_a_scheduled_task(
    tmp_path: Path, patch: dict[str, Any], key: str, found: str, allowed: str
) -> None:
    problem = only(
        write(tmp_path, **{"tasks/Daily/e.json": patched(DAILY, patch)}).check()
    )
    assert problem.file in ("tasks/Daily/e.json", "tasks/Daily/inner.py")
    assert problem.key.startswith(key), problem
    assert found in problem.found, problem
    assert allowed in problem.allowed, problem


BAD_ROWS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "no modelPath": ({"modelPath": ...}, "modelPath", "nothing", "models."),
    "unknown model": (
        {"modelPath": "models.Contracts"},
        "modelPath",
        "models.Contracts",
        "models.Contract",
    ),
    "model of one part": (
        {"modelPath": "Contract"},
        "modelPath",
        "Contract",
        "models.",
    ),
    "a service as the model": (
        {"modelPath": "services.NoticeSvc"},
        "modelPath",
        "services.NoticeSvc",
        "models.",
    ),
    "no startField": (
        {"timerCfg.startField": ...},
        "timerCfg.startField",
        "nothing",
        "",
    ),
    "unknown startField": (
        {"timerCfg.startField": "endDat"},
        "timerCfg.startField",
        "endDat",
        "endDate",
    ),
    "startField that is no date": (
        {"timerCfg.startField": "customer"},
        "timerCfg.startField",
        "customer",
        "endDate",
    ),
    "unknown endField": (
        {"timerCfg.endTimeType": 2, "timerCfg.endField": "over"},
        "timerCfg.endField",
        "over",
        "closedAt",
    ),
    "endField missing": (
        {"timerCfg.endTimeType": 2},
        "timerCfg.endField",
        "nothing",
        "",
    ),
    "endTime missing": ({"timerCfg.endTimeType": 1}, "timerCfg.endTime", "nothing", ""),
    "unknown endTimeType": (
        {"timerCfg.endTimeType": 3},
        "timerCfg.endTimeType",
        "3",
        "2",
    ),
    "startTime of a row task": (
        {"timerCfg.startTime": "2026-01-05 09:00:00"},
        "timerCfg.startTime",
        "",
        "startField",
    ),
    "unknown key in offset": ({OFFSET: {"offsetTyp": 1}}, OFFSET, "", "offsetType"),
    "offsetType 2": (
        {OFFSET: {"offsetType": 2, "offset": 1, "offsetUnit": "day"}},
        f"{OFFSET}.offsetType",
        "2",
        "-1",
    ),
    "offsetType -1 with a signed offset": (
        {OFFSET: {"offsetType": -1, "offset": -3, "offsetUnit": "day"}},
        OFFSET,
        "-3",
        "",
    ),
    "unknown unit": (
        {OFFSET: {"offsetType": 1, "offset": 1, "offsetUnit": "decade"}},
        f"{OFFSET}.offsetUnit",
        "decade",
        "day",
    ),
    "offset without unit": (
        {OFFSET: {"offsetType": 1, "offset": 1}},
        f"{OFFSET}.offsetUnit",
        "nothing",
        "required",
    ),
    "time with hours": (
        {
            OFFSET: {
                "offsetType": -1,
                "offset": 2,
                "offsetUnit": "hour",
                "time": "09:00",
            }
        },
        f"{OFFSET}.time",
        "hour",
        "day",
    ),
    "time 25:00": (
        {OFFSET: {"offsetType": -1, "offset": 2, "offsetUnit": "day", "time": "25:00"}},
        f"{OFFSET}.time",
        "25:00",
        "HH:mm",
    ),
    "filter on no field": ({"filter": "Q(stat='active')"}, "filter", "stat", "status"),
    "filter that is no Q": ({"filter": "status == 'active'"}, "filter", "", "Q("),
    "filter that would be evaluated": (
        {"filter": "__import__('os').system('x')"},
        "filter",
        "",
        "Q",
    ),
    "filter that does not parse": ({"filter": "Q(status="}, "filter", "", ""),
    "filter with an unknown operator": (
        {"filter": "Q('status', '~~', 'a')"},
        "filter",
        "~~",
        "=",
    ),
    "filter of a number": ({"filter": 5}, "filter", "5", ""),
    "unknown dispatch": ({"dispatch": "each"}, "dispatch", "each", "batch"),
    "parallel 0": ({"parallel": 0}, "parallel", "0", "a whole number from 1 to 100"),
    "parallel -1": ({"parallel": -1}, "parallel", "-1", "a whole number from 1 to"),
    "parallel 1000": ({"parallel": 1000}, "parallel", "1000", "from 1 to 100"),
    "parallel of a text": ({"parallel": "4"}, "parallel", '"4"', "from 1 to 100"),
    "parallel true": ({"parallel": True}, "parallel", "true", "from 1 to 100"),
    "parallel 2.5": ({"parallel": 2.5}, "parallel", "2.5", "from 1 to 100"),
    "parallel with dispatch row": (
        {"parallel": 4, "dispatch": "row"},
        "parallel",
        "4 with dispatch row",
        "1, or dispatch auto or batch",
    ),
    "parallel beyond the limit": (
        {"parallel": 4, "concurrency": {"limit": 3}},
        "parallel",
        "4 with concurrency.limit 3",
        "3 at most, or a limit of 4 or more",
    ),
    "parallel with skip": (
        {"parallel": 4, "concurrency": {"limit": 9, "overlap": "skip"}},
        "parallel",
        "4 with concurrency.overlap skip",
        "1, or overlap queue",
    ),
    "unknown rowRuns": ({"rowRuns": "none"}, "rowRuns", "none", "failed"),
}


@pytest.mark.parametrize("patch, key, found, allowed", BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_mistake_in_a_row_task(
    tmp_path: Path, patch: dict[str, Any], key: str, found: str, allowed: str
) -> None:
    problem = only(
        write(tmp_path, **{"tasks/Remind/e.json": patched(REMIND, patch)}).check()
    )
    assert problem.file == "tasks/Remind/e.json"
    assert problem.key.startswith(key), problem
    assert found in problem.found, problem
    assert allowed in problem.allowed, problem


@pytest.mark.parametrize("key", ["dispatch", "rowRuns"])
def test_keys_of_rows_are_no_keys_of_scheduled_tasks(tmp_path: Path, key: str) -> None:
    value = {"dispatch": "row", "rowRuns": "all"}[key]
    problem = only(
        write(tmp_path, **{"tasks/Daily/e.json": DAILY | {key: value}}).check()
    )
    assert (problem.file, problem.key) == ("tasks/Daily/e.json", key)


CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "weekday without week": {"repeatType": "month", "subType": "week", "weekday": [1]},
    "subType day with week": {
        "repeatType": "month",
        "subType": "day",
        "week": 1,
        "weekday": [1],
    },
    "day and week": {"repeatType": "month", "day": [1], "week": 1, "weekday": [1]},
    "weekday of a day repeat": {"repeatType": "day", "weekday": [1]},
    "day of a week repeat": {"repeatType": "week", "day": [1]},
    "month of a month repeat": {"repeatType": "month", "month": 2},
    "cron of a day repeat": {"repeatType": "day", "cron": "0 9 * * *"},
    "custom with nothing": {"repeatType": "custom"},
    "custom with two": {
        "repeatType": "custom",
        "cron": "0 9 * * *",
        "dates": ["2026-03-01"],
    },
    "rrule with DTSTART": {
        "repeatType": "custom",
        "rrule": "DTSTART:20260101T000000\nRRULE:FREQ=DAILY",
    },
    "rrule with UNTIL": {
        "repeatType": "custom",
        "rrule": "FREQ=DAILY;UNTIL=20270101T000000",
    },
    "empty dates": {"repeatType": "custom", "dates": []},
    "cron of no minute": {"repeatType": "custom", "cron": "61 9 * * *"},
}


@pytest.mark.parametrize("repeat", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_repeat_that_contradicts_itself(
    tmp_path: Path, repeat: dict[str, Any]
) -> None:
    problems = write(
        tmp_path, **{"tasks/Daily/e.json": patched(DAILY, {REPEAT: repeat})}
    ).check()
    assert problems
    assert all(
        p.file == "tasks/Daily/e.json" and p.key.startswith(REPEAT) for p in problems
    ), problems


def test_an_end_before_the_start_is_a_contradiction(tmp_path: Path) -> None:
    e_json = patched(DAILY, {"timerCfg.endTime": "2025-12-31"})
    assert only(
        write(tmp_path, **{"tasks/Daily/e.json": e_json}).check()
    ).key.startswith("timerCfg.endTime")


def test_holidays_without_a_calendar_are_an_error(tmp_path: Path) -> None:
    files = {
        "app.json": {
            "name": "test",
            "timezone": "UTC",
            "database": "sqlite:///test.db",
        },
        "tasks/Daily/e.json": patched(DAILY, {"timerCfg.skipHoliday": 1}),
    }
    problem = only(write(tmp_path, **files).check())
    assert problem.file == "tasks/Daily/e.json"
    assert "calendar" in str(problem)


# --- what is taken -------------------------------------------------------------------------------------------------

GOOD_SCHEDULED: dict[str, dict[str, Any]] = {
    "every key": {
        "enable": 0,
        "funcType": "Inner",
        "timeout": 60,
        "retries": 2,
        "retryDelay": 10,
        "missed": {"policy": "all", "grace": 0, "lookback": 0},
        "concurrency": {"limit": 2, "overlap": "skip"},
        "rate": "7/hour",
        "tags": ["nightly", "夜间"],
        "description": "What it does.",
        "timerCfg.endTime": "2027-01-01",
        "timerCfg.skipHoliday": 1,
        "timerCfg.holidayPolicy": "cycle",
        "timerCfg.workdaysOnly": 1,
        "timerCfg.calendar": "US",
        "timerCfg.timezone": "America/New_York",
    },
    "missed in part": {"missed": {"policy": "none"}},
    "once": {REPEAT: {"repeatType": "normal"}},
    "minutes": {REPEAT: {"repeatType": "minute", "period": 15}},
    "week": {REPEAT: {"repeatType": "week", "period": 2, "weekday": [1, 5]}},
    "month by day": {
        REPEAT: {
            "repeatType": "month",
            "subType": "day",
            "day": [15, -1],
            "monthEnd": "skip",
        }
    },
    "month by week": {
        REPEAT: {"repeatType": "month", "subType": "week", "week": -1, "weekday": [5]}
    },
    "subType absent": {REPEAT: {"repeatType": "month", "week": 1, "weekday": [1]}},
    "year, one month": {REPEAT: {"repeatType": "year", "month": 2, "day": [29]}},
    "year, months": {REPEAT: {"repeatType": "year", "month": [3, 9]}},
    "cron": {REPEAT: {"repeatType": "custom", "cron": "0 9 * * 1-5"}},
    "rrule": {REPEAT: {"repeatType": "custom", "rrule": "FREQ=WEEKLY;BYDAY=MO"}},
    "dates": {
        REPEAT: {"repeatType": "custom", "dates": ["2026-03-01", "2026-04-01 10:30:00"]}
    },
    "service": {"funcType": "Global", "func": "services.NoticeSvc.send"},
    "service, older spelling": {
        "funcType": "Global",
        "taskFunc": "services.NoticeSvc.send",
    },
    "service with arguments": {
        "funcType": "Global",
        "func": "services.NoticeSvc.both",
        "argDict": {"a": 1, "b": [None, {"c": "d"}]},
    },
    "title in another language": {"title": "每日报表"},
}


@pytest.mark.parametrize("patch", GOOD_SCHEDULED.values(), ids=GOOD_SCHEDULED)
def test_what_a_scheduled_task_may_say(tmp_path: Path, patch: dict[str, Any]) -> None:
    app = write(tmp_path, **{"tasks/Daily/e.json": patched(DAILY, patch)})
    assert app.check() == []
    assert app.getElement("tasks.Daily").taskType == "tasks.NormalType"


GOOD_ROWS: dict[str, dict[str, Any]] = {
    "on time": {OFFSET: {"offsetType": 0}},
    "on time, all keys": {
        OFFSET: {"offsetType": 0, "offset": 0, "offsetUnit": "day", "time": "09:00"}
    },
    "before": {
        OFFSET: {"offsetType": -1, "offset": 7, "offsetUnit": "day", "time": "09:00"}
    },
    "plural": {OFFSET: {"offsetType": -1, "offset": 2, "offsetUnit": "weeks"}},
    "older form": {
        OFFSET: {"offsetType": 1, "offset": -7, "offsetUnit": "days", "time": "09:00"}
    },
    "fixed end": {"timerCfg.endTimeType": 1, "timerCfg.endTime": "2027-01-01 12:00:00"},
    "no end": {"timerCfg.endTimeType": 0},
    "end field": {
        "timerCfg.endTimeType": 2,
        "timerCfg.endField": "closedAt",
        "timerCfg.endOffset": {"offsetType": 1, "offset": 1, "offsetUnit": "month"},
    },
    "filter, calls": {
        "filter": "Q(Q('status','=','active'), Q.AND, Q('id','in',[1,2]))"
    },
    "filter, operators": {"filter": "Q(status='active') & ~Q(reminders__gte=3)"},
    "rows of a service": {"funcType": "Global", "func": "services.NoticeSvc.remind"},
    "dispatch": {"dispatch": "batch", "rowRuns": "all"},
    "parallel": {"parallel": 8, "concurrency": {"limit": 8}, "dispatch": "batch"},
    "parallel 1": {"parallel": 1, "dispatch": "row"},
    "rate": {"rate": "100/minute"},
    "older null filter": {"filter": None},
    "every repeat": {REPEAT: {"repeatType": "week", "weekday": [2]}},
    "cron of rows": {REPEAT: {"repeatType": "custom", "cron": "0 9 * * *"}},
}


@pytest.mark.parametrize("patch", GOOD_ROWS.values(), ids=GOOD_ROWS)
def test_what_a_row_task_may_say(tmp_path: Path, patch: dict[str, Any]) -> None:
    app = write(tmp_path, **{"tasks/Remind/e.json": patched(REMIND, patch)})
    assert app.check() == []
    assert app.getElement("tasks.Remind").taskType == "tasks.DateFieldType"


def test_the_older_offset_means_the_same_as_the_newer(tmp_path: Path) -> None:
    newer = {"offsetType": -1, "offset": 7, "offsetUnit": "day", "time": "09:00"}
    older = {"offsetType": 1, "offset": -7, "offsetUnit": "days", "time": "09:00"}
    app = write(
        tmp_path,
        **{
            "tasks/Remind/e.json": patched(REMIND, {OFFSET: newer}),
            "tasks/Older/e.json": patched(REMIND, {OFFSET: older}),
            "tasks/Older/inner.py": "def customFunc(rowData): ...\n",
        },
    )
    row = app.getElement("models.Contract")(endDate=datetime(2026, 12, 8).date())
    window = (datetime(2026, 11, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC), row)
    due = [datetime(2026, 12, 1, 1, tzinfo=UTC)]  # 09:00 in Shanghai, seven days before
    assert list(app.getElement("tasks.Remind").occurrences(*window)) == due
    assert list(app.getElement("tasks.Older").occurrences(*window)) == due


def test_absent_means(tmp_path: Path) -> None:
    """enable 1, period 1, no holidays, Inner: the plain daily task runs every day at its time."""
    app = write(tmp_path)
    daily = app.getElement("tasks.Daily")
    assert (daily.title, daily.fullName, daily.enable) == ("Daily", "tasks.Daily", 1)
    assert daily.config == DAILY
    spring = (
        datetime(2026, 2, 16, tzinfo=UTC),
        datetime(2026, 2, 19, tzinfo=UTC),
    )  # Chinese New Year 2026
    assert list(daily.occurrences(*spring)) == [
        datetime(2026, 2, d, 1, tzinfo=UTC) for d in (16, 17, 18)
    ]


# --- functions -----------------------------------------------------------------------------------------------------

WRONG_INNER: dict[str, tuple[str, str, str]] = {
    "a parameter too many": (
        "tasks/Daily",
        "def customFunc(rowData): ...",
        "customFunc",
    ),
    "no row": ("tasks/Remind", "def customFunc(): ...", "customFunc"),
    "two rows": ("tasks/Remind", "def customFunc(rowData, other): ...", "customFunc"),
    "keyword only": ("tasks/Remind", "def customFunc(*, rowData): ...", "customFunc"),
    "no function": ("tasks/Daily", "def custom(): ...", "customFunc"),
    "not a function": ("tasks/Daily", "customFunc = 5", "customFunc"),
}


@pytest.mark.parametrize("task, code, named", WRONG_INNER.values(), ids=WRONG_INNER)
def test_a_wrong_signature_is_found_by_check(
    tmp_path: Path, task: str, code: str, named: str
) -> None:
    problem = only(write(tmp_path, **{f"{task}/inner.py": code + "\n"}).check())
    assert problem.file == f"{task}/inner.py"
    assert named in str(problem)


@pytest.mark.parametrize(
    "task, code",
    [
        ("tasks/Daily", "async def customFunc(): ..."),
        ("tasks/Daily", "def customFunc(*args, **kwargs): ..."),
        ("tasks/Daily", "def customFunc(since=None): ..."),
        ("tasks/Remind", "async def customFunc(row): ..."),
        ("tasks/Remind", "customFunc = lambda rowData: None"),
    ],
)
def test_functions_that_fit(tmp_path: Path, task: str, code: str) -> None:
    assert write(tmp_path, **{f"{task}/inner.py": code + "\n"}).check() == []


def test_a_service_function_must_fit_too(tmp_path: Path) -> None:
    files = {
        "tasks/Daily/e.json": DAILY
        | {"funcType": "Global", "func": "services.NoticeSvc.remind"},
        "tasks/Remind/e.json": REMIND
        | {"funcType": "Global", "func": "services.NoticeSvc.send"},
    }
    problems = write(tmp_path, **files).check()
    assert [p.key for p in problems] == ["func", "func"]
    assert {p.file for p in problems} == {"tasks/Daily/e.json", "tasks/Remind/e.json"}


def test_an_inner_py_is_missing(tmp_path: Path) -> None:
    problem = only(write(tmp_path, **{"tasks/Daily/inner.py": None}).check())
    assert problem.file == "tasks/Daily/inner.py"


def test_a_template_with_a_mistake_cannot_be_had(tmp_path: Path) -> None:
    app: App = write(tmp_path, **{"tasks/Daily/e.json": DAILY | {"enable": "yes"}})
    with pytest.raises(
        ConfigError, match=r"tasks/Daily/e\.json: enable: found .*yes.*; allowed: .*0"
    ):
        app.getElement("tasks.Daily")
    assert app.getElement("tasks.Remind").title == "Remind"
