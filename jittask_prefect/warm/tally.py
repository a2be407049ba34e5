"""Figures that a process counts for its worker's metrics; without metrics the process counts nothing."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from jittask_prefect.errors import ArgumentError
from jittask_prefect.validation import quoted

ENV_PORT = "JITTASK_METRICS_PORT"
SEND_SECONDS = 1.0  # between two messages to the worker
Name = tuple[str, ...]
"""A figure's name and its labels."""


def metrics_port() -> int | None:
    """The port on which the worker serves its metrics, by the environment; None without one.

    Raises:
        ArgumentError: The environment names no port.
    """
    text = os.environ.get(ENV_PORT, "").strip()
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text[:6]) <= 65535:
        raise ArgumentError(f"{ENV_PORT} {quoted(text)}; allowed: a port, 1 to 65535")
    return int(text)


class Tally:
    """Counts, and observed seconds, until they are sent to the worker.

    Args:
        send: Sends a message to the worker.
    """

    def __init__(self, send: Callable[[Mapping[str, Any]], None]) -> None:
        self._send = send
        self._gate = threading.Lock()
        self._counts: Counter[Name] = Counter()
        self._seconds: defaultdict[Name, list[float]] = defaultdict(list)
        self._levels: dict[Name, float] = {}
        self._sent = time.monotonic()

    def count(self, *name: str) -> None:
        """Count one more."""
        with self._gate:
            self._counts[name] += 1
        self._send_now_and_then()

    def observe(self, seconds: float, *name: str) -> None:
        """Take a duration down."""
        with self._gate:
            self._seconds[name].append(seconds)

    def set_level(self, value: float, *name: str) -> None:
        """Record a number in place of the last number."""
        with self._gate:
            self._levels[name] = value

    def flush(self) -> None:
        """Send all figures."""
        with self._gate:
            figures = {
                "counts": [[*name, n] for name, n in self._counts.items()],
                "seconds": [[*name, found] for name, found in self._seconds.items()],
                "levels": [[*name, value] for name, value in self._levels.items()],
            }
            self._counts.clear()
            self._seconds.clear()
            self._levels.clear()
            self._sent = time.monotonic()
        if any(figures.values()):
            self._send({"figures": figures})

    def _send_now_and_then(self) -> None:
        if time.monotonic() - self._sent > SEND_SECONDS:
            self.flush()


def counted(*name: str) -> dict[str, Any]:
    """The figures of a single count, as a `Tally` sends them."""
    return {"counts": [[*name, 1]], "seconds": [], "levels": []}


class _OfProcess:
    """The tally of this process; None where nobody asks for figures."""

    tally: Tally | None = None


def count_for(send: Callable[[Mapping[str, Any]], None]) -> None:
    """Count from now on, and send the figures to the worker."""
    _OfProcess.tally = Tally(send)


def of_process() -> Tally | None:
    """The tally of this process; None where nobody asks for figures."""
    return _OfProcess.tally
