"""Which flow runs a warm worker executes beside each other."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.settings import get_current_settings
from pydantic import SecretStr

from jittask_prefect.warm.child_process import ChildProcess
from jittask_prefect.warm.helpers import Helpers

MEMORY = "prefect.server.utilities.messaging.memory"
"""The messages of a server that stands alone."""
LIMIT = 8  # runs at a time where nobody says otherwise
# On a server with SQLite, several runs that begin and end beside each other are slower than the same runs in a row. A run
# that has been at work for a while hardly asks the server for anything, and must not keep others waiting.
SQLITE_PACE, PACE = 1, 2
BEGINNING_SECONDS = 3.0
EARLY = timedelta(
    seconds=2
)  # that the process of a batch is there before its rows are due
ANSWERS = (
    10  # and as many answers of the server longer: a slow server is asked for less
)
# The ends of the entrypoints of flows that have a place beside the tasks: without the sync nothing is recovered.
RESERVED = (":jittask_sync", ":jittask_end_task")


@dataclass(frozen=True)
class DueRun:
    """A flow run that is due, or will be soon; `reserved` where the run has a place beside the tasks."""

    due: datetime
    flow_run: FlowRun
    reserved: bool

    @property
    def begins(self) -> datetime:
        """When the run begins: a batch early, so that its process is there when its rows are due."""
        return self.due - EARLY if is_batch(self.flow_run) else self.due


@dataclass(eq=False)
class ActiveRun:
    """A flow run that this worker executes.

    Attributes:
        flow_run: The run.
        reserved: Whether the run has a place beside the tasks.
        since: When the run was taken, by the event loop's clock.
        child: The process that executes the run.
        helpers: The processes that take rows beside that process.
        end_reason: Why the run is to end; None where nobody ends the run.
        finished: Set once nothing more is to be done for the run.
    """

    flow_run: FlowRun
    reserved: bool
    since: float
    child: ChildProcess | None = None
    helpers: Helpers | None = None
    end_reason: str | None = None
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    def kill(self) -> None:
        """End the processes of this run at once."""
        if self.child is not None:
            self.child.kill()
        if self.helpers is not None:
            self.helpers.kill()


@dataclass
class Places:
    """How many runs may be at work.

    Attributes:
        tasks: How many runs of tasks at a time; a further place is reserved.
        pace: How many runs of single tasks may begin beside each other.
        answer_seconds: How long the server's last answer took.
        closed: The worker ends: no process begins.
    """

    tasks: int
    pace: int
    answer_seconds: float = 0.0
    closed: bool = False

    @property
    def total(self) -> int:
        """How many runs may be at work, with the reserved place."""
        return self.tasks + 1

    def room(self, active: Collection[ActiveRun]) -> int:
        """How many more processes may help runs at work; a process that leads helpers takes no rows, and no place."""
        helpers = [run.helpers.number if run.helpers else 0 for run in active]
        alone = helpers.count(0)
        return 0 if self.closed else self.tasks - alone - sum(helpers)

    def free(self, active: Collection[ActiveRun], now: float) -> bool:
        """Whether any run may begin.

        Args:
            active: The runs at work.
            now: By the event loop's clock.
        """
        return len(active) < self.total and self._beginning(active, now) < PACE

    def may_begin(self, run: DueRun, active: Collection[ActiveRun], now: float) -> bool:
        """Whether a run may begin beside those at work; arguments as of `free`."""
        tasks = sum(not other.reserved for other in active)
        if tasks >= self.tasks and not run.reserved:
            return False
        if any(_is_share(run.flow_run, other, now) for other in active):
            return False
        pace = PACE if is_batch(run.flow_run) else self.pace
        return self.free(active, now) and self._beginning(active, now) < pace

    def _beginning(self, active: Collection[ActiveRun], now: float) -> int:
        since = now - BEGINNING_SECONDS - ANSWERS * self.answer_seconds
        return sum(run.since > since for run in active)


def _is_share(flow_run: FlowRun, other: ActiveRun, now: float) -> bool:
    """Whether another run at work has rows of the same batch, and began a moment ago: the others are for other workers."""
    same = flow_run.parameters == other.flow_run.parameters
    return is_batch(flow_run) and same and now - other.since < EARLY.total_seconds()


def is_batch(flow_run: FlowRun) -> bool:
    """Whether a run is for many rows: such a run asks the server for next to nothing while at work."""
    return "due" in flow_run.parameters


async def server_settings(client: PrefectClient) -> dict[str, Any]:
    """The settings of a server, without its secrets; empty where the server does not tell."""
    try:
        answer = await client.request("GET", "/admin/settings")
        answer.raise_for_status()
    except httpx.HTTPError:
        return {}
    return dict(answer.json())


def server_pace(told: Mapping[str, Any]) -> int:
    """How many runs may begin beside each other, by the server's database.

    No server tells its database. But a server whose messages go through a broker is one of several, which have
    PostgreSQL. Any other server on this machine has the database of the settings here, or else SQLite.

    Args:
        told: The server's settings, as `/admin/settings` shows them; empty where the server does not tell.
    """
    broker = told.get("server", {}).get("events", {}).get("messaging_broker", MEMORY)
    if broker != MEMORY:
        return PACE
    settings = get_current_settings()
    url = settings.server.database.connection_url
    database = url.get_secret_value() if isinstance(url, SecretStr) else str(url or "")
    host = urlsplit(settings.api.url or "").hostname
    local = host in ("127.0.0.1", "localhost", "::1")
    return SQLITE_PACE if local and "postgresql" not in database else PACE
