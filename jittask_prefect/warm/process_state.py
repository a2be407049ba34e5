"""The state of a process that a function can change, apart from the parts that are restored after each run.

The state is compared after each run, which takes some microseconds; a changed process is replaced.
"""

from __future__ import annotations

import builtins
import gc
import importlib
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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

_LIMITS = tuple(
    getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")
)
_LOCALES = (
    locale.LC_CTYPE,
    locale.LC_COLLATE,
    locale.LC_TIME,
    locale.LC_NUMERIC,
    locale.LC_MONETARY,
)
_LIBRARY_FOLDERS = {"site-packages", "dist-packages"}
_MODULES = (
    "json", "datetime", "time", "os", "sys", "logging", "random", "decimal", "socket", "threading", "asyncio",
)  # fmt: skip
# Imported here, so that no task is the first to import these.
for _name in _MODULES:
    importlib.import_module(_name)


@dataclass(frozen=True)
class ProcessState:
    """The state of this process.

    Attributes:
        values: Parts that only a task changes, by the name in the log.
        modules: How many modules are imported.
        warning_filters: The filters of `warnings`, by identity; importing a library may change them.
        error_hooks: `sys.excepthook` and the like; importing a library may replace them.
        import_hooks: Finders and path hooks; importing a library may add to them.
    """

    values: dict[str, object]
    modules: int
    warning_filters: Sequence[int]
    error_hooks: Sequence[object]
    import_hooks: Sequence[object]


def current_state() -> ProcessState:
    """The state of this process now."""
    mask = os.umask(0o077)
    os.umask(mask)
    values: dict[str, object] = {
        "the umask": mask,
        "the time zone": (time.tzname, time.timezone, time.altzone),
        "the locale": [locale.setlocale(kind) for kind in _LOCALES],
        "the sockets' default time-out": socket.getdefaulttimeout(),
        "the resource limits": [resource.getrlimit(kind) for kind in _LIMITS],
        "builtins": {k: id(value) for k, value in vars(builtins).items() if k != "_"},
        "sys.path": list(sys.path),
        "sys.argv": list(sys.argv),
        "a module of Python's": [id(sys.modules.get(name)) for name in _MODULES],
        "the signal mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "a timer of signals": signal.getitimer(signal.ITIMER_REAL)[0] > 0,
        "a trace or profile function": (sys.gettrace(), sys.getprofile()),
        "the priority": os.getpriority(os.PRIO_PROCESS, 0),
        "the garbage collector": gc.isenabled(),
        "the switch interval": sys.getswitchinterval(),
        "the recursion limit": sys.getrecursionlimit(),
        "the logging's level": (logging.root.manager.disable, logging.root.level),
    }
    return ProcessState(
        values,
        modules=len(sys.modules),
        warning_filters=_identities(warnings.filters),
        error_hooks=(sys.excepthook, threading.excepthook, sys.unraisablehook),
        import_hooks=(*sys.meta_path, *sys.path_hooks),
    )


def changes_since(before: ProcessState) -> str | None:
    """The changes, in words for the log; None where there are none.

    Args:
        before: The state before the run.
    """
    now = current_state()
    imported = now.modules != before.modules
    names = [name for name, old in before.values.items() if now.values[name] != old]
    if now.warning_filters != before.warning_filters and not imported:
        names.append("the warnings' filters")
    if _by_task(before.error_hooks, now.error_hooks, imported, replaceable=True):
        names.append("the hooks for errors")
    if _by_task(before.import_hooks, now.import_hooks, imported, replaceable=False):
        names.append("how modules are found")
    return f"a run changed {', '.join(names)}" if names else None


def _identities(objects: Sequence[object]) -> list[int]:
    """Objects by identity: their own idea of equality is not asked."""
    return list(map(id, objects))


def _by_task(
    before: Sequence[object], now: Sequence[object], imported: bool, replaceable: bool
) -> bool:
    """Whether a task changed some hooks, and not the import of a library.

    A library may take the place of a hook where that is usual; else its hooks come to those that are there.
    """
    old, present = _identities(before), _identities(now)
    if old == present:
        return False
    new = [hook for hook in now if id(hook) not in old]
    added = set(old) <= set(present) and len(present) == len(old) + len(new)
    usual = imported and (replaceable or added)
    return not (usual and all(map(_in_library, new)))


def _in_library(hook: object) -> bool:
    """Whether a hook is defined in an installed library."""
    module = sys.modules.get(str(getattr(hook, "__module__", None)))
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and not _LIBRARY_FOLDERS.isdisjoint(
        PurePath(file).parts
    )
