"""Signs of life: what functions write, and whether their processes are there."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from jittask_prefect.server.processes import Identity

LOOK_SECONDS = 0.03
# A process' number, which another one has after half an hour, its start, and the process that began it for the task.
Life = tuple[int, float, int]


@dataclass
class Sign:
    """What is known of a task's function, in ns of the machine's monotonic clock."""

    begun: list[int] = field(default_factory=list)
    last: int = 0
    effects: list[int] = field(default_factory=list)
    pids: set[Life] = field(
        default_factory=set
    )  # the processes that it has not left by itself
    begun_in: list[int] = field(default_factory=list)


class Signs:
    """Reads the file of beats, and looks at processes, in a thread of its own.

    Args:
        folder: Where the functions leave their files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._place = 0
        self._tasks: defaultdict[str, Sign] = defaultdict(Sign)
        self._alive: set[Life] = set()
        self._seen: dict[Life, int] = {}  # when it was last found alive
        self.longest = 0  # ns between two looks: no end is known more closely
        self.lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="signs", daemon=True)

    def __enter__(self) -> Signs:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()

    def of(self, task: str) -> Sign:
        """A copy of what is known of a task."""
        with self.lock:
            found = self._tasks[task]
            return Sign(
                list(found.begun),
                found.last,
                list(found.effects),
                set(found.pids),
                list(found.begun_in),
            )

    def at_work(self, task: str) -> bool:
        """Whether a process is there that has begun the task and not left it."""
        return any(life in self._alive for life in self.of(task).pids)

    def last(self, task: str) -> int:
        """The last sign of life: a beat, or a process that had not left the task."""
        sign = self.of(task)
        return max([sign.last, *(self._seen[life] for life in sign.pids)])

    def counts(self, file: str) -> Counter[str]:
        """How many lines of a file begin with each word."""
        path = self._folder / file
        lines = path.read_text().splitlines() if path.exists() else []
        return Counter(line.split(" ", 1)[0] for line in lines)

    def _watch(self) -> None:
        before = time.monotonic_ns()
        while not self._stop.wait(LOOK_SECONDS):
            self._read()
            now = time.monotonic_ns()
            self.longest, before = max(self.longest, now - before), now
            for life in list(self._alive):
                there = Identity(*life[:2]).alive
                with self.lock:
                    if there:
                        self._seen[life] = now
                    else:
                        self._alive.discard(life)

    def _read(self) -> None:
        path = self._folder / "beats"
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self._place)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._place += len(whole)
        with self.lock:
            for line in whole.decode().splitlines():
                task, what, moment, pid = line.split()
                self._take(self._tasks[task], what, int(moment), int(pid))

    def _take(self, sign: Sign, what: str, moment: int, pid: int) -> None:
        sign.last = max(sign.last, moment)
        if what == "begin":
            sign.begun.append(moment)
            sign.begun_in.append(pid)
            self._add(sign, pid, pid)
        elif what == "effect":
            sign.effects.append(moment)
        elif what == "left":
            sign.pids = {
                life for life in sign.pids if life[2] != pid
            }  # what it started has ended before
        elif what.startswith("started:"):
            self._add(sign, int(what.partition(":")[2]), pid)

    def _add(self, sign: Sign, pid: int, by: int) -> None:
        started = Identity.of(pid).started
        life = (pid, started, by)
        sign.pids.add(life)
        self._seen.setdefault(life, sign.last)
        if started:
            self._alive.add(life)
