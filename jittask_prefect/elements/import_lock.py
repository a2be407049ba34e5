"""Locks for the code of elements: Python's own locks of imports, which see a circle instead of waiting for ever.

A thread that loads a model imports the team's package. Another thread may be importing that package already, and ask
for an element meanwhile. A lock that Python's imports do not know would let both wait for each other.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# There is no public name for these locks; Python 3.11 to 3.14 have them alike.
_bootstrap: Any = vars(importlib)["_bootstrap"]


class CircleError(Exception):
    """Another thread holds the lock, and waits for this thread."""


@contextmanager
def import_lock(module: str) -> Iterator[None]:
    """Hold the lock under which Python would import a module of that name; the same thread may hold it again.

    Raises:
        CircleError: Waiting would never end.
    """
    lock = _bootstrap._get_module_lock(module)
    try:
        lock.acquire()
    except _bootstrap._DeadlockError as error:
        raise CircleError(str(error)) from None
    try:
        yield
    finally:
        lock.release()
