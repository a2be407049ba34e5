"""An outage of the Prefect server: the worker waits, and logs a line a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import ObjectNotFound, PrefectException

# Errors of Prefect's client: no answer, a status of failure, or an answer of another shape (no JSON, or pydantic's
# ValidationError, which is a ValueError).
NO_ANSWER = (
    httpx.HTTPError,
    PrefectException,
    OSError,
    ValueError,
    TypeError,
    LookupError,
)
LOG_SECONDS = 60.0
TRANSIENT = (408, 429)  # the statuses of 400 to 499 after which a repeat may succeed
Log = logging.Logger | logging.LoggerAdapter[Any]


def refused(error: BaseException) -> bool:
    """Whether the server understood a request, and would answer a repeat the same."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return 400 <= status < 500 and status not in TRANSIENT
    return isinstance(error, ObjectNotFound)


class Outage:
    """The state of the server: answering, or down since an instant.

    Args:
        log: Gets a line at the begin of an outage, each minute, and at the end.
        clock: Gives seconds.

    Attributes:
        since: When the outage began; None while the server answers.
    """

    def __init__(self, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self.since: float | None = None
        self._logged: float | None = None
        self._end_due = False
        self._pool: UUID | None = None

    def failed(self, error: BaseException) -> None:
        """Note that a request has failed."""
        now = self._clock()
        self.since = now if self.since is None else self.since
        self._log.debug("A request to the Prefect server has failed", exc_info=error)
        if self._logged is None or now - self._logged >= LOG_SECONDS:
            self._logged, self._end_due = now, True
            self._log.warning(
                "The Prefect server gives no usable answer, for %.0f s now (%s). The worker waits for it.",
                now - self.since,
                one_line(error),
            )

    def answered(self) -> None:
        """Note that a request was answered."""
        if self.since is not None and self._end_due:
            self._end_due = False
            seconds = self._clock() - self.since
            self._log.warning(
                "The Prefect server answers again, after %.0f s.", seconds
            )
        self.since = None

    def pool_seen(self, pool: WorkPool, url: str) -> None:
        """Say where a pool is another one than before: Prefect's worker makes a pool that is gone, and no deployments.

        Args:
            pool: The worker's pool as the server has it now.
            url: The API's address.
        """
        if self._pool not in (None, pool.id):
            self._log.warning(
                "The work pool %s at %s was made anew: somebody deleted the pool, or emptied the server's database. "
                "`jittask doctor` names deployments that are missing; `jittask deploy` makes them, and the next sync "
                "makes the runs of the open tasks.",
                pool.name,
                url.rstrip("/"),
            )
        self._pool = pool.id


def one_line(error: BaseException) -> str:
    """An error as one line of a log."""
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
