"""From the death of a worker to its tasks being at work elsewhere, by the real clock: at most 90 seconds.

Two warm workers on a real server, with the sync that the deployment `jittask.sync` runs each minute. In each turn the
worker that executes a row's task, or one of `createTimerTask`, is killed with SIGKILL at a random moment of the minute.
The task has a retry left, and the other worker takes it up.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from pathlib import Path
from typing import Any

from ending.ground import until
from measure import line, scale, workplace
from sqlmodel import Session

from jittask_prefect.deploying import deploy as deploying
from jittask_prefect.deploying import deployments
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.running.process_status import process_of
from jittask_prefect.schedule import clock
from jittask_prefect.server.commands import environment
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.selection import refresh_settings
from jittask_prefect.task_svc.service import TaskSvc
from jittask_prefect.task_svc.wiring import App
from jittask_prefect.testing import build_app

TURNS, ALLOWED, AT_MOST = 8, 90.0, 240.0
KINDS = ("a row's", "a scheduled task's")
MODEL = """
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class Dying(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    at: NaiveDatetime | None = None
    name: str = ""
"""
# The first time it goes on until it is killed.
INNER = """
import os, time
def customFunc({takes}):
    file = app.path.parent / {name}
    first = not file.exists()
    with file.open("a") as out:
        out.write(f"{{time.monotonic()!r}} {{os.getpid()}}\\n")
    if first:
        time.sleep(600)
"""
ROWS = {
    "type": "tasks.DateFieldType",
    "title": "Row",
    "modelPath": "models.Dying",
    "timerCfg": {"startField": "at"},
}
PLAIN = {
    "type": "tasks.NormalType",
    "title": "Plain",
    "timerCfg": {
        "startTime": "2099-01-01 00:00:00",
        "repeat": {"repeatType": "normal"},
    },
}


def begun(home: Path, name: str) -> list[tuple[float, int]]:
    """When the task's function has begun, on the machine's monotonic clock, and in which process."""
    file = home / name
    rows = file.read_text().splitlines() if file.exists() else []
    return [(float(at), int(pid)) for at, pid in (row.split() for row in rows)]


def make(app: App, api: PrefectApi, kind: str, name: str) -> None:
    """A task that is due now."""
    now = clock.now()
    if kind == KINDS[1]:
        TaskSvc(app, api).createTimerTask(
            "tasks.DyingPlain", now, "customFunc", "tasks.NormalType", {"name": name}
        )
        return
    dying: Any = app.getElement("models.Dying")
    with Session(app.engine()) as session:
        session.add(dying(name=name, at=now.replace(tzinfo=None)))
        session.commit()


def main() -> None:
    turns = max(1, round(TURNS * scale(__doc__ or "")))
    with workplace() as home:
        os.environ.update(environment(None, home / "client"))
        taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
        server, workers = (
            Embedded(home / "server"),
            [Embedded(home / f"worker{number}") for number in range(2)],
        )
        try:
            url = server.ensure()[0].url
            os.environ["PREFECT_API_URL"] = url
            refresh_settings()
            elements: Any = {
                "models/Dying": {
                    "e.json": {"type": "models.NormalType"},
                    "model.py": MODEL,
                },
                "tasks/DyingRow": {
                    "e.json": ROWS | {"retries": 1},
                    "inner.py": INNER.format(takes="row", name="row.name"),
                },
                "tasks/DyingPlain": {
                    "e.json": PLAIN | {"retries": 1},
                    "inner.py": INNER.format(takes="name='x'", name="name"),
                },
            }
            app = build_app(home / "app", elements, name="dying")
            api = PrefectApi(url)
            api.ensure_pool(deployments.POOL, deployments.POOL_TYPE)
            deploying.deploy(app, api, clock.now())
            for turn in range(turns):
                for one in workers:
                    if one.worker_running() is None:
                        one.stop()
                        env = {"PREFECT_WORKER_QUERY_SECONDS": "1"}
                        one.start_worker(
                            url,
                            deployments.POOL,
                            cwd=home,
                            env=env,
                            worker_type=deployments.POOL_TYPE,
                        )
                time.sleep(random.uniform(5, 65))  # any moment between two syncs
                kind = KINDS[turn % len(KINDS)]
                make(app, api, kind, str(turn))
                if not until(lambda name=str(turn): begun(home, name), 60):
                    raise SystemExit(f"turn {turn}: nothing has begun")
                child = process_of(begun(home, str(turn))[0][1])
                assert child is not None
                os.kill(child.parent, signal.SIGKILL)
                died = time.monotonic()
                until(lambda name=str(turn): len(begun(home, name)) > 1, AT_MOST)
                times = [at for at, _ in begun(home, str(turn))]
                taken[kind].append(times[1] - died if len(times) > 1 else AT_MOST)
        finally:
            for here in (*workers, server):
                here.stop()
    for kind, seconds in taken.items():
        if seconds:
            more = {"median": statistics.median(seconds), "kills": len(seconds)}
            line(
                f"worker killed to {kind} task at work elsewhere, longest",
                max(seconds),
                "seconds",
                f"{ALLOWED:g} seconds",
                **more,
            )


if __name__ == "__main__":
    main()
