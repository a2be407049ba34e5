"""A marked function → the configuration that an `e.json` would hold, checked by the same validator."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as a_field
from pathlib import Path
from typing import Any

from jittask_prefect.elements.config import read_task
from jittask_prefect.elements.decorated.condition_source import source_problems
from jittask_prefect.elements.decorated.decorators import Kind, Mark
from jittask_prefect.elements.decorated.digest_argument import digest_key
from jittask_prefect.elements.decorated.label_argument import ARGUMENT, label_name
from jittask_prefect.elements.decorated.mark_names import (
    full_name,
    short,
    source,
    title,
)
from jittask_prefect.elements.decorated.own_argument import (
    names_of_columns,
    own_keys,
    refuse_columns,
)
from jittask_prefect.elements.decorated.piece_keys import (
    COUNTED_FROM,
    row_keys,
    scheduled_keys,
)
from jittask_prefect.elements.decorated.window_keys import window_keys
from jittask_prefect.elements.models import INSTEAD_OF_CONCRETE, is_concrete
from jittask_prefect.errors import ConfigError, FilterError, Problem
from jittask_prefect.filters import where as conditions
from jittask_prefect.filters.expression import parse
from jittask_prefect.filters.where import Where
from jittask_prefect.validation import quoted

_TYPES: Mapping[Kind, str] = {
    "rows": "tasks.DateFieldType",
    "scheduled": "tasks.NormalType",
    "code": "tasks.NormalType",
}
# Arguments whose values an e.json takes as they are, by key.
_PLAIN = {
    "holidayPolicy": "holiday_policy",
    "calendar": "calendar",
    "timezone": "timezone",
    "timeout": "timeout",
    "retries": "retries",
    "retryDelay": "retry_delay",
    "dispatch": "dispatch",
    "rowRuns": "row_runs",
    "parallel": "parallel",
    "rate": "rate",
    "workPool": "work_pool",
    "description": "description",
}
_FLAGS = {"skipHoliday": "skip_holiday", "workdaysOnly": "workdays_only"}
_OF_TIMERS = (*_FLAGS, "holidayPolicy", "calendar", "timezone")
# Keys of an e.json by the argument that says the same; a dot leads into a piece.
_ARGUMENTS = {
    "modelPath": "field",
    "startField": "field",
    "startOffset.offset": "offset",
    "startOffset.offsetType": "offset",
    "startOffset.offsetUnit": "offset",
    "startOffset.time": "offset.at",
    "startOffset": "offset",
    "endTimeType": "until",
    "endTime": "until",
    "endField": "until",
    "endOffset": "until",
    "window.from": "window.opens",
    "window.to": "window.closes",
    "timezoneField": "timezone",
    "calendarField": "calendar",
    "filter": "where",
    "argDict": "arguments",
    "func": "function",
    "customFunc": "function",
}
# The arguments that a decorator without parentheses takes its function for.
_FIRST = {
    "field": "@date_field_task(Invoice.due_on)",
    "rule": '@scheduled_task(Daily(at="09:00"))',
}
# Values by argument, where an e.json would have an object or a list.
_SHAPES = {
    (
        "missed",
        "an object",
    ): '"latest", "all", "none", or {"policy": "all", "grace": 60}',
    ("concurrency", "an object"): 'a number, or {"limit": 1, "overlap": "skip"}',
    ("arguments", "an object"): 'JSON values by name: arguments={"month": 3}',
    ("tags", "a list"): 'a list of texts: tags=["billing"]',
    ("tags", "a text"): 'a list of texts: tags=["billing"]',
}
# Keys of a timerCfg that no other word looks like.
_KEYS_IN_TEXT = re.compile(
    r"\b(startTime|startField|startOffset|endTime|endField|endOffset|skipHoliday|holidayPolicy|workdaysOnly|monthEnd)\b"
)
_OF_RULES = {
    "period": "every",
    "weekday": "weekdays",
    "week": "day",
    "workday": "day",
    "subType": "day",
    "monthEnd": "month_end",
    "cron": "text",
    "rrule": "text",
}


@dataclass(frozen=True)
class Declared:
    """A task that a decorator declares.

    Attributes:
        full_name: The element's full name, `tasks.RemindPatient`.
        kind: `rows`, `scheduled` or `code`.
        config: What an e.json of the task would say, validated.
        where: The condition of a task of rows, in the place of a Q filter; None where `config["filter"]` is a Q
            expression, or absent.
        source: The place for people: `clinic/tasks.py, line 12`.
        function: The function.
        row_label: The field or method that names a row for people; None: the model's.
    """

    full_name: str
    kind: Kind
    config: dict[str, Any]
    where: Where | None
    source: str
    function: Callable[..., Any]
    row_label: str | None = None

    @property
    def function_name(self) -> str:
        """The function's name with its module: `clinic.tasks.remind_patient`."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    @property
    def file(self) -> str:
        """The file, without the line, which any edit of the file may change."""
        return self.source.rpartition(", line ")[0] or self.source


def declared(
    mark: Mark, model_names: Mapping[type, str], root: Path | None = None
) -> Declared:
    """The element that a mark declares. Called when all models are loaded: a lambda as `where` is evaluated here.

    Args:
        mark: The mark.
        model_names: By mapped class, the full name of its element.
        root: The folder that places are relative to.

    Raises:
        ConfigError: With every problem; each names file, line and argument.
    """
    reader = _Reader(mark, model_names, root)
    name = reader.name()
    config = reader.config()
    reader.validate(config)
    if reader.problems:
        raise ConfigError(dict.fromkeys(reader.problems))

    about = (name, mark.kind, config, reader.where, reader.place, mark.function)
    return Declared(*about, reader.row_label)


def argument_of(key: str, kind: Kind) -> str:
    """The argument that says what a key of an e.json says: `timerCfg.startOffset.time` → `offset.at`."""
    key = re.sub(r"\.\d+$", "", key.removeprefix("timerCfg."))
    key = re.sub(r"^window\.\d+", "window", key)
    head, _, rest = key.partition(".")
    if head in ("repeat", "startTime") and kind != "code":
        rule = "repeat" if kind == "rows" else "rule"
        inner = "start" if head == "startTime" else rest.partition(".")[0]
        known = _OF_RULES.get(inner, inner)
        return rule if inner in ("", "repeatType") else f"{rule}.{known}"

    for known, argument in _ARGUMENTS.items():
        if key == known or key.startswith(f"{known}."):
            return argument
    return re.sub(r"([a-z])([A-Z])", lambda m: f"{m[1]}_{m[2].lower()}", key)


def in_arguments(text: str, kind: Kind) -> str:
    """A text of `e.json`'s messages with the arguments that say what its keys say."""
    return _KEYS_IN_TEXT.sub(lambda found: argument_of(found[0], kind), text)


@dataclass
class _Reader:
    """Reads the arguments of a mark."""

    mark: Mark
    model_names: Mapping[type, str]
    root: Path | None
    problems: list[Problem] = a_field(default_factory=list)
    where: Where | None = None
    row_label: str | None = None

    @property
    def place(self) -> str:
        return source(self.mark, self.root)

    def refuse(self, argument: str, found: str, allowed: str) -> None:
        """Add a problem of an argument."""
        self.problems.append(Problem(self.place, argument, found, allowed))

    def name(self) -> str:
        try:
            return full_name(self.mark, self.root)
        except ConfigError as error:
            self.problems += error.problems
            return ""

    def config(self) -> dict[str, Any]:
        """The configuration, as far as the arguments can be read."""
        given, kind = self.mark.arguments, self.mark.kind
        self._function()
        config: dict[str, Any] = {"type": given.get("type", _TYPES[kind])}
        config["title"] = given["title"] if "title" in given else title(self.mark)
        if "enable" in given:
            config["enable"] = self._flag("enable")

        timer: dict[str, Any] = {}
        if self._is_bare():
            pass
        elif kind == "rows":
            timer = self._rows(config)
        elif kind == "scheduled":
            rule, until = given.get("rule"), given.get("until")
            timer = scheduled_keys(rule, until, self.refuse)
        else:
            # A single time, long ago: never due of itself.
            timer = {"startTime": f"{COUNTED_FROM} 00:00:00"}
            timer["repeat"] = {"repeatType": "normal"}

        if "window" in given:
            timer["window"] = window_keys(given["window"], self.refuse)

        config["timerCfg"] = timer
        columns = names_of_columns(given)
        if kind != "rows":
            refuse_columns(given, self.refuse)
        timer |= {k: self._flag(name) for k, name in _FLAGS.items() if name in given}
        for key, name in _PLAIN.items():
            if name in given and name not in columns:
                (timer if key in _OF_TIMERS else config)[key] = given[name]

        return config | self._groups()

    def _function(self) -> None:
        found = _unfit(self.mark.function)
        if found:
            allowed = (
                "a function at the top of a module, which other processes can import"
            )
            self.refuse("function", found, allowed)

    def _is_bare(self) -> bool:
        """Refuse a decorator without parentheses, whose first argument is the function."""
        given = self.mark.arguments
        bare = [name for name in _FIRST if given.get(name) is self.mark.function]
        for name in bare:
            allowed = f"a {name} in parentheses: {_FIRST[name]}"
            self.refuse(name, "the function itself", allowed)
        return bool(bare)

    def _flag(self, name: str) -> int:
        value = self.mark.arguments[name]
        if not (isinstance(value, int) and value in (0, 1)):
            self.refuse(name, quoted(value), "True or False")
            return 0
        return int(value)

    def _rows(self, config: dict[str, Any]) -> dict[str, Any]:
        given = self.mark.arguments
        field, offset = given.get("field"), given.get("offset")
        repeat, until = given.get("repeat"), given.get("until")
        model, timer = row_keys(field, offset, repeat, until, self.refuse)
        if model is not None:
            config["modelPath"] = self._model(model)

        where = given.get("where")
        hidden = source_problems(self.mark)
        for line, found, allowed in hidden:
            place = f"{short(self.mark.file, self.root)}, line {line}"
            self.problems.append(Problem(place, "where", found, allowed))

        if isinstance(where, str):
            config["filter"] = where
        if where is not None and model is not None and not hidden:
            self._condition(where, model)
        if self.where is not None:
            config["filter"] = self.where.text
        timer |= own_keys(given, model, self.refuse)
        if ARGUMENT in given and model is not None:
            self.row_label = label_name(given[ARGUMENT], model, self.refuse)
        if "digest" in given and model is not None:
            config |= digest_key(given["digest"], model, self.refuse)

        return timer

    def _model(self, model: type) -> str:
        name = self.model_names.get(model, "")
        if not name:
            known = ", ".join(each.__name__ for each in self.model_names) or "none"
            allowed = f"an attribute of a mapped class of the app's modules: {known}"
            reason = "which is no model of the app"
            if is_concrete(model):
                reason = "which is mapped with concrete inheritance: equal keys stand in several tables"
                allowed = INSTEAD_OF_CONCRETE

            found = f"an attribute of {model.__module__}.{model.__name__}, {reason}"
            self.refuse("field", found, allowed)
        return name

    def _condition(self, where: object, model: type) -> None:
        try:
            if isinstance(where, str):
                parse(where).check(model)
            else:
                self.where = conditions.read(where, model)
        except FilterError as error:
            for p in error.problems:
                self.refuse("where", p.found, p.allowed)

    def _groups(self) -> dict[str, Any]:
        """The keys that hold objects and lists."""
        given = self.mark.arguments
        found: dict[str, Any] = {}
        if "missed" in given:
            missed = given["missed"]
            found["missed"] = {"policy": missed} if isinstance(missed, str) else missed
        if "concurrency" in given:
            limit = given["concurrency"]
            found["concurrency"] = {"limit": limit} if type(limit) is int else limit
        if "tags" in given:
            tags = given["tags"]
            found["tags"] = list(tags) if isinstance(tags, tuple | set) else tags
        if "arguments" in given and not _is_empty(given["arguments"]):
            found["argDict"] = self._json(given["arguments"])

        return found

    def _json(self, arguments: Any) -> Any:
        try:
            return json.loads(json.dumps(arguments, allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            allowed = 'JSON values by name: arguments={"month": 3}'
            self.refuse("arguments", quoted(arguments), allowed)
            return {}

    def validate(self, config: dict[str, Any]) -> None:
        """Have the configuration checked as that of an e.json is."""
        rows = self.mark.kind == "rows"
        known = {problem.key.partition(".")[0] for problem in self.problems}
        try:
            read_task(config, rows=rows)
        except ConfigError as error:
            for problem in error.problems:
                argument = argument_of(problem.key, self.mark.kind)
                if argument.partition(".")[0] not in known:
                    allowed = _SHAPES.get((argument, problem.allowed), problem.allowed)
                    self.refuse(
                        argument,
                        in_arguments(problem.found, self.mark.kind),
                        in_arguments(allowed, self.mark.kind),
                    )


def _is_empty(value: object) -> bool:
    """Whether a value is an empty object; other values are not asked for their truth, which a condition refuses."""
    return isinstance(value, Mapping) and not value


def _unfit(function: object) -> str:
    """What is wrong with a function that other processes cannot import by name; empty for a good one."""
    if not inspect.isfunction(function):
        return f"{quoted(function)}, a {type(function).__name__}"

    outer, _, name = function.__qualname__.rpartition(".")
    if function.__name__ == "<lambda>":
        return "a lambda"
    if outer.endswith("<locals>"):
        return f"{name}, a function within {outer.removesuffix('.<locals>')} (a wrapper needs functools.wraps)"
    if outer:
        return f"{name}, a method of {outer}"
    return ""
