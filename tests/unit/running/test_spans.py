"""OpenTelemetry spans of claim, function and commit, where the process has a provider; elsewhere nothing is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from shop import Shop, rows_task

Make = Callable[..., Shop]
OWN = """
from opentelemetry import trace
def customFunc(row):
    with trace.get_tracer("shop").start_as_current_span("sends"):
        return row.id
"""
FAILS = "def customFunc(row):\n    raise ValueError('no address')\n"
TEN = datetime(2026, 3, 2, 10)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """A provider with an exporter, as an application sets it, until the test's end."""
    provider, made = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(made))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield made
    provider.shutdown()


def of_task(exporter: InMemorySpanExporter, task_id: str) -> list[ReadableSpan]:
    """The finished spans with a task's id, in the order of their begins."""
    found = exporter.get_finished_spans()
    mine = [s for s in found if (s.attributes or {}).get("taskId") == task_id]
    return sorted(mine, key=lambda span: span.start_time or 0)


def begin_and_end(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None and span.end_time is not None
    return span.start_time, span.end_time


def test_a_task_has_three_spans_in_turn(
    shop: Make, exporter: InMemorySpanExporter
) -> None:
    """Spans of the function's own code stand below that of the function."""
    s = shop(inner=OWN)
    s.save(id=1, at=TEN)
    s.sync()
    s.work("2026-03-02 10:00")
    [entry] = s.entries()

    spans = of_task(exporter, entry.task_id)
    names = [span.name for span in spans]
    assert names == ["jittask.claim", "jittask.function", "jittask.commit"]
    claim, function, commit = map(begin_and_end, spans)
    assert claim[0] < claim[1] <= function[0] < function[1] <= commit[0] < commit[1]
    assert dict(spans[1].attributes or {}) == {
        "taskId": entry.task_id, "task": "tasks.Task", "attempt": 1, "app": s.app.name,
        "flowRunId": entry.flow_run_id, "row": "1",
    }  # fmt: skip
    [own] = [s for s in exporter.get_finished_spans() if s.name == "sends"]
    assert own.parent is not None and spans[1].context is not None
    assert own.parent.span_id == spans[1].context.span_id


def test_a_function_that_fails(shop: Make, exporter: InMemorySpanExporter) -> None:
    """Each attempt has a span with its error, and no commit."""
    s = shop(inner=FAILS, retries=1)
    s.save(id=1, at=TEN)
    s.sync()
    s.work("2026-03-02 10:00")
    [entry] = s.entries()

    spans = of_task(exporter, entry.task_id)
    assert [(span.name, (span.attributes or {})["attempt"]) for span in spans] == [
        ("jittask.claim", 1), ("jittask.function", 1), ("jittask.function", 2),
    ]  # fmt: skip
    assert all(span.status.status_code is StatusCode.ERROR for span in spans[1:])
    assert spans[1].events[0].attributes is not None
    assert spans[1].events[0].attributes["exception.message"] == "no address"


def test_the_spans_of_a_digest_name_all_its_tasks(
    shop: Make, exporter: InMemorySpanExporter
) -> None:
    digest: dict[str, Any] = {"digest": {"by": "status"}}
    inner = "def customFunc(rows):\n    return len(rows)\n"
    s = shop(more={"tasks/Digest": rows_task(inner=inner, **digest)})
    s.save(id=1, at=TEN, status="open")
    s.save(id=2, at=TEN, status="open")
    s.sync()
    s.work("2026-03-02 10:00")
    ids = {e.task_id for e in s.entries(template="tasks.Digest")}

    found = [
        span
        for span in exporter.get_finished_spans()
        if (span.attributes or {}).get("task") == "tasks.Digest"
    ]
    assert [span.name.partition(".")[2] for span in found] == [
        "claim", "function", "commit",
    ]  # fmt: skip
    for span in found:
        told = (span.attributes or {})["taskIds"]
        assert isinstance(told, tuple) and set(told) == ids


def test_without_a_provider_no_tracer_is_asked_for(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **keys: object) -> None:
        raise AssertionError("a tracer was asked for")

    monkeypatch.setattr(trace.ProxyTracerProvider, "get_tracer", refuse)
    s = shop()
    s.save(id=1, at=TEN)
    s.sync()
    assert [o.status for o in s.work("2026-03-02 10:00")] == ["completed"]
