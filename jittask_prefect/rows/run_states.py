"""Asking: the flow runs that are to be compared with the ledger's tasks, and Prefect's facts of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, func, or_, select

from jittask_prefect.elements.app import DEFAULT, App
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.errors import ConfigError
from jittask_prefect.ledger.entry import Entry, to_entry
from jittask_prefect.ledger.lease_time import caller_time
from jittask_prefect.ledger.lease_time import clock as lease
from jittask_prefect.ledger.tables import entries
from jittask_prefect.ledger.verdict import TO_BEGIN, TO_BEGIN_WARM, RunFacts
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.api import PAGE, Api
from jittask_prefect.prefect_api.names import app_tag

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
            started=run.start_time is not None,
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
