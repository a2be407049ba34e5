"""Children by fork: as ready, as alone and as mortal as children by exec; real processes of a real flow file."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import prefect
import pytest
from patience import PATIENCE
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from jittask_prefect.warm import child_process, fork_servers
from jittask_prefect.warm.child_process import UNKNOWN_CODE, ChildDied, ChildProcess
from jittask_prefect.warm.flow_file import FlowFile
from jittask_prefect.warm.fork_servers import ForkServers

pytestmark = pytest.mark.skipif(
    not fork_servers.BY_FORK, reason="children by fork need Linux"
)
SECONDS = 30 * PATIENCE
# A question to the flow evaluates an expression: the run's parameter.
FLOWS = """
import ctypes, os, random, socket, subprocess, sys, threading, time, uuid
from pathlib import Path
from prefect import flow
from jittask_prefect.running.lease import new_owner

LOADED_IN = os.getpid()

AT_IMPORT

@flow
async def Probe():
    pass

def ended(run_id):
    return eval(Path(__file__).with_name("question").read_text())

Probe._jittask_ended = ended
"""


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


@pytest.fixture(scope="module", autouse=True)
def api() -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Version) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/api"
        with temporary_settings({PREFECT_API_URL: url}):
            yield
        server.shutdown()


def flow_file(folder: Path, at_import: str = "") -> FlowFile:
    file = folder / "flows_of_test.py"
    file.write_text(FLOWS.replace("AT_IMPORT", at_import))
    return FlowFile(str(file), str(folder))


async def ask(child: ChildProcess, question: str) -> Any:
    """What an expression gives in a child; its whole answer where that is another."""
    folder = Path(child.flow_file.directory)
    (folder / "question").write_text(question)
    run = FlowRun(flow_id=uuid4()).model_dump(mode="json")
    job = {"run": run, "function": "Probe", "ask": True}
    where = {"file": child.flow_file.file, "directory": str(folder)}
    answer = await asyncio.wait_for(child.request(job | where), SECONDS)
    return answer.get("ended", answer)


class Children:
    """Children of one flow file, and the servers that make them."""

    def __init__(self, of: FlowFile, servers: ForkServers | None = None) -> None:
        self.of = of
        self.servers = servers or ForkServers(logging.getLogger("test"))
        self.begun: list[ChildProcess] = []

    def begin(self) -> ChildProcess:
        child = ChildProcess(self.of, lambda line: None, self.servers.start)
        self.begun.append(child)
        return child

    async def ready(self) -> ChildProcess:
        child = self.begin()
        await asyncio.wait_for(asyncio.shield(child.ready), SECONDS)
        return child

    async def end(self) -> None:
        for child in self.begun:
            child.kill()
            await ended(child)


Test = Callable[[Children], Awaitable[None]]


def with_children(of: FlowFile, test: Test) -> None:
    async def run() -> None:
        children = Children(of)
        try:
            await test(children)
        finally:
            await children.end()
            await children.servers.stop()

    asyncio.run(run())


@pytest.fixture(scope="module")
def with_server(
    api: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Test], None]]:
    """Does a test with children of a server that other tests have used: the server loads Prefect once for all of them."""
    of = flow_file(tmp_path_factory.mktemp("shared"))
    servers = ForkServers(logging.getLogger("test"))

    async def run(test: Test) -> None:
        children = Children(of, servers)
        try:
            await test(children)
        finally:
            await children.end()

    with asyncio.Runner() as runner:
        yield lambda test: runner.run(run(test))
        runner.run(servers.stop())


async def ended(child: ChildProcess) -> int:
    return await asyncio.wait_for(asyncio.shield(child.ended), SECONDS)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings in the worker's log."""
    records = [r for r in caplog.records if r.name == "test"]
    return [r.getMessage() for r in records if r.levelname == "WARNING"]


async def gone(pid: int) -> None:
    async with asyncio.timeout(SECONDS):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.02)


def test_children_share_the_loaded_file_and_nothing_that_must_be_their_own(
    with_server: Callable[[Test], None],
) -> None:
    async def test(children: Children) -> None:
        first, second = await children.ready(), await children.ready()
        where = "[os.getpid(), os.getppid(), os.getsid(0), LOADED_IN]"
        places = [await ask(child, where) for child in (first, second)]
        for child, (pid, parent, session, loaded_in) in zip(
            (first, second), places, strict=True
        ):
            assert pid == child.pid == session
            assert parent == loaded_in not in (pid, os.getpid())
        assert places[0][1] == places[1][1]
        own = "[random.random(), str(uuid.uuid4()), str(uuid.uuid1()), new_owner().split(':')[2]]"
        numbers = [await ask(child, own) for child in (first, second)]
        for one, other in zip(*numbers, strict=True):
            assert one != other
        assert await ask(first, "int(new_owner().split(':')[1])") == first.pid

    with_server(test)


def test_a_child_holds_nothing_of_its_server_and_of_other_children(
    with_server: Callable[[Test], None],
) -> None:
    async def test(children: Children) -> None:
        others = [await children.ready() for _ in range(3)]
        opened = "[(n, os.path.realpath(f'/proc/self/fd/{n}')) for n in os.listdir('/proc/self/fd')]"
        found = [
            {name for _, name in await ask(child, opened) if "socket:" in name}
            for child in others
        ]
        for one in found:
            for other in (o for o in found if o is not one):
                assert one & other == set()

    with_server(test)


@pytest.mark.parametrize(
    ("end", "code"),
    [("os._exit(3)", 3), ("os.kill(os.getpid(), 9)", -9), ("os.abort()", -6)],
)
def test_the_exit_code_of_a_child_is_known(
    with_server: Callable[[Test], None], end: str, code: int
) -> None:
    async def test(children: Children) -> None:
        child, other = await children.ready(), await children.ready()
        with pytest.raises(ChildDied) as died:
            await ask(child, end)
        assert died.value.code == await ended(child) == code
        await gone(child.pid)  # no zombie is left
        assert await ask(other, "1 + 1") == 2

    with_server(test)


def test_a_killed_child_is_gone_with_the_processes_that_it_left(
    with_server: Callable[[Test], None],
) -> None:
    async def test(children: Children) -> None:
        child = await children.ready()
        left = await ask(child, "subprocess.Popen(['sleep', '600']).pid")
        copy = await ask(child, "os.fork() or time.sleep(600)")
        child.kill()
        assert await ended(child) == -signal.SIGKILL
        for pid in (child.pid, left, copy):
            await gone(pid)

    with_server(test)


def test_a_copy_that_a_function_forks_holds_no_pipe(
    with_server: Callable[[Test], None],
) -> None:
    async def test(children: Children) -> None:
        child = await children.ready()
        with pytest.raises(ChildDied) as died:
            await ask(child, "os._exit(3) if os.fork() else time.sleep(600)")
        assert died.value.code == 3

    with_server(test)


def test_a_child_that_closes_all_is_gone_soon(
    with_server: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "PING_SECONDS", 0.2)
    monkeypatch.setattr(child_process, "CLOSE_SECONDS", 0.2)

    async def test(children: Children) -> None:
        child = await children.ready()
        with pytest.raises(ChildDied):
            await ask(child, "os.closerange(3, 10_000) or time.sleep(600)")

    with_server(test)


def test_children_go_on_without_their_server_and_the_next_child_gets_another(
    tmp_path: Path,
) -> None:
    async def test(children: Children) -> None:
        first, second, third = [await children.ready() for _ in range(3)]
        server = await ask(first, "LOADED_IN")
        os.kill(server, signal.SIGKILL)
        await gone(server)
        assert await ask(first, "os.getpid()") == first.pid
        fourth = await children.ready()
        assert await ask(fourth, "os.getppid() == LOADED_IN") is True
        first.kill()
        assert await ended(first) == -signal.SIGKILL
        with pytest.raises(ChildDied, match="an unknown exit code"):
            await ask(second, "os._exit(3)")
        assert await ended(second) == UNKNOWN_CODE
        assert await ask(third, "1 + 1") == 2

    with_children(flow_file(tmp_path), test)


def test_a_signal_to_all_processes_of_a_worker_leaves_the_server_to_tell_how_children_end(
    with_server: Callable[[Test], None],
) -> None:
    async def test(children: Children) -> None:
        first, second = [await children.ready() for _ in range(2)]
        os.kill(await ask(first, "LOADED_IN"), signal.SIGTERM)
        os.kill(second.pid, signal.SIGTERM)
        assert await ended(second) == -signal.SIGTERM
        with pytest.raises(ChildDied, match="exit code 3"):
            await ask(first, "os._exit(3)")

    with_server(test)


def test_a_worker_that_ends_while_a_child_starts_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(children: Children) -> None:
        child = children.begin()
        await asyncio.sleep(0.1)
        child.kill()
        assert await ended(child) == -signal.SIGKILL
        await children.servers.stop()
        await asyncio.sleep(0.1)
        del child
        children.begun.clear()
        gc.collect()  # an error that nobody has read is told then

    with_children(flow_file(tmp_path), test)
    assert "never retrieved" not in caplog.text


def test_changed_files_are_seen_by_child_and_server(tmp_path: Path) -> None:
    async def test(children: Children) -> None:
        first, second = await children.ready(), await children.ready()
        server = await ask(first, "LOADED_IN")
        flow_file(tmp_path, "NEW = 'new'")
        os.utime(children.of.file, ns=(1, 1))
        assert "stale" in await ask(first, "1")
        third = await children.ready()
        assert await ask(third, "NEW") == "new"
        assert await ask(third, "LOADED_IN") != server
        # The old server waits for its children, to tell their ends.
        for child in (first, second):
            children.servers.trim(0.0)
            assert Path(f"/proc/{server}").exists()
            child.kill()
            assert await ended(child) == -signal.SIGKILL
        children.servers.trim(0.0)
        await gone(server)
        assert await ask(third, "NEW") == "new"

    with_children(flow_file(tmp_path), test)


def test_an_unfit_app_is_said_once_and_has_children_by_fork_once_its_files_have_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(children: Children) -> None:
        for _ in range(2):
            child = await children.ready()
            assert await ask(child, "os.getppid()") == os.getpid()
        [said] = warnings(caplog)
        assert "it opens pipe:" in said and "open connections" in said
        flow_file(tmp_path)
        assert "stale" in (answer := await ask(child, "1"))
        assert answer["stale"]
        children.servers.files_changed(child.flow_file, child.started)
        again = await children.ready()
        assert await ask(again, "os.getppid() == LOADED_IN") is True

    with_children(flow_file(tmp_path, "KEPT = os.pipe()"), test)


@pytest.mark.parametrize(
    ("at_import", "reason", "begun"),
    [
        ("raise LookupError('no such shop')", "LookupError('no such shop')", 1),
        ("sys.exit(4)", "SystemExit: 4", 1),
        ("os.kill(os.getpid(), 9)", "exit code -9", 2),
    ],
)
def test_a_server_that_does_not_get_ready_is_said_once(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    at_import: str,
    reason: str,
    begun: int,
) -> None:
    in_server = f"if 'jittask_prefect.warm.fork_server' in sys.orig_argv: {at_import}"

    async def test(children: Children) -> None:
        for _ in range(begun):
            child = await children.ready()
            assert await ask(child, "os.getppid()") == os.getpid()
        [said] = warnings(caplog)
        assert reason in said

    with_children(flow_file(tmp_path, in_server), test)


def test_where_a_system_cannot_fork_children_are_started_by_exec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_servers, "BY_FORK", False)

    async def test(children: Children) -> None:
        child = await children.ready()
        assert await ask(child, "[os.getppid(), LOADED_IN]") == [os.getpid(), child.pid]

    with_children(flow_file(tmp_path), test)


def test_an_idle_server_ends_but_that_of_the_first_app(tmp_path: Path) -> None:
    async def test(children: Children) -> None:
        first = await children.ready()
        (tmp_path / "other").mkdir()
        children.of = flow_file(tmp_path / "other")
        other = await children.ready()
        servers = [await ask(child, "LOADED_IN") for child in (first, other)]
        later = asyncio.get_running_loop().time() + 1000
        children.servers.trim(later)
        assert await ask(other, "1 + 1") == 2  # a server with a child is not idle
        for child in (first, other):
            child.kill()
            await ended(child)
        children.servers.trim(later)
        await gone(servers[1])
        assert Path(f"/proc/{servers[0]}").exists()

    with_children(flow_file(tmp_path), test)


def test_a_child_that_is_killed_before_it_is_there_ends_at_once(tmp_path: Path) -> None:
    async def test(children: Children) -> None:
        slow = children.begin()
        await asyncio.sleep(0.1)  # its server loads the file
        slow.kill()
        assert await asyncio.wait_for(slow.ended, 1) == -signal.SIGKILL
        child = await children.ready()
        assert await ask(child, "os.getppid() == LOADED_IN") is True
        # The first child was made all the same, and is gone.
        [server] = children.servers._servers.values()
        async with asyncio.timeout(SECONDS):
            while server.children > 1:
                await asyncio.sleep(0.02)

    with_children(flow_file(tmp_path), test)


WORKER = """
import asyncio, sys
from jittask_prefect.warm.child_process import ChildProcess
from jittask_prefect.warm.flow_file import FlowFile
from jittask_prefect.warm.fork_servers import ForkServers
sys.path.insert(0, sys.argv[1])
import logging
from test_fork_servers import ask

async def work():
    servers = ForkServers(logging.getLogger("test"))
    of = FlowFile(sys.argv[2], sys.argv[3])
    children = [ChildProcess(of, print, servers.start) for _ in range(2)]
    for child in children:
        await asyncio.shield(child.ready)
    left = await ask(children[0], "subprocess.Popen(['sleep', '600']).pid")
    print(await ask(children[0], "LOADED_IN"), *(child.pid for child in children), left, flush=True)
    # C code that holds the interpreter's lock.
    await ask(children[0], "ctypes.PyDLL(None).sleep(600)")

asyncio.run(work())
"""


def test_server_and_children_end_with_the_worker(tmp_path: Path) -> None:
    of = flow_file(tmp_path)
    helpers = Path(__file__).parents[2] / "helpers"
    env = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value() or "", "PYTHONPATH": str(helpers)}  # fmt: skip
    command = [sys.executable, "-c", WORKER, str(Path(__file__).parent), of.file, of.directory]  # fmt: skip
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        pids = [int(pid) for pid in worker.stdout.readline().split()]
        assert len(pids) == 4
        worker.kill()

    async def all_gone() -> None:
        for pid in pids:
            await gone(pid)

    asyncio.run(all_gone())
