"""What may be done to the cluster on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .description import Fault

SHORT, LONG = (1.0, 8.0), (26.0, 32.0)  # a lease is over after 25 seconds
DOWN = (0.0, 5.0)
PARTS = {
    "api1": ("an API server", True),
    "api2": ("an API server", True),
    "services": ("the services", False),
    "worker1": ("a worker", True),
    "worker2": ("a worker", True),
    "sync": ("the sync", True),
    "balancer": ("the balancer", False),
    "redis": ("Redis", False),
    "prefect-db": ("Prefect's database", False),
    "app-db": ("the app's database", False),
}
"""The parts, with their names, and whether other processes take their place."""
LINKS = {
    "api1-db": "an API server and its database",
    "api1-redis": "an API server and Redis",
    "worker1-db": "a worker and the app's database",
    "worker1-api": "a worker and the balancer",
    "sync-db": "the sync and the app's database",
    "sync-api": "the sync and the balancer",
}
CLOCKS = ("worker1", "worker2", "api1", "api2", "services", "sync")


def local_faults(
    act: str, home: Path, disks: tuple[Path | None, Path | None], *, clocks: bool
) -> Iterator[Fault]:
    """The faults of the local cluster.

    Args:
        act: The command before a deed.
        home: The cluster's folder.
        disks: The small disks of a worker's temporary files and of the app's database.
        clocks: Clocks can be stepped.
    """
    yield from _processes(act, home)
    yield from _children(act)
    yield from _links(act)
    if clocks:
        yield from _clocks(home)
    yield from _disks(act, home, *disks)
    for part, name in (("servers", "API servers and services"), ("workers", "workers")):
        parts = "api1 api2 services" if part == "servers" else "worker1 worker2"
        yield Fault(
            f"upgrade of {name}, in turn", part, f"{act} roll {parts}", seconds=(0, 0)
        )


def _processes(act: str, home: Path) -> Iterator[Fault]:
    for part, (name, others) in PARTS.items():
        has_ready = part not in ("services", "sync", "balancer", "redis")
        ready = f"sh {home}/{part}.ready" if has_ready else ""
        weight = 0.5 if part[-1] in "12" else 1.0
        # A worker dies alone: its processes notice.
        deed = "signal" if part.startswith("worker") else "signal-all"
        yield Fault(
            f"kill {name}",
            part,
            f"{act} {deed} KILL {part}",
            f"{act} start {part}",
            ready,
            DOWN,
            others,
            weight,
        )
        frozen = f"{act} signal-all STOP {part}", f"{act} signal-all CONT {part}"
        yield Fault(f"freeze {name}", part, *frozen, ready, SHORT, False, weight)
        if part in ("worker1", "worker2", "sync", "app-db"):
            longer = f"freeze {name} beyond a lease"
            yield Fault(longer, part, *frozen, ready, LONG, others, weight / 2)


def _children(act: str) -> Iterator[Fault]:
    patterns = {"fork server": "server", "child": "child"}
    for kind, pattern in patterns.items():
        for worker in ("worker1", "worker2"):
            own = f"{worker}-{kind.replace(' ', '-')}"
            pick = f"{act} pick {worker} {pattern} {own}"
            kill = f"{pick} && {act} signal KILL {own}"
            stop = f"{pick} && {act} signal STOP {own}"
            # The process may be gone by then: its worker ends a child that does not answer.
            go_on = f"{act} signal CONT {own} || true"
            yield Fault(f"kill a {kind}", worker, kill, others=True, seconds=(0, 0))
            yield Fault(f"freeze a {kind}", worker, stop, go_on, "", SHORT, False, 0.5)
            longer = f"freeze a {kind} beyond a lease"
            yield Fault(longer, worker, stop, go_on, "", LONG, True, 0.25)


def _links(act: str) -> Iterator[Fault]:
    for part, name in LINKS.items():
        silent, heal = f"{act} signal USR1 {part}", f"{act} signal HUP {part}"
        forget = f"{act} signal INT {part}"
        others = part.startswith(("worker", "sync"))
        yield Fault(
            f"silence between {name}", part, silent, heal, "", SHORT, False, 0.5
        )
        longer = f"silence between {name} beyond a lease"
        yield Fault(longer, part, silent, heal, "", LONG, others, 0.25)
        gone = f"silent connections forgotten between {name}"
        yield Fault(gone, part, silent, forget, "", SHORT, others, 0.5)
        lose = f"{act} signal USR2 {part}"
        lost = f"answers lost between {name}"
        yield Fault(lost, part, lose, heal, "", (0.2, 3.0), False, 0.75)


def _clocks(home: Path) -> Iterator[Fault]:
    for part in CLOCKS:
        name = PARTS[part][0]
        for step, way in ((30, "ahead"), (-30, "back")):
            begin = f"echo {step} > {home}/{part}.clock"
            end = f"echo 0 > {home}/{part}.clock"
            about = f"clock of {name} 30 s {way}"
            yield Fault(about, part, begin, end, "", (5.0, 15.0), False, 0.3)


def _disks(
    act: str, home: Path, of_worker: Path | None, of_database: Path | None
) -> Iterator[Fault]:
    if of_worker:
        about = f"{act} fill {of_worker}", f"rm {of_worker}/filler"
        yield Fault("full disk of a worker", "worker1", *about, "", (2.0, 8.0))
    if of_database:
        end = f"rm {of_database}/filler; {act} mend app-db"
        begin, ready = f"{act} fill {of_database}", f"sh {home}/app-db.ready"
        name = "full disk of the app's database"
        yield Fault(name, "app-db", begin, end, ready, (2.0, 8.0))
