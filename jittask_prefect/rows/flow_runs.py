"""Flow runs of tasks: how they are named and made, what Prefect knows of them, and calls that may be refused."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cache, cached_property, partial
from typing import Any, TypeVar

from sqlalchemy import case, func, or_, select

from jittask_prefect.elements.app import DEFAULT, App
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.errors import ConfigError, JittaskError, PrefectApiError
from jittask_prefect.errors.printable import escape_controls
from jittask_prefect.ledger.entry import Entry, to_entry
from jittask_prefect.ledger.lease_time import caller_time
from jittask_prefect.ledger.lease_time import clock as lease
from jittask_prefect.ledger.tables import entries
from jittask_prefect.ledger.verdict import (
    TO_BEGIN,
    TO_BEGIN_WARM,
    Reading,
    RunFacts,
    reading,
)
from jittask_prefect.prefect_api.answers import LIVE, FlowRun, ServerDeployment
from jittask_prefect.prefect_api.api import PAGE, Api
from jittask_prefect.prefect_api.names import (
    LONGEST_TAG,
    app_tag,
    isolated,
    of_app,
    prefect_name,
    timed_name,
)
from jittask_prefect.rows.plan import Report

PATIENCE = 30.0
"""Seconds that calls may fail without a success between them; the rest is left to the next sync."""
LONGEST_TITLE, LONGEST_ROW = 50, 70
"""Characters of a title, and of a row's model and key, in a run's name."""
PART = " · "
"""Between the parts of a name."""
PROBLEMS = 100  # refused runs that a report names
BROKEN = "its tasks wait until it loads; `jittask check` says what is wrong"
NOT_DEPLOYED = "no deployment of that name; run `jittask deploy`"
Keep = Callable[[], None]
"""Called again and again in a long work; the holder of a lease renews the lease."""
T = TypeVar("T")
log = logging.getLogger("jittask")


def run_name(app: App, entry: Entry, label: str = "") -> str:
    """A flow run's name: title, row, level and due time in the row's zone, e.g. `Reminder · Contract 42 · 2026-12-01 09:00`.

    Args:
        app: The app.
        entry: The task.
        label: The row's label.
    """
    try:
        template = app.template(entry.template)
        title, zone = template.title, template.zone_of(entry.zone_value)
    except JittaskError:
        title, zone = entry.template, None
    row = row_name(entry.model, entry.row_key, label) if entry.row_key else ""
    return timed_name(parts_of_name(title, row, entry.level or ""), entry.due, zone)


def due_name(app: App, name: str, due: datetime) -> str:
    """The name of a run of a schedule: title and due time, e.g. `Daily report · 2026-12-01 09:00`.

    Raises:
        JittaskError: There is no such template, or it does not load.
    """
    template = app.template(name)
    return timed_name(parts_of_name(template.title), due, template.timer.zone)


def sync_name(app: App, due: datetime) -> str:
    """The name of a sync's run: the app's title and the due time, e.g. `Sync of Shop · 2026-12-01 09:15`."""
    return timed_name(f"Sync of {parts_of_name(app.title)}", due, app.zone)


def row_name(model: str | None, key: str, label: str = "") -> str:
    """A row as names of runs have it: `Contract 42`, with a label `Wang Fang (Contract 42)`."""
    row = f"{(model or '').partition('.')[2]} {key}".strip()
    row = _cut(" ".join(escape_controls(row).split()), LONGEST_ROW)
    return f"{isolated(label)} ({row})" if label else row


def row_run_name(entry: Entry, label: str = "") -> str:
    """The name of a row's task run in a batch: the row, and the level where there are several."""
    row = row_name(entry.model, entry.row_key, label)
    return f"{row}{PART}{entry.level}" if entry.level else row


def parts_of_name(title: str, *more: str) -> str:
    """A title, cut where it is long, and the other parts of a run's name."""
    short = isolated(_cut(title, LONGEST_TITLE))
    return PART.join(filter(None, (short, *more)))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def batch_name(
    app: App, template: str, due: datetime, number: int, rows: int = 0
) -> str:
    """A batch's name: title, number of rows, due time in its zone, and from the second batch on its number.

    Args:
        app: The app.
        template: The template's full name.
        due: The instant.
        number: The batch's number among those of the instant.
        rows: How many rows the batch has, as far as is known.
    """
    found = app.template(template)
    more = f" ({number})" if number > 1 else ""
    counted = f"{rows} row{'' if rows == 1 else 's'}" if rows else ""
    text = parts_of_name(found.title, counted)
    return timed_name(text, due, found.timer.zone) + more


def run_tags(app: App, template: str, model: str | None, key: str) -> list[str]:
    """A flow run's tags: template, model, and row, each of this app."""
    tags = [of_app(app.name, template)]
    if model:
        of_model = of_app(app.name, model)
        tags += [of_model, prefect_name(f"{of_model}:{key}", LONGEST_TAG)]
    return tags


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
        self._workers: dict[str, int] = {}
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

    def workers(self, template: str) -> int:
        """How many workers serve the pool of a template's deployment; 1 where nobody can say."""
        pool = self._deployments[template].work_pool_name
        if pool is None:
            return 1
        if pool not in self._workers:
            asked = self.tried(template, partial(self._api.workers, pool))
            self._workers[pool] = max(1, asked or 0)
        return self._workers[pool]

    def tried(self, about: str, call: Callable[[], T]) -> T | None:
        """The answer of a call; None where Prefect refuses this call only.

        Raises:
            PrefectApiError: Prefect cannot be reached, or nothing but failing calls took half a minute.
        """
        begun = time.monotonic()
        try:
            answer = call()
        except PrefectApiError as error:
            self._failing += time.monotonic() - begun
            self._api.ping()  # raises where Prefect is away

            if self._failing > PATIENCE:
                raise

            self._refused += 1

            if self._refused <= PROBLEMS:
                self._report.problems.append(f"{about}: {error}")

            return None

        # A slow server makes a sync slow, and does not end the sync.
        self._failing = 0.0
        return answer

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


def set_left(api: Api, run_id: str, kind: str, message: str) -> bool:
    """Set the state of a run that others have left, by force; False where Prefect refuses this run only.

    Such a refusal stands in the log, and the next sync finds the run again.

    Raises:
        PrefectApiError: Prefect cannot be reached.
    """
    try:
        api.set_state(run_id, kind, message=message, force=True)
    except PrefectApiError as error:
        api.ping()  # raises where Prefect is away
        log.warning("flow run %s is left to the next sync: %s", run_id, error)
        return False

    return True


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


# Facts

OVERLAP, FIRST = timedelta(minutes=2), timedelta(hours=1)
"""How far a sync looks back before the instant that the last one noted; and where none is noted."""


def deployments_of(app: App, names: Sequence[str]) -> dict[str, Any]:
    """The API's filter for the app's own deployments of some names: another app may have the same names."""
    return {"name": {"any_": list(names)}, "tags": {"all_": [app_tag(app.name)]}}


def templates_in(app: App, database: str) -> list[str]:
    """The templates whose tasks stand in a database's ledger; scheduled templates' in the default database."""
    rows = {}
    for template in app.templates():
        if isinstance(template, DateFieldType):
            with suppress(ConfigError):  # its model is broken
                rows[template.fullName] = app.database_of(template.model_name)

    return [name for name in app.names("tasks") if rows.get(name, DEFAULT) == database]


class Facts:
    """Prefect's facts of flow runs, as the verdict takes them; the type of a work pool is asked for once.

    Args:
        api: Prefect.
        now: The present instant.
    """

    def __init__(self, api: Api, now: datetime) -> None:
        self._api, self._now = api, now
        self._pools: dict[str, str | None] = {}

    def of(
        self, run: FlowRun | None, due: datetime, silent: timedelta | None = None
    ) -> RunFacts | None:
        """The facts of a run.

        Args:
            run: The run; None where there is none.
            due: When its task is due.
            silent: Of a batch: for how long none of its rows was at work.
        """
        if run is None:
            return None

        in_state, late = self.in_state(run), self._now - due
        waits = run.state_type in ("PENDING", "RUNNING")
        matters = waits and TO_BEGIN_WARM < min(in_state, late) <= TO_BEGIN

        return RunFacts(
            state=run.state_type,
            name=run.state_name or "",
            # Prefect gives a start to a run that somebody ends before it began, too.
            started=run.run_count > 0,
            ended_by_us=run.ended_by_us,
            in_state=in_state,
            late=late,
            pool=self._pool(run) if matters else None,
            silent=silent,
        )

    def in_state(self, run: FlowRun) -> timedelta:
        """For how long a run is in its state; since its due time where Prefect gives no time."""
        return self._now - (run.state_time or run.expected_start_time)

    def _pool(self, run: FlowRun) -> str | None:
        name = run.work_pool_name
        if name and name not in self._pools:
            self._pools[name] = self._api.pool_kind(name)

        return self._pools[name] if name else None


def silences(
    app: App, database: str, runs: Iterable[str], now: datetime
) -> dict[str, timedelta]:
    """For how long no row of some batches was at work, by flow run; negative while a row is, absent where none was."""
    executing = entries.c.status == "executing"
    lives = case((executing & (entries.c.lease_until >= lease(caller_time(now))), 1))
    # An end by `died` is no sign of life: a sync writes that.
    ended = case((entries.c.outcome != "died", entries.c.finished))
    leased = case((executing, entries.c.lease_until))
    signs = (func.count(lives), func.max(ended), func.max(leased))
    query = select(entries.c.flow_run_id, *signs)
    query = query.where(entries.c.flow_run_id.in_(sorted(runs)))
    found = {}

    with app.engine(database).connect() as connection:
        by_run = connection.execute(query.group_by(entries.c.flow_run_id))
        for run_id, living, *seen in by_run:
            if living:
                found[run_id] = timedelta(seconds=-1)
            elif last := max(filter(None, seen), default=None):
                found[run_id] = now - last

    return found


def tasks_of_runs(
    app: App, databases: Iterable[str], runs: Sequence[str], *, by_id: bool = False
) -> Mapping[str, list[Entry]]:
    """The tasks of some flow runs, by flow run.

    Args:
        app: The app.
        databases: Whose ledgers are asked.
        runs: The ids of the runs.
        by_id: Also tasks whose id is a run's, that have another run by now.
    """
    found: dict[str, list[Entry]] = defaultdict(list)
    for database in databases if runs else ():
        for start in range(0, len(runs), PAGE):
            part = runs[start : start + PAGE]
            mine = [entries.c.flow_run_id.in_(part)]
            if by_id:
                mine.append(entries.c.task_id.in_(part))

            with app.engine(database).connect() as connection:
                for record in connection.execute(select(entries).where(or_(*mine))):
                    entry = to_entry(record)
                    for run_id in {entry.flow_run_id, entry.task_id} & set(part):
                        found[str(run_id)].append(entry)

    return found
