"""A page of records, however deep: the ledger's part by position, and what only Prefect knows of the same span of time.

Nothing before the page is read: the ledger counts up to it; and of Prefect's runs, most of which it knows,
only those are fetched that it may not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import islice
from typing import Any

from sqlalchemy import func, select

from jittask_prefect.elements.app import App
from jittask_prefect.ledger import versions
from jittask_prefect.ledger.entry import Entry, to_entry
from jittask_prefect.ledger.tables import entries
from jittask_prefect.prefect_api.answers import FlowRun
from jittask_prefect.prefect_api.client import PAGE, Api

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
EARLY = timedelta(hours=1)  # a run that has begun is not due later than that
SHORT, TICK = timedelta(seconds=1), timedelta(microseconds=1)
FEW = 20  # are fetched, whatever the ledger counts: some of the ledger's may have been deleted in Prefect
IDS = 500
SPARE = 200  # how many more keys before a page are asked for, so that most pages need not ask again
Key = tuple[datetime, str]
"""Due time and task id."""


class LedgerPart:
    """The entries that meet conditions, newest due time first, by position.

    Args:
        app: The app.
        databases: Where they are.
        where: The conditions.
        most: How many positions there are at most.
    """

    def __init__(
        self, app: App, databases: Sequence[str], where: Sequence[Any], most: int
    ) -> None:
        self._app, self._where, self._most = app, where, most
        self._databases = []
        for database in databases:
            with app.engine(database).connect() as connection:
                if versions.there(connection):
                    self._databases.append(database)
        self._keys: list[tuple[Key, str]] | None = None

    def keys(self, first: int) -> list[tuple[Key, str]]:
        """The keys from a position on up to the last one, each with its database."""
        if len(self._databases) > 1:
            if (
                self._keys is None
            ):  # there is no other way to count in the order of several
                parts = [self._asked(database, 0) for database in self._databases]
                self._keys = list(islice(merge(*parts, reverse=True), self._most))
            return self._keys[first:]
        return [
            key for database in self._databases for key in self._asked(database, first)
        ]

    def _asked(self, database: str, first: int) -> list[tuple[Key, str]]:
        # Keys alone: to sort whole entries takes several times as long.
        query = (
            select(entries.c.due, entries.c.task_id)
            .where(*self._where)
            .order_by(*_ORDER)
        )
        with self._app.engine(database).connect() as connection:
            found = connection.execute(query.offset(first).limit(self._most - first))
            return [((r.due, r.task_id), database) for r in found]

    def entries(self, keys: Sequence[tuple[Key, str]]) -> dict[Key, Entry]:
        """The entries of some keys."""
        found: dict[Key, Entry] = {}
        for database in self._databases:
            ids = [task_id for (_, task_id), of in keys if of == database]
            with self._app.engine(database).connect() as connection:
                for start in range(0, len(ids), IDS):
                    mine = entries.c.task_id.in_(ids[start : start + IDS])
                    for record in connection.execute(select(entries).where(mine)):
                        entry = to_entry(record)
                        found[entry.due, entry.task_id] = entry
        return found


_ORDER = (entries.c.due.desc(), entries.c.task_id.desc())


class RunsPart:
    """The runs of scheduled templates that the ledger does not know.

    Args:
        app: The app.
        api: Prefect.
        templates: The full name of a template by its deployment's id.
        states: The types of the states that are asked for.
        low: Only those that are due then or later.
        high: Only those that are due then or earlier.
    """

    def __init__(
        self,
        app: App,
        api: Api,
        templates: Mapping[str, str],
        states: Collection[str],
        low: datetime | None,
        high: datetime | None,
    ) -> None:
        self._app, self._api, self._templates, self._states = (
            app,
            api,
            templates,
            states,
        )
        self._low, self._high = low, high

    def newest(self, most: int, now: datetime) -> list[FlowRun]:
        """The newest so many: those that no worker began, and those whose begin the ledger has not seen."""
        found = {run.id: run for run in self._waiting(most)}
        low, high = self._low or EARLIEST, min(self._high or now + EARLY, now + EARLY)
        if low <= high:
            found |= {run.id: run for run in self._begun(low, high)}
        newest = sorted(found.values(), key=_due, reverse=True)
        return newest[:most]

    def _waiting(self, most: int) -> list[FlowRun]:
        found: list[FlowRun] = []
        offset = 0
        while len(found) < most:
            where = self._where(self._low, self._high, begun=False)
            page = self._api.runs(flow_runs=where, limit=PAGE, offset=offset)
            found += self._unknown(page)
            offset += len(page)
            if len(page) < PAGE:
                break
        return found

    def _begun(self, low: datetime, high: datetime) -> Iterator[FlowRun]:
        """Of a span of time: all where they are few, else only where Prefect counts more than the ledger."""
        where = self._where(low, high, begun=True)
        number = self._api.count_runs(flow_runs=where)
        if not number or (number > FEW and number <= self._counted(low, high)):
            return
        if number <= PAGE or high - low < SHORT:
            yield from self._unknown(self._api.runs(flow_runs=where))
            return
        middle = low + (high - low) / 2
        yield from self._begun(middle + TICK, high)
        yield from self._begun(low, middle)

    def _where(
        self, low: datetime | None, high: datetime | None, *, begun: bool
    ) -> dict[str, Any]:
        between = {
            name: at.astimezone(UTC).isoformat()
            for name, at in (("after_", low), ("before_", high))
            if at is not None
        }
        return {
            "deployment_id": {"any_": list(self._templates)},
            "state": {"type": {"any_": list(self._states)}},
            "start_time": {"is_null_": not begun},
            **({"expected_start_time": between} if between else {}),
        }

    def _counted(self, low: datetime, high: datetime) -> int:
        """How many executions of these templates the ledger has in a span of time."""
        mine = (
            entries.c.template.in_(set(self._templates.values())),
            entries.c.due >= low,
            entries.c.due <= high,
        )
        query = select(func.count()).where(
            *mine, entries.c.row_key == "", entries.c.flow_run_id.is_not(None)
        )
        with self._app.engine().connect() as connection:
            return (
                int(connection.execute(query).scalar() or 0)
                if versions.there(connection)
                else 0
            )

    def _unknown(self, page: Sequence[FlowRun]) -> list[FlowRun]:
        """Without those whose ledger entry, of whatever status, is the truth about them."""
        known: set[str] = set()
        with self._app.engine().connect() as connection:
            if page and versions.there(connection):
                for start in range(0, len(page), IDS):
                    mine = entries.c.flow_run_id.in_(
                        [run.id for run in page[start : start + IDS]]
                    )
                    known |= set(
                        connection.execute(
                            select(entries.c.flow_run_id).where(mine)
                        ).scalars()
                    )
        return [run for run in page if run.id not in known]


def _due(run: FlowRun) -> datetime:
    return run.expected_start_time
