"""A PostgreSQL server of the campaign alone, which may be killed, frozen, and left without disk."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from .description import does
from .disk import mounted

DISK = "300m"
SETTINGS = """
port = {port}
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 32MB
wal_level = minimal
max_wal_senders = 0
min_wal_size = 4MB
max_wal_size = 32MB
fsync = off
"""


class Postgres:
    """A PostgreSQL server in a folder.

    Args:
        home: The cluster's folder.
        name: The part's name.
        port: The server's port.
        small_disk: The server has a small disk of its own, where this user may mount.
        settings: More lines of `postgresql.conf`.
    """

    def __init__(
        self,
        home: Path,
        name: str,
        port: int,
        *,
        small_disk: bool,
        settings: Sequence[str] = (),
    ) -> None:
        self._home, self._name, self._port = home, name, port
        self._settings = settings
        folder = home / f"{name}-disk"
        self.disk = mounted(folder, DISK) if small_disk else None
        folder.mkdir(exist_ok=True)
        self._data = folder / "data"

    def make(self) -> None:
        """Make an empty database, and write how its server starts.

        Raises:
            SystemExit: `initdb` has failed.
        """
        self._data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(self._data, "postgres", "postgres")
        trusting = "-U postgres -A trust -E UTF8 --no-sync --wal-segsize=1"
        if not does(self._by_user(f"{found('initdb')} -D {self._data} {trusting}")):
            raise SystemExit(f"initdb has failed in {self._data}")
        with (self._data / "postgresql.conf").open("a") as out:
            out.write(SETTINGS.format(port=self._port))
            out.writelines(f"{line}\n" for line in self._settings)
        log = self._home / f"{self._name}-server.log"
        log.touch(0o666)
        log.chmod(0o666)
        start = f"{found('pg_ctl')} start -w -t 60 -D {self._data} -l {log}"
        # The processes of a server that was killed hold its memory for a moment.
        again = f"for _ in $(seq 100); do {self._by_user(start)} && break; sleep 0.3; done\n"
        number = f"head -n 1 {self._data}/postmaster.pid > {self._name}.pid\n"
        (self._home / f"{self._name}.start").write_text(again + number)
        ready = f"{found('pg_isready')} -h 127.0.0.1 -p {self._port}\n"
        (self._home / f"{self._name}.ready").write_text(ready)

    def _by_user(self, command: str) -> str:
        """A command of a user who may run PostgreSQL: root may not."""
        if os.geteuid() != 0:
            return command
        return f"su postgres -s /bin/sh -c {shlex.quote(command)}"


def found(name: str) -> str | None:
    """The path of a program, also of those that PostgreSQL keeps in a folder of its own; None where there is none."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(places[-1]) if places else None)
