"""The rows of a batch that nobody has begun when their worker stops: they go on in another flow run, for another worker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.elements.app import App
from jittask_prefect.elements.databases import DEFAULT
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import handover_marks
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.rows.handover import hand_over
from jittask_prefect.rows.plan import Report
from jittask_prefect.running.lease import Clock

LABEL = "left"
"""The label of a flow run that takes no more rows: else its rows would be handed over to this same run again."""
log = logging.getLogger("jittask")


def database_of(app: App, name: str) -> str:
    """The database of a template's tasks.

    Raises:
        JittaskError: The template, or its model, is broken.
    """
    template = app.template(name)
    if isinstance(template, DateFieldType):
        return app.database_of(template.model_name)
    return DEFAULT


class LeftRows:
    """The rows that wait in a flow run which takes no more of them.

    Args:
        app: The app.
        name: The template's full name.
        connect: Gives Prefect.
        run_id: The flow run.
        clock: Gives the present instant.
    """

    def __init__(
        self,
        app: App,
        name: str,
        connect: Callable[[], Api],
        run_id: str,
        clock: Clock,
    ) -> None:
        self._app, self._name, self._connect = app, name, connect
        self._run_id, self._clock = run_id, clock
        self._handing_over = threading.Lock()
        self._tasks: set[str] = set()

    def begin(self) -> None:
        """Hand the rows over, in a thread beside the rows at work."""
        threading.Thread(
            target=self.hand_over, name="jittask-left-rows", daemon=True
        ).start()

    def hand_over(self) -> set[str]:
        """Hand the rows over; the tasks so far. Failures are left to the next sync."""
        with self._handing_over:
            try:
                self._hand_over()
            except (JittaskError, SQLAlchemyError) as error:
                log.warning("rows are left to the next sync: %s", error)
            return set(self._tasks)

    def _hand_over(self) -> None:
        database = database_of(self._app, self._name)
        engine, api = self._app.engine(database), self._connect()
        with engine.connect() as connection:
            if not handover_marks.waiting_rows(connection, self._run_id):
                return
        api.mark(self._run_id, LABEL)
        with engine.begin() as connection:
            rows = handover_marks.batch_stopped(connection, self._run_id)
        self._tasks.update(rows)
        about = (self._app, database, api, self._clock(), Report())
        hand_over(*about, rows=rows.values())
