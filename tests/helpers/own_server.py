"""A Prefect server of a test alone, always at one address, that the test kills and starts again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect_database import prepare

from jittask_prefect.server import embedded as module
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.selection import refresh_settings


class Server:
    """A server of this test alone, always at one address.

    Args:
        home: Its home.
    """

    def __init__(self, home: Path) -> None:
        self.here = Embedded(home)
        self.info, _ = self.here.ensure()

    def kill(self) -> None:
        """Kill -9, with all its processes; returns once they are gone."""
        family = self.here.server.family(self.info)
        while members := family.members():
            for one in members:
                os.kill(one.pid, signal.SIGKILL)

    def start(self) -> None:
        """Start the server again, at its address."""
        self.info, started = self.here.ensure()
        assert started


@contextmanager
def own_server(home: Path, database: Path) -> Iterator[Server]:
    """A server, which ends with the block; `PREFECT_API_URL` points at it, for child processes too.

    Args:
        home: A folder that does not exist yet.
        database: A migrated database, which is copied.
    """
    prepare(home, database)
    port = module.free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "free_port", lambda: port)
        made = Server(home)
        patch.setenv("PREFECT_API_URL", made.info.url)
        patch.setenv("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "false")
        refresh_settings()
        try:
            yield made
        finally:
            made.here.stop()
    refresh_settings()
