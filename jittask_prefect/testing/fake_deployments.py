"""Work pools, queues and deployments of the Prefect in memory."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from jittask_prefect.errors import PrefectApiError
from jittask_prefect.prefect_api.answers import (
    ServerDeployment,
    WorkQueue,
)

_read_deployment = TypeAdapter(ServerDeployment).validate_python


class FakeCalls:
    """The first act of each call of the Prefect in memory: count, and fail while nobody answers."""

    url = "memory://prefect/api"
    ui_url = "memory://prefect"

    def __init__(self) -> None:
        self.down = False
        self.calls: list[str] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.down:
            raise PrefectApiError(
                f"{name}: no answer from the Prefect server at {self.url}"
            )


class FakeDeployments(FakeCalls):
    """Work pools, queues and deployments."""

    def __init__(self) -> None:
        super().__init__()
        self.all_deployments: dict[str, dict[str, Any]] = {}
        self.pools: dict[str, str] = {}
        self.all_queues: dict[str, dict[str, str]] = {}
        self.all_workers = 1

    def ping(self) -> None:
        self._called("ping")

    def ensure_pool(self, name: str, kind: str) -> str:
        self._called("ensure_pool")
        return self.pools.setdefault(name, kind)

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


def _deployment(content: Mapping[str, Any]) -> ServerDeployment:
    """A deployment as the server's answer: a schedule has an id, here its slug."""
    schedules = [{"id": s["slug"], **s} for s in content.get("schedules", [])]
    return _read_deployment({**content, "schedules": schedules})
