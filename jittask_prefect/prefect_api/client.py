"""The client of a Prefect server: every call that this package makes outside `warm/`, without importing Prefect."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from jittask_prefect.errors import PrefectApiError
from jittask_prefect.prefect_api.answers import (
    OWN,
    Block,
    FlowRun,
    LogLine,
    Made,
    NamedFlow,
    ServerDeployment,
    StateChange,
    Table,
    TaskRun,
    Variable,
    Worker,
    WorkPool,
    WorkQueue,
)
from jittask_prefect.prefect_api.api import PAGE
from jittask_prefect.prefect_api.connection import TIMEOUT, Connection, NotFound
from jittask_prefect.prefect_api.job_templates import template_of_kind
from jittask_prefect.prefect_api.settings import client_settings

PING_TIMEOUT = 5.0
RUN_LOGGER = "prefect.flow_runs"
EARLIEST = datetime.min.replace(tzinfo=UTC)
T = TypeVar("T")


class PrefectApi:
    """The API of a Prefect server; `api.Api` describes the calls.

    Args:
        url: The API's address; absent, the address in Prefect's settings (`PREFECT_API_URL`, profile).

    Raises:
        PrefectApiError: No address is known, or Prefect's settings cannot be read.
    """

    def __init__(self, url: str | None = None) -> None:
        settings = client_settings()
        known = url or settings.url
        if not known:
            raise PrefectApiError(
                "no Prefect server is known: set PREFECT_API_URL, or start one with `jittask up` in the app folder"
            )
        self.url = known.rstrip("/")
        self.ui_url = settings.ui_url_of(self.url)
        try:
            self._connection = Connection(self.url, settings)
        except (OSError, ValueError, httpx.InvalidURL) as error:
            raise PrefectApiError(
                f"Prefect's settings for {self.url} are refused: {error}"
            ) from error

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Make a request for which this class has no method; the answer is its JSON."""
        return self._connection.call(method, path, object, body=body)

    def _if_there(
        self,
        method: str,
        path: str,
        kind: type[T],
        body: Mapping[str, Any] | None = None,
    ) -> T | None:
        """The answer to a request; None where the object does not exist."""
        try:
            return self._connection.call(method, path, kind, body=body)
        except NotFound:
            return None

    def _filter(self, path: str, kind: type[T], body: Mapping[str, Any]) -> list[T]:
        return self._connection.call("POST", f"{path}/filter", list[kind], body=body)  # type: ignore[valid-type]

    def _pages(
        self,
        path: str,
        kind: type[T],
        body: Mapping[str, Any],
        limit: int | None = None,
        offset: int = 0,
    ) -> list[T]:
        """The objects of a filter, page by page; all of them where `limit` is absent."""
        found: list[T] = []
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            place = {"limit": size, "offset": offset + len(found)}
            page = self._filter(path, kind, {**body, **place})
            found += page
            if len(page) < size:
                break
        return found

    def _make(self, path: str, body: Mapping[str, Any]) -> str:
        """Make an object; its id."""
        return self._connection.call("POST", path, Made, body=body).id

    def ping(self) -> None:
        self._connection.call("GET", "/health", object, timeout=PING_TIMEOUT)

    # Work pools

    def ensure_pool(self, name: str, kind: str) -> str:
        if (there := self.pool_kind(name)) is not None:
            return there
        template = template_of_kind(kind)
        body = {"name": name, "type": kind, "base_job_template": template}
        try:
            self.call("POST", "/work_pools/", body)
        except PrefectApiError:
            # Another process may have been faster: the server answers 409.
            if (there := self.pool_kind(name)) is None:
                raise
            return there
        return kind

    def ensure_queue(self, pool: str, name: str, *, first: bool) -> None:
        queues = _queues_path(pool)
        there = self._filter(queues, WorkQueue, {"limit": PAGE})
        there.sort(key=lambda queue: queue.priority)
        names = [queue.name for queue in there]
        priority = {"priority": 1} if first else {}
        if name not in names:
            self.call("POST", queues, {"name": name, **priority})
        if not first or name not in names:
            return
        kind = name.rpartition(".")[2]
        before = names[: names.index(name)]
        if any(other.rpartition(".")[2] != kind for other in before):
            self.call("PATCH", f"{queues}/{quote(name, safe='')}", priority)

    def queues(self, pool: str) -> list[WorkQueue]:
        try:
            return self._filter(_queues_path(pool), WorkQueue, {"limit": PAGE})
        except NotFound:
            return []

    def workers(self, pool: str) -> int:
        path = f"/work_pools/{quote(pool, safe='')}/workers"
        try:
            found = self._filter(path, Worker, {"limit": PAGE})
        except NotFound:
            return 0
        return sum(worker.status == "ONLINE" for worker in found)

    def pool_kind(self, name: str) -> str | None:
        pool = self._if_there("GET", f"/work_pools/{quote(name, safe='')}", WorkPool)
        return pool.type if pool else None

    # Deployments

    def deployments(self, tag: str) -> dict[str, ServerDeployment]:
        return self._deployments(deployments={"tags": {"all_": [tag]}})

    def of_flows(self, names: Sequence[str]) -> dict[str, ServerDeployment]:
        return self._deployments(flows={"name": {"any_": list(names)}})

    def _deployments(self, **where: Mapping[str, Any]) -> dict[str, ServerDeployment]:
        found: list[ServerDeployment] = []
        page = None
        while page is None or len(page) == PAGE:
            body = {**where, "limit": PAGE, "offset": len(found)}
            page = self._filter("/deployments", ServerDeployment, body)
            found += page
        # A name stands for a deployment of each flow; the youngest counts.
        found.sort(key=lambda deployment: deployment.created or EARLIEST)
        return {deployment.name: deployment for deployment in found}

    def make_deployment(self, flow: str, body: Mapping[str, Any]) -> str:
        flow_id = self._make("/flows/", {"name": flow})
        return self._make("/deployments/", {**body, "flow_id": flow_id})

    def change_deployment(self, deployment_id: str, body: Mapping[str, Any]) -> None:
        self.call("PATCH", f"/deployments/{deployment_id}", body)

    def delete_deployment(self, deployment_id: str) -> None:
        self._if_there("DELETE", f"/deployments/{deployment_id}", object)

    def change_schedule(
        self, deployment_id: str, schedule_id: str, body: Mapping[str, Any]
    ) -> None:
        path = f"/deployments/{deployment_id}/schedules/{schedule_id}"
        self._if_there("PATCH", path, object, body)

    def fill_schedule(
        self, deployment_id: str, start: datetime, until: datetime | None = None
    ) -> None:
        body: dict[str, Any] = {"start_time": start.isoformat()}
        if until is not None:
            # The server stops at the third run once `min_time` has passed (models/deployments.py).
            seconds = (until - start).total_seconds() + 3600
            body |= {"min_time": seconds, "max_runs": 1000}
        path = f"/deployments/{deployment_id}/schedule"
        self._connection.call("POST", path, object, body=body, timeout=2 * TIMEOUT)

    def flow_name(self, flow_id: str) -> str | None:
        found = self._if_there("GET", f"/flows/{flow_id}", NamedFlow)
        return found.name if found else None

    # Flow runs

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
        body = {
            "name": name,
            "idempotency_key": key,
            "tags": list(tags),
            "parameters": dict(parameters),
            "state": {
                "type": "SCHEDULED",
                "state_details": {"scheduled_time": due.isoformat()},
            },
            # The check costs more than the run itself, and the parameters are ours.
            "enforce_parameter_schema": False,
        }
        path = f"/deployments/{deployment_id}/create_flow_run"
        return self._connection.call("POST", path, FlowRun, body=body)

    def run(self, run_id: str) -> FlowRun | None:
        return self._if_there("GET", f"/flow_runs/{run_id}", FlowRun)

    def runs(
        self,
        *,
        limit: int | None = None,
        offset: int = 0,
        sort: str = "EXPECTED_START_TIME_DESC",
        **filters: Any,
    ) -> list[FlowRun]:
        asked = {**filters, "sort": sort}
        return self._pages("/flow_runs", FlowRun, asked, limit, offset)

    def count_runs(self, **filters: Any) -> int:
        return self._connection.call("POST", "/flow_runs/count", int, body=filters)

    def delete_run(self, run_id: str) -> None:
        self._if_there("DELETE", f"/flow_runs/{run_id}", object)

    def set_state(
        self,
        run_id: str,
        kind: str,
        *,
        name: str | None = None,
        message: str = "",
        force: bool = False,
    ) -> str:
        state = {"type": kind, "name": name, "message": message}
        path, body = (
            f"/flow_runs/{run_id}/set_state",
            {"state": state, "force": force},
        )
        change = self._if_there("POST", path, StateChange, body)
        if change and change.status == "ACCEPT" and change.state:
            return change.state.type
        run = self.run(run_id)
        if run is None:
            return "MISSING"
        asked = (kind, run.state.type)
        if asked == ("CANCELLING", "CANCELLED") and message and not run.message:
            # Prefect cancels a run that nobody began at once, and drops the reason (`core_policy.py`,
            # BypassCancellingFlowRunsWithNoInfra): the same state once more, with the reason.
            return self.set_state(run_id, "CANCELLED", message=message, force=True)
        return run.state.type

    def name_run(self, run_id: str, name: str) -> None:
        self._if_there("PATCH", f"/flow_runs/{run_id}", object, {"name": name})

    def mark(self, run_id: str, why: str) -> None:
        self._if_there("PATCH", f"/flow_runs/{run_id}/labels", object, {OWN: why})

    def logs(self, run_id: str) -> list[LogLine]:
        of_run = {"flow_run_id": {"any_": [run_id]}}
        body = {"logs": of_run, "limit": PAGE, "sort": "TIMESTAMP_ASC"}
        return self._filter("/logs", LogLine, body)

    def add_logs(self, run_id: str, lines: Sequence[LogLine]) -> None:
        made = [
            {
                "flow_run_id": run_id,
                "name": RUN_LOGGER,
                "level": line.level,
                "message": line.message,
                "timestamp": line.timestamp and line.timestamp.isoformat(),
            }
            for line in lines
        ]
        self.call("POST", "/logs/", made)

    def task_runs(self, run_id: str) -> dict[str, str]:
        of_run = {"flow_runs": {"id": {"any_": [run_id]}}}
        asked = {**of_run, "sort": "EXPECTED_START_TIME_ASC"}
        found = self._pages("/task_runs", TaskRun, asked)
        return {run.id: run.name for run in found}

    # Variables

    def variable(self, name: str) -> Any:
        found = self._if_there("GET", f"/variables/name/{name}", Variable)
        return found.value if found else None

    def set_variable(self, name: str, value: Any) -> None:
        place = f"/variables/name/{name}"
        try:
            self._connection.call("PATCH", place, object, body={"value": value})
        except NotFound:
            self.call("POST", "/variables/", {"name": name, "value": value})

    # Artifacts

    def put_table(
        self, run_id: str, key: str, rows: Sequence[Mapping[str, Any]], description: str
    ) -> None:
        data = json.dumps([dict(row) for row in rows], ensure_ascii=False)
        body = {"key": key, "type": "table", "data": data, "flow_run_id": run_id}
        self.call("POST", "/artifacts/", {**body, "description": description})

    def table(self, run_id: str) -> list[dict[str, Any]]:
        which = {"flow_run_id": {"any_": [run_id]}, "type": {"any_": ["table"]}}
        body = {"artifacts": which, "limit": PAGE, "sort": "CREATED_DESC"}
        tables = self._filter("/artifacts", Table, body)
        return [row for table in reversed(tables) for row in table.data]

    def put_markdown(
        self,
        key: str,
        text: str,
        description: str,
        known: str | None = None,
        run_id: str | None = None,
    ) -> str:
        body = {"data": text, "description": description}
        if known and self._if_there("GET", f"/artifacts/{known}", Made):
            self.call("PATCH", f"/artifacts/{known}", body)
            return known
        body |= {"key": key, "type": "markdown"}
        return self._make("/artifacts/", {**body, "flow_run_id": run_id})

    def drop_artifact(self, artifact_id: str) -> None:
        self._if_there("DELETE", f"/artifacts/{artifact_id}", object)

    # Notices

    def notification_blocks(self) -> dict[str, str]:
        """The ids of the blocks that can notify, by `TYPE/NAME`."""
        capable = {"block_capabilities": {"all_": ["notify"]}}
        body = {"block_schemas": capable, "limit": PAGE}
        blocks = self._filter("/block_documents", Block, body)
        return {f"{block.block_type.slug}/{block.name}": block.id for block in blocks}

    def keep_automation(self, body: Mapping[str, Any]) -> None:
        """Make an automation, or change the automations of its name."""
        there = self._automations(body["name"])
        if not there:
            self.call("POST", "/automations/", body)
        for automation_id in there:
            self.call("PUT", f"/automations/{automation_id}", body)

    def drop_automation(self, name: str) -> bool:
        """Delete the automations of a name; whether there were any."""
        there = self._automations(name)
        for automation_id in there:
            self.call("DELETE", f"/automations/{automation_id}")
        return bool(there)

    def _automations(self, name: str) -> list[str]:
        body = {"automations": {"name": {"any_": [name]}}}
        return [made.id for made in self._filter("/automations", Made, body)]


def _queues_path(pool: str) -> str:
    return f"/work_pools/{quote(pool, safe='')}/queues"


def preload() -> None:
    """Import the part of Prefect that a deploy needs, which takes seconds."""
    from prefect.workers import process  # noqa: F401
