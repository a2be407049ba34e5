"""The decorators that make tasks of functions. They mark a function with its place, and return the same function.

Nothing is read or checked here: an argument's mistake is found when the app loads, so that no mistake in a rule stops a
web process. Only the standard library is imported.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Required,
    TypeAlias,
    TypedDict,
    TypeVar,
    overload,
)

from jittask_prefect.elements.decorated.offsets import DateField, Offset
from jittask_prefect.elements.decorated.repeats import Repeat, Rule
from jittask_prefect.elements.decorated.windows import Window

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.orm import InstrumentedAttribute
    from sqlalchemy.sql.expression import ColumnElement, SQLColumnExpression

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])
RowFunction = TypeVar("RowFunction", bound=Callable[[Any], Any])
Kind = Literal["rows", "scheduled", "code"]
Until: TypeAlias = "Offset | str | date | datetime | SQLColumnExpression[Any] | None"
Condition: TypeAlias = (
    "SQLColumnExpression[bool] | ColumnElement[bool] | bool | str | None"
)
Where: TypeAlias = "Condition | Callable[[], Condition]"
"""A condition of SQLAlchemy (SQLModel declares it as a bool), a function that gives one, or a Q expression as text."""
RowLabel: TypeAlias = "str | SQLColumnExpression[Any] | InstrumentedAttribute[Any] | Callable[[Any], Any] | int | float | date"
"""A mapped attribute (SQLModel declares it with its value's type), a method of the class, or the name of one."""
OpeningHours: TypeAlias = "Window | Sequence[Window] | None"
OwnColumn: TypeAlias = "str | SQLColumnExpression[str | None] | None"
"""A name, or the mapped attribute that holds each row's own name (SQLModel declares it as a text)."""
DigestBy: TypeAlias = "bool | str | Mapping[str, str] | SQLColumnExpression[Any] | InstrumentedAttribute[Any] | int | float | date | UUID | None"
"""True for all rows; a mapped attribute (SQLModel declares it with its value's type); or a path as text."""
HolidayPolicy = Literal["next", "previous", "nearest", "skip"]
Policy = Literal["latest", "all", "none"]
Dispatch = Literal["auto", "row", "batch"]
RowRuns = Literal["failed", "all"]


class Missed(TypedDict, total=False):
    """The occurrences that no worker ran in time; `grace` and `lookback` in seconds, 60 and 86400 where absent."""

    policy: Policy
    grace: float
    lookback: float


class Concurrency(TypedDict, total=False):
    """How many executions may run at a time, and what becomes of one more: `queue` where absent."""

    limit: Required[int]
    overlap: Literal["queue", "skip", "replace"]


@dataclass(frozen=True)
class Mark:
    """A function that a decorator has marked.

    Attributes:
        function: The function.
        kind: `rows` (`date_field_task`), `scheduled` or `code` (`task`).
        arguments: The arguments that differ from their defaults, as they were given.
        file: The path of the function's file.
        line: The line of its first decorator.
        module: The name of the function's module; of what is no function, the module that called the decorator.
    """

    function: Callable[..., Any]
    kind: Kind
    arguments: Mapping[str, Any]
    file: str
    line: int
    module: str


MARKS: list[Mark] = []
"""Every mark of this process, in the order of the imports."""


def date_field_task(
    field: DateField,
    offset: Offset | Sequence[Offset] | None = None,
    *,
    repeat: Repeat | None = None,
    until: Until = None,
    where: Where = None,
    skip_holiday: bool = False,
    holiday_policy: HolidayPolicy = "next",
    workdays_only: bool = False,
    window: OpeningHours = None,
    calendar: OwnColumn = None,
    timezone: OwnColumn = None,
    name: str | None = None,
    title: str | None = None,
    enable: bool = True,
    timeout: float = 43200,
    retries: int = 0,
    retry_delay: float = 0,
    missed: Policy | Missed = "latest",
    dispatch: Dispatch = "auto",
    row_runs: RowRuns = "failed",
    concurrency: int | Concurrency | None = None,
    parallel: int = 1,
    rate: str | None = None,
    digest: DigestBy = None,
    row_label: RowLabel | None = None,
    type: str = "tasks.DateFieldType",
    work_pool: str | None = None,
    tags: Sequence[str] = (),
    description: str = "",
) -> Callable[[RowFunction], RowFunction]:
    """A task for each row, due relative to a date of the row; the function gets the row.

    Example:
        @date_field_task(
            Appointment.starts_at,
            Before(days=2, at="09:00"),
            where=Appointment.status == "booked",
        )
        def remind_patient(appointment): ...

    Args:
        field: The mapped date or datetime attribute, `Appointment.starts_at`.
        offset: `Before(…)` or `After(…)`; absent: at the date itself. Several due times are a list of offsets with
            names: `[After(days=3, name="first"), After(days=14, name="second")]`; `app.task.level` is the name.
        repeat: `Weekly(…)`, `Yearly(…)`, …, counted from the row's first due time, of several from the last; absent: once.
        until: The end of the repeat, included: a day or time in the task's zone, an attribute, or
            `After(Invoice.due_on, months=3)`.
        where: Only rows that meet this condition have tasks: `Invoice.paid_on.is_(None)`; a lambda where a relationship
            or a subquery is used, `lambda: Appointment.patient.has(Patient.active)`; or a Q expression as text.
        skip_holiday: Whether a legal holiday of the calendar moves a due time. An ordinary weekend is no holiday.
        holiday_policy: Where to: the next, previous or nearest working day, or `"skip"`: away.
        workdays_only: Whether a weekend moves a due time; holidays stay the matter of `skip_holiday`.
        window: The opening hours: `Window("08:00", "18:00", workdays=True)`, or a list. An occurrence outside, a retry and
            a late occurrence wait for the next opening; times of `Minutely` and `Hourly` outside are left out.
        calendar: A country code or a calendar of the app; absent: the app's. Or the attribute that names each row's own,
            `Customer.region`.
        timezone: The IANA name of the task's zone; absent: the app's. Or the attribute that names each row's own,
            `Appointment.zone`.
        name: The element's name, `"RemindPatient"`; absent: the function's in CamelCase.
        title: The name for people; absent: the first line of the docstring.
        enable: False pauses the task and ends its pending executions.
        timeout: Seconds after which an execution is ended with status error.
        retries: How often a failed execution is tried again.
        retry_delay: Seconds before each retry.
        missed: The policy for occurrences that no worker ran in time: `"latest"`, `"all"`, `"none"`, or
            `{"policy": "all", "grace": 60, "lookback": 86400}` in seconds.
        dispatch: Whether rows have a flow run each (`"row"`) or share one (`"batch"`); `"auto"` decides by number.
        row_runs: Which rows of a batch have a run of their own afterwards: those that failed, or all.
        concurrency: How many executions may run at a time: a number, or `{"limit": 1, "overlap": "skip"}`.
        parallel: How many rows of a batch one process has at work at once: in threads, or in one event loop for an
            `async def`. Services and all else that the rows share must bear this.
        rate: How often the function begins at most, over all processes: `"100/minute"`; also per second, hour, day.
        digest: The function gets a list of the rows that are due together and have the same value:
            `Contract.owner_id`, `"customer__owner_id"`, or True for all rows.
        row_label: The name of a row for people: `Appointment.patient_name`, or a method of the class without arguments;
            absent: the model's `rowLabel`, else rows are named by their keys.
        type: The full name of a Type of the app's own.
        work_pool: The Prefect work pool of the deployment; absent: the app's at first, and a pool chosen in Prefect stays.
        tags: Tags of the deployment.
        description: Markdown for the deployment's page.
    """
    mark: Callable[[RowFunction], RowFunction]
    mark = _marking("rows", date_field_task, locals())
    return mark


def scheduled_task(
    rule: Rule,
    *,
    until: str | date | datetime | None = None,
    arguments: Mapping[str, Any] | None = None,
    skip_holiday: bool = False,
    holiday_policy: HolidayPolicy = "next",
    workdays_only: bool = False,
    window: OpeningHours = None,
    calendar: str | None = None,
    timezone: str | None = None,
    name: str | None = None,
    title: str | None = None,
    enable: bool = True,
    timeout: float = 43200,
    retries: int = 0,
    retry_delay: float = 0,
    missed: Policy | Missed = "latest",
    concurrency: int | Concurrency | None = None,
    rate: str | None = None,
    type: str = "tasks.NormalType",
    work_pool: str | None = None,
    tags: Sequence[str] = (),
    description: str = "",
) -> Callable[[AnyFunction], AnyFunction]:
    """A task that is due by the clock and the calendar.

    Example:
        @scheduled_task(Monthly(day=1, at="09:00"), skip_holiday=True)
        def send_bills(): ...

    Args:
        rule: `Daily(…)`, `Weekly(…)`, `Monthly(…)`, `Cron(…)`, `Once(…)`, …
        until: The end, included: a day or time in the task's zone.
        arguments: Keyword arguments of the function, JSON values.
        skip_holiday: Whether a legal holiday of the calendar moves a due time. An ordinary weekend is no holiday.
        holiday_policy: Where to: the next, previous or nearest working day, or `"skip"`: away.
        workdays_only: Whether a weekend moves a due time; holidays stay the matter of `skip_holiday`.
        window: The opening hours: `Window("08:00", "18:00", workdays=True)`, or a list. An occurrence outside, a retry and
            a late occurrence wait for the next opening; times of `Minutely` and `Hourly` outside are left out.
        calendar: A country code or a calendar of the app; absent: the app's.
        timezone: The IANA name of the task's zone; absent: the app's.
        name: The element's name, `"SendBills"`; absent: the function's in CamelCase.
        title: The name for people; absent: the first line of the docstring.
        enable: False pauses the task.
        timeout: Seconds after which an execution is ended with status error.
        retries: How often a failed execution is tried again.
        retry_delay: Seconds before each retry.
        missed: The policy for occurrences that no worker ran in time: `"latest"`, `"all"`, `"none"`, or
            `{"policy": "all", "grace": 60, "lookback": 86400}` in seconds.
        concurrency: How many executions may run at a time: a number, or `{"limit": 1, "overlap": "skip"}`.
        rate: How often the function begins at most, over all processes: `"100/minute"`; also per second, hour, day.
        type: The full name of a Type of the app's own.
        work_pool: The Prefect work pool of the deployment; absent: the app's at first, and a pool chosen in Prefect stays.
        tags: Tags of the deployment.
        description: Markdown for the deployment's page.
    """
    mark: Callable[[AnyFunction], AnyFunction]
    mark = _marking("scheduled", scheduled_task, locals())
    return mark


@overload
def task(function: AnyFunction, /) -> AnyFunction: ...
@overload
def task(
    *,
    window: OpeningHours = None,
    timezone: str | None = None,
    name: str | None = None,
    title: str | None = None,
    timeout: float = 43200,
    retries: int = 0,
    retry_delay: float = 0,
    concurrency: int | Concurrency | None = None,
    rate: str | None = None,
    type: str = "tasks.NormalType",
    work_pool: str | None = None,
    tags: Sequence[str] = (),
    description: str = "",
) -> Callable[[AnyFunction], AnyFunction]: ...
def task(
    function: AnyFunction | None = None,
    /,
    *,
    window: OpeningHours = None,
    timezone: str | None = None,
    name: str | None = None,
    title: str | None = None,
    timeout: float = 43200,
    retries: int = 0,
    retry_delay: float = 0,
    concurrency: int | Concurrency | None = None,
    rate: str | None = None,
    type: str = "tasks.NormalType",
    work_pool: str | None = None,
    tags: Sequence[str] = (),
    description: str = "",
) -> AnyFunction | Callable[[AnyFunction], AnyFunction]:
    """A task that runs by code only: `app.run_at(export, when, month=3)`.

    Example:
        @task
        def export(month): ...

    Args:
        function: The function, where the decorator has no arguments.
        window: The opening hours: `Window("08:00", "18:00", workdays=True)`, or a list. Retries wait for the next opening,
            and so does a run that asks for it: `app.run_at(export, when, window=True)`.
        timezone: The IANA name of the zone of a time without one; absent: the app's.
        name: The element's name, `"Export"`; absent: the function's in CamelCase.
        title: The name for people; absent: the first line of the docstring.
        timeout: Seconds after which an execution is ended with status error.
        retries: How often a failed execution is tried again.
        retry_delay: Seconds before each retry.
        concurrency: How many executions may run at a time: a number, or `{"limit": 1, "overlap": "skip"}`.
        rate: How often the function begins at most, over all processes: `"100/minute"`; also per second, hour, day.
        type: The full name of a Type of the app's own.
        work_pool: The Prefect work pool of the deployment; absent: the app's at first, and a pool chosen in Prefect stays.
        tags: Tags of the deployment.
        description: Markdown for the deployment's page.
    """
    given = {k: v for k, v in locals().items() if k != "function"}
    mark: Callable[[AnyFunction], AnyFunction] = _marking("code", task, given)
    return mark if function is None else mark(function)


def _marking(kind: Kind, decorator: Any, given: Mapping[str, Any]) -> Any:
    """A decorator that marks its function with the arguments that differ from their defaults."""
    defaults = inspect.signature(decorator).parameters
    arguments = {
        name: value
        for name, value in given.items()
        if not _same(value, defaults[name].default)
    }
    caller = sys._getframe(2)
    place = caller.f_code.co_filename, caller.f_lineno
    calling = str(caller.f_globals.get("__name__", ""))

    def mark(function: Any) -> Any:
        file, line = _place(function) or place
        # A partial object, or a builtin, names the module of its type.
        module = function.__module__ if inspect.isfunction(function) else calling
        given_here = MappingProxyType(arguments)
        made = Mark(function, kind, given_here, file, line, module or calling)
        MARKS.append(made)
        with suppress(AttributeError, TypeError):  # a builtin, a method
            function.__jittask__ = made
        return function

    # A decorator without parentheses: its field or rule is the function. `check` says so.
    first = given.get("field", given.get("rule"))
    if inspect.isfunction(first) and first.__name__ != "<lambda>":
        mark(first)
    return mark


def _same(value: object, default: object) -> bool:
    """Whether an argument is its default. A condition is never compared: its `==` would make another condition."""
    plain = isinstance(value, int | float | str)
    flag = isinstance(value, bool) is isinstance(default, bool)  # True == 1
    return value is default or (plain and flag and value == default)


def _place(function: Any) -> tuple[str, int] | None:
    """Where a function's code begins, beneath the wrappers of other decorators."""
    with suppress(ValueError):  # `__wrapped__` in a circle
        function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code is not None else None
