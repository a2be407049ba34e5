"""Flow runs and their states of the Prefect in memory."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jittask_prefect.errors import PrefectApiError
from jittask_prefect.prefect_api.answers import (
    OWN,
    TERMINAL,
    FlowRun,
    LogLine,
    flow_run,
)
from jittask_prefect.schedule import clock
from jittask_prefect.testing.fake_deployments import FakeDeployments


class FakeRuns(FakeDeployments):
    """Flow runs and their states."""

    def __init__(self) -> None:
        super().__init__()
        self.all_runs: dict[str, dict[str, Any]] = {}
        self.all_logs: dict[str, list[LogLine]] = {}
        self._by_key: dict[tuple[str, str], str] = {}
        self._count = itertools.count()

    def delete_deployment(self, deployment_id: str) -> None:
        self._called("delete_deployment")
        self.all_deployments = {
            n: d for n, d in self.all_deployments.items() if d["id"] != deployment_id
        }
        for run_id in [
            i for i, r in self.all_runs.items() if r["deployment_id"] == deployment_id
        ]:
            self.delete_run(run_id)

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
            "run_count": 0,
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
        return list(self.all_logs.get(run_id, ()))

    def add_logs(self, run_id: str, lines: Sequence[LogLine]) -> None:
        self._called("add_logs")
        self.all_logs.setdefault(run_id, []).extend(lines)

    def task_runs(self, run_id: str) -> dict[str, str]:
        self._called("task_runs")
        return {}

    def delete_run(self, run_id: str) -> None:
        """Delete a flow run, as somebody may do in the UI."""
        run = self.all_runs.pop(run_id)
        self._by_key = {k: i for k, i in self._by_key.items() if i != run["id"]}

    def _state(
        self, run: dict[str, Any], kind: str, name: str | None = None, message: str = ""
    ) -> None:
        now = clock.now().isoformat()
        run["run_count"] += kind == "RUNNING"
        if kind == "RUNNING" or kind in TERMINAL:
            # As the server does: a run that ends before it began has a start, too.
            run["start_time"] = run["start_time"] or now
        run["end_time"] = now if kind in TERMINAL else None
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
