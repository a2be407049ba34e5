"""Real servers and workers, started, found, handed on and ended; and nothing of them left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from prefect_database import prepare

from jittask_prefect.errors import PrefectApiError
from jittask_prefect.server import embedded as module
from jittask_prefect.server import processes, service
from jittask_prefect.server.commands import environment, prefect_version
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.processes import Identity
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
    here = Embedded(warm)
    try:
        server, mine = here.ensure()
        assert mine and server.port != prefect_server.port
    finally:
        here.stop()
    _assert_nothing_left(server, warm)


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


# --- state files


@pytest.mark.parametrize(
    "change",
    [
        {"pid": 2**22 + 1},
        {"pid": os.getpid(), "started": 1.0},
        {"pid": "x"},
        {"url": ...},
        None,
    ],
    ids=["dead", "reused pid", "wrong type", "key missing", "no JSON"],
)
def test_a_stale_state_file_is_ignored_and_removed(
    tmp_path: Path, change: dict[str, Any] | None
) -> None:
    state = asdict(
        ServiceInfo(
            os.getpid(),
            Identity.of(os.getpid()).started,
            "http://127.0.0.1:1/api",
            "",
            prefect_version(),
        )
    )
    state |= (change or {}) | {"owner": [1, 1.0]}
    text = (
        json.dumps({key: value for key, value in state.items() if value is not ...})
        if change
        else "{"
    )
    (tmp_path / "server.json").write_text(text)
    assert Embedded(tmp_path).find() is None
    assert not (tmp_path / "server.json").exists()


def test_a_server_of_another_prefect_version_is_not_used_and_not_killed_under_another_up(
    tmp_path: Path,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True
    ) as other:
        started = Identity.of(other.pid).started
        info = ServiceInfo(other.pid, started, "http://127.0.0.1:1/api", "", "3.0.0")
        state = asdict(info) | {"owner": [other.pid, started]}
        (tmp_path / "server.json").write_text(json.dumps(state))
        assert Embedded(tmp_path).find() is None
        with pytest.raises(
            PrefectApiError, match=r"Prefect 3\.0\.0.*stop that one first"
        ):
            Embedded(tmp_path).ensure()
        assert other.poll() is None
        other.kill()


def test_a_process_is_told_from_another_of_its_pid() -> None:
    me = Identity.of(os.getpid())
    assert me.alive and not Identity(me.pid, me.started - 60).alive
    assert not Identity.of(2**22 + 1).alive
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        _until(lambda: processes.living(ended.pid) is None)


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


def test_a_second_ctrl_c_kills_at_once_and_what_ignores_sigterm_is_killed(
    tmp_path: Path,
) -> None:
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('deaf', 'w'); time.sleep(300)"
    here = Embedded(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            module, "worker_command", lambda *_, **__: [sys.executable, "-c", script]
        )
        for grace, interrupted in ((10.0, True), (0.3, False)):
            patch.setattr(processes, "GRACE", grace)
            here.start_worker("http://127.0.0.1:1/api", "pool", cwd=tmp_path)
            _until((tmp_path / "deaf").exists, here)
            begun = time.monotonic()
            with contextlib.ExitStack() as stack:
                if interrupted:
                    stack.callback(
                        signal.signal,
                        signal.SIGALRM,
                        signal.signal(signal.SIGALRM, _interrupt),
                    )
                    signal.setitimer(signal.ITIMER_REAL, 0.3)
                here.stop()
            assert 0.25 < time.monotonic() - begun < 2
            assert not _marked(tmp_path)
            (tmp_path / "deaf").unlink()


def test_children_of_a_worker_that_was_killed_end_with_the_next_stop(
    tmp_path: Path,
) -> None:
    here = Embedded(tmp_path)
    sleep = [sys.executable, "-c", "import time; time.sleep(300)"]
    script = f"import subprocess; subprocess.Popen({sleep}, start_new_session=True)"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            module, "worker_command", lambda *_, **__: [sys.executable, "-c", script]
        )
        process = here.start_worker("http://127.0.0.1:1/api", "pool", cwd=tmp_path)
    process.wait()
    assert here.worker_running() is None
    assert len(_marked(tmp_path)) == 1
    with pytest.raises(PrefectApiError, match=r"worker \(pid \d+\) has ended"):
        here.check()
    here.stop()
    assert not _marked(tmp_path)


def test_a_worker_for_another_server_is_replaced_where_its_up_is_gone_and_refused_where_it_lives(
    tmp_path: Path,
) -> None:
    with pytest.MonkeyPatch.context() as patch, Embedded(tmp_path) as here:
        patch.setattr(
            module,
            "worker_command",
            lambda *_, **__: [sys.executable, "-c", "import time; time.sleep(300)"],
        )
        old, _ = here.ensure_worker("http://127.0.0.1:1/api", "pool", cwd=tmp_path)
        other = Embedded(tmp_path)
        with pytest.raises(PrefectApiError, match="stop that one first"):
            other.ensure_worker("http://127.0.0.1:2/api", "pool", cwd=tmp_path)
        (tmp_path / "worker.json").write_text(
            json.dumps(asdict(old) | {"owner": [2**22 + 1, 1.0]})
        )
        new, mine = other.ensure_worker("http://127.0.0.1:2/api", "pool", cwd=tmp_path)
        assert mine and new.pid != old.pid
        assert not _session(old.pid)
        other.stop()
        assert not _marked(tmp_path)


# --- the environment


def test_the_environment_keeps_prefect_to_this_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "PREFECT_API_URL",
        "PREFECT_PROFILE",
        "PREFECT_SERVER_EPHEMERAL_ENABLED",
    ):
        monkeypatch.setenv(name, "theirs")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "example.com")
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "DEBUG")
    monkeypatch.setenv("PREFECT_WORKER_QUERY_SECONDS", "7")
    env = environment("http://127.0.0.1:4711/api", tmp_path)
    assert env["PREFECT_API_URL"] == "http://127.0.0.1:4711/api"
    assert env["PREFECT_HOME"] == str(tmp_path / "prefect")
    assert (
        env["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"]
        == env["PREFECT_SERVER_ANALYTICS_ENABLED"]
        == "false"
    )
    assert not {"PREFECT_PROFILE", "PREFECT_SERVER_EPHEMERAL_ENABLED"} & set(env)
    assert env["no_proxy"] == env["NO_PROXY"] == "example.com,127.0.0.1,localhost"
    assert (env["PREFECT_LOGGING_LEVEL"], env["PREFECT_WORKER_QUERY_SECONDS"]) == (
        "DEBUG",
        "7",
    )
    assert "PREFECT_API_URL" not in environment(None, tmp_path)


def test_importing_it_does_not_import_prefect() -> None:
    code = (
        "import sys, jittask_prefect.server.embedded; print('prefect' in sys.modules)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True
        ).stdout
        == "False\n"
    )


# --- helpers


@pytest.fixture
def warm(tmp_path: Path, prefect_database: Path) -> Iterator[Path]:
    """A home whose database is migrated already: 3 s to start instead of 7."""
    prepare(tmp_path, prefect_database)
    yield tmp_path
    assert not _marked(tmp_path)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


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
        client.create_work_pool(WorkPoolCreate(name="embedded", type="process"))
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
