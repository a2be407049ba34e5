"""The cluster of `docs/cluster.md` on this machine, with databases and a Redis of its own, so that each part may be harmed."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
from cluster import database_settings, settings

from jittask_prefect.server.commands import environment, prefect_command
from jittask_prefect.server.embedded import free_port

from .description import System, does
from .disk import mounted
from .local_faults import local_faults
from .postgres import Postgres

HERE = Path(__file__).parent
START_SECONDS = 600.0
SYNC_SECONDS = 5.0
RELAYS = {
    "api1-db": "prefect-db",
    "api1-redis": "redis",
    "worker1-db": "app-db",
    "worker1-api": "balancer",
    "sync-db": "app-db",
    "sync-api": "balancer",
}
"""The links that can be made silent: relays, and the part that each leads to."""


class LocalCluster:
    """Two API servers, services, Redis, two PostgreSQL servers, a balancer, two workers and a sync.

    Args:
        home: A folder of its own, in which other users may look.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._act = f"HOME_OF_CLUSTER={home} sh {HERE / 'act.sh'}"
        names = ("prefect-db", "app-db", "redis", "balancer", "api1", "api2")
        more = ("metrics1", "metrics2", *RELAYS)
        self.ports = {name: free_port() for name in (*names, *more)}
        for_prefect = [one.removeprefix("SET ") for one in database_settings()]
        self._postgres = {
            name: Postgres(
                home, name, self.ports[name], small_disk=disk, settings=lines
            )
            for name, disk, lines in (
                ("prefect-db", False, for_prefect),
                ("app-db", True, ()),
            )
        }
        self.api = f"http://127.0.0.1:{self.ports['balancer']}/api"
        self.database = self._database("app-db")
        self.clock = self._compiled_clock()
        self.disk = mounted(home / "worker1-tmp", "8m")

    def start_servers(self) -> None:
        """Start all parts but those that need the app."""
        for postgres in self._postgres.values():
            postgres.make()
        redis = f"redis-server --port {self.ports['redis']} --save '' --appendonly no"
        self._write("redis.sh", f"exec {redis}")
        self._balancers()
        for name in ("api1", "api2", "services"):
            self._server(name)
        self._start("prefect-db", "app-db", "redis", "balancer", *RELAYS)
        command = prefect_command("server", "database", "upgrade", "-y")
        subprocess.run(
            command, env=self._server_env("services"), check=True, capture_output=True
        )
        # Servers that start at a time on an empty database both enter Prefect's block types.
        for name in ("api1", "api2"):
            self._start(name)
            self._await(name)
        self._start("services")

    def start_workers(self, app: Path) -> None:
        """Start the workers and the sync of an app."""
        jittask = Path(sys.executable).parent / "jittask"
        for number in (1, 2):
            name = f"worker{number}"
            port = self.ports[f"metrics{number}"]
            env = self._app_env(name, app)
            if number == 1 and self.disk:
                env["TMPDIR"] = str(self.disk)
            command = f"{jittask} worker --limit 4 --metrics {port}"
            self._program(name, command, env)
            ready = f"curl -fsS -m 2 http://127.0.0.1:{port}/metrics"
            self._write(f"{name}.ready", ready)
        command = f"{sys.executable} {HERE / 'sync_loop.py'} {app} {SYNC_SECONDS}"
        self._program("sync", command, self._app_env("sync", app))
        self._start("worker1", "worker2", "sync")

    def describe(self) -> System:
        """The cluster as a user describes one."""
        disk = self.disk, self._postgres["app-db"].disk
        faults = local_faults(self._act, self.home, disk, clocks=bool(self.clock))
        return System(self.api, self.database, tuple(faults), SYNC_SECONDS)

    def close(self) -> None:
        """Kill all processes, and remove what was mounted; nothing interrupts that."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        found = set[psutil.Process]()
        for file in self.home.glob("*.pid"):
            with suppress(psutil.Error, ValueError):
                process = psutil.Process(int(file.read_text()))
                found |= {process, *process.children(recursive=True)}
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        for disk in (self.disk, *(p.disk for p in self._postgres.values())):
            if disk:
                does(f"umount -l {disk}")

    # Parts

    def _balancers(self) -> None:
        relay = f"exec {sys.executable} {HERE / 'relay.py'}"
        servers = " ".join(f"127.0.0.1:{self.ports[name]}" for name in ("api1", "api2"))
        self._write("balancer.sh", f"{relay} {self.ports['balancer']} {servers}")
        for name, to in RELAYS.items():
            target = f"127.0.0.1:{self.ports[to]}"
            self._write(f"{name}.sh", f"{relay} {self.ports[name]} {target}")

    def _server(self, name: str) -> None:
        command = ["server", "services", "start"]
        if port := self.ports.get(name):
            about = ("--no-services", "--host", "127.0.0.1", "--port", str(port))
            command = ["server", "start", *about]
            ready = f"curl -fsS -m 2 http://127.0.0.1:{port}/api/health"
            self._write(f"{name}.ready", ready)
        env = self._server_env(name)
        self._program(name, shlex.join(prefect_command(*command)), env)

    def _server_env(self, name: str) -> dict[str, str]:
        first = name == "api1"
        database = self._database("api1-db" if first else "prefect-db")
        redis = f"redis://127.0.0.1:{self.ports['api1-redis' if first else 'redis']}"
        here = {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database.replace(
                "+psycopg", "+asyncpg"
            ),
            "PREFECT_REDIS_MESSAGING_URL": f"{redis}/0",
            "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL": f"{redis}/0",
            "PREFECT_SERVER_DOCKET_URL": f"{redis}/1",
            "PREFECT_SERVER_API_PORT": str(self.ports.get(name, 4200)),
        }
        return environment(None, self.home / name) | settings() | here

    def _app_env(self, name: str, app: Path) -> dict[str, str]:
        relayed = f"{name}-api" in RELAYS
        api = self.ports[f"{name}-api" if relayed else "balancer"]
        url = self._database(f"{name}-db" if relayed else "app-db")
        return environment(f"http://127.0.0.1:{api}/api", self.home / name) | {
            "PREFECT_API_AUTH_STRING": settings()["PREFECT_SERVER_API_AUTH_STRING"],
            "JITTASK_APP": str(app),
            "JITTASK_DATABASE_URL": url,
        }

    def _database(self, part: str) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.ports[part]}/postgres"

    # Files and processes

    def _program(self, name: str, command: str, env: dict[str, str]) -> None:
        """Write how a part starts, with a clock that can be stepped."""
        if self.clock:
            (self.home / f"{name}.clock").write_text("0")
            env = env | {
                "LD_PRELOAD": str(self.clock),
                "CLOCK_STEP_FILE": str(self.home / f"{name}.clock"),
            }
        (self.home / name / "prefect").mkdir(parents=True, exist_ok=True)
        changed = {
            key: value
            for key, value in env.items()
            if key.startswith("PREFECT_") or os.environ.get(key) != value
        }
        given = " ".join(f"{k}={shlex.quote(v)}" for k, v in changed.items())
        self._write(f"{name}.sh", f"exec env -u PREFECT_API_URL {given} {command}")

    def _write(self, name: str, text: str) -> None:
        (self.home / name).write_text(text + "\n")

    def _start(self, *names: str) -> None:
        for name in names:
            if not does(f"{self._act} start {name}"):
                raise SystemExit(f"{name} does not start: {self._log_end(name)}")

    def _await(self, name: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not does(f"sh {self.home / name}.ready"):
            if time.monotonic() > deadline:
                raise SystemExit(f"{name} does not answer: {self._log_end(name)}")
            time.sleep(0.3)

    def _log_end(self, name: str) -> str:
        file = self.home / f"{name}.log"
        return file.read_text()[-2000:] if file.exists() else ""

    def _compiled_clock(self) -> Path | None:
        """The library that steps clocks; None where the machine has no compiler."""
        made = self.home / "clock_step.so"
        command = f"cc -shared -fPIC -O1 -o {made} {HERE / 'clock_step.c'}"
        return made if does(command) else None
