"""State files, processes and the environment of the embedded server, with processes that stand for Prefect's."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from jittask_prefect.errors import PrefectApiError
from jittask_prefect.server import embedded as module
from jittask_prefect.server import processes, service
from jittask_prefect.server.commands import environment, prefect_version
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.processes import Identity
from jittask_prefect.server.service import ServiceInfo


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
            # On a busy machine, too, the grace of 10 s is not waited for.
            assert 0.25 < time.monotonic() - begun < 6
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
    assert env["PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS"] == "600"
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


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _until(
    condition: Callable[[], bool], here: Embedded | None = None, seconds: float = 60
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if here:
            here.check()
        assert time.monotonic() < deadline, here and here.worker.log.read_text()
        time.sleep(0.05)


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
