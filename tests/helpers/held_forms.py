"""Forms that are at work and do not write yet: a test holds the lock that each form takes before it writes."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held_forms(app: Path) -> Iterator[Callable[[], bool]]:
    """Have the forms of an app wait meanwhile; yields whether a form waits by now.

    Args:
        app: The app's folder.
    """
    folder = app / ".jittask"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "dialog.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        inode = (folder / "dialog.lock").stat().st_ino

        def waits() -> bool:
            lines = Path("/proc/locks").read_text().splitlines()
            return any("->" in line and f":{inode} " in line for line in lines)

        yield waits
