"""How a flow run ends by our own doing: with a label, or as Crashed where Prefect does not take the label."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from typing import Any, NoReturn
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State
from shop import COUNT, Shop, utc

from jittask_prefect.errors import PrefectApiError, UnknownTask
from jittask_prefect.prefect_api.answers import OWN
from jittask_prefect.prefect_api.names import of_app
from jittask_prefect.running import flows, run_end
from jittask_prefect.running.outcome import TAKEN

Make = Callable[..., Shop]
TEN = datetime(2026, 3, 2, 10)
BROKEN = "def customFunc(row:\n"


def raising(error: Exception) -> Callable[..., NoReturn]:
    def call(*_args: object, **_keys: object) -> NoReturn:
        raise error

    return call


def stop_labels(s: Shop, patch: pytest.MonkeyPatch) -> None:
    """Prefect answers each label with 503."""
    patch.setattr(s.api, "mark", raising(PrefectApiError("503 Service Unavailable")))


def run_flow(
    s: Shop, patch: pytest.MonkeyPatch, kind: str = "DateFieldType"
) -> State[Any]:
    """The flow's function for the only flow run, without Prefect's engine; Prefect then shows its state."""
    [run] = s.api.all_runs.values()
    due: Any = datetime.fromisoformat(run["expected_start_time"])
    made = FlowRun(
        id=UUID(run["id"]),
        flow_id=uuid4(),
        expected_start_time=due,
        parameters=run["parameters"],
    )
    log = logging.getLogger("test_flows")
    patch.setattr(flows, "this_flow_run", lambda: made)
    patch.setattr(flows, "task_log", lambda: nullcontext(log))
    for module in (flows, run_end):
        patch.setattr(module, "connect", lambda _path: s.api)
    own = of_app(s.app.name, f"tasks.{kind}")
    patch.setattr(s.api, "flow_name", lambda _flow_id: own)
    s.api.set_state(run["id"], "RUNNING")
    run["start_time"] = s.now.isoformat()
    flow = flows.flows_of(s.app)[kind]
    state: State[Any] = asyncio.run(flow.fn(**run["parameters"]))
    s.api.set_state(run["id"], state.type.value, message=state.message or "")
    return state


def due_row(shop: Make, **keys: Any) -> Shop:
    s = shop(**keys)
    s.save(id=1, at=TEN)
    s.sync("2026-03-02 09:59")
    return s.at("2026-03-02 10:00")


def inner(s: Shop, text: str) -> None:
    """Change the function's file."""
    files = s._elements["tasks/Task"]
    s.again(**{"tasks/Task": {**files, "inner.py": text}})


@pytest.mark.parametrize("dispatch", ["row", "batch"])
def test_a_broken_template_loses_no_task_without_the_label(
    shop: Make, monkeypatch: pytest.MonkeyPatch, dispatch: str
) -> None:
    s = due_row(shop, inner=COUNT, dispatch=dispatch)
    inner(s, BROKEN)
    with monkeypatch.context() as patch:
        stop_labels(s, patch)
        state = run_flow(s, patch)
    assert state.is_crashed() and "is broken" in str(state.message)
    s.sync("2026-03-02 10:01")
    assert s.entries()[0].status == "pending"
    inner(s, COUNT)
    s.sync("2026-03-02 10:02")
    s.work("2026-03-02 10:03")
    assert (s.entries()[0].status, s.row_count(1)) == ("completed", 1)


@pytest.mark.parametrize(
    ("place", "does"),
    [
        ("execute", raising(RuntimeError("the database is away"))),
        ("request_of", raising(UnknownTask("no task t"))),
        ("execute", lambda *_args, **_keys: TAKEN),
    ],
    ids=["exception", "refused", "taken"],
)
def test_a_task_that_did_not_begin_runs_later_without_the_label(
    shop: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: str,
    does: Callable[..., Any],
) -> None:
    s = due_row(shop, inner=COUNT)
    with monkeypatch.context() as patch:
        stop_labels(s, patch)
        patch.setattr(flows, place, does)
        state = run_flow(s, patch)
    assert state.is_crashed() and state.message
    if "away" in state.message:
        assert state.message == "RuntimeError: the database is away"
        assert "Traceback" in caplog.text
    s.sync("2026-03-02 10:01")
    s.work("2026-03-02 10:02")
    assert (s.entries()[0].status, s.row_count(1)) == ("completed", 1)


def test_with_the_label_the_states_are_the_known_ones(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = due_row(shop, inner=COUNT)
    [run] = s.api.all_runs.values()
    end = partial(run_flow, s)
    with monkeypatch.context() as patch:
        patch.setattr(flows, "execute", lambda *_args, **_keys: TAKEN)
        assert end(patch).is_cancelled() and run["labels"][OWN] == "taken"
    with monkeypatch.context() as patch:
        patch.setattr(flows, "request_of", raising(UnknownTask("no task t")))
        assert end(patch).is_failed() and run["labels"][OWN] == "refused"


def test_a_schedules_run_that_raised_before_it_was_entered_gets_another(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger has no entry, which could not be written: only the run's state tells that nothing ran."""
    timer = {"startTime": "2026-03-02 10:00:00", "repeat": {"repeatType": "day"}}
    daily = {"type": "tasks.NormalType", "title": "Daily", "timerCfg": timer}
    files = {"e.json": daily, "inner.py": "def customFunc():\n    return 'done'\n"}
    s = shop(elements={"tasks/Daily": files})
    s.api.create_run(
        s.api.all_deployments["tasks.Daily"]["id"],
        key="of the schedule",
        name="Daily",
        due=utc("2026-03-02 10:00"),
        tags=[],
        parameters={"template": "tasks.Daily"},
    )
    s.at("2026-03-02 10:00")
    with monkeypatch.context() as patch:
        patch.setattr(flows, "execute", raising(RuntimeError("the database is away")))
        state = run_flow(s, patch, "NormalType")
    assert (state.type.value, s.entries()) == ("CRASHED", [])
    s.sync("2026-03-02 10:01")
    assert [o.result for o in s.work("2026-03-02 10:02")] == ["done"]
    assert [(e.status, e.due) for e in s.entries()] == [
        ("completed", utc("2026-03-02 10:00"))
    ]
