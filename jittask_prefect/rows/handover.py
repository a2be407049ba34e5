"""Ledger → Prefect and back: flow runs made, cancelled, and what happened to them taken up.

Each step may stop anywhere and be done again: a flow run's idempotency key is its task's id, and what is not recorded
as handed over is handed over again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, select, update

from ..elements.app import App
from ..errors import JittaskError, PrefectApiError
from ..prefect_api import PAGE, TERMINAL, Api
from . import ledger
from .ledger import Entry, entries
from .plan import Report

# What a person may have made of a run that never began; the ledger's own endings are not pending any more.
_CLOSES = {"CANCELLED": "cancelled", "COMPLETED": "marked as completed"}
log = logging.getLogger("jittask")
Keep = Callable[[], None]


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
    problems: dict[str, str] = {}
    for number, entry in enumerate(waiting):
        if keep is not None and number % 10 == 9:
            keep()
        if entry.status == "pending":
            deployment = deployments.get(entry.template)
            if deployment is None:
                problems[entry.template] = "no deployment of that name; run `jittask deploy`"
                continue
            if not _works(app, entry.template):
                # Its runs would fail and be made again, every minute.
                problems[entry.template] = "its tasks wait until it loads; `jittask check` says what is wrong"
                continue
            if entry.flow_run_id:
                end_run(api, entry.flow_run_id, "its worker died: the task is tried again", "CRASHED")
            try:
                made = api.create_run(
                    deployment["id"],
                    key=_key(entry),
                    name=run_name(app, entry),
                    due=entry.due,
                    tags=run_tags(entry),
                    parameters={"template": entry.template, "taskId": entry.task_id},
                )
            except PrefectApiError as error:
                api.ping()  # raises where it is not this run that is refused
                report.problems.append(f"{entry.template}, row {entry.row_key}: {error}")
                continue
            _handed_over(app, database, entry, made["id"])
            report.created += 1
        else:
            if entry.flow_run_id:
                report.ended += end_run(
                    api, entry.flow_run_id, entry.message, "CANCELLING" if entry.status == "ended" else "CRASHED"
                )
            with app.engine(database).begin() as connection:
                connection.execute(update(entries).where(entries.c.task_id == entry.task_id).values(dirty=False))
    report.problems += [f"{name}: {what}" for name, what in sorted(problems.items())]


def _works(app: App, template: str) -> bool:
    try:
        app.template(template)
    except JittaskError:
        return False
    return True


def _key(entry: Entry) -> str:
    """The idempotency key of a task's next flow run: another one after each run that came to nothing."""
    return "/".join(
        [entry.task_id, *([str(entry.attempt)] if entry.attempt else []), *filter(None, [entry.flow_run_id])]
    )


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


def reconcile(app: App, database: str, api: Api, now: datetime, keep: Keep) -> list[Entry]:
    """Take up what happened in Prefect: a cancelled run closes its task, a deleted or crashed one is made again.

    Returns:
        The tasks that were closed.
    """
    query = select(entries).where(
        entries.c.status == "pending", entries.c.dirty.is_(False), entries.c.flow_run_id.is_not(None)
    )
    with app.engine(database).connect() as connection:
        waiting = {str(r.flow_run_id): ledger.to_entry(r) for r in connection.execute(query)}
    ids, closed = list(waiting), []
    for start in range(0, len(ids), PAGE):
        part = ids[start : start + PAGE]
        states = {r["id"]: r.get("state_type") for r in api.runs(flow_runs={"id": {"any_": part}})}
        with app.engine(database).begin() as connection:
            for run_id in part:
                entry, state = waiting[run_id], states.get(run_id)
                if state in _CLOSES:
                    message = f"ended: {_CLOSES[state]} in Prefect"
                    if ledger.close(connection, entry.task_id, outcome="forced", message=message, now=now):
                        closed.append(entry)
                elif run_id not in states or state in ("CRASHED", "FAILED"):
                    same = (entries.c.task_id == entry.task_id, entries.c.flow_run_id == run_id)
                    again = update(entries).where(*same, entries.c.status == "pending")
                    connection.execute(again.values(dirty=True))
        keep()
    return closed


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
                # The flow run's id stays until the next one is made: the dead one is marked as crashed then.
                again = {"status": "pending", "owner": None, "lease_until": None, "dirty": True}
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
