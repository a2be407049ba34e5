"""The database of a Prefect server, migrated once for all processes of all runs: a server on a copy starts in half the time."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from jittask_prefect.server.commands import (
    environment,
    prefect_command,
    prefect_version,
)


def migrated(cache: Path) -> Path:
    """The migrated database, made where it is missing.

    Args:
        cache: A folder that outlives the test run.
    """
    file = cache / f"prefect-{prefect_version()}.db"
    with FileLock(cache / "lock"):
        if not file.exists():
            with TemporaryDirectory(dir=cache) as made:
                command = prefect_command("server", "database", "upgrade", "-y")
                env = environment(None, Path(made))
                subprocess.run(command, env=env, capture_output=True, check=True)
                _copy(Path(made, "prefect", "prefect.db"), Path(made, "whole.db"))
                Path(made, "whole.db").replace(file)
    return file


def prepare(home: Path, database: Path) -> None:
    """Give a home that no server had so far a copy of the migrated database."""
    (home / "prefect").mkdir(parents=True)
    _copy(database, home / "prefect" / "prefect.db")


def _copy(source: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(source)) as old,
        closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)
