"""`jittask up`, as a stranger runs it: in a copy of the demo app, with nothing there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE
from place import SCRIPTS, until

from jittask_prefect.server.processes import Family
from jittask_prefect.server.service import mark_of

FLOWS = Path(__file__).parents[2] / "flows"
SECONDS = 200 * PATIENCE


@dataclass
class Demo:
    folder: Path
    seconds: float
    first: subprocess.CompletedProcess[str]

    def jittask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [SCRIPTS / "jittask", *arguments]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=stranger(),
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    def left(self) -> list[int]:
        """What lives of this app: by session, parent and environment."""
        home = self.folder / ".jittask"
        return [
            p.pid
            for name in ("server", "worker")
            for p in Family(None, mark_of(name), str(home)).members()
        ]

    def server(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            (self.folder / ".jittask" / "server.json").read_text()
        )
        return found


@contextlib.contextmanager
def ended_with(process: subprocess.Popen[Any]) -> Iterator[None]:
    """A test that fails ends its process, or nobody would."""
    try:
        yield
    except BaseException:
        process.send_signal(signal.SIGINT)
        raise


def stranger() -> dict[str, str]:
    """An environment that knows no server, nor any other setting of Prefect."""
    return {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("PREFECT_", "JITTASK_"))
    }


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("up") / "flows"
    shutil.copytree(
        FLOWS,
        folder,
        ignore=shutil.ignore_patterns(
            ".jittask", "*.db*", "__pycache__", "prefect.yaml"
        ),
    )
    made = Demo(folder, 0, subprocess.CompletedProcess([], 0))
    began = time.monotonic()
    made.first = made.jittask("up", "--check")
    made.seconds = time.monotonic() - began
    yield made
    for pid in made.left():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def completed(text: str) -> set[str]:
    return {r["fullName"] for r in json.loads(text) if r["status"] == "completed"}


def test_up_check_runs_a_task_of_each_kind_and_leaves_nothing(demo: Demo) -> None:
    assert demo.first.returncode == 0, demo.first.stderr
    print(demo.first.stderr)
    assert {"tasks.HourlyDataSync", "tasks.AppointmentReminder"} <= completed(
        demo.first.stdout
    )
    assert demo.left() == []
    assert sorted(p.name for p in (demo.folder / ".jittask").glob("*.json")) == []


def test_a_second_up_uses_the_first_ones_server_and_ctrl_c_leaves_nothing(
    demo: Demo,
) -> None:
    log = (demo.folder / "up.log").open("w+")
    command = [SCRIPTS / "jittask", "up"]
    with (
        log,
        subprocess.Popen(
            command,
            cwd=demo.folder,
            env=stranger(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as up,
        ended_with(up),
    ):
        until(
            lambda: (
                " is up: " in (demo.folder / "up.log").read_text()
                or up.poll() is not None
            ),
            90,
        )
        assert up.poll() is None, (demo.folder / "up.log").read_text()
        server = demo.server()

        second = demo.jittask("up", "--check")
        assert second.returncode == 0, second.stderr
        assert {"tasks.HourlyDataSync", "tasks.AppointmentReminder"} <= completed(
            second.stdout
        )
        assert (
            "Prefect server found" in second.stderr and "worker found" in second.stderr
        )
        assert demo.server() == server, "the first one's, and it still answers for it"
        assert up.poll() is None and server["pid"] in demo.left()
        [url, *_] = [
            r["url"] for r in json.loads(second.stdout) if r["status"] == "completed"
        ]
        base = server["url"].removesuffix("/api")
        assert url.startswith(f"{base}/v2/runs/flow-run/"), "the page of the UI V2"

        (demo.folder / "tasks/AppointmentReminder/inner.py").write_text(
            "def customFunc(row):\n    raise RuntimeError('the SMS gateway is away')\n"
        )
        broken = demo.jittask("up", "--check")
        assert (
            broken.returncode == 1
            and "RuntimeError: the SMS gateway is away" in broken.stderr
        ), broken.stderr

        up.send_signal(signal.SIGINT)
        assert up.wait(30) == 0, (demo.folder / "up.log").read_text()
    assert demo.left() == []


def test_where_no_task_works_up_says_so(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "app.json").write_text(
        '{"name": "empty", "timezone": "UTC", "database": "sqlite:///x.db"}'
    )
    done = subprocess.run(
        [SCRIPTS / "jittask", "up", "--check"],
        cwd=tmp_path,
        env=stranger(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 1 and "no task works" in done.stderr
    assert not (tmp_path / ".jittask" / "server.json").exists()
