"""Watermarks: the memory of the last sync of each date-field template, kept in `jittask_state`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection

from jittask_prefect.ledger import state_table


@dataclass(frozen=True)
class Memory:
    """The memory of the last sync of a date-field template.

    Attributes:
        mark: The instant of that sync.
        upto: Until when all that was due then has been planned; None where all rows are to be looked at.
        floor: The instant before which no sync looks: the template was enabled, or edited, then.
        config: The template's fingerprint at that time (`rows.template_planner.fingerprint`).
    """

    mark: datetime
    upto: datetime | None
    floor: datetime | None
    config: str | None


def remember(
    connection: Connection, app: str, template: str, memory: Memory | None
) -> None:
    """Keep the memory of a template; None forgets the memory."""
    if memory is None:
        return state_table.put(connection, app, f"rows:{template}", None)
    times = [
        at and at.astimezone(UTC).isoformat()
        for at in (memory.mark, memory.upto, memory.floor)
    ]
    return state_table.put(
        connection, app, f"rows:{template}", json.dumps([*times, memory.config])
    )


def memories(connection: Connection, app: str) -> dict[str, Memory]:
    """All memories, by template."""
    found = {}
    for name, text in state_table.starting_with(connection, app, "rows:").items():
        mark, upto, floor, config = json.loads(text)
        memory = Memory(
            datetime.fromisoformat(mark), instant(upto), instant(floor), config
        )
        found[name.removeprefix("rows:")] = memory
    return found


def instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
