"""The only caller of the Prefect API: Prefect's own client, its answers as plain dicts, its failures as one error.

`Api` is the seam that the rest of the package sees; `PrefectApi` talks to a server, `testing.FakePrefect` pretends to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import quote

import httpx

from jittask_prefect.errors import PrefectApiError
from jittask_prefect.prefect_api.answers import (
    AUTOMATION,
    BLOCK,
    DEPLOYMENT,
    LOG,
    MADE,
    POOL,
    RUN,
    SET,
    TABLE,
    Check,
    anything,
    each,
    number,
    one,
)

# Without a URL the client would silently start a hidden server of its own.
os.environ.setdefault("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "false")

TERMINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
LIVE = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")
PAGE = 200  # the server's limit
BY_HAND = "ended: cancelled in Prefect"  # what is said of a run whose canceller gave no reason
OWN = "jittask.ended"  # the label of a run that we end ourselves; nobody writes it in the UI, as anybody does a reason
# Prefect's client by itself: 60 s for an answer, and five more attempts after 2, 4, 8, 16 and 32 s; a server that hangs
# would hold a sync for seven minutes. So: 30 s, and two more attempts: 100 s in all, 17 s where it answers 503, 8 s
# where nobody answers.
TIMEOUT, RETRIES = 30.0, 2
PING_TIMEOUT = 5.0


class Api(Protocol):
    """What the package needs of Prefect; flow runs, deployments and states are the API's JSON objects."""

    url: str
    ui_url: str

    def ping(self) -> None:
        """Raise PrefectApiError where the server does not answer."""

    def ensure_pool(self, name: str, kind: str) -> str:
        """Make the work pool where it is missing; the type that it has, which nobody can change."""

    def ensure_queue(self, pool: str, name: str) -> None:
        """Make a work queue of a pool the first one: its runs are begun before those of all others."""

    def pool_kind(self, name: str) -> str | None:
        """The type of a work pool; None where there is none of that name."""

    def deployments(self, tag: str) -> dict[str, dict[str, Any]]:
        """The deployments that carry a tag, by name."""

    def named(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The deployments of these names, whoever made them."""

    def make_deployment(self, flow: str, body: Mapping[str, Any]) -> str:
        """Make a deployment of a flow, or replace the flow's deployment of that name; the deployment's id."""

    def delete_deployment(self, deployment_id: str) -> None:
        """Delete a deployment with its runs."""

    def change_deployment(self, deployment_id: str, body: Mapping[str, Any]) -> None:
        """Change some fields of a deployment, and those of its schedules that are named by their slugs, in place."""

    def change_schedule(
        self, deployment_id: str, schedule_id: str, body: Mapping[str, Any]
    ) -> None:
        """Change one schedule of a deployment by its id; what is waiting in the past stays."""

    def fill_schedule(
        self, deployment_id: str, start: datetime, until: datetime | None = None
    ) -> None:
        """Make the scheduled runs of a deployment from `start` on; those that exist stay.

        Without `until` as many as the server makes ahead; with it all up to there, 1,000 at most, and an hour more.
        """

    def delete_run(self, run_id: str) -> None:
        """Delete a flow run."""

    def create_run(
        self,
        deployment_id: str,
        *,
        key: str,
        name: str,
        due: datetime,
        tags: Sequence[str],
        parameters: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Make a flow run, once for each idempotency key; a repeat gives the existing one in whatever state."""

    def run(self, run_id: str) -> dict[str, Any] | None:
        """A flow run; None where there is none."""

    def runs(
        self,
        *,
        limit: int | None = None,
        offset: int = 0,
        sort: str = "EXPECTED_START_TIME_DESC",
        **filters: Any,
    ) -> list[dict[str, Any]]:
        """Flow runs by the API's own filters (`flow_runs`, `deployments`, …); all pages where `limit` is absent."""

    def count_runs(self, **filters: Any) -> int:
        """How many flow runs there are by the API's own filters."""

    def set_state(
        self,
        run_id: str,
        kind: str,
        *,
        name: str | None = None,
        message: str = "",
        force: bool = False,
    ) -> str:
        """Propose a state; the type of the state that the run has then."""

    def mark(self, run_id: str, why: str) -> None:
        """Label a flow run, before its state is set: it ends by itself, and no person has cancelled it."""

    def logs(self, run_id: str) -> list[dict[str, Any]]:
        """The log lines of a flow run."""

    def put_table(
        self, run_id: str, key: str, rows: Sequence[Mapping[str, Any]], description: str
    ) -> None:
        """Keep a table as an artifact of a flow run."""

    def table(self, run_id: str) -> list[dict[str, Any]]:
        """The rows of a flow run's tables, the newest last; none where it has none."""

    def put_markdown(
        self,
        key: str,
        text: str,
        description: str,
        known: str | None = None,
        run_id: str | None = None,
    ) -> str:
        """Keep a Markdown page as an artifact, of a run or of none: in place where its id is known; its id."""

    def drop_artifact(self, artifact_id: str) -> None:
        """Delete an artifact."""


class PrefectApi:
    """The API of a Prefect server.

    Args:
        url: The API's address; absent, the one of Prefect's settings (`PREFECT_API_URL`, profile).

    Raises:
        PrefectApiError: No address is known.
    """

    def __init__(self, url: str | None = None) -> None:
        from prefect.client.orchestration import get_client
        from prefect.settings import (
            PREFECT_API_REQUEST_TIMEOUT,
            PREFECT_API_URL,
            PREFECT_CLIENT_MAX_RETRIES,
            get_current_settings,
            temporary_settings,
        )

        known = url or get_current_settings().api.url
        if not known:
            raise PrefectApiError(
                "no Prefect server is known: set PREFECT_API_URL, or start one with `jittask up` in the app folder"
            )
        self.url = str(known).rstrip("/")
        bounds: dict[Any, Any] = {
            PREFECT_API_URL: self.url,
            PREFECT_API_REQUEST_TIMEOUT: min(
                TIMEOUT, PREFECT_API_REQUEST_TIMEOUT.value()
            ),
            PREFECT_CLIENT_MAX_RETRIES: min(
                RETRIES, PREFECT_CLIENT_MAX_RETRIES.value()
            ),
        }
        with temporary_settings(bounds) as self._settings:
            self._client = get_client(sync_client=True)
            self.ui_url = str(
                get_current_settings().ui_url or self.url.removesuffix("/api")
            )

    def _call(
        self,
        method: Any,
        path: str,
        gives: Check = anything,
        *,
        missing_ok: bool = False,
        **kwargs: Any,
    ) -> Any:
        with self._errors(f"{method} {path}"):
            try:
                response = self._client.request(method, path, **kwargs)  # type: ignore[arg-type]
            except httpx.HTTPStatusError as error:
                if missing_ok and error.response.status_code == 404:
                    return None
                raise
            found = response.json() if response.content else None
            if wrong := gives(found):
                raise ValueError(wrong)
            return found

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        from prefect.context import SettingsContext, get_settings_context
        from prefect.exceptions import PrefectException

        try:
            # The client reads its number of attempts at each call.
            with SettingsContext(
                profile=get_settings_context().profile, settings=self._settings
            ):
                yield
        except httpx.HTTPStatusError as error:
            code, text = (
                error.response.status_code,
                " ".join(error.response.text.split())[:400],
            )
            raise PrefectApiError(
                f"{what}: the Prefect server at {self.url} answered {code}: {text}"
            ) from error
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            # Of JSON, of the check, or of pydantic in Prefect's client.
            said = next(iter(str(error).splitlines()), "")[:200]
            raise PrefectApiError(
                f"{what}: the server at {self.url} answered with something else than Prefect's API does ({said}); "
                "PREFECT_API_URL must name one, e.g. http://127.0.0.1:4200/api"
            ) from error
        except (httpx.HTTPError, PrefectException, RuntimeError, OSError) as error:
            raise PrefectApiError(
                f"{what}: no answer from the Prefect server at {self.url} ({type(error).__name__}: {error}); "
                "is it running? `jittask up` starts one, PREFECT_API_URL names another"
            ) from error

    def ping(self) -> None:
        self._call("GET", "/health", timeout=PING_TIMEOUT)

    def ensure_pool(self, name: str, kind: str) -> str:
        if (
            there := self._call(
                "GET", f"/work_pools/{name}", one(POOL), missing_ok=True
            )
        ) is not None:
            return str(there["type"])
        template = _base_job_template(kind)
        with self._errors("POST /work_pools/"):
            try:
                self._client.request(
                    "POST",
                    "/work_pools/",
                    json={"name": name, "type": kind, "base_job_template": template},
                )
            except httpx.HTTPStatusError as error:
                if error.response.status_code == 409:  # somebody was faster
                    return self.ensure_pool(name, kind)
                raise
        return kind

    def ensure_queue(self, pool: str, name: str) -> None:
        queues = f"/work_pools/{quote(pool, safe='')}/queues"
        there = self._call("GET", f"{queues}/{quote(name, safe='')}", missing_ok=True)
        if there is None:
            self._call("POST", f"{queues}/", json={"name": name, "priority": 1})
        elif there["priority"] != 1:
            self._call(
                "PATCH", f"{queues}/{quote(name, safe='')}", json={"priority": 1}
            )

    def pool_kind(self, name: str) -> str | None:
        found = self._call(
            "GET", f"/work_pools/{quote(name, safe='')}", one(POOL), missing_ok=True
        )
        return None if found is None else str(found["type"])

    def deployments(self, tag: str) -> dict[str, dict[str, Any]]:
        return self._deployments({"tags": {"all_": [tag]}})

    def named(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        return self._deployments({"name": {"any_": list(names)}})

    def _deployments(self, where: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        seen = 0
        while True:
            body = {"deployments": where, "limit": PAGE, "offset": seen}
            page = self._call(
                "POST", "/deployments/filter", each(DEPLOYMENT), json=body
            )
            # A name stands for one deployment of each flow; the youngest counts.
            for entry in sorted(page, key=lambda d: str(d.get("created"))):
                known = found.get(entry["name"])
                if known is None or str(known.get("created")) <= str(
                    entry.get("created")
                ):
                    found[entry["name"]] = entry
            seen += len(page)
            if len(page) < PAGE:
                return found

    def make_deployment(self, flow: str, body: Mapping[str, Any]) -> str:
        of = self._call("POST", "/flows/", one(MADE), json={"name": flow})["id"]
        body = {**body, "flow_id": of}
        return str(self._call("POST", "/deployments/", one(MADE), json=body)["id"])

    def delete_deployment(self, deployment_id: str) -> None:
        self._call("DELETE", f"/deployments/{deployment_id}", missing_ok=True)

    def change_deployment(self, deployment_id: str, body: Mapping[str, Any]) -> None:
        self._call("PATCH", f"/deployments/{deployment_id}", json=dict(body))

    def change_schedule(
        self, deployment_id: str, schedule_id: str, body: Mapping[str, Any]
    ) -> None:
        self._call(
            "PATCH",
            f"/deployments/{deployment_id}/schedules/{schedule_id}",
            missing_ok=True,
            json=dict(body),
        )

    def fill_schedule(
        self, deployment_id: str, start: datetime, until: datetime | None = None
    ) -> None:
        body: dict[str, Any] = {"start_time": start.isoformat()}
        if until is not None:
            # The server stops at the third run once `min_time` has passed (models/deployments.py).
            body |= {
                "min_time": (until - start).total_seconds() + 3600,
                "max_runs": 1000,
            }
        self._call(
            "POST",
            f"/deployments/{deployment_id}/schedule",
            json=body,
            timeout=2 * TIMEOUT,
        )

    def delete_run(self, run_id: str) -> None:
        self._call("DELETE", f"/flow_runs/{run_id}", missing_ok=True)

    def create_run(
        self,
        deployment_id: str,
        *,
        key: str,
        name: str,
        due: datetime,
        tags: Sequence[str],
        parameters: Mapping[str, Any],
    ) -> dict[str, Any]:
        state = {
            "type": "SCHEDULED",
            "state_details": {"scheduled_time": due.isoformat()},
        }
        body: dict[str, Any] = {
            "name": name,
            "idempotency_key": key,
            "tags": list(tags),
            "parameters": dict(parameters),
            "state": state,
        }
        body["enforce_parameter_schema"] = (
            False  # it costs more than the run itself, and the parameters are ours
        )
        found: dict[str, Any] = self._call(
            "POST", f"/deployments/{deployment_id}/create_flow_run", one(RUN), json=body
        )
        return found

    def run(self, run_id: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._call(
            "GET", f"/flow_runs/{run_id}", one(RUN), missing_ok=True
        )
        return found

    def runs(
        self,
        *,
        limit: int | None = None,
        offset: int = 0,
        sort: str = "EXPECTED_START_TIME_DESC",
        **filters: Any,
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            body = {
                **filters,
                "sort": sort,
                "limit": size,
                "offset": offset + len(found),
            }
            page = self._call("POST", "/flow_runs/filter", each(RUN), json=body)
            found += page
            if len(page) < size:
                break
        return found

    def count_runs(self, **filters: Any) -> int:
        return int(self._call("POST", "/flow_runs/count", number, json=filters))

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
        body = {"state": state, "force": force}
        answer = self._call(
            "POST",
            f"/flow_runs/{run_id}/set_state",
            one(SET),
            missing_ok=True,
            json=body,
        )
        if answer is None:
            return "MISSING"
        if answer["status"] == "ACCEPT" and answer["state"]:
            return str(answer["state"]["type"])
        found = self.run(run_id)
        there = (found or {}).get("state") or {"type": "MISSING"}
        if (
            (kind, there["type"]) == ("CANCELLING", "CANCELLED")
            and message
            and not there.get("message")
        ):
            # Prefect cancels a run that nobody began at once, and drops the reason (`core_policy.py`,
            # BypassCancellingFlowRunsWithNoInfra): the same state once more, with the reason.
            return self.set_state(run_id, "CANCELLED", message=message, force=True)
        return str(there["type"])

    def mark(self, run_id: str, why: str) -> None:
        self._call(
            "PATCH", f"/flow_runs/{run_id}/labels", missing_ok=True, json={OWN: why}
        )

    def logs(self, run_id: str) -> list[dict[str, Any]]:
        body = {
            "logs": {"flow_run_id": {"any_": [run_id]}},
            "limit": PAGE,
            "sort": "TIMESTAMP_ASC",
        }
        found: list[dict[str, Any]] = self._call(
            "POST", "/logs/filter", each(LOG), json=body
        )
        return found

    def put_table(
        self, run_id: str, key: str, rows: Sequence[Mapping[str, Any]], description: str
    ) -> None:
        data = json.dumps([dict(row) for row in rows], ensure_ascii=False)
        body = {
            "key": key,
            "type": "table",
            "data": data,
            "description": description,
            "flow_run_id": run_id,
        }
        self._call("POST", "/artifacts/", json=body)

    def table(self, run_id: str) -> list[dict[str, Any]]:
        which = {"flow_run_id": {"any_": [run_id]}, "type": {"any_": ["table"]}}
        body = {"artifacts": which, "limit": PAGE, "sort": "CREATED_DESC"}
        found: list[dict[str, Any]] = self._call(
            "POST", "/artifacts/filter", each(TABLE), json=body
        )
        return [
            row for artifact in reversed(found) for row in json.loads(artifact["data"])
        ]

    def put_markdown(
        self,
        key: str,
        text: str,
        description: str,
        known: str | None = None,
        run_id: str | None = None,
    ) -> str:
        body = {"data": text, "description": description}
        if known and self._call("GET", f"/artifacts/{known}", missing_ok=True):
            self._call("PATCH", f"/artifacts/{known}", json=body)
            return known
        return str(
            self._call(
                "POST",
                "/artifacts/",
                one(MADE),
                json={**body, "key": key, "type": "markdown", "flow_run_id": run_id},
            )["id"]
        )

    def drop_artifact(self, artifact_id: str) -> None:
        self._call("DELETE", f"/artifacts/{artifact_id}", missing_ok=True)

    # Notices

    def notification_blocks(self) -> dict[str, str]:
        """The ids of the blocks that can notify, by `TYPE/NAME`."""
        body = {
            "block_schemas": {"block_capabilities": {"all_": ["notify"]}},
            "limit": PAGE,
        }
        found = self._call("POST", "/block_documents/filter", each(BLOCK), json=body)
        return {
            f"{block['block_type']['slug']}/{block['name']}": block["id"]
            for block in found
        }

    def keep_automation(self, body: Mapping[str, Any]) -> None:
        """Make an automation, or change the one of its name."""
        there = self._automations(body["name"])
        if not there:
            self._call("POST", "/automations/", json=dict(body))
        for automation in there:
            self._call("PUT", f"/automations/{automation['id']}", json=dict(body))

    def drop_automation(self, name: str) -> bool:
        """Delete the automation of a name; whether there was one."""
        there = self._automations(name)
        for automation in there:
            self._call("DELETE", f"/automations/{automation['id']}")
        return bool(there)

    def _automations(self, name: str) -> list[dict[str, Any]]:
        body = {"automations": {"name": {"any_": [name]}}}
        found: list[dict[str, Any]] = self._call(
            "POST", "/automations/filter", each(AUTOMATION), json=body
        )
        return found


def _base_job_template(kind: str) -> dict[str, Any]:
    from prefect.workers.base import BaseWorker

    worker = BaseWorker.get_worker_class_from_type(kind)
    return worker.get_default_base_job_template() if worker else {}


def preload() -> None:
    """Import the part of Prefect that a deploy needs, which takes seconds."""
    from prefect.workers import process  # noqa: F401
