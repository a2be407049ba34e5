"""Whether a process may be forked: a copy loses threads and child processes, and shares connections."""

from __future__ import annotations

import os
import select
import stat
import threading
from collections.abc import Mapping
from contextlib import suppress

from jittask_prefect.warm import leaks

COPY_SECONDS = 5.0  # for a copy that does nothing to end
SQLITE_BEGIN = b"SQLite format 3\0"
_SQLITE_ENDS = ("-wal", "-shm", "-journal")
_HARMLESS_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/pts/")  # fmt: skip


def open_files() -> dict[int, str]:
    """The descriptors that are open, each with the name of its file as `/proc` shows the name."""
    found = {}
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # that of the listing itself
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


def reason_against_fork(before: Mapping[int, str]) -> str | None:
    """Why this process may not be forked; None where nothing is against a fork.

    Args:
        before: The answer of `open_files` before the app was loaded.
    """
    return (
        _threads() or _processes() or _connections() or _files(before) or _own_threads()
    )


def _threads() -> str | None:
    main = threading.main_thread()
    names = sorted(t.name for t in threading.enumerate() if t is not main)
    return f"it starts the thread {names[0]!r}" if names else None


def _own_threads() -> str | None:
    """Threads of libraries in C. Some libraries end theirs before a fork (OpenBLAS); a first fork shows which."""
    if _count_threads() > 1:
        _fork_once()
    return "it starts threads in a library's C code" if _count_threads() > 1 else None


def _count_threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _fork_once() -> None:
    copy = os.fork()
    if not copy:
        os._exit(0)
    end = select.poll()
    handle = os.pidfd_open(copy)
    end.register(handle, select.POLLIN)
    if not end.poll(COPY_SECONDS * 1000):
        os.kill(copy, 9)
    os.close(handle)
    os.waitpid(copy, 0)


def _processes() -> str | None:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return "it starts a process"


def _connections() -> str | None:
    return "it opens a database connection" if leaks.open_connections() else None


def _files(before: Mapping[int, str]) -> str | None:
    for number, name in sorted(open_files().items()):
        if before.get(number) != name and (reason := _shared(number, name)):
            return reason
    return None


def _shared(number: int, name: str) -> str | None:
    """Why a copy must not share an open file; None for a file on disk and a harmless device."""
    try:
        kind = os.fstat(number).st_mode
    except OSError:
        return None  # closed meanwhile
    if stat.S_ISSOCK(kind):
        return "it opens a network connection or another socket"
    if stat.S_ISREG(kind):
        return f"it opens the SQLite database {name}" if _is_sqlite(number, name) else None  # fmt: skip
    if stat.S_ISDIR(kind) or name.startswith(_HARMLESS_DEVICES):
        return None
    return f"it opens {name}"


def _is_sqlite(number: int, name: str) -> bool:
    if name.endswith(_SQLITE_ENDS):
        return True
    # Not opened again: to close a second descriptor would release SQLite's locks.
    with suppress(OSError):
        return os.pread(number, len(SQLITE_BEGIN), 0) == SQLITE_BEGIN
    return False
