"""Jobs that write a row each: batches of ours against Celery and Procrastinate, in one run.

Two kinds of functions: *writes* inserts a row and commits; *waits* waits 100 ms before. All write the same row with the
same statement into the same PostgreSQL database (`JITTASK_BENCH_POSTGRES`), and take turns. Only the workers whose turn
it is run. They do all jobs twice, and the second time counts: the processes of every side have done such jobs then. A
rate is counted twice, by the database's clock: from the first row to the last, and from the due instant to the last
row. The due instant is that of our rows, and for the others the moment from which on the jobs may begin, with their
workers up. At least 1.3 times Celery's rate and 1.7 times Procrastinate's where functions write, 0.9 times Celery's
where they wait, and as many as Procrastinate's with as many places.

Ours are rows that are due at one instant: each is claimed, read and checked again, run and completed, its effect in one
commit with its completion, on a real Prefect server with the warm worker as `jittask up` has both (without the sync of
the minute, which happens or not in one turn in ten). The server has SQLite, or PostgreSQL with `--database postgresql`.
Functions that wait are measured with default settings, 8 processes, and with `parallel: 10` in a worker of two
processes: `maxConcurrency` is 20 in app.json, and the worker's `--limit` is 2.

Celery has Redis (`JITTASK_BENCH_REDIS`), prefork processes, and acknowledges before it runs, as it does where nobody
says otherwise. Its jobs wait in Redis, and its worker is told their queue at the moment (`add_consumer`). Procrastinate
has async tasks, in one process and in two. Its jobs are inserted in one statement at the moment, of which the database
notifies the workers: jobs with a `schedule_at` are found up to 5 s late. Neither reads anything for a job; their log
says warnings only. `pip install '.[bench]'` brings both.

The last line says where the time of a writing row goes, by a batch in a single process without a server.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import median

from batches import SERVER, database
from create_rate import DATABASE, postgres
from measure import line, too_small, workplace
from queues import row_cost
from queues.kinds import EFFECT, KINDS, Kind, Side, Span, measured
from queues.ours import Peers, bare, by_worker, here_and_now, prepared
from queues.theirs import FOLDER, celery, procrastinate
from sqlalchemy import Engine, create_engine, make_url, text

from jittask_prefect.rows.batches import BATCH_SIZE
from jittask_prefect.server.commands import environment
from jittask_prefect.warm.places import LIMIT

REDIS = os.environ.get("JITTASK_BENCH_REDIS", "redis://127.0.0.1:6379/0")
PREFIX = f"jittask-peers-{os.getpid()}:"
CONCURRENCY = 10  # of Procrastinate, and of our task with `parallel`, in each process
WRITERS = 2  # processes of Celery, where functions write
TURNS = 5
LEAST_ROWS = 100  # of fewer, the start of processes is most of the time
LEAST_SHARE = 0.1  # of less, a server takes longer to start than all of the rest
ENOUGH = f"--scale {LEAST_SHARE:g} and {LEAST_ROWS} rows at least"
OURS, TOGETHER, BARE = "ours", f"ours, parallel {CONCURRENCY}, 2 processes", "bare commits"  # fmt: skip
SINCE = {"first": "from the first row", "due": "from the due instant"}


@dataclass(frozen=True)
class Asked:
    """What to measure.

    Attributes:
        share: The share of the whole measurement.
        rows: How many rows; absent by kind.
        turns: How many turns; absent by share.
        server: Variables of our Prefect server.
        keys: Keys of app.json, with the database.
    """

    share: float
    rows: int | None
    turns: int | None
    server: Mapping[str, str]
    keys: Mapping[str, str]

    @property
    def small(self) -> bool:
        """Whether all is done without a server, as in the test suite."""
        return self.share < LEAST_SHARE

    @property
    def where(self) -> str:
        """The Prefect server."""
        server = "PostgreSQL" if self.server else "SQLite"
        return "no server" if self.small else f"server on {server}"

    def count(self, kind: Kind) -> int:
        """How many rows of a kind."""
        return max(kind.least, round((self.rows or kind.rows) * min(1.0, self.share)))

    @property
    def rounds(self) -> int:
        """How many turns."""
        return self.turns or max(1, round(TURNS * self.share))


def measure(home: Path, kind: Kind, asked: Asked) -> None:
    """Let the sides take turns with one kind of function, and print the ratios."""
    engine, count = create_engine(asked.keys["database"]), asked.count(kind)
    try:
        sides = [*ours(home, kind, asked), *theirs(home, kind, asked, engine)]
        if not kind.wait:
            sides.insert(0, Side(BARE, 1, bare(engine)))
        found: dict[str, list[Span]] = {side.name: [] for side in sides}
        load = os.getloadavg()[0]
        for number in range(asked.rounds):
            for side in sides if number % 2 == 0 else reversed(sides):
                found[side.name].append(measured(engine, count, side.turn))
        tell(kind, asked, sides, found, load)
    finally:
        engine.dispose()


def ours(home: Path, kind: Kind, asked: Asked) -> Iterator[Side]:
    """Our sides: with default settings; and for functions that wait with `parallel` in two processes."""

    def side(name: str, places: int, limit: int | None, parallel: int) -> Side:
        folder = home / f"{kind.name}-{parallel}"
        keys = {**asked.keys, "maxConcurrency": places}
        peers = Peers(folder, kind, keys, parallel)
        turn = by_worker(peers, folder / ".jittask", asked.server, limit)
        return Side(name, places, here_and_now(peers) if asked.small else turn)

    yield side(OURS, LIMIT, None, 1)
    if kind.wait:
        yield side(TOGETHER, CONCURRENCY * 2, 2, CONCURRENCY)


def theirs(home: Path, kind: Kind, asked: Asked, engine: Engine) -> Iterator[Side]:
    """The other queues, as far as they are installed; in a small run one side of each, where functions wait."""
    if asked.small and not kind.wait:
        return
    env = {
        "PEERS_DATABASE": _plain(asked.keys["database"]),
        "PEERS_BROKER": REDIS,
        "PEERS_PREFIX": PREFIX,
        "PEERS_CONCURRENCY": str(CONCURRENCY),
        "PEERS_WAIT": str(kind.wait),
    }
    log, most = home / f"{kind.name}.log", 1 if asked.small else None
    if version := installed("celery"):
        for number in ((LIMIT, CONCURRENCY) if kind.wait else (WRITERS,))[:most]:
            name = f"Celery {version} on Redis, prefork, {number} processes, acknowledged early"
            yield Side(name, number, celery(engine, env, log, REDIS, number))
    if version := installed("procrastinate"):
        tasks = f"Procrastinate {version}, async tasks, concurrency {CONCURRENCY}"
        for number in (1, 2)[:most]:
            turn = procrastinate(engine, env, log, number, CONCURRENCY)
            name = f"{tasks}, {number} process{'es' * (number > 1)}"
            yield Side(name, number * CONCURRENCY, turn)


def _plain(url: str) -> str:
    """The address of a database without SQLAlchemy's driver."""
    plain = make_url(url).set(drivername="postgresql")
    return plain.render_as_string(hide_password=False)


@cache
def installed(package: str) -> str:
    """The version of a package; empty where it is missing, and then its turn is left out."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        line(f"{package} is left out", 0, "turns", "pip install '.[bench]'")
        return ""


def tell(
    kind: Kind,
    asked: Asked,
    sides: Sequence[Side],
    found: Mapping[str, list[Span]],
    load: float,
) -> None:
    """Print a line for each comparison, and each span."""
    about = {"turns": asked.rounds, "load_before": load}
    count, by_name = asked.count(kind), {side.name: side for side in sides}
    name = f"{kind.name}: {count} rows, {asked.where}"
    if asked.small or count < LEAST_ROWS:
        too_small(name, ENOUGH)
        return
    for mine, others in pairs(sides):
        for other in others:
            for since in SINCE:
                a, b = by_name[mine], by_name[other.name]
                both = compared(kind, (a, found[mine]), (b, found[other.name]), since)
                title = f"{name}, {mine}, {SINCE[since]}"
                ratio = both.pop("ratio")
                line(title, ratio, "times the rate", other.name, **both, **about)
    if BARE in found:
        rates, commits = ([span.rate("first") for span in found[side]] for side in (OURS, BARE))  # fmt: skip
        more = {
            "worst": min(rates),
            "bare_commits_per_second": median(commits),
            **about,
        }
        line(f"{name}, in batches", median(rates), "rows a second", "400 rows a second", **more)  # fmt: skip


def pairs(sides: Sequence[Side]) -> Iterator[tuple[str, list[Side]]]:
    """Which of ours is compared with which others: as many processes, or as many rows at once in each."""
    celery = [side for side in sides if side.name.startswith("Celery")]
    procrastinate = [side for side in sides if side.name.startswith("Procrastinate")]
    if any(side.name == TOGETHER for side in sides):
        yield from ((OURS, celery), (TOGETHER, procrastinate))
    else:
        yield OURS, [*celery, *procrastinate]


def compared(
    kind: Kind,
    mine: tuple[Side, list[Span]],
    other: tuple[Side, list[Span]],
    since: str,
) -> dict[str, float]:
    """The ratio of two sides, and their rates; medians of the turns."""
    turns = zip(mine[1], other[1], strict=True)
    found = {"ratio": median(o.rate(since) / t.rate(since) for o, t in turns)}
    for name, (side, spans) in (("ours", mine), ("theirs", other)):
        found[f"{name}_per_second"] = median(span.rate(since) for span in spans)
        if kind.wait:
            shares = [span.share(kind, side.places, since) for span in spans]
            found[f"{name}_of_the_ideal"] = median(shares)
    return found


def cost_of_a_row(home: Path, asked: Asked) -> None:
    """Print where the time of a writing row goes."""
    kind, engine = KINDS["writes"], create_engine(asked.keys["database"])
    count = min(asked.count(kind), BATCH_SIZE)
    with Peers(home / "cost", kind, asked.keys).loaded() as app:
        row = row_cost.cost(
            app.engine(), count, asked.rounds, partial(prepared, app, count)
        )
        plain = row_cost.cost(
            engine, count, asked.rounds, lambda: partial(bare(engine), count)
        )
    if count < LEAST_ROWS:
        too_small(f"a row's cost, {count} rows", ENOUGH)
    else:
        row_cost.tell(row, plain, count)
    engine.dispose()


def arguments() -> argparse.Namespace:
    """What the command line says."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--kind", choices=tuple(KINDS), help="of function; both where absent")
    usual = ", ".join(f"{kind.rows} where the function {kind.name}" for kind in KINDS.values())  # fmt: skip
    add("--rows", type=int, help=f"{usual}, where absent")
    add("--turns", type=int, help=f"{TURNS} times the scale where absent")
    add("--scale", type=float, default=1.0, help="share of the whole measurement, 1 where absent")  # fmt: skip
    add("--database", choices=("sqlite", "postgresql"), default="sqlite", help="the Prefect server's")  # fmt: skip
    return parser.parse_args()


def main() -> None:
    said = arguments()
    sys.path.insert(0, str(FOLDER))  # as the workers find their tasks
    kinds = [KINDS[said.kind]] if said.kind else list(KINDS.values())
    with workplace() as home, ExitStack() as stack:
        os.environ.update(environment(None, home))
        engine, keys = stack.enter_context(database())
        if engine != "PostgreSQL":
            line("jobs with commits of their own are left out", 0, "turns", "a PostgreSQL server")  # fmt: skip
            return
        server = {}
        if said.database == "postgresql":
            server = {DATABASE: stack.enter_context(postgres(SERVER))}
        with create_engine(keys["database"]).begin() as connection:
            connection.execute(text(EFFECT))
        asked = Asked(said.scale, said.rows, said.turns, server, keys)
        for kind in kinds:
            measure(home, kind, asked)
        if KINDS["writes"] in kinds:
            cost_of_a_row(home, asked)


if __name__ == "__main__":
    main()
