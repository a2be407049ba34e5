"""A process that leaves tells Prefect why, and says the same whichever of its threads tells."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest
from shop import Shop

from jittask_prefect.ledger import transitions
from jittask_prefect.running import run_end

Make = Callable[..., Shop]
FORCED, DIED = "ended: forced end", "error: worker died"


@pytest.mark.parametrize(
    ("ended", "state", "message"),
    [("forced", "CANCELLED", FORCED), ("died", "CRASHED", DIED)],
)
def test_the_state_of_a_run_whose_task_the_ledger_has_ended(
    shop: Make,
    monkeypatch: pytest.MonkeyPatch,
    ended: str,
    state: str,
    message: str,
) -> None:
    s = shop()
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    monkeypatch.setattr(run_end, "connect", lambda app: s.api)
    [task] = s.entries()
    run_id = str(task.flow_run_id)
    with s.app.engine().begin() as connection:
        about = (task.task_id, "owner", run_id, s.now, 25.0)
        assert transitions.claim(connection, *about)
    [task] = s.entries()
    with s.app.engine().begin() as connection:
        if ended == "died":
            transitions.fail(connection, task, s.now)
        else:
            about_end = {"outcome": "forced", "message": FORCED, "now": s.now}
            transitions.end(
                connection, task.task_id, **about_end, within=("executing",)
            )
    run_end.tell_task_ended(s.app, run_id)
    run = s.api.run(run_id)
    assert run is not None and (run.state_type, run.message) == (state, message)
