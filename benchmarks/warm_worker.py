"""Flow runs a second, one row each: the warm worker against Prefect's own process worker, on the same server.

At least 6 times as many on SQLite, 8 times on PostgreSQL (`--database postgresql`; `JITTASK_BENCH_POSTGRES` names the
server, `postgresql+asyncpg://postgres@127.0.0.1:5432/` where absent). The process worker has a limit of 4 and asks
every second; ours is as `jittask worker` starts it. Both wait all the time and take turns: the deployment changes its
pool. The first few runs of a turn do not count, while processes start.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import uuid
from datetime import timedelta
from pathlib import Path

from create_rate import DATABASE, postgres
from measure import line, too_small, workplace

from jittask_prefect.deploying import deploy as deploying
from jittask_prefect.deploying import deployments
from jittask_prefect.errors import PrefectApiError
from jittask_prefect.ledger.entry import Entry, new_entry
from jittask_prefect.ledger.tables import entries
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.rows import flow_runs
from jittask_prefect.schedule import clock
from jittask_prefect.server.commands import environment
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.selection import refresh_settings
from jittask_prefect.task_svc.wiring import App
from jittask_prefect.testing import build_app

NAME, SYNC = "tasks.WarmReminder", "jittask.sync"
MODEL = """
from datetime import datetime
from sqlmodel import Field, SQLModel

class WarmItem(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    at: datetime | None = None
    done: int = 0
"""
TASK = {
    "type": "tasks.DateFieldType",
    "title": "Warm",
    "modelPath": "models.WarmItem",
    "timerCfg": {"startField": "at", "repeat": {"repeatType": "normal"}},
}
ELEMENTS = {
    "models/WarmItem": {"e.json": {"type": "models.NormalType"}, "model.py": MODEL},
    "tasks/WarmReminder": {
        "e.json": TASK,
        "inner.py": "def customFunc(row):\n    row.done += 1\n",
    },
}
POOLS = {"stock": "process", deployments.POOL: deployments.POOL_TYPE}
STOCK_LIMIT = 4


def due_rows(app: App, api: PrefectApi, deployment: str, count: int) -> list[str]:
    """Rows that are all due at one instant, with their flow runs' ids."""
    at = clock.now() + timedelta(
        seconds=3 + count // 8
    )  # later than the last one is made
    item, runs = app.getElement("models.WarmItem"), []
    with app.engine().begin() as connection:
        first = (
            connection.exec_driver_sql("SELECT max(id) FROM warmitem").scalar() or 0
        ) + 1
        rows = [{"id": key, "at": at, "done": 0} for key in range(first, first + count)]
        made = [
            new_entry(task_id=str(uuid.uuid4()), app=app.name, template=NAME, model="models.WarmItem", row_key=str(row["id"]), due=at,
                  nominal=at, start_value=None, generation=1, created=clock.now(), dirty=False)
            for row in rows
        ]  # fmt: skip
        connection.execute(item.__table__.insert(), rows)
        connection.execute(entries.insert(), [entry.values() for entry in made])
    for entry in made:
        runs.append(create(app, api, deployment, entry))
    return runs


def create(app: App, api: PrefectApi, deployment: str, entry: Entry) -> str:
    """Make a task's flow run; on SQLite a server that works may say 503, and is asked again by the same key."""
    parameters = {"template": NAME, "taskId": entry.task_id}
    name, tags = (
        flow_runs.run_name(app, entry),
        flow_runs.run_tags(app, entry.template, entry.model, entry.row_key),
    )
    for attempt in range(5):
        try:
            made = api.create_run(
                deployment,
                key=entry.task_id,
                name=name,
                due=entry.due,
                tags=tags,
                parameters=parameters,
            )
            return made.id
        except PrefectApiError:
            if attempt == 4:
                raise
    raise AssertionError("unreachable")


def turn(
    app: App, api: PrefectApi, deployment: str, pool: str, count: int, skipped: int
) -> float:
    """Flow runs a second of one pool's worker, after the first few."""
    api.change_deployment(deployment, {"work_pool_name": pool})
    runs = due_rows(app, api, deployment, count + skipped)
    where = {"id": {"any_": runs}, "state": {"type": {"any_": ["COMPLETED"]}}}
    deadline = time.monotonic() + 120 + 10 * count
    while api.count_runs(flow_runs=where) < len(runs):
        assert time.monotonic() < deadline, (
            f"{pool}: {api.count_runs(flow_runs=where)} of {len(runs)} done"
        )
        time.sleep(0.5)
    ends = sorted(run.end_time for run in api.runs(flow_runs=where))
    return count / (ends[-1] - ends[skipped - 1]).total_seconds()


def measure(home: Path, share: float, where: str) -> None:
    with Embedded(home / "ours") as here, Embedded(home / "stock") as there:
        url = here.ensure()[0].url
        os.environ["PREFECT_API_URL"] = url
        refresh_settings()
        app, api = build_app(home / "app", ELEMENTS, name="warm"), PrefectApi(url)
        deploying.deploy(app, api, clock.now())
        found = api.deployments(app_tag(app.name))
        api.delete_deployment(found[SYNC].id)  # the rows and runs here are made by hand
        asks = {"PREFECT_WORKER_QUERY_SECONDS": "1"}
        for pool, kind in POOLS.items():
            api.ensure_pool(pool, kind)
        there.start_worker(
            url, "stock", cwd=home, env=asks, worker_type="process", limit=STOCK_LIMIT
        )
        here.start_worker(
            url, deployments.POOL, cwd=home, env=asks, worker_type=deployments.POOL_TYPE
        )
        rates: dict[str, list[float]] = {pool: [] for pool in POOLS}
        rounds, skipped, size = 3, 4, {"stock": 12, deployments.POOL: 60}
        if share < 1:
            rounds, skipped, size = 1, 1, dict.fromkeys(POOLS, 1)
        for _ in range(rounds):
            for pool in POOLS:
                rates[pool].append(
                    turn(app, api, found[NAME].id, pool, size[pool], skipped)
                )
        if share < 1:
            too_small(f"flow runs, server on {where}", "--scale 1")
            app.close()
            return
        ratio = statistics.median(
            o / s for o, s in zip(rates[deployments.POOL], rates["stock"], strict=True)
        )
        figures = {f"{name}_per_second": statistics.median(rates[pool]) for name, pool in
                   (("stock", "stock"), ("ours", deployments.POOL))}  # fmt: skip
        line(
            f"flow runs, server on {where}",
            ratio,
            "times the rate",
            "Prefect's process worker, limit 4",
            **figures,
        )
        app.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="share of the whole measurement, 1 where absent",
    )
    parser.add_argument(
        "--database",
        choices=("sqlite", "postgresql"),
        default="sqlite",
        help="the Prefect server's",
    )
    asked = parser.parse_args()
    with workplace() as home:
        os.environ.update(environment(None, home))
        if asked.database == "sqlite":
            measure(home, asked.scale, "SQLite")
            return
        server = os.environ.get(
            "JITTASK_BENCH_POSTGRES", "postgresql+asyncpg://postgres@127.0.0.1:5432/"
        )
        with postgres(server) as url:
            os.environ[DATABASE] = url
            measure(home, asked.scale, "PostgreSQL")


if __name__ == "__main__":
    main()
