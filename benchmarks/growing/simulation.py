"""A discrete simulation of workers, servers and processors: each piece of work waits for its thread, then for a processor."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import count

SLICE = 0.002
"""Seconds of a processor's turn, after which others that wait have one."""


@dataclass(eq=False)
class Resource:
    """Places that are used by turns, in the order of asking.

    Attributes:
        places: How many there are: 1 for a process with one thread at work.
        busy: Seconds that its places were used, together.
    """

    places: int
    busy: float = 0.0
    _taken: int = 0
    _queue: deque[Callable[[], None]] = field(default_factory=deque)

    def take(self, then: Callable[[], None]) -> None:
        """Call `then` once a place is free; the place is taken."""
        if self._taken < self.places:
            self._taken += 1
            then()
        else:
            self._queue.append(then)

    def free(self) -> None:
        """Leave a place to the next in the queue."""
        if self._queue:
            self._queue.popleft()()
        else:
            self._taken -= 1


@dataclass(frozen=True)
class Step:
    """A piece of an execution: processor time, in a thread that others may want, or a wait.

    Attributes:
        seconds: Its length.
        thread: The thread whose processor time it is; None for a wait that needs no processor.
    """

    seconds: float
    thread: Resource | None = None


Steps = Generator[Step, None, None]


class Simulation:
    """Time goes from event to event.

    Args:
        processors: How many there are.
    """

    def __init__(self, processors: int) -> None:
        self.processors = Resource(processors)
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()

    def start(self, steps: Steps) -> None:
        """Have a sequence of steps begin now."""
        step = next(steps, None)
        if step is None:
            return
        if step.thread is None:
            self._after(step.seconds, lambda: self.start(steps))
        else:
            step.thread.take(lambda: self._work(step, steps, step.seconds))

    def run(self) -> None:
        """Let time go on until nothing is left to do."""
        while self._events:
            self.now, _, event = heapq.heappop(self._events)
            event()

    def _work(self, step: Step, steps: Steps, left: float) -> None:
        """Use a processor for a slice of a step, and the rest in further slices."""
        thread = step.thread
        assert thread is not None
        part = min(left, SLICE)

        def over() -> None:
            self.processors.busy += part
            thread.busy += part
            self.processors.free()
            if left - part > 1e-9:
                self._work(step, steps, left - part)
            else:
                thread.free()
                self.start(steps)

        def begin() -> None:
            self._after(part, over)

        self.processors.take(begin)

    def _after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._number), event))


def in_turn(resources: Sequence[Resource]) -> Callable[[], Resource]:
    """Gives the resources one after the other, as a balancer does."""
    number = count()
    return lambda: resources[next(number) % len(resources)]
