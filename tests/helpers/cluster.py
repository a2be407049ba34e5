"""Several API servers as `docs/cluster.md` builds them: PostgreSQL, Redis, services apart, and a balancer before them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.error import URLError

from place import until
from sqlalchemy import Engine, create_engine, make_url

from jittask_prefect.server.commands import environment, prefect_command

SETTINGS = Path(__file__).parents[2] / "deploy" / "cluster" / "prefect.env"
POSTGRES = make_url(
    os.environ.get(
        "JITTASK_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/test"
    )
)
REDIS = os.environ.get("JITTASK_TEST_REDIS", "redis://127.0.0.1:6379")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Cluster:
    """API servers, two where nothing else is said, the services, and a balancer; each may be killed and started again.

    Attributes:
        url: The balancer's.
        database: The URL of an empty database for an app.
    """

    def __init__(
        self, home: Path, env: dict[str, str], database: str, servers: int = 2
    ) -> None:
        self._home, self._env, self.database = home, env, database
        self._ports = {f"api{n}": free_port() for n in range(1, servers + 1)}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._balancer = Balancer(list(self._ports.values()))
        self.url = f"http://127.0.0.1:{self._balancer.port}/api"

    def run(self, *arguments: str) -> None:
        """A command of Prefect, to its end."""
        command = prefect_command(*arguments)
        subprocess.run(command, env=self._env, check=True, capture_output=True)

    def start(self, name: str) -> None:
        """Start `api1`, `api2` or `services`."""
        command = prefect_command("server", "services", "start")
        if port := self._ports.get(name):
            about = ("--no-services", "--host", "127.0.0.1", "--port", str(port))
            command = prefect_command("server", "start", *about)
        env = self._env | {"PREFECT_SERVER_API_PORT": str(port or 4200)}
        with (self._home / f"{name}.log").open("ab") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            self._processes[name] = subprocess.Popen(
                command, env=env, start_new_session=True, **streams
            )

    def kill(self, name: str) -> None:
        """Kill a process, with all that it has started."""
        process = self._processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run, by name."""
        return {name: process.pid for name, process in self._processes.items()}

    def answers(self, name: str) -> bool:
        """Whether an API server answers."""
        url = f"http://127.0.0.1:{self._ports[name]}/api/health"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def close(self) -> None:
        """Kill all processes."""
        for name in list(self._processes):
            self.kill(name)
        self._balancer.close()


class Balancer:
    """Passes connections on to several servers in turn; to the next one where a server does not take it.

    Args:
        ports: The servers' ports on this machine.
    """

    def __init__(self, ports: list[int]) -> None:
        self._ports, self._next = ports, 0
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def close(self) -> None:
        """Take no further connection."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _listen(self) -> None:
        await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._next += 1
        for turn in range(len(self._ports)):
            port = self._ports[(self._next + turn) % len(self._ports)]
            with suppress(OSError):
                other = await asyncio.open_connection("127.0.0.1", port)
                both = (_copy(reader, other[1]), _copy(other[0], writer))
                await asyncio.gather(*both)
                return
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()


def settings() -> dict[str, str]:
    """The settings that the project gives to those who build a cluster."""
    lines = SETTINGS.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and line[0] != "#")


def database_settings() -> list[str]:
    """What the project sets for Prefect's database: `SET name = value`, for `ALTER DATABASE`."""
    compose = (SETTINGS.parent / "compose.yaml").read_text()
    return re.findall(r"ALTER DATABASE prefect (SET .*);", compose)


@contextmanager
def cluster(home: Path, servers: int = 2, redis: str = REDIS) -> Iterator[Cluster]:
    """A cluster with the project's own settings, on this machine's PostgreSQL and Redis."""
    name = f"jittask_cluster_{os.getpid()}"
    admin = create_engine(
        POSTGRES.set(database="postgres"), isolation_level="AUTOCOMMIT"
    )
    given = POSTGRES.set(drivername="postgresql+asyncpg", database=name)
    here = {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": given.render_as_string(False),
        "PREFECT_REDIS_MESSAGING_URL": f"{redis}/8",
        "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL": f"{redis}/8",
        "PREFECT_SERVER_DOCKET_URL": f"{redis}/9",
    }
    env = environment(None, home) | settings() | here
    with ExitStack() as stack:
        stack.callback(admin.dispose)
        for own in (name, f"{name}_app"):
            with admin.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {own}")
            stack.callback(_drop, admin, own)
        with admin.connect() as connection:
            for setting in database_settings():
                connection.exec_driver_sql(f"ALTER DATABASE {name} {setting}")
        of_app = POSTGRES.set(database=f"{name}_app")
        made = Cluster(home, env, of_app.render_as_string(False), servers)
        stack.callback(made.close)
        made.run("server", "database", "upgrade", "-y")
        # Servers that start at a time on an empty database both enter Prefect's block types, and one of them fails.
        for number in range(1, servers + 1):
            api = f"api{number}"
            made.start(api)
            until(partial(made.answers, api), 60, what=f"{api} answers")
        made.start("services")
        yield made


def _drop(admin: Engine, name: str) -> None:
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
