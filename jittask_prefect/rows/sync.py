"""The sync: read rows and ledger → plan → apply → hand over to Prefect.

Rows are the truth; the ledger remembers what was handed over. Each step may stop anywhere and be done again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, or_, select, update
from sqlmodel import Session

from ..elements.app import DEFAULT, App, check_rows
from ..elements.types import DateFieldType, Meta
from ..errors import ConfigError, JittaskError
from ..prefect_api import PAGE, TERMINAL, Api
from . import ledger, scan
from .ledger import Entry, entries
from .plan import Action, plan_row, wanted

OVERLAP = timedelta(minutes=10)
LEASE_SECONDS = 60
log = logging.getLogger("jittask")
Keep = Callable[[], None]


@dataclass
class Report:
    """What a sync planned and did.

    Attributes:
        actions: The plan, by template and due time.
        problems: What could not be looked at; everything else went on.
        created: Flow runs that exist now because of this sync.
        ended: Flow runs that were cancelled because their task is closed.
        died: Executions whose worker died, with their database; `afterReturn` is still to be called.
    """

    actions: list[Action] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    created: int = 0
    ended: int = 0
    died: list[tuple[str, Entry]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The report as `jittask sync --json` prints it."""
        return {
            "actions": [a.as_dict() for a in self.actions],
            "problems": self.problems,
            "created": self.created,
            "ended": self.ended,
        }


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
        if not templates and database != DEFAULT:
            continue
        with Session(app.engine(database)) as session:
            fresh = ledger.version(session.connection()) is None
            for template in templates:
                try:
                    for actions in _plan_template(app, template, session, now, since, fresh, report):
                        report.actions += actions
                except Exception as error:  # noqa: BLE001  one template's database trouble must not keep the others from working
                    session.rollback()
                    report.problems.append(f"{template.fullName}: {type(error).__name__}: {error}")
            if not fresh:
                report.actions += _orphans(app, session.connection(), database)
    report.actions.sort(key=lambda a: (a.template, a.due, a.row))
    return report


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
) -> Iterator[list[Action]]:
    name, missed = template.fullName, template.cfg.missed
    if not template.enable:
        if not fresh:
            open_ = _open_rows(session.connection(), name)
            yield [
                a
                for key, found in open_.items()
                for a in plan_row(app.name, name, key, None, (), found, now, missed, gone="disabled")
            ]
        return
    mark = None if fresh else ledger.get(session.connection(), f"watermark:{name}")
    after = since or (datetime.fromisoformat(mark) - OVERLAP if mark else now)
    before = now + timedelta(hours=app.cfg.horizon)
    seen: set[str] = set()
    changed = mark is not None and ledger.get(session.connection(), f"config:{name}") != fingerprint(template)
    for part in scan.rows(session, template, after, before, now):
        rows: dict[str, Any] = {}
        for row in part:
            try:
                rows[ledger.key_of(row)] = row
            except ValueError as error:
                report.problems.append(f"{name}: {error}")
        yield _plan_rows(app, template, session, rows, after, before, now, fresh, report)
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
            yield _plan_rows(app, template, session, rows, after, before, now, fresh, report)
            session.expunge_all()


def _plan_rows(
    app: App,
    template: DateFieldType,
    session: Session,
    rows: Mapping[str, Any],
    after: datetime,
    before: datetime,
    now: datetime,
    fresh: bool,
    report: Report,
) -> list[Action]:
    known = {} if fresh else ledger.of_rows(session.connection(), template.fullName, rows)
    actions: list[Action] = []
    for key, row in rows.items():
        try:
            series = template.series(row)
            due = wanted(series, after, before) if series else []
            found = known.get(key, [])
            if due or found:
                actions += plan_row(app.name, template.fullName, key, series, due, found, now, template.cfg.missed)
        except (ValueError, OverflowError, TypeError) as error:
            report.problems.append(f"{template.fullName}, row {key}: {error}")
    return actions


def _open_rows(connection: Connection, template: str) -> dict[str, list[Entry]]:
    query = select(entries).where(
        entries.c.template == template, entries.c.status == "pending", entries.c.row_key != ""
    )
    found: dict[str, list[Entry]] = {}
    for record in connection.execute(query):
        found.setdefault(record.row_key, []).append(ledger.to_entry(record))
    return found


def _orphans(app: App, connection: Connection, database: str) -> list[Action]:
    """Open tasks of templates whose folder is gone."""
    known = app.names("tasks")
    query = select(entries).where(
        entries.c.status == "pending", entries.c.row_key != "", entries.c.template.not_in(known)
    )
    return [
        Action(
            "end",
            r.template,
            r.row_key,
            r.task_id,
            r.due,
            "the template was removed",
            r.nominal,
            r.anchor,
            r.generation,
        )
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
    app: App, api: Api, now: datetime, owner: str, *, since: datetime | None = None, clock: Callable[[], datetime]
) -> Report | None:
    """One whole sync.

    Args:
        app: The app.
        api: Prefect.
        now: The present instant.
        owner: Who holds the lease that lets one sync run at a time.
        since: Start of the window, instead of the last sync.
        clock: Gives the instant for renewing the lease while a long sync goes on.

    Returns:
        What was done; None where another sync holds the lease.

    Raises:
        LedgerError: The ledger's tables are missing.
        PrefectApiError: Prefect cannot be reached; what was planned is kept in the ledger.
    """
    for database in app.databases():
        with app.engine(database).connect() as connection:
            ledger.require(connection, database or "the app's database")
    with app.engine().begin() as connection:
        if not ledger.take_lease(connection, "sync", owner, now, LEASE_SECONDS):
            return None

    def keep() -> None:
        with app.engine().begin() as connection:
            if not ledger.take_lease(connection, "sync", owner, clock(), LEASE_SECONDS):
                raise LeaseLostError

    try:
        report = plan(app, now, since)
        keep()
        _apply_all(app, report, now, keep)
        for database in app.databases():
            report.died += [(database, entry) for entry in recover(app, database, now)]
            keep()
            reconcile(app, database, api, now, keep)
            hand_over(app, database, api, now, report, keep)
        return report
    finally:
        with app.engine().begin() as connection:
            ledger.free_lease(connection, "sync", owner)


def _apply_all(app: App, report: Report, now: datetime, keep: Keep) -> None:
    broken = {p.partition(":")[0] for p in report.problems}
    for database in app.databases():
        templates = [t for t in _of_database(app, database, Report()) if t.fullName not in broken]
        names = {t.fullName: t.model_name for t in templates}
        mine = [a for a in report.actions if a.template in names or (a.template not in app.names("tasks"))]
        for start in range(0, len(mine), 200):
            with app.engine(database).begin() as connection:
                for action in mine[start : start + 200]:
                    apply(connection, action, names.get(action.template, ""), now)
            keep()
        with app.engine(database).begin() as connection:
            for template in templates:
                on = template.enable
                ledger.put(connection, f"watermark:{template.fullName}", now.isoformat() if on else None)
                ledger.put(connection, f"config:{template.fullName}", fingerprint(template) if on else None)


# Prefect


def hand_over(app: App, database: str, api: Api, now: datetime, report: Report, keep: Keep | None = None) -> None:
    """Bring Prefect to what the ledger says: make the runs that are missing, cancel those that are closed.

    Raises:
        PrefectApiError: Prefect cannot be reached; the ledger keeps what is left to do.
    """
    horizon = now + timedelta(hours=app.cfg.horizon)
    todo = or_(entries.c.status != "pending", entries.c.due <= horizon)
    query = (
        select(entries).where(entries.c.dirty.is_(True), todo, entries.c.status != "executing").order_by(entries.c.due)
    )
    with app.engine(database).connect() as connection:
        waiting = [ledger.to_entry(r) for r in connection.execute(query)]
    if not waiting:
        return
    deployments = api.deployments(app_tag(app))
    missing: set[str] = set()
    for number, entry in enumerate(waiting):
        if keep is not None and number % 50 == 49:
            keep()
        if entry.status == "pending":
            deployment = deployments.get(entry.template)
            if deployment is None:
                missing.add(entry.template)
                continue
            made = api.create_run(
                deployment["id"],
                key=entry.task_id if not entry.attempt else f"{entry.task_id}/{entry.attempt}",
                name=run_name(app, entry),
                due=entry.due,
                tags=run_tags(entry),
                parameters={"template": entry.template, "taskId": entry.task_id},
            )
            _handed_over(app, database, entry, made["id"])
            report.created += 1
        else:
            if entry.flow_run_id:
                report.ended += end_run(
                    api, entry.flow_run_id, entry.message, "CANCELLING" if entry.status == "ended" else "CRASHED"
                )
            with app.engine(database).begin() as connection:
                connection.execute(update(entries).where(entries.c.task_id == entry.task_id).values(dirty=False))
    for name in sorted(missing):
        report.problems.append(f"{name}: no deployment of that name; run `jittask deploy`")


def end_run(api: Api, run_id: str, message: str, kind: str = "CANCELLING") -> bool:
    """Propose the end of a flow run that has not ended; whether there was one to end."""
    run = api.run(run_id)
    if run is None or run.get("state_type") in TERMINAL:
        return False
    api.set_state(run_id, kind, message=message)
    return True


def _handed_over(app: App, database: str, entry: Entry, run_id: str) -> None:
    mine = entries.c.task_id == entry.task_id
    with app.engine(database).begin() as connection:
        connection.execute(update(entries).where(mine).values(flow_run_id=run_id))
        # A task that was closed meanwhile stays dirty: its run is cancelled next.
        connection.execute(
            update(entries).where(mine, entries.c.status.in_(("pending", "executing"))).values(dirty=False)
        )


def reconcile(app: App, database: str, api: Api, now: datetime, keep: Keep) -> None:
    """Take up what happened in Prefect: a cancelled run closes its task, a deleted or crashed one is made again."""
    query = select(entries).where(
        entries.c.status == "pending", entries.c.dirty.is_(False), entries.c.flow_run_id.is_not(None)
    )
    with app.engine(database).connect() as connection:
        waiting = {str(r.flow_run_id): ledger.to_entry(r) for r in connection.execute(query)}
    ids = list(waiting)
    for start in range(0, len(ids), PAGE):
        part = ids[start : start + PAGE]
        found = {r["id"]: r for r in api.runs(flow_runs={"id": {"any_": part}})}
        with app.engine(database).begin() as connection:
            for run_id in part:
                entry, state = waiting[run_id], (found.get(run_id) or {}).get("state_type")
                if state == "CANCELLED":
                    ledger.close(
                        connection, entry.task_id, outcome="forced", message="ended: cancelled in Prefect", now=now
                    )
                elif run_id not in found or state in ("CRASHED", "FAILED"):
                    again = entry.attempt + (state is not None)
                    connection.execute(
                        update(entries)
                        .where(entries.c.task_id == entry.task_id, entries.c.status == "pending")
                        .values(flow_run_id=None, dirty=True, attempt=again)
                    )
        keep()


def recover(app: App, database: str, now: datetime) -> list[Entry]:
    """Executions whose lease ran out: their worker died. With retries left they begin again, else they are errors.

    Returns:
        Those that ended as errors.
    """
    query = select(entries).where(entries.c.status == "executing", entries.c.lease_until < now)
    ended = []
    with app.engine(database).begin() as connection:
        for record in connection.execute(query).all():
            entry = ledger.to_entry(record)
            mine = (entries.c.task_id == entry.task_id, entries.c.status == "executing", entries.c.owner == entry.owner)
            retries = _retries(app, entry)
            if entry.attempt <= retries:
                again = {"status": "pending", "owner": None, "lease_until": None, "flow_run_id": None, "dirty": True}
                connection.execute(update(entries).where(*mine).values(**again))
                log.warning("%s %s: its worker died; it is tried again", entry.template, entry.task_id)
                continue
            died = {
                "status": "error",
                "outcome": "died",
                "message": "error: worker died",
                "finished": now,
                "owner": None,
                "dirty": True,
            }
            if connection.execute(update(entries).where(*mine).values(**died)).rowcount:
                ended.append(entry)
    return ended


def _retries(app: App, entry: Entry) -> int:
    try:
        return app.template(entry.template).cfg.retries
    except JittaskError:
        return 0


def app_tag(app: App) -> str:
    """The tag that every deployment of the app carries."""
    return f"app:{app.name}"


def run_name(app: App, entry: Entry) -> str:
    """A flow run's name: model, key and due time in the task's zone, e.g. `Contract 42 · 2026-12-01 09:00`."""
    try:
        zone: Any = app.template(entry.template).timer.zone
    except JittaskError:
        zone = None
    what = (entry.model or entry.template).partition(".")[2]
    return plain(f"{what} {entry.row_key}".strip()) + f" · {entry.due.astimezone(zone):%Y-%m-%d %H:%M}"


def run_tags(entry: Entry) -> list[str]:
    """A flow run's tags: template, model, and row."""
    return [entry.template, *([entry.model, plain(f"{entry.model}:{entry.row_key}")] if entry.model else [])]


def plain(text: str) -> str:
    """A text as Prefect takes it in names and tags: no `/ % & < >`, no placeholder, at most 120 characters."""
    for bad, good in (("{{", "{ {"), ("}}", "} }"), ("__prefect_kind", "prefect_kind")):
        text = text.replace(bad, good)
    return "".join("_" if c in "/%&<>" or ord(c) < 32 else c for c in text)[:120]
