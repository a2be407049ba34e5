"""Failed tasks run again, many at a time, as *Retry* in Prefect's UI does for one flow run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from jittask_prefect.elements.app import App
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
        runs: Their flow runs; a batch runs all its failed rows again.
        open: Failed tasks whose flow run is at work or waits already.
        gone: Failed tasks whose flow run Prefect has no longer; nothing changed for these.
        refused: Failed tasks whose flow run Prefect did not let wait again.
    """

    tasks: int = 0
    runs: int = 0
    open: int = 0
    gone: int = 0
    refused: int = 0


def retry_failed(
    app: App, api: Api, name: str | None = None, since: datetime | None = None
) -> Retried:
    """Have the flow runs of failed tasks wait again; the claim lets each task run once.

    Args:
        app: The app.
        api: Prefect.
        name: The full name of a template; all templates where absent.
        since: Only tasks that failed at this instant or later; aware.

    Raises:
        UnknownElement: The app has no such template.
        PrefectApiError: Prefect cannot be reached; the same call may be made again.
    """
    failed = _failed(app, name, since)
    found = Counter[str]()
    runs = 0

    ids = sorted(run_id for run_id in failed if run_id)
    known: dict[str, FlowRun] = {}
    for start in range(0, len(ids), PAGE):
        asked = {"id": {"any_": ids[start : start + PAGE]}}
        known |= {run.id: run for run in api.runs(flow_runs=asked)}

    for run_id, tasks in failed.items():
        answer = _wait_again(api, known.get(run_id))
        found[answer] += tasks
        runs += answer == "tasks"

    return Retried(found["tasks"], runs, found["open"], found["gone"], found["refused"])


def _failed(app: App, name: str | None, since: datetime | None) -> dict[str, int]:
    """The number of failed tasks by flow run; an empty id for those without."""
    databases = databases_of(app.template(name)) if name else list(app.databases())
    found = Counter[str]()
    for _, connection in connections(app, databases):
        found.update(_failed_runs(connection, app.name, name, since))
    return dict(sorted(found.items()))


def _failed_runs(
    connection: Connection, app: str, name: str | None, since: datetime | None
) -> Counter[str]:
    query = select(entries.c.flow_run_id).where(
        entries.c.app == app, entries.c.status == "error"
    )
    if name is not None:
        query = query.where(entries.c.template == name)
    if since is not None:
        query = query.where(entries.c.finished >= since)
    return Counter(run_id or "" for run_id in connection.execute(query).scalars())


def _wait_again(api: Api, run: FlowRun | None) -> str:
    """The name of the number that a flow run's tasks count for."""
    if run is None:
        return "gone"
    if not run.is_final:
        return "open"
    state = api.set_state(run.id, "SCHEDULED", name="AwaitingRetry", message=REASON)
    return {"SCHEDULED": "tasks", "MISSING": "gone"}.get(state, "refused")
