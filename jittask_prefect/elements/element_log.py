"""The `log` of element code."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any

TASK_LOG: ContextVar[Any] = ContextVar("jittask_log", default=None)


class Log:
    """The `log` of element code: the flow run's logger inside a flow run, Python's own elsewhere."""

    def __getattr__(self, name: str) -> Any:
        return getattr(TASK_LOG.get() or logging.getLogger("jittask"), name)
