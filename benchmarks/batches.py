"""Rows a second in a batch, each with its own commit, against bare commits; and 1,000 rows that are due at one instant.

A row of a batch is to take no more than four bare commits of one connection. Of the 1,000 rows, on a real server with
the warm worker, 95 % are to be done within 5 s of their instant, each once; then again, with the worker killed in the
middle and another one started. The rows are in PostgreSQL where there is one (`JITTASK_BENCH_POSTGRES`), else in
SQLite; Prefect's server has SQLite.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from measure import line, scale, workplace
from queues.ours import deployed
from sqlalchemy import create_engine, select, text
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from jittask_prefect.deploying import deploy as deploying
from jittask_prefect.deploying import deployments
from jittask_prefect.ledger.tables import entries
from jittask_prefect.rows import sync
from jittask_prefect.running.lease import new_owner
from jittask_prefect.running.outcome import Run
from jittask_prefect.running.run import execute_batch
from jittask_prefect.schedule import clock
from jittask_prefect.server.commands import environment
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.task_svc.wiring import App
from jittask_prefect.testing import FakePrefect, build_app

NAME, SYNC = "tasks.ManyReminder", "jittask.sync"
MODEL = """
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class Many(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    at: NaiveDatetime | None = None
    done: int = 0
"""
TASK = {
    "type": "tasks.DateFieldType",
    "title": "Many",
    "modelPath": "models.Many",
    "timerCfg": {"startField": "at"},
}
ELEMENTS = {
    "models/Many": {"e.json": {"type": "models.NormalType"}, "model.py": MODEL},
    "tasks/ManyReminder": {
        "e.json": TASK,
        "inner.py": "def customFunc(row):\n    row.done += 1\n",
    },
}
SERVER = os.environ.get(
    "JITTASK_BENCH_POSTGRES", "postgresql+asyncpg://postgres@127.0.0.1:5432/"
)


@contextmanager
def database() -> Iterator[tuple[str, dict[str, str]]]:
    """What it is, and the key of app.json that leads to it."""
    # One address for all benchmarks: Prefect's server wants asyncpg.
    admin = create_engine(
        SERVER.replace("+asyncpg", "+psycopg") + "postgres",
        isolation_level="AUTOCOMMIT",
    )
    name = f"jittask_batches_{os.getpid()}"
    try:
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    except OperationalError:
        yield "SQLite", {}
        return
    try:
        yield (
            "PostgreSQL",
            {
                "database": admin.url.set(database=name).render_as_string(
                    hide_password=False
                )
            },
        )
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def fill(app: App, count: int, seconds: float) -> datetime:
    """Rows that are due at one instant, so many seconds from now; the instant."""
    at = (clock.now() + timedelta(seconds=seconds)).replace(microsecond=0)
    many: Any = app.getElement("models.Many")
    with Session(app.engine()) as session:
        session.add_all(
            [
                many(at=at.astimezone(app.zone).replace(tzinfo=None))
                for _ in range(count)
            ]
        )
        session.commit()
    return at


def rate(app: App, kind: str, share: float) -> None:
    """One batch and as many bare commits, in turn."""
    api, size = FakePrefect(), max(20, int(500 * share))
    deploying.deploy(app, api, clock.now())
    rows, bare = [], []
    for _ in range(max(1, int(7 * share))):
        due = fill(app, size, 2)
        api.sync(app, clock.now())
        [run] = [
            r
            for r in api.all_runs.values()
            if datetime.fromisoformat(r["expected_start_time"]) == due
        ]
        time.sleep(max(0.0, (due - clock.now()).total_seconds()))
        begun = time.perf_counter()
        assert (
            len(execute_batch(app, NAME, due, Run(run["id"], due), clock.now).tasks)
            == size
        )
        rows.append(size / (time.perf_counter() - begun))
        with app.engine().connect() as connection:
            begun = time.perf_counter()
            for key in range(1, size + 1):
                connection.execute(
                    text("UPDATE many SET done = done WHERE id = :key"), {"key": key}
                )
                connection.commit()
            bare.append(size / (time.perf_counter() - begun))
    ratio = statistics.median(b / r for r, b in zip(rows, bare, strict=True))
    more = {
        "rows_per_second": statistics.median(rows),
        "commits_per_second": statistics.median(bare),
    }
    line(f"a row of a batch, {kind}", ratio, "bare commits", "4", **more)


def together(home: Path, app: App, kind: str, count: int, *, kill: bool) -> None:
    """Rows that are due at one instant, on a real server."""
    with (
        Embedded(home / ("killed" if kill else "ours")) as here,
        Embedded(home / "another") as other,
    ):
        url = here.ensure()[0].url
        api = deployed(app, url)
        asks = {"PREFECT_WORKER_QUERY_SECONDS": "1"}
        worker = here.start_worker(
            url, deployments.POOL, cwd=home, env=asks, worker_type=deployments.POOL_TYPE
        )
        due = fill(app, count, 20)
        sync.run(app, api, clock.now(), new_owner(), clock=clock.now)
        mine = (entries.c.due == due, entries.c.template == NAME)
        killed = False
        while left := _open(app, mine):
            if clock.now() - due > timedelta(seconds=300):
                raise SystemExit(f"{left} rows were not done within five minutes")
            if kill and not killed and left < count:
                killed = True
                os.kill(
                    worker.pid, signal.SIGKILL
                )  # its children see that the pipe is gone
                other.start_worker(
                    url,
                    deployments.POOL,
                    cwd=home,
                    env=asks,
                    worker_type=deployments.POOL_TYPE,
                )
            if killed:  # as the flow `jittask.sync` does every minute
                sync.run(app, api, clock.now(), new_owner(), clock=clock.now)
            time.sleep(0.2)
        with app.engine().connect() as connection:
            ends = sorted(
                (r.finished - due).total_seconds()
                for r in connection.execute(select(entries).where(*mine))
            )
            done = connection.execute(
                text("SELECT done, count(*) FROM many GROUP BY done")
            ).all()
        wrong = sum(number for times, number in done if times != 1)
        p95 = ends[max(0, int(len(ends) * 0.95) - 1)]
        if kill:
            line(
                f"Lost and Dup of {count} rows, worker killed, {kind}",
                wrong,
                "differences",
                "0",
                last_seconds=ends[-1],
            )
        else:
            more = {
                "median_seconds": statistics.median(ends),
                "last_seconds": ends[-1],
                "not_once": wrong,
            }
            line(
                f"{count} rows due at one instant: p95, {kind}",
                p95,
                "seconds",
                "5 seconds",
                **more,
            )


def _open(app: App, mine: tuple[Any, ...]) -> int:
    with app.engine().connect() as connection:
        found = connection.execute(select(entries.c.status).where(*mine)).scalars()
        return sum(status in ("pending", "executing") for status in found)


def main() -> None:
    share = scale(__doc__ or "")
    with workplace() as home:
        os.environ.update(environment(None, home))
        with database() as (kind, keys):
            task = {**TASK, "retries": 1}
            elements: Any = {
                **ELEMENTS,
                "tasks/ManyReminder": {
                    **ELEMENTS["tasks/ManyReminder"],
                    "e.json": task,
                },
            }
            app = build_app(home / "app", elements, name="many", **keys)
            rate(app, kind, share)
            if share >= 0.1:  # a server takes longer to start than all of the above
                for kill in (False, True):
                    with app.engine().begin() as connection:
                        for table in ("many", "jittask_ledger"):
                            connection.execute(text(f"DELETE FROM {table}"))
                    together(home, app, kind, int(1000 * min(1, share)), kill=kill)
            app.close()


if __name__ == "__main__":
    main()
