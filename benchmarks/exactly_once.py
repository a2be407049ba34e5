"""Exactly once: Lost = Dup = Stale = Ghost = 0 under churn, while syncs and workers are killed at any point.

10,000 expected occurrences and 1,000 kills of the sync on each database. Time is virtual, processes are real: each
sync, worker and writer is one; syncs and workers are killed with SIGKILL, at a named failpoint or at a random moment.
An oracle that shares no code with the package says what must have an effect (`once/oracle.py`).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from measure import kill_matrix, line

# isort: split

import failpoints
from ending.server import kill, restart
from once.campaign import BEGIN, Campaign
from once.children import Context
from once.shop import (
    COLUMNS,
    EFFECT,
    Clock,
    Manager,
    Memory,
    app_json,
    deploy_to,
    elements,
)
from oracle import CLOSED, TEMPLATES
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.testing import build_app

HOME = Path(tempfile.mkdtemp(prefix="jittask-once-"))
OCCURRENCES, KILLS = 10_000, 1_000
POSTGRES = "postgresql+psycopg://postgres@127.0.0.1:5432/"


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of a fresh business database."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/shop.db"
        return
    name = f"jittask_once_{os.getpid()}"
    server = create_engine(POSTGRES + "postgres", isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield POSTGRES + name
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@contextmanager
def prefect(kind: str, folder: Path) -> Iterator[tuple[Any, Any, Any]]:
    """Two clients of a fresh Prefect server that has the app's deployments, or of one in memory, the second of them unused;
    and what kills the server and starts it again.

    A server is for one campaign: the next one, with the same seed, has the same tasks, and would find them done.
    """
    if kind == "memory":
        with Manager() as manager:
            shared = manager.Shared()  # type: ignore[attr-defined]
            for name in TEMPLATES:
                shared.add(name)
            yield Memory(shared), Memory(shared), None
        return
    with Embedded(folder / "server") as embedded:
        server, _ = embedded.ensure()
        deploy_to(server.url, TEMPLATES)
        api = PrefectApi(server.url)
        yield (
            api,
            PrefectApi(server.url),
            (partial(kill, embedded), partial(restart, embedded, server.port)),
        )


def campaign(kind: str, server: str, chosen: argparse.Namespace) -> bool:
    """One campaign on one database; whether all counters are 0."""
    share, seed, without = chosen.scale, chosen.seed, frozenset(chosen.without)
    folder = HOME / kind
    folder.mkdir()
    with database(kind, folder) as url, prefect(server, folder) as (api, fresh, kills):
        app = build_app(
            folder / "app", elements(chosen.parallel), **app_json(url, CLOSED)
        )
        if problems := app.check():
            raise SystemExit("\n".join(map(str, problems)))
        with app.engine().begin() as connection:
            connection.execute(text(f"CREATE TABLE effect ({EFFECT[kind]}, {COLUMNS})"))
        app.dispose()  # each process has connections of its own
        clock = Clock(BEGIN)
        context = Context(
            app, fresh, clock.now, folder / "journal", "before-claim" not in without
        )
        rows = 42 + int(198 * min(1.0, 5 * share))
        run = Campaign(
            context,
            api,
            clock,
            url,
            seed,
            rows,
            without,
            kills,
        )
        begun = time.monotonic()
        run.begin()
        steps = 60 + int(4000 * share)
        while run.steps < steps and (
            len(run.oracle.expected) < OCCURRENCES * share or syncs(run) < KILLS * share
        ):
            if time.monotonic() - begun > 60 * chosen.minutes:
                break
            run.step()
            if run.steps % 20 == 0:
                so_far = f"{len(run.oracle.expected)} expected, {syncs(run)} kills of the sync, {dict(run.oracle.count)}"
                print(
                    f"{kind} step {run.steps}, {time.monotonic() - begun:.0f} s: {so_far}",
                    file=sys.stderr,
                    flush=True,
                )
            if sum(run.oracle.count.values()) > 20:
                break
            if run.steps % 50 == 5:
                run.slow()
        run.settle()
        wrong = sum(run.oracle.count.values())
        for counter, row, what in run.oracle.found[:10]:
            print(f"\n{counter}: {what}\n{run.history(row)}", file=sys.stderr)
        for error in run.errors[:10]:
            print(f"error: {error}", file=sys.stderr)
        killed = {name: number for name, number in sorted(run.kills.items())}
        line(
            f"exactly once, {kind}",
            wrong,
            "differences",
            f"the oracle's {len(run.oracle.expected)} occurrences",
            expected=len(run.oracle.expected), sync_kills=syncs(run),
            executor_kills=sum(n for k, n in run.kills.items() if k.startswith("executor")),
            **{k.replace(" ", "_"): n for k, n in sorted(run.count.items())},
            **run.oracle.count, effects=len(run.oracle.effects), errors=len(run.errors), steps=run.steps, seed=seed,
            parallel=chosen.parallel, prefect=server, seconds=round(time.monotonic() - begun), kills=killed, absent=failpoints.absent(api),
        )  # fmt: skip
        print(
            kill_matrix(f"Kill matrix, exactly once, {kind}", run.matrix()),
            file=sys.stderr,
            flush=True,
        )
        return wrong == 0 and not run.errors


def alone() -> None:
    """None of the developer's own settings; Prefect reads them when it is imported, which nothing has done yet."""
    assert "prefect" not in sys.modules
    os.environ |= {
        "PREFECT_HOME": str(HOME / "client"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    }
    os.environ |= {
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    for name in (
        "PREFECT_API_URL",
        "PREFECT_PROFILE",
        "JITTASK_DATABASE_URL",
        "JITTASK_APP",
    ):
        os.environ.pop(name, None)


def syncs(run: Campaign) -> int:
    return sum(number for name, number in run.kills.items() if name.startswith("sync"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="share of the whole campaign, 1 where absent",
    )
    parser.add_argument(
        "--database", choices=["sqlite", "postgresql"], help="both where absent"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=600,
        help="the longest that the campaign on a database goes on",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--parallel",
        type=int,
        default=1,
        help="rows of a batch that a worker's process has at work at once",
    )
    parser.add_argument("--prefect", choices=["server", "memory"], default="server")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        help="a failpoint to leave out, several times; before-claim: workers say Running later",
    )
    chosen = parser.parse_args()
    alone()
    good = True
    for kind in [chosen.database] if chosen.database else ["sqlite", "postgresql"]:
        try:
            good &= campaign(kind, chosen.prefect, chosen)
        except SQLAlchemyError as error:
            if (
                chosen.database
                or kind == "sqlite"
                or "connection failed" not in str(error)
            ):
                raise
            print(f"no PostgreSQL: {error}", file=sys.stderr)
    shutil.rmtree(HOME, ignore_errors=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
