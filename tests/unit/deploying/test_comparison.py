"""A deployment on the server beside the app's: equal content compares equal, whoever wrote it."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from jittask_prefect import App
from jittask_prefect.deploying.comparison import RESTORED, as_api, differences, digest
from jittask_prefect.deploying.deployments import Deployment, deployments
from jittask_prefect.prefect_api.answers import ServerDeployment
from jittask_prefect.testing import build_app

NOW = datetime(2026, 3, 2, tzinfo=UTC)
ROOT = Path("/srv/shop")
DAILY = {
    "e.json": {
        "type": "tasks.NormalType",
        "title": "Daily",
        "tags": ["b", "a"],
        "timerCfg": {
            "startTime": "2026-01-01 09:00:00",
            "repeat": {"repeatType": "day"},
        },
    },
    "inner.py": "def customFunc(): ...\n",
}


@pytest.fixture
def app(tmp_path: Path) -> App:
    return build_app(tmp_path / "shop", {"tasks/Daily": DAILY}, ready=False)


def daily(app: App) -> Deployment:
    return deployments(app, NOW)[0]


read = TypeAdapter(ServerDeployment).validate_python


def on_server(deployment: Deployment) -> dict[str, Any]:
    """The deployment as a server answers: with ids, another order, and fields of its own."""
    fields = deepcopy(deployment.as_api(ROOT))
    fields["tags"].reverse()
    fields["description"] += "\n"
    fields["schedules"].reverse()
    for number, schedule in enumerate(fields["schedules"]):
        schedule |= {"id": str(number), "deployment_id": "1"}
    own = {"id": "1", "name": deployment.name, "status": "READY"}
    return {**fields, **own, "work_queue_name": "theirs"}


def test_the_server_s_own_fields_and_its_order_are_no_difference(app: App) -> None:
    wanted = daily(app)
    there = read(on_server(wanted))
    assert differences(wanted, there, ROOT) == []
    assert digest(wanted.as_api(ROOT)) == digest(as_api(there))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("description", "mine"),
        ("tags", []),
        ("parameters", {}),
        ("paused", True),
        ("schedules", []),
        ("entrypoint", "other.py:flow"),
        ("job_variables", {"env": {"JITTASK_NAME": "other"}}),
        ("pull_steps", None),
    ],
)
def test_each_field_counts(app: App, field: str, value: Any) -> None:
    wanted = daily(app)
    there = read({**on_server(wanted), field: value})
    assert differences(wanted, there, ROOT) == [field]
    assert (digest(as_api(there)) != digest(wanted.as_api(ROOT))) == (field in RESTORED)


def test_a_foreign_schedule_counts_while_it_is_active(app: App) -> None:
    wanted = daily(app)
    there = on_server(wanted)
    cron = {"schedule": {"cron": "7 * * * *"}, "slug": None, "active": True}
    there["schedules"].append({**cron, "id": "9"})
    assert differences(wanted, read(there), ROOT) == ["schedules"]
    there["schedules"][-1] |= {"slug": "x-1", "active": False}
    assert differences(wanted, read(there), ROOT) == []


def test_an_interval_is_the_same_whatever_text_its_anchor_has(app: App) -> None:
    sync = next(d for d in deployments(app, NOW) if d.name == "jittask.sync")
    there = on_server(sync) | {"work_queue_name": sync.queue}
    [rule] = [s["schedule"] for s in there["schedules"] if s["active"]]
    rule |= {"interval": 60.0, "anchor_date": "2020-01-01T01:00:00+01:00"}
    assert differences(sync, read(there), ROOT) == []
