"""1,000 jobs, each of which commits one row: a batch of ours against Procrastinate and Celery, in one run.

At least 400 a second, and ahead of both. All write the same row with the same statement into the same PostgreSQL
database (`JITTASK_BENCH_POSTGRES`), and take turns. The jobs wait before the first begins; the rate is counted from the
first row to the last, by the database's clock, so that no start of a process counts. Only the workers whose turn it is
run. Ours are rows that are due at one instant: each is claimed, read and checked again, run and completed, its effect
in one commit with its completion, on a real Prefect server with the warm worker, as `jittask up` has both (without
the sync of the minute, which happens or not in one turn in ten). The server has SQLite, and one batch after the other
runs; with `--database postgresql` both at once, each in a process of its own.

Procrastinate has async tasks, in one process and in two: the better one counts. Celery has Redis
(`JITTASK_BENCH_REDIS`), two processes, and acknowledges before it runs, as it does where nobody says otherwise. Neither
reads anything for a job; their log says warnings only. `pip install '.[bench]'` brings both.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from batches import SERVER, database
from create_rate import DATABASE, postgres
from measure import line, workplace
from sqlalchemy import Engine, create_engine, make_url, text
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
from jittask_prefect.server.commands import environment
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.selection import refresh_settings
from jittask_prefect.task_svc.wiring import App
from jittask_prefect.testing import FakePrefect, build_app

SYNC = "jittask.sync"
FOLDER = Path(__file__).parent / "queues"
REDIS = os.environ.get("JITTASK_BENCH_REDIS", "redis://127.0.0.1:6379/0")
PREFIX = f"jittask-peers-{os.getpid()}:"
CONCURRENCY = 10  # of Procrastinate, in each process
DUE_IN = 15.0  # seconds: the worker is warm by then, and has known the runs for a while
MODEL = """
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class Peer(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    at: NaiveDatetime | None = None
"""
INNER = """
def customFunc(row):
    with app.session() as session:
        session.connection().exec_driver_sql("INSERT INTO effect (job) VALUES (%s)", (row.id,))
"""
TASK = {
    "type": "tasks.DateFieldType",
    "title": "Peer",
    "modelPath": "models.Peer",
    "timerCfg": {"startField": "at"},
}
ELEMENTS: Any = {
    "models/Peer": {"e.json": {"type": "models.NormalType"}, "model.py": MODEL},
    "tasks/PeerReminder": {"e.json": TASK, "inner.py": INNER},
}
EFFECT = "CREATE TABLE effect (id bigserial PRIMARY KEY, job int, at timestamptz DEFAULT clock_timestamp())"
Turn = Callable[[int], None]


def spans(engine: Engine, count: int, turn: Turn) -> float:
    """Jobs a second in one turn, each done once."""
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE effect"))
    turn(count)
    with engine.connect() as connection:
        seconds, jobs, rows = connection.execute(
            text(
                "SELECT extract(epoch FROM max(at) - min(at)), count(DISTINCT job), count(*) FROM effect"
            )
        ).one()
    assert jobs == rows == count, f"{jobs} jobs of {count}, {rows} rows"
    return (count - 1) / float(seconds)


def await_effects(engine: Engine, count: int, what: str) -> None:
    """Wait until all jobs are done; the database is asked rarely, not to be in the way."""
    deadline = time.monotonic() + 60 + count / 10
    while True:
        with engine.connect() as connection:
            done = connection.execute(text("SELECT count(*) FROM effect")).scalar_one()
        if done >= count:
            return
        assert time.monotonic() < deadline, f"{what}: {done} of {count} done"
        time.sleep(0.5)


@contextmanager
def workers(
    count: int, *command: str, env: Mapping[str, str], log: Path
) -> Iterator[None]:
    """Some processes of one command of this environment."""
    whole = [sys.executable, "-m", *command]
    with log.open("ab") as output:
        started = [
            subprocess.Popen(
                whole,
                cwd=FOLDER,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            for _ in range(count)
        ]
    try:
        yield
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            process.wait(30)


# Whose turn it is


def ours(app: App, home: Path, server: Mapping[str, str]) -> Turn:
    """Rows that are due at one instant, in batches, by the warm worker."""
    peer: Any = app.getElement("models.Peer")

    def turn(count: int) -> None:
        with app.engine().begin() as connection:
            connection.execute(text("TRUNCATE peer, jittask_ledger"))
        os.environ.update(server)
        with Embedded(home) as here:
            url = here.ensure()[0].url
            os.environ["PREFECT_API_URL"] = url
            refresh_settings()
            api = PrefectApi(url)
            api.ensure_pool(deployments.POOL, deployments.POOL_TYPE)
            deploying.deploy(app, api, clock.now())
            api.delete_deployment(
                api.deployments(app_tag(app.name))[SYNC].id
            )  # a sync of ours, beforehand
            here.start_worker(
                url, deployments.POOL, cwd=home, worker_type=deployments.POOL_TYPE
            )
            at = (clock.now() + timedelta(seconds=DUE_IN)).replace(microsecond=0)
            with Session(app.engine()) as session:
                session.add_all(
                    [peer(at=at.replace(tzinfo=None)) for _ in range(count)]
                )
                session.commit()
            sync.run(app, api, clock.now(), new_owner(), clock=clock.now)
            assert clock.now() < at, "handing over took too long"
            time.sleep((at - clock.now()).total_seconds())
            await_effects(app.engine(), count, "ours")

    return turn


def here_and_now(app: App) -> Turn:
    """The same without a server, for the suite: there a server takes longer to start than all of the rest."""
    peer: Any = app.getElement("models.Peer")

    def turn(count: int) -> None:
        api, at = FakePrefect(), clock.now()
        deploying.deploy(app, api, at)
        with Session(app.engine()) as session:
            session.add_all([peer(at=at.replace(tzinfo=None)) for _ in range(count)])
            session.commit()
        api.sync(app, at)
        [run] = api.all_runs
        assert (
            len(
                execute_batch(
                    app, "tasks.PeerReminder", at, Run(run, at), clock.now
                ).tasks
            )
            == count
        )

    return turn


def procrastinate(
    engine: Engine, env: Mapping[str, str], log: Path, processes: int
) -> Turn:
    """The workers wait; the jobs arrive in one statement."""
    os.environ.update(env)
    sys.path.insert(0, str(FOLDER))
    from by_procrastinate import job
    from by_procrastinate import procrastinate as queue

    with engine.connect() as connection:
        there = connection.execute(
            text("SELECT to_regclass('procrastinate_jobs')")
        ).scalar()
    if there is None:
        with queue.open():
            queue.schema_manager.apply_schema()
    command = (
        "procrastinate",
        "--app",
        "by_procrastinate.procrastinate",
        "--log-level",
        "warning",
        "worker",
    )

    def turn(count: int) -> None:
        with engine.begin() as connection:
            connection.execute(
                text("TRUNCATE procrastinate_jobs, procrastinate_workers CASCADE")
            )
        with workers(
            processes, *command, "--concurrency", str(CONCURRENCY), env=env, log=log
        ):
            deadline = time.monotonic() + 60
            while True:
                with engine.connect() as connection:
                    waiting = connection.execute(
                        text("SELECT count(*) FROM procrastinate_workers")
                    ).scalar_one()
                if waiting == processes:
                    break
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            time.sleep(1)  # they listen
            with queue.open():
                job.batch_defer(*({"number": number} for number in range(count)))
            await_effects(engine, count, "Procrastinate")

    return turn


def celery(engine: Engine, env: Mapping[str, str], log: Path) -> Turn:
    """The jobs wait in Redis; the worker begins when its processes are there."""
    os.environ.update(env)
    sys.path.insert(0, str(FOLDER))
    import redis
    from by_celery import job

    quiet = (
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
        "--loglevel",
        "WARNING",
    )
    command = (
        "celery",
        "-A",
        "by_celery",
        "worker",
        "--pool",
        "prefork",
        "--concurrency",
        "2",
        *quiet,
    )

    def turn(count: int) -> None:
        broker = redis.Redis.from_url(REDIS)
        try:
            for number in range(count):
                job.delay(number)
            with workers(1, *command, env=env, log=log):
                await_effects(engine, count, "Celery")
        finally:
            for key in broker.scan_iter(f"{PREFIX}*"):
                broker.delete(key)

    return turn


def bare(engine: Engine) -> Turn:
    """The statement and its commit, on one connection."""

    def turn(count: int) -> None:
        with engine.connect() as connection:
            for number in range(count):
                connection.execute(
                    text("INSERT INTO effect (job) VALUES (:job)"), {"job": number}
                )
                connection.commit()

    return turn


def measure(
    home: Path, keys: dict[str, str], share: float, server: Mapping[str, str]
) -> None:
    engine = create_engine(keys["database"])
    with engine.begin() as connection:
        connection.execute(text(EFFECT))
    plain = (
        make_url(keys["database"])
        .set(drivername="postgresql")
        .render_as_string(hide_password=False)
    )
    env = {
        "PEERS_DATABASE": plain,
        "PEERS_BROKER": REDIS,
        "PEERS_PREFIX": PREFIX,
        "PEERS_CONCURRENCY": str(CONCURRENCY),
    }
    app = build_app(home / "app", ELEMENTS, name="peers", **keys)
    log = home / "peers.log"
    tasks = f"async tasks, concurrency {CONCURRENCY}"
    mine = ours(app, home / "ours", server) if share >= 0.1 else here_and_now(app)
    turns: dict[str, Turn] = {"bare commits": bare(engine), "ours": mine}
    for processes, said in ((1, "1 process"), (2, "2 processes")):
        if version := installed("procrastinate"):
            turns[f"Procrastinate {version}, {tasks}, {said}"] = procrastinate(
                engine, env, log, processes
            )
    if version := installed("celery"):
        turns[
            f"Celery {version} on Redis, prefork, 2 processes, acknowledged early"
        ] = celery(engine, env, log)
    rates: dict[str, list[float]] = {name: [] for name in turns}
    load = os.getloadavg()[0]
    count = max(20, round(1000 * min(1.0, share)))
    for number in range(max(1, round(5 * share))):
        for name in list(turns) if number % 2 == 0 else reversed(turns):
            rates[name].append(spans(engine, count, turns[name]))
    where = (
        "no server"
        if share < 0.1
        else f"server on {'PostgreSQL' if server else 'SQLite'}"
    )
    tell(rates, count, where, load)
    app.close()
    engine.dispose()


def installed(package: str) -> str:
    """The version of a package; empty where it is missing, and then its turn is left out."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        line(f"{package} is left out", 0, "turns", "pip install '.[bench]'")
        return ""


def tell(rates: Mapping[str, list[float]], count: int, where: str, load: float) -> None:
    median = {name: statistics.median(found) for name, found in rates.items()}
    mine, commits = median["ours"], median["bare commits"]
    more = {"turns": len(rates["ours"]), "worst": min(rates["ours"]), "bare_commits_per_second": commits,
            "load_before": load}  # fmt: skip
    line(
        f"{count} rows in batches, PostgreSQL, {where}",
        mine,
        "rows a second",
        "400 rows a second",
        **more,
    )
    for package in ("Procrastinate", "Celery"):
        of = [name for name in rates if name.startswith(package)]
        if not of:
            continue
        best = max(of, key=lambda name: median[name])
        ratio = statistics.median(
            o / t for o, t in zip(rates["ours"], rates[best], strict=True)
        )
        more = {"ours_per_second": mine, "theirs_per_second": median[best]}
        more |= {f"not_chosen: {name}": median[name] for name in of if name != best}
        line(
            f"{count} jobs, each with its own commit, {where}",
            ratio,
            "times the rate",
            best,
            **more,
        )


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
    with workplace() as home:
        os.environ.update(environment(None, home))
        with database() as (kind, keys):
            if kind != "PostgreSQL":
                line(
                    "jobs with commits of their own are left out",
                    0,
                    "turns",
                    "a PostgreSQL server",
                )
            elif asked.database == "sqlite":
                measure(home, keys, asked.scale, {})
            else:
                with postgres(SERVER) as url:
                    measure(home, keys, asked.scale, {DATABASE: url})


if __name__ == "__main__":
    main()
