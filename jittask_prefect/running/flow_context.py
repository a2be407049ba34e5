"""The flow run that executes, its log and its process; the options that all flows share."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext, SyncClientContext
from prefect.logging.handlers import APILogHandler
from prefect.logging.loggers import patch_print
from prefect.results import get_result_store
from prefect.settings import get_current_settings

from jittask_prefect.elements.app import App
from jittask_prefect.elements.element_log import TASK_LOG
from jittask_prefect.schedule import clock

LEAVE_SECONDS = 3.0  # for a process that must go to tell Prefect
log = logging.getLogger("jittask")


def this_flow_run() -> FlowRun:
    """The flow run that executes."""
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None
    return context.flow_run


@contextmanager
def flow_run_context(flow: Any, flow_run: FlowRun) -> Iterator[None]:
    """Have the block executed as a part of a flow run that another process leads: its log, its prints, its tasks."""
    with (
        SyncClientContext.get_or_create() as clients,
        flow.task_runner.duplicate() as runner,
        FlowRunContext(
            flow=flow,
            flow_run=flow_run,
            client=clients.client,
            parameters=flow_run.parameters,
            log_prints=True,
            task_runner=runner,
            result_store=get_result_store(),
        ),
        patch_print(),
    ):
        yield


def due_of(run: FlowRun) -> datetime:
    """When a flow run was to start; aware.

    Before Python 3.13 Prefect gives pendulum's, without a zone once days are added.
    """
    at = run.expected_start_time
    return datetime.fromisoformat(at.isoformat()).astimezone(UTC) if at else clock.now()


@contextmanager
def task_log() -> Iterator[Any]:
    """The flow run's log, which is also the `log` of element code in the block."""
    logger = get_run_logger()
    token = TASK_LOG.set(logger)
    try:
        yield logger
    finally:
        TASK_LOG.reset(token)


def log_to_flow_runs() -> None:
    """Have the package's own log, tracebacks of functions above all, in the flow run's log."""
    if not any(isinstance(handler, _ToFlowRun) for handler in log.handlers):
        log.addHandler(_ToFlowRun())


class _ToFlowRun(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if FlowRunContext.get() is not None:
            logging.getLogger("prefect.flow_runs").handle(record)


def result_storage() -> Path | None:
    """Where results would be kept; none are.

    Unnamed, each run would ask the server, with two clients of its own. Prefect's tasks
    that a function calls and that keep results follow a storage block of the settings.
    """
    results = get_current_settings().results
    return None if results.default_storage_block else results.local_storage_path


def options() -> dict[str, Any]:
    """The options of every flow: nothing of a run is kept beside its state and log."""
    return {
        "validate_parameters": False,
        "persist_result": False,
        "result_storage": result_storage(),
    }


def leave(tell: Callable[[App, str], None], app: App, run_id: str) -> None:
    """End this process, whatever its function does.

    Args:
        tell: Tells ledger and Prefect why, within `LEAVE_SECONDS`; where the function's
            own transaction locks the database, nobody can, and the exit code is 1.
        app: The app.
        run_id: The flow run.
    """
    told = threading.Event()

    def last_words() -> None:
        tell(app, run_id)
        told.set()
        APILogHandler().flush()

    name = "jittask-leave"
    thread = threading.Thread(target=last_words, name=name, daemon=True)
    thread.start()
    thread.join(LEAVE_SECONDS)
    os._exit(0 if told.is_set() else 1)
