"""A process in the background that belongs to an app: its state file, its log, its start and its end."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from jittask_prefect.errors import PrefectApiError
from jittask_prefect.server.processes import Family, Identity

LOG_LIMIT = 10_000_000
LOG_TAIL = 20


@dataclass(frozen=True)
class ServiceInfo:
    """A running server or worker.

    Attributes:
        pid: Its pid.
        started: When the process began, in seconds since 1970.
        url: The API's address: the server's own, or that of the server which the worker asks.
        pool: The work pool of a worker; empty for a server.
        version: The version of Prefect.
        drains: Whether the process ends its own processes, and lets tasks at work go on for a while before.
    """

    pid: int
    started: float
    url: str
    pool: str
    version: str
    drains: bool = False

    @property
    def identity(self) -> Identity:
        """The process."""
        return Identity(self.pid, self.started)

    @property
    def port(self) -> int:
        """The port of the server."""
        return urlsplit(self.url).port or 80

    @property
    def ui_url(self) -> str:
        """The address of the server's UI."""
        return self.url.removesuffix("/api")


def mark_of(name: str) -> str:
    """The variable in the environment of a service, and so of all its descendants; the value is the home."""
    return f"JITTASK_{name.upper()}_OF"


class Service:
    """The server, or the worker, of an app.

    Args:
        home: The app's `.jittask` folder.
        name: `server` or `worker`: the name of the files, and the word in messages.
    """

    def __init__(self, home: Path, name: str) -> None:
        self.home, self.name = home, name
        self.log = home / f"{name}.log"
        self.info: ServiceInfo | None = None
        self._file = home / f"{name}.json"
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def running(self) -> tuple[ServiceInfo | None, Identity]:
        """The living process, and the `jittask up` that answers for the process; a stale state file is removed."""
        nobody = Identity(0, 0.0)
        try:
            text = self._file.read_text()
        except OSError:
            return None, nobody
        try:
            state = json.loads(text)
            owner = Identity(*state.pop("owner"))
            info = ServiceInfo(**state)
            if info.identity.alive:
                return info, owner
        except (ValueError, KeyError, TypeError, AttributeError):
            pass  # another version's, or half a file
        with contextlib.suppress(OSError):
            if self._file.read_text() == text:
                self._file.unlink()
        return None, nobody

    def adopt(self, info: ServiceInfo) -> None:
        """Write the state file: from now on this process answers for the service."""
        self.info = info
        owner = Identity.of(os.getpid())
        state = asdict(info) | {"owner": [owner.pid, owner.started]}
        draft = self._file.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps(state, indent=2))
        draft.replace(self._file)

    def start(
        self, command: Sequence[str], cwd: Path, env: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own, with its output in the log."""
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_LIMIT:
                self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**env, mark_of(self.name): str(self.home)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self._process

    def family(self, info: ServiceInfo | None) -> Family:
        """A process of the service and all its descendants, also those whose parents are gone."""
        root = info.pid if info and info.identity.alive else None
        return Family(root, mark_of(self.name), str(self.home))

    def end(self, info: ServiceInfo | None) -> list[int]:
        """End a process with all its descendants, and remove the state file.

        Args:
            info: The process; None for the processes that carry the mark only.

        Returns:
            The pids that survive.
        """
        survivors = self.family(info).end(root_first=info is not None and info.drains)
        if self._process is not None:
            self._process.poll()
        if info is not None:
            with contextlib.suppress(OSError, ValueError):
                if json.loads(self._file.read_text())["pid"] == info.pid:
                    self._file.unlink()
        self.info = None
        return survivors

    def check(self) -> None:
        """Raise PrefectApiError where a process that this object answers for has ended by itself."""
        if self.info and not self.info.identity.alive:
            raise PrefectApiError(
                f"The Prefect {self.name} (pid {self.info.pid}) has ended. {self.log_end()}"
            )

    def log_end(self) -> str:
        """The last lines of the log since the start, for a message."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(self._log_start, size - 64_000))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError as error:
            return f"Its log cannot be read: {error}."
        if not lines:
            return f"Its log, {self.log}, is empty."
        return f"Its log, {self.log}, ends:\n" + "\n".join(lines[-LOG_TAIL:])
