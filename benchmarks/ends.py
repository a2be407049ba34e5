"""Ends at random moments of a task's life, by `forcedEnd`, `jittask end` and Cancel in Prefect: Ghost = 0.

1,000 ends on a real server, with warm workers. What executes is gone within 5 s, within 10 s where the workers or the
server were killed just before, whatever its function does; afterReturn, on_cancellation and the next occurrence follow
once. A tenth of the ends comes after a kill of the workers, a tenth after one of the server.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from create_rate import DATABASE, postgres
from ending.campaign import NS, TOGETHER, Campaign
from ending.ground import WORKERS, Ground
from ending.signs import Signs
from ending.verdict import ALIVE_SECONDS, COUNTERS, KILLED_SECONDS, Verdict, judge
from measure import kill_matrix, line, workplace
from sqlalchemy import create_engine, text

from jittask_prefect.running.process_end import END_SECONDS
from jittask_prefect.server.commands import environment

ENDS = 1000
SERVER = os.environ.get(
    "JITTASK_BENCH_POSTGRES", "postgresql+asyncpg://postgres@127.0.0.1:5432/"
)
OTHERS = (
    "after_return",
    "on_cancellation",
    "next_occurrence",
    "begun_twice",
    "open_runs",
    "ended_as_died",
    "errors",
)
KILLED = {"child": "child", "worker": "worker parent", "server": "server"}


@contextmanager
def database(kind: str) -> Iterator[dict[str, Any]]:
    """The keys of app.json for a business database; on PostgreSQL Prefect's server has a database there, too."""
    if kind == "sqlite":
        yield {}
        return
    name = f"jittask_ends_{os.getpid()}"
    admin = create_engine(
        SERVER.replace("+asyncpg", "+psycopg") + "postgres",
        isolation_level="AUTOCOMMIT",
    )
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        with postgres(SERVER) as url:
            os.environ[DATABASE] = url
            yield {
                "database": admin.url.set(database=name).render_as_string(
                    hide_password=False
                )
            }
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def tell(kind: str, campaign: Campaign, verdict: Verdict, **about: Any) -> None:
    """The lines, and the matrix."""
    ghosts = verdict.total("Ghost")
    about |= {"statuses": dict(verdict.statuses), "kills": dict(campaign.kills)}
    line(
        f"Ghost, {kind}",
        ghosts,
        "differences",
        "0",
        ends=len(campaign.targets),
        **about,
    )
    for counter in (*(c for c in COUNTERS if c != "Ghost"), *OTHERS):
        line(f"{counter}, {kind}", verdict.total(counter), "differences", "0")
    for killed, most in (
        ("", ALIVE_SECONDS),
        ("worker", KILLED_SECONDS),
        ("server", KILLED_SECONDS),
    ):
        took = sorted(verdict.seconds.get(killed, []))
        if took:
            name = f"asked to the last sign of life, {f'{killed} killed' if killed else 'all alive'}, {kind}"
            p95 = took[max(0, int(len(took) * 0.95) - 1)]
            line(
                name,
                took[-1],
                "seconds",
                f"{most:g} seconds",
                p95=p95,
                median=statistics.median(took),
                of=len(took),
            )
    if answers := sorted(
        (t.said - t.asked) / NS
        for t in campaign.targets
        if t.means == "facade" and not t.killed
    ):
        p95 = answers[max(0, int(len(answers) * 0.95) - 1)]
        name = f"asked to the answer of forcedEnd, {TOGETHER} beside each other, {kind}"
        line(
            name,
            answers[-1],
            "seconds",
            f"{END_SECONDS:g} seconds",
            p95=p95,
            median=statistics.median(answers),
            of=len(answers),
        )
    rows = []
    for what, name in KILLED.items():
        counts = verdict.counts.get(what, {})
        rows.append(
            (
                name,
                "executing",
                campaign.kills[what],
                *(counts.get(c, 0) for c in COUNTERS),
            )
        )
    rows.append(
        (
            "the function, by an end",
            "any moment",
            len(campaign.targets),
            *(verdict.total(c) for c in COUNTERS),
        )
    )
    print(kill_matrix(f"Kill matrix, ends, {kind}", rows), file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="share of the whole campaign, 1 where absent",
    )
    parser.add_argument(
        "--number", type=int, help=f"of ends; {ENDS} times the scale where absent"
    )
    parser.add_argument(
        "--database", choices=("sqlite", "postgresql"), default="sqlite"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=600,
        help="the longest that the campaign goes on",
    )
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with workplace() as home, database(asked.database) as keys:
        (home / "client").mkdir()
        os.environ.update(environment(None, home / "client"))
        begun = time.monotonic()
        number = asked.number or int(ENDS * asked.scale)
        ground = Ground(home, keys, WORKERS if number >= 10 else 1)
        try:
            with Signs(home) as signs:
                campaign = Campaign(
                    ground, signs, asked.seed, lite=asked.database == "sqlite"
                )
                campaign.run(number, asked.minutes)
                verdict = judge(campaign)
            for problem in [*campaign.problems[:20], *verdict.found[:40]]:
                print(problem, file=sys.stderr, flush=True)
            about = {
                "seed": asked.seed,
                "took_seconds": round(time.monotonic() - begun),
            }
            tell(
                asked.database,
                campaign,
                verdict,
                **about,
                between_looks=round(signs.longest / NS, 2),
            )
        finally:
            ground.close()


if __name__ == "__main__":
    main()
