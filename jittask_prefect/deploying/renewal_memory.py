"""The memory of a sync's renewal of deployments, in the ledger's state table.

The memory says until when every due occurrence was seen to have a run, and the content that was left of each deployment on
the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel
from sqlalchemy import Connection

from jittask_prefect.ledger import state_table

MARK, PREFIX = "renewed", "renewed:"


class Memory(BaseModel, frozen=True):
    """A deployment as the last sync knew the deployment.

    Attributes:
        rule: The rule in the template's fingerprint; empty while the template is disabled.
        since: When a sync first saw that rule; nothing earlier is made again.
        state: The digest of the deployment on the server.
        updated: The server's time of the last change; empty where that change was ours.
        complete_until: Until when each due occurrence had a run, where that differs from the last renewal.
        own_next: The next due time that a Type with own times has said.
    """

    rule: str
    since: datetime
    state: str
    updated: str = ""
    complete_until: datetime | None = None
    own_next: datetime | None = None


def last_renewal(connection: Connection, app: str) -> datetime | None:
    """When a sync last renewed the deployments; None where none has."""
    mark = state_table.get(connection, app, MARK)
    return datetime.fromisoformat(mark) if mark else None


def remembered(
    connection: Connection, app: str
) -> tuple[datetime | None, dict[str, Memory]]:
    """The time of the last renewal, and the memories of deployments by name."""
    found = state_table.starting_with(connection, app, PREFIX).items()
    memories = {
        key.removeprefix(PREFIX): Memory.model_validate_json(text)
        for key, text in found
    }
    return last_renewal(connection, app), memories


def remember(
    connection: Connection,
    app: str,
    now: datetime,
    before: Mapping[str, Memory],
    after: Mapping[str, Memory],
) -> None:
    """Keep the time of a renewal, and the memories that have changed."""
    state_table.put(connection, app, MARK, now.isoformat())
    for name in {*before, *after}:
        memory = after.get(name)
        if memory != before.get(name):
            text = memory.model_dump_json(exclude_none=True) if memory else None
            state_table.put(connection, app, PREFIX + name, text)
