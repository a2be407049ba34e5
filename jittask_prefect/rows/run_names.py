"""Names, tags and idempotency keys of the flow runs that the hand-over makes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from jittask_prefect.elements.app import App
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.prefect_api.names import prefect_name, timed_name


def run_name(app: App, entry: Entry) -> str:
    """A flow run's name: model, key and due time in the task's zone, e.g. `Contract 42 · 2026-12-01 09:00`."""
    try:
        zone: Any = app.template(entry.template).timer.zone
    except JittaskError:
        zone = None
    row = run_of(entry.model or entry.template, entry.row_key)
    return timed_name(row, entry.due, zone)


def run_of(model: str, key: str) -> str:
    """The begin of the name of a row's flow run, e.g. `Contract 42`."""
    return prefect_name(f"{model.partition('.')[2]} {key}".strip())


def batch_name(app: App, template: str, due: datetime, number: int) -> str:
    """A batch's name: template, due time in its zone, and from the second batch on its number."""
    found = app.template(template)
    more = f" ({number})" if number > 1 else ""
    return timed_name(found.title, due, found.timer.zone) + more


def run_tags(template: str, model: str | None, key: str) -> list[str]:
    """A flow run's tags: template, model, and row."""
    return [template, *([model, prefect_name(f"{model}:{key}")] if model else [])]


def run_key(entry: Entry) -> str:
    """The idempotency key of a task's next flow run: another key after each run that came to nothing."""
    attempt = [str(entry.attempt)] if entry.attempt else []
    before = [entry.flow_run_id] if entry.flow_run_id else []

    return "/".join([entry.task_id, *attempt, *before])
