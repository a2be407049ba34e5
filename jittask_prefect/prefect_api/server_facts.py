"""Facts that API servers tell, for `jittask doctor`: releases, settings, clocks; and whether Redis answers.

Each question has a connection of its own, so that a balancer may lead it to another server.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from jittask_prefect.prefect_api.answers import EventPage
from jittask_prefect.prefect_api.connection import Connection
from jittask_prefect.prefect_api.settings import CLOUD_API, client_settings

QUESTIONS = 6
"""Of two servers that a balancer asks at random, both answer with a probability of 97 %."""
REDIS_SECONDS = 2.0
REDIS_PORT = 6379


@dataclass(frozen=True)
class Offset:
    """How far a clock is ahead of this machine's, in seconds: not less than `low`, and not more than `high`."""

    low: float
    high: float

    @property
    def at_least(self) -> float:
        """How many seconds the clocks differ, at least."""
        return max(self.low, -self.high, 0.0)

    def beyond(self, seconds: float) -> float | None:
        """The offset, at least, where the clocks differ by more than some seconds; None where they need not."""
        if self.low > seconds:
            return self.low
        return self.high if self.high < -seconds else None


@dataclass
class ServerFacts:
    """The answers of the API servers behind one address.

    Attributes:
        versions: Their releases of Prefect.
        settings: Their settings, by section; equal ones once. Prefect masks secrets.
        offsets: Of each server's clock; None where no answer has a `Date`.
    """

    versions: set[str] = field(default_factory=set)
    settings: list[Mapping[str, Any]] = field(default_factory=list)
    offsets: list[Offset | None] = field(default_factory=list)

    @property
    def offset(self) -> Offset | None:
        """The offset of the server whose clock differs most; None where no server gives one."""
        found = [offset for offset in self.offsets if offset is not None]
        return max(found, key=lambda offset: offset.at_least, default=None)

    def add(self, settings: Mapping[str, Any], offset: Offset | None) -> None:
        """Add an answer of a server, which may have answered before."""
        if settings not in self.settings:
            self.settings.append(settings)
            self.offsets.append(offset)
            return
        place = self.settings.index(settings)
        known = self.offsets[place]
        if known is not None and offset is not None:
            # A busy server gives an old `Date`: the clock is never behind that, and may be ahead.
            offset = Offset(max(known.low, offset.low), max(known.high, offset.high))
        self.offsets[place] = offset or known

    def values(self, path: str) -> list[Any]:
        """The values of a setting, as `server.docket.url`; one where all servers agree, None for an unknown setting."""
        found: list[Any] = []
        for each in self.settings:
            value: Any = each
            for name in path.split("."):
                value = value.get(name) if isinstance(value, Mapping) else None
            if value not in found:
                found.append(value)
        return found


def ask(url: str, clock: Callable[[], datetime]) -> ServerFacts | None:
    """Ask the servers behind an address; None for Prefect Cloud, which has no such settings.

    Args:
        url: The API's address.
        clock: Gives the present instant by this machine's clock.

    Raises:
        PrefectApiError: A server gives no answer, or is none of Prefect's.
    """
    if url.startswith(CLOUD_API):
        return None
    facts = ServerFacts()
    for _ in range(QUESTIONS):
        with closing(Connection(url, client_settings())) as connection:
            facts.versions.add(connection.call("GET", "/admin/version", str))
            found, seen = connection.dated("/admin/settings", dict[str, Any], clock)
        facts.add(found, seen and Offset(*seen))
    return facts


def has_events(url: str, since: datetime, until: datetime) -> bool:
    """Whether the server has stored events of flow runs of a span of time.

    Raises:
        PrefectApiError: The server gives no answer.
    """
    span = {"since": since.isoformat(), "until": until.isoformat()}
    about = {"occurred": span, "resource": {"id_prefix": ["prefect.flow-run."]}}
    body = {"filter": about, "limit": 1}
    with closing(Connection(url, client_settings())) as connection:
        found = connection.call("POST", "/events/filter", EventPage, body=body)
    return bool(found.events)


def redis_fault(url: str) -> str | None:
    """Why the Redis of a URL gives no answer to this machine; None where it answers."""
    place = urlsplit(url)
    host, port = place.hostname or "localhost", place.port or REDIS_PORT
    try:
        with socket.create_connection((host, port), REDIS_SECONDS) as asked:
            if place.scheme == "rediss":
                return None
            asked.sendall(b"PING\r\n")
            answer = asked.recv(64)
    except OSError as error:
        return str(error)
    # A Redis with a password refuses the PING, and is there.
    fine = answer.startswith((b"+PONG", b"-NOAUTH", b"-NOPERM"))
    return None if fine else f"it answered {answer!r}"
