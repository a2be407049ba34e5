"""For tests of your own tasks: an app in a temporary folder, and a Prefect in memory.

app = build_app(tmp_path, {"tasks/Daily": {"e.json": {...}, "inner.py": "def customFunc(): return 1"}})
prefect = FakePrefect()
deploy(app, prefect)        # from here on the app's Prefect, also of app.getElement("services.TaskSvc")
with at(now): ...           # save rows here: the hooks ask the clock
prefect.sync(app, now)      # rows → flow runs, as the sync does every minute
prefect.run_due(app, now)   # due runs are executed, here and now, as by a worker
"""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter

from jittask_prefect.deploying import deploy as deploying
from jittask_prefect.elements.app import use_app
from jittask_prefect.errors import PrefectApiError
from jittask_prefect.ledger import lease_time
from jittask_prefect.prefect_api.answers import (
    OWN,
    TERMINAL,
    FlowRun,
    LogLine,
    ServerDeployment,
    WorkQueue,
    flow_run,
)
from jittask_prefect.rows import sync
from jittask_prefect.rows.background_handover import leave
from jittask_prefect.rows.databases import upgrade
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

_read_deployment = TypeAdapter(ServerDeployment).validate_python
Element = Mapping[str, str | Mapping[str, Any]]


def build_app(
    folder: Path,
    elements: Mapping[str, Element] | None = None,
    *,
    modules: Sequence[str | ModuleType] = (),
    ready: bool = True,
    **app_json: Any,
) -> App:
    """Write an app folder and load it.

    Args:
        folder: The app folder; made where missing.
        elements: `{"tasks/Daily": {"e.json": {…}, "inner.py": "…"}}`; JSON may be given as text, too.
        modules: Modules whose decorated functions are tasks, and whose mapped classes are models.
        ready: Make the tables of the ledger and of the models.
        app_json: Keys of app.json that differ from a plain app in UTC on SQLite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain: dict[str, Any] = {"name": "test", "timezone": "UTC"}
    plain["database"] = "sqlite:///test.db"
    if modules:
        names = [m if isinstance(m, str) else m.__name__ for m in modules]
        plain["modules"] = names

    (folder / "app.json").write_text(
        json.dumps({**plain, **app_json}), encoding="utf-8"
    )
    for place, files in (elements or {}).items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            text = content
            if not isinstance(content, str):
                text = json.dumps(content, ensure_ascii=False)

            (folder / place / name).write_text(str(text), encoding="utf-8")

    app = App(folder)
    if ready:
        upgrade(app, models=True)

    return app


@contextmanager
def at(now: datetime) -> Iterator[datetime]:
    """Let the clock stand still: all code that asks for the time, the model hooks too, gets this instant."""
    real, clock.now = clock.now, lambda: now
    try:
        yield now
    finally:
        clock.now = real


def deploy(
    app: App, api: FakePrefect, now: datetime | None = None
) -> deploying.Deployed:
    """Compile an app and deploy all its tasks to a fake, which is the app's Prefect from then on."""
    api.serve(app)
    return deploying.deploy(app, api, now or clock.now())


class FakePrefect:
    """Prefect in memory: deployments, flow runs and their states, without schedules' own runs.

    Attributes:
        down: While true, every call fails as if no server answered.
        calls: The names of the calls made, in order.
        all_workers: How many workers each pool has.
        all_deployments: The deployments by name; of a second flow with a deployment of that name, by `FLOW/NAME`.
    """

    url = "memory://prefect/api"
    ui_url = "memory://prefect"

    def __init__(self) -> None:
        lease_time.use_clock_of_caller()  # time is an argument here
        self.down = False
        self.calls: list[str] = []
        self.all_deployments: dict[str, dict[str, Any]] = {}
        self.all_runs: dict[str, dict[str, Any]] = {}
        self.pools: dict[str, str] = {}
        self.all_queues: dict[str, dict[str, str]] = {}
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.pages: dict[str, str] = {}
        self.variables: dict[str, Any] = {}
        self.summaries: dict[str, str] = {}
        self.all_workers = 1
        self._by_key: dict[tuple[str, str], str] = {}
        self._count = itertools.count()

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.down:
            raise PrefectApiError(
                f"{name}: no answer from the Prefect server at {self.url}"
            )

    def ping(self) -> None:
        self._called("ping")

    def ensure_pool(self, name: str, kind: str) -> str:
        self._called("ensure_pool")
        self.pools[name] = kind
        return kind

    def ensure_queue(self, pool: str, name: str, *, first: bool) -> None:
        self._called("ensure_queue")
        self.all_queues.setdefault(pool, {}).setdefault(name, "NOT_READY")

    def queues(self, pool: str) -> list[WorkQueue]:
        self._called("queues")
        there = self.all_queues.get(pool, {}).items()
        return [WorkQueue(name, n, status) for n, (name, status) in enumerate(there, 1)]

    def workers(self, pool: str) -> int:
        self._called("workers")
        return self.all_workers

    def pool_kind(self, name: str) -> str | None:
        self._called("pool_kind")
        return self.pools.get(name)

    def deployments(self, tag: str) -> dict[str, ServerDeployment]:
        self._called("deployments")
        return {
            content["name"]: _deployment(content)
            for content in self.all_deployments.values()
            if tag in content["tags"]
        }

    def of_flows(self, names: Sequence[str]) -> dict[str, ServerDeployment]:
        self._called("of_flows")
        return {
            content["name"]: _deployment(content)
            for content in self.all_deployments.values()
            if content["flow"] in names
        }

    def make_deployment(self, flow: str, body: Mapping[str, Any]) -> str:
        self._called("make_deployment")
        key = body["name"]
        if self.all_deployments.get(key, {}).get("flow", flow) != flow:
            key = f"{flow}/{key}"
        made = self.all_deployments.get(key, {}).get("id") or str(uuid.uuid4())
        self.all_deployments[key] = {**body, "flow": flow, "id": made}
        return str(made)

    def flow_name(self, flow_id: str) -> str | None:
        self._called("flow_name")
        return flow_id

    def delete_deployment(self, deployment_id: str) -> None:
        self._called("delete_deployment")
        self.all_deployments = {
            n: d for n, d in self.all_deployments.items() if d["id"] != deployment_id
        }
        for run_id in [
            i for i, r in self.all_runs.items() if r["deployment_id"] == deployment_id
        ]:
            self.delete_run(run_id)

    def change_deployment(self, deployment_id: str, body: Mapping[str, Any]) -> None:
        self._called("change_deployment")
        found = next(
            (d for d in self.all_deployments.values() if d["id"] == deployment_id), None
        )
        if found is None:
            raise PrefectApiError(f"there is no deployment {deployment_id}")

        slots = {slot["slug"]: slot for slot in found["schedules"]} | {
            s["slug"]: s for s in body.get("schedules", [])
        }
        found |= {**body, "schedules": list(slots.values())}

    def change_schedule(
        self, deployment_id: str, schedule_id: str, body: Mapping[str, Any]
    ) -> None:
        self._called("change_schedule")
        for found in self.all_deployments.values():
            found["schedules"] = [
                s | body if s.get("id") == schedule_id else s
                for s in found["schedules"]
            ]

    def fill_schedule(
        self, deployment_id: str, start: datetime, until: datetime | None = None
    ) -> None:
        self._called("fill_schedule")

    def create_run(
        self,
        deployment_id: str,
        *,
        key: str,
        name: str,
        due: datetime,
        tags: Sequence[str],
        parameters: Mapping[str, Any],
    ) -> FlowRun:
        self._called("create_run")
        deployment = next(
            (d for d in self.all_deployments.values() if d["id"] == deployment_id), None
        )
        if deployment is None:
            raise PrefectApiError(f"there is no deployment {deployment_id}")

        flow = deployment["flow"]
        if (flow, key) in self._by_key:
            return flow_run(self.all_runs[self._by_key[flow, key]])

        run: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "name": name,
            "deployment_id": deployment_id,
            "work_pool_name": deployment.get("work_pool_name"),
            "idempotency_key": key,
            "tags": [*deployment["tags"], *tags],
            "parameters": dict(parameters),
            "expected_start_time": due.astimezone(UTC).isoformat(),
            "start_time": None,
            "end_time": None,
            "number": next(self._count),
        }
        self._by_key[flow, key] = run["id"]
        self.all_runs[run["id"]] = run
        self._state(run, "SCHEDULED")
        return flow_run(run)

    def run(self, run_id: str) -> FlowRun | None:
        self._called("run")
        run = self.all_runs.get(run_id)
        return None if run is None else flow_run(run)

    def runs(
        self,
        *,
        limit: int | None = None,
        offset: int = 0,
        sort: str = "EXPECTED_START_TIME_DESC",
        **filters: Any,
    ) -> list[FlowRun]:
        self._called("runs")
        found = self._chosen(**filters)
        found.sort(
            key=lambda r: r["expected_start_time"], reverse=sort.endswith("DESC")
        )
        return [flow_run(run) for run in found[offset:][:limit]]

    def count_runs(self, **filters: Any) -> int:
        self._called("count_runs")
        return len(self._chosen(**filters))

    def _chosen(self, **filters: Any) -> list[dict[str, Any]]:
        which = filters.get("deployments", {})
        names, tags = (
            which.get("name", {}).get("any_"),
            set(which.get("tags", {}).get("all_", ())),
        )
        all_ = self.all_deployments.values()
        of = {
            d["id"]
            for d in all_
            if names is None or (d["name"] in names and tags <= set(d["tags"]))
        }
        runs = [
            r
            for r in self.all_runs.values()
            if names is None or r["deployment_id"] in of
        ]
        return [r for r in runs if _matches(r, filters.get("flow_runs", {}))]

    def set_state(
        self,
        run_id: str,
        kind: str,
        *,
        name: str | None = None,
        message: str = "",
        force: bool = False,
    ) -> str:
        self._called("set_state")
        run = self.all_runs.get(run_id)
        if run is None:
            return "MISSING"
        retry = kind == "SCHEDULED" and name == "AwaitingRetry"
        if run["state_type"] in TERMINAL and not (force or retry):
            return str(run["state_type"])

        # As the server does: what no process has begun is cancelled at once.
        at_once = kind == "CANCELLING" and run["state_type"] == "SCHEDULED"
        self._state(run, "CANCELLED" if at_once else kind, name, message)
        return str(run["state_type"])

    def name_run(self, run_id: str, name: str) -> None:
        self._called("name_run")
        if (run := self.all_runs.get(run_id)) is not None:
            run["name"] = name

    def mark(self, run_id: str, why: str) -> None:
        self._called("mark")
        if (run := self.all_runs.get(run_id)) is not None:
            run["labels"] = {**run.get("labels", {}), OWN: why}

    def logs(self, run_id: str) -> list[LogLine]:
        self._called("logs")
        return []

    def task_runs(self, run_id: str) -> dict[str, str]:
        self._called("task_runs")
        return {}

    def variable(self, name: str) -> Any:
        self._called("variable")
        return self.variables.get(name)

    def set_variable(self, name: str, value: Any) -> None:
        self._called("set_variable")
        self.variables[name] = value

    def put_table(
        self, run_id: str, key: str, rows: Sequence[Mapping[str, Any]], description: str
    ) -> None:
        self._called("put_table")
        self.tables[run_id] = [*self.tables.get(run_id, []), *map(dict, rows)]

    def table(self, run_id: str) -> list[dict[str, Any]]:
        self._called("table")
        return self.tables.get(run_id, [])

    def put_markdown(
        self,
        key: str,
        text: str,
        description: str,
        known: str | None = None,
        run_id: str | None = None,
    ) -> str:
        self._called("put_markdown")
        self.pages[key], self.summaries[key] = text, description
        return known or str(uuid.uuid5(uuid.NAMESPACE_OID, key))

    def drop_artifact(self, artifact_id: str) -> None:
        self._called("drop_artifact")
        self.pages = {
            k: t
            for k, t in self.pages.items()
            if str(uuid.uuid5(uuid.NAMESPACE_OID, k)) != artifact_id
        }

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

    def delete_run(self, run_id: str) -> None:
        """Delete a flow run, as somebody may do in the UI."""
        run = self.all_runs.pop(run_id)
        self._by_key = {k: i for k, i in self._by_key.items() if i != run["id"]}

    def _state(
        self, run: dict[str, Any], kind: str, name: str | None = None, message: str = ""
    ) -> None:
        run["end_time"] = clock.now().isoformat() if kind in TERMINAL else None
        run |= {
            "state_type": kind,
            "state_name": name or kind.title(),
            "state": {
                "type": kind,
                "name": name or kind.title(),
                "message": message,
            },
        }

    def due(self, now: datetime) -> Iterator[dict[str, Any]]:
        """The runs that a worker would take up at an instant, in the order of their due times."""
        waiting = [r for r in self.all_runs.values() if r["state_type"] == "SCHEDULED"]
        for run in sorted(
            waiting, key=lambda r: (r["expected_start_time"], r["number"])
        ):
            if datetime.fromisoformat(run["expected_start_time"]) <= now:
                yield run

    def run_due(self, app: App, now: datetime) -> list[Outcome]:
        """Execute due runs, here and now, as a worker would."""
        outcomes = []
        for run in list(self.due(now)):
            this = Run(run["id"], datetime.fromisoformat(run["expected_start_time"]))
            self._state(run, "RUNNING")
            run["start_time"] = now.isoformat()
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


def _deployment(content: Mapping[str, Any]) -> ServerDeployment:
    """A deployment as the server's answer: a schedule has an id, here its slug."""
    schedules = [{"id": s["slug"], **s} for s in content.get("schedules", [])]
    return _read_deployment({**content, "schedules": schedules})


def _ended(run: Mapping[str, Any]) -> datetime:
    return (
        datetime.fromisoformat(run["end_time"])
        if run["end_time"]
        else datetime.min.replace(tzinfo=UTC)
    )


def _matches(run: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    due = datetime.fromisoformat(run["expected_start_time"])
    window = wanted.get("expected_start_time", {})
    begun = wanted.get("start_time", {}).get("is_null_")
    after = wanted.get("end_time", {}).get("after_")
    return (
        run["id"] in wanted.get("id", {}).get("any_", [run["id"]])
        and run["idempotency_key"]
        in wanted.get("idempotency_key", {}).get("any_", [run["idempotency_key"]])
        and run["deployment_id"]
        in wanted.get("deployment_id", {}).get("any_", [run["deployment_id"]])
        and run["state_type"]
        in wanted.get("state", {}).get("type", {}).get("any_", [run["state_type"]])
        and begun in (None, run["start_time"] is None)
        and (after is None or _ended(run) >= datetime.fromisoformat(after))
        and ("after_" not in window or due >= datetime.fromisoformat(window["after_"]))
        and (
            "before_" not in window or due <= datetime.fromisoformat(window["before_"])
        )
    )
