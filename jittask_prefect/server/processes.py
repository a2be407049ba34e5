"""What runs on this machine: processes and their families, and the files that say which of them are ours.

Linux reads `/proc`; elsewhere `ps` is asked. Both identify a process by pid and start time, since pids are reused.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, TypeVar

HOST = "127.0.0.1"
LOG_LIMIT = 10_000_000
LINUX = Path("/proc/self/stat").exists()


@dataclass(frozen=True)
class ServerInfo:
    """A running server: `started` is the process's start time as the OS gives it, to tell a reused pid."""

    pid: int
    started: float
    port: int
    home: str
    version: str

    @property
    def url(self) -> str:
        """The address of its API."""
        return f"{self.ui_url}/api"

    @property
    def ui_url(self) -> str:
        """The address of its UI."""
        return f"http://{HOST}:{self.port}"


@dataclass(frozen=True)
class WorkerInfo:
    """A running worker, and the server and work pool that it polls."""

    pid: int
    started: float
    url: str
    pool: str
    home: str
    version: str


Info = TypeVar("Info", ServerInfo, WorkerInfo)
Owner = tuple[int, float]  # pid and start time


# --- processes


@dataclass(frozen=True)
class Process:
    """A row of the process table; `dead`: a zombie."""

    pid: int
    parent: int
    session: int
    started: float  # Linux: seconds since boot; elsewhere: since 1970, whole
    dead: bool


class Family:
    """Processes that came from some roots; it grows as it is looked at: sessions outlive the parents that made them."""

    def __init__(self, roots: Iterable[int], mark: str) -> None:
        self._seen = set(roots)
        self._sessions = set(self._seen)  # each root leads a session
        self._mark = b"\0" + os.fsencode(mark) + b"\0"

    def members(self) -> list[Process]:
        """Those that live now; never this process, nor what it runs in."""
        table = processes()
        ours: set[int] = set()
        one = table.get(os.getpid())
        while one and one.pid not in ours:
            ours.add(one.pid)
            one = table.get(one.parent)
        mine = os.getsid(0)
        found = {
            p.pid
            for p in table.values()
            if p.session in self._sessions or p.pid in self._seen or self._marked(p.pid)
        }
        while more := {
            p.pid for p in table.values() if p.parent in found and p.pid not in found
        }:
            found |= more
        living = [
            table[pid]
            for pid in found
            if pid not in ours and table[pid].session != mine and not table[pid].dead
        ]
        self._seen = {p.pid for p in living}
        self._sessions |= {p.session for p in living}
        return living

    def _marked(self, pid: int) -> bool:
        try:
            return self._mark in b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False


def processes() -> dict[int, Process]:
    """All processes, by pid."""
    if LINUX:
        found = (
            _from_proc(int(entry)) for entry in os.listdir("/proc") if entry.isdigit()
        )
        return {p.pid: p for p in found if p}
    return _from_ps("-ax")


def process_of(pid: int) -> Process | None:
    """The process of a pid."""
    return _from_proc(pid) if LINUX else _from_ps("-p", str(pid)).get(pid)


def _from_proc(pid: int) -> Process | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    state, parent, _, session, *rest = text.rpartition(")")[
        2
    ].split()  # proc(5): the name before it may hold anything
    return Process(
        pid,
        int(parent),
        int(session),
        int(rest[15]) / os.sysconf("SC_CLK_TCK"),
        state in "ZX",
    )


def _from_ps(*which: str) -> dict[int, Process]:
    command = ["ps", *which, "-o", "pid=,ppid=,stat=,lstart="]
    text = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"LC_ALL": "C"},
        check=False,
    ).stdout
    table: dict[int, Process] = {}
    for line in text.splitlines():
        pid, parent, state, started = line.split(None, 3)
        try:
            session = os.getsid(int(pid))
        except OSError:
            continue
        since = time.mktime(time.strptime(started.strip(), "%a %b %d %H:%M:%S %Y"))
        table[int(pid)] = Process(
            int(pid), int(parent), session, since, state.startswith("Z")
        )
    return table


def alive(pid: int, started: float) -> bool:
    """Whether the process of this pid and this start time lives; a zombie does not."""
    process = process_of(pid)
    return process is not None and not process.dead and process.started == started


def start_of(pid: int) -> float:
    """When a process began; 0 where there is none."""
    process = process_of(pid)
    return process.started if process else 0.0


def myself() -> Owner:
    """This process."""
    return os.getpid(), start_of(os.getpid())


def kill(pid: int, number: signal.Signals) -> None:
    """Send a signal; a process that is gone, or not ours, is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


# --- what starts Prefect's own


def prefect_version() -> str:
    """The version that is installed; nothing of Prefect is imported for it."""
    return importlib.metadata.version("prefect")


def free_port() -> int:
    """A port of this machine that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def prefect_command(*arguments: str) -> list[str]:
    """What runs Prefect's command line in this Python."""
    # -P: the folder it runs in is the user's, and a file of his may be called like a module.
    return [sys.executable, "-P", "-m", "prefect", "--no-prompt", *arguments]


def worker_command(
    pool: str, worker_type: str, *, name: str | None = None, limit: int | None = None
) -> list[str]:
    """What starts a worker.

    Args:
        pool: The work pool's name.
        worker_type: The worker's type, which is the pool's.
        name: The worker's name; one that Prefect makes where absent.
        limit: How many runs at a time at most; the type's own default where absent.
    """
    more = [
        *(["--name", name] if name else []),
        *(["--limit", str(limit)] if limit else []),
    ]
    return prefect_command(
        "worker", "start", "--pool", pool, "--type", worker_type, *more
    )


# --- state files and logs


def read_info(file: Path, kind: type[Info]) -> tuple[Info | None, Owner]:
    """What the file says, where its process lives, and the owner; a file that is stale or unreadable is removed."""
    try:
        text = file.read_text()
    except OSError:
        return None, (0, 0.0)
    try:
        state = json.loads(text)
        info = kind(**{f.name: state[f.name] for f in fields(kind)})
        owner = int(state["owner"][0]), float(state["owner"][1])
        if alive(int(info.pid), float(info.started)):
            return info, owner
    except (ValueError, KeyError, TypeError, IndexError):
        pass
    with contextlib.suppress(OSError):
        if file.read_text() == text:
            file.unlink()
    return None, (0, 0.0)


def write_info(file: Path, info: ServerInfo | WorkerInfo) -> None:
    """Say what runs, and that this process answers for it."""
    draft = file.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps(asdict(info) | {"owner": myself()}, indent=2))
    draft.replace(file)


def forget_info(file: Path, info: ServerInfo | WorkerInfo) -> None:
    """Remove the file where it still speaks of this process."""
    with contextlib.suppress(OSError, ValueError):
        if json.loads(file.read_text())["pid"] == info.pid:
            file.unlink()


def open_log(log: Path) -> IO[bytes]:
    """A log to append to; the old one is put aside once it is too long."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
    return log.open("ab")
