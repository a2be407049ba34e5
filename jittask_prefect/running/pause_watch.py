"""Whether the app is paused, for an execution that asks before each task."""

from __future__ import annotations

import logging
import time

from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.elements.app import App
from jittask_prefect.elements.patience import asks_once
from jittask_prefect.ledger import pause
from jittask_prefect.running.order import Wait

LOOK_SECONDS = 1.0
"""Between two looks: a batch with a row each millisecond asks once a second."""
PAUSED = Wait(pause.REASON, long=True)
log = logging.getLogger("jittask")


class PauseWatch:
    """The pause of an app, as seen a second ago at most.

    Args:
        app: The app.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._seen, self._again = False, 0.0

    @property
    def to_ask(self) -> bool:
        """Whether `wait` is to be asked before the next task; within a transaction, which must not ask for another connection."""
        return self._seen or time.monotonic() >= self._again

    def wait(self) -> Wait | None:
        """Why an occurrence has to wait; None: the app is not paused."""
        if time.monotonic() >= self._again:
            self._seen = self._look()
            self._again = time.monotonic() + LOOK_SECONDS
        return PAUSED if self._seen else None

    def _look(self) -> bool:
        try:
            with asks_once():
                return pause.paused_since(self._app) is not None
        except SQLAlchemyError as error:
            # Rows of another database go on while the app's own is away.
            log.warning("nobody can tell whether the app is paused: %s", error)
            return self._seen
