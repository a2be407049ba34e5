"""Ledger → Prefect: a flow run says of its tasks what the ledger says, which is the truth for what ran.

A process commits a task's end first, and tells Prefect then. Killed in between it leaves a run that is Running for
ever, or that its worker reports as Crashed; a Cancel that comes in between leaves a Cancelled one. Each sync looks at
the runs that are Running, and at those that ended otherwise than Completed since the sync before.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select

from jittask_prefect.elements.app import App
from jittask_prefect.errors import PrefectApiError
from jittask_prefect.ledger import state_table
from jittask_prefect.ledger.ending import by_itself
from jittask_prefect.ledger.ending import since as since_of
from jittask_prefect.ledger.entry import Entry, to_entry
from jittask_prefect.ledger.tables import OPEN, entries
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.client import PAGE, Api
from jittask_prefect.rows.handover import deployments_of
from jittask_prefect.rows.plan import Report

PATIENCE = timedelta(
    seconds=30
)  # what a living process may take from its commit until Prefect has heard of it
OVERLAP, FIRST = (
    timedelta(minutes=2),
    timedelta(hours=1),
)  # before the last look; where there was none
AGREED = "agreed"  # name in jittask_state: until when ended runs were looked at


@dataclass(frozen=True)
class Verdict:
    """The state that a run is to have.

    Attributes:
        kind: Its type.
        also: Types that say the same.
        message: What it is to say.
        name: Its name, where that is not its type's.
        own: Why the ledger ended its tasks by itself, for the run's label.
    """

    kind: str
    also: tuple[str, ...]
    message: str
    name: str | None = None
    own: str | None = None


def verdict(tasks: Sequence[Entry]) -> Verdict | None:
    """What a run is to say, by the tasks that it was the last to execute; None while one of them is open."""
    if not tasks or any(task.status in OPEN for task in tasks):
        return None
    number = Counter(task.status for task in tasks)
    batch, one = any(task.batch is not None for task in tasks), tasks[0]
    said = f"{len(tasks)} rows: " + ", ".join(
        f"{count} {status}" for status, count in sorted(number.items())
    )
    message = said if batch else one.message
    if number["error"]:
        died, timeout = (
            all(t.outcome == how for t in tasks if t.status == "error")
            for how in ("died", "timeout")
        )
        name = "TimedOut" if timeout and not batch else None
        return Verdict(
            "CRASHED" if died else "FAILED", ("CRASHED", "FAILED"), message, name
        )
    if number["completed"]:
        return Verdict("COMPLETED", (), message if batch else _result(one))
    own = None if any(task.outcome == "forced" for task in tasks) else str(one.outcome)
    return Verdict("CANCELLED", ("COMPLETED",) if batch else (), message, None, own)


def _result(task: Entry) -> str:
    return (
        ""
        if task.result is None
        else json.dumps(json.loads(task.result), ensure_ascii=False)[:1000]
    )


def agree(app: App, api: Api, now: datetime, report: Report) -> None:
    """Set the runs right whose state is not what the ledger says of their tasks.

    Args:
        app: The app.
        api: Prefect.
        now: The present instant.
        report: Says which databases are down; takes what Prefect refused.

    Raises:
        PrefectApiError: Prefect cannot be reached.
    """
    with app.engine().connect() as connection:
        last = state_table.get(connection, app.name, AGREED)
    since = datetime.fromisoformat(last) - OVERLAP if last else now - FIRST
    ours = deployments_of(app, app.names("tasks"))
    at_work = {"state": {"type": {"any_": ["RUNNING"]}}}
    ended = {
        "state": {"type": {"any_": ["CRASHED", "CANCELLED", "FAILED"]}},
        "start_time": {"is_null_": False},
        "end_time": {"after_": since.isoformat()},
    }
    found = api.runs(
        limit=PAGE, sort="EXPECTED_START_TIME_ASC", deployments=ours, flow_runs=at_work
    )
    found += api.runs(deployments=ours, flow_runs=ended)
    tasks = _tasks(app, [run.id for run in found], report)
    for run in found:
        of = tasks.get(run.id, [])
        right = verdict(of)
        if (
            right is None
            or _handed_on(run)
            or run.state_type in (right.kind, *right.also)
        ):
            continue
        # A run that somebody tries again is Running for a moment before the task is claimed.
        if now - max(since_of(run), *(task.finished or now for task in of)) > PATIENCE:
            _set(api, run, right, report)
    with app.engine().begin() as connection:
        state_table.put(connection, app.name, AGREED, now.isoformat())


def _tasks(app: App, runs: Sequence[str], report: Report) -> Mapping[str, list[Entry]]:
    """The tasks of some runs, by run."""
    found: dict[str, list[Entry]] = defaultdict(list)
    for database in app.databases() if runs else ():
        if database in report.down:
            continue
        for start in range(0, len(runs), PAGE):
            query = select(entries).where(
                entries.c.flow_run_id.in_(runs[start : start + PAGE])
            )
            with app.engine(database).connect() as connection:
                for record in connection.execute(query):
                    found[record.flow_run_id].append(to_entry(record))
    return found


def _handed_on(run: FlowRun) -> bool:
    """Whether it is a batch that died, and whose other rows went on in another run: it stays Crashed."""
    return run.state_type == "CRASHED" and by_itself(run)


def _set(api: Api, run: FlowRun, right: Verdict, report: Report) -> None:
    try:
        if right.own is not None:
            api.mark(run.id, right.own)
        api.set_state(
            run.id, right.kind, name=right.name, message=right.message, force=True
        )
    except PrefectApiError as error:
        api.ping()  # raises where it is not this run that is refused
        report.problems.append(f"run {run.name}: {error}")
