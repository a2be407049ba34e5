"""The statements of each row, compiled once in a fork server: its children share them, and a child has no time for that."""

from __future__ import annotations

import logging
from datetime import datetime

from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.ledger import transitions
from jittask_prefect.rows import due_rows
from jittask_prefect.running.lease import Clock

log = logging.getLogger("jittask")


def compile_statements(app: App, clock: Clock) -> None:
    """Compile the statements of an app's rows on PostgreSQL, without a connection.

    Other databases tell their kind at the first connection, on which the statements depend. A statement that cannot
    be compiled is left out: the first run that needs the statement says why.

    Args:
        app: The app.
        clock: Gives the present instant.
    """
    for name in app.names("tasks"):
        try:
            template = app.template(name)
            if isinstance(template, DateFieldType):
                _compile(app, template, clock())
        except Exception as error:  # noqa: BLE001  a column type of the team's may raise anything
            log.debug("no statement of %s is compiled beforehand: %s", name, error)


def _compile(app: App, template: DateFieldType, now: datetime) -> None:
    engine = app.engine(app.database_of(template.model_name))
    if engine.dialect.name == "postgresql":
        transitions.prepare(engine)
        due_rows.prepare(template, engine, now)
