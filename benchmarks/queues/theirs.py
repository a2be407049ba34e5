"""The jobs by Procrastinate and by Celery, with their workers up before the jobs may begin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine, text

from queues.kinds import Turn, ask, await_effects, present, second

FOLDER = Path(__file__).parent
NOWHERE = "nowhere"  # a queue of Celery's without jobs
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")
CELERY = ("celery", "-A", "by_celery", "worker", "--pool", "prefork", "-Q", NOWHERE, *QUIET, "--loglevel", "WARNING")  # fmt: skip
PROCRASTINATE = ("procrastinate", "--app", "by_procrastinate.procrastinate", "--log-level", "warning", "worker")  # fmt: skip


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


def await_number(engine: Engine, question: str, number: int, log: Path) -> None:
    """Wait until a query gives a number."""
    deadline = time.monotonic() + 60
    while ask(engine, question) < number:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def procrastinate(
    engine: Engine, env: Mapping[str, str], log: Path, processes: int, concurrency: int
) -> Turn:
    """The workers listen; the jobs arrive in one statement, and may begin when it is sent."""
    os.environ.update(env)
    from by_procrastinate import job
    from by_procrastinate import procrastinate as queue

    if ask(engine, "SELECT to_regclass('procrastinate_jobs')") is None:
        with queue.open():
            queue.schema_manager.apply_schema()
    command = (*PROCRASTINATE, "--concurrency", str(concurrency))

    def turn(count: int) -> datetime:
        with engine.begin() as connection:
            connection.execute(
                text("TRUNCATE procrastinate_jobs, procrastinate_workers CASCADE")
            )
        with workers(processes, *command, env=env, log=log), queue.open():
            there = "SELECT count(*) FROM procrastinate_workers"
            await_number(engine, there, processes, log)
            time.sleep(1)  # they listen

            def all_at_once() -> datetime:
                due = present(engine)
                job.batch_defer(*({"number": number} for number in range(count)))
                await_effects(engine, count, "Procrastinate")
                return due

            return second(engine, all_at_once)

    return turn


def celery(
    engine: Engine, env: Mapping[str, str], log: Path, broker: str, processes: int
) -> Turn:
    """The jobs wait in Redis, and the worker's processes wait; then the worker is told the jobs' queue."""
    os.environ.update(env)
    import redis
    from by_celery import CONNECTIONS, job
    from by_celery import celery as queue

    def turn(count: int) -> datetime:
        jobs, of_job = redis.Redis.from_url(broker), queue.conf.task_default_queue

        def all_at_once() -> datetime:
            queue.control.cancel_consumer(of_job, reply=True, timeout=10, limit=1)
            for number in range(count):
                job.delay(number)
            time.sleep(1)  # all is quiet
            assert ask(engine, "SELECT count(*) FROM effect") == 0
            due = present(engine)
            queue.control.add_consumer(of_job)
            await_effects(engine, count, "Celery")
            return due

        try:
            with workers(1, *CELERY, "--concurrency", str(processes), env=env, log=log):
                there = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{CONNECTIONS}'"
                await_number(engine, there, processes, log)
                assert queue.control.ping(timeout=10, limit=1), log.read_text()
                return second(engine, all_at_once)
        finally:
            for key in jobs.scan_iter(f"{env['PEERS_PREFIX']}*"):
                jobs.delete(key)

    return turn
