"""The campaign: faults, one or two at a time, each until the system has recovered."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from .description import Fault, System, does, failure
from .watch import Recoveries, Watch, wait_for_backlog

RECOVERY_SECONDS = 240.0
READY_SECONDS = 180.0
TOGETHER = 0.25  # of the turns have two faults
TWO = "two faults at a time"
REFUSED_SECONDS = 60.0  # without a fault that begins: the commands are wrong


class Campaign:
    """Faults of a system, chosen at random.

    Args:
        system: The system.
        watch: Sees when rows are done.
        seed: Of the choice.
        only: Parts of the names of faults; all faults where empty.
        times: The file of the recoveries, which may have those of earlier campaigns.
    """

    def __init__(
        self,
        system: System,
        watch: Watch,
        seed: int,
        only: Sequence[str] = (),
        times: Path | None = None,
    ) -> None:
        self.faults = [
            fault
            for fault in system.faults
            if not only or any(part in fault.name for part in only)
        ]
        if not self.faults:
            raise SystemExit(f"no fault is named {' or '.join(only)}")
        self.recoveries = Recoveries(times)
        self.number: Counter[str] = Counter()
        self.problems: list[str] = []
        self.refused: Counter[str] = Counter()
        self._last_begin = 0.0
        self._watch, self._random = watch, random.Random(seed)

    @property
    def total(self) -> int:
        return self.number.total()

    def require_ready(self) -> None:
        """See that all parts are as a fault leaves them in the end.

        Raises:
            SystemExit: A `ready` command does not succeed before the first fault.
        """
        ready = {fault.ready: fault for fault in self.faults}
        for command, fault in ready.items():
            if said := failure(command):
                raise SystemExit(
                    f"{fault.part} is not ready before the first fault: {command}: {said}; start it, or mend `ready`"
                )

    def run(self, number: int, minutes: float) -> None:
        """Harm the system so many times, or for so long.

        Raises:
            SystemExit: No fault begins any more.
        """
        self._last_begin = time.monotonic()
        deadline = self._last_begin + 60 * minutes
        while self.total < number and time.monotonic() < deadline:
            self.turn(self._chosen())

    def turn(self, faults: Sequence[Fault]) -> None:
        """Begin faults, end them after a while, and wait until no row is late any more."""
        begin = datetime.now(UTC)
        begun: list[Fault] = []
        try:
            for fault in faults:
                begun.append(fault)
                if not self._begins(fault):
                    begun.pop()
            if not begun:
                return
            shortest = max(fault.seconds[0] for fault in begun)
            longest = max(shortest, *(fault.seconds[1] for fault in begun))
            time.sleep(self._random.uniform(shortest, longest))
        finally:  # also where somebody stops the campaign
            for fault in begun:
                if said := failure(fault.end):
                    about = f"{fault.name} ({fault.part}) has not ended"
                    self.problems.append(f"{about}: {fault.end}: {said}")
                    print(self.problems[-1], file=sys.stderr, flush=True)
        end = datetime.now(UTC)
        self.number.update(fault.name for fault in begun)
        recovered = wait_for_backlog(self._watch, end, RECOVERY_SECONDS)
        self._note(begun, begin, end, recovered=recovered)
        for fault in begun:
            self._await(fault)

    def _begins(self, fault: Fault) -> bool:
        said = failure(fault.begin)
        if not said:
            self._last_begin = time.monotonic()
            return True
        about = f"{fault.name} ({fault.part}) has not begun: {fault.begin}: {said}"
        self.refused[fault.name] += 1
        if self.refused[fault.name] == 1:
            print(about, file=sys.stderr, flush=True)
        if time.monotonic() > self._last_begin + REFUSED_SECONDS:
            raise SystemExit(f"no fault begins any more; the last one: {about}")
        time.sleep(0.3)
        return False

    def _note(
        self, faults: list[Fault], begin: datetime, end: datetime, *, recovered: bool
    ) -> None:
        names = " + ".join(fault.name for fault in faults)
        if not recovered:
            waiting = self._watch.open(end)[:3]
            seconds = f"{RECOVERY_SECONDS:g} s"
            self.problems.append(f"{names}: not recovered within {seconds}: {waiting}")
        others = all(fault.others for fault in faults)
        kind = faults[0].name if len(faults) == 1 else TWO
        self.recoveries.add(kind, self._watch, begin, begin if others else end)
        taken = self.recoveries.backlog[kind][-1]
        said = f"{end:%H:%M:%S} {self.total}. {names}, {(end - begin).total_seconds():.1f} s"
        print(f"{said}: no row late after {taken:.1f} s", file=sys.stderr, flush=True)

    def _await(self, fault: Fault) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not does(fault.ready):
            if time.monotonic() > deadline:
                self.problems.append(f"{fault.name}: {fault.part} does not answer")
                return
            time.sleep(0.3)

    def _chosen(self) -> list[Fault]:
        weights = [fault.weight for fault in self.faults]
        first, second = self._random.choices(self.faults, weights, k=2)
        together = self._random.random() < TOGETHER and first.part != second.part
        return [first, second] if together else [first]
