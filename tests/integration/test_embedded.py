"""Real servers and workers, started, found, handed on and ended; and nothing of them left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect_database import prepare

from jittask_prefect.errors import PrefectApiError
from jittask_prefect.server import embedded as module
from jittask_prefect.server import processes, service
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.service import ServiceInfo

# What `up` does, as another process: prints {"pid": …, "mine": …} once the server answers, and waits for its end.
UP = """
import json, signal, sys
from pathlib import Path
from jittask_prefect.server.embedded import Embedded
with Embedded(Path(sys.argv[1])) as embedded:
    server, mine = embedded.ensure()
    print(json.dumps({"pid": server.pid, "mine": mine}), flush=True)
    signal.pause()
"""

FLOW = """
import os, subprocess, sys, time
from pathlib import Path
from prefect import flow

@flow
def long():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
    Path("pids.tmp").write_text(f"{os.getpid()} {child.pid}")
    Path("pids.tmp").rename("pids")
    time.sleep(300)
"""


# --- one server for each home


@pytest.mark.server
def test_two_at_once_make_one_server_and_the_next_takes_it_over_where_both_were_killed(
    tmp_path: Path,
) -> None:
    ups = [_up(tmp_path), _up(tmp_path)]
    said = [_said(up) for up in ups]
    for up in ups:
        up.kill()
        up.wait()
    here = Embedded(tmp_path)
    server = here.find()
    assert server and {line["pid"] for line in said} == {server.pid}
    assert sorted(line["mine"] for line in said) == [False, True]

    assert here.ensure() == (server, False)
    here.stop()
    _assert_nothing_left(server, tmp_path)


def test_a_server_that_another_up_answers_for_is_used_and_left_alone(
    warm: Path,
) -> None:
    up = _up(warm)
    said = _said(up)
    with Embedded(warm) as second:
        server, mine = second.ensure()
        assert (server.pid, mine) == (said["pid"], False)
    assert _get(server.url + "/health") == b"true"
    assert f'"{server.url}"'.encode() in _get(
        server.ui_url + "/v2/ui-settings", server.ui_url + "/ui-settings"
    )

    up.terminate()  # as Ctrl-C does: `up` ends what it started
    assert up.wait(20) == 128 + signal.SIGTERM
    _assert_nothing_left(server, warm)
    assert Embedded(warm).find() is None


def test_a_port_that_another_server_took_meanwhile_is_tried_no_more(
    warm: Path, prefect_server: ServiceInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = iter([prefect_server.port, module.free_port()])
    monkeypatch.setattr(module, "free_port", lambda: next(ports))
    (warm / "server.port").unlink(missing_ok=True)
    here = Embedded(warm)
    try:
        server, mine = here.ensure()
        assert mine and server.port != prefect_server.port
    finally:
        here.stop()
    _assert_nothing_left(server, warm)


def test_the_next_server_has_the_port_of_the_last_where_nobody_took_it(
    warm: Path,
) -> None:
    here = Embedded(warm)
    ports = []
    for _ in range(2):
        server, _ = here.ensure()
        ports.append(server.port)
        here.stop()
    assert ports[0] == ports[1]
    with socket.create_server(("127.0.0.1", ports[1])):
        assert here._port(1) != ports[1]
    assert here._port(1) == ports[1]
    (warm / "server.port").write_text("no port")
    assert here._port(1) != ports[1]


def test_a_server_that_hangs_is_ended_with_sigkill_and_replaced(
    warm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE", 1.0)
    monkeypatch.setattr(module, "ANSWER", 0.5)
    here = Embedded(warm)
    try:
        first, _ = here.ensure()
        os.kill(first.pid, signal.SIGSTOP)
        with pytest.raises(PrefectApiError, match=f"pid {os.getpid()} answers for it"):
            Embedded(warm).ensure(timeout=0)
        monkeypatch.setattr(here, "_await", _without_patience(here._await, first))
        second, mine = here.ensure()
        assert mine and second.pid != first.pid
        assert not _session(first.pid)
    finally:
        here.stop()
    _assert_nothing_left(second, warm)


@pytest.mark.server
def test_a_server_that_cannot_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "PREFECT_SERVER_DATABASE_CONNECTION_URL",
        "sqlite+aiosqlite:////no/such/folder/prefect.db",
    )
    with pytest.raises(PrefectApiError) as caught:
        Embedded(tmp_path).ensure()
    message = str(caught.value)
    assert "ended with exit code" in message
    assert (
        "http://127.0.0.1:" in message and "prefect --no-prompt server start" in message
    )
    assert (
        str(tmp_path / "server.log") in message
        and "unable to open database file" in message
    )
    assert not (tmp_path / "server.json").exists()
    assert not _marked(tmp_path)


# --- the worker


def test_stop_ends_the_worker_its_flow_runs_and_what_they_started(
    tmp_path: Path, prefect_server: ServiceInfo
) -> None:
    (tmp_path / "long.py").write_text(FLOW)
    run = _deploy_and_run(tmp_path)
    home = tmp_path / ".jittask"
    here = Embedded(home)
    try:
        worker, mine = here.ensure_worker(prefect_server.url, "embedded", cwd=tmp_path)
        assert mine
        assert here.ensure_worker(prefect_server.url, "embedded", cwd=tmp_path) == (
            worker,
            False,
        )
        assert Embedded(home).worker_running(prefect_server.url, "embedded") == worker
        assert Embedded(home).worker_running(prefect_server.url, "other") is None
        _until((tmp_path / "pids").exists, here)
        pids = [worker.pid, *map(int, (tmp_path / "pids").read_text().split())]
        assert len({os.getsid(pid) for pid in pids}) == 3, (
            "each has a session of its own: ending one leaves the others"
        )
    finally:
        here.stop()
    assert [pid for pid in pids if processes.living(pid)] == []
    assert not _marked(home)
    assert sorted(path.name for path in home.glob("*.json")) == []
    state = json.loads(_get(f"{prefect_server.url}/flow_runs/{run}"))["state"]
    assert (state["type"], state["message"]) == (
        "CRASHED",
        "Execution was aborted by a termination signal.",
    )


# --- helpers


@pytest.fixture
def warm(tmp_path: Path, prefect_database: Path) -> Iterator[Path]:
    """A home whose database is migrated already: 3 s to start instead of 7."""
    prepare(tmp_path, prefect_database)
    yield tmp_path
    assert not _marked(tmp_path)


def _up(home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", UP, str(home)], stdout=subprocess.PIPE, text=True
    )


def _said(up: subprocess.Popen[str]) -> dict[str, Any]:
    assert up.stdout
    with up.stdout:
        line: dict[str, Any] = json.loads(up.stdout.readline())
    return line


def _deploy_and_run(folder: Path) -> str:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    with get_client(sync_client=True) as client:
        pool = WorkPoolCreate(name="embedded", type="process")
        client.create_work_pool(pool, overwrite=True)  # a second try finds the pool
        deployment = client.create_deployment(
            flow_id=client.create_flow_from_name("long"),
            name="long",
            entrypoint="long.py:long",
            work_pool_name="embedded",
            pull_steps=[
                {
                    "prefect.deployments.steps.set_working_directory": {
                        "directory": str(folder)
                    }
                }
            ],
        )
        return str(client.create_flow_run_from_deployment(deployment).id)


def _until(
    condition: Callable[[], bool], here: Embedded | None = None, seconds: float = 60
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if here:
            here.check()
        assert time.monotonic() < deadline, here and here.worker.log.read_text()
        time.sleep(0.05)


def _without_patience(
    await_answer: Callable[..., bool], hung: ServiceInfo
) -> Callable[..., bool]:
    return lambda info, deadline: info != hung and await_answer(info, deadline)


def _get(*urls: str) -> bytes:
    """The first of these addresses that answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for url in urls[:-1]:
        try:
            return bytes(opener.open(url, timeout=10).read())
        except OSError:
            pass
    return bytes(opener.open(urls[-1], timeout=10).read())


def _session(pid: int) -> list[int]:
    return [p.pid for p in processes.Family(pid, "JITTASK_NONE", "").members()]


def _marked(home: Path) -> list[int]:
    marks = [
        f"{service.mark_of(name)}={home}\0".encode() for name in ("server", "worker")
    ]
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            text = path.read_bytes()
        except OSError:
            continue
        found += [int(path.parent.name)] if any(mark in text for mark in marks) else []
    return found


def _assert_nothing_left(server: ServiceInfo, home: Path) -> None:
    assert _session(server.pid) == []
    assert _marked(home) == []
    assert sorted(path.name for path in home.glob("*.json")) == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0
