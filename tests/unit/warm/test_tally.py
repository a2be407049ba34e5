"""The figures of a process, and the worker's metrics that they become."""

from __future__ import annotations

import re
import socket
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import pytest
from shop import Shop

from jittask_prefect.errors import ArgumentError
from jittask_prefect.warm import tally
from jittask_prefect.warm.metrics import Metrics
from jittask_prefect.warm.tally import Tally, metrics_port

Make = Callable[..., Shop]


class Worker:
    """The worker's end: its metrics, and all messages."""

    def __init__(self) -> None:
        self.metrics = Metrics(lambda: 2, lambda: 3)
        self.messages = 0

    def send(self, message: Mapping[str, Any]) -> None:
        self.messages += 1
        self.metrics.take(message["figures"])

    def page(self) -> dict[str, float]:
        """The figures that Prometheus reads, by name and labels."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        stop = self.metrics.serve(port)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                text = answer.read().decode()
        finally:
            stop()
        lines = re.findall(r"^([a-z_]+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in lines}


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """The worker of this process, which counts for it."""
    found = Worker()
    monkeypatch.setattr(tally._OfProcess, "tally", Tally(found.send))
    yield found


def ended(status: str) -> str:
    return f'app="test",status="{status}",task="tasks.Task"'


def within(seconds: str) -> str:
    return f'app="test",le="{seconds}",task="tasks.Task"'


def test_executions_are_counted_with_their_lateness(shop: Make, worker: Worker) -> None:
    fails = (
        "def customFunc(row):\n    if row.id == 2:\n        raise ValueError('no')\n"
    )
    s: Shop = shop(retries=1, retryDelay=0)
    s.again(**{"tasks/Task": s._elements["tasks/Task"] | {"inner.py": fails}})
    for key in (1, 2, 3):
        s.save(id=key, at=datetime(2026, 3, 2, 10), count=0)
    s.sync()
    s.work("2026-03-02 10:00:07")
    figures = tally.of_process()
    assert figures is not None
    figures.flush()

    page = worker.page()
    of = f'app="{s.app.name}",task="tasks.Task"'
    assert page[f"jittask_tasks_begun_total{{{of}}}"] == 4
    assert page[f"jittask_tasks_total{{{ended('completed')}}}"] == 2
    assert page[f"jittask_tasks_total{{{ended('error')}}}"] == 1
    assert page[f"jittask_task_late_seconds_count{{{of}}}"] == 3
    assert page[f"jittask_task_late_seconds_sum{{{of}}}"] == 21
    assert page[f"jittask_task_late_seconds_bucket{{{within('5.0')}}}"] == 0
    assert page[f"jittask_task_late_seconds_bucket{{{within('10.0')}}}"] == 3
    assert page[f"jittask_task_duration_seconds_count{{{of}}}"] == 3
    assert page["jittask_worker_runs"] == 2 and page["jittask_worker_children"] == 3


def test_nothing_is_sent_without_figures(worker: Worker) -> None:
    figures = tally.of_process()
    assert figures is not None
    figures.flush()
    assert worker.messages == 0
    figures.set_level(4, "due", "shop")
    figures.flush()
    assert worker.page()['jittask_due_tasks{app="shop"}'] == 4


def test_the_worker_counts_for_itself(worker: Worker) -> None:
    for outcome in ("won", "lost", "won"):
        worker.metrics.take(tally.counted("claims", outcome))
    claims = "jittask_flow_run_claims_total"
    page = worker.page()
    assert page[f'{claims}{{outcome="won"}}'] == 2
    assert page[f'{claims}{{outcome="lost"}}'] == 1


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ArgumentError, match=f"metrics on port {port}: .*in use"):
            Worker().metrics.serve(port)


@pytest.mark.parametrize(
    ("text", "port"), [("", None), (" 9090 ", 9090), ("65535", 65535)]
)
def test_the_port_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, text: str, port: int | None
) -> None:
    monkeypatch.setenv(tally.ENV_PORT, text)
    assert metrics_port() == port


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http", "9" * 40, "9090.5"])
def test_another_text_is_no_port(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(tally.ENV_PORT, text)
    with pytest.raises(ArgumentError, match="allowed: a port, 1 to 65535"):
        metrics_port()
