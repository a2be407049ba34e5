"""The jobs as rows that are due at one instant, and the bare commits beside."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text
from sqlmodel import Session

from jittask_prefect.deploying import deploy as deploying
from jittask_prefect.deploying import deployments
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.rows import sync
from jittask_prefect.running.lease import new_owner
from jittask_prefect.running.outcome import Run
from jittask_prefect.running.run import execute_batch
from jittask_prefect.schedule import clock
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.selection import refresh_settings
from jittask_prefect.task_svc.wiring import App
from jittask_prefect.testing import FakePrefect, build_app
from queues.kinds import Kind, Turn, await_effects, present, second

NAME, SYNC = "tasks.PeerReminder", "jittask.sync"
# Seconds: the worker is warm by then, and has known the runs for a while.
DUE_IN, DUE_AGAIN_IN = 15.0, 8.0
MODEL = """
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class Peer(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    at: NaiveDatetime | None = None
"""
TASK = {
    "type": "tasks.DateFieldType",
    "title": "Peer",
    "modelPath": "models.Peer",
    "timerCfg": {"startField": "at"},
}


@dataclass(frozen=True)
class Peers:
    """An app whose rows are the jobs; loaded for one turn, so that its rows are those of the process's only app.

    Attributes:
        folder: Of the app.
        kind: The kind of function.
        parallel: How many rows a process has at work at once.
        keys: Keys of app.json.
    """

    folder: Path
    kind: Kind
    keys: Mapping[str, Any]
    parallel: int = 1

    @contextmanager
    def loaded(self) -> Iterator[App]:
        """The app, with its tables."""
        task = {**TASK, "parallel": self.parallel}
        elements: Any = {
            "models/Peer": {"e.json": {"type": "models.NormalType"}, "model.py": MODEL},
            "tasks/PeerReminder": {"e.json": task, "inner.py": self.kind.inner},
        }
        app = build_app(self.folder, elements, name=self.folder.name, **self.keys)
        try:
            yield app
        finally:
            app.close()


def fill(app: App, count: int, at: datetime) -> None:
    """Rows that are due at an instant, and no others."""
    peer: Any = app.getElement("models.Peer")
    with app.engine().begin() as connection:
        connection.execute(text("TRUNCATE peer, jittask_ledger"))
    with Session(app.engine()) as session:
        session.add_all([peer(at=at.replace(tzinfo=None)) for _ in range(count)])
        session.commit()


def deployed(app: App, url: str) -> PrefectApi:
    """Deploy an app on a server, without the sync of the minute: a benchmark has its own, at its time."""
    os.environ["PREFECT_API_URL"] = url
    refresh_settings()
    api = PrefectApi(url)
    api.ensure_pool(deployments.POOL, deployments.POOL_TYPE)
    deploying.deploy(app, api, clock.now())
    api.delete_deployment(api.deployments(app_tag(app.name))[SYNC].id)
    return api


@contextmanager
def with_worker(
    peers: Peers, home: Path, server: Mapping[str, str], limit: int | None = None
) -> Iterator[tuple[App, PrefectApi, Embedded]]:
    """The app, deployed on a real Prefect server with the warm worker, and without the sync of the minute.

    Args:
        peers: The app.
        home: Of server and worker.
        server: Variables of the server's environment.
        limit: The worker's `--limit`; absent as the worker has it.
    """
    os.environ.update(server)
    with peers.loaded() as app, Embedded(home) as here:
        url = here.ensure()[0].url
        api = deployed(app, url)
        here.start_worker(
            url,
            deployments.POOL,
            cwd=home,
            worker_type=deployments.POOL_TYPE,
            limit=limit,
        )
        yield app, api, here


def by_worker(
    peers: Peers, home: Path, server: Mapping[str, str], limit: int | None = None
) -> Turn:
    """Rows that are due at one instant, in batches, by the warm worker; arguments as of `with_worker`."""

    def turn(count: int) -> datetime:
        with with_worker(peers, home, server, limit) as (app, api, _):
            seconds = iter((DUE_IN, DUE_AGAIN_IN))

            def again() -> datetime:
                return all_at_once(app, api, count, next(seconds))

            return second(app.engine(), again)

    return turn


def all_at_once(app: App, api: PrefectApi, count: int, due_in: float) -> datetime:
    """Have rows that are due at one instant done; the instant."""
    at = (clock.now() + timedelta(seconds=due_in)).replace(microsecond=0)
    fill(app, count, at)
    sync.run(app, api, clock.now(), new_owner(), clock=clock.now)
    assert clock.now() < at, "handing over took too long"
    time.sleep((at - clock.now()).total_seconds())
    await_effects(app.engine(), count, "ours")
    return at


def here_and_now(peers: Peers) -> Turn:
    """The same in this process and without a server: one batch after the other."""

    def turn(count: int) -> datetime:
        with peers.loaded() as app:
            return prepared(app, count)()

    return turn


def prepared(app: App, count: int) -> Callable[[], datetime]:
    """Rows that are due at this moment; the answer runs them in this process, and says since when."""
    api, at = FakePrefect(), clock.now()
    deploying.deploy(app, api, at)
    fill(app, count, at)
    api.sync(app, at)
    runs = [Run(run, at) for run in api.all_runs]

    def work() -> datetime:
        begun = clock.now()
        batches = [execute_batch(app, NAME, at, run, clock.now) for run in runs]
        done = sum(len(batch.tasks) for batch in batches)
        assert done == count, f"{done} of {count} done"
        return begun

    return work


def bare(engine: Engine) -> Turn:
    """The statement and its commit, on one connection."""

    def turn(count: int) -> datetime:
        due = present(engine)
        with engine.connect() as connection:
            for number in range(count):
                job = {"job": number}
                connection.execute(text("INSERT INTO effect (job) VALUES (:job)"), job)
                connection.commit()
        return due

    return turn
