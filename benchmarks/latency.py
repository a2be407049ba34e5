"""From due to the function's first line, for single tasks on an idle machine with `jittask up`; and what it costs idle.

Four ways to become due, in turns, three seconds apart: a scheduled task's own run, a row that was handed over
beforehand, a row that is saved and due now, `createTimerTask` for now. None may begin early; the 95th percentile is to
be at most 3 s over the floor. The floor is what the worker waits between two looks for runs at most: Prefect makes it
`PREFECT_WORKER_QUERY_SECONDS` (`jittask up`: 1, where nobody says otherwise; Prefect: 10) and up to 30 % more. What is
known beforehand has that much less of a floor as the worker looks ahead, `PREFECT_WORKER_PREFETCH_SECONDS` (10): none
with either. `--database postgresql` is as for `warm_worker.py`.

Idle, the sync that comes every minute included, the worker and its processes are to take less than 2 % of one core and
250 MB (PSS).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from create_rate import DATABASE, postgres
from measure import line, workplace
from sqlmodel import Session

from jittask_prefect.deploying import deploy as deploying
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.schedule import clock
from jittask_prefect.server.commands import environment
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.selection import refresh_settings
from jittask_prefect.task_svc.wiring import App
from jittask_prefect.testing import build_app

MODEL = """
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class Soon(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    at: NaiveDatetime | None = None
    name: str = ""
"""
INNER = """
import time
def customFunc({takes}):
    at = time.time()
    with (app.path / "started.txt").open("a") as file:
        file.write(f"{{{name}}} {{at!r}}\\n")
"""
ROWS = {
    "type": "tasks.DateFieldType",
    "title": "Row",
    "modelPath": "models.Soon",
    "timerCfg": {"startField": "at"},
}
KINDS = {
    "scheduled": "a scheduled task's own run",
    "row": "a row handed over beforehand",
    "saved": "a row saved with a date of now",
    "asked": "createTimerTask for now",
}
APART = 3.0  # seconds between two tasks: a run is over by then
LOOKS_AHEAD = 10  # seconds: Prefect's default
JITTER = 1.3  # Prefect's loop: `jitter_range` in prefect/workers/base.py
ALLOWED = 3.0


def floors() -> dict[str, float]:
    """What a task waits for the worker's next look at most, by the settings that `jittask up` gives its worker."""
    env = environment(None, Path())
    longest = JITTER * float(env["PREFECT_WORKER_QUERY_SECONDS"])
    beforehand = max(
        0.0,
        longest - int(float(env.get("PREFECT_WORKER_PREFETCH_SECONDS", LOOKS_AHEAD))),
    )
    return {
        "scheduled": beforehand,
        "row": beforehand,
        "saved": longest,
        "asked": longest,
    }


def task(dates: Sequence[datetime]) -> dict[str, Any]:
    """The e.json of a scheduled task that is due at these instants."""
    listed = [f"{at:%Y-%m-%d %H:%M:%S}" for at in dates]
    timer = {
        "startTime": listed[0],
        "repeat": {"repeatType": "custom", "dates": listed},
    }
    return {"type": "tasks.NormalType", "title": "Plain", "timerCfg": timer}


def app_of(folder: Path) -> App:
    """An app with a scheduled task that is not due for long, and a task of rows."""
    elements: Any = {
        "models/Soon": {"e.json": {"type": "models.NormalType"}, "model.py": MODEL},
        "tasks/SoonPlain": {
            "e.json": task([datetime(2099, 1, 1)]),
            "inner.py": INNER.format(takes="name='scheduled'", name="name"),
        },
        "tasks/SoonRow": {
            "e.json": ROWS,
            "inner.py": INNER.format(takes="row", name="row.name"),
        },
    }
    return build_app(folder, elements, name="soon")


def ask(app: App, name: str, now: datetime) -> None:
    """Have the scheduled task's function run now."""
    svc: Any = app.getElement("services.TaskSvc")
    svc.createTimerTask(
        "tasks.SoonPlain", now, "customFunc", "tasks.NormalType", {"name": name}
    )


def save(app: App, *rows: tuple[str, datetime]) -> None:
    """Save rows as any program does that uses the models."""
    soon: Any = app.getElement("models.Soon")
    with Session(app.engine()) as session:
        session.add_all(
            [soon(name=name, at=at.replace(tzinfo=None)) for name, at in rows]
        )
        session.commit()


@contextlib.contextmanager
def up(app: App) -> Iterator[Embedded]:
    """`jittask up`, in a terminal of nobody."""
    env = environment(None, app.path / ".jittask") | {"JITTASK_APP": str(app.path)}
    with (app.path.parent / "up.log").open("wb") as log:
        command = [Path(sys.executable).parent / "jittask", "up"]
        process = subprocess.Popen(
            command,
            cwd=app.path,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    here = Embedded(app.path / ".jittask")
    try:
        deadline = time.monotonic() + 120
        while b"first sync" not in (app.path.parent / "up.log").read_bytes():
            assert process.poll() is None and time.monotonic() < deadline, (
                app.path.parent / "up.log"
            ).read_text()
            time.sleep(0.2)
        yield here
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


# Idle


def family(root: int) -> list[int]:
    """A process and those that came from it."""
    children = psutil.Process(root).children(recursive=True)
    return sorted([root, *(child.pid for child in children)])


def cpu(pid: int) -> float:
    """Seconds that a process, and those of its children that have ended, has taken."""
    rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, rest[11:15])) / os.sysconf("SC_CLK_TCK")


def pss(pid: int) -> float:
    """Megabytes; what several processes share counts in parts."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return (
        int(next(row.split()[1] for row in text.splitlines() if row.startswith("Pss:")))
        / 1000
    )


def idle(here: Embedded, seconds: float, where: str) -> None:
    """What the worker takes while nothing but the sync is due."""
    worker = here.worker_running()
    assert worker
    before = {pid: cpu(pid) for pid in family(worker.pid)}
    begun = time.monotonic()
    time.sleep(seconds)
    taken, pids = time.monotonic() - begun, family(worker.pid)
    percent = {pid: 100 * (cpu(pid) - before.get(pid, 0.0)) / taken for pid in pids}
    megabytes = {pid: pss(pid) for pid in pids}
    own = worker.pid
    more = {"worker_percent": percent[own], "processes": len(pids), "seconds": taken}
    line(
        f"idle worker: CPU, syncs included, server on {where}",
        sum(percent.values()),
        "% of one core",
        "2 % of one core",
        **more,
    )
    more = {"worker_megabytes": megabytes[own], "processes": len(pids)}
    line(
        f"idle worker: memory, server on {where}",
        sum(megabytes.values()),
        "MB (PSS)",
        "250 MB (PSS)",
        **more,
    )


# From due to started


def measure(home: Path, rounds: int, idle_seconds: float, where: str) -> None:
    app = app_of(home / "app")
    with up(app) as here:
        server = here.find()
        assert server
        os.environ.update(environment(server.url, here.home))
        refresh_settings()
        if idle_seconds:
            time.sleep(30)  # the start is over
            idle(here, idle_seconds, where)
        first = math.ceil(time.time() + 2 * APART + (LOOKS_AHEAD if rounds > 1 else 0))
        every = timedelta(seconds=4 * APART)
        dates = [
            datetime.fromtimestamp(first, UTC) + number * every
            for number in range(rounds)
        ]
        (app.path / "tasks/SoonPlain/e.json").write_text(json.dumps(task(dates)))
        app.close()
        app = App(app.path)
        deploying.deploy(app, PrefectApi(server.url), clock.now())
        ask(app, "first", clock.now())  # the worker's process loads what has changed
        due = turns(app, dates)
        deadline = time.monotonic() + 60
        while len(begun := _begun(app, dates)) < 4 * rounds + 1:
            assert time.monotonic() < deadline, (
                f"{len(begun)} of {4 * rounds + 1} have begun"
            )
            time.sleep(0.5)
    app.close()
    tell(due, begun, where)


def turns(app: App, dates: Sequence[datetime]) -> dict[str, dict[str, float]]:
    """Have tasks become due, from each date on one of each kind; when which one is due."""
    beforehand = {
        f"row-{n}": at + timedelta(seconds=APART) for n, at in enumerate(dates)
    }
    due: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
    due["scheduled"] = {
        f"scheduled-{at.timestamp():.0f}": at.timestamp() for at in dates
    }
    due["row"] = {name: at.timestamp() for name, at in beforehand.items()}
    save(app, *beforehand.items())
    for number, at in enumerate(dates):
        for kind, place in (("saved", 2), ("asked", 3)):
            # At any moment between two looks of the worker.
            then = at.timestamp() + place * APART + random.uniform(-0.5, 0.5)
            time.sleep(max(0.0, then - time.time()))
            name, now = f"{kind}-{number}", clock.now()
            due[kind][name] = now.timestamp()
            if kind == "saved":
                save(app, (name, now))
            else:
                ask(app, name, now)
    return due


def _begun(app: App, dates: Sequence[datetime]) -> dict[str, float]:
    """When which task began; one of the schedule is told by the date that is nearest."""
    file, found = app.path / "started.txt", {}
    for name, text in (
        (row.split() for row in file.read_text().splitlines()) if file.exists() else ()
    ):
        at = float(text)
        if name == "scheduled":
            name = f"scheduled-{min((d.timestamp() for d in dates), key=lambda d: abs(d - at)):.0f}"
        assert name not in found, f"{name} has begun twice"
        found[name] = at
    return found


def tell(due: dict[str, dict[str, float]], begun: dict[str, float], where: str) -> None:
    floor = floors()
    early = 0
    for kind, of in due.items():
        waited = sorted(begun[name] - at for name, at in of.items())
        early += sum(seconds < 0 for seconds in waited)
        p50, p95 = (
            waited[max(0, math.ceil(len(waited) * part) - 1)] for part in (0.5, 0.95)
        )
        more = {"floor_seconds": floor[kind], "over_floor": p95 - floor[kind], "p50_seconds": p50,
                "max_seconds": waited[-1], "tasks": len(waited), "load": os.getloadavg()[0]}  # fmt: skip
        on_minute = [begun[name] - at for name, at in of.items() if at % 60 == 0]
        if on_minute:
            more["max_beside_a_sync"] = max(on_minute)
        against = f"{ALLOWED + floor[kind]:g} seconds: {ALLOWED:g} over the floor"
        line(
            f"due to started: p95, {KINDS[kind]}, server on {where}",
            p95,
            "seconds",
            against,
            **more,
        )
    line("tasks that began before they were due", early, "differences", "0")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    rounds = max(1, round(40 * asked.scale))
    idle_seconds = 120.0 if psutil.LINUX and asked.scale >= 0.1 else 0.0
    with workplace() as folder:
        if asked.database == "sqlite":
            measure(folder, rounds, idle_seconds, "SQLite")
            return
        server = os.environ.get(
            "JITTASK_BENCH_POSTGRES", "postgresql+asyncpg://postgres@127.0.0.1:5432/"
        )
        with postgres(server) as url:
            os.environ[DATABASE] = url
            measure(folder, rounds, idle_seconds, "PostgreSQL")


if __name__ == "__main__":
    main()
