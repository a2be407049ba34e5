"""The waits of an executor before a begin: for the template's `rate`, and before a retry.

A wait is before the row is read, and no part of the time limit. The task's claim and lease
hold meanwhile, so that its end is noticed.
"""

from __future__ import annotations

import time

from jittask_prefect.elements.databases import DEFAULT
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.ledger.rate import reserve
from jittask_prefect.running.calls import Calls, Work
from jittask_prefect.schedule.rate import read_rate

# Between two looks whether the list is closed, while a call waits; and the delay of a
# process that counts as a missed begin.
LOOK_AT_LIST_SECONDS, LATE_SECONDS = 1.0, 1.0


def wait_for_rate(work: Work, calls: Calls) -> None:
    """Wait for the begin that the template's `rate` allows, at most until the list is closed."""
    while _begins_late(work, calls):
        pass


def _begins_late(work: Work, calls: Calls) -> bool:
    """Reserve a begin and wait for that; whether the begin was missed, so that others are too near."""
    rate = read_rate(work.template.cfg.rate)
    engine, name = work.app.engine(_database(work)), work.template.fullName
    wait = reserve(engine, work.app.name, name, rate, work.clock())
    begun = time.monotonic()
    pause(work, calls, wait)
    late = time.monotonic() - begun - wait
    return late > LATE_SECONDS and not calls.closed


def _database(work: Work) -> str:
    if isinstance(work.template, DateFieldType):
        return work.app.database_of(work.template.model_name)
    return DEFAULT


def pause(work: Work, calls: Calls, seconds: float) -> None:
    """Wait some seconds, at most until the list is closed."""
    while not calls.closed:
        work.sleep(max(0.0, min(seconds, LOOK_AT_LIST_SECONDS)))
        seconds -= LOOK_AT_LIST_SECONDS
        if seconds <= 0:
            break
