"""The Prefect server and worker that `jittask up` runs for an app: found, started, handed on, ended.

Everything of an app lies in a folder, its *home* (`<app>/.jittask`):

    server.json, worker.json   the running processes: pid, start, address, Prefect version, and the `up` that owns them
    server.lock                held while processes are looked for and started, so that two `up`s make one server
    server.log, worker.log     output, appended; `.1` is the log before, once a log grew beyond 10 MB
    prefect/                   PREFECT_HOME: the SQLite database and Prefect's own files

Server and worker end with their owner on Ctrl-C, SIGTERM and SIGHUP. Where the owner was killed they live on, and the
next `up` takes them over. POSIX only: sessions and signals. Importing this module imports nothing of Prefect.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import httpx
from filelock import FileLock, Timeout

from jittask_prefect.errors import JittaskError, PrefectApiError
from jittask_prefect.prefect_api.job_templates import WARM_POOL
from jittask_prefect.server.commands import (
    HOST,
    environment,
    prefect_command,
    prefect_version,
    worker_command,
)
from jittask_prefect.server.processes import POLL, Identity
from jittask_prefect.server.service import Service, ServiceInfo

# How long a request may take, in seconds: a busy server computes schedules in its event loop.
ANSWER = 5.0
PORT_ATTEMPTS = 3


class Embedded:
    """The server and the worker of a home.

    As a context manager, `stop` is called at the end, on SIGTERM and SIGHUP too. Nothing is started or
    written before a method is called.

    Args:
        home: The app's `.jittask` folder; made when something is started.
    """

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self.server = Service(self.home, "server")
        self.worker = Service(self.home, "worker")
        self._handlers: dict[signal.Signals, Any] = {}

    def find(self) -> ServiceInfo | None:
        """The server that runs, answers, and is of the installed version of Prefect; None where there is none."""
        info, _ = self.server.running()
        fits = info and info.version == prefect_version() and self._answers(info)
        return info if fits else None

    def ensure(self, timeout: float = 180) -> tuple[ServiceInfo, bool]:
        """Find the server of this home, or start a server.

        Args:
            timeout: Seconds to wait for another process that starts the server, and again for our own start.

        Returns:
            The server, and whether the server was started here.

        Raises:
            PrefectApiError: The server does not start; with the end of its log.
        """
        with self._locked(timeout):
            info, owner = self.server.running()
            if info:
                deadline = time.monotonic() + timeout
                if info.version == prefect_version() and self._await(info, deadline):
                    if not owner.alive:
                        self.server.adopt(info)
                    return info, False
                self._refuse_foreign(
                    self.server,
                    owner,
                    f"server (pid {info.pid}, Prefect {info.version}, {info.url})",
                )
            # Never two servers on one database: a server that does not answer, is of another version, or was never
            # written down ends first.
            if left := self.server.end(info):
                raise PrefectApiError(
                    f"The Prefect server of {self.home} does not answer and cannot be ended: pid {left}."
                )
            return self._start_server(timeout), True

    def ensure_worker(
        self,
        url: str,
        pool: str,
        *,
        cwd: Path,
        worker_type: str = "process",
        limit: int | None = None,
        queues: Sequence[str] = (),
    ) -> tuple[ServiceInfo, bool]:
        """Find the worker of this home for `url` and `pool`, or start a worker; arguments as in `start_worker`.

        Returns:
            The worker, and whether the worker was started here.

        Raises:
            PrefectApiError: Another `jittask up` of this home runs a worker for another server, pool or version.
        """
        with self._locked(30):
            info, owner = self.worker.running()
            if info:
                if info == self.worker_running(url, pool):
                    if not owner.alive:
                        self.worker.adopt(info)
                    return info, False
                self._refuse_foreign(
                    self.worker,
                    owner,
                    f"worker (pid {info.pid}, pool {info.pool!r} of {info.url})",
                )
                self.worker.end(info)
            self.start_worker(
                url,
                pool,
                cwd=cwd,
                worker_type=worker_type,
                limit=limit,
                queues=queues,
            )
            assert self.worker.info is not None
            return self.worker.info, True

    def start_worker(
        self,
        url: str,
        pool: str,
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        worker_type: str = "process",
        limit: int | None = None,
        queues: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        """Start a worker without looking for a running worker; `ensure_worker` looks first.

        Args:
            url: The API's address.
            pool: The work pool's name; the pool exists.
            cwd: The working directory.
            env: Variables beside those of `environment(url, home)`.
            worker_type: The worker's type, which is the pool's.
            limit: How many runs at a time at most.
            queues: The work queues that the worker takes; all queues of the pool where empty.
        """
        self._make_home()
        place = zlib.crc32(os.fsencode(self.home))
        host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())
        command = worker_command(
            pool,
            worker_type,
            name=f"jittask-{host}-{place:08x}",
            limit=limit,
            queues=queues,
        )
        variables = {**environment(url, self.home), **(env or {})}
        process = self.worker.start(command, cwd, variables)
        info = _info(process.pid, url, pool)
        self.worker.adopt(replace(info, drains=worker_type == WARM_POOL))
        return process

    def worker_running(
        self, url: str | None = None, pool: str | None = None
    ) -> ServiceInfo | None:
        """The worker that runs, for that server and that pool where given; None where there is none."""
        info, _ = self.worker.running()
        fits = (
            info
            and info.version == prefect_version()
            and url in (None, info.url)
            and pool in (None, info.pool)
        )
        return info if fits else None

    def owned(self) -> list[str]:
        """The services that this object answers for, and that `stop` ends: `worker`, `server`."""
        return [s.name for s in (self.worker, self.server) if s.info]

    def check(self) -> None:
        """Raise where a process that this object answers for has ended by itself.

        Raises:
            PrefectApiError: With the end of its log.
        """
        self.server.check()
        self.worker.check()

    def stop(self) -> None:
        """End the services that this object started or took over, worker first, with all their processes.

        Processes that were only found stay. `Family.end` says in which order and how long.

        Raises:
            JittaskError: A process survived SIGKILL.
        """
        survivors = [
            pid
            for service in (self.worker, self.server)
            if service.info
            for pid in service.end(service.info)
        ]
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

    def _start_server(self, timeout: float) -> ServiceInfo:
        env = environment(None, self.home) | {"PREFECT_SERVER_API_HOST": HOST}
        env.pop("PREFECT_SERVER_API_BASE_PATH", None)
        command = prefect_command("server", "start")
        for attempt in range(1, PORT_ATTEMPTS + 1):
            ui_url = f"http://{HOST}:{(port := self._port(attempt))}"
            env["PREFECT_SERVER_API_PORT"] = str(port)
            env["PREFECT_SERVER_UI_API_URL"] = f"{ui_url}/api"
            env["PREFECT_UI_URL"] = ui_url  # of the links in notices
            deadline = time.monotonic() + timeout
            # In its home: a prefect.toml or .env of the user's folder is not meant for this server.
            process = self.server.start(command, self.home, env)
            info = _info(process.pid, f"{ui_url}/api")
            try:
                # Before the first answer: killed meanwhile, the next `up` must find the server.
                self.server.adopt(info)
                if self._await(info, deadline):
                    self._last_port.write_text(str(port))
                    return info
                code = process.poll()
            except BaseException:
                self.server.end(info)
                raise
            self.server.end(info)
            log_end = self.server.log_end()
            taken = code is not None and "already in use" in log_end
            if not taken or attempt == PORT_ATTEMPTS:
                break
        how = (
            f"did not answer within {timeout:g} s"
            if code is None
            else f"ended with exit code {code}"
        )
        raise PrefectApiError(
            f"The Prefect server did not start: `{' '.join(command)}` on {info.url} {how}. {log_end}"
        )

    @property
    def _last_port(self) -> Path:
        return self.home / "server.port"

    def _port(self, attempt: int) -> int:
        """The port of this home's last server, so that pages in a browser keep their address; another where that port is taken."""
        if attempt == 1:
            with contextlib.suppress(OSError, ValueError, OverflowError):
                return _bound(int(self._last_port.read_text()), again=True)
        return free_port()

    def _make_home(self) -> None:
        if not self.home.exists():
            # Logs and the server's database show what tasks do: not to everybody.
            self.home.parent.mkdir(parents=True, exist_ok=True)
            self.home.mkdir(mode=0o700, exist_ok=True)
            (self.home / ".gitignore").write_text("*\n")
        (self.home / "prefect").mkdir(exist_ok=True)

    def _refuse_foreign(self, service: Service, owner: Identity, what: str) -> None:
        if owner.alive and service.info is None:
            raise PrefectApiError(
                f"The {what} of {self.home} does not fit or does not answer, and the `jittask up` with pid {owner.pid} "
                "answers for it: stop that one first."
            )

    @contextlib.contextmanager
    def _locked(self, timeout: float) -> Iterator[None]:
        self._make_home()
        lock = FileLock(self.home / "server.lock", timeout=timeout, poll_interval=POLL)
        try:
            lock.acquire()
        except Timeout:
            raise PrefectApiError(
                f"Another process has held {lock.lock_file} for {timeout:g} s: is another `jittask up` starting?"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def _await(self, info: ServiceInfo, deadline: float) -> bool:
        """Whether the server answers before its process is gone and before the deadline (monotonic seconds)."""
        while info.identity.alive:
            if self._answers(info):
                return True
            if time.monotonic() > deadline:
                break
            time.sleep(POLL)
        return False

    def _answers(self, info: ServiceInfo) -> bool:
        """Whether the server at its address is healthy and of this home: another server may have got the port first."""
        try:
            # Without the environment's proxies.
            with httpx.Client(timeout=ANSWER, trust_env=False, verify=False) as client:
                if client.get(f"{info.url}/health").status_code != 200:
                    return False
                found = client.get(f"{info.url}/admin/settings")
                # With PREFECT_SERVER_API_AUTH_STRING the server answers this only to whoever has the password.
                if found.status_code in (401, 403):
                    return True
                return Path(found.json()["home"]) == self.home / "prefect"
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return False


def _info(pid: int, url: str, pool: str = "") -> ServiceInfo:
    return ServiceInfo(pid, Identity.of(pid).started, url, pool, prefect_version())


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def free_port() -> int:
    """A port of this machine at which nobody listens at this moment."""
    return _bound(0)


def _bound(port: int, *, again: bool = False) -> int:
    """A port at which nobody listens; `again` as the server binds it, also while old connections time out.

    Raises:
        OSError: Somebody listens there.
    """
    with socket.socket() as probe:
        if again:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        return int(probe.getsockname()[1])
