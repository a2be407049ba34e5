"""`jittask check`: every mistake of every file at once, and warnings about working parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect as sa_inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InvalidRequestError

from jittask_prefect.elements.built_in import NotMapped
from jittask_prefect.elements.config import TaskCfg
from jittask_prefect.elements.config_texts import NAME, NAME_TEXT
from jittask_prefect.elements.decorated.declared import in_arguments
from jittask_prefect.elements.decorated.module_elements import told_of_arguments
from jittask_prefect.elements.digest import digest_column
from jittask_prefect.elements.json_files import folders, is_file, read_json
from jittask_prefect.elements.models import tables_of
from jittask_prefect.elements.pools import parallel_notes
from jittask_prefect.elements.row_label import KEY, check_label
from jittask_prefect.elements.row_timers import own_column
from jittask_prefect.elements.timer_notes import check_schedule, timer_notes
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import (
    ConfigError,
    JittaskError,
    Problem,
    UnknownElement,
    invalid,
)
from jittask_prefect.filters.columns import ColumnKind, column, columns
from jittask_prefect.filters.expression import Filter, parse
from jittask_prefect.filters.where import Where
from jittask_prefect.schedule.checks import OF_EACH_ROW
from jittask_prefect.schedule.rrule_lines import check_density

if TYPE_CHECKING:
    from jittask_prefect.elements.app import App

FOLDERS = ("models", "services", "tasks")
_CODE = ("inner.py", "model.py", "service.py", "type.py")


def problems(app: App, now: datetime | None = None) -> list[Problem]:
    """Every mistake of every file, without touching a database or a server; `now` as of `App.check`."""
    app.modules.load()
    found: list[Problem] = []
    file = app.place.file
    for database in app.databases():
        found += _caught(file, lambda d=database: app.database_url(d))
    found += _caught(file, app.context_maker)

    for calendar in app.calendars():
        for p in _caught(file, lambda c=calendar: app.calendar_named(c)):
            own = p.key == "timerCfg.calendar"
            key = app.place.key("calendar") if own else p.key
            found.append(Problem(p.file or file, key, p.found, p.allowed))

    places: list[tuple[str, Path]] = []
    for folder in FOLDERS:
        found += _caught(
            "",
            lambda f=folder: places.extend((f, p) for p in folders(app.folder / f, f)),
        )

    for folder, place in places:
        where, config = f"{folder}/{place.name}/e.json", place / "e.json"
        if is_file(config) and NAME.fullmatch(place.name):
            found += _caught(
                where, lambda n=f"{folder}.{place.name}": _element(app, n, now)
            )
        elif is_file(config):
            allowed = f"{NAME_TEXT}; a title may be in any language"
            found.append(Problem(where, "folder name", place.name, allowed))
        elif config.is_dir() or any(is_file(place / name) for name in _CODE):
            what = "a folder" if config.is_dir() else "no such file"
            allowed = "a JSON file beside the element's code"
            found.append(Problem(where, "", what, allowed))

    single: list[str] = []
    # A folder that cannot be read is a problem already.
    _caught(
        "", lambda: single.extend(filter(app.is_single_file, app.names("services")))
    )
    for name in single:
        where = f"{name.replace('.', '/')}.py"
        found += _caught(where, lambda n=name: _element(app, n, now))

    return list(dict.fromkeys([*found, *_in_modules(app, now)]))


def _in_modules(app: App, now: datetime | None) -> Iterator[Problem]:
    """The mistakes of modules that do not import, and of the elements in the others."""
    for broken in app.modules.broken.values():
        yield from broken.error.problems

    found = app.of_modules.found()
    for error in found.nameless:
        yield from error.problems
    for name in sorted([*found.models, *found.tasks]):
        yield from _caught(app.place.file, lambda n=name: _element(app, n, now))


def warnings(app: App, now: datetime, templates: list[Meta] | None = None) -> list[str]:
    """Facts that a user should know of working parts: a zone nobody named, unpublished holidays, unread folders.

    Args:
        app: The app.
        now: The present instant.
        templates: Only the warnings of these.
    """
    found = []
    if templates is None:
        if app.cfg.timezone is None:
            found.append(
                f"{app.place.file}: no timezone; the machine's is used: {app.timezone}"
            )

        others = (
            p for p in folders(app.folder, app.folder.name) if p.name not in FOLDERS
        )
        unread = sorted(p.name for p in others if any(p.glob("*/e.json")))
        read = ", ".join(FOLDERS)
        found += [f"{name}/ is not read; elements are in {read}" for name in unread]
        found += app.of_modules.left_out()
        found += _closed_calendars(app, now)

    for template in app.templates() if templates is None else templates:
        own = [] if template.by_code else [*timer_notes(template, now)]
        if template.declared is not None:
            own = [in_arguments(text, template.declared.kind) for text in own]
        if isinstance(template, DateFieldType):
            own += _column_warnings(template)
            own += parallel_notes(template)

        found += [f"{template.fullName}: {text}" for text in own]
        calendar = template.timer.calendar
        cfg = template.timer.cfg
        workdays = cfg.counts_workdays or cfg.opens_on_workdays
        if calendar is not None and (cfg.skip_holiday or workdays):
            found += [text for text in calendar.left_out(now.year) if text not in found]

    return found


def _closed_calendars(app: App, now: datetime) -> Iterator[str]:
    """Calendars without a working day for more than a year."""
    today = now.date()
    for name in app.calendars():
        try:
            calendar = app.calendar_named(name)
        except ConfigError:
            calendar = None  # `problems` says so
        if calendar is None:
            continue

        opens = calendar.next_working_day(today)
        if opens is None or opens > today + timedelta(days=366):
            until = f"until {opens}" if opens else "for ever"
            yield (
                f"{app.place.file}: the calendar {name} has no working day {until}; "
                "a task that keeps off its holidays is not due before"
            )


def _column_warnings(template: DateFieldType) -> Iterator[str]:
    """Columns of a template that loads which change of themselves, or cannot keep a zone."""
    app, cfg, name = template.app, template.timer.cfg, template.model_name
    try:
        check_rows(template)
        kind = make_url(app.database_url(app.database_of(name))).get_backend_name()
    except ConfigError:
        return  # `problems` says so

    yield from template.filter.notes
    if not tables_of(template.model):
        yield (
            f"{name} is a class over a view or a subquery: no save of its rows is seen, and the sync finds them, "
            "once a minute"
        )

    start = sa_inspect(template.model).column_attrs[str(cfg.start_field)].columns[0]
    default = str(getattr(start.server_default, "arg", "")).upper()
    changes = start.onupdate is not None or start.server_onupdate is not None
    if changes or "ON UPDATE" in default:
        yield (
            f"each save of a row changes {name}.{cfg.start_field} (onupdate), so a task whose function changes its row "
            "is due again and again; take a date that nothing but your own code sets"
        )

    fields = [cfg.start_field, cfg.end_field if cfg.end_time_type == 2 else None]
    columns_used = [
        *(template.field_column(field) for field in fields if field),
        *template.filter.columns(template.model),
    ]
    if kind == "postgresql":
        return

    zoneless = (used.key for used in columns_used if used.aware and not used.utc)
    for key in dict.fromkeys(zoneless):
        yield (
            f"{key} is DateTime(timezone=True), and {kind} keeps no zone: a time that was saved with one is read as a "
            f"time of {template.timer.zone.key}, hours early or late; take SQLModel's UTCDateTime, which keeps UTC, "
            "DateTime() with times of that zone, or PostgreSQL"
        )


def _caught(where: str, action: Any) -> list[Problem]:
    try:
        action()
    except NotMapped:
        return []  # a note
    except ConfigError as error:
        return list(error.within(where).problems)

    return []


def _element(app: App, name: str, now: datetime | None) -> None:
    try:
        element = app.getElement(name)
    except NotMapped:
        raise
    except ConfigError as error:
        known = {problem.key for problem in error.problems}
        more = [p for p in _code_problems(app, name) if p.key not in known]
        raise ConfigError([*error.problems, *more]) from None

    found = []
    if isinstance(element, Meta):
        found = template_problems(element, now)
    if isinstance(element, Meta) and found:
        whole, of = ConfigError(found), element.declared
        raise whole if of is None else told_of_arguments(whole, of)

    # Not a problem of the tasks: without the label they go on, and rows are named by their keys.
    label = app.row_label_of(name) if name.startswith("models.") else None
    if label is not None:
        check_label(
            element, label, KEY if app.is_element(name) else app.place.key(name)
        )


def _code_problems(app: App, name: str) -> list[Problem]:
    """Further problems of a task with a wrong e.json: its function, model and fields, as far as they can be found."""
    where = f"{name.replace('.', '/')}/e.json"
    try:
        raw = read_json(app.folder / where, where)
        kind = app.getElement(raw["type"])
    except (JittaskError, TypeError, KeyError):
        return []

    if not (isinstance(kind, type) and issubclass(kind, Meta)) or kind is Meta:
        return []

    raw = app.with_function(name, raw)
    func = raw.get("func", raw.get("taskFunc"))
    inner = raw.get("funcType", "Inner") == "Inner"
    found: list[Problem] = []
    if inner or isinstance(func, str):
        template = object.__new__(kind)
        template.app, template.fullName = app, name
        arguments = raw.get("argDict")
        template.cfg = TaskCfg.model_construct(
            funcType="Inner" if inner else "Global",
            func=func,
            argDict=arguments if isinstance(arguments, dict) else {},
        )
        found += _caught("", template.check_function)

    timer, model = raw.get("timerCfg"), raw.get("modelPath")
    if kind.rows and isinstance(model, str):
        keys = ("startField", "endField", *OF_EACH_ROW)
        fields = {key: _text(timer, key) for key in keys}
        by = _text(raw.get("digest"), "by")
        found += _caught(
            "", lambda: _check_fields(app, model, fields, raw.get("filter"), by)
        )

    return found


def _text(written: object, key: str) -> str | None:
    """A text in an object that a user wrote; None for anything else."""
    found = written.get(key) if isinstance(written, dict) else None
    return found if isinstance(found, str) else None


def template_problems(template: Meta, now: datetime | None = None) -> list[Problem]:
    """The problems of a template that loads: its function, its model, its fields, its filter.

    As of an instant also a schedule that does not fit Prefect's.
    """
    found = _caught("", template.check_function)
    if isinstance(template, DateFieldType):
        found += _caught("", lambda: check_rows(template))
    else:
        found += _caught("", lambda: check_density(template.timer))

    if not found and now is not None:
        found = _caught("", lambda: check_schedule(template, now))
    return found


def check_rows(template: DateFieldType) -> None:
    """Whether a date-field template's model, fields and filter exist and fit.

    Raises:
        ConfigError: With every problem.
    """
    cfg = template.timer.cfg
    fields = {"startField": cfg.start_field, "endField": cfg.end_field}
    fields |= template.own_fields
    digest = template.cfg.digest
    by = digest.by if digest is not None else None
    _check_fields(template.app, template.model_name, fields, template.filter, by)


def _parsed(filter_: str | Filter | Where) -> Filter | Where:
    return parse(filter_) if isinstance(filter_, str) else filter_


def _check_fields(
    app: App,
    name: str,
    fields: Mapping[str, str | None],
    filter_: object,
    digest_by: str | None,
) -> None:
    model = _model(app, name)
    dates = list(
        _date_problems(model, name, fields)
    )  # its error says that a mapping fails
    found = [*_own_problems(model, fields), *dates]
    if isinstance(filter_, str | Filter | Where):
        found += _caught("", lambda: _parsed(filter_).check(model))
    if digest_by is not None:
        found += _caught("", lambda: digest_column(model, digest_by))
    if found:
        raise ConfigError(found)


def _model(app: App, name: str) -> type[Any]:
    """The class of a model."""
    models = app.names("models")
    known = ", ".join(models)
    allowed = f"a model of the app: {known or 'the app has no models'}"
    try:
        model: type[Any] = app.getElement(name)
    except UnknownElement:
        raise invalid("modelPath", name, allowed) from None
    except ConfigError as error:
        broken = f"{name}, which is broken: {error}"
        raise invalid("modelPath", broken, "a model that loads") from None

    if name not in models:
        raise invalid("modelPath", name, allowed)

    return model


def _own_problems(
    model: type[Any], fields: Mapping[str, str | None]
) -> Iterator[Problem]:
    """The problems of the columns of each row's own zone and calendar."""
    for key in OF_EACH_ROW:
        if (path := fields.get(key)) is not None:
            for problem in _caught("", lambda p=path: own_column(model, p)):
                yield replace(problem, key=f"timerCfg.{key}")


def _date_problems(
    model: type[Any], name: str, fields: Mapping[str, str | None]
) -> Iterator[Problem]:
    """The problems of the columns of dates."""
    try:
        kinds = {each: column(model, each).kind for each in columns(sa_inspect(model))}
    except InvalidRequestError as error:  # for ever, of the team's own class
        broken = f"{name}, whose mapping fails: {error}"
        allowed = "a model whose relationships lead to classes that are imported too"
        raise invalid("modelPath", broken, allowed) from None

    dates = [
        each
        for each, kind in kinds.items()
        if kind in (ColumnKind.DATE, ColumnKind.DATETIME)
    ]
    known = ", ".join(dates) or "a model with a date or datetime column"
    for key in ("startField", "endField"):
        field = fields.get(key)
        if field is not None and field not in dates:
            named = f"{field}, which is no date" if field in kinds else str(field)
            allowed = f"a date or datetime column of {name}: {known}"
            yield Problem("", f"timerCfg.{key}", named, allowed)
