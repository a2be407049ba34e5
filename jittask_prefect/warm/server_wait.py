"""A Prefect server that does not answer, or answers what nobody expects: waited for, and told of once a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import httpx
from prefect.exceptions import ObjectNotFound, PrefectException

# What a request of Prefect's client raises: no answer, a status that is none of success, and an answer of another
# shape (no JSON, or pydantic's ValidationError, which is a ValueError).
UNANSWERED = (
    httpx.HTTPError,
    PrefectException,
    OSError,
    ValueError,
    TypeError,
    LookupError,
)
SAY_SECONDS = 60.0  # between two lines about it
TRY_AGAIN = (408, 429)  # the statuses of 400 to 499 that are no refusal
Log = logging.Logger | logging.LoggerAdapter[Any]


def refused(error: BaseException) -> bool:
    """Whether the server understood a request, and a repeat would be answered the same."""
    if isinstance(error, httpx.HTTPStatusError):
        return (
            400 <= error.response.status_code < 500
            and error.response.status_code not in TRY_AGAIN
        )
    return isinstance(error, ObjectNotFound)


class Away:
    """What is known of a server that should answer.

    Args:
        log: Where it is told.
        clock: Gives seconds.

    Attributes:
        since: When it was first found away; None while it answers.
    """

    def __init__(self, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self.since: float | None = None
        self._said: float | None = None
        self._told = False

    def note(self, error: BaseException) -> None:
        """A request has failed."""
        now = self._clock()
        self.since = now if self.since is None else self.since
        self._log.debug("A request to the Prefect server has failed", exc_info=error)
        if self._said is None or now - self._said >= SAY_SECONDS:
            self._said, self._told = now, True
            self._log.warning(
                "The Prefect server gives no usable answer, for %.0f s now (%s). The worker waits for it.",
                now - self.since,
                sentence(error),
            )

    def over(self) -> None:
        """A request was answered."""
        if self.since is not None and self._told:
            self._told = False
            self._log.warning(
                "The Prefect server answers again, after %.0f s.",
                self._clock() - self.since,
            )
        self.since = None


def sentence(error: BaseException) -> str:
    """An error as one line."""
    said = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {said[:300]}" if said else type(error).__name__
