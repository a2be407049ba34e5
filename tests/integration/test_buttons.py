"""What each button of Prefect's UI does to each kind of run: the calls that the UI makes, on a real server.

`docs/ui.md` has the table; each of its cells is a test here.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from place import Place, until

from jittask_prefect.errors import PrefectApiError

SOON = timedelta(seconds=1)


class Buttons:
    """The UI's buttons, as the calls that the UI makes.

    Args:
        work: The app on its server.
    """

    def __init__(self, work: Place) -> None:
        self.work, self.api = work, work.api

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        def done() -> list[Any] | None:
            try:
                return [self.api.call(method, path, body)]
            except PrefectApiError as error:
                if "answered 503" in str(error):  # a server on SQLite that is busy
                    return None
                raise

        [answer] = until(done, 120)  # type: ignore[misc]
        return answer

    def run(self, name: str, **parameters: Any) -> str:
        """*Custom run*; without parameters *Quick run*."""
        deployment = self.work.deployments()[name]["id"]
        body: dict[str, Any] = {"state": {"type": "SCHEDULED"}}
        if parameters:
            body["parameters"] = parameters
        path = f"/deployments/{deployment}/create_flow_run"
        return str(self._call("POST", path, body)["id"])

    def state(self, run_id: str, kind: str, name: str | None = None) -> str:
        """*Change state*, *Retry* and *Cancel*: the UI forces what it proposes."""
        state = {"type": kind, "name": name, "message": "by a test"}
        body = {"state": state, "force": True}
        return str(self._call("POST", f"/flow_runs/{run_id}/set_state", body)["status"])

    def retry(self, run_id: str) -> None:
        self.state(run_id, "SCHEDULED", "AwaitingRetry")

    def cancel(self, run_id: str) -> None:
        self.state(run_id, "CANCELLING")

    def delete(self, run_id: str) -> None:
        self._call("DELETE", f"/flow_runs/{run_id}")

    def pause(self, name: str) -> None:
        """The switch on the page of a deployment."""
        deployment = self.work.deployments()[name]["id"]
        self._call("POST", f"/deployments/{deployment}/pause_deployment")

    def copy(self, run_id: str, name: str, **changed: Any) -> str:
        """*Copy to new run*, with changed parameters *Run with changes*."""
        run = self.api.run(run_id)
        assert run is not None
        return self.run(name, **{**run.parameters, **changed})


@pytest.fixture
def buttons(work: Place) -> Buttons:
    return Buttons(work)


# Rows


def test_the_page_of_a_task_of_rows_asks_for_a_row_before_anything_starts(
    work: Place, buttons: Buttons
) -> None:
    """Quick run and Custom run without a row: the server refuses, and there is no run."""
    before = len(work.runs("tasks.WorkRow"))
    for parameters in ({}, {"taskId": "x"}):
        with pytest.raises(PrefectApiError, match="'row' is a required property"):
            buttons.run("tasks.WorkRow", **parameters)
    assert len(work.runs("tasks.WorkRow")) == before
    row = work.save("WorkItem", at=datetime.now() + timedelta(days=9), status="row")
    run_id = buttons.run("tasks.WorkRow", row=str(row.id))
    assert work.state(run_id, "Completed", "Failed", seconds=90).name == "Completed"
    [entry] = [e for e in work.entries("tasks.WorkRow", row.id) if e.nominal is None]
    assert (entry.status, entry.flow_run_id) == ("completed", run_id)
    run = work.api.run(run_id)
    assert run and f"WorkItem {row.id}" in run.name


def test_the_form_stays_after_prefect_deploy_has_made_another(
    work: Place, buttons: Buttons
) -> None:
    found = work.deployments()["tasks.WorkRow"]
    work.api.change_deployment(found["id"], {"parameter_openapi_schema": {}})

    def restored() -> bool:
        work.sync()
        schema = work.deployments()["tasks.WorkRow"]["parameter_openapi_schema"]
        return bool(schema.get("required") == ["row"])

    until(restored, every=1)
