"""What a form says as the e.json of a task, and what an e.json says as a form."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from jittask_prefect.dialogs import words
from jittask_prefect.dialogs.fields import LINE, Field
from jittask_prefect.elements.config import parse_json, safe_text
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.schedule.spec import Offset
from jittask_prefect.validation import shown

HTML = re.compile(r"<[A-Za-z/!?]")
UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
MOST = 10_000_000_000
"""The largest number of a form; 300 years in seconds."""
PLACES = {
    "startTime": "startDate", "startField": "startField", "startOffset.time": "atTime", "startOffset": "offset",
    "endTime": "endDate", "endField": "endField", "endOffset.time": "endAtTime", "endOffset": "endOffset",
    "repeat.repeatType": "repeat", "repeat.period": "period", "repeat.weekday": "weekdays", "repeat.day": "days",
    "repeat.week": "week", "repeat.subType": "week", "repeat.month": "months", "repeat.monthEnd": "monthEnd",
    "repeat.cron": "cron", "repeat.rrule": "rrule", "repeat.dates": "dates", "repeat": "repeat",
    "missed.policy": "missed", "missed": "grace", "concurrency.limit": "limit", "concurrency.overlap": "overlap",
    "modelPath": "startField", "customFunc": "func", "folder name": "name",
}  # fmt: skip
"""Where what is wrong with a key of e.json stands in the forms."""
Form = Mapping[str, Any]


@dataclass(frozen=True)
class Said:
    """What a form says.

    Attributes:
        config: The e.json.
        code: The inner.py; None where the form has none.
    """

    config: dict[str, Any]
    code: str | None


def checked(form: Form, fields: Sequence[Field]) -> dict[str, Any]:
    """What was filled in, each of its field's kind; what is empty is left out.

    Raises:
        ConfigError: With every field that holds what it may not.
    """
    known = {field.name: field for field in fields}
    problems = [
        Problem("", name, "a value", "nothing: the form has no such field")
        for name in form
        if name not in known
    ]
    found: dict[str, Any] = {}
    for field in fields:
        value = form.get(field.name)
        if (
            value is None
            or value == ""
            or value == []
            or (isinstance(value, str) and not value.strip())
        ):
            if field.required:
                problems.append(
                    Problem("", field.title, "nothing", "it must be filled in")
                )
            continue
        try:
            found[field.name] = _value(field.schema, value, field.name)
        except ValueError as error:
            problems.append(Problem("", field.title, shown(value), str(error)))
    if problems:
        raise ConfigError(problems)
    return found


def _value(schema: Mapping[str, Any], value: Any, name: str) -> Any:
    kind = schema["type"]
    if kind == "array":
        if not isinstance(value, list) or len(value) > 100:
            raise ValueError("a list of at most 100")
        return [_value(schema["items"], item, name) for item in value]
    if kind == "boolean":
        if not isinstance(value, bool):
            raise ValueError("on or off")
        return value
    if kind in ("integer", "number"):
        fits = isinstance(
            value, int if kind == "integer" else (int, float)
        ) and not isinstance(value, bool)
        if not (fits and schema.get("minimum", 0) <= value <= MOST):
            raise ValueError(
                f"a number of {schema.get('minimum', 0)} or more, up to {MOST}"
            )
        return value
    if not isinstance(value, str):
        raise ValueError("a text")
    return _text(schema, value, name)


def _text(schema: Mapping[str, Any], value: str, name: str) -> str:
    most = schema.get("maxLength", LINE)
    if len(value) > most:
        raise ValueError(f"at most {most} characters, not {len(value)}")
    if name == "code":
        return value
    safe_text(value)
    if UNSEEN.search(value):
        raise ValueError("a text without control characters and halves of characters")
    if "enum" in schema:
        if value not in schema["enum"]:
            raise ValueError("one of the drop-down's")
        return value
    if "pattern" in schema and not re.search(schema["pattern"], value):
        raise ValueError(f"what matches {schema['pattern']}")
    if schema.get("format") == "date" and not re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        raise ValueError("a day as yyyy-MM-dd")
    if "../" in value or "..\\" in value:
        raise ValueError("a text without ../")
    if name in ("title", "description", "tags", "row", "taskId") and HTML.search(value):
        raise ValueError("a text without HTML")
    return value.strip()


def config_of(filled: Form, kind: str, *, rows: bool) -> Said:
    """The e.json that a form says, in the newer form of the format, without what is the default.

    Args:
        filled: As `checked` gives it.
        kind: The Type of a task whose form names none.
        rows: Whether it is a date field task.

    Raises:
        ConfigError: What was filled in contradicts itself.
    """
    of = _Reader(filled)
    config: dict[str, Any] = {
        "type": filled.get("type", kind),
        "title": filled["title"],
    }
    if filled.get("enable") is False:
        config["enable"] = 0
    if (func := filled.get("func", words.INNER)) != words.INNER:
        config |= {"funcType": "Global", "func": func}
    if rows:
        model, _, field = filled.get("startField", "").partition(".")
        config["modelPath"] = f"models.{model}" if model else ""
        if "filter" in filled:
            config["filter"] = filled["filter"]
        config["timerCfg"] = {
            "startField": field,
            **of.offset("startOffset", "when", "offset", "offsetUnit", "atTime"),
        }
        config["timerCfg"] |= of.end_of_rows(model)
    else:
        config["timerCfg"] = {"startTime": of.start(), **of.end()}
    config["timerCfg"] |= {"repeat": of.repeat(), **of.holidays()}
    for name in ("timeout", "retries", "retryDelay", "tags", "description"):
        if name in filled:
            config[name] = filled[name]
    for key, value in (
        ("missed", of.words("missed", words.MISSED)),
        ("dispatch", of.words("dispatch", words.DISPATCH)),
        ("rowRuns", of.words("rowRuns", words.ROW_RUNS)),
    ):
        if value is not None:
            config[key] = {"policy": value} if key == "missed" else value
    for name in ("grace", "lookback"):
        if name in filled:
            config["missed"] = {**config.get("missed", {}), name: filled[name]}
    if "limit" in filled or "overlap" in filled:
        overlap = of.words("overlap", words.OVERLAP)
        limit = {"limit": filled["limit"]} if "limit" in filled else {}
        config["concurrency"] = {**limit, **({"overlap": overlap} if overlap else {})}
    if (arguments := of.arguments()) is not None:
        config["argDict"] = arguments
    of.done(rows)
    return Said(config, filled.get("code"))


class _Reader:
    """Takes a form apart; contradictions are told together at the end."""

    def __init__(self, filled: Form) -> None:
        self.filled = filled
        self.problems: list[Problem] = []

    def done(self, rows: bool) -> None:
        other = ("startDate", "argDict") if rows else ("startField", "filter", "when", "offset", "offsetUnit", "atTime",
                 "endField", "endWhen", "endOffset", "endOffsetUnit", "endAtTime", "dispatch", "rowRuns")  # fmt: skip
        what = "date field task" if rows else "scheduled task"
        for name in other:
            if name in self.filled:
                self.wrong(name, f"nothing: this is a {what}")
        if self.problems:
            raise ConfigError(self.problems)

    def wrong(self, name: str, allowed: str) -> None:
        self.problems.append(
            Problem("", name, shown(self.filled.get(name, "nothing")), allowed)
        )

    def words(self, name: str, meaning: Mapping[Any, str]) -> Any:
        return words.meant(meaning, self.filled[name]) if name in self.filled else None

    def clock(self, name: str) -> str:
        said = str(self.filled[name])
        return said if said.count(":") == 2 else f"{said}:00"

    def start(self) -> str:
        if "startDate" not in self.filled:
            self.wrong("startDate", "it must be filled in")
        clock = self.clock("startTime") if "startTime" in self.filled else "00:00:00"
        return f"{self.filled.get('startDate')} {clock}"

    def end(self) -> dict[str, Any]:
        if "endTime" in self.filled and "endDate" not in self.filled:
            self.wrong("endTime", "nothing without a last day")
        if "endDate" not in self.filled:
            return {}
        clock = f" {self.clock('endTime')}" if "endTime" in self.filled else ""
        return {"endTime": f"{self.filled['endDate']}{clock}"}

    def end_of_rows(self, model: str) -> dict[str, Any]:
        fixed = self.end()
        offset = self.offset(
            "endOffset", "endWhen", "endOffset", "endOffsetUnit", "endAtTime"
        )
        if "endField" not in self.filled:
            for name in ("endWhen", "endOffset", "endOffsetUnit", "endAtTime"):
                if name in self.filled:
                    self.wrong(name, "nothing without a date field for the end")
            return {"endTimeType": 1, **fixed} if fixed else {}
        other, _, field = self.filled["endField"].partition(".")
        if fixed:
            self.wrong("endField", "nothing beside a fixed end: one of the two")
        if other != model:
            self.wrong("endField", f"a field of the same model, {model}")
        return {"endTimeType": 2, "endField": field, **offset}

    def offset(
        self, key: str, when: str, amount: str, unit: str, at: str
    ) -> dict[str, Any]:
        kind, size = self.words(when, words.WHEN) or 0, self.filled.get(amount, 0)
        if kind == 0 and size:
            self.wrong(
                when,
                f"{words.WHEN[-1]} or {words.WHEN[1]}, with {size} {self.filled.get(unit, 'days')}",
            )
        if kind and not size:
            self.wrong(amount, f"a number above 0, with {words.WHEN[kind]}")
        found: dict[str, Any] = {"offsetType": kind}
        if kind:
            meant = words.meant(words.UNITS, self.filled.get(unit, "days"))
            found |= {"offset": size, "offsetUnit": meant}
        if at in self.filled:
            found["time"] = self.filled[at]
        return {key: found} if len(found) > 1 or kind else {}

    def repeat(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "repeatType": self.words("repeat", words.REPEAT) or "normal"
        }
        if self.filled.get("period", 1) != 1:
            found["period"] = self.filled["period"]
        for key, name, meaning in (
            ("weekday", "weekdays", words.WEEKDAYS),
            ("day", "days", words.DAYS),
            ("month", "months", words.MONTHS),
        ):
            if name in self.filled:
                found[key] = [words.meant(meaning, said) for said in self.filled[name]]
        if "week" in self.filled:
            found |= {"subType": "week", "week": self.words("week", words.WEEKS)}
        if (last := self.words("monthEnd", words.MONTH_END)) not in (None, "last"):
            found["monthEnd"] = last
        for name in ("cron", "rrule"):
            if name in self.filled:
                found[name] = self.filled[name]
        if "dates" in self.filled:
            found["dates"] = [
                each.strip()
                for each in self.filled["dates"].splitlines()
                if each.strip()
            ]
        return found

    def holidays(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            name: 1 for name in ("skipHoliday", "workdaysOnly") if self.filled.get(name)
        }
        if (policy := self.words("holidayPolicy", words.HOLIDAY)) not in (None, "next"):
            found["holidayPolicy"] = policy
        return found | {
            name: self.filled[name]
            for name in ("calendar", "timezone")
            if name in self.filled
        }

    def arguments(self) -> dict[str, Any] | None:
        if "argDict" not in self.filled:
            return None
        try:
            return arguments(self.filled["argDict"]) or None
        except ValueError as error:
            self.wrong("argDict", str(error))
            return None


def arguments(text: str) -> dict[str, Any]:
    """Keyword arguments as a form has them.

    Raises:
        ValueError: It is no JSON object; the text says what is allowed.
    """
    try:
        found = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"JSON ({error})") from None
    if not isinstance(found, dict):
        raise ValueError('a JSON object, like {"region": "north"}')
    return found


def form_of(template: Meta) -> dict[str, Any]:
    """The form that says what a task is: what is the default is left out."""
    cfg, timer, repeat = template.cfg, template.timer.cfg, template.timer.cfg.repeat
    form: dict[str, Any] = {"title": cfg.title}
    if not cfg.enable:
        form["enable"] = False
    form["type"] = cfg.type
    form["func"] = cfg.func if cfg.funcType == "Global" else words.INNER
    if isinstance(template, DateFieldType):
        model = template.model_name.partition(".")[2]
        form["startField"] = f"{model}.{timer.start_field}"
        form |= _offset_form(
            timer.start_offset, "when", "offset", "offsetUnit", "atTime"
        )
        form["filter"] = cfg.filter
        if timer.end_field is not None:
            form["endField"] = f"{model}.{timer.end_field}"
            form |= _offset_form(
                timer.end_offset, "endWhen", "endOffset", "endOffsetUnit", "endAtTime"
            )
        form |= {"dispatch": _unless("auto", cfg.dispatch, words.DISPATCH)}
        form |= {"rowRuns": _unless("failed", cfg.rowRuns, words.ROW_RUNS)}
    elif timer.start_time is not None:
        form |= {
            "startDate": _day(timer.start_time),
            "startTime": _clock(timer.start_time.time()),
        }
    if timer.end_time is not None:
        form["endDate"] = _day(timer.end_time)
        if isinstance(timer.end_time, datetime):
            form["endTime"] = _clock(timer.end_time.time())
    form |= {
        "repeat": words.REPEAT[repeat.repeat_type],
        "period": repeat.period if repeat.period != 1 else None,
    }
    form |= {
        "weekdays": [words.WEEKDAYS[n] for n in repeat.weekday or ()],
        "days": [words.DAYS[n] for n in repeat.day or ()],
        "months": [words.MONTHS[n] for n in repeat.month or ()],
        "week": None if repeat.week is None else words.WEEKS[repeat.week],
        "monthEnd": _unless("last", repeat.month_end, words.MONTH_END),
        "cron": repeat.cron,
        "rrule": repeat.rrule,
        "dates": "\n".join(_moment(each) for each in repeat.dates or ()),
        "skipHoliday": timer.skip_holiday or None,
        "workdaysOnly": timer.workdays_only or None,
        "holidayPolicy": _unless("next", timer.holiday_policy, words.HOLIDAY),
        "calendar": timer.calendar,
        "timezone": timer.timezone,
        "missed": _unless("latest", cfg.missed.policy, words.MISSED),
        "grace": _other(60, cfg.missed.grace),
        "lookback": _other(86400, cfg.missed.lookback),
        "retries": _other(0, cfg.retries),
        "retryDelay": _other(0, cfg.retryDelay),
        "timeout": _other(43200, cfg.timeout),
        "limit": cfg.concurrency.limit if cfg.concurrency else None,
        "overlap": _unless("queue", cfg.concurrency.overlap, words.OVERLAP)
        if cfg.concurrency
        else None,
        "tags": list(cfg.tags),
        "description": cfg.description,
    }
    if cfg.argDict and not template.rows:
        form["argDict"] = json.dumps(cfg.argDict, ensure_ascii=False)
    return {name: value for name, value in form.items() if value not in (None, "", [])}


def _offset_form(
    offset: Offset | None, when: str, amount: str, unit: str, at: str
) -> dict[str, Any]:
    if offset is None:
        return {}
    form: dict[str, Any] = {}
    if offset.amount:
        form[when] = words.WHEN[-1 if offset.amount < 0 else 1]
        form |= {amount: abs(offset.amount), unit: words.UNITS[offset.unit]}
    if offset.time is not None:
        form[at] = _clock(offset.time)
    return form


def _unless(usual: str, value: str, meaning: Mapping[Any, str]) -> str | None:
    return None if value == usual else meaning[value]


def _other(usual: float, value: float) -> float | None:
    return None if value == usual else int(value) if value == int(value) else value


def _day(moment: date) -> str:
    return f"{moment:%Y-%m-%d}".zfill(10)


def _clock(moment: time) -> str:
    return moment.isoformat("seconds" if moment.second else "minutes")


def _moment(moment: date) -> str:
    return (
        f"{_day(moment)} {moment:%H:%M:%S}"
        if isinstance(moment, datetime)
        else _day(moment)
    )


def in_the_form(error: ConfigError, fields: Sequence[Field]) -> ConfigError:
    """What is wrong with an e.json, said of the fields of the form that made it."""
    titles = {field.name: field.title for field in fields}
    found = []
    for problem in error.problems:
        key = problem.key.removeprefix("timerCfg.")
        place = next(
            (
                PLACES[k]
                for k in PLACES
                if key == k or key.startswith((f"{k}.", f"{k}["))
            ),
            key,
        )
        found.append(
            Problem("", titles.get(place, problem.key), problem.found, problem.allowed)
        )
    return ConfigError(found)
