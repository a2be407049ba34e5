"""`e.json` and `app.json` as frozen, validated models; the only place where these files are read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from jittask_prefect.elements.app_name import app_name
from jittask_prefect.elements.config_texts import (
    ClassPath,
    ContextPath,
    Display,
    ElementName,
    EnginePath,
    FuncPath,
    ModelPath,
    Module,
    SafeText,
    Tag,
    Text,
    TypePath,
    WorkPool,
    Zone,
    display_text,
)
from jittask_prefect.elements.digest import Digest, digest_problems
from jittask_prefect.elements.original.original_keys import without
from jittask_prefect.elements.pace import parallel_problems, rate_text, rows_at_once
from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.schedule.calendar import CalendarCfg
from jittask_prefect.schedule.reading import read_timer
from jittask_prefect.schedule.spec import TimerCfg
from jittask_prefect.validation import Flag, StrictModel, sanitized, shown

T = TypeVar("T")

MAX_SECONDS = 36525 * 86400
"""A hundred years: counted from today, such a time lies within the range of clocks, threads and databases."""
MAX_AT_ONCE = 1_000_000
"""The largest number of executions that a limit may name."""


def _modules(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise ValueError('a list of names of modules, like ["clinic.tasks"]')
    return tuple(value)


def _model_at(value: object) -> object:
    return {"class": value} if isinstance(value, str) else value


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
    filter: Text = ""
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
    digest: Digest | None = None
    workPool: WorkPool | None = None
    tags: tuple[Tag, ...] = ()
    description: SafeText = ""
    argDict: dict[str, Any] = Field(default_factory=dict)

    @property
    def dispatched(self) -> Literal["auto", "row", "batch"]:
        """How rows that are due together get flow runs: those of a digest always share runs."""
        return self.dispatch if self.digest is None else "batch"

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

    for key in () if rows else ("modelPath", "filter", "dispatch", "rowRuns", "digest"):
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
    problems += digest_problems(cfg) if cfg and rows else ()
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

    at: ClassPath = Field(alias="class")
    database: str | None = None
    rowLabel: ElementName | None = None


class AppCfg(StrictModel):
    """app.json; `horizon` in hours, `retention` in days."""

    name: Annotated[str, AfterValidator(app_name)]
    title: Display | None = None
    timezone: Zone | None = None
    database: str = "sqlite:///app.db"
    databases: dict[Display, str] = Field(default_factory=dict)
    engine: EnginePath | None = None
    around: ContextPath | None = None
    horizon: Annotated[float, Field(gt=0, le=24 * 366)] = 24
    retention: Annotated[int, Field(ge=31, le=36525)] = 90
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


@lru_cache(maxsize=1)
def machine_zone() -> str:
    """The IANA name of the machine's zone; `UTC` for a machine without a zone."""
    from tzlocal import get_localzone_name

    return get_localzone_name() or "UTC"
