"""`jittask check`: every mistake of every file at once, and what works but should be known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect as sa_inspect
from sqlalchemy.engine import make_url

from jittask_prefect.elements.config import (
    NAME,
    NAME_TEXT,
    TaskCfg,
    folders,
    is_file,
    read_json,
)
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import ConfigError, JittaskError, Problem, UnknownElement
from jittask_prefect.filters.columns import ColumnKind, column, columns
from jittask_prefect.filters.expression import parse
from jittask_prefect.schedule import prefect_schedules
from jittask_prefect.schedule.instants import EARLIEST
from jittask_prefect.schedule.timer import Timer

if TYPE_CHECKING:
    from jittask_prefect.elements.app import App

FOLDERS = ("models", "services", "tasks")
_CODE = ("inner.py", "model.py", "service.py", "type.py")


def problems(app: App) -> list[Problem]:
    """Every mistake of every file, without touching a database or a server."""
    found: list[Problem] = []
    for database in app.databases():
        found += _caught("app.json", lambda d=database: app.database_url(d))
    for calendar in app.calendars():
        for p in _caught("app.json", lambda c=calendar: app.calendar(c)):
            key = "calendar" if p.key == "timerCfg.calendar" else p.key
            found.append(Problem("app.json", key, p.found, p.allowed))
    places: list[tuple[str, Path]] = []
    for folder in FOLDERS:
        found += _caught(
            "", lambda f=folder: places.extend((f, p) for p in folders(app.path / f, f))
        )
    for folder, place in places:
        where = f"{folder}/{place.name}/e.json"
        if is_file(place / "e.json") and NAME.fullmatch(place.name):
            found += _caught(where, lambda n=f"{folder}.{place.name}": _element(app, n))
        elif is_file(place / "e.json"):
            found.append(Problem(where, "folder name", place.name, NAME_TEXT))
        elif (place / "e.json").is_dir():
            found.append(
                Problem(where, "", "a folder", "a JSON file beside the element's code")
            )
        elif any(is_file(place / name) for name in _CODE):
            found.append(
                Problem(
                    where, "", "no such file", "a JSON file beside the element's code"
                )
            )
    return found


def warnings(app: App, now: datetime, templates: list[Meta] | None = None) -> list[str]:
    """What works but should be known: a zone that nobody named, holidays that are guessed, folders that nobody reads.

    Args:
        app: The app.
        now: The present instant.
        templates: Only what concerns these.
    """
    found = []
    if templates is None:
        if app.cfg.timezone is None:
            found.append(
                f"app.json: no timezone; the machine's is used: {app.timezone}"
            )
        others = (p for p in app.path.iterdir() if p.is_dir() and p.name not in FOLDERS)
        unread = sorted(p.name for p in others if any(p.glob("*/e.json")))
        found += [
            f"{name}/ is not read; elements are in {', '.join(FOLDERS)}"
            for name in unread
        ]
    for template in app.templates() if templates is None else templates:
        found += [f"{template.fullName}: {what}" for what in _of_timer(template, now)]
        calendar = template.timer.calendar
        if calendar is not None and template.timer.cfg.skip_holiday:
            found += [what for what in calendar.left_out(now.year) if what not in found]
        if isinstance(template, DateFieldType):
            found += [f"{template.fullName}: {what}" for what in _of_columns(template)]
    return found


def _of_timer(template: Meta, now: datetime) -> Iterator[str]:
    calendar, cfg = template.timer.calendar, template.timer.cfg
    until = calendar.reliable_until if calendar and cfg.skip_holiday else None
    if (
        until is not None
        and calendar is not None
        and until < (now + timedelta(days=400)).date()
    ):
        yield f"holidays of {calendar.label} are published until {until}; what lies beyond is a forecast"
    if cfg.workdays_only and not cfg.skip_holiday and calendar is not None:
        yield "workdaysOnly alone keeps off weekends only; legal holidays are kept off with skipHoliday"
    if cfg.holiday_policy != "next" and not template.timer.moves.active:
        yield f"holidayPolicy {cfg.holiday_policy} does nothing without skipHoliday or workdaysOnly"
    if (back := prefect_schedules.next_doubled_hour(template.timer, now)) is not None:
        clock = f"{back:%Y-%m-%d %H:%M}, when clocks go back to that time in {template.timer.zone.key}"
        yield (
            f"its times of the hour that comes twice run once, the first time: {clock}; "
            "repeatType minute or hour counts elapsed time"
        )
    if cfg.rows and _never(template.timer, now):
        yield "it is never due: holidays or weekends take away each occurrence of every row"
    series = template.timer.series() if cfg.start_time is not None else None
    if series is not None and cfg.start_time is not None and series.next(now) is None:
        ever = series.next(EARLIEST) is not None
        never = "it is never due: no occurrence lies between startTime and endTime, or holidays take away each"
        yield "it is over: its last occurrence lies in the past" if ever else never


def _never(timer: Timer, now: datetime) -> bool:
    """Whether rows of whatever date have no occurrence from now on, since each falls on a day that is left out."""
    cfg, moves = timer.cfg, timer.moves
    if (
        not moves.active
        or (cfg.holiday_policy != "skip" and not timer.sub_daily)
        or cfg.end_time is not None
    ):
        return False
    rows = (
        timer.series(datetime(now.year, 1, 1, 9) - timedelta(days=n)) for n in range(31)
    )
    return all(series is None or series.next(now) is None for series in rows)


def _of_columns(template: DateFieldType) -> Iterator[str]:
    """What the columns of a template that loads do of themselves, or cannot keep."""
    app, cfg, name = template.app, template.timer.cfg, template.model_name
    try:
        check_rows(template)
        kind = make_url(app.database_url(app.database_of(name))).get_backend_name()
    except ConfigError:
        return  # `problems` says so
    start = sa_inspect(template.model).column_attrs[str(cfg.start_field)].columns[0]
    of_database = str(getattr(start.server_default, "arg", "")).upper()
    if (
        start.onupdate is not None
        or start.server_onupdate is not None
        or "ON UPDATE" in of_database
    ):
        yield (
            f"each save of a row changes {name}.{cfg.start_field} (onupdate), so a task whose function changes its row "
            "is due again and again; take a date that nothing but your own code sets"
        )
    fields = [cfg.start_field, cfg.end_field if cfg.end_time_type == 2 else None]
    held = [
        *(template.field_column(field) for field in fields if field),
        *template.filter.columns(template.model),
    ]
    if kind == "postgresql":
        return
    for key in dict.fromkeys(each.key for each in held if each.aware and not each.utc):
        yield (
            f"{key} is DateTime(timezone=True), and {kind} keeps no zone: a time that was saved with one is read as a "
            f"time of {template.timer.zone.key}, hours early or late; take SQLModel's UTCDateTime, which keeps UTC, "
            "DateTime() with times of that zone, or PostgreSQL"
        )


def _caught(where: str, action: Any) -> list[Problem]:
    try:
        action()
    except ConfigError as error:
        return list(error.within(where).problems)
    return []


def _element(app: App, name: str) -> None:
    try:
        element = app.getElement(name)
    except ConfigError as error:
        told = {p.key for p in error.problems}
        raise ConfigError(
            [*error.problems, *(p for p in _beside(app, name) if p.key not in told)]
        ) from None
    if isinstance(element, Meta) and (found := template_problems(element)):
        raise ConfigError(found)


def _beside(app: App, name: str) -> list[Problem]:
    """What else is wrong with a task whose e.json is: its function, model and fields, as far as they can be told."""
    where = f"{name.replace('.', '/')}/e.json"
    try:
        raw = read_json(app.path / where, where)
        kind = app.getElement(raw["type"])
    except (JittaskError, TypeError, KeyError):
        return []
    if not (isinstance(kind, type) and issubclass(kind, Meta)) or kind is Meta:
        return []
    func, inner = (
        raw.get("func", raw.get("taskFunc")),
        raw.get("funcType", "Inner") == "Inner",
    )
    found: list[Problem] = []
    if inner or isinstance(func, str):
        stub = object.__new__(kind)
        stub.app, stub.fullName = app, name
        given = raw.get("argDict")
        about = {"funcType": "Inner" if inner else "Global", "func": func}
        stub.cfg = TaskCfg.model_construct(
            **about, argDict=given if isinstance(given, dict) else {}
        )
        found += _caught("", stub.check_function)
    timer = raw.get("timerCfg")
    if kind.rows and isinstance(raw.get("modelPath"), str):
        fields = (
            {k: timer.get(k) for k in ("startField", "endField")}
            if isinstance(timer, dict)
            else {}
        )
        named = {k: v for k, v in fields.items() if isinstance(v, str)}
        found += _caught(
            "", lambda: _check_fields(app, raw["modelPath"], named, raw.get("filter"))
        )
    return found


def template_problems(template: Meta) -> list[Problem]:
    """What is wrong with a template that loads: its function, its model, its fields, its filter."""
    found = _caught("", template.check_function)
    if isinstance(template, DateFieldType):
        found += _caught("", lambda: check_rows(template))
    else:
        found += _caught("", lambda: prefect_schedules.check_density(template.timer))
    return found


def check_rows(template: DateFieldType) -> None:
    """Whether a date-field template's model, fields and filter exist and fit.

    Raises:
        ConfigError: With every problem.
    """
    cfg = template.timer.cfg
    fields = {"startField": cfg.start_field, "endField": cfg.end_field}
    _check_fields(template.app, template.model_name, fields, template.cfg.filter)


def _check_fields(
    app: App, name: str, fields: Mapping[str, str | None], filter_: object
) -> None:
    try:
        model = app.getElement(name)
    except UnknownElement:
        known = ", ".join(app.names("models")) or "the app has no models"
        raise ConfigError(
            Problem("", "modelPath", name, f"a model of the app: {known}")
        ) from None
    except ConfigError as error:
        raise ConfigError(
            Problem(
                "",
                "modelPath",
                f"{name}, which is broken: {error}",
                "a model that loads",
            )
        ) from None
    if name not in app.names("models"):
        raise ConfigError(
            Problem(
                "",
                "modelPath",
                name,
                f"a model of the app: {', '.join(app.names('models'))}",
            )
        )
    found = []
    kinds = {name: column(model, name).kind for name in columns(sa_inspect(model))}
    dates = [
        name
        for name, kind in kinds.items()
        if kind in (ColumnKind.DATE, ColumnKind.DATETIME)
    ]
    for key, field in fields.items():
        if field is not None and field not in dates:
            named = f"{field}, which is no date" if field in kinds else str(field)
            allowed = ", ".join(dates) or "a model with a date or datetime column"
            found.append(
                Problem(
                    "",
                    f"timerCfg.{key}",
                    named,
                    f"a date or datetime column of {name}: {allowed}",
                )
            )
    if isinstance(filter_, str):
        found += _caught("", lambda: parse(filter_).check(model))
    if found:
        raise ConfigError(found)
