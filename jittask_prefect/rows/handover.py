"""Ledger → Prefect and back: flow runs made, cancelled, and what happened to them taken up.

Each step may stop anywhere and be done again: a flow run's idempotency key is its task's id, and what is not recorded
as handed over is handed over again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    and_,
    literal,
    or_,
    select,
    tuple_,
)

from jittask_prefect.elements.app import App, Fault
from jittask_prefect.elements.config import Concurrency
from jittask_prefect.errors import JittaskError, PrefectApiError
from jittask_prefect.ledger import handover_marks, limits
from jittask_prefect.ledger.ending import by_itself, came_to_nothing, ending_of, settle
from jittask_prefect.ledger.entry import Entry, entries_of_run, to_entry
from jittask_prefect.ledger.tables import entries
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.client import PAGE, TERMINAL, Api
from jittask_prefect.prefect_api.names import app_tag, prefect_name, timed_name
from jittask_prefect.rows import batches
from jittask_prefect.rows.plan import Report

BATCH = 20  # runs made before they are recorded together; what was made and not recorded is found again by its key
CHUNK = 1000  # entries held in memory
PATIENCE = 30.0  # seconds that failing calls may take in one hand-over; the rest is left to the next sync
ROUNDS = 3  # of one hand-over, while rows come that share flow runs; the rest is left to the next one
PROBLEMS = 100  # refused runs that one report names
log = logging.getLogger("jittask")
Keep = Callable[[], None]
Row = tuple[str, str]  # template and row key
T = TypeVar("T")


def hand_over(
    app: App,
    database: str,
    api: Api,
    now: datetime,
    report: Report,
    keep: Keep | None = None,
    rows: Collection[Row] | None = None,
) -> None:
    """Bring Prefect to what the ledger says: make the runs that are missing, cancel those that are closed.

    Args:
        app: The app.
        database: Whose ledger.
        api: Prefect.
        now: The present instant.
        report: Takes what was done, and what was not.
        keep: Called again and again; whoever has a lease renews it.
        rows: Only what these rows' tasks need, and those that a free slot lets through: nobody waits here for what an
            import has left.

    Raises:
        PrefectApiError: Prefect cannot be reached, or calls failed for half a minute; the ledger keeps what is left.
    """
    limit = now + timedelta(hours=app.cfg.horizon)
    todo = and_(
        or_(entries.c.status != "pending", entries.c.due <= limit), limits.not_in_line
    )
    only: ColumnElement[bool] | None = None
    if rows is not None:
        only = or_(
            entries.c.outcome == limits.ADMITTED,
            tuple_(entries.c.template, entries.c.row_key).in_(rows),
        )
        todo = and_(todo, only)
    of_app = app.cfg.maxConcurrency
    limits.admit(
        app.engine(database), app.name, of_app, partial(_concurrency, app), now
    )
    work: _Work | None = None
    for _ in range(ROUNDS):
        with app.engine(database).connect() as connection:
            together, few = batches.groups(app, connection, limit, only)
        work = work or (
            _Work(app, database, api, now, report, keep) if together else None
        )
        for group in together:
            assert work is not None
            work.share(group)
        seen, late = few | set(together), False
        shared = set(batches.dispatched(app, "auto", "batch"))
        for chunk in chunks(
            app,
            database,
            CHUNK,
            entries.c.dirty.is_(True),
            todo,
            entries.c.status != "executing",
        ):
            mine = []
            for entry in map(to_entry, chunk):
                group = batches.Group(entry.template, entry.due)
                if (
                    entry.status != "pending"
                    or entry.template not in shared
                    or group in few
                ):
                    mine.append(entry)
                else:  # it came meanwhile, and is shared in the next round; or it could not be, until the next sync
                    late = late or group not in seen
            if mine:
                work = work or _Work(app, database, api, now, report, keep)
                work.do(mine)
        if not late:
            break
    if work is not None:
        work.tell()


def _concurrency(app: App, template: str) -> Concurrency | None:
    try:
        return app.template(template).cfg.concurrency
    except JittaskError:
        return None  # it does not load: its tasks wait for that


def chunks(
    app: App,
    database: str,
    size: int,
    *where: Any,
    start: tuple[datetime, str] | None = None,
) -> Iterator[Any]:
    """Entries in the order of due time and id, some at a time; the database is free while these are worked on."""
    place = (entries.c.due, entries.c.task_id)
    while True:
        query = select(entries).where(*where).order_by(*place).limit(size)
        if start is not None:
            at = tuple_(
                *(
                    literal(value, column.type)
                    for value, column in zip(start, place, strict=True)
                )
            )
            query = query.where(entries.c.due >= start[0], tuple_(*place) > at)
        with app.engine(database).connect() as connection:
            chunk = connection.execute(query).all()
        if chunk:
            yield chunk
        if len(chunk) < size:
            return
        start = (chunk[-1].due, chunk[-1].task_id)


class _Work:
    """One hand-over."""

    def __init__(
        self,
        app: App,
        database: str,
        api: Api,
        now: datetime,
        report: Report,
        keep: Keep | None,
    ) -> None:
        self.app, self.database, self.api, self.now, self.report = (
            app,
            database,
            api,
            now,
            report,
        )
        self.keep = keep or (lambda: None)
        self.waiting: dict[str, str] = {}
        self._broken: dict[tuple[str, str | None], Fault | None] = {}
        self.refused, self.failing = 0, 0.0
        self.made: list[tuple[Entry, str]] = []
        self.ended: list[Entry] = []

    @cached_property
    def deployments(self) -> Mapping[str, Mapping[str, Any]]:
        return self.api.deployments(app_tag(self.app.name))

    def share(self, group: batches.Group) -> None:
        """Hand over tasks that are due together, in batches."""
        if (deployment := self._deployment(group.template)) is None:
            return
        engine = self.app.engine(self.database)
        with engine.connect() as connection:
            shares = list(batches.shares(connection, group))
        if self._close_cancelled({run for share in shares for run in share.dead}):
            with engine.connect() as connection:
                shares = list(batches.shares(connection, group))
        for share in shares:
            self.keep()
            run_id = share.run_id or self._tried(
                group.template, partial(self._make_batch, deployment, group, share)
            )
            if run_id is None:
                continue
            for dead in share.dead - {run_id}:
                said = "its worker died: the rows that are left go on in another run"
                self._tried(group.template, partial(self.api.mark, dead, "died"))
                self._tried(
                    group.template, partial(end_run, self.api, dead, said, "CRASHED")
                )
            with engine.begin() as connection:
                handover_marks.batch_joined(
                    connection, share.tasks, share.batch, run_id
                )

    def _close_cancelled(self, runs: set[str]) -> bool:
        """Close what waits of batches that somebody cancelled and whose worker died then; whether there was any."""
        closed = []
        for run_id in sorted(runs):
            run = self._tried(run_id, partial(cancelled_by_hand, self.api, run_id))
            if run is None or (ending := ending_of(run)) is None:
                continue
            with self.app.engine(self.database).begin() as connection:
                tasks = entries_of_run(connection, run_id)
                closed += [
                    e
                    for e in tasks
                    if settle(connection, e.task_id, run, ending, self.now)
                ]
        self.report.died += [(self.database, entry) for entry in closed]
        return bool(closed)

    def _make_batch(
        self, deployment: Mapping[str, Any], group: batches.Group, share: batches.Share
    ) -> str:
        while True:
            run = self.api.create_run(
                deployment["id"],
                key=batches.key(self.app, group, share.batch),
                name=batch_name(self.app, group, share.batch),
                due=group.due,
                tags=[group.template],
                parameters={"template": group.template, "due": group.due.isoformat()},
            )
            if run.state_type not in TERMINAL and run.id not in share.before:
                self.report.created += 1
                return run.id
            share.batch += 1  # what stands under this key is spent

    def do(self, chunk: Sequence[Entry]) -> None:
        unrecorded = self._unrecorded(
            [e for e in chunk if e.status != "pending" and not e.flow_run_id]
        )
        try:
            for number, entry in enumerate(chunk):
                if number % BATCH == BATCH - 1:
                    self.keep()
                try:
                    if entry.status == "pending":
                        self._make(entry)
                    else:
                        self._end(
                            entry, entry.flow_run_id or unrecorded.get(_key(entry))
                        )
                finally:
                    if len(self.made) + len(self.ended) >= BATCH:
                        self._record()
        finally:
            self._record()

    def tell(self) -> None:
        """Report what waits, and for what."""
        self.report.problems += [
            f"{name}: {what}" for name, what in sorted(self.waiting.items())
        ]
        if self.refused > PROBLEMS:
            self.report.problems.append(
                f"{self.refused - PROBLEMS} more runs that Prefect refused"
            )

    def _unrecorded(self, closed: Sequence[Entry]) -> dict[str, str]:
        """The runs of closed tasks that were made by somebody who died before recording it, by key."""
        found: dict[str, str] = {}
        for start in range(0, len(closed), PAGE):
            keys = [_key(e) for e in closed[start : start + PAGE]]
            runs = self.api.runs(flow_runs={"idempotency_key": {"any_": keys}})
            found |= {str(run.idempotency_key): run.id for run in runs}
        return found

    def _deployment(
        self, template: str, func: str | None = None
    ) -> Mapping[str, Any] | None:
        deployment = self.deployments.get(template)
        if (template, func) not in self._broken:
            self._broken[template, func] = self.app.fault(template, func)
        if self._broken[template, func] is not None:
            # Its runs would fail and be made again, every minute.
            self.waiting[template] = (
                "its tasks wait until it loads; `jittask check` says what is wrong"
            )
            return None
        if deployment is None:
            self.waiting[template] = "no deployment of that name; run `jittask deploy`"
        return deployment

    def _make(self, entry: Entry) -> None:
        deployment = self._deployment(entry.template, entry.func_name)
        if deployment is None:
            return

        def make() -> FlowRun:
            if entry.flow_run_id and entry.outcome != limits.ADMITTED:
                if cancelled := cancelled_by_hand(self.api, entry.flow_run_id):
                    return cancelled
                end_run(
                    self.api,
                    entry.flow_run_id,
                    "its worker died: the task is tried again",
                    "CRASHED",
                )
            return self.api.create_run(
                deployment["id"],
                key=_key(entry),
                name=run_name(self.app, entry),
                due=entry.due,
                tags=run_tags(entry.template, entry.model, entry.row_key),
                parameters={"template": entry.template, "taskId": entry.task_id},
            )

        while (
            run := self._tried(f"{entry.template}, row {entry.row_key}", make)
        ) is not None and came_to_nothing(run):
            entry = replace(
                entry, flow_run_id=run.id
            )  # what stands under this key is spent: on to the next key
        if run is None:
            return
        if (ending := ending_of(run)) is None:
            self.made.append((entry, run.id))
            self.report.created += 1
            return
        with self.app.engine(self.database).begin() as connection:
            if settle(connection, entry.task_id, run, ending, self.now):
                self.report.died.append((self.database, entry))

    def _end(self, entry: Entry, run_id: str | None) -> None:
        # Cancelling asks a process to end. One that never began the task, and cannot any more, does not answer.
        asked = "CANCELLING" if entry.started else "CANCELLED"
        kind = asked if entry.status == "ended" else "CRASHED"
        own = (
            entry.outcome
            if entry.status == "ended" and entry.outcome != "forced"
            else None
        )
        who = f"{entry.template}, row {entry.row_key}"
        if entry.batch is not None and entry.status == "ended":
            ended: bool | None = False  # the others of its batch go on
        else:
            ended = (
                self._tried(
                    who, lambda: end_run(self.api, run_id, entry.message, kind, own)
                )
                if run_id
                else False
            )
        if ended is not None:
            self.report.ended += ended
            self.ended.append(entry)

    def _tried(self, what: str, call: Callable[[], T]) -> T | None:
        """What a call gives; None where it is this run that is refused, and the others go on."""
        begun = time.monotonic()
        try:
            return call()
        except PrefectApiError as error:
            self.failing += time.monotonic() - begun
            self.api.ping()  # raises where it is not this run that is refused
            if self.failing > PATIENCE:
                raise
            self.refused += 1
            if self.refused <= PROBLEMS:
                self.report.problems.append(f"{what}: {error}")
            return None

    def _record(self) -> None:
        made, ended, self.made, self.ended = self.made, self.ended, [], []
        if made:
            with self.app.engine(self.database).begin() as connection:
                handover_marks.runs_made(connection, made)
        if ended:
            with self.app.engine(self.database).begin() as connection:
                handover_marks.end_shown(connection, [e.task_id for e in ended])
                runs = {
                    e.flow_run_id
                    for e in ended
                    if e.batch is not None and e.flow_run_id
                }
                empty = sorted(
                    runs - handover_marks.open_runs(connection, sorted(runs))
                )
            for run_id in empty:
                self._tried(
                    run_id,
                    partial(
                        drop_run,
                        self.api,
                        run_id,
                        "superseded: none of its rows is due any more",
                    ),
                )


def _key(entry: Entry) -> str:
    """The idempotency key of a task's next flow run: another one after each run that came to nothing."""
    return "/".join(
        [
            entry.task_id,
            *([str(entry.attempt)] if entry.attempt else []),
            *filter(None, [entry.flow_run_id]),
        ]
    )


def end_run(
    api: Api, run_id: str, message: str, kind: str, own: str | None = None
) -> bool:
    """Propose the end of a flow run that has not ended, with why the ledger ends it itself; whether there was one."""
    run = api.run(run_id)
    if run is None or run.state_type in TERMINAL:
        return False
    if own is not None:
        api.mark(run_id, own)
    api.set_state(run_id, kind, message=message)
    return True


def cancelled_by_hand(api: Api, run_id: str) -> FlowRun | None:
    """A run that somebody has cancelled, as it is or will be; None for any other."""
    run = api.run(run_id)
    if (
        run is None
        or run.state_type not in ("CANCELLING", "CANCELLED")
        or by_itself(run)
    ):
        return None
    return run.in_state("CANCELLED", run.message)


def drop_run(api: Api, run_id: str, message: str) -> None:
    """Cancel a flow run that has not begun."""
    run = api.run(run_id)
    if run is not None and run.state_type == "SCHEDULED":
        api.mark(run_id, "superseded")
        api.set_state(run_id, "CANCELLING", message=message)


def deployments_of(app: App, names: Sequence[str]) -> dict[str, Any]:
    """The API's filter for the app's own deployments of some names: another app may have the same names."""
    return {"name": {"any_": list(names)}, "tags": {"all_": [app_tag(app.name)]}}


def run_name(app: App, entry: Entry) -> str:
    """A flow run's name: model, key and due time in the task's zone, e.g. `Contract 42 · 2026-12-01 09:00`."""
    try:
        zone: Any = app.template(entry.template).timer.zone
    except JittaskError:
        zone = None
    return timed_name(
        run_of(entry.model or entry.template, entry.row_key), entry.due, zone
    )


def run_of(model: str, key: str) -> str:
    """What the name of a row's flow run begins with, e.g. `Contract 42`."""
    return prefect_name(f"{model.partition('.')[2]} {key}".strip())


def batch_name(app: App, group: batches.Group, number: int) -> str:
    """A batch's name: template, due time in its zone, and from the second one on its number."""
    template = app.template(group.template)
    more = f" ({number})" if number > 1 else ""
    return timed_name(template.title, group.due, template.timer.zone) + more


def run_tags(template: str, model: str | None, key: str) -> list[str]:
    """A flow run's tags: template, model, and row."""
    return [template, *([model, prefect_name(f"{model}:{key}")] if model else [])]
