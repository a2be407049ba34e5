"""The lines of a worker's log as JSON."""

from __future__ import annotations

import json
import logging
import logging.config
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from shop import Shop

from jittask_prefect.warm.json_log import JsonFormatter

Make = Callable[..., Shop]
CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    # As Prefect's own configuration has the formatter that the worker's environment replaces.
    "formatters": {
        "json": {
            "class": "jittask_prefect.warm.json_log.JsonFormatter",
            "format": "default",
        }
    },
}


class Lines(logging.Handler):
    """Keeps formatted lines."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter("default", None, "%"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def lines() -> Iterator[list[str]]:
    handler, log = Lines(), logging.getLogger("mail")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler.lines
    log.removeHandler(handler)


def test_a_line_of_a_function_names_its_task(shop: Make, lines: list[str]) -> None:
    says = "import logging\ndef customFunc(row):\n    logging.getLogger('mail').info('sent to %s', 'Ädä\\nx')\n"
    s = shop()
    s.again(**{"tasks/Task": s._elements["tasks/Task"] | {"inner.py": says}})
    s.save(id=1, at=datetime(2026, 3, 2, 10), count=0)
    s.sync()
    s.work("2026-03-02 10:00")

    [line] = lines
    assert "\n" not in line and "Ädä" in line
    found = json.loads(line)
    assert found.pop("process") > 0
    assert datetime.fromisoformat(found.pop("time")).utcoffset() is not None
    assert found == {
        "level": "INFO",
        "logger": "mail",
        "message": "sent to Ädä\nx",
        "taskId": s.entries()[0].task_id,
        "task": "tasks.Task",
        "attempt": 1,
    }


def test_errors_and_flow_runs(lines: list[str]) -> None:
    log = logging.getLogger("mail")
    try:
        raise ValueError("no")
    except ValueError:
        log.exception("failed", extra={"flow_run_id": "r-1"})
    found = json.loads(lines[0])
    assert found["flowRunId"] == "r-1" and "taskId" not in found
    assert found["exception"].endswith("ValueError: no")
    assert "\n" not in lines[0]


def test_pythons_configuration_of_logging_makes_the_formatter() -> None:
    logging.config.dictConfig(CONFIG)
