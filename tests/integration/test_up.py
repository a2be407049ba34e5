"""`jittask up`, as a stranger runs it: in a copy of the demo app, with nothing there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from doc_pages import blocks
from patience import AT_LEAST, PATIENCE
from place import SCRIPTS, until
from prefect_database import prepare

from jittask_prefect.server.processes import Family
from jittask_prefect.server.service import mark_of

FLOWS = Path(__file__).parents[2] / "flows"
SECONDS = 200 * PATIENCE


@dataclass
class Demo:
    folder: Path
    first: subprocess.CompletedProcess[str]
    gaps: list[float]
    """Seconds from each line of the first start to the next."""

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

    def timed(self, *arguments: str) -> tuple[int, str, str, list[float]]:
        """Run a command: exit code, both outputs, and the seconds between its lines on standard error."""
        pipe = subprocess.PIPE
        with (
            subprocess.Popen(
                [SCRIPTS / "jittask", *arguments],
                cwd=self.folder,
                env=stranger(),
                stdout=(out := (self.folder / "out.txt").open("w+")),
                stderr=pipe,
                text=True,
            ) as process,
            out,
            ended_with(process),
        ):
            assert process.stderr
            times, lines = [time.monotonic()], []
            for line in process.stderr:
                times.append(time.monotonic())
                lines.append(line)
        said = (self.folder / "out.txt").read_text()
        gaps = [after - before for before, after in pairwise(times)]
        return process.returncode, said, "".join(lines), gaps

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
    made = Demo(folder, subprocess.CompletedProcess([], 0), [])
    code, out, err, made.gaps = made.timed("up", "--check")
    made.first = subprocess.CompletedProcess([], code, out, err)
    yield made
    for pid in made.left():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def completed(text: str, of_rows: bool = False) -> set[str]:
    """The full names of the tasks that have completed, of rows or of schedules."""
    return {
        r["fullName"]
        for r in json.loads(text)
        if r["status"] == "completed" and (r["row"] is not None) == of_rows
    }


def book(folder: Path, minutes: float) -> None:
    """An appointment that begins in some minutes, in raw SQL: the next sync finds the row."""
    begins = datetime.now(ZoneInfo("Asia/Shanghai")) + timedelta(minutes=minutes)
    values = (
        "Ada",
        "+49 30 0",
        "first visit",
        f"{begins:%Y-%m-%d %H:%M:%S.%f}",
        "booked",
    )
    with closing(sqlite3.connect(folder / "shop.db")) as connection, connection:
        connection.execute(
            "INSERT INTO appointment (customer, phone, subject, startsAt, status) "
            "VALUES (?, ?, ?, ?, ?)",
            values,
        )


def test_up_check_runs_a_task_of_each_kind_and_leaves_nothing(demo: Demo) -> None:
    assert demo.first.returncode == 0, demo.first.stderr
    assert "tasks.HourlyDataSync" in completed(demo.first.stdout)
    assert completed(demo.first.stdout, of_rows=True)
    assert demo.left() == []
    assert sorted(p.name for p in (demo.folder / ".jittask").glob("*.json")) == []


def test_a_first_start_says_what_it_does_every_five_seconds(demo: Demo) -> None:
    lines = demo.first.stderr.splitlines()
    assert max(demo.gaps) < 5 * PATIENCE / AT_LEAST, [
        f"{gap:.1f} s before {line}" for gap, line in zip(demo.gaps, lines, strict=True)
    ]


def test_the_check_names_the_tasks_of_the_app_that_it_waits_for(demo: Demo) -> None:
    said = demo.first.stderr
    assert (
        "waiting for Hourly data sync (tasks.HourlyDataSync), which runs once now"
        in said
    )
    [row] = re.findall(r"waiting for .* \((tasks\.\w+)\), row \d+, due at", said)
    assert row in completed(demo.first.stdout, of_rows=True)
    assert "completed: a scheduled task and a row's task" in said


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

        book(demo.folder, minutes=15)  # the reminder is due now
        second = demo.jittask("up", "--check")
        assert second.returncode == 0, second.stderr
        assert "tasks.HourlyDataSync" in completed(second.stdout)
        assert completed(second.stdout, of_rows=True)
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

        (demo.folder / "tasks/HourlyDataSync/inner.py").write_text(
            "def customFunc():\n    raise RuntimeError('the partner is away')\n"
        )
        broken = demo.jittask("up", "--check")
        assert (
            broken.returncode == 1
            and "RuntimeError: the partner is away" in broken.stderr
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
    assert "the app has none: `jittask new`" in " ".join(done.stderr.split())
    assert not (tmp_path / ".jittask" / "server.json").exists()


def test_the_reminder_of_the_quick_start_is_sent(
    tmp_path: Path, prefect_database: Path
) -> None:
    """The page's own commands and rows, beside a `jittask up` that runs."""
    page = Path(__file__).parents[2] / "docs/index.md"
    rows = next(block for block in blocks(page) if block.language == "python").text
    folder = tmp_path / "shop"
    command = [SCRIPTS / "jittask", "init", "shop"]
    subprocess.run(command, cwd=tmp_path, env=stranger(), check=True)
    prepare(folder / ".jittask", prefect_database)
    log = tmp_path / "up.log"
    with (
        log.open("w") as out,
        subprocess.Popen(
            [SCRIPTS / "jittask", "up"],
            cwd=folder,
            env=stranger(),
            stdout=out,
            stderr=out,
            start_new_session=True,
        ) as up,
        ended_with(up),
    ):
        until(lambda: " is up: " in log.read_text() or up.poll() is not None, 90)
        saved = [sys.executable, "-c", rows]
        subprocess.run(saved, cwd=folder, env=stranger(), check=True)
        # No sync is waited for, which would come within a minute.
        found = until(
            lambda: reminders(folder)["2"][0] == "completed" and reminders(folder), 30
        )
        assert found == {"1": ("pending", None), "2": ("completed", "sent to Bob")}
        up.send_signal(signal.SIGINT)
        assert up.wait(30) == 0, log.read_text()


def reminders(folder: Path) -> dict[str, tuple[str, Any]]:
    """Status and result of each row's reminder."""
    query = "SELECT row_key, status, result FROM jittask_ledger WHERE template = 'tasks.ContractReminder'"
    with closing(sqlite3.connect(folder / "app.db")) as connection:
        found = connection.execute(query).fetchall()
    return {
        row: (status, result and json.loads(result)) for row, status, result in found
    }
