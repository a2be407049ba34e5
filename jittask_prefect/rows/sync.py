"""The sync: read rows and ledger → plan → apply → hand over to Prefect.

Rows are the truth; the ledger remembers what was handed over. Each step may stop anywhere and be done again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from ..elements.app import DEFAULT, App, check_rows
from ..elements.types import DateFieldType, Meta
from ..errors import ConfigError, JittaskError, LedgerError
from ..prefect_api import Api
from . import ledger, scan
from .handover import Keep, app_tag, hand_over, plain, reconcile, recover
from .ledger import Entry, entries
from .plan import Action, Report, look_back, plan_row, wanted

__all__ = ["Report", "app_tag", "apply", "fingerprint", "hand_over", "plain", "plan", "run"]

OVERLAP = timedelta(minutes=10)  # at least: a transaction that was open during the last sync commits an earlier date
LEASE_SECONDS = 25.0  # with a sync every minute, a dead one's work is taken up within 85 s
RENEW_SECONDS = 5.0
RETURN_AFTER = timedelta(minutes=1)
log = logging.getLogger("jittask")


class LeaseLostError(JittaskError):
    """Another sync has taken over."""


def plan(app: App, now: datetime, since: datetime | None = None) -> Report:
    """What a sync would do with the rows; reads only, and needs no server.

    Args:
        app: The app.
        now: The present instant.
        since: Start of the window, instead of the last sync.
    """
    report = Report()
    for database in app.databases():
        templates = _of_database(app, database, report)
        try:
            with Session(app.engine(database)) as session:
                _snapshot(session)
                fresh = ledger.version(session.connection()) is None
                for template in templates:
                    _plan_template(app, template, session, now, since, fresh, report)
                if not fresh:
                    report.actions += _orphans(app, session.connection(), templates)
        except (SQLAlchemyError, ImportError, JittaskError) as error:
            if database == DEFAULT:
                raise
            report.down.add(database)
            report.problems.append(f"database {database}: {type(error).__name__}: {error}")
    report.actions.sort(key=lambda a: (a.template, a.due, a.row))
    return report


def _snapshot(session: Session) -> None:
    """Let rows and ledger be read as of one moment: a row as it was before a save would undo what the save planned."""
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        session.rollback()
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    elif connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN")  # the driver itself begins with the first write only


def _of_database(app: App, database: str, report: Report) -> list[DateFieldType]:
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


def _plan_template(
    app: App,
    template: DateFieldType,
    session: Session,
    now: datetime,
    since: datetime | None,
    fresh: bool,
    report: Report,
) -> None:
    """Plan one template into the report; its trouble with the database must not keep the others from working."""
    try:
        with session.begin_nested():
            for actions in _planned(app, template, session, now, since, fresh, report):
                report.actions += actions
    except Exception as error:  # noqa: BLE001  whatever a driver or a model makes of a row
        report.failed.add(template.fullName)
        report.problems.append(f"{template.fullName}: {type(error).__name__}: {error}")


def _planned(
    app: App,
    template: DateFieldType,
    session: Session,
    now: datetime,
    since: datetime | None,
    fresh: bool,
    report: Report,
) -> Iterator[list[Action]]:
    name, missed = template.fullName, template.cfg.missed
    if not template.enable:
        open_ = {} if fresh else _open_rows(session.connection(), name)
        for key, found in open_.items():
            yield plan_row(app.name, name, key, None, (), found, now, missed, gone="disabled")
        return
    mark, floor, config = (None, None, None) if fresh else _remembered(session.connection(), name)
    changed = mark is not None and config != fingerprint(template)
    # As far back as a moved date counts, but neither before the template was enabled nor before it was edited.
    overlap = max(OVERLAP, timedelta(seconds=missed.lookback))
    after = since or (max(mark - overlap, mark if changed else floor or mark) if mark else now)
    window = (after, now + timedelta(hours=app.cfg.horizon))
    known = None if since else mark
    seen: set[str] = set()
    for part in scan.rows(session, template, *window, now):
        rows: dict[str, Any] = {}
        for row in part:
            try:
                rows[ledger.key_of(row)] = row
            except ValueError as error:
                report.problems.append(f"{name}: {error}")
        yield _plan_rows(app, template, session, rows, window, now, known, fresh, report, changed)
        if changed:
            seen |= set(rows)
    if changed:
        # The template is not what it was: look at every row that has an open task.
        left = [key for key in _open_rows(session.connection(), name) if key not in seen]
        for start in range(0, len(left), 500):
            rows = {key: scan.load(session, template, key) for key in left[start : start + 500]}
            rows = {
                k: r if r is not None and template.filter.matches(r, now, template.timer.zone) else None
                for k, r in rows.items()
            }
            yield _plan_rows(app, template, session, rows, window, now, known, fresh, report, changed)
            session.expunge_all()


def _remembered(connection: Connection, name: str) -> tuple[datetime | None, datetime | None, str | None]:
    """Of a template: the last sync, the instant before which no sync ever looks, and what it was then."""
    mark, floor = (ledger.get(connection, f"{what}:{name}") for what in ("watermark", "floor"))
    return (
        datetime.fromisoformat(mark) if mark else None,
        datetime.fromisoformat(floor) if floor else None,
        ledger.get(connection, f"config:{name}"),
    )


def _plan_rows(
    app: App,
    template: DateFieldType,
    session: Session,
    rows: Mapping[str, Any],
    window: tuple[datetime, datetime],
    now: datetime,
    known: datetime | None,
    fresh: bool,
    report: Report,
    changed: bool,
) -> list[Action]:
    entries_of = {} if fresh else ledger.of_rows(session.connection(), template.fullName, rows)
    name, missed = template.fullName, template.cfg.missed
    # A series that goes on is not made good for the past; a single date that an edit moved there is a moved date.
    changed = changed and template.timer.cfg.repeat.repeat_type == "normal"
    actions: list[Action] = []
    for key, row in rows.items():
        try:
            series = template.series(row)
            found = entries_of.get(key, [])
            moved = changed and any(e.status == "pending" for e in found)
            after = look_back(series, False, now, missed) if series and moved else window[0]
            due = wanted(series, after, window[1]) if series else []
            for item in series.dropped(known, now) if series and known else ():
                log.warning("%s, row %s: %s %s", name, key, f"{item.nominal:%Y-%m-%d %H:%M}", item.note)
            if due or found:
                actions += plan_row(app.name, name, key, series, due, found, now, missed, known=now if moved else known)
        except (ValueError, OverflowError, TypeError) as error:
            report.problems.append(f"{name}, row {key}: {error}")
    return actions


def _open_rows(connection: Connection, template: str) -> dict[str, list[Entry]]:
    query = select(entries).where(
        entries.c.template == template, entries.c.status == "pending", entries.c.row_key != ""
    )
    found: dict[str, list[Entry]] = {}
    for record in connection.execute(query):
        found.setdefault(record.row_key, []).append(ledger.to_entry(record))
    return found


def _orphans(app: App, connection: Connection, here: list[DateFieldType]) -> list[Action]:
    """Open tasks of templates that are gone, or whose rows are in another database now."""
    elsewhere = {t.fullName for t in app.templates()} - {t.fullName for t in here}
    known = [name for name in app.names("tasks") if name not in elsewhere]
    query = select(entries).where(
        entries.c.status == "pending", entries.c.row_key != "", entries.c.template.not_in(known)
    )
    why = "the template was removed"
    return [
        Action("end", r.template, r.row_key, r.task_id, r.due, why, r.nominal, r.anchor, r.generation)
        for r in connection.execute(query)
    ]


def fingerprint(template: Meta) -> str:
    """What of a template decides when its tasks are due, as a short text that changes with it."""
    cfg, calendar = template.cfg, template.timer.calendar
    about = [
        cfg.timerCfg,
        cfg.filter,
        cfg.modelPath,
        str(template.timer.zone),
        calendar.cfg.model_dump(mode="json") if calendar else None,
    ]
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:16]


# Apply


def values_of(action: Action, model: str, now: datetime) -> dict[str, Any]:
    """The ledger entry that a `create` or `reschedule` inserts."""
    values: dict[str, Any] = {
        "task_id": action.task_id,
        "template": action.template,
        "model": model,
        "row_key": action.row,
        "nominal": action.nominal,
        "generation": action.generation,
        "anchor": action.anchor,
        "due": action.due,
        "created": now,
    }
    if action.missed:
        values |= {
            "status": "ended",
            "outcome": "missed",
            "message": action.reason,
            "finished": now,
            "dirty": False,
            "returned": True,
        }
    return Entry(**values).model_dump()


def apply(connection: Connection, action: Action, model: str, now: datetime) -> None:
    """Write one action into the ledger; a second time changes nothing."""
    if action.action == "end":
        ledger.close(connection, action.task_id, outcome="superseded", message=f"ended: {action.reason}", now=now)
    if action.action in ("create", "reschedule"):
        for old in action.closes:
            ledger.close(
                connection, old, outcome="superseded", message=f"superseded: now due {action.due.isoformat()}", now=now
            )
        ledger.insert_once(connection, entries, values_of(action, model, now))


def run(
    app: App,
    api: Api,
    now: datetime,
    owner: str,
    *,
    since: datetime | None = None,
    clock: Callable[[], datetime],
    after: Callable[[Report], None] | None = None,
) -> Report | None:
    """One whole sync.

    Args:
        app: The app.
        api: Prefect.
        now: The present instant.
        owner: Who holds the lease that lets one sync run at a time.
        since: Start of the window, instead of the last sync.
        clock: Gives the instant for renewing the lease while a long sync goes on.
        after: What is to be done as well while the lease is held; it gets the report.

    Returns:
        What was done; None where another sync holds the lease.

    Raises:
        LedgerError: The ledger's tables are missing.
        PrefectApiError: Prefect cannot be reached; what was planned is kept in the ledger.
    """
    with app.engine().connect() as connection:
        ledger.require(connection, "the app's database")
    with app.engine().begin() as connection:
        if not ledger.take_lease(connection, "sync", owner, now, LEASE_SECONDS):
            return None

    def keep() -> None:
        with app.engine().begin() as connection:
            if not ledger.take_lease(connection, "sync", owner, clock(), LEASE_SECONDS):
                raise LeaseLostError

    try:
        with _renewed(app, owner, clock):
            report = _run(app, api, now, since, keep)
            if after is not None:
                after(report)
            return report
    finally:
        with app.engine().begin() as connection:
            ledger.free_lease(connection, "sync", owner)


def _run(app: App, api: Api, now: datetime, since: datetime | None, keep: Keep) -> Report:
    report = plan(app, now, since)
    keep()
    for database in app.databases():
        if _ready(app, database, report):
            _apply(app, database, report, now, since, keep)
            with app.engine(database).connect() as connection:
                left = ledger.unreturned(connection, now - RETURN_AFTER)
            report.died += [(database, entry) for entry in [*left, *recover(app, database, now)]]
    for database in app.databases():
        if database not in report.down:
            keep()
            report.died += [(database, entry) for entry in reconcile(app, database, api, now, keep)]
            hand_over(app, database, api, now, report, keep)
    return report


@contextmanager
def _renewed(app: App, owner: str, clock: Callable[[], datetime]) -> Iterator[None]:
    """Renew the lease from a thread, so that it holds while one step takes long and ends with the process."""
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(RENEW_SECONDS):
            try:
                with app.engine().begin() as connection:
                    if not ledger.take_lease(connection, "sync", owner, clock(), LEASE_SECONDS):
                        return
            except SQLAlchemyError as error:
                log.debug("the sync's lease was not renewed: %s", error)

    thread = threading.Thread(target=renew, name="jittask-sync-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _ready(app: App, database: str, report: Report) -> bool:
    """Whether a database answers and has the ledger; else it is reported, and the others go on."""
    if database not in report.down:
        try:
            with app.engine(database).connect() as connection:
                ledger.require(connection, f"database {database}" if database else "the app's database")
        except (SQLAlchemyError, LedgerError) as error:
            report.down.add(database)
            report.problems.append(str(error))
    return database not in report.down


def _apply(app: App, database: str, report: Report, now: datetime, since: datetime | None, keep: Keep) -> None:
    templates = [t for t in _of_database(app, database, Report()) if t.fullName not in report.failed]
    names = {t.fullName: t.model_name for t in templates}
    others = {t.fullName for t in app.templates()} - set(names)
    # What belongs to no template at all is closed wherever it is; `apply` changes nothing where it is not.
    mine = [a for a in report.actions if a.template not in others or a.action == "end"]
    mine = [a for a in mine if a.template not in report.failed]
    for start in range(0, len(mine), 200):
        with app.engine(database).begin() as connection:
            for action in mine[start : start + 200]:
                apply(connection, action, names.get(action.template, ""), now)
        keep()
    with app.engine(database).begin() as connection:
        for template in templates:
            name, config = template.fullName, fingerprint(template)
            if not template.enable:
                for what in ("floor", "watermark", "config"):
                    ledger.put(connection, f"{what}:{name}", None)
                continue
            mark, _, before = _remembered(connection, name)
            if before != config:
                ledger.put(connection, f"floor:{name}", (mark or since or now).isoformat())
            ledger.put(connection, f"watermark:{name}", now.isoformat())
            ledger.put(connection, f"config:{name}", config)
