"""Growth by calculation: a simulation that is fed with the measured costs of a row and a flow run, beside what was measured.

Reads the lines of `growth.py`, from files or from `growing/measured.jsonl`. For each kind of server, the cell with one
worker and one API server gives the costs by part, and the wait that is left over: the simulation of one worker takes as
long as was measured. All other cells are predicted from that cell: more workers, and a second API server. At least 9 of 10
cells are to be predicted within 20 %.

With `--processors`, `--workers` and `--api-servers` it says what other machines would do, from the same costs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from measure import line
from workers import LIMIT

# isort: split

from growing.parts import (
    APP_DB,
    CHILDREN,
    MACHINE,
    OTHERS,
    OWN,
    POSTGRES,
    PREFECT_DB,
    WORKERS,
)
from growing.servers import WITH_REDIS
from growing.simulation import SLICE, Resource, Simulation, Step, Steps, in_turn

MEASURED = Path(__file__).parent / "growing" / "measured.jsonl"
WITHIN = 0.2
WAIT = 0.1
"""Seconds that the function of a row or a run waits."""
REQUESTS = 8
"""Pieces of a flow run: requests of the worker or its process, which the server answers in turn."""
PLACES = {"sqlite": 1, "postgresql": 2, "redis": 2}
"""Flow runs of single tasks that a worker begins beside each other."""
Cell = Mapping[str, Any]


@dataclass(frozen=True)
class Costs:
    """What a row or a flow run takes, in seconds.

    Attributes:
        server: Of an API server's processor time.
        worker: Of the worker's.
        child: Of its process's.
        database: Of the databases', Redis' and the balancer's, in the way of the execution.
        beside: Of all else.
        wait: Of no processor time, beside that of the function.
        idle: Processors that all parts together have busy without work, for each worker.
        server_idle: Those of the API server alone.
    """

    server: float
    worker: float
    child: float
    database: float
    beside: float
    wait: float
    idle: float
    server_idle: float


@dataclass(frozen=True)
class Place:
    """Where something runs.

    Attributes:
        others: Processors that something else has busy.
    """

    workers: int
    api_servers: int
    processors: int
    others: float = 0.0

    @classmethod
    def of(cls, cell: Cell, processors: int) -> Place:
        """Where a cell was measured."""
        others = max(0.0, cell["busy"].get(OTHERS, 0.0))
        return cls(cell["workers"], cell["api_servers"], processors, others)


def costs(cell: Cell, wait: float = 0.0) -> Costs:
    """The costs that a cell has measured."""
    cost = {part: max(0.0, ms) / 1000 for part, ms in cell["cost"].items()}
    servers = sum(ms for part, ms in cost.items() if part.startswith("API server"))
    beside = cost.get("services", 0.0) + cost[POSTGRES]
    database = sum(cost.get(part, 0.0) for part in (APP_DB, PREFECT_DB, "Redis", OWN))
    idle = {part: max(0.0, busy) for part, busy in cell["idle"].items()}
    of_server = sum(b for part, b in idle.items() if part.startswith("API server"))
    about = (servers, cost[WORKERS], cost[CHILDREN], database, beside, wait)
    return Costs(*about, sum(idle.values()) - idle[MACHINE], of_server)


def simulated(load: str, kind: str, cost: Costs, place: Place, number: int) -> float:
    """The rows or runs a second of a simulation."""
    simulation, rng = Simulation(place.processors), Random(1)
    next_server = in_turn([Resource(1) for _ in range(place.api_servers)])
    # What a server does for idle workers is in the way of other requests.
    asking = cost.server_idle * place.workers / place.api_servers
    server = cost.server / max(0.1, 1 - asking)
    pieces = REQUESTS if load == "runs" else 1
    left, ended = [number], [0]

    def piece(seconds: float, thread: Resource | None = None) -> Step:
        # Requests are short and long ones, at random.
        share = rng.expovariate(1) if thread else 1
        return Step(share * seconds / pieces, thread)

    def executions(worker: Resource) -> Steps:
        child = Resource(1)
        while left[0] > 0:
            left[0] -= 1
            for _ in range(pieces):
                yield piece(server, next_server())
                yield piece(cost.database, Resource(1))
                yield piece(cost.worker, worker)
                yield piece(cost.child, child)
                yield piece(cost.beside, Resource(1))
                yield piece(max(0.0, cost.wait + WAIT))
            ended[0] += 1

    def background(busy: float) -> Steps:
        thread = Resource(1)
        while ended[0] < number:
            yield Step(SLICE, thread)
            yield Step(SLICE / busy - SLICE)

    for share in halves(place.others + cost.idle * place.workers):
        simulation.start(background(share))
    for _ in range(place.workers):
        worker = Resource(1)
        for _ in range(LIMIT if load == "rows" else PLACES[kind]):
            simulation.start(executions(worker))
    simulation.run()
    return number / simulation.now


def halves(busy: float) -> list[float]:
    """A load of some processors, as threads that are less than busy."""
    threads = 1 + int(busy)
    return [busy / threads] * threads if busy > 0.01 else []


def calibrated(cell: Cell, processors: int) -> Costs:
    """The costs of a cell, with the wait that makes its simulation take as long as was measured."""
    place = Place.of(cell, processors)
    low, high = -WAIT, 2.0
    for _ in range(20):
        middle = (low + high) / 2
        found = costs(cell, middle)
        about = (cell["load"], cell["server"], found, place, cell["number"])
        slower = simulated(*about) < cell["per_second"]
        low, high = (low, middle) if slower else (middle, high)
    return found


def predicted(cells: Iterable[Cell], processors: int) -> list[dict[str, Any]]:
    """Each cell, with the rate that is predicted for it."""
    found, known = [], {}
    for cell in sorted(cells, key=lambda c: (c["load"], c["server"], c["api_servers"], c["workers"])):  # fmt: skip
        kind = (cell["load"], cell["server"])
        first = cell["workers"] == cell["api_servers"] == 1
        if first:
            known[kind] = calibrated(cell, processors)
        if kind not in known:
            continue
        place = Place.of(cell, processors)
        rate = simulated(*kind, known[kind], place, cell["number"])
        about = {"calibrates": first, "predicted": rate}
        found.append({**cell, **about, "off": rate / cell["per_second"] - 1})
    return found


def read(files: Iterable[Path]) -> list[Cell]:
    """The cells of `growth.py`'s lines; of two for the same cell, the last one."""
    found: dict[tuple[Any, ...], Cell] = {}
    for file in files:
        for text in file.read_text().splitlines():
            if text.startswith("{") and "per_second" in (cell := json.loads(text)):
                keys = ("load", "server", "api_servers", "workers")
                found[tuple(cell[key] for key in keys)] = cell
    return list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("files", type=Path, nargs="*", default=[MEASURED], help="lines of growth.py")
    add("--measured-on", type=int, default=2, help="processors of the measurement")
    add("--processors", type=int, help="of another machine, to predict")
    add("--workers", type=int, default=4, help="of another machine")
    add("--api-servers", type=int, default=1, help="of another machine")
    add("--scale", type=float, default=1.0, help="not read: this takes a moment")
    asked = parser.parse_args()
    cells = predicted(read(asked.files), asked.measured_on)
    for cell in cells:
        name = "{load}, {workers} workers, {api_servers} API servers, {server}".format(**cell)  # fmt: skip
        about = {"measured": cell["per_second"], "off": cell["off"]}
        against = "calibrated by this cell" if cell["calibrates"] else f"within {WITHIN} of the measured rate"  # fmt: skip
        line(name, cell["predicted"], f"{cell['load']} a second", against, **about)
    others = [cell for cell in cells if not cell["calibrates"]]
    if others:
        near = sum(abs(cell["off"]) <= WITHIN for cell in others)
        worst = max(abs(cell["off"]) for cell in others)
        line("predicted within 20 %", near / len(others), "of the cells", "0.9", cells=len(others), worst=worst)  # fmt: skip
    if asked.processors:
        elsewhere(cells, asked)


def elsewhere(cells: Iterable[Cell], asked: argparse.Namespace) -> None:
    """Print what another machine would do."""
    place = Place(asked.workers, asked.api_servers, asked.processors)
    for cell in cells:
        alone = cell["server"] != WITH_REDIS and asked.api_servers > 1
        if cell["calibrates"] and not alone:  # several servers need Redis
            found = calibrated(cell, asked.measured_on)
            number = cell["number"] * asked.workers
            rate = simulated(cell["load"], cell["server"], found, place, number)
            name = "{load}, {server}".format(**cell)
            name = f"{name}, {place.workers} workers, {place.api_servers} API servers, {place.processors} processors"
            line(name, rate, f"{cell['load']} a second", "a calculation")


if __name__ == "__main__":
    main()
