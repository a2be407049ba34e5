"""Failed tasks run again, many at a time, as *Retry* in Prefect's UI does for one flow run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from jittask_prefect.elements.app import App
from jittask_prefect.ledger import retries
from jittask_prefect.ledger.tables import entries
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.api import PAGE, Api
from jittask_prefect.records.ledgers import connections, databases_of

REASON = "Retry by `jittask retry`"


@dataclass(frozen=True)
class Retried:
    """The answer of `retry_failed`: numbers of tasks, and of the flow runs that wait again.

    Attributes:
        tasks: The failed tasks that run again.
        runs: Their flow runs.
        open: Failed tasks whose flow run is at work or waits already.
        lost: Failed tasks whose flow run Prefect has no longer: the next sync makes another one.
        refused: Failed tasks whose flow run Prefect did not let wait again.
    """

    tasks: int = 0
    runs: int = 0
    open: int = 0
    lost: int = 0
    refused: int = 0

    @property
    def done(self) -> str:
        """The tasks that run again, in words."""
        again = "runs" if self.tasks == 1 else "run"
        told = f"{counted(self.tasks, 'failed task')} {again} again, in {counted(self.runs, 'flow run')}."
        if self.lost:
            told += f" {self.lost} more get a new flow run by the next sync: Prefect no longer has theirs."
        return told

    @property
    def left(self) -> list[str]:
        """The tasks that stay as they are, in words."""
        reasons = (
            (self.open, "the flow run is pending or executing already"),
            (self.refused, "Prefect refused the retry of the flow run"),
        )
        return [
            f"{counted(number, 'failed task')} not retried: {why}"
            for number, why in reasons
            if number
        ]


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 flow run`, `2 flow runs`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def retry_failed(
    app: App, api: Api, name: str | None = None, since: datetime | None = None
) -> Retried:
    """Have the flow runs of failed tasks wait again; the claim lets each task run once.

    Args:
        app: The app.
        api: Prefect.
        name: The full name of a template; all templates where absent.
        since: Only flow runs in which a task failed at this instant or later; aware.

    Raises:
        UnknownElement: The app has no such template.
        PrefectApiError: Prefect cannot be reached; the same call may be made again.
    """
    failed = _failed_by_run(app, name, since)
    runs = _runs(api, [run_id for run_id in failed if run_id])
    found = Counter[str]()
    for run_id, tasks in failed.items():
        run = runs.get(run_id)
        if run is None:
            found["lost"] += _wait_for_another(app, name, run_id)
        elif not run.is_final:
            found["open"] += tasks
        elif _wait_again(api, run):
            found["tasks"] += tasks
            found["runs"] += 1
        else:
            found["refused"] += tasks
    return Retried(**found)


def _failed_by_run(
    app: App, name: str | None, since: datetime | None
) -> dict[str | None, int]:
    """The number of failed tasks of each flow run in which a task failed since then.

    A batch runs all its failed rows again, also those that failed earlier.
    """
    c = entries.c
    query = select(c.flow_run_id, func.count()).where(
        c.app == app.name, c.status == "error"
    )
    if name is not None:
        query = query.where(c.template == name)
    query = query.group_by(c.flow_run_id)
    if since is not None:
        query = query.having(func.max(c.finished) >= since)

    found = Counter[str | None]()
    for _, connection in connections(app, _databases(app, name)):
        for run_id, tasks in connection.execute(query):
            found[run_id] += tasks
    return found


def _wait_for_another(app: App, name: str | None, run_id: str | None) -> int:
    """Have the failed tasks of a flow run that is gone wait for another one; how many do."""
    found = 0
    for database in _databases(app, name):
        with app.engine(database).begin() as connection:
            found += retries.retry_lost(connection, app.name, run_id, name)
    return found


def _databases(app: App, name: str | None) -> Sequence[str]:
    return databases_of(app.template(name)) if name else list(app.databases())


def _runs(api: Api, ids: Sequence[str]) -> dict[str | None, FlowRun]:
    """The flow runs that Prefect has, by id."""
    found: dict[str | None, FlowRun] = {}
    for start in range(0, len(ids), PAGE):
        asked = {"id": {"any_": ids[start : start + PAGE]}}
        found |= {run.id: run for run in api.runs(flow_runs=asked)}
    return found


def _wait_again(api: Api, run: FlowRun) -> bool:
    """Have a flow run wait again, as *Retry* in the UI does; whether Prefect took the state."""
    state = api.set_state(run.id, "SCHEDULED", name="AwaitingRetry", message=REASON)
    return state == "SCHEDULED"
