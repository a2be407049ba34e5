"""A worker's log as JSON, an object a line; lines of a task's function name the task."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from jittask_prefect.elements.task_at_work import task_at_work

ENVIRONMENT = {
    "PREFECT_LOGGING_FORMATTERS_JSON_CLASS": f"{__name__}.JsonFormatter",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER": "json",
    "PREFECT_LOGGING_COLORS": "false",
}
"""The settings of Prefect by which a worker and its processes log so."""


class JsonFormatter(logging.Formatter):
    """Writes a log record as a JSON object: time, level, logger, message; task, flow run and exception where there are any.

    Args:
        args: A format, which JSON does not need; Python's configuration of logging gives one.
    """

    def __init__(self, *args: object) -> None:
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        """The record in one line, without control characters."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if (task := task_at_work()) is not None:
            line |= {
                "taskId": task.taskId,
                "task": task.fullName,
                "attempt": task.attempt,
            }
        if run := getattr(record, "flow_run_id", None):
            line["flowRunId"] = str(run)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
