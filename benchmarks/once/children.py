"""What the campaign's processes do: sync, execute, save, end. Each may be killed at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import failpoints
from sqlalchemy import DateTime, bindparam, text, update
from sqlmodel import Session

from jittask_prefect import App
from jittask_prefect.errors import PrefectApiError
from jittask_prefect.ledger import lease_time, transitions
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.rows import background_handover, hooks, sync
from jittask_prefect.rows.plan import Report
from jittask_prefect.running.function import after_return, next_of_row
from jittask_prefect.running.lease import new_owner
from jittask_prefect.running.outcome import Outcome, Run, keep_table, label_of
from jittask_prefect.running.run import execute, execute_batch
from jittask_prefect.schedule import clock
from jittask_prefect.task_svc.service import TaskSvc

BUSY, REFUSED, FAILED = (
    4,
    5,
    6,
)  # exit codes: another sync has the lease; it lost its own, or Prefect; an exception


@dataclass
class Context:
    """What all processes of the campaign share."""

    app: App
    api: Any
    now: Any
    journal: Path
    announced: bool = True
    """Whether a worker says Running before it begins a task, as Prefect does."""

    def note(self, *words: object) -> None:
        """A line that survives the process."""
        file = os.open(self.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, (json.dumps([os.getpid(), *words]) + "\n").encode())
        os.close(file)


def run(context: Context, work: Any, *args: Any) -> None:
    """The body of a child process: the campaign's clock, and exceptions as an exit code."""
    clock.now = context.now
    lease_time.use_clock_of_caller()
    try:
        code = work(context, *args)
    except (sync.LeaseLostError, PrefectApiError) as error:
        context.note("refused", work.__name__, str(error)[:300])
        code = REFUSED
    except BaseException as error:  # noqa: BLE001  the process ends here, whatever it was
        context.note(
            "exception",
            work.__name__,
            f"{type(error).__name__}: {error}"[:300],
            traceback.format_exc()[-3000:],
        )
        code = FAILED
    os._exit(code or 0)


def one_sync(
    context: Context,
    point: str | None = None,
    nth: int = 1,
    lossy: int = 0,
    what: int = signal.SIGKILL,
) -> int:
    """A sync as the flow `jittask.sync` does it, to be killed (or stopped) at a failpoint."""
    app, api = context.app, context.api
    if lossy:
        chance = random.Random(lossy)
        failpoints.lose_answers(api, lambda: chance.random() < 0.2)
    if point:
        failpoints.arm(point, nth, api, what)
    now = clock.now()

    def after(report: Report) -> None:
        for database, entry in report.died:
            if after_return(app, database, entry.task_id):
                next_of_row(app, database, entry, now)

    report = sync.run(app, api, now, new_owner(), clock=clock.now, after=after)
    if report is None:
        return BUSY
    for problem in report.problems:
        context.note("problem", problem)
    return 0


def due_runs(api: Any, ids: list[str], now: datetime) -> list[FlowRun]:
    """The runs that a worker would take up."""
    where = {
        "deployment_id": {"any_": ids},
        "state": {"type": {"any_": ["SCHEDULED"]}},
        "expected_start_time": {"before_": now.isoformat()},
    }
    found: list[FlowRun] = api.runs(flow_runs=where, sort="EXPECTED_START_TIME_ASC")
    return found


def one_run(context: Context, run: FlowRun) -> None:
    """One flow run, as worker and flow do it: the state, the task, the state."""
    app, api = context.app, context.api
    if context.announced:
        api.set_state(
            run.id, "RUNNING", force=True
        )  # by the server's own clock it is years early
    this = Run(run.id, run.expected_start_time)
    if "due" in run.parameters:
        one_batch(context, run, this)
        return
    task = run.parameters["taskId"]
    context.note("begin", task, time.monotonic_ns())
    outcome = execute(
        app,
        run.parameters["template"],
        task,
        this,
        clock.now,
        lost=lambda: os._exit(0),
    )
    if "no longer this worker's" not in outcome.message:
        context.note("end", task, outcome.status)
    kind = {"completed": "COMPLETED", "error": "FAILED", "ended": "CANCELLED"}[
        outcome.status
    ]
    if outcome.outcome == "failed":
        context.note("exception", "task", outcome.message, "")
    if why := label_of(outcome):
        api.mark(run.id, why)
    api.set_state(run.id, kind, message=outcome.message, force=True)


def one_batch(context: Context, run: FlowRun, this: Run) -> None:
    """The flow run of a batch: a row has begun when it is claimed, though its function comes a commit later."""
    real = transitions.claim

    def claim(connection: Any, task: str, *args: Any, **keys: Any) -> bool:
        claimed = real(connection, task, *args, **keys)
        if claimed:
            context.note("begin", task, time.monotonic_ns())
        return claimed

    def told(tasks: Sequence[Entry], outcome: Outcome) -> None:
        if "no longer this worker's" not in outcome.message:
            for entry in tasks:
                context.note("end", entry.task_id, outcome.status)
        if outcome.outcome == "failed":
            context.note("exception", "task", outcome.message, "")

    transitions.claim = claim
    try:
        name, due = (
            run.parameters["template"],
            datetime.fromisoformat(run.parameters["due"]),
        )
        lost = lambda: os._exit(0)  # noqa: E731
        ended = execute_batch(
            context.app, name, due, this, clock.now, lost=lost, told=told
        )
    finally:
        transitions.claim = real
    keep_table(context.app, context.api, run.id, ended)
    kind = "FAILED" if ended.failed else "COMPLETED" if ended.done else "CANCELLED"
    if kind == "CANCELLED":
        context.api.mark(run.id, "skipped")
    context.api.set_state(run.id, kind, message=str(ended), force=True)


def executor(
    context: Context,
    ids: list[str],
    part: int = 0,
    of: int = 1,
    point: str | None = None,
    nth: int = 1,
) -> None:
    """A worker that takes up its share of what is due, to be killed at a failpoint."""
    if point:
        failpoints.arm(point, nth, context.api)
    for run in due_runs(context.api, ids, clock.now()):
        if int(run.id[:8], 16) % of == part:
            one_run(context, run)


def end(context: Context, tasks: list[str]) -> None:
    """Forced ends through the facade; what was confirmed goes into the journal."""
    service = TaskSvc(context.app, context.api)
    for task in tasks:
        try:
            said = service.forcedEnd(task)
        except PrefectApiError as error:
            context.note("refused", "forcedEnd", str(error)[:300])
            continue
        context.note("forced", task, said["changed"], time.monotonic_ns())


Op = dict[str, Any]


def saves(context: Context, ops: list[Op]) -> None:
    """Changes through the ORM: the hooks act, and the background thread hands over meanwhile."""
    background_handover.PrefectApi = lambda url: context.api  # type: ignore[attr-defined]
    background_handover.address = lambda home: None  # type: ignore[attr-defined]
    app = context.app
    item = app.getElement("models.Item")
    for number, op in enumerate(ops):
        begin = time.monotonic_ns()
        with Session(app.engine()) as session:
            if op["way"] == "bulk":
                session.execute(
                    update(item)
                    .where(item.id.in_([key for key, _ in op["rows"]]))
                    .values(**op["values"])
                )
            for key, values in op["rows"] if op["way"] != "bulk" else []:
                _save(session, item, key, values, op["way"])
            if op["way"] != "rollback":
                session.commit()
        context.note("saved", number, begin, time.monotonic_ns())
    if hooks._nudges:
        time.sleep(0.05 * (len(ops) % 3))  # the thread is cut off where it stands


def _save(
    session: Session, item: Any, key: int, values: dict[str, Any] | None, way: str
) -> None:
    row = session.get(item, key)
    if values is None:
        session.delete(row)
        return
    if row is None:
        session.add(item(id=key, **values))
        return
    if way == "savepoint":  # another date, flushed and taken back, before the right one
        with session.begin_nested() as nested:
            row.at = datetime(2037, 3, 16, 8, 0, 0, key)
            session.flush()
            nested.rollback()
    if way == "flushes" and "at" in values:
        row.at = datetime(2037, 3, 16, 8, 0, 0, key)
        session.flush()
    for name, value in values.items():
        setattr(row, name, value)
    session.flush()


def raw(engine: Any, key: int, values: dict[str, Any] | None) -> tuple[int, int]:
    """A statement that no hook sees; between which moments it was committed."""
    begin = time.monotonic_ns()
    with engine.begin() as connection:
        if values is None:
            connection.execute(text("DELETE FROM item WHERE id = :id"), {"id": key})
        else:
            change, insert = _statements(values)
            if not connection.execute(change, {**values, "id": key}).rowcount:
                connection.execute(
                    insert,
                    {"status": "open", "at": None, "note": "", **values, "id": key},
                )
    return begin, time.monotonic_ns()


def _statements(values: dict[str, Any]) -> tuple[Any, Any]:
    def typed(statement: str, names: list[str]) -> Any:
        made = text(statement)
        return (
            made.bindparams(bindparam("at", type_=DateTime()))
            if "at" in names
            else made
        )

    sets = ", ".join(f"{name} = :{name}" for name in values)
    into = "INSERT INTO item (id, kind, status, at, note) VALUES (:id, :kind, :status, :at, :note)"
    return typed(f"UPDATE item SET {sets} WHERE id = :id", list(values)), typed(
        into, ["at"]
    )
