"""A form as the e.json of a task, and a task as a form, by the table of a task's fields."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from jittask_prefect.dialogs import words
from jittask_prefect.dialogs.checking import EMPTY
from jittask_prefect.dialogs.fields import Field, Form, Json, titles_of
from jittask_prefect.dialogs.levels import levels_of, levels_text
from jittask_prefect.dialogs.opening_hours import hours_of, hours_text
from jittask_prefect.dialogs.task_fields import (
    ALL_ROWS,
    BY_NAME,
    OF_OFFSET,
    TASK_FIELDS,
)
from jittask_prefect.elements.json_files import parse_json
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.schedule.offset import MOST_LEVELS
from jittask_prefect.validation import shown

OFFSETS = (
    ("startOffset", "when", "offset"),
    ("endOffset", "endWhen", "endOffset"),
)
"""The offsets in timerCfg, with the fields of their direction and their size."""
PLACES = {
    "timerCfg.startTime": "startDate",
    "timerCfg.startField": "startField",
    "timerCfg.startOffset": "offset",
    "timerCfg.endTime": "endDate",
    "timerCfg.endField": "endField",
    "timerCfg.endOffset": "endOffset",
    "timerCfg.repeat": "repeat",
    "timerCfg.repeat.subType": "week",
    "timerCfg.repeat.dates": "dates",
    "timerCfg.window": "window",
    "missed": "grace",
    "modelPath": "startField",
    "customFunc": "func",
    "folder name": "name",
    **{f"timerCfg.startOffset.{n}": "levels" for n in range(MOST_LEVELS)},
} | {field.key: field.name for field in TASK_FIELDS if field.key}
"""The fields of the form that stand for keys in messages about an e.json."""


# Form → e.json


def config_of(form: Form, kind: str, *, rows: bool) -> Json:
    """The e.json that a form describes, without keys that say the usual.

    Args:
        form: The checked fields.
        kind: The Type of a task whose form names none.
        rows: Whether the task is a date-field task.

    Raises:
        ConfigError: With every contradiction in the form.
    """
    problems = list(_misplaced(form, rows))
    config = _of_keys(form, kind)
    timer = config.setdefault("timerCfg", {})
    _complete_repeat(form, timer.setdefault("repeat", {"repeatType": "normal"}))
    if form.get("func", words.INNER) != words.INNER:
        config |= {"funcType": "Global", "func": form["func"]}
    model, _, start_field = form.get("startField", "").partition(".")
    if rows:
        config["modelPath"] = f"models.{model}" if model else ""
        timer["startField"] = start_field
    else:
        timer["startTime"] = f"{form.get('startDate')} {_clock(form, 'startTime')}"
    problems += _end(form, timer, model)
    for offset in OFFSETS:
        problems += _offset(form, timer, *offset)
    problems += _read_texts(form, config, timer)
    if form.get("digest") == ALL_ROWS:
        config["digest"] = {}
    if problems:
        raise ConfigError(problems)
    return config


def _of_keys(form: Form, kind: str) -> Json:
    """An e.json with the fields that have a key of their own."""
    config: Json = {"type": kind, "title": form["title"]}
    for field in TASK_FIELDS:
        if field.key and field.name in form:
            value = field.to_json(form[field.name])
            if value != field.usual:
                _set(config, field.key, value)
    return config


def _complete_repeat(form: Form, repeat: Json) -> None:
    """Complete a repeat: its type, a place alone as a number, its dates."""
    repeat.setdefault("repeatType", "normal")
    if "week" in repeat:
        repeat["subType"] = "week"
    for places in {"week", "workday"} & repeat.keys():
        if len(repeat[places]) == 1:
            [repeat[places]] = repeat[places]
    if "dates" in form:
        days = map(str.strip, form["dates"].splitlines())
        repeat["dates"] = [day for day in days if day]


def _read_texts(form: Form, config: Json, timer: Json) -> Iterator[Problem]:
    """Write what the form has as a text of several lines: levels, opening hours, arguments."""
    for name, place, key, read in (
        ("levels", timer, "startOffset", levels_of),
        ("window", timer, "window", hours_of),
        ("argDict", config, "argDict", arguments),
    ):
        try:
            if name in form and (found := read(form[name])):
                place[key] = found
        except ValueError as error:
            yield _problem(form, name, str(error))


def _misplaced(form: Form, rows: bool) -> Iterator[Problem]:
    """Fields that are missing, belong to the other kind of task, or say nothing without another field."""
    if not rows and "startDate" not in form:
        yield _problem(form, "startDate", "it must be filled in")
    for field in (field for field in TASK_FIELDS if field.name in form):
        if field.rows not in (None, rows):
            kind = "date field task" if rows else "scheduled task"
            yield _problem(form, field.name, f"nothing: this is a {kind}")
        elif field.parent and field.parent not in form:
            title = BY_NAME[field.parent].title
            yield _problem(form, field.name, f"nothing while {title!r} is empty")
    if "levels" in form and OF_OFFSET & form.keys():
        allowed = "nothing beside a single offset: one of the two"
        yield _problem(form, "levels", allowed)


def _end(form: Form, timer: Json, model: str) -> Iterator[Problem]:
    """Write the end: a fixed time, or a date field of the row."""
    if "endDate" in form:
        clock = f" {_clock(form, 'endTime')}" if "endTime" in form else ""
        timer["endTime"] = f"{form['endDate']}{clock}"
        if model:
            timer["endTimeType"] = 1
    if "endField" in form:
        other, _, field = form["endField"].partition(".")
        if "endDate" in form:
            allowed = "nothing beside a fixed end: one of the two"
            yield _problem(form, "endField", allowed)
        if other != model:
            yield _problem(form, "endField", f"a field of the same model, {model}")
        timer |= {"endTimeType": 2, "endField": field}


def _offset(
    form: Form, timer: Json, key: str, when: str, amount: str
) -> Iterator[Problem]:
    """Complete an offset, or remove an offset of nothing."""
    offset = timer.pop(key, {})
    kind, size = offset.get("offsetType", 0), offset.get("offset", 0)
    unit = offset.get("offsetUnit", "day")
    if size and not kind:
        before, after = words.WHEN[-1], words.WHEN[1]
        told = f"{before} or {after}, with {size} {words.UNITS[unit]}"
        yield _problem(form, when, told)
    if kind and not size:
        yield _problem(form, amount, f"a number above 0, with {words.WHEN[kind]}")
    at = {"time": offset["time"]} if "time" in offset else {}
    size_and_unit = {"offset": size, "offsetUnit": unit} if kind else {}
    if at or size_and_unit:
        timer[key] = {"offsetType": kind, **size_and_unit, **at}


def _clock(form: Form, name: str) -> str:
    """A clock time with seconds; midnight where the field is empty."""
    clock = form.get(name, "00:00")
    return f"{clock}:00" if clock.count(":") == 1 else str(clock)


def arguments(text: str) -> Json:
    """Keyword arguments from a form's JSON.

    Raises:
        ValueError: The text is no JSON object; the error names the allowed form.
    """
    try:
        found = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"JSON ({error})") from None
    if not isinstance(found, dict):
        raise ValueError('a JSON object, like {"region": "north"}')
    return found


def _problem(form: Form, name: str, allowed: str) -> Problem:
    return Problem("", name, shown(form.get(name, "nothing")), allowed)


def _set(config: Json, key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        config = config.setdefault(part, {})
    config[last] = value


def about_fields(error: ConfigError, fields: Sequence[Field]) -> ConfigError:
    """The problems of an e.json, told of the form's fields."""
    titles = titles_of(fields)
    found = []
    for problem in error.problems:
        # The longest key is the nearest.
        places = [key for key in PLACES if _is_within(problem.key, key)]
        name = PLACES[max(places, key=len)] if places else problem.key
        key = titles.get(name, problem.key)
        found.append(Problem("", key, problem.found, problem.allowed))
    return ConfigError(found)


def _is_within(key: str, outer: str) -> bool:
    return key == outer or key.startswith((f"{outer}.", f"{outer}["))


# Task → form


def form_of(template: Meta) -> Json:
    """The form that describes a task, without fields that say the usual."""
    return _not_empty(
        (field.name, field.to_form(value))
        for field, value in _values(template)
        if value != field.usual
    )


def shown_form(template: Meta) -> Json:
    """The form for editing a task: also fields that say the usual, and switches in words."""
    return _not_empty(
        (
            field.name,
            words.SWITCH[bool(value)] if field.switch else field.to_form(value),
        )
        for field, value in _values(template)
    )


def _not_empty(form: Iterable[tuple[str, Any]]) -> Json:
    return {name: value for name, value in form if value not in EMPTY}


def _values(template: Meta) -> Iterator[tuple[Field, Any]]:
    """The fields of a task with their values, as e.json has them."""
    config = template.cfg.model_dump(exclude={"timerCfg"})
    config["timerCfg"] = template.timer.cfg.dump()
    own = _own_values(template)
    hidden = OF_OFFSET if template.timer.cfg.levels else set()
    for field in TASK_FIELDS:
        if field.rows in (None, template.rows) and field.name not in hidden:
            value = own.get(field.name, _get(config, field.key))
            if value is None and field.parent in ("", *own):
                value = field.usual
            yield field, value


def _own_values(template: Meta) -> Json:
    """The values of the fields that no single key of e.json holds."""
    cfg, timer = template.cfg, template.timer.cfg
    found: Json = {"func": cfg.func if cfg.funcType == "Global" else words.INNER}
    if isinstance(template, DateFieldType):
        model = template.model_name.partition(".")[2]
        found["startField"] = f"{model}.{timer.start_field}"
        if timer.end_field is not None:
            found["endField"] = f"{model}.{timer.end_field}"
    elif cfg.argDict:
        found["argDict"] = json.dumps(cfg.argDict, ensure_ascii=False)
    for name, moment in (("start", timer.start_time), ("end", timer.end_time)):
        if moment is not None:
            day, _, clock = _moment(moment).partition(" ")
            found |= {f"{name}Date": day, f"{name}Time": clock.removesuffix(":00")}
    if timer.levels:
        found["levels"] = levels_text(timer.dump()["startOffset"])
    if cfg.digest is not None and cfg.digest.by is None:
        found["digest"] = ALL_ROWS
    if timer.window:
        found["window"] = hours_text(timer.dump()["window"])
    if timer.repeat.dates:
        found["dates"] = "\n".join(map(_moment, timer.repeat.dates))
    return found


def _moment(moment: date) -> str:
    """A date, or a time with seconds, as e.json has it."""
    return moment.isoformat().replace("T", " ")


def _get(config: Form, key: str) -> Any:
    value: Any = config if key else None
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
