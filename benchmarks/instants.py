"""Instants at which rows are due: how soon the first row begins, and the memory of 10,000 rows of one instant.

A real server with the warm worker, with default settings. Each function waits 100 ms and writes a row. The flow runs are
known beforehand: the first row of 95 % of the instants is to begin within a second. The memory is that of the worker with
all its processes (PSS: shared memory counts in parts), at most while 10,000 rows are done, against the same with 100
rows. The rows are in PostgreSQL (`JITTASK_BENCH_POSTGRES`); the server has SQLite, or PostgreSQL with
`--database postgresql`.
"""

from __future__ import annotations

import argparse
import math
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import psutil
from batches import SERVER, database
from create_rate import DATABASE, postgres
from latency import family, pss
from measure import line, too_small, workplace
from queues.kinds import EFFECT, KINDS
from queues.ours import Peers, all_at_once, with_worker
from sqlalchemy import create_engine, text

from jittask_prefect.elements.app import App
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.schedule import clock
from jittask_prefect.server.commands import environment

INSTANTS, ROWS, MANY, FEW = 40, 20, 10_000, 100
LEAST_SCALE = 0.1
WARM_IN, DUE_IN = (
    15.0,
    6.0,
)  # seconds to the first instant, which does not count, and to each further one
LOOK_SECONDS = 0.5
FIRST_ROWS = text("SELECT extract(epoch FROM min(at)) FROM effect")


def first_rows(app: App, api: PrefectApi, instants: int) -> list[float]:
    """Seconds from instant to instant's first effect, less the wait of the function."""
    found = []
    all_at_once(app, api, ROWS, WARM_IN)
    for _ in range(instants):
        _forget(app)
        due = all_at_once(app, api, ROWS, DUE_IN)
        with app.engine().connect() as connection:
            first = float(connection.execute(FIRST_ROWS).scalar_one())
        found.append(first - KINDS["waits"].wait - due.timestamp())
    return found


@contextmanager
def watched(worker: int) -> Iterator[list[float]]:
    """The megabytes of a process and all its descendants, looked at again and again during the block."""
    found, over = list[float](), threading.Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            # A process may end between two questions.
            with suppress(OSError, StopIteration, psutil.Error):
                found.append(sum(pss(pid) for pid in family(worker)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def memory(app: App, api: PrefectApi, worker: int, count: int) -> tuple[float, float]:
    """The most megabytes while rows of one instant are done, and the rows a second from the instant on."""
    _forget(app)
    with watched(worker) as found:
        due = all_at_once(app, api, count, DUE_IN + count / 1000)
        taken = (clock.now() - due).total_seconds()
    return max(found), count / taken


def _forget(app: App) -> None:
    with app.engine().begin() as connection:
        connection.execute(text("TRUNCATE effect"))


def tell(firsts: list[float], where: str, load: float) -> None:
    """Print how soon the first rows began."""
    ordered = sorted(firsts)
    p95 = ordered[math.ceil(0.95 * len(ordered)) - 1]
    more = {"p50": ordered[len(ordered) // 2], "most": ordered[-1], "least": ordered[0]}
    more |= {"instants": len(ordered), "rows_of_each": ROWS, "load": load}
    name = f"first row after the due instant, server on {where}"
    line(name, p95, "seconds, p95", "1 second", **more)


def arguments() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--scale", type=float, default=1.0, help="share of the whole measurement, 1 where absent")  # fmt: skip
    add("--database", choices=("sqlite", "postgresql"), default="sqlite", help="the Prefect server's")  # fmt: skip
    return parser.parse_args()


def main() -> None:
    said = arguments()
    if said.scale < LEAST_SCALE:
        too_small("instants", f"--scale {LEAST_SCALE:g} at least")
        return
    with workplace() as home, ExitStack() as stack:
        os.environ.update(environment(None, home))
        engine, keys = stack.enter_context(database())
        if engine != "PostgreSQL":
            line("instants are left out", 0, "turns", "a PostgreSQL server")
            return
        server, where = {}, "SQLite"
        if said.database == "postgresql":
            server = {DATABASE: stack.enter_context(postgres(SERVER))}
            where = "PostgreSQL"
        with create_engine(keys["database"]).begin() as connection:
            connection.execute(text(EFFECT))
        load = os.getloadavg()[0]
        peers = Peers(home / "instants", KINDS["waits"], keys)
        place = with_worker(peers, peers.folder / ".jittask", server)
        app, api, here = stack.enter_context(place)
        firsts = first_rows(app, api, round(INSTANTS * said.scale))
        tell(firsts, where, load)
        worker = here.worker_running()
        assert worker
        few, _ = memory(app, api, worker.pid, FEW)
        many = round(MANY * said.scale)
        most, rate = memory(app, api, worker.pid, many)
        more = {"megabytes": most, "megabytes_with_100_rows": few, "rows": many}
        more |= {"rows_a_second": rate, "processes": len(family(worker.pid))}
        name = f"memory of all processes, rows of one instant, server on {where}"
        line(name, most / few, "times the memory", "100 rows", **more, load=load)


if __name__ == "__main__":
    main()
