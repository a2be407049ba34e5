"""A further child of the warm worker: by a fork of the app's fork server, against an exec of its own.

Ready at least 10 times as fast, in at most 150 ms on a quiet machine, and with at most 40 MB of memory (PSS: what processes share
counts in parts). The third line has the fork server with one child, against one child by exec. Linux only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import statistics
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import prefect
from measure import line, scale, workplace
from warm_worker import ELEMENTS

from jittask_prefect.deploying import prefect_yaml
from jittask_prefect.server.commands import environment
from jittask_prefect.server.selection import refresh_settings
from jittask_prefect.testing import build_app
from jittask_prefect.warm.child_process import ChildProcess
from jittask_prefect.warm.flow_file import FlowFile
from jittask_prefect.warm.fork_servers import BY_FORK, ForkServers
from jittask_prefect.warm.process_start import Start, start_by_exec

CHILDREN = 20
IDLE = 4  # children whose memory is measured beside each other


class Version(BaseHTTPRequestHandler):
    """Of Prefect's API, the answer that a client asks for at its begin."""

    def do_GET(self) -> None:
        body = json.dumps(prefect.__version__).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def pss(pids: list[int]) -> float:
    """Megabytes of some processes; of what they share with others, their part."""
    kilobytes = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        [row] = [row for row in text.splitlines() if row.startswith("Pss:")]
        kilobytes += int(row.split()[1])
    return kilobytes / 1000


async def ready(of: FlowFile, start: Start) -> tuple[ChildProcess, float]:
    """A child that takes jobs, and the seconds until it did."""
    begun = time.perf_counter()
    child = ChildProcess(of, lambda line: None, start)
    await asyncio.shield(child.ready)
    return child, time.perf_counter() - begun


async def end(child: ChildProcess) -> None:
    child.kill()
    await asyncio.shield(child.ended)


async def begin_to_ready(of: FlowFile, start: Start, count: int) -> float:
    """Seconds until a child is ready, the median of some."""
    taken = []
    for _ in range(count):
        child, seconds = await ready(of, start)
        taken.append(seconds)
        await end(child)
    return statistics.median(taken)


async def memory(
    of: FlowFile, start: Start, server: list[int], further: int
) -> tuple[float, float]:
    """Megabytes of the server with one idle child, and of each further child."""
    children = [(await ready(of, start))[0]]
    first = pss([*server, children[0].pid])
    children += [(await ready(of, start))[0] for _ in range(further)]
    all_of_them = pss([*server, *(child.pid for child in children)])
    for child in children:
        await end(child)
    return first, (all_of_them - first) / further


async def measure(of: FlowFile, share: float) -> None:
    count, further = max(1, round(CHILDREN * share)), max(1, round(IDLE * share))
    servers = ForkServers(logging.getLogger("benchmark"))
    await begin_to_ready(of, servers.start, 1)  # the server loads the app
    [server] = [one.pid for one in servers._servers.values()]
    by_exec = await begin_to_ready(of, start_by_exec, count)
    by_fork = await begin_to_ready(of, servers.start, count)
    line("a further child, from begin to ready", by_exec / by_fork, "times as fast", "a child by exec",
         fork_ms=by_fork * 1000, exec_ms=by_exec * 1000)  # fmt: skip
    idle_exec, more_exec = await memory(of, start_by_exec, [], further)
    idle_fork, more_fork = await memory(of, servers.start, [server], further)
    line("memory of a further idle child", more_exec / more_fork, "times less", "a child by exec",
         fork_mb=more_fork, exec_mb=more_exec)  # fmt: skip
    line("memory with one idle child, server included", idle_fork / idle_exec, "times as much", "a child by exec",
         fork_mb=idle_fork, exec_mb=idle_exec)  # fmt: skip
    await servers.stop()


def main() -> None:
    share = scale(__doc__ or "")
    if not BY_FORK:
        line("children by fork", 0, "not on this system", "a child by exec")
        return
    with (
        workplace() as home,
        ThreadingHTTPServer(("127.0.0.1", 0), Version) as server,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        os.environ.update(environment(None, home))
        os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{server.server_port}/api"
        refresh_settings()
        app = build_app(home / "app", ELEMENTS, name="warm")
        file = prefect_yaml.write_flows(app)
        app.close()
        of = FlowFile(str(file), str(app.path), str(app.path), app.name)
        asyncio.run(measure(of, share))
        server.shutdown()


if __name__ == "__main__":
    main()
