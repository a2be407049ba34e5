"""How many rows of a template are at work at once (`parallel`), and how often its functions begin (`rate`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jittask_prefect.errors import Problem
from jittask_prefect.schedule.rate import read_rate

if TYPE_CHECKING:
    from jittask_prefect.elements.config import TaskCfg

MAX_PARALLEL = 100
"""The largest number of rows that may be at work at once in a process."""


def rate_text(value: object) -> str:
    """Refuse all but the text of a rate."""
    return str(read_rate(value))


def rows_at_once(value: object) -> int:
    """Refuse all but a whole number of rows."""
    if type(value) is not int or not 1 <= value <= MAX_PARALLEL:
        raise ValueError(f"a whole number from 1 to {MAX_PARALLEL}")
    return value


def parallel_problems(cfg: TaskCfg, *, rows: bool) -> Iterator[Problem]:
    """Why the rows of a template cannot be at work at once; each with the next step."""
    if cfg.parallel == 1:
        return
    limits = cfg.concurrency
    if not rows:
        allowed = "1: a scheduled task has no rows; leave the key out"
        yield Problem("", "parallel", str(cfg.parallel), allowed)
    elif cfg.dispatch == "row":
        found = f"{cfg.parallel} with dispatch row"
        allowed = "1, or dispatch auto or batch: a row of its own flow run is alone"
        yield Problem("", "parallel", found, allowed)
    elif limits is not None and limits.overlap != "queue":
        found = f"{cfg.parallel} with concurrency.overlap {limits.overlap}"
        allowed = "1, or overlap queue: other rows have flow runs of their own"
        yield Problem("", "parallel", found, allowed)
    elif limits is not None and limits.limit < cfg.parallel:
        found = f"{cfg.parallel} with concurrency.limit {limits.limit}"
        allowed = f"{limits.limit} at most, or a limit of {cfg.parallel} or more: each row at work counts"
        yield Problem("", "parallel", found, allowed)
