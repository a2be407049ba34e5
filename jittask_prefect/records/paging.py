"""A page of records, however deep: the ledger's records by position, and the runs that only Prefect knows.

Nothing before the page is read. The ledger counts up to the page; of Prefect's runs, most of which the ledger knows,
only those are fetched that the ledger may not know.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from heapq import merge
from itertools import islice
from typing import Any

from sqlalchemy import select

from jittask_prefect.elements.app import App
from jittask_prefect.ledger.entry import Entry, to_entry
from jittask_prefect.ledger.tables import entries, of_app
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.api import PAGE, Api
from jittask_prefect.records.ledgers import connections

EARLY = timedelta(hours=1)
"""A run that has begun is due at most this much later than now."""
IDS = 500
"""Ids in a statement."""
SPARE = 200
"""Keys asked for before a page, so that most pages need no second question."""
Key = tuple[datetime, str]
"""Due time and task id."""


@dataclass
class LedgerPage:
    """The ledger's entries that meet conditions, newest due time first, by position.

    Args:
        app: The app.
        databases: The databases to read.
        where: The conditions.
        end: The position at which the page ends.
    """

    app: App
    databases: Sequence[str]
    where: Sequence[Any]
    end: int

    @cached_property
    def _present(self) -> list[str]:
        return [database for database, _ in connections(self.app, self.databases)]

    @cached_property
    def _merged(self) -> list[tuple[Key, str]]:
        parts = [self._keys(database, 0) for database in self._present]
        return list(islice(merge(*parts, reverse=True), self.end))

    def keys(self, first: int) -> list[tuple[Key, str]]:
        """The keys from a position on up to the page's end, each with its database."""
        if len(self._present) > 1:  # no database knows the positions in the others
            return self._merged[first:]
        return [key for name in self._present for key in self._keys(name, first)]

    def _keys(self, database: str, first: int) -> list[tuple[Key, str]]:
        # Keys alone: sorting whole entries takes several times as long.
        query = (
            select(entries.c.due, entries.c.task_id)
            .where(of_app(self.app.name), *self.where)
            .order_by(entries.c.due.desc(), entries.c.task_id.desc())
            .offset(first)
            .limit(self.end - first)
        )
        with self.app.engine(database).connect() as connection:
            found = connection.execute(query)
            return [((due, task_id), database) for due, task_id in found]

    def entries(self, keys: Sequence[tuple[Key, str]]) -> dict[Key, Entry]:
        """The entries of some keys."""
        found: dict[Key, Entry] = {}
        for database, connection in connections(self.app, self._present):
            ids = [task_id for (_, task_id), of in keys if of == database]
            for part in _parts(ids):
                query = select(entries).where(entries.c.task_id.in_(part))
                for entry in map(to_entry, connection.execute(query)):
                    found[entry.due, entry.task_id] = entry
        return found


@dataclass
class UnknownRuns:
    """The runs of scheduled templates that the ledger does not know.

    Args:
        app: The app.
        api: Prefect.
        templates: The full name of each template by its deployment's id.
        states: The state types to read.
        start: The earliest due time.
        end: The latest due time, included.
    """

    app: App
    api: Api
    templates: Mapping[str, str]
    states: Collection[str]
    start: datetime | None = None
    end: datetime | None = None

    def newest(self, limit: int, now: datetime) -> list[FlowRun]:
        """The newest runs: without a start, or begun and not completed.

        The ledger has an entry of every completed run. A run that began otherwise may have died before its entry.

        Args:
            limit: The number of runs at most.
            now: The present instant.
        """
        latest = now + EARLY
        found = self._read(limit, self.states, self.start, self.end, begun=False)
        states = set(self.states) - {"COMPLETED"}
        end = min(self.end or latest, latest)
        if states and (self.start is None or self.start <= end):
            found |= self._read(limit, states, self.start, end, begun=True)
        newest = sorted(
            found.values(), key=lambda run: run.expected_start_time, reverse=True
        )
        return newest[:limit]

    def _read(
        self,
        limit: int,
        states: Collection[str],
        start: datetime | None,
        end: datetime | None,
        *,
        begun: bool,
    ) -> dict[str, FlowRun]:
        """The newest unknown runs by id, page by page."""
        where: dict[str, Any] = {
            "deployment_id": {"any_": list(self.templates)},
            "state": {"type": {"any_": list(states)}},
            "start_time": {"is_null_": not begun},
        }
        span = {"after_": start, "before_": end}
        between = {k: at.astimezone(UTC).isoformat() for k, at in span.items() if at}
        if between:
            where["expected_start_time"] = between
        found: dict[str, FlowRun] = {}
        offset = 0
        while len(found) < limit:
            page = self.api.runs(flow_runs=where, limit=PAGE, offset=offset)
            known = self._known({name for run in page for name in _names(run)})
            found |= {run.id: run for run in page if not known & _names(run)}
            offset += len(page)
            if len(page) < PAGE:
                break
        return found

    def _known(self, ids: Collection[str]) -> set[str]:
        """The ids of runs and tasks with an entry in the ledger; the entry, whatever its status, is the truth about them."""
        known: set[str] = set()
        c = entries.c
        for _, connection in connections(self.app):
            for part in _parts(sorted(ids)):
                for column in (c.flow_run_id, c.task_id, c.first_run_id):
                    query = select(column).where(column.in_(part))
                    known.update(connection.execute(query).scalars())
        return known


def _names(run: FlowRun) -> set[str]:
    """The ids by which the ledger may know a run: the run's own id, and its task's.

    A task whose first run came too early, in a pause of the app or at a limit, is entered with the run that followed.
    """
    return {run.id, str(run.parameters.get("taskId") or run.id)}


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + IDS] for start in range(0, len(ids), IDS))
