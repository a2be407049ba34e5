"""The flow runs that the hand-over makes and ends: their names, tags and idempotency keys; calls that may be refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache, cached_property
from typing import Any, TypeVar

from jittask_prefect.elements.app import App
from jittask_prefect.errors import JittaskError, PrefectApiError
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.verdict import Reading, RunFacts, reading
from jittask_prefect.prefect_api.answers import LIVE, FlowRun, ServerDeployment
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.names import app_tag, prefect_name, timed_name
from jittask_prefect.rows.plan import Report

PATIENCE = 30.0
"""Seconds that failing calls may take in one hand-over; the rest is left to the next sync."""
PROBLEMS = 100  # refused runs that a report names
BROKEN = "its tasks wait until it loads; `jittask check` says what is wrong"
NOT_DEPLOYED = "no deployment of that name; run `jittask deploy`"
T = TypeVar("T")


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


# Calls


class Calls:
    """The calls of a hand-over: a refused call is reported, and the others go on.

    Args:
        app: The app.
        api: Prefect.
        report: Takes the problems.
    """

    def __init__(self, app: App, api: Api, report: Report) -> None:
        self._app, self._api, self._report = app, api, report
        self._fault = cache(app.fault)
        self._waiting: dict[str, str] = {}
        self._refused, self._failing = 0, 0.0

    @cached_property
    def _deployments(self) -> Mapping[str, ServerDeployment]:
        return self._api.deployments(app_tag(self._app.name))

    def deployment(self, template: str, func: str | None = None) -> str | None:
        """The id of a template's deployment; None, and noted, where its tasks have to wait."""
        if self._fault(template, func) is not None:
            # Its runs would fail and be made again, every minute.
            self._waiting[template] = BROKEN
            return None

        deployment = self._deployments.get(template)

        if deployment is None:
            self._waiting[template] = NOT_DEPLOYED
            return None

        return deployment.id

    def tried(self, about: str, call: Callable[[], T]) -> T | None:
        """The answer of a call; None where Prefect refuses this call only.

        Raises:
            PrefectApiError: Prefect cannot be reached, or calls failed for half a minute.
        """
        begun = time.monotonic()
        try:
            return call()
        except PrefectApiError as error:
            self._failing += time.monotonic() - begun
            self._api.ping()  # raises where Prefect is away

            if self._failing > PATIENCE:
                raise

            self._refused += 1

            if self._refused <= PROBLEMS:
                self._report.problems.append(f"{about}: {error}")

            return None

    def report_waiting(self) -> None:
        """Report the tasks that wait, and why."""
        waiting = sorted(self._waiting.items())
        self._report.problems += [f"{name}: {why}" for name, why in waiting]

        if (more := self._refused - PROBLEMS) > 0:
            self._report.problems.append(f"{more} more runs that Prefect refused")


def is_open(run: FlowRun) -> bool:
    """Whether a batch's run may still do rows: it has not ended, and nobody cancels it."""
    return run.state_type in LIVE and run.state_type != "CANCELLING"


def is_cancelled(run: FlowRun) -> bool:
    """Whether a person has cancelled a run, or cancels the run just now."""
    facts = RunFacts(run.state_type, ended_by_us=run.ended_by_us)
    return reading(facts) in (Reading.CANCELLING, Reading.CANCELLED)


def end_run(
    api: Api, run_id: str, message: str, kind: str, own: str | None = None
) -> bool:
    """Propose the end of a flow run, and label why the ledger ends the run; False where the run has ended."""
    run = api.run(run_id)

    if run is None or run.is_final:
        return False

    if own is not None:
        api.mark(run_id, own)

    api.set_state(run_id, kind, message=message)

    return True


def drop_run(api: Api, run_id: str, message: str) -> None:
    """Cancel a flow run that has not begun."""
    run = api.run(run_id)
    if run is not None and run.state_type == "SCHEDULED":
        api.mark(run_id, "superseded")
        api.set_state(run_id, "CANCELLING", message=message)
