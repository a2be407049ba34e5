"""`e.json` and `app.json` as frozen, validated models; the only place where these files are read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from jittask_prefect.elements.app_name import app_name
from jittask_prefect.elements.original.original_keys import without
from jittask_prefect.elements.pace import parallel_problems, rate_text, rows_at_once
from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.errors.printable import has_controls
from jittask_prefect.schedule.calendar import CalendarCfg
from jittask_prefect.schedule.reading import read_timer
from jittask_prefect.schedule.spec import TimerCfg
from jittask_prefect.validation import Flag, StrictModel, sanitized, shown

T = TypeVar("T")

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
NAME_TEXT = "a letter or _, then up to 63 letters, digits or _"
_HOSTILE = ("{{", "}}", "__prefect_kind")
MAX_SECONDS = 36525 * 86400
"""A hundred years: counted from today, such a time lies within the range of clocks, threads and databases."""
MAX_AT_ONCE = 1_000_000
"""The largest number of executions that a limit may name."""


def _path(text: str, parts: int, example: str) -> str:
    pieces = text.split(".")
    if len(pieces) != parts or not all(NAME.fullmatch(piece) for piece in pieces):
        raise ValueError(f"a name like {example}")
    return text


def _clean(text: str) -> str:
    if has_controls(text):
        raise ValueError("a text without control characters")
    return text


def safe_text(text: str) -> str:
    """Refuse control characters, and texts that Prefect would resolve or hydrate: placeholders and `__prefect_kind`.

    Source: prefect `deployments/base.py` resolves `{{ … }}` in deployments, `_internal/schemas` hydrates parameters.
    """
    _clean(text)
    for mark in _HOSTILE:
        if mark in text:
            raise ValueError(f"a text without {mark}, which Prefect would resolve")

    return text


def display_text(text: str) -> str:
    """Refuse a text that is not a line of 1 to 200 characters, without the texts that `safe_text` refuses."""
    one_line = text.strip() and all(ord(c) >= 32 for c in text)
    if not one_line or len(text) > 200 or has_controls(text):
        raise ValueError("one line of 1 to 200 characters, without control characters")
    return safe_text(text)


def _tag(text: str) -> str:
    if text.startswith("app:"):
        raise ValueError(
            "a tag that does not begin with app:, which says whose a deployment is"
        )
    return display_text(text)


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        raise ValueError("an IANA zone like Europe/Berlin") from None

    return text


def _work_pool(text: str) -> str:
    if any(c in text for c in "/%&<>"):
        raise ValueError("a work pool's name, which has none of / % & < >")
    return display_text(text)


def _module(text: str) -> str:
    if not all(part.isidentifier() for part in text.split(".")):
        raise ValueError("the name of a module, like clinic.tasks")
    return text


def _object_path(text: str, allowed: str) -> str:
    module, _, name = text.partition(":")
    parts = [*module.split("."), *name.split(".")]
    if not all(part.isidentifier() for part in parts):
        raise ValueError(allowed)
    return text


def _class_path(text: str) -> str:
    return _object_path(text, "a module and a class, like clinic.models:Appointment")


def _engine_path(text: str) -> str:
    return _object_path(text, "a module and an engine, like shop.database:engine")


def _context_path(text: str) -> str:
    return _object_path(text, "a module and a context manager, like shop.web:context")


def _modules(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise ValueError('a list of names of modules, like ["clinic.tasks"]')
    return tuple(value)


def _model_at(value: object) -> object:
    return {"class": value} if isinstance(value, str) else value


def _element_name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError(f"a name of {NAME_TEXT}")
    return text


Module = Annotated[str, AfterValidator(_module)]
ElementName = Annotated[str, AfterValidator(_element_name)]
Display = Annotated[str, AfterValidator(display_text)]
WorkPool = Annotated[str, AfterValidator(_work_pool)]
Tag = Annotated[str, AfterValidator(_tag)]
TypePath = Annotated[str, AfterValidator(lambda t: _path(t, 2, "tasks.NormalType"))]
ModelPath = Annotated[str, AfterValidator(lambda t: _path(t, 2, "models.Contract"))]
FuncPath = Annotated[
    str, AfterValidator(lambda t: _path(t, 3, "services.NoticeSvc.send"))
]
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
AtOnce = Annotated[int, Field(ge=1, le=MAX_AT_ONCE)]


class Missed(StrictModel):
    """The policy for occurrences that no worker ran in time; `grace` and `lookback` in seconds."""

    policy: Literal["latest", "all", "none"] = "latest"
    grace: Seconds = 60
    lookback: Seconds = 86400


class Concurrency(StrictModel):
    """How many executions of a template may run at a time."""

    limit: AtOnce
    overlap: Literal["queue", "skip", "replace"] = "queue"


class TaskCfg(StrictModel):
    """The e.json of a task template; `timeout` and `retryDelay` in seconds."""

    type: TypePath
    title: Display
    enable: Flag = True
    funcType: Literal["Inner", "Global"] = "Inner"
    func: FuncPath | None = None
    modelPath: ModelPath | None = None
    filter: Annotated[str, AfterValidator(_clean)] = ""
    timerCfg: dict[str, Any]
    timeout: Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)] = 43200
    retries: Annotated[int, Field(ge=0, le=100)] = 0
    retryDelay: Seconds = 0
    missed: Missed = Missed()
    dispatch: Literal["auto", "row", "batch"] = "auto"
    rowRuns: Literal["failed", "all"] = "failed"
    concurrency: Concurrency | None = None
    parallel: Annotated[int, BeforeValidator(rows_at_once)] = 1
    rate: Annotated[str, BeforeValidator(rate_text)] | None = None
    workPool: WorkPool | None = None
    tags: tuple[Tag, ...] = ()
    description: Annotated[str, AfterValidator(safe_text)] = ""
    argDict: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _older_names(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping):
            raw = dict(without(raw, "tasks"))
            if "taskFunc" in raw:
                old = raw.pop("taskFunc")
                if raw.get("funcType") == "Global":
                    raw.setdefault("func", old)

            if raw.get("func") == "":
                raw.pop("func")

            if isinstance(raw.get("tags"), list):
                raw["tags"] = tuple(raw["tags"])
            if raw.get("filter") is None:
                raw.pop("filter", None)

        return raw


def _function_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Contradictions between `funcType`, `func` and its older spelling, `taskFunc`."""
    kind, new = raw.get("funcType", "Inner"), raw.get("func") or None
    old = (raw.get("taskFunc") or None) if kind == "Global" else None
    if new is not None and old is not None and new != old:
        allowed = f"{shown(new)}, as in func, whose older spelling it is"
        yield Problem("", "taskFunc", shown(old), allowed)
    elif kind == "Global" and new is None and old is None:
        allowed = "this key is required with funcType Global: services.X.method"
        yield Problem("", "func", "nothing", allowed)
    elif kind == "Inner" and new is not None:
        allowed = "nothing with funcType Inner; Global calls a service function"
        yield Problem("", "func", shown(new), allowed)


def _row_problems(raw: Mapping[str, Any], rows: bool) -> Iterator[Problem]:
    """Keys of date-field tasks that are missing, or that a scheduled task has."""
    if rows and not raw.get("modelPath"):
        allowed = "this key is required: a name like models.Contract"
        yield Problem("", "modelPath", "nothing", allowed)

    for key in () if rows else ("modelPath", "filter", "dispatch", "rowRuns"):
        if raw.get(key) not in (None, ""):
            allowed = "nothing: this key is for date-field tasks"
            yield Problem("", key, shown(raw[key]), allowed)


def _read(problems: list[Problem], read: Callable[[], T]) -> T | None:
    """The result of a reader, or None: then its problems are added, but for keys with a problem already."""
    try:
        return read()
    except ConfigError as error:
        known = {problem.key for problem in problems}
        problems += [problem for problem in error.problems if problem.key not in known]
        return None


def read_task(raw: object, *, rows: bool) -> tuple[TaskCfg, TimerCfg]:
    """The e.json of a task, checked as a whole.

    Args:
        raw: The parsed JSON.
        rows: Whether the task's Type makes a task for each row.

    Raises:
        ConfigError: With every problem of the file, those of `timerCfg` among them.
    """
    raw, problems = sanitized(raw)
    cfg = _read(problems, lambda: TaskCfg.read(raw))
    timer: TimerCfg | None = None
    if isinstance(raw, Mapping):
        problems += [*_function_problems(raw), *_row_problems(raw, rows)]
        if isinstance(raw.get("timerCfg"), Mapping):
            timer = _read(problems, lambda: read_timer(raw["timerCfg"], rows=rows))

    limits = cfg.concurrency if cfg and cfg.dispatch == "batch" else None
    if limits is not None and limits.overlap != "queue":
        allowed = "queue, or dispatch row: the rows of a batch run one after the other"
        found = f"{limits.overlap} with dispatch batch"
        problems.append(Problem("", "concurrency.overlap", found, allowed))

    problems += parallel_problems(cfg, rows=rows) if cfg else ()
    if problems or cfg is None or timer is None:
        raise ConfigError(problems)

    return cfg, timer


class ModelCfg(StrictModel):
    """The e.json of a model; `db`, JitTask's `databases.<Name>`, counts where app.json knows the name."""

    type: TypePath
    title: Display = "Model"
    database: str | None = None
    db: str | None = None
    rowLabel: ElementName | None = None

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, raw: Any) -> Any:
        return without(raw, "models")

    def database_in(self, known: Collection[str]) -> str | None:
        """The name of the model's database in app.json; None for the app's own."""
        named = (self.db or "").removeprefix("databases.")
        return self.database or (named if named in known else None)


class ServiceCfg(StrictModel):
    """The e.json of a service."""

    type: TypePath
    title: Display = "Service"
    functionList: Any = None

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, raw: Any) -> Any:
        return without(raw, "services")


class TypeCfg(StrictModel):
    """The e.json of a Type of the app's own; the class in type.py decides which Type is extended."""

    type: TypePath
    title: Display = "Type"
    extends: TypePath | None = None

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, raw: Any) -> Any:
        return without(raw, "tasks")


class ModelAt(StrictModel):
    """Where a mapped class stands that is a model of the app."""

    at: Annotated[str, AfterValidator(_class_path)] = Field(alias="class")
    database: str | None = None
    rowLabel: ElementName | None = None


class AppCfg(StrictModel):
    """app.json; `horizon` in hours."""

    name: Annotated[str, AfterValidator(app_name)]
    title: Display | None = None
    timezone: Annotated[str, AfterValidator(_zone)] | None = None
    database: str = "sqlite:///app.db"
    databases: dict[Display, str] = Field(default_factory=dict)
    engine: Annotated[str, AfterValidator(_engine_path)] | None = None
    around: Annotated[str, AfterValidator(_context_path)] | None = None
    horizon: Annotated[float, Field(gt=0, le=24 * 366)] = 24
    maxConcurrency: AtOnce = 8
    allowCodeFromForms: bool = False
    rowStyle: Literal["plain", "jit"] = "plain"
    workPool: WorkPool | None = None
    calendar: str | None = None
    calendars: dict[str, dict[str, Any]] = Field(default_factory=dict)
    modules: Annotated[tuple[Module, ...], BeforeValidator(_modules)] = ()
    models: dict[ElementName, Annotated[ModelAt, BeforeValidator(_model_at)]] = Field(
        default_factory=dict
    )


def read_app(raw: object) -> tuple[AppCfg, dict[str, CalendarCfg]]:
    """app.json and its named calendars, checked as a whole.

    Raises:
        ConfigError: With every problem of the file.
    """
    raw, problems = sanitized(raw)
    cfg = _read(problems, lambda: AppCfg.read(raw))
    if cfg is not None and cfg.engine and "database" in cfg.model_fields_set:
        allowed = "`engine` or `database`, not both"
        problems.append(Problem("", "engine", "both", allowed))

    calendars: dict[str, CalendarCfg] = {}
    named = raw.get("calendars") if isinstance(raw, Mapping) else None
    for name, value in named.items() if isinstance(named, Mapping) else ():
        try:
            display_text(name)  # a task's description names its calendar
            calendars[name] = CalendarCfg.read(value, f"calendars.{name}")
        except ConfigError as error:
            problems.extend(error.problems)
        except ValueError as error:
            problems.append(Problem("", "calendars", shown(name), str(error)))

    if problems or cfg is None:
        raise ConfigError(problems)

    return cfg, calendars


def folders(path: Path, name: str) -> list[Path]:
    """The folders in a folder, sorted; none without the folder.

    Args:
        path: The folder.
        name: Its name in messages, relative to the app folder.

    Raises:
        ConfigError: The folder cannot be read.
    """
    try:
        return sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
    except OSError as error:
        raise ConfigError(
            Problem(name, "", error.strerror or str(error), "a folder that can be read")
        ) from None


def is_file(path: Path) -> bool:
    """Whether there is a file. A path that cannot be examined counts as a file: reading it tells why."""
    try:
        return path.is_file()
    except OSError:
        return True


def read_json(path: Path, name: str) -> Any:
    """The JSON of a file.

    Args:
        path: The file.
        name: Its name in messages, relative to the app folder.

    Raises:
        ConfigError: The file is missing, is not UTF-8, is not JSON, or names a key twice.
    """
    key, allowed = "", "valid JSON"
    try:
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        found, allowed = "no such file", "a JSON file"
    except json.JSONDecodeError as error:
        found = f"line {error.lineno}, column {error.colno}: {error.msg}"
    except UnicodeDecodeError as error:
        found, allowed = f"byte {error.start} is not UTF-8", "UTF-8 text"
    except RecursionError:
        found = "JSON nested too deeply"
    except _TwiceError as error:
        key, found, allowed = str(error), "the key twice", "each key once"
    except OSError as error:
        found, allowed = error.strerror or str(error), "a file that can be read"
    except ValueError as error:  # NaN, or a number of thousands of digits
        found = str(error)

    raise ConfigError(Problem(name, key, found, allowed))


def parse_json(text: str) -> Any:
    """JSON without values that other readers refuse or read differently.

    Raises:
        ValueError: The text is no JSON, has NaN or infinity in it, or names a key twice.
        RecursionError: The text is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_once, parse_constant=_no_such_number)


class _TwiceError(ValueError):
    pass


def _no_such_number(text: str) -> Any:
    raise ValueError(f"{text}, which is no JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise _TwiceError(key)
        result[key] = value

    return result


@lru_cache(maxsize=1)
def machine_zone() -> str:
    """The IANA name of the machine's zone; `UTC` for a machine without a zone."""
    from tzlocal import get_localzone_name

    return get_localzone_name() or "UTC"
