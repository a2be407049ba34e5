"""What one task may leave behind in a process, beside what is put back after each: a process changed so is replaced.

Looked at after each run: some microseconds, no look at what a name holds.
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
from pathlib import PurePath
from typing import Any

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
_IMPORTED = "imported"
_FILTERS = "the warnings' filters"
_HOOKS = ("the hooks for errors", "how modules are found")
_INSTALLED = {"site-packages", "dist-packages"}  # the folders of installed libraries
_MODULES = (
    "json",
    "datetime",
    "time",
    "os",
    "sys",
    "logging",
    "random",
    "decimal",
    "socket",
    "threading",
    "asyncio",
)
for _name in _MODULES:
    importlib.import_module(
        _name
    )  # where a task is the first to import one, nothing is changed


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
        "builtins": {
            name: id(value) for name, value in vars(builtins).items() if name != "_"
        },
        "sys.path": list(sys.path),
        "sys.argv": list(sys.argv),
        "a module of Python's": [id(sys.modules.get(name)) for name in _MODULES],
        "the signal mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "a timer of signals": signal.getitimer(signal.ITIMER_REAL)[0] > 0,
        "a trace or profile function": (sys.gettrace(), sys.getprofile()),
        "the priority": os.getpriority(os.PRIO_PROCESS, 0),
        "the garbage collector": gc.isenabled(),
        "the switch interval": sys.getswitchinterval(),
        _IMPORTED: len(sys.modules),
        "the recursion limit": sys.getrecursionlimit(),
        _HOOKS[0]: _Hooks([sys.excepthook, threading.excepthook, sys.unraisablehook]),
        _HOOKS[1]: _Hooks([*sys.meta_path, *sys.path_hooks]),
        _FILTERS: list(map(id, warnings.filters)),
        "the logging's level": (logging.root.manager.disable, logging.root.level),
    }


class _Hooks:
    """Some hooks, the same where each is the same object: what these say of their equality is not asked."""

    def __init__(self, hooks: Sequence[object]) -> None:
        self.hooks = hooks

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hooks) and list(map(id, self.hooks)) == list(
            map(id, other.hooks)
        )

    __hash__ = None  # type: ignore[assignment]


def changed(before: dict[str, Any]) -> str | None:
    """What is not as it was, as words for the log; None where all is.

    Args:
        before: What `traces` said then.
    """
    now = traces()
    names = [
        name
        for name, value in before.items()
        if name != _IMPORTED and now[name] != value
    ]
    if names and now[_IMPORTED] != before[_IMPORTED]:
        # A library that is imported for the first time may set these up, and stays.
        names = [
            name for name in names if not _by_import(name, before[name], now[name])
        ]
    return f"a run changed {', '.join(names)}" if names else None


def _by_import(name: str, before: Any, now: Any) -> bool:
    """Whether the import of an installed library ordinarily changes this so."""
    if name not in _HOOKS:
        return name == _FILTERS
    known, left = set(map(id, before.hooks)), set(map(id, now.hooks))
    new = [hook for hook in now.hooks if id(hook) not in known]
    # One of a kind takes the place of another; where there is a list, the others stay in it, each once.
    kept = name == _HOOKS[0] or (
        known <= left and len(now.hooks) == len(before.hooks) + len(new)
    )
    return kept and all(map(_installed, new))


def _installed(hook: object) -> bool:
    """Whether a hook is defined in an installed library."""
    module = sys.modules.get(str(getattr(hook, "__module__", None)))
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and not _INSTALLED.isdisjoint(PurePath(file).parts)
