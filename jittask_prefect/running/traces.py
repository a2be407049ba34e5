"""What one task may leave behind in a process, beside what is put back after each: a process changed so is replaced.

Looked at after each run: some microseconds, no look at what a name holds.
"""

from __future__ import annotations

import builtins
import locale
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
import warnings
from typing import Any

_LIMITS = tuple(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))
_LOCALES = (locale.LC_CTYPE, locale.LC_COLLATE, locale.LC_TIME, locale.LC_NUMERIC, locale.LC_MONETARY)
_IMPORTED = "imported"
_BY_IMPORTS = (
    "the recursion limit", "the hooks for errors", "how modules are found", "the warnings' filters",
    "the logging's level",
)  # fmt: skip
_MODULES = ("json", "datetime", "time", "os", "sys", "logging", "random", "decimal", "socket", "threading", "asyncio")


def traces() -> dict[str, Any]:
    """What a function can change of its process, by the name under which it is told."""
    mask = os.umask(0o077)
    os.umask(mask)
    return {
        "the umask": mask,
        "the time zone": (time.tzname, time.timezone, time.altzone),
        "the locale": [locale.setlocale(kind) for kind in _LOCALES],
        "the sockets' default time-out": socket.getdefaulttimeout(),
        "the resource limits": [resource.getrlimit(kind) for kind in _LIMITS],
        "builtins": {name: id(value) for name, value in vars(builtins).items() if name != "_"},
        "sys.path": list(sys.path),
        "a module of Python's": [id(sys.modules.get(name)) for name in _MODULES],
        "the signal mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "a timer of signals": signal.getitimer(signal.ITIMER_REAL)[0] > 0,
        "a trace or profile function": (sys.gettrace(), sys.getprofile()),
        "the priority": os.getpriority(os.PRIO_PROCESS, 0),
        _IMPORTED: len(sys.modules),
        "the recursion limit": sys.getrecursionlimit(),
        "the hooks for errors": (id(sys.excepthook), id(threading.excepthook), id(sys.unraisablehook)),
        "how modules are found": list(map(id, [*sys.meta_path, *sys.path_hooks])),
        "the warnings' filters": list(map(id, warnings.filters)),
        "the logging's level": (logging.root.manager.disable, logging.root.level),
    }


def changed(before: dict[str, Any]) -> str | None:
    """What is not as it was, as words for the log; None where all is.

    Args:
        before: What `traces` said then.
    """
    now = traces()
    # A module that is imported for the first time may set these up, and stays.
    excused = _BY_IMPORTS if now[_IMPORTED] != before[_IMPORTED] else ()
    names = [name for name, value in before.items() if now[name] != value and name != _IMPORTED and name not in excused]
    return f"a run changed {', '.join(names)}" if names else None
