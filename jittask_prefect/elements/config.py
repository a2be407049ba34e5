"""`e.json` and `app.json` as frozen, validated shapes; the one place where these files are read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.errors.printable import has_controls
from jittask_prefect.schedule.calendar import CalendarCfg
from jittask_prefect.schedule.spec import TimerCfg, read_timer
from jittask_prefect.validation import StrictModel, sanitized, shown

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
NAME_TEXT = "a letter or _, then up to 63 letters, digits or _"
_HOSTILE = ("{{", "}}", "__prefect_kind")
MAX_SECONDS = 36525 * 86400
"""A hundred years: no time that is counted from today leaves what clocks, threads and databases know."""
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
    """Refuse control characters, and what Prefect would resolve or hydrate: placeholders and `__prefect_kind`.

    Source: prefect `deployments/base.py` resolves `{{ … }}` in deployments, `_internal/schemas` hydrates parameters.
    """
    _clean(text)
    for mark in _HOSTILE:
        if mark in text:
            raise ValueError(f"a text without {mark}, which Prefect would resolve")
    return text


def _display(text: str) -> str:
    if (
        not text.strip()
        or len(text) > 200
        or any(ord(c) < 32 for c in text)
        or has_controls(text)
    ):
        raise ValueError("one line of 1 to 200 characters, without control characters")
    return safe_text(text)


def _tag(text: str) -> str:
    if text.startswith("app:"):
        raise ValueError(
            "a tag that does not begin with app:, which says whose a deployment is"
        )
    return _display(text)


def _flag(value: object) -> bool:
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise ValueError("1 or 0")


Flag = Annotated[bool, BeforeValidator(_flag)]
Display = Annotated[str, AfterValidator(_display)]
Tag = Annotated[str, AfterValidator(_tag)]
TypePath = Annotated[str, AfterValidator(lambda t: _path(t, 2, "tasks.NormalType"))]
ModelPath = Annotated[str, AfterValidator(lambda t: _path(t, 2, "models.Contract"))]
FuncPath = Annotated[
    str, AfterValidator(lambda t: _path(t, 3, "services.NoticeSvc.send"))
]
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
AtOnce = Annotated[int, Field(ge=1, le=MAX_AT_ONCE)]


class Missed(StrictModel):
    """What to do with occurrences that no worker ran in time; `grace` and `lookback` in seconds."""

    policy: Literal["latest", "all", "none"] = "latest"
    grace: Seconds = 60
    lookback: Seconds = 86400


class Concurrency(StrictModel):
    """How many executions of a template may run at one time."""

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
    timeout: Annotated[Seconds, Field(gt=0)] = 43200
    retries: Annotated[int, Field(ge=0, le=100)] = 0
    retryDelay: Seconds = 0
    missed: Missed = Missed()
    dispatch: Literal["auto", "row", "batch"] = "auto"
    rowRuns: Literal["failed", "all"] = "failed"
    concurrency: Concurrency | None = None
    tags: tuple[Tag, ...] = ()
    description: Annotated[str, AfterValidator(safe_text)] = ""
    argDict: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _older_names(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping):
            raw = dict(raw)
            if "taskFunc" in raw:
                old = raw.pop("taskFunc")
                raw.setdefault("func", old)
            if isinstance(raw.get("tags"), list):
                raw["tags"] = tuple(raw["tags"])
            if raw.get("filter") is None:
                raw.pop("filter", None)
        return raw


def _function_problems(raw: Mapping[str, Any]) -> list[Problem]:
    """What contradicts itself between `funcType`, `func` and its older spelling, `taskFunc`."""
    kind, new, old = raw.get("funcType", "Inner"), raw.get("func"), raw.get("taskFunc")
    if new is not None and old is not None and new != old:
        return [
            Problem(
                "",
                "taskFunc",
                shown(old),
                f"{shown(new)}, as in func, whose older spelling it is",
            )
        ]
    if kind == "Global" and new is None and old is None:
        return [
            Problem(
                "",
                "func",
                "nothing",
                "this key is required with funcType Global: services.X.method",
            )
        ]
    if kind == "Inner" and (new is not None or old is not None):
        key = "taskFunc" if new is None else "func"
        return [
            Problem(
                "",
                key,
                shown(raw[key]),
                "nothing with funcType Inner; Global calls a service function",
            )
        ]
    return []


_ROW_KEYS = ("modelPath", "filter", "dispatch", "rowRuns")


def read_task(raw: object, *, rows: bool) -> tuple[TaskCfg, TimerCfg]:
    """The e.json of a task, checked as a whole.

    Args:
        raw: The parsed JSON.
        rows: Whether the task's Type makes one task for each row.

    Raises:
        ConfigError: With every problem of the file, those of `timerCfg` among them.
    """
    raw, problems = sanitized(raw)
    told = {p.key for p in problems}
    cfg: TaskCfg | None = None
    timer: TimerCfg | None = None
    try:
        cfg = TaskCfg.read(raw)
    except ConfigError as error:
        problems.extend(p for p in error.problems if p.key not in told)
    if isinstance(raw, Mapping):
        problems.extend(_function_problems(raw))
        if rows and not raw.get("modelPath"):
            problems.append(
                Problem(
                    "",
                    "modelPath",
                    "nothing",
                    "this key is required: a name like models.Contract",
                )
            )
        if not rows:
            problems.extend(
                Problem(
                    "",
                    key,
                    shown(raw[key]),
                    "nothing: this key is for date-field tasks",
                )
                for key in _ROW_KEYS
                if raw.get(key) not in (None, "")
            )
        if (
            cfg
            and cfg.dispatch == "batch"
            and cfg.concurrency
            and cfg.concurrency.overlap != "queue"
        ):
            overlap = f"{cfg.concurrency.overlap} with dispatch batch"
            allowed = (
                "queue, or dispatch row: the rows of a batch run one after the other"
            )
            problems.append(Problem("", "concurrency.overlap", overlap, allowed))
        if isinstance(raw.get("timerCfg"), Mapping):
            try:
                timer = read_timer(raw["timerCfg"], rows=rows, key="timerCfg")
            except ConfigError as error:
                problems.extend(p for p in error.problems if p.key not in told)
    if problems or cfg is None or timer is None:
        raise ConfigError(problems)
    return cfg, timer


class ModelCfg(StrictModel):
    """The e.json of a model."""

    type: TypePath
    title: Display = "Model"
    database: str | None = None


class ServiceCfg(StrictModel):
    """The e.json of a service."""

    type: TypePath
    title: Display = "Service"
    functionList: Any = None


class TypeCfg(StrictModel):
    """The e.json of a Type of the app's own; the class in type.py decides what it extends."""

    type: TypePath
    title: Display = "Type"
    extends: TypePath | None = None


class AppCfg(StrictModel):
    """app.json; `horizon` in hours."""

    name: Annotated[str, AfterValidator(lambda t: _named(t))]
    title: Display | None = None
    timezone: Annotated[str, AfterValidator(lambda t: _zone(t))] | None = None
    database: str = "sqlite:///app.db"
    databases: dict[Display, str] = Field(default_factory=dict)
    horizon: Annotated[float, Field(gt=0, le=24 * 366)] = 24
    maxConcurrency: AtOnce = 8
    allowCodeFromForms: bool = False
    calendar: str | None = None
    calendars: dict[str, dict[str, Any]] = Field(default_factory=dict)


def _named(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}", text):
        raise ValueError("up to 64 letters, digits, - or _")
    return text


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        raise ValueError("an IANA zone like Europe/Berlin") from None
    return text


def read_app(raw: object) -> tuple[AppCfg, dict[str, CalendarCfg]]:
    """app.json and its named calendars, checked as a whole.

    Raises:
        ConfigError: With every problem of the file.
    """
    raw, problems = sanitized(raw)
    told = {p.key for p in problems}
    cfg: AppCfg | None = None
    calendars: dict[str, CalendarCfg] = {}
    try:
        cfg = AppCfg.read(raw)
    except ConfigError as error:
        problems.extend(p for p in error.problems if p.key not in told)
    named = raw.get("calendars") if isinstance(raw, Mapping) else None
    for name, value in (named or {}).items() if isinstance(named, Mapping) else ():
        try:
            _display(name)  # a task's description names its calendar
        except ValueError as error:
            problems.append(Problem("", "calendars", shown(name), str(error)))
            continue
        try:
            calendars[name] = CalendarCfg.read(value, f"calendars.{name}")
        except ConfigError as error:
            problems.extend(error.problems)
    if problems or cfg is None:
        raise ConfigError(problems)
    return cfg, calendars


def folders(path: Path, name: str) -> list[Path]:
    """The folders in a folder, sorted; none where there is none.

    Args:
        path: The folder.
        name: How messages call it, relative to the app folder.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
    except OSError as error:
        raise ConfigError(
            Problem(name, "", error.strerror or str(error), "a folder that can be read")
        ) from None


def is_file(path: Path) -> bool:
    """Whether there is a file; what may not be looked at counts as one, and reading it says why it cannot be."""
    try:
        return path.is_file()
    except OSError:
        return True


def read_json(path: Path, name: str) -> Any:
    """The JSON of one file.

    Args:
        path: The file.
        name: How messages call it, relative to the app folder.

    Raises:
        ConfigError: It is missing, is not UTF-8, is not JSON, or names a key twice.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(Problem(name, "", "no such file", "a JSON file")) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise ConfigError(Problem(name, "", where, "valid JSON")) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            Problem(name, "", f"byte {error.start} is not UTF-8", "UTF-8 text")
        ) from None
    except RecursionError:
        raise ConfigError(
            Problem(name, "", "JSON nested too deeply", "valid JSON")
        ) from None
    except _TwiceError as error:
        raise ConfigError(
            Problem(name, str(error), "the key twice", "each key once")
        ) from None
    except OSError as error:
        raise ConfigError(
            Problem(name, "", error.strerror or str(error), "a file that can be read")
        ) from None
    except ValueError as error:  # NaN, or a number of thousands of digits
        raise ConfigError(Problem(name, "", str(error), "valid JSON")) from None


def parse_json(text: str) -> Any:
    """JSON without what other readers refuse or read otherwise.

    Raises:
        ValueError: It is no JSON, has NaN or infinity in it, or names a key twice.
        RecursionError: It is nested too deeply.
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
    """The IANA name of the machine's zone, `UTC` where it has none."""
    from tzlocal import get_localzone_name

    return get_localzone_name() or "UTC"
