"""The Prefect in memory, with its worker and its sync."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from jittask_prefect.deploying import deploy as deploying
from jittask_prefect.elements.app import use_app
from jittask_prefect.ledger import lease_time
from jittask_prefect.rows import sync
from jittask_prefect.rows.background_handover import leave
from jittask_prefect.rows.plan import Report
from jittask_prefect.running.outcome import Outcome, Run, keep_table, label_of
from jittask_prefect.running.request import REFUSALS, Request, request_of
from jittask_prefect.running.run import (
    execute,
    execute_batch,
)
from jittask_prefect.schedule import clock
from jittask_prefect.task_svc.service import TaskSvc
from jittask_prefect.task_svc.wiring import App
from jittask_prefect.testing.fake_pages import FakePages
from jittask_prefect.testing.fake_runs import FakeRuns


def deploy(
    app: App, api: FakePrefect, now: datetime | None = None
) -> deploying.Deployed:
    """Deploy all tasks of an app to a fake, which is the app's Prefect from then on; no file is written."""
    api.serve(app)
    return deploying.deploy(app, api, now or clock.now(), write=False)


class FakePrefect(FakeRuns, FakePages):
    """Prefect in memory: deployments, flow runs and their states, without schedules' own runs.

    Attributes:
        down: While true, every call fails as if no server answered.
        calls: The names of the calls made, in order.
        all_workers: How many workers each pool has.
        all_deployments: The deployments by name; of a second flow with a deployment of that name, by `FLOW/NAME`.
    """

    def __init__(self) -> None:
        lease_time.use_clock_of_caller()  # time is an argument here
        super().__init__()

    def serve(self, app: App) -> None:
        """Become the Prefect of the app's task service, and make the app that of `current_app`."""
        use_app(app)
        leave(app)
        service = app.getElement("services.TaskSvc")
        if isinstance(service, TaskSvc):
            service.connect(self)

    def sync(self, app: App, now: datetime, since: datetime | None = None) -> Report:
        """Bring rows and flow runs together once, as the flow `jittask.sync` does every minute."""
        report = sync.run(app, self, now, "test", since=since, clock=lambda: now)
        assert report is not None, "another sync holds the lease"
        return report

    def run_due(self, app: App, now: datetime) -> list[Outcome]:
        """Execute due runs, here and now, as a worker would."""
        outcomes = []
        for run in list(self.due(now)):
            due, begun = run["expected_start_time"], run["start_time"]
            began = datetime.fromisoformat(begun) if begun else None
            this = Run(run["id"], datetime.fromisoformat(due), begun=began)
            self._state(run, "RUNNING")
            outcomes += self._execute(app, run, this, now)
            run["end_time"] = now.isoformat()

        return outcomes

    def _execute(
        self, app: App, run: dict[str, Any], this: Run, now: datetime
    ) -> list[Outcome]:
        parameters = run["parameters"]
        try:
            of = request_of(
                app, *map(parameters.get, ("template", "taskId", "due", "row"))
            )
            return self._do(app, run, of, this, now)
        except REFUSALS as error:
            self.mark(run["id"], "refused")
            self._state(run, "FAILED", None, f"not run: {error}")
            return []

    def _do(
        self, app: App, run: dict[str, Any], of: Request, this: Run, now: datetime
    ) -> list[Outcome]:
        name = str(run["parameters"]["template"])
        if of.due is not None:
            ended = execute_batch(app, name, of.due, this, lambda: now)
            keep_table(app, self, run["id"], ended)
            kind = (
                "FAILED" if ended.failed else "COMPLETED" if ended.done else "CANCELLED"
            )
            if kind == "CANCELLED":
                self.mark(run["id"], "broken" if ended.broken else "skipped")

            self._state(run, kind, None, str(ended))
            return [outcome for _, outcome in ended.tasks]

        outcome = execute(app, name, of.task_id, this, lambda: now, row=of.row)
        kind = {"completed": "COMPLETED", "error": "FAILED", "ended": "CANCELLED"}[
            outcome.status
        ]
        if why := label_of(outcome):
            self.mark(run["id"], why)

        self._state(run, kind, None, outcome.message)
        return [outcome]
