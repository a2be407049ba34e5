"""The worker's metrics, in the form that Prometheus reads, on a port of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    start_http_server,
)

from jittask_prefect.errors import ArgumentError
from jittask_prefect.warm.children import ChildPool
from jittask_prefect.warm.outage import Log
from jittask_prefect.warm.tally import metrics_port

LATE = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 3600, 21600, 86400)
LONG = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800, 3600, 21600)
"""Upper ends of the histograms' buckets, in seconds."""


class Metrics:
    """The figures of a worker and its processes, since the worker began.

    Args:
        runs: How many flow runs are at work.
        children: How many processes the worker has.
    """

    def __init__(self, runs: Callable[[], int], children: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self._counters = {
            "begun": self._counter("tasks_begun", "Begins of functions", "app", "task"),
            "ended": self._counter("tasks", "Ends of tasks", "app", "task", "status"),
            "lost": self._counter("lease_losses", "Leases that were lost", "app"),
            "claims": self._counter(
                "flow_run_claims", "Flow runs that this worker went for", "outcome"
            ),
        }
        self._histograms = {
            "late": self._histogram(
                "task_late_seconds", "From the due time to the begin", LATE, "task"
            ),
            "long": self._histogram(
                "task_duration_seconds", "From begin to end of a function", LONG, "task"
            ),
            "sync": self._histogram(
                "sync_duration_seconds", "Duration of a sync", LONG
            ),
        }
        self._gauges = {
            "due": self._gauge(
                "due_tasks", "Tasks that are due and not begun, at the last sync", "app"
            )
        }
        self._gauge("worker_runs", "Flow runs at work").set_function(runs)
        self._gauge("worker_children", "Processes").set_function(children)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"jittask_{name}", about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(f"jittask_{name}", about, labels, registry=self.registry)

    def _histogram(
        self, name: str, about: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        named = (f"jittask_{name}", about, ("app", *labels))
        return Histogram(*named, registry=self.registry, buckets=buckets)

    def take(self, figures: Mapping[str, Any]) -> None:
        """Add the figures of a process, as its `Tally` sends them."""
        for name, *labels, number in figures["counts"]:
            self._counters[name].labels(*labels).inc(number)
        for name, *labels, found in figures["seconds"]:
            histogram = self._histograms[name].labels(*labels)
            for seconds in found:
                histogram.observe(seconds)
        for name, *labels, value in figures["levels"]:
            self._gauges[name].labels(*labels).set(value)

    def serve(self, port: int) -> Callable[[], None]:
        """Answer on a port of all of this machine's addresses; the function that ends it.

        Raises:
            ArgumentError: The port is taken, or not allowed.
        """
        try:
            server, thread = start_http_server(port, registry=self.registry)
        except OSError as error:
            raise ArgumentError(
                f"metrics on port {port}: {error.strerror}; name another with `--metrics`"
            ) from None

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop


def serve_metrics(runs: Sized, children: ChildPool, log: Log) -> Callable[[], None]:
    """Serve a worker's metrics where the environment names a port.

    Args:
        runs: The flow runs at work.
        children: The worker's processes, whose figures are taken from now on.
        log: The worker's.

    Returns:
        The function that ends this.

    Raises:
        ArgumentError: The environment names no port, or the port is taken.
    """
    port = metrics_port()
    if port is None:
        return lambda: None
    metrics = Metrics(runs.__len__, children.__len__)
    children.take_figures = metrics.take
    stop = metrics.serve(port)
    log.info("Metrics: http://127.0.0.1:%d/metrics", port)
    return stop
