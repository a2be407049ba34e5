"""Several workers on one server: how many claims of flow runs they lose to each other, and how much they do together.

Three loads, for 1, 2, 3 and 4 workers: *crowd*, flow runs of a row each that are all due at one instant; *stream*, such
runs that become due one after the other, slower than the workers could; *rows* of one instant, which share flow runs.
Each function waits 100 ms. Less than 5 % of the claims are to be lost, and with rows each worker is to add at least 0.8
of the first one's rate, until server or processor is full. The rows are in PostgreSQL (`JITTASK_BENCH_POSTGRES`), the
server has SQLite, or PostgreSQL with `--database postgresql`.
"""

from __future__ import annotations

import argparse
import os
import time
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from batches import SERVER, database
from cluster import free_port
from create_rate import DATABASE, postgres
from measure import line, workplace
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection, func, select
from warm_worker import create

from jittask_prefect.deploying import deploy as deploying
from jittask_prefect.deploying import deployments
from jittask_prefect.ledger.entry import new_entry
from jittask_prefect.ledger.tables import entries
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.rows import sync
from jittask_prefect.running.lease import new_owner
from jittask_prefect.schedule import clock
from jittask_prefect.server.commands import environment
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.selection import refresh_settings
from jittask_prefect.task_svc.wiring import App
from jittask_prefect.testing import build_app

SINGLE, TOGETHER, SYNC = "tasks.WarmReminder", "tasks.Together", "jittask.sync"
MODEL = """
from datetime import datetime
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class WarmItem(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    at: datetime | None = None
    together: NaiveDatetime | None = None
    done: int = 0
"""
FUNCTION = "import time\ndef customFunc(row):\n    time.sleep(0.1)\n    row.done += 1\n"


def task(field: str, dispatch: str) -> dict[str, object]:
    about = {"type": "tasks.DateFieldType", "title": field, "dispatch": dispatch}
    return about | {"modelPath": "models.WarmItem", "timerCfg": {"startField": field}}


ELEMENTS = {
    "models/WarmItem": {"e.json": {"type": "models.NormalType"}, "model.py": MODEL},
    "tasks/WarmReminder": {"e.json": task("at", "row"), "inner.py": FUNCTION},
    "tasks/Together": {"e.json": task("together", "auto"), "inner.py": FUNCTION},
}
LIMIT = 8  # processes of a worker
MANY = 64  # executions at a time of all workers


@dataclass
class Workers:
    """The workers of one server, and what they have counted."""

    home: Path
    url: str
    stack: ExitStack
    ports: list[int]
    pids: list[int] = field(default_factory=list)

    def one_more(self) -> None:
        """Start a worker, and wait until its first process is there."""
        port = free_port()
        home = self.stack.enter_context(Embedded(self.home / f"w{len(self.ports)}"))
        process = home.start_worker(
            self.url,
            deployments.POOL,
            cwd=self.home,
            env={
                "JITTASK_METRICS_PORT": str(port),
                "PREFECT_WORKER_HEARTBEAT_SECONDS": str(HEARTBEAT),
            },
            worker_type=deployments.POOL_TYPE,
            limit=LIMIT,
        )
        self.ports.append(port)
        self.pids.append(process.pid)
        while not figures(port).get("jittask_worker_children"):
            time.sleep(0.2)

    def claims(self) -> list[tuple[int, int]]:
        """Claims won and lost, for each worker."""
        return [
            (int(found.get("won", 0)), int(found.get("lost", 0)))
            for found in map(figures, self.ports)
        ]


HEARTBEAT = 5  # seconds, in place of 30: so often a worker asks for the others
NEWS = 8.0  # until all workers know of each other


def figures(port: int) -> dict[str, float]:
    """A worker's figures; empty while the worker starts."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            page = answer.read().decode()
    except OSError:
        return {}
    return {
        sample.labels.get("outcome", sample.name): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def crowd(app: App, api: PrefectApi, number: int, apart: float = 0.0) -> datetime:
    """Flow runs of a row each; the instant at which the first one is due."""
    due = clock.now() + timedelta(seconds=4 + number / 8)
    with app.engine().begin() as connection:
        first = next_key(connection)
        dues = [due + timedelta(seconds=apart * place) for place in range(number)]
        made = [
            new_entry(task_id=str(uuid.uuid4()), app=app.name, template=SINGLE, model="models.WarmItem", row_key=str(first + place), due=at,
                      nominal=at, start_value=None, generation=1, created=clock.now(), dirty=False)
            for place, at in enumerate(dues)
        ]  # fmt: skip
        rows = [
            {"id": first + place, "at": at, "done": 0} for place, at in enumerate(dues)
        ]
        table = app.getElement("models.WarmItem").__table__
        connection.execute(table.insert(), rows)
        connection.execute(entries.insert(), [entry.values() for entry in made])
    deployment = api.deployments(app_tag(app.name))[SINGLE].id
    for entry in made:
        create(app, api, deployment, entry)
    return due


def next_key(connection: Connection) -> int:
    query = "SELECT coalesce(max(id), 0) + 1 FROM warmitem"
    return int(connection.exec_driver_sql(query).scalar_one())


def stream(app: App, api: PrefectApi, number: int) -> datetime:
    """Flow runs of a row each, half a second apart."""
    return crowd(app, api, number, apart=0.5)


def together(app: App, api: PrefectApi, number: int) -> datetime:
    """Rows of one instant."""
    due = (clock.now() + timedelta(seconds=15)).replace(microsecond=0)
    table = app.getElement("models.WarmItem").__table__
    with app.engine().begin() as connection:
        local = due.astimezone(app.zone).replace(tzinfo=None)
        first = next_key(connection)
        rows = [
            {"id": first + place, "together": local, "done": 0}
            for place in range(number)
        ]
        connection.execute(table.insert(), rows)
    sync.run(app, api, clock.now(), new_owner(), clock=clock.now)
    return due


def seconds_to_end(
    app: App, template: str, due: datetime, number: int, every: float = 0.5
) -> float:
    """From the due instant to the last row; looks so often for the end."""
    mine = (entries.c.template == template, entries.c.due >= due)
    done = select(func.count(), func.max(entries.c.finished)).where(
        *mine, entries.c.status == "completed"
    )
    deadline = time.monotonic() + 120 + number
    while True:
        with app.engine().connect() as connection:
            found, last = connection.execute(done).one()
        if found == number:
            return float((last - due).total_seconds())
        assert time.monotonic() < deadline, f"{found} of {number} rows done"
        time.sleep(every)


def turn(
    app: App,
    api: PrefectApi,
    workers: Workers,
    load: Callable[[App, PrefectApi, int], datetime],
    number: int,
) -> dict[str, object]:
    """One load; how fast it was done, and the claims meanwhile."""
    before = workers.claims()
    due = load(app, api, number)
    template = TOGETHER if load is together else SINGLE
    taken = seconds_to_end(app, template, due, number)
    time.sleep(3)  # late losers count, too
    claims = [
        (now[0] - then[0], now[1] - then[1])
        for now, then in zip(workers.claims(), before, strict=True)
    ]
    won, lost = (sum(column) for column in zip(*claims, strict=True))
    return {
        "share_lost": lost / (won + lost),
        "won": won,
        "lost": lost,
        "of_each_worker": claims,
        "per_second": number / taken,
        "seconds": taken,
        "load": os.getloadavg()[0],
    }


def deployed(home: Path, url: str, keys: dict[str, str]) -> tuple[App, PrefectApi]:
    """The app on a server, without its sync: the loads here are made by hand."""
    os.environ["PREFECT_API_URL"] = url
    refresh_settings()
    app = build_app(home / "app", ELEMENTS, name="workers", maxConcurrency=MANY, **keys)
    api = PrefectApi(url)
    deploying.deploy(app, api, clock.now())
    api.delete_deployment(api.deployments(app_tag(app.name))[SYNC].id)
    return app, api


def measure(home: Path, asked: argparse.Namespace, keys: dict[str, str]) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(Embedded(home / "server")).ensure(900)[0].url
        app, api = deployed(home, url, keys)
        stack.callback(app.close)
        workers = Workers(home, url, stack, [])
        loads = {"crowd": (crowd, asked.runs), "stream": (stream, asked.runs // 2), "rows": (together, asked.rows)}  # fmt: skip
        for number in asked.workers:
            while len(workers.ports) < number:
                workers.one_more()
            time.sleep(NEWS)
            for name in asked.loads:
                load, size = loads[name]
                found = turn(app, api, workers, load, size)
                line(
                    f"{name}, {number} workers, server on {asked.database}",
                    found.pop("share_lost"),
                    "of the claims lost",
                    "less than 0.05",
                    **found,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--runs", type=int, default=120)
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--loads", nargs="+", default=["crowd", "stream", "rows"])
    choices = ("sqlite", "postgresql")
    parser.add_argument("--database", choices=choices, default="sqlite")
    asked = parser.parse_args()
    with workplace() as home, ExitStack() as stack:
        os.environ.update(environment(None, home))
        if asked.database == "postgresql":
            os.environ[DATABASE] = stack.enter_context(postgres(SERVER))
        measure(home, asked, stack.enter_context(database())[1])


if __name__ == "__main__":
    main()
