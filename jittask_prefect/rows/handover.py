"""Ledger → Prefect: flow runs are made for tasks that wait, and ended for tasks that ended.

Each step may stop anywhere and be done again: a flow run's idempotency key is its task's id, and a task that is
not recorded as handed over is handed over again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import ColumnElement, or_, tuple_

from jittask_prefect.elements.app import App
from jittask_prefect.elements.config import Concurrency
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import handover_marks, limits, pause
from jittask_prefect.ledger.entry import Entry, in_order
from jittask_prefect.ledger.planned_rows import Row
from jittask_prefect.ledger.settlement import carry_out
from jittask_prefect.ledger.tables import entries, late_from, outside_schedule
from jittask_prefect.ledger.verdict import Kind, Verdict, reading, verdict
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.api import PAGE, Api
from jittask_prefect.rows import batches
from jittask_prefect.rows.batch_handover import BatchHandOver
from jittask_prefect.rows.batches import Group
from jittask_prefect.rows.flow_runs import (
    Calls,
    Facts,
    Keep,
    end_run,
    is_cancelled,
    run_key,
    run_name,
    run_tags,
)
from jittask_prefect.rows.plan import Report
from jittask_prefect.rows.row_labels import row_labels, row_of

BATCH = 20
"""Runs made before they are recorded together; a run made and not recorded is found again by its key."""
CHUNK = 1000  # entries held in memory
ROUNDS = 3
"""Rounds of one hand-over, while rows come that share flow runs; the rest is left to the next hand-over."""
TRIED_AGAIN = "its worker died: the task is tried again"


def hand_over(
    app: App,
    database: str,
    api: Api,
    now: datetime,
    report: Report,
    keep: Keep | None = None,
    rows: Collection[Row] | None = None,
) -> None:
    """Bring Prefect in line with the ledger: make the missing runs, end the runs of tasks that ended.

    While the app is paused only tasks outside the schedule get runs.

    Args:
        app: The app.
        database: Whose ledger.
        api: Prefect.
        now: The present instant.
        report: Takes the counts, and the problems.
        keep: Called again and again; the holder of a lease renews the lease.
        rows: Only the runs of these rows' tasks, and those that a free place admits: nobody waits here for an
            import's tasks.

    Raises:
        PrefectApiError: Prefect cannot be reached, or nothing but failing calls took half a minute; the ledger keeps
            the rest.
    """
    engine, limit = app.engine(database), now + timedelta(hours=app.cfg.horizon)
    limit_of = partial(own_limit, app)
    paused = pause.paused_since(app) is not None
    begins = [outside_schedule] if paused else []
    limits.admit(engine, app.name, app.cfg.maxConcurrency, limit_of, now, *begins)
    only: ColumnElement[bool] | None = None

    if rows is not None:
        row = tuple_(entries.c.template, entries.c.row_key)
        only = or_(limits.admitted, row.in_(rows))

    dirty = _to_hand_over(limit, only, paused=paused)
    work = _HandOver(app, database, api, now, report, keep or (lambda: None))

    for _ in range(ROUNDS):
        together, few = (set(), set()) if paused else work.share(limit, only)
        if not work.hand_over_others(dirty, together, few):
            break

    work.calls.report_waiting()


def _to_hand_over(
    limit: datetime, only: ColumnElement[bool] | None, *, paused: bool
) -> list[ColumnElement[bool]]:
    """The condition on entries that a hand-over takes: dirty, not in line for a place, and due before a limit or ended."""
    c = entries.c
    found: list[ColumnElement[bool]] = [c.dirty.is_(True), limits.not_in_line]
    found += [or_(c.status != "pending", late_from <= limit), c.status != "executing"]

    if paused:
        found.append(or_(c.status != "pending", outside_schedule))
    if only is not None:
        found.append(only)
    return found


def own_limit(app: App, template: str) -> Concurrency | None:
    try:
        return app.template(template).cfg.concurrency
    except JittaskError:
        return None  # the template does not load: its tasks wait


class _HandOver:
    def __init__(
        self,
        app: App,
        database: str,
        api: Api,
        now: datetime,
        report: Report,
        keep: Keep,
    ) -> None:
        self.app, self.database, self.engine = app, database, app.engine(database)
        self.api, self.now, self.report, self.keep = api, now, report, keep
        self.facts = Facts(api, now)
        self.calls = Calls(app, api, report)
        about = (app, database, self.calls, api, now, report, keep)
        self.batches = BatchHandOver(*about)
        self.labels: Mapping[Row, str] = {}

    def share(
        self, limit: datetime, only: ColumnElement[bool] | None
    ) -> tuple[set[Group], set[Group]]:
        """Hand over the groups that share runs; these groups, and those that are too few to share."""
        with self.engine.connect() as connection:
            together, few = batches.groups(self.app, connection, self.now, limit, only)

        for group in together:
            self.batches.share(group)

        return set(together), few

    def hand_over_others(
        self,
        dirty: Sequence[ColumnElement[bool]],
        together: Collection[Group],
        few: Collection[Group],
    ) -> bool:
        """Hand over the tasks with a run of their own; whether tasks came meanwhile that share runs."""
        sharing, more = set(batches.shared(self.app, "auto", "batch")), False

        for part in in_order(self.engine, self.app.name, CHUNK, *dirty):
            alone = []
            for entry in part:
                group = batches.group_of(entry, self.now)
                joins = entry.status == "pending" and entry.template in sharing
                joins = joins and not entry.outside_schedule
                if not joins or group in few:
                    alone.append(entry)
                elif (
                    group not in together
                ):  # new: shared in the next round, or by the next sync
                    more = True

            self.hand_over(alone)

        return more

    def hand_over(self, tasks: Sequence[Entry]) -> None:
        """Make the runs of pending tasks, then end those of tasks that ended; recorded some at a time.

        New runs come first: a hand-over that gives up, because Prefect has some runs locked, leaves ends to the next.
        """
        tasks = sorted(tasks, key=lambda entry: entry.status != "pending")
        pending = [e for e in tasks if e.status == "pending"]
        self.labels = row_labels(self.app, map(row_of, pending))
        closed = [e for e in tasks if e.status != "pending" and not e.flow_run_id]
        unrecorded = self._unrecorded(closed)
        made: list[tuple[Entry, str]] = []
        ended: list[Entry] = []

        try:
            for number, entry in enumerate(tasks):
                if number % BATCH == BATCH - 1:
                    self.keep()
                try:
                    if entry.status == "pending":
                        if (run_id := self._make(entry)) is not None:
                            made.append((entry, run_id))
                    else:
                        run_id = entry.flow_run_id or unrecorded.get(run_key(entry))
                        if self._end(entry, run_id):
                            ended.append(entry)
                finally:
                    if len(made) + len(ended) >= BATCH:
                        self._record(made, ended)
        finally:
            self._record(made, ended)

    def _unrecorded(self, closed: Sequence[Entry]) -> dict[str | None, str]:
        """The runs of closed tasks whose maker died before recording them, by key."""
        found: dict[str | None, str] = {}
        for start in range(0, len(closed), PAGE):
            keys = [run_key(entry) for entry in closed[start : start + PAGE]]
            runs = self.api.runs(flow_runs={"idempotency_key": {"any_": keys}})
            found |= {run.idempotency_key: run.id for run in runs}

        return found

    def _make(self, entry: Entry) -> str | None:
        """Make a task's flow run; None where the task waits, was refused, or ended with its run."""
        deployment = self.calls.deployment(entry.template, entry.func_name)

        if deployment is None:
            return None

        who = f"{entry.template}, row {entry.row_key}"

        while True:
            run = self.calls.tried(who, partial(self._run_of, entry, deployment))

            if run is None:
                return None

            facts = self.facts.of(run, entry.due)
            what = verdict(Kind.PENDING, reading(facts))

            if is_cancelled(run):
                what = Verdict.CANCEL

            if what is Verdict.NOTHING:
                self.report.created += 1
                return run.id

            if what is not Verdict.ANOTHER:
                with self.engine.begin() as connection:
                    if carry_out(connection, what, entry, run, self.now):
                        self.report.died.append((self.database, entry))
                return None

            # The run under this key is spent: on to the next key.
            entry = replace(entry, flow_run_id=run.id, queue=None)

    def _run_of(self, entry: Entry, deployment: str) -> FlowRun:
        """The flow run of a task; the run before that a person has cancelled, where there is such."""
        opens_later = entry.not_before is not None and entry.not_before > self.now
        gave_up = entry.queue == limits.ADMITTED or opens_later
        if entry.flow_run_id and not gave_up:
            before = self.api.run(entry.flow_run_id)
            if before is not None and is_cancelled(before):
                return before

            if before is not None and not before.is_final:
                self.api.set_state(before.id, "CRASHED", message=TRIED_AGAIN)

        return self.api.create_run(
            deployment,
            key=run_key(entry),
            name=run_name(self.app, entry, self.labels.get(row_of(entry), "")),
            due=entry.late_from,
            tags=run_tags(self.app, entry.template, entry.model, entry.row_key),
            parameters={"template": entry.template, "taskId": entry.task_id},
        )

    def _end(self, entry: Entry, run_id: str | None) -> bool:
        """Propose the end of a task's flow run; False where that was refused."""
        if run_id is None or (entry.batch is not None and entry.status == "ended"):
            return True  # the others of its batch go on

        # Cancelling asks a process to end. A process that never began the task does not answer.
        asked = "CANCELLING" if entry.started else "CANCELLED"
        own = None if entry.outcome == "forced" else entry.outcome
        about = (asked, own) if entry.status == "ended" else ("CRASHED",)
        who = f"{entry.template}, row {entry.row_key}"
        end = partial(end_run, self.api, run_id, entry.message, *about)
        ended = self.calls.tried(who, end)
        self.report.ended += bool(ended)

        return ended is not None

    def _record(self, made: list[tuple[Entry, str]], ended: list[Entry]) -> None:
        """Record the runs made and ended, and cancel batches without rows; empties the lists."""
        if not made and not ended:
            return

        empty: set[str] = set()

        with self.engine.begin() as connection:
            handover_marks.runs_made(connection, made)
            if ended:
                handover_marks.end_shown(connection, [e.task_id for e in ended])
                runs = {
                    e.flow_run_id
                    for e in ended
                    if e.batch is not None and e.flow_run_id
                }
                empty = runs - handover_marks.open_runs(connection, sorted(runs))

        made.clear()
        ended.clear()

        for run_id in sorted(empty):
            self.calls.tried(run_id, partial(self.batches.drop, run_id))
