"""The metrics of a real worker, as Prometheus reads them; its log as JSON; and the dashboard, which names figures that there are."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from place import Place, model, rows, scheduled, until, worker

from jittask_prefect.schedule import clock
from jittask_prefect.server.service import ServiceInfo
from jittask_prefect.warm import json_log
from jittask_prefect.warm.metrics import Metrics

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana.json"
FAILS = """
import logging
def customFunc():
    logging.getLogger("mail").warning("no mail")
    raise ValueError
"""


@pytest.fixture
def place(tmp_path: Path, prefect_server: ServiceInfo) -> Iterator[Place]:
    elements = {
        "models/Metered": model("Metered"),
        "tasks/MeteredRows": rows("Metered", "def customFunc(row):\n    pass\n"),
        "tasks/MeteredFails": scheduled(FAILS),
    }
    made = Place.build(tmp_path / "app", elements, name="metered", maxConcurrency=2)
    made.deploy()
    yield made
    made.remove()


def figures(port: int) -> dict[str, float]:
    """The figures by name and labels; none while the worker starts."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
    except URLError:
        return {}
    lines = re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in lines}


def test_a_worker_counts_for_all_its_processes(place: Place) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = place.app.path.parent
    failed = (
        'jittask_tasks_total{app="metered",status="error",task="tasks.MeteredFails"}'
    )
    env = {"JITTASK_METRICS_PORT": str(port), **json_log.ENVIRONMENT}
    with worker(home / "worker", home, limit=2, **env) as running:
        about = ("tasks.MeteredFails", clock.now(), "customFunc", "tasks.NormalType")
        made = {place.svc.createTimerTask(*about, {})["taskId"] for _ in range(2)}
        found = until(
            lambda: (page := figures(port)).get(failed) == 2 and page,
            60,
            what="two failures on the page",
        )

        said = until(
            lambda: len(found := lines_of(running.worker.log, "mail")) == 2 and found,
            20,
            what="two lines of the function",
        )

    assert {line["taskId"] for line in said} == made
    begun = 'jittask_tasks_begun_total{app="metered",task="tasks.MeteredFails"}'
    assert found[begun] == 2
    assert found["jittask_worker_children"] >= 1
    assert found['jittask_flow_run_claims_total{outcome="won"}'] >= 2


def lines_of(log: Path, logger: str) -> list[dict[str, Any]]:
    """The lines of a logger in a log, which has JSON and nothing else once the worker has begun to log."""
    text = log.read_text().splitlines()
    found = [json.loads(line) for line in text if line.startswith("{")]
    return [line for line in found if line["logger"] == logger]


def test_the_dashboard_names_figures_that_there_are() -> None:
    metrics = Metrics(int, int)
    there = {family.name for family in metrics.registry.collect()}
    expressions = [
        target["expr"]
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel["targets"]
    ]
    named = {
        re.sub(r"_(total|bucket|count|sum)$", "", name)
        for expression in expressions
        for name in re.findall(r"jittask_\w+", expression)
    }
    assert named <= there
    assert there - named == {"jittask_tasks_begun"}
