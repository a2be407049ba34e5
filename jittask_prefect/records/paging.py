"""A page of records, however deep: the ledger's records by position, and the runs that only Prefect knows.

Nothing before the page is read. The ledger counts up to the page; of Prefect's runs, most of which the ledger knows,
only those are fetched that the ledger may not know.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from heapq import merge
from itertools import islice
from typing import Any

from sqlalchemy import func, select

from jittask_prefect.elements.app import App
from jittask_prefect.ledger.entry import Entry, to_entry
from jittask_prefect.ledger.tables import entries
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.client import PAGE, Api
from jittask_prefect.prefect_api.links import EARLIEST
from jittask_prefect.records.ledgers import connections
from jittask_prefect.schedule.instants import TICK

EARLY = timedelta(hours=1)
"""A run that has begun is due at most this much later than now."""
SHORTEST = timedelta(seconds=1)
FEW = 20
"""So few runs are fetched uncounted: entries of the ledger may have no run any more."""
IDS = 500
"""Ids in one statement."""
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
            .where(entries.c.app == self.app.name, *self.where)
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
    _found: dict[str, FlowRun] = field(default_factory=dict)

    def newest(self, limit: int, now: datetime) -> list[FlowRun]:
        """The newest runs: those without a start, and those whose start the ledger has not seen.

        Args:
            limit: The number of runs at most.
            now: The present instant.
        """
        self._read_waiting(limit)
        latest = now + EARLY
        self._read_begun(self.start or EARLIEST, min(self.end or latest, latest))
        newest = sorted(
            self._found.values(), key=lambda run: run.expected_start_time, reverse=True
        )
        return newest[:limit]

    def _read_waiting(self, limit: int) -> None:
        where = self._where(self.start, self.end, begun=False)
        offset = 0
        while len(self._found) < limit:
            page = self.api.runs(flow_runs=where, limit=PAGE, offset=offset)
            self._keep_unknown(page)
            offset += len(page)
            if len(page) < PAGE:
                return

    def _read_begun(self, start: datetime, end: datetime) -> None:
        """Read the begun runs of a span: all where they are few, else where Prefect counts more than the ledger."""
        if start > end:
            return
        where = self._where(start, end, begun=True)
        count = self.api.count_runs(flow_runs=where)
        if not count or (count > FEW and count <= self._counted(start, end)):
            return
        if count <= PAGE or end - start < SHORTEST:
            self._keep_unknown(self.api.runs(flow_runs=where))
            return
        middle = start + (end - start) / 2
        self._read_begun(start, middle)
        self._read_begun(middle + TICK, end)

    def _where(
        self, start: datetime | None, end: datetime | None, *, begun: bool
    ) -> dict[str, Any]:
        """Prefect's filter."""
        where: dict[str, Any] = {
            "deployment_id": {"any_": list(self.templates)},
            "state": {"type": {"any_": list(self.states)}},
            "start_time": {"is_null_": not begun},
        }
        span = {"after_": start, "before_": end}
        between = {k: at.astimezone(UTC).isoformat() for k, at in span.items() if at}
        return where | ({"expected_start_time": between} if between else {})

    def _counted(self, start: datetime, end: datetime) -> int:
        """The number of executions of these templates in the ledger in a span of time."""
        query = select(func.count()).where(
            entries.c.app == self.app.name,
            entries.c.template.in_(set(self.templates.values())),
            entries.c.due >= start,
            entries.c.due <= end,
            entries.c.row_key == "",
            entries.c.flow_run_id.is_not(None),
        )
        found = [c.execute(query).scalar_one() for _, c in connections(self.app)]
        return sum(found)

    def _keep_unknown(self, page: Sequence[FlowRun]) -> None:
        """Keep the runs without an entry; of others the entry, whatever its status, is the truth."""
        known: set[str | None] = set()
        for _, connection in connections(self.app):
            for part in _parts([run.id for run in page]):
                column = entries.c.flow_run_id
                query = select(column).where(column.in_(part))
                known.update(connection.execute(query).scalars())
        self._found |= {run.id: run for run in page if run.id not in known}


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + IDS] for start in range(0, len(ids), IDS))
