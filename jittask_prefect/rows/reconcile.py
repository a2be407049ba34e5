"""Prefect → ledger: what happened to flow runs is taken up, and executions whose worker died are."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import and_, case, func, select

from jittask_prefect.elements.app import DEFAULT, App
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.errors import ConfigError, JittaskError
from jittask_prefect.ledger import handover_marks, state_table, transitions
from jittask_prefect.ledger.ending import (
    Patience,
    came_to_nothing,
    ending_of,
    never_begun,
    settle,
)
from jittask_prefect.ledger.entry import Entry, to_entries, to_entry
from jittask_prefect.ledger.tables import entries
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.client import LIVE, PAGE, Api
from jittask_prefect.rows import batches
from jittask_prefect.rows.handover import Keep, chunks, deployments_of

FEW = PAGE  # runs that are all asked for at each sync
NEAR = timedelta(minutes=15)
NEAR_AT_ONCE = 2000  # runs that one sync asks for by id; where more are due, the next sync asks for the next
FAR_AT_ONCE = 5000
GAP = timedelta(
    minutes=5
)  # since the last sync: one of the databases may be an older copy, and the numbers agree
AGAIN = timedelta(hours=1)  # a difference that stays is looked into again
FAR, NEXT = "handover:far", "handover:next"  # names in jittask_state
log = logging.getLogger("jittask")


def reconcile(
    app: App, database: str, api: Api, now: datetime, keep: Keep
) -> list[Entry]:
    """Take up what happened in Prefect: a cancelled run closes its task, a deleted or crashed one is made again.

    Up to 200 runs are asked for by id. Of more, those that are due within a quarter of an hour, or past, are, 2,000 at
    once; of all others only the number is. Where Prefect has as many as the ledger, none was cancelled or deleted;
    where it has not, all are asked for by id, once for each difference that is found and once an hour while it stays;
    so they are where no sync was for five minutes.

    Returns:
        The tasks that were closed.
    """
    limit = now + NEAR
    waiting = (
        entries.c.status == "pending",
        entries.c.dirty.is_(False),
        entries.c.flow_run_id.is_not(None),
    )
    with app.engine(database).connect() as connection:
        known, place = (
            state_table.get(connection, app.name, FAR),
            state_table.get(connection, app.name, NEXT),
        )
    closed: list[Entry] = []
    near: Sequence[Any] = next(chunks(app, database, FEW + 1, *waiting), [])
    if len(near) > FEW:
        start = _place(place) if place else None
        near = next(
            chunks(
                app,
                database,
                NEAR_AT_ONCE,
                *waiting,
                entries.c.due < limit,
                start=start,
            ),
            [],
        )
    closed += _look(app, database, api, near, now, keep)
    more = (
        f"{near[-1].due.isoformat()} {near[-1].task_id}"
        if len(near) == NEAR_AT_ONCE
        else None
    )

    difference, looked, seen = _far(known)
    found = _difference(app, database, api, limit)
    if (
        found != difference
        or abs(now - seen) > GAP
        or (found and now - looked >= AGAIN)
    ):
        for chunk in chunks(
            app, database, FAR_AT_ONCE, *waiting, entries.c.due >= limit
        ):
            closed += _look(app, database, api, chunk, now, keep)
        if found > 0:
            _look_back(app, database, api, limit, keep)
        found, looked = _difference(app, database, api, limit), now
    with app.engine(database).begin() as connection:
        state_table.put(
            connection, app.name, FAR, f"{found} {looked.isoformat()} {now.isoformat()}"
        )
        if more != place:
            state_table.put(connection, app.name, NEXT, more)
    return closed


def _place(text: str) -> tuple[datetime, str]:
    due, _, task_id = text.partition(" ")
    return datetime.fromisoformat(due), task_id


def _far(known: str | None) -> tuple[int, datetime, datetime]:
    """The difference that the last sync left, when it was looked into, and when the last sync was."""
    if known is None:
        return 0, datetime.min.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
    found, looked, seen = known.split(" ")
    return int(found), datetime.fromisoformat(looked), datetime.fromisoformat(seen)


def _difference(app: App, database: str, api: Api, limit: datetime) -> int:
    """How many runs Prefect has more than the ledger (fewer: negative) of those due from an instant on."""
    before = _expected(app, database, limit)
    there = api.count_runs(**_live(app, database, limit))
    least, most = before
    if not least <= there <= most:
        # What others made or cancelled since the first look at the ledger may be counted or not.
        after = _expected(app, database, limit)
        least, most = min(least, after[0]), max(most, after[1])
    return min(there - least, 0) or max(there - most, 0)


def _live(app: App, database: str, limit: datetime) -> dict[str, Any]:
    """The filter for the runs that are due from an instant on, and that we made."""
    return {
        "deployments": deployments_of(app, templates_in(app, database)),
        "flow_runs": {
            "state": {"type": {"any_": list(LIVE)}},
            "expected_start_time": {"after_": limit.isoformat()},
            "created_by": {
                "is_null_": True
            },  # a schedule's own runs name their deployment there
        },
    }


def _look_back(app: App, database: str, api: Api, limit: datetime, keep: Keep) -> None:
    """Find the runs that wait for tasks that are ended, as in an older copy of Prefect: they are cancelled again."""
    offset = 0
    while page := api.runs(
        limit=PAGE, offset=offset, sort="ID_DESC", **_live(app, database, limit)
    ):
        with app.engine(database).begin() as connection:
            handover_marks.cancel_again(connection, [run.id for run in page])
        offset += len(page)
        keep()


def templates_in(app: App, database: str) -> list[str]:
    """The templates whose tasks stand in a database's ledger; scheduled ones' in the default one."""
    rows = {}
    for template in app.templates():
        if isinstance(template, DateFieldType):
            with suppress(ConfigError):  # its model is broken
                rows[template.fullName] = app.database_of(template.model_name)
    return [name for name in app.names("tasks") if rows.get(name, DEFAULT) == database]


def _expected(app: App, database: str, limit: datetime) -> tuple[int, int]:
    """The least and the most runs that Prefect may have: without, and with, those that change just now."""
    own, said = entries.c.batch.is_(None), entries.c.dirty.is_(False)
    runs = select(
        func.count(case((and_(own, said), 1))),
        func.count(case((and_(~own, said), entries.c.flow_run_id)).distinct()),
    ).where(entries.c.due >= limit, entries.c.status == "pending")
    count = select(func.count()).select_from(entries).where(entries.c.due >= limit)
    with app.engine(database).connect() as connection:
        least = sum(connection.execute(runs).one())
        dirty = connection.execute(count.where(entries.c.dirty.is_(True))).scalar_one()
        begun = connection.execute(
            count.where(entries.c.status == "executing")
        ).scalar_one()
    return least, least + dirty + begun


def _look(
    app: App, database: str, api: Api, waiting: Sequence[Any], now: datetime, keep: Keep
) -> list[Entry]:
    """Ask for the runs of some tasks by id, and take up what became of them; the tasks that were closed."""
    closed, patience = [], Patience(api)
    for first in range(0, len(waiting), PAGE):
        part = waiting[first : first + PAGE]
        ids = sorted({e.flow_run_id for e in part})
        runs = {r.id: r for r in api.runs(flow_runs={"id": {"any_": ids}})}
        batched = [e for e in part if e.batch is not None]
        own = [e for e in part if e.batch is None]
        spent, endings = _of_batches(app, database, api, batched, runs, now, patience)
        spent += [
            e
            for e in own
            if came_to_nothing(run := runs.get(e.flow_run_id))
            or never_begun(run, e.due, now, patience)
        ]
        endings += [
            (e, ending)
            for e in own
            if (run := runs.get(e.flow_run_id)) and (ending := ending_of(run))
        ]
        if spent or endings:
            with app.engine(database).begin() as connection:
                for record in spent:
                    task_id, run_id = record.task_id, record.flow_run_id
                    handover_marks.run_lost(connection, task_id, run_id)
                for record, ending in endings:
                    if settle(
                        connection,
                        record.task_id,
                        runs[record.flow_run_id],
                        ending,
                        now,
                    ):
                        closed.append(to_entry(record))
        keep()
    return closed


def _of_batches(
    app: App,
    database: str,
    api: Api,
    waiting: Sequence[Any],
    runs: Mapping[str, FlowRun],
    now: datetime,
    patience: Patience,
) -> tuple[list[Any], list[tuple[Any, batches.Ending]]]:
    """Of tasks in batches, those that need another flow run, and those that have ended."""
    spent, endings = [], []
    for run_id in {e.flow_run_id for e in waiting}:
        mine, run = [e for e in waiting if e.flow_run_id == run_id], runs.get(run_id)
        with app.engine(database).connect() as connection:
            found = batches.fate(connection, run, mine[0].due, now, patience)
        results = batches.results_of(api.table(run_id)) if found is True and run else {}
        for entry in mine:
            if (ending := results.get(entry.task_id) or found) is True:
                spent.append(entry)
            elif isinstance(ending, tuple):
                endings.append((entry, ending))
    return spent, endings


def recover(app: App, database: str, now: datetime) -> list[Entry]:
    """Executions whose lease ran out: their worker died. With retries left they begin again, else they are errors.

    Returns:
        Those that ended as errors.
    """
    query = select(entries).where(
        entries.c.status == "executing",
        entries.c.lease_until < now,
        entries.c.app == app.name,
    )
    ended = []
    with app.engine(database).begin() as connection:
        for entry in to_entries(connection.execute(query).all()):
            retries = _retries(app, entry)
            if retries is None:
                continue
            if transitions.retry(connection, entry, retries, keep_run=True):
                what = (entry.template, entry.task_id)
                log.warning("%s %s: its worker died; it is tried again", *what)
            elif transitions.fail(connection, entry, now):
                ended.append(entry)
    return ended


def _retries(app: App, entry: Entry) -> int | None:
    """How often a task is tried again; None where its template cannot be read just now."""
    try:
        return app.template(entry.template).cfg.retries
    except JittaskError:
        return 0 if app.gone(entry.template) else None
