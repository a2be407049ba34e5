"""The processor time of each kind of process, from `/proc`."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")
PROCESSORS = len(os.sched_getaffinity(0))
WORKERS, CHILDREN, OWN = "workers", "children of workers", "balancer and benchmark"
POSTGRES, APP_DB, PREFECT_DB = "PostgreSQL, other", "the app's database", "Prefect's database"  # fmt: skip
MACHINE, OTHERS = "all processes of the machine", "others"


class Process(NamedTuple):
    """A process, its own processor time, and that of its children that have ended, in seconds."""

    parent: int
    own: float
    ended: float


@dataclass(frozen=True)
class Parts:
    """The processes of a measurement.

    Attributes:
        roots: Processes by the part's name; all their descendants belong to the part.
        workers: The processes of workers; their descendants are the part `CHILDREN`.
        databases: Names of databases, by the part that the processes of their connections are.
    """

    roots: Mapping[str, int]
    workers: Sequence[int]
    databases: Mapping[str, str]

    def seconds(self) -> Counter[str]:
        """The processor time of each part up to now."""
        found, known = Counter[str](), processes()
        below = defaultdict(list)
        for pid, process in known.items():
            below[process.parent].append(pid)

        def tree(pid: int) -> float:
            process = known.get(pid, Process(0, 0.0, 0.0))
            return process.own + process.ended + sum(map(tree, below[pid]))

        for name, pid in self.roots.items():
            found[name] = tree(pid)
        for pid in self.workers:
            found[WORKERS] += known[pid].own
            found[CHILDREN] += tree(pid) - known[pid].own
        found.update(self._of_databases(known, below))
        found[OWN] = sum(os.times()[:2])
        found[MACHINE] = of_machine()
        return found

    def _of_databases(
        self, known: Mapping[int, Process], below: Mapping[int, list[int]]
    ) -> Counter[str]:
        found, masters = Counter[str](), set[int]()
        parts = dict(connections(self.databases))
        for pid, part in parts.items():
            if pid in known:
                found[part] += known[pid].own
                masters.add(known[pid].parent)
        for master in masters:
            others = [pid for pid in below[master] if pid not in parts]
            found[POSTGRES] += sum(known[pid].own for pid in [master, *others])
            found[POSTGRES] += known[master].ended
        return found


def processes() -> dict[int, Process]:
    """All processes of the machine."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # The name, in brackets, may have spaces.
            after = (folder / "stat").read_text().rpartition(")")[2].split()
            user, system, ended_user, ended_system = map(int, after[11:15])
            own, ended = user + system, ended_user + ended_system
            found[int(folder.name)] = Process(int(after[1]), own / TICKS, ended / TICKS)
    return found


def connections(databases: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """The processes of PostgreSQL's connections, with the part of their database."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (folder / "cmdline").read_text(errors="replace")
            if command.startswith("postgres: "):
                for part, name in databases.items():
                    if f" {name} " in command:
                        yield int(folder.name), part


def of_machine() -> float:
    """The processor time that the whole machine has used up to now."""
    first = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _wait, interrupts, soft, _stolen = map(int, first)
    return (user + nice + system + interrupts + soft) / TICKS
