"""The plan of a sync: every template of a database, and the tasks whose template is gone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.elements.app import DEFAULT, App, check_rows
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.errors import ConfigError, JittaskError
from jittask_prefect.ledger import versions, watermarks
from jittask_prefect.ledger.entry import to_entries
from jittask_prefect.ledger.error_codes import error_line
from jittask_prefect.ledger.tables import entries
from jittask_prefect.ledger.watermarks import Memory
from jittask_prefect.rows.plan import Action, Report, ending
from jittask_prefect.rows.pruning import require_records
from jittask_prefect.rows.scan import PIECE
from jittask_prefect.rows.template_planner import TemplatePlanner

Memories = dict[str, Memory | None]
"""By template, the memory that a sync leaves, once the plan is whole."""


def plan(app: App, now: datetime, since: datetime | None = None) -> Report:
    """The actions of a sync at an instant, `skip` (nothing) included; reads only, and needs no server.

    Args:
        app: The app.
        now: The present instant.
        since: Start of the window, instead of the last sync.
    """
    if since is not None:
        require_records(app, since)
    report = Report()
    for database in app.databases():
        about = (app, database, now, since, report, Memories())
        for _, actions in pieces(*about, everything=True):
            report.actions += actions
    report.actions.sort(key=lambda a: (a.template, a.due, a.row))
    report.changes = sum(a.action != "skip" for a in report.actions)
    return report


def pieces(
    app: App,
    database: str,
    now: datetime,
    since: datetime | None,
    report: Report,
    memories: Memories,
    *,
    everything: bool = False,
) -> Iterator[tuple[str, list[Action]]]:
    """The plan of one database, piece by piece, each with its model; no transaction is open in between.

    Args:
        app: The app.
        database: Its name in app.json.
        now: The present instant.
        since: Start of the window, instead of the last sync.
        report: Takes the rows and templates that cannot be read.
        memories: Takes the memories of templates whose plan is whole; None also for a template that is gone.
        everything: Read every row of the window.
    """
    templates = templates_of(app, database, report)
    try:
        with app.engine(database).connect() as connection:
            fresh = not versions.there(connection)
            known = {} if fresh else watermarks.memories(connection, app.name)
            orphans = (
                [] if fresh else _orphans(app, database, connection, templates, report)
            )
    except (SQLAlchemyError, ImportError, JittaskError) as error:
        if database == DEFAULT:
            raise
        report.down.add(database)
        report.problems.append(f"database {database}: {type(error).__name__}: {error}")
        return
    memories |= {name: None for name in known if app.gone(name)}
    for template in templates:
        memory = known.get(template.fullName)
        try:
            engine = app.engine(database)
            planner = TemplatePlanner(template, engine, now, since, memory, report)
            moved: set[str] = set()
            for actions in planner.pieces(fresh, everything):
                changes = ("reschedule", "end")
                moved.update(a.row for a in actions if a.action in changes)
                yield template.model_name, actions
            if planner.other_days:
                report.calendars.append(_other_days(template, len(moved)))
            if (present := planner.next_memory()) != memory:
                memories[template.fullName] = present
        except Exception as error:  # noqa: BLE001  whatever a driver or a model makes of a row
            problem = f"{template.fullName}: {error_line(error)}"
            report.problems.append(problem)
    if orphans:
        yield "", orphans


def _other_days(template: DateFieldType, rows: int) -> str:
    calendar = template.timer.moves.calendar.label
    effect = f"the tasks of {rows} rows are planned anew"
    if not rows:
        effect = "no task is due otherwise by that"
    of = (
        "calendars that rows name"
        if template.heeds_calendars
        else f"calendar {calendar}"
    )
    changed = f"the days of the {of} have changed"
    return f"{template.fullName}: {changed}; {effect}"


def templates_of(app: App, database: str, report: Report) -> list[DateFieldType]:
    """The date-field templates whose rows are in a database; wrong templates are reported."""
    found = []
    for template in app.templates():
        if not isinstance(template, DateFieldType):
            continue
        try:
            check_rows(template)
            if app.database_of(template.model_name) == database:
                found.append(template)
        except ConfigError as error:
            if database == DEFAULT:
                report.problems.append(f"{template.fullName}: {error}")
    return found


def _orphans(
    app: App,
    database: str,
    connection: Connection,
    here: list[DateFieldType],
    report: Report,
) -> list[Action]:
    """The ends of open tasks whose template is known to be gone, or to have its rows elsewhere.

    Tasks of a template that cannot be read wait; the report says so.
    """
    mine = {template.fullName for template in here}
    others = [name for name in _names(connection, app) if name not in mine]
    reasons = {name: _end_of_template(app, database, name) for name in others}
    ended = [name for name, reason in reasons.items() if reason]
    waits = (
        entries.c.app == app.name,
        entries.c.status == "pending",
        entries.c.row_key != "",
    )
    broken = [name for name, reason in reasons.items() if not reason]
    count = select(entries.c.template, func.count()).group_by(entries.c.template)
    count = count.where(*waits, entries.c.template.in_(broken))
    for name, number in connection.execute(count) if broken else ():
        if (fault := app.fault(name)) is not None:
            report.problems.append(
                f"{name} is broken, and {number} open tasks wait until it is mended: {fault.reason}"
            )
    query = select(entries).where(*waits, entries.c.template.in_(ended)).limit(PIECE)
    found = to_entries(connection.execute(query)) if ended else []
    return [ending(entry, reasons[entry.template] or "") for entry in found]


def _end_of_template(app: App, database: str, name: str) -> str | None:
    """Why the open tasks of a template, whose rows are not planned here, end; None where nobody knows."""
    try:
        template = app.template(name)
        if not isinstance(template, DateFieldType):
            return "the template is of no rows any more"
        if app.database_of(template.model_name) == database:
            return None  # its model or its filter is broken
    except JittaskError:
        return "the template was removed" if app.gone(name) else None
    return "the template's rows are in another database now"


def _names(connection: Connection, app: App) -> Iterator[str]:
    """The templates that the ledger names, each by a step into an index, however many entries it has."""
    first = select(func.min(entries.c.template)).where(entries.c.app == app.name)
    last: str | None = ""
    while last is not None:
        last = connection.execute(first.where(entries.c.template > last)).scalar_one()
        if last is not None:
            yield last
