"""The buttons of Prefect's UI, as the calls that the UI makes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from place import Place

from jittask_prefect.schedule import clock


class Buttons:
    """The UI's buttons, as the calls that the UI makes.

    Args:
        work: The app on its server.
    """

    def __init__(self, work: Place) -> None:
        self.work, self.api = work, work.api

    def run(self, name: str, **parameters: Any) -> str:
        """*Custom run*; without parameters *Quick run*."""
        deployment = self.work.deployments()[name]["id"]
        body: dict[str, Any] = {"state": {"type": "SCHEDULED"}}
        if parameters:
            body["parameters"] = parameters
        path = f"/deployments/{deployment}/create_flow_run"
        return str(self.api.call("POST", path, body)["id"])

    def state(self, run_id: str, kind: str, name: str | None = None) -> str:
        """*Change state*, *Retry* and *Cancel*: the UI forces what it proposes."""
        state = {"type": kind, "name": name, "message": "by a test"}
        body = {"state": state, "force": True}
        return str(
            self.api.call("POST", f"/flow_runs/{run_id}/set_state", body)["status"]
        )

    def pause_run(self, run_id: str, seconds: float = 300) -> None:
        """*Pause* on a run's page, with its field *Timeout (seconds)*."""
        timeout = (clock.now() + timedelta(seconds=seconds)).isoformat()
        details = {"pause_timeout": timeout, "pause_reschedule": True}
        state = {"type": "PAUSED", "name": "Suspended", "state_details": details}
        body = {"state": state, "force": True}
        answer = self.api.call("POST", f"/flow_runs/{run_id}/set_state", body)
        assert answer["status"] == "ACCEPT"

    def resume_run(self, run_id: str) -> str:
        """*Resume* on the page of a paused run; the server's answer."""
        return str(self.api.call("POST", f"/flow_runs/{run_id}/resume", {})["status"])

    def retry(self, run_id: str) -> None:
        self.state(run_id, "SCHEDULED", "AwaitingRetry")

    def cancel(self, run_id: str) -> None:
        self.state(run_id, "CANCELLING")

    def delete(self, run_id: str) -> None:
        self.api.call("DELETE", f"/flow_runs/{run_id}")

    def pause(self, name: str) -> None:
        """The switch on the page of a deployment."""
        deployment = self.work.deployments()[name]["id"]
        self.api.call("POST", f"/deployments/{deployment}/pause_deployment")

    def copy(self, run_id: str, name: str, **changed: Any) -> str:
        """*Copy to new run*, with changed parameters *Run with changes*."""
        run = self.api.run(run_id)
        assert run is not None
        return self.run(name, **{**run.parameters, **changed})
