"""Making flow runs: at least 90 % of the rate of a bare loop over Prefect's own client, on the same server.

Both sides take turns, a few dozen runs each, so that both meet the server as it is at that moment. On SQLite, and on
PostgreSQL where `JITTASK_BENCH_POSTGRES` names a server (`postgresql+asyncpg://postgres@127.0.0.1:5432/`).
"""

from __future__ import annotations

import os
import statistics
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from measure import line, scale, workplace
from sqlalchemy import create_engine, text

from jittask_prefect.deploying import deploy as deploying
from jittask_prefect.ledger import state_table
from jittask_prefect.ledger.entry import Entry, new_entry
from jittask_prefect.ledger.tables import entries
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.rows import flow_runs, handover
from jittask_prefect.rows.plan import Report
from jittask_prefect.schedule import clock
from jittask_prefect.server.commands import environment
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.selection import refresh_settings
from jittask_prefect.task_svc.wiring import App
from jittask_prefect.testing import build_app

NAME = "tasks.RateReminder"
DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
MODEL = """
from datetime import datetime
from sqlmodel import Field, SQLModel

class RateItem(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    at: datetime | None = None
"""
TASK = {
    "type": "tasks.DateFieldType",
    "title": "Rate",
    "dispatch": "row",
    "modelPath": "models.RateItem",
    "timerCfg": {"startField": "at", "repeat": {"repeatType": "normal"}},
}
ELEMENTS = {
    "models/RateItem": {"e.json": {"type": "models.NormalType"}, "model.py": MODEL},
    "tasks/RateReminder": {
        "e.json": TASK,
        "inner.py": "def customFunc(row):\n    pass\n",
    },
}


def waiting(app: App, count: int, due: datetime) -> list[Entry]:
    """New tasks, not handed over yet."""
    made = [
        new_entry(task_id=str(uuid.uuid4()), app=app.name, template=NAME, model="models.RateItem", row_key=uuid.uuid4().hex, due=due,
              nominal=due, generation=1, created=due)
        for _ in range(count)
    ]  # fmt: skip
    with app.engine().begin() as connection:
        connection.execute(entries.insert(), [entry.values() for entry in made])
    return made


def bare(api: PrefectApi, deployment: str, made: list[Entry], app: App) -> None:
    """What somebody writes who has only Prefect's client."""
    for entry in made:
        body: dict[str, Any] = {
            "name": flow_runs.run_name(app, entry),
            "idempotency_key": f"bare-{entry.task_id}",
            "tags": flow_runs.run_tags(app, entry.template, entry.model, entry.row_key),
            "parameters": {"template": NAME, "taskId": entry.task_id},
            "state": {
                "type": "SCHEDULED",
                "state_details": {"scheduled_time": entry.due.isoformat()},
            },
            "enforce_parameter_schema": False,
        }
        api.call("POST", f"/deployments/{deployment}/create_flow_run", body)


def measure(folder: Path, url: str, share: float, where: str) -> None:
    os.environ["PREFECT_API_URL"] = url
    refresh_settings()
    app, api = build_app(folder, ELEMENTS, name="rate"), PrefectApi(url)
    deploying.deploy(app, api, clock.now())
    deployment = api.deployments(app_tag(app.name))[NAME].id
    due = clock.now() + timedelta(hours=6)

    def keep() -> None:
        with app.engine().begin() as connection:
            state_table.take_lease(
                connection, app.name, "sync", "benchmark", clock.now(), 25
            )

    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    size, rounds = (60, round(12 * share)) if share >= 1 else (8, 1)
    for turn in range(rounds + 1):  # the first warms up
        tasks = waiting(app, size, due)
        for side in ("bare", "ours") if turn % 2 else ("ours", "bare"):
            begun = time.perf_counter()
            if side == "bare":
                bare(api, deployment, tasks, app)
            else:
                report = Report()
                handover.hand_over(app, "", api, clock.now(), report, keep)
                assert report.created == size and not report.problems, report
            if turn:
                rates[side].append(size / (time.perf_counter() - begun))
    ratio = statistics.median(
        o / b for o, b in zip(rates["ours"], rates["bare"], strict=True)
    )
    figures = {
        f"{side}_per_second": statistics.median(found) for side, found in rates.items()
    }
    line(
        f"creating runs, server on {where}",
        ratio,
        "of the bare rate",
        "a bare loop of create_flow_run",
        **figures,
    )
    app.close()


@contextmanager
def postgres(server: str) -> Iterator[str]:
    """A database for Prefect that is thrown away."""
    name = f"jittask_bench_{os.getpid()}"
    admin = create_engine(
        server.replace("+asyncpg", "+psycopg") + "postgres",
        isolation_level="AUTOCOMMIT",
    )
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield server + name
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def main() -> None:
    share = scale(__doc__ or "")
    with workplace() as home:
        os.environ.update(environment(None, home))
        with Embedded(home / "sqlite") as embedded:
            measure(home / "one", embedded.ensure()[0].url, share, "SQLite")
        server = os.environ.get("JITTASK_BENCH_POSTGRES")
        if server and share >= 1:
            with postgres(server) as url:
                os.environ[DATABASE] = url
                with Embedded(home / "postgres") as embedded:
                    measure(home / "two", embedded.ensure()[0].url, share, "PostgreSQL")


if __name__ == "__main__":
    main()
