"""A Prefect server that may be killed, and started again where it was."""

from __future__ import annotations

import os
import signal

from jittask_prefect.server import embedded
from jittask_prefect.server.embedded import Embedded


def kill(server: Embedded) -> int:
    """Kill a server with all its processes; how many servers."""
    info = server.find()
    if info is None:
        return 0
    for process in server.server.family(info).members():
        os.kill(process.pid, signal.SIGKILL)
    return 1


def restart(server: Embedded, port: int) -> None:
    """Start it at its port: its clients know no other."""
    real, embedded.free_port = embedded.free_port, lambda: port
    try:
        server.ensure()
    finally:
        embedded.free_port = real
