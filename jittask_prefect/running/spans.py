"""OpenTelemetry spans of an execution, where the process has a tracer provider; elsewhere nothing is made.

Three spans for each call: `jittask.claim`, `jittask.function`, `jittask.commit`. The attribute `taskId` is that of logs and records.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from jittask_prefect.ledger.entry import Entry

if TYPE_CHECKING:
    from jittask_prefect.running.calls import Work

API = "opentelemetry.trace"


def of(name: str, work: Work, tasks: Sequence[Entry]) -> AbstractContextManager[Any]:
    """A span around a block; an exception of the block is recorded, and raised again.

    Args:
        name: The span's name, behind `jittask.`.
        work: The flow run's surroundings.
        tasks: The tasks of the call.
    """
    tracer = _tracer()
    if tracer is None:
        return nullcontext()
    about = _about(work, tasks)
    block: AbstractContextManager[Any] = tracer.start_as_current_span(
        f"jittask.{name}", attributes=about
    )
    return block


def claimed(work: Work, tasks: Sequence[Entry], asked_at: float) -> None:
    """Make the span of a claim that has succeeded.

    Args:
        work: The flow run's surroundings.
        tasks: The tasks that were claimed.
        asked_at: When the claim began, by the monotonic clock.
    """
    tracer = _tracer()
    if tracer is None:
        return
    begun = time.time_ns() - round((time.monotonic() - asked_at) * 1e9)
    about = _about(work, tasks)
    tracer.start_span("jittask.claim", attributes=about, start_time=begun).end()


def _tracer() -> Any:
    """The tracer of this package; None where nobody has set a provider."""
    api: Any = sys.modules.get(API)  # whoever sets a provider has imported the API
    if api is None:
        return None
    provider = api.get_tracer_provider()
    if isinstance(provider, api.ProxyTracerProvider):
        return None
    return provider.get_tracer("jittask_prefect")


def _about(work: Work, tasks: Sequence[Entry]) -> Mapping[str, Any]:
    """The attributes: named as in the log's JSON; of a digest, the first task and all of them."""
    first = tasks[0]
    about: dict[str, Any] = {
        "taskId": first.known_id,
        "task": first.template,
        "attempt": max(1, first.attempt),
        "app": work.app.name,
        "flowRunId": work.run.id,
    }
    if first.row_key:
        about["row"] = first.row_key
    if len(tasks) > 1:
        about["taskIds"] = [entry.known_id for entry in tasks]
    return about
