"""Growth: rows and flow runs a second with 1, 2, 3 and 4 workers, and the processor time that each part takes for them.

Two loads, for each number of workers: *rows* of one instant, which share flow runs; and *runs*, flow runs of a row each
that are all due at one instant. Each function waits 100 ms. Workers have the settings of `jittask worker`;
`maxConcurrency` of app.json is 64, so that it stops no worker. The rows are in PostgreSQL (`JITTASK_BENCH_POSTGRES`).
Prefect's server has SQLite, PostgreSQL (`--server postgresql`), or PostgreSQL and Redis (`--server redis`): then services
are a process of their own, a balancer stands before the API servers, and `--api-servers` says how many there are.

Printed for each number: the rate from the due instant to the last row; how many processors each part had busy meanwhile;
which parts were full; and the processor time of a row, or a run, by part, without what the part takes when idle. The
lines are what `growth_model.py` reads.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

from batches import database
from measure import line, too_small, workplace
from sqlalchemy import create_engine, make_url
from workers import (
    LIMIT,
    NEWS,
    SINGLE,
    TOGETHER,
    Workers,
    crowd,
    deployed,
    seconds_to_end,
    together,
)

# isort: split

from growing.parts import (
    APP_DB,
    MACHINE,
    OTHERS,
    PREFECT_DB,
    PROCESSORS,
    WORKERS,
    Parts,
)
from growing.servers import KINDS, SQLITE, WITH_REDIS, servers

from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.schedule import clock
from jittask_prefect.server.commands import environment
from jittask_prefect.task_svc.wiring import App

FULL, MACHINE_FULL = 0.9, 0.9
"""From this share on a process that has one thread at work, or the machine, counts as full."""
ADDED = 0.8
TAIL = 1.5  # seconds, until the last flow runs are reported
EARLY = timedelta(seconds=2.5)  # before the due instant: processes start
SIZES = {"rows": 600, "runs": 40}
"""For each worker; of runs on SQLite, for any number."""
LOADS: dict[str, tuple[Callable[[App, PrefectApi, int], datetime], str]] = {
    "rows": (together, TOGETHER),
    "runs": (crowd, SINGLE),
}
Cell = dict[str, object]


CONNECTIONS = 60
"""Of PostgreSQL beyond two for each process of a worker: those of the servers, and of others."""


def size(load: str, kind: str, workers: int, share: float) -> int:
    """How many rows or runs a turn has: some 10 to 20 seconds of work."""
    if load == "runs":
        workers = 1 if kind == SQLITE else 1 + workers
        return max(4, round(SIZES[load] * share * workers / 1))
    return max(40, round(SIZES[load] * share * workers))


def turn(app: App, api: PrefectApi, parts: Parts, load: str, number: int) -> Cell:
    """One load: its rate, and the processor time of the parts."""
    make, template = LOADS[load]
    time.sleep(NEWS / 2)  # after what a worker does at its start
    resting, resting_at = parts.seconds(), time.monotonic()
    time.sleep(NEWS / 2)
    at_first, began = parts.seconds(), time.monotonic()
    due = make(app, api, number)
    made, made_at = parts.seconds(), time.monotonic()
    wait_until(due - EARLY)
    before, before_at = parts.seconds(), time.monotonic()
    wait_until(due)
    at_due, at_due_at = parts.seconds(), time.monotonic()
    taken = seconds_to_end(app, template, due, number, every=0.2)
    at_end, at_end_at = parts.seconds(), time.monotonic()
    time.sleep(TAIL)
    last, last_at = parts.seconds(), time.monotonic()
    busy = rate(at_end, at_due, at_end_at - at_due_at)
    busy[OTHERS] = busy[MACHINE] - sum(busy[part] for part in busy if part != MACHINE)
    idling = rate(at_first, resting, began - resting_at)
    return {
        "number": number,
        "per_second": number / taken,
        "seconds": taken,
        "seconds_to_make": made_at - began,
        "busy": busy,
        "idle": idling,
        "cost": cost(last, before, idling, last_at - before_at, number),
        "cost_to_make": cost(made, at_first, idling, made_at - began, number),
    }


def wait_until(instant: datetime) -> None:
    time.sleep(max(0.0, (instant - clock.now()).total_seconds()))


def rate(now: Counter[str], then: Counter[str], seconds: float) -> dict[str, float]:
    """Processors that each part had busy."""
    return {part: round((now[part] - then[part]) / seconds, 3) for part in now}


def cost(
    now: Counter[str],
    then: Counter[str],
    idle: Mapping[str, float],
    seconds: float,
    number: int,
) -> dict[str, float]:
    """Milliseconds of processor time of each row or run, beyond what the part takes when idle."""
    return {
        part: round(1000 * (now[part] - then[part] - idle[part] * seconds) / number, 2)
        for part in now
    }


def full(busy: Mapping[str, float], workers: int) -> list[str]:
    """The parts that could do no more: processes with one busy thread, and the machine."""
    alone = ("API server", "services", "Redis")
    found = [part for part in busy if part.startswith(alone) and busy[part] >= FULL]
    if busy[WORKERS] >= FULL * workers:
        found.append(WORKERS)
    if busy[MACHINE] >= MACHINE_FULL * PROCESSORS:
        found.append(f"all {PROCESSORS} processors")
    return found


def measure(home: Path, asked: argparse.Namespace, keys: dict[str, str]) -> list[Cell]:
    """All cells of one kind of server."""
    cells: list[Cell] = []
    with ExitStack() as stack:
        about = (home, asked.server, asked.api_servers)
        server = stack.enter_context(servers(*about))
        app, api = deployed(home, server.url, keys)
        stack.callback(app.close)
        workers = Workers(home, server.url, stack, [])
        databases = {APP_DB: make_url(keys["database"]).database or ""}
        if server.database:
            databases[PREFECT_DB] = server.database
        for count in asked.workers:
            while len(workers.ports) < count:
                workers.one_more()
            parts = Parts(server.pids, workers.pids, databases)
            for load in asked.loads:
                number = size(load, asked.server, count, asked.scale)
                about = {"load": load, "server": asked.server}
                about |= {"api_servers": asked.api_servers, "workers": count}
                before = os.getloadavg()[0]
                cell = about | turn(app, api, parts, load, number)
                cell["full"] = full(cell["busy"], count)  # type: ignore[arg-type]
                cells.append(cell | {"load_before": before})
                tell(cells, asked.scale)
    return cells


def tell(cells: list[Cell], share: float) -> None:
    """Print the line of the last cell."""
    cell = dict(cells[-1])
    name = "{load}, {workers} workers, {api_servers} API servers, {server}".format(**cell)  # fmt: skip
    if share < 1:
        too_small(name, "--scale 1")
        return
    rates = {c["workers"]: float(str(c["per_second"])) for c in cells if c["load"] == cell["load"]}  # fmt: skip
    count = int(str(cell["workers"]))
    if {1, count, count - 1} <= set(rates) and count > 1:
        cell["added"] = (rates[count] - rates[count - 1]) / rates[1]
    against = f"{ADDED} of the first worker's rate with each more, until a part is full"
    line(name, rates[count], f"{cell['load']} a second", against, **cell)


def table(cells: list[Cell]) -> str:
    """A Markdown table of the cells."""
    head = ("load", "server", "API servers", "workers", "a second", "busy processors", "full")  # fmt: skip
    rows: list[tuple[str, ...]] = [head, ("---",) * len(head)]
    for cell in cells:
        busy = cell["busy"]
        assert isinstance(busy, dict)
        first = [str(cell[key]) for key in ("load", "server", "api_servers", "workers")]
        most = sorted(busy.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{part} {share:.2f}" for part, share in most if share >= 0.05)  # fmt: skip
        rows.append((*first, f"{cell['per_second']:.1f}", shares, ", ".join(cell["full"])))  # type: ignore[arg-type]  # fmt: skip
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def connections_allowed(url: str) -> int:
    """How many connections a PostgreSQL server takes."""
    engine = create_engine(url)
    with engine.connect() as connection:
        shown = connection.exec_driver_sql("SHOW max_connections").scalar_one()
    engine.dispose()
    return int(shown)


def arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--server", choices=KINDS, default=SQLITE)
    add("--api-servers", type=int, default=1, help="more than one needs Redis")
    add("--workers", type=int, nargs="+", default=[1, 2, 3, 4])
    add("--loads", nargs="+", choices=tuple(LOADS), default=list(LOADS))
    add("--scale", type=float, default=1.0, help="share of the whole measurement, 1 where absent")  # fmt: skip
    asked = parser.parse_args()
    if asked.api_servers > 1 and asked.server != WITH_REDIS:
        parser.error("several API servers need Redis: --server redis")
    if asked.scale < 0.1:
        asked.workers = [1]
    return asked


def main() -> None:
    asked = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # nothing is left behind
    with workplace() as home, ExitStack() as stack:
        os.environ.update(environment(None, home))
        engine, keys = stack.enter_context(database())
        if engine != "PostgreSQL":
            line("growth is left out", 0, "turns", "a PostgreSQL server")
            return
        needed = CONNECTIONS + 2 * (LIMIT + 1) * max(asked.workers)
        if (most := connections_allowed(keys["database"])) < needed:
            line("growth is left out", most, "connections", f"max_connections of {needed} at least")  # fmt: skip
            return
        cells = measure(home, asked, keys)
    print(table(cells), file=sys.stderr)


if __name__ == "__main__":
    main()
