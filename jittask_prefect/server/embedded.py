"""The Prefect server and worker that `jittask up` runs for one app: found, started, handed on, ended.

Everything of one app lies in one folder, its *home* (`<app>/.jittask`):

    server.json, worker.json   what runs: pid and start time, address, Prefect version, and the `up` that owns it
    server.lock                held while something is looked for and started, so that two `up`s make one server
    server.log, worker.log     output, appended; `.1` is the one before, once it grew beyond 10 MB
    prefect/                   PREFECT_HOME: the SQLite database and Prefect's own files

Both end with their owner on Ctrl-C, SIGTERM and SIGHUP. Where it was killed outright they live on, and the next `up`
takes them over. POSIX only: sessions, `flock`, signals. Importing this imports nothing of Prefect.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from jittask_prefect.errors import JittaskError, PrefectApiError
from jittask_prefect.server.processes import (
    HOST,
    Family,
    Owner,
    Process,
    ServerInfo,
    WorkerInfo,
    alive,
    forget_info,
    free_port,
    kill,
    open_log,
    prefect_command,
    prefect_version,
    read_info,
    start_of,
    worker_command,
    write_info,
)

GRACE = 10.0  # seconds between SIGTERM and SIGKILL
POLL = 0.05  # seconds between two looks at something that cannot be awaited
ANSWER = 5.0  # seconds that one request may take: a busy server computes schedules in its event loop
PORT_ATTEMPTS = 3
LOG_TAIL = 20

# In the environment of what we start, and so of all that it starts: tells our processes where their parents are gone.
SERVER_MARK = "JITTASK_SERVER_OF"
WORKER_MARK = "JITTASK_WORKER_OF"


def environment(url: str | None, home: Path) -> dict[str, str]:
    """The environment that all our processes get.

    Args:
        url: The API's address; None for the server itself, which must not have one.
        home: The app's `.jittask` folder.

    Returns:
        `os.environ` with Prefect kept to this home: no hidden server, no user profile, no telemetry, no proxy between
        us and this machine. Logging settings stay as they are.
    """
    env = dict(os.environ)
    # The profile and the newer spelling of "ephemeral mode" would win over what is set below.
    for name in (
        "PREFECT_API_URL",
        "PREFECT_PROFILE",
        "PREFECT_PROFILES_PATH",
        "PREFECT_SERVER_EPHEMERAL_ENABLED",
    ):
        env.pop(name, None)
    for name in (SERVER_MARK, WORKER_MARK):  # called in a flow run
        env.pop(name, None)
    if url is not None:
        env["PREFECT_API_URL"] = url
    env["PREFECT_HOME"] = str(home.resolve() / "prefect")
    env["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "false"
    env["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    env["DO_NOT_TRACK"] = "1"
    env.setdefault("PREFECT_WORKER_QUERY_SECONDS", "1")
    env.setdefault("PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT", "false")
    env["PYTHONUNBUFFERED"] = "1"
    direct = env.get("no_proxy") or env.get("NO_PROXY") or ""
    env["no_proxy"] = env["NO_PROXY"] = ",".join(
        filter(None, (direct, HOST, "localhost"))
    )
    return env


class Embedded:
    """The server and the worker of one home.

    As a context manager it stops at the end what it answers for, on SIGTERM and SIGHUP too.
    """

    def __init__(self, home: Path) -> None:
        """Nothing is started or written yet.

        Args:
            home: The app's `.jittask` folder; made when something is started.
        """
        self.home = home.resolve()
        self.server_log = self.home / "server.log"
        self.worker_log = self.home / "worker.log"
        self._server_file = self.home / "server.json"
        self._worker_file = self.home / "worker.json"
        self._server: ServerInfo | None = None
        self._worker: WorkerInfo | None = None
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._log_start: dict[Path, int] = {}
        self._handlers: dict[signal.Signals, Any] = {}

    def find(self) -> ServerInfo | None:
        """The server of this home that runs, answers, and is of the Prefect version installed; otherwise None.

        A state file whose process is gone is removed.
        """
        info, _ = read_info(self._server_file, ServerInfo)
        return (
            info
            if info and info.version == prefect_version() and _answers(info)
            else None
        )

    def ensure(self, timeout: float = 180) -> tuple[ServerInfo, bool]:
        """Find the server of this home or start it.

        Args:
            timeout: Seconds to wait for another process that starts it, and again for our own start.

        Returns:
            The server, and whether it was started here.

        Raises:
            PrefectApiError: It does not start; with the end of its log.
        """
        with self._locked(timeout):
            info, owner = read_info(self._server_file, ServerInfo)
            if info:
                if info.version == prefect_version() and _await_answer(
                    info, time.monotonic() + timeout
                ):
                    if not alive(*owner):
                        write_info(self._server_file, info)
                        self._server = info
                    return info, False
                self._refuse_foreign(
                    info,
                    owner,
                    f"server (pid {info.pid}, Prefect {info.version}, {info.url})",
                )
            # Never two servers on one database: one that does not answer, is of another version, or was never written
            # down ends first.
            if left := self._end(SERVER_MARK, info):
                raise PrefectApiError(
                    f"The Prefect server of {self.home} does not answer and cannot be ended: pid {left}."
                )
            self._server = self._start_server(timeout)
            return self._server, True

    def ensure_worker(
        self,
        url: str,
        pool: str,
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        worker_type: str = "process",
        limit: int | None = None,
    ) -> tuple[WorkerInfo, bool]:
        """Find the worker of this home for `url` and `pool`, or start it; arguments as in `start_worker`.

        Returns:
            The worker, and whether it was started here.

        Raises:
            PrefectApiError: Another `jittask up` of this home runs a worker for another server, pool or version.
        """
        with self._locked(30):
            info, owner = read_info(self._worker_file, WorkerInfo)
            if info:
                if (info.url, info.pool, info.version) == (
                    url,
                    pool,
                    prefect_version(),
                ):
                    if not alive(*owner):
                        write_info(self._worker_file, info)
                        self._worker = info
                    return info, False
                self._refuse_foreign(
                    info,
                    owner,
                    f"worker (pid {info.pid}, pool {info.pool!r} of {info.url})",
                )
                self._end(WORKER_MARK, info)
            return self._start_worker(url, pool, cwd, env, worker_type, limit)[1], True

    def start_worker(
        self,
        url: str,
        pool: str,
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        worker_type: str = "process",
        limit: int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a worker without looking for one; `ensure_worker` looks first.

        Args:
            url: The API's address.
            pool: The work pool's name; the pool exists.
            cwd: Where it runs.
            env: What is added to `environment(url, home)`.
            worker_type: The worker's type, which is the pool's.
            limit: How many runs at a time at most.
        """
        return self._start_worker(url, pool, cwd, env, worker_type, limit)[0]

    def _start_worker(
        self,
        url: str,
        pool: str,
        cwd: Path,
        env: Mapping[str, str] | None,
        worker_type: str,
        limit: int | None = None,
    ) -> tuple[subprocess.Popen[bytes], WorkerInfo]:
        place = zlib.crc32(os.fsencode(self.home))
        name = f"jittask-{re.sub(r'[^A-Za-z0-9.-]', '-', socket.gethostname())}-{place:08x}"
        command = worker_command(pool, worker_type, name=name, limit=limit)
        marked = (
            environment(url, self.home)
            | dict(env or {})
            | {WORKER_MARK: str(self.home)}
        )
        process = self._spawn(command, self.worker_log, cwd=cwd, env=marked)
        info = WorkerInfo(
            process.pid,
            start_of(process.pid),
            url,
            pool,
            str(self.home),
            prefect_version(),
        )
        self._worker = info
        write_info(self._worker_file, info)
        return process, info

    def worker_running(
        self, url: str | None = None, pool: str | None = None
    ) -> WorkerInfo | None:
        """The worker of this home that runs (for that server and that pool, where given); otherwise None.

        A state file whose process is gone is removed.
        """
        info, _ = read_info(self._worker_file, WorkerInfo)
        fits = (
            info
            and info.version == prefect_version()
            and url in (None, info.url)
            and pool in (None, info.pool)
        )
        return info if fits else None

    def owned(self) -> list[str]:
        """What this object answers for, and `stop` ends: `worker`, `server`."""
        return [
            what
            for what, info in (("worker", self._worker), ("server", self._server))
            if info
        ]

    def check(self) -> None:
        """Raise where a process that this object answers for has ended by itself.

        Raises:
            PrefectApiError: With the end of its log.
        """
        for what, info, log in (
            ("server", self._server, self.server_log),
            ("worker", self._worker, self.worker_log),
        ):
            if info and not alive(info.pid, info.started):
                raise PrefectApiError(
                    f"The Prefect {what} (pid {info.pid}) has ended. {self._ending(log)}"
                )

    def stop(self) -> None:
        """End what this object started or took over, worker first, with all that came from it.

        Flow runs first, so that they end as Crashed; they have sessions of their own and are found by parent, session
        and environment. Each gets SIGTERM, 10 seconds, SIGKILL; interrupted meanwhile (a second Ctrl-C), SIGKILL at
        once. What was only found stays.

        Raises:
            JittaskError: A process survived SIGKILL.
        """
        survivors: list[int] = []
        if worker := self._worker:
            survivors += self._end(WORKER_MARK, worker)
            forget_info(self._worker_file, worker)
            self._worker = None
        if server := self._server:
            survivors += self._end(SERVER_MARK, server)
            forget_info(self._server_file, server)
            self._server = None
        if survivors:
            raise JittaskError(
                f"These processes survived SIGKILL: {', '.join(map(str, survivors))}."
            )

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(name) is not signal.SIG_IGN:  # nohup
                    self._handlers[name] = signal.signal(name, _exit)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            while self._handlers:
                signal.signal(*self._handlers.popitem())

    def _start_server(self, timeout: float) -> ServerInfo:
        base = environment(None, self.home) | {
            SERVER_MARK: str(self.home),
            "PREFECT_SERVER_API_HOST": HOST,
        }
        base.pop("PREFECT_SERVER_API_BASE_PATH", None)
        command = prefect_command("server", "start")
        for attempt in range(1, PORT_ATTEMPTS + 1):
            port = free_port()
            own = {
                "PREFECT_SERVER_API_PORT": str(port),
                "PREFECT_SERVER_UI_API_URL": f"http://{HOST}:{port}/api",
            }
            own["PREFECT_UI_URL"] = f"http://{HOST}:{port}"  # of the links in notices
            begun = time.monotonic()
            # In its home: a prefect.toml or .env of the user's folder is not meant for this server.
            process = self._spawn(
                command, self.server_log, cwd=self.home, env=base | own
            )
            info = ServerInfo(
                process.pid,
                start_of(process.pid),
                port,
                str(self.home),
                prefect_version(),
            )
            try:
                write_info(
                    self._server_file, info
                )  # before it answers: killed meanwhile, the next `up` must find it
                if _await_answer(info, begun + timeout, process):
                    return info
                code = process.poll()
            except BaseException:
                self._give_up(info)
                raise
            self._give_up(info)
            ending = self._ending(self.server_log)
            if (
                code is not None
                and "already in use" in ending
                and attempt < PORT_ATTEMPTS
            ):
                continue  # taken since it was free
            how = (
                f"did not answer within {timeout:g} s"
                if code is None
                else f"ended with exit code {code}"
            )
            raise PrefectApiError(
                f"The Prefect server did not start: `{' '.join(command)}` on {info.url} {how}. {ending}"
            )
        raise AssertionError("unreachable")

    def _give_up(self, info: ServerInfo) -> None:
        self._end(SERVER_MARK, info)
        forget_info(self._server_file, info)

    def _spawn(
        self, command: list[str], log: Path, *, cwd: Path, env: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        self._make_home()
        with open_log(log) as output:
            self._log_start[log] = output.tell()
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children[process.pid] = process
        return process

    def _make_home(self) -> None:
        if not self.home.exists():
            self.home.parent.mkdir(parents=True, exist_ok=True)
            self.home.mkdir(
                mode=0o700, exist_ok=True
            )  # logs and the server's database show what tasks do
            (self.home / ".gitignore").write_text("*\n")
        (self.home / "prefect").mkdir(exist_ok=True)

    def _refuse_foreign(
        self, info: ServerInfo | WorkerInfo, owner: Owner, what: str
    ) -> None:
        if alive(*owner) and info not in (self._server, self._worker):
            raise PrefectApiError(
                f"The {what} of {self.home} does not fit or does not answer, and the `jittask up` with pid {owner[0]} "
                "answers for it: stop that one first."
            )

    @contextlib.contextmanager
    def _locked(self, timeout: float) -> Iterator[None]:
        import fcntl

        self._make_home()
        deadline = time.monotonic() + timeout
        with (self.home / "server.lock").open("a+") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        lock.seek(0)
                        holder = lock.read() or "?"
                        raise PrefectApiError(
                            f"Process {holder} has held {lock.name} for {timeout:g} s."
                        ) from None
                time.sleep(POLL)
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def _end(self, mark: str, root: ServerInfo | WorkerInfo | None) -> list[int]:
        """End this process and all that came from it or carries the mark; returns the pids that survive."""
        family = Family(
            [root.pid] if root and alive(root.pid, root.started) else [],
            f"{mark}={self.home}",
        )
        told: dict[Owner, float] = {}
        living: list[Process] = []
        now = time.monotonic()
        last, end = now + 3 * GRACE, now + 4 * GRACE
        while now < end:
            try:
                if not (living := family.members()):
                    break
                now = time.monotonic()
                # The worker last, while flow runs can still report how they end: else they stay Running for ever.
                others = [one for one in living if root is None or one.pid != root.pid]
                for one in living if now > last else others or living:
                    # SIGTERM once and not by group: to Prefect's worker a second one means SIGKILL.
                    since = told.setdefault((one.pid, one.started), now)
                    if since == now:
                        kill(one.pid, signal.SIGTERM)
                    elif now > min(since + GRACE, last):
                        kill(one.pid, signal.SIGKILL)
                time.sleep(POLL)
            except (KeyboardInterrupt, SystemExit):
                last, end = 0.0, now + GRACE  # asked twice: at once
        for pid in [
            pid for pid, child in self._children.items() if child.poll() is not None
        ]:
            del self._children[pid]
        return [one.pid for one in living]

    def _ending(self, log: Path) -> str:
        """The last lines that were written since we started the process, for a message."""
        try:
            with log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(self._log_start.get(log, 0), size - 64_000))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError as error:
            return f"Its log cannot be read: {error}."
        if not lines:
            return f"Its log, {log}, is empty."
        return f"Its log, {log}, ends:\n" + "\n".join(lines[-LOG_TAIL:])


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


# --- the server's side


def _await_answer(
    info: ServerInfo, deadline: float, child: subprocess.Popen[bytes] | None = None
) -> bool:
    """True once the server answers; False once its process is gone or the deadline (monotonic seconds) has passed."""
    while alive(info.pid, info.started):
        if _answers(info):
            return True
        if time.monotonic() > deadline:
            break
        if child is None:
            time.sleep(POLL)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(POLL)
    return False


def _answers(info: ServerInfo) -> bool:
    """Whether what listens on its port is healthy and of its home: another server may have got the port first."""
    if _get(info.port, "/api/health")[0] != 200:
        return False
    status, body = _get(info.port, "/api/admin/settings")
    if status in (
        401,
        403,
    ):  # PREFECT_SERVER_API_AUTH_STRING is set: it cannot be asked
        return True
    try:
        return (
            status == 200
            and Path(json.loads(body)["home"]) == Path(info.home) / "prefect"
        )
    except (ValueError, KeyError, TypeError):
        return False


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(
        HOST, port, timeout=ANSWER
    )  # not urllib: no proxy of the environment
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()
