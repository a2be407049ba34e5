"""Values that once took a whole app down, as raw JSON, and random files and filters made of them."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from app_files import APP, DAILY, PLAIN, REMIND, patched, write

from jittask_prefect import App
from jittask_prefect.deploying import prefect_yaml
from jittask_prefect.dialogs import conversion
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.errors import JittaskError, Problem

NOW = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
TEXTS = (
    r'"\ud800"',
    r'"a\u0000b"',
    r'"\u001b[31m"',
    r'"\u009b31m"',
    r'"\u202ex"',
    r'"=1+1"',
    '"{{ x }}"',
    '"日报"',
    '""',
)
NUMBERS = (
    *(
        "0",
        "-1",
        "1.5",
        "1e10",
        "1e11",
        "1e308",
        "1e400",
        "-1e400",
        "NaN",
        "Infinity",
        "9223372036854775808",
    ),
    *("1" + "0" * 400, "1" + "0" * 5000, "true", "null"),
)
DEEP = ("[" * 60 + "]" * 60, '{"a":' * 60 + "1" + "}" * 60, "[" * 5000 + "]" * 5000)
OTHERS = (
    "[]",
    "{}",
    "[[1]]",
    '{"a": 1}',
    '"2026-01-05 09:00:00"',
    '"0001-01-01 00:00:00"',
    '"9999-12-31 23:59:59"',
)
VALUES = (*TEXTS, *NUMBERS, *DEEP, *OTHERS)
PATHS = (
    *(
        "type",
        "title",
        "enable",
        "funcType",
        "func",
        "taskFunc",
        "timeout",
        "retries",
        "retryDelay",
        "tags",
    ),
    *(
        "description",
        "argDict",
        "missed",
        "missed.grace",
        "missed.lookback",
        "missed.policy",
        "concurrency",
    ),
    *(
        "concurrency.limit",
        "dispatch",
        "rowRuns",
        "parallel",
        "digest",
        "digest.by",
        "rate",
        "modelPath",
        "filter",
        "timerCfg",
        "timerCfg.startTime",
    ),
    *(
        "timerCfg.endTime",
        "timerCfg.calendar",
        "timerCfg.timezone",
        "timerCfg.repeat",
        "timerCfg.repeat.period",
    ),
    *(
        "timerCfg.repeat.day",
        "timerCfg.repeat.cron",
        "timerCfg.repeat.dates",
        "timerCfg.skipHoliday",
    ),
    *(
        "timerCfg.startField",
        "timerCfg.startOffset",
        "timerCfg.startOffset.offset",
        "timerCfg.endTimeType",
    ),
)
APP_PATHS = (
    *(
        "name",
        "title",
        "timezone",
        "database",
        "databases",
        "databases.crm",
        "horizon",
        "maxConcurrency",
    ),
    *(
        "allowCodeFromForms",
        "calendar",
        "calendars",
        "calendars.a",
        "calendars.a.country",
        "calendars.a.closed",
    ),
)
COLUMNS = ("id", "customer", "status", "endDate", "closedAt", "reminders")
OPERATORS = (
    "=",
    "!=",
    ">",
    "<=",
    "in",
    "nin",
    "like",
    "startswith",
    "isnull",
    "range",
    "year",
    "week",
    "likeany",
)
WORDS = (
    *(
        "0xfff",
        "0x" + "f" * 3_900,
        "9" * 400,
        "-1",
        "1e308",
        "1e400",
        "2**3",
        "None",
        "True",
        "9223372036854775808",
    ),
    *(
        r"'\ud800'",
        r"'\x00'",
        "'\x1b'",
        "'a'",
        "''",
        "'%'",
        "'2026-02-30'",
        "'0001-01-01'",
        "'9999-12-31 23:59:59'",
    ),
    *(
        "Q.today()",
        "Q.now(hours=1)",
        "Q.today(days=366000)",
        "Q.today(years=99999999999999999999)",
        "Q.now(days=1.5)",
    ),
    *("b'a'", "1j", "...", "[[1]]", "x", "Q.x()", "'a' 'b'", "f'{1}'"),
)


LIMITS = (
    *(
        "0",
        "-1",
        "2.5",
        "1e308",
        "5e-324",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
    ),
    *(
        "1" + "0" * 37,
        "9" * 39,
        "'1E+37'",
        "'1E-38'",
        "'NaN'",
        "'sNaN'",
        "'" + "9" * 38 + "." + "9" * 30 + "'",
    ),
    *(
        "True",
        "None",
        "''",
        "'%'",
        r"'\\'",
        r"'\''",
        r"'\x00'",
        r"'\x01'",
        r"'\ud800'",
        "'😀'",
        r"'\uffff'",
        "'a '",
    ),
    *(
        "'" + "x" * 3_000 + "'",
        "'low'",
        "'00000000-0000-0000-0000-000000000001'",
        "'23:59:59'",
        "'24:00'",
    ),
    *(
        "'0001-01-01'",
        "'0999-12-31'",
        "'1969-12-31 23:59:59'",
        "'2038-01-20'",
        "'9999-12-31 23:59:59'",
    ),
    *(
        "Q.today(years=1000)",
        "Q.today(years=-1000)",
        "Q.now(seconds=31622400000)",
        "Q.now(days=-366000)",
    ),
)
"""Values at the limits of one database or another."""


def random_comparison(chance: random.Random, model: type[Any]) -> str:
    """A comparison of a column of a model with a value, most often one that fits its operator's form."""
    column, operator = (
        chance.choice(list(model.__table__.columns.keys())),
        chance.choice(OPERATORS),
    )  # type: ignore[attr-defined]
    value = chance.choice(LIMITS)
    if operator in ("in", "nin", "likeany", "range"):
        value = f"[{value}, {chance.choice(LIMITS)}]"
    return f"Q('{column}', '{operator}', {value})"


def raw(base: dict[str, Any], path: str, text: str) -> str:
    """The JSON of a base with raw text as the value of a dotted key."""
    return json.dumps(patched(base, {path: "@@@"})).replace('"@@@"', text)


def random_filter(chance: random.Random, depth: int = 0) -> str:
    """A Q text: most are right but for a value."""
    if depth < 2 and chance.random() < 0.4:
        parts = [random_filter(chance, depth + 1) for _ in range(2)]
        return chance.choice(
            ["~{0}", "({0}) & ({1})", "({0}) | ({1})", "Q({0}, Q.OR, {1})"]
        ).format(*parts)
    column, operator, value = (
        chance.choice(COLUMNS),
        chance.choice(OPERATORS),
        chance.choice(WORDS),
    )
    if operator in ("in", "nin", "likeany", "range") and chance.random() < 0.8:
        value = f"[{value}, {chance.choice(WORDS)}]"
    return f"Q('{column}', '{operator}', {value})"


def random_task(chance: random.Random) -> dict[str, str]:
    """The files of a task, of which one or two values are bad."""
    rows = chance.random() < 0.5
    text = json.dumps(REMIND if rows else DAILY)
    for _ in range(chance.choice((1, 1, 2))):
        path = chance.choice(PATHS)
        value = (
            json.dumps(random_filter(chance))
            if path == "filter"
            else chance.choice(VALUES)
        )
        try:
            text = raw(
                json.loads(text), path, f"[{value}]" if chance.random() < 0.1 else value
            )
        except (ValueError, AttributeError, TypeError, RecursionError):
            break  # the first value lets nothing follow
    if chance.random() < 0.05:
        text = text[: chance.randrange(len(text))]
    return {
        "e.json": text,
        "inner.py": f"def customFunc({'row' if rows else ''}): return 1\n",
    }


def random_app(chance: random.Random) -> str:
    """An app.json of which one value is bad."""
    return raw(APP, chance.choice(APP_PATHS), chance.choice(VALUES))


def loaded(folder: Path, **files: Any) -> App | None:
    """The plain app with some files changed; None where app.json is refused, in a sentence."""
    try:
        return write(folder, **files)
    except JittaskError as error:
        str(error).encode()
        return None


def look(app: App) -> list[Problem]:
    """Do with an app what check, compile and the dialogs do; the plain tasks must work. What check finds."""
    found = app.check()
    said = [*map(str, found), *app.warnings(NOW)]
    for template in app.templates():
        row = (
            app.getElement("models.Contract")(id=1, endDate=NOW.date())
            if isinstance(template, DateFieldType)
            else None
        )
        try:
            template.getNextRunTime(None, NOW)
            said.append(json.dumps(conversion.form_of(template), allow_nan=False))
            said += [
                o.isoformat()
                for o, _ in zip(
                    template.occurrences(NOW, NOW.replace(month=5), row),
                    "ab",
                    strict=False,
                )
            ]
        except JittaskError as error:
            said.append(str(error))
    said.append(prefect_yaml.text(app, NOW))
    for text in said:
        text.encode()  # what no terminal and no server can be told is none of it
    yaml.safe_load(said[-1])
    there = {t.fullName for t in app.templates()}
    assert {"tasks.Daily", "tasks.Remind"} <= there
    assert {p.file.split("/e.json")[0].split("/inner.py")[0] for p in found} & {
        "tasks/Daily",
        "tasks/Remind",
    } == set()
    return found


__all__ = [
    "NOW",
    "PLAIN",
    "loaded",
    "look",
    "random_app",
    "random_comparison",
    "random_filter",
    "random_task",
    "raw",
]
