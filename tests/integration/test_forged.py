"""Made-up parameters on a real server and worker: nothing runs, each run says why, and the next task runs."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from place import Place

from jittask_prefect.errors import PrefectApiError
from jittask_prefect.schedule import clock

ROW = "tasks.WorkRow"


def deep(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"template": found}
    return found


def forged(work: Place, of: str, **parameters: Any) -> str | None:
    """A run that anybody may make who reaches the API; None where the server refuses its parameters."""
    path = f"/deployments/{work.deployments()[of]['id']}/create_flow_run"
    state = {
        "type": "SCHEDULED",
        "state_details": {"scheduled_time": clock.now().isoformat()},
    }
    body = {"parameters": parameters, "state": state, "enforce_parameter_schema": False}

    try:
        return str(work.api.call("POST", path, body=body)["id"])
    except PrefectApiError as error:
        if "answered 503" in str(error):  # busy for longer than the client asks again
            raise
        return None


def test_what_somebody_made_up_runs_nothing_and_keeps_nobody_waiting(
    work: Place,
) -> None:
    later = (datetime.now(UTC) + timedelta(hours=2)).replace(tzinfo=None)
    row, other = (
        work.save("WorkItem", at=later, status=status) for status in ("row", "sleeps")
    )
    [mine], [theirs, *_] = (
        work.entries(ROW, row.id),
        work.entries("tasks.WorkSleeps", other.id),
    )
    wanted: dict[str, dict[str, Any]] = {
        "is one of tasks.WorkSleeps, not of tasks.WorkRow": {
            "template": ROW,
            "taskId": theirs.task_id,
        },
        "the run names none": {"template": ROW},
        "'tasks.Nobody' is no task template": {"template": "tasks.Nobody"},
        "'bill' is no task template": {"template": "bill"},
        "template 5;": {"template": 5},
        "template null;": {"template": None},
        "template {": {"template": deep(150)},
        'template "tasks.xxx': {"template": "tasks." + "x" * 300_000},
        "taskId [": {"template": ROW, "taskId": [mine.task_id]},
        f'there is no task "{"0" * 36}"': {"template": ROW, "taskId": "0" * 36},
        'due "soon"': {"template": ROW, "due": "soon"},
        'due "2026-01-01T00:00:00"': {"template": ROW, "due": "2026-01-01T00:00:00"},
        "tasks.WorkAdd is no task of rows": {
            "template": "tasks.WorkAdd",
            "due": "2026-01-01T00:00:00+00:00",
        },
        "['template', 'taskId', 'rowKey']": {
            "template": ROW,
            "taskId": mine.task_id,
            "rowKey": str(row.id),
        },
    }
    made = {
        said: forged(work, ROW, **parameters) for said, parameters in wanted.items()
    }
    hydrated = [
        {"template": {"__prefect_kind": "jinja", "template": "{{ 7 * 7 }}"}},
        {
            "template": {
                "__prefect_kind": "workspace_variable",
                "variable_name": "secret",
            }
        },
        {"template": {"__prefect_kind": "json", "value": "[1, 2"}},
        {"template": {"__prefect_kind": {"a": uuid.uuid4().hex}}},
    ]
    more = [forged(work, ROW, **parameters) for parameters in hydrated]
    for run_id in filter(None, [*made.values(), *more]):
        work.state(run_id, "Failed", "Crashed", seconds=60)
    fine = work.svc.createTimerTask(
        "tasks.WorkAdd", clock.now(), "customFunc", "tasks.NormalType"
    )
    assert work.ended(fine["taskId"], 30).status == "completed"
    assert {work.entry(entry.task_id).status for entry in (mine, theirs)} == {"pending"}
    for said, run_id in made.items():
        assert run_id is not None, said
        assert said in work.state(run_id, "Failed", "Crashed").message
