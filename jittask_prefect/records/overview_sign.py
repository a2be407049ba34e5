"""A sign of change for an app's overview: as long as the sign stays, the page's facts need not be asked for again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.elements.app import App
from jittask_prefect.ledger import versions
from jittask_prefect.ledger.pause import paused_since
from jittask_prefect.ledger.tables import entries
from jittask_prefect.records.app_facts import hour_of
from jittask_prefect.records.overview_ledger import LedgerFacts, read_open
from jittask_prefect.records.overview_prefect import PrefectFacts
from jittask_prefect.records.overview_templates import Failures, task_facts


def sign_of_change(app: App, prefect: PrefectFacts, now: datetime) -> str:
    """A short text that changes with the page's facts, for two small statements a database.

    It heeds the hour, the templates, Prefect's answers, the open tasks (overdue ones too), and the last end of a task. It does
    not see rows beyond the ledger's horizon: a page that stays counts them again when it is written again.

    Args:
        app: The app.
        prefect: Prefect's facts.
        now: The present instant; aware.
    """
    text = "\n".join(_parts(app, prefect, now))
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


def _parts(app: App, prefect: PrefectFacts, now: datetime) -> Iterator[str]:
    yield f"{app.title} {hour_of(now, app.zone)}"
    yield f"{prefect.asked} {prefect.troubles} {prefect.late}"
    failures = Failures()
    for template in app.templates():
        yield str(task_facts(template, now, prefect.there, failures))
    yield str(dict(failures))
    for database in app.databases():
        try:
            with app.engine(database).connect() as connection:
                yield from _of_ledger(connection, app.name, now)
        except SQLAlchemyError as error:
            yield str(getattr(error, "orig", None) or error)
    with suppress(SQLAlchemyError):  # said above
        yield str(paused_since(app))


def _of_ledger(connection: Connection, app: str, now: datetime) -> Iterator[str]:
    if not versions.there(connection):
        return
    found = LedgerFacts.of([])
    read_open(connection, app, now, found)
    yield str(sorted(found.open.items()))
    # By the index on both columns: each is a look at its last entry.
    last = func.max(entries.c.finished)
    ends = (select(last).where(entries.c.returned.is_(each)) for each in (True, False))
    yield str(connection.execute(select(*(e.scalar_subquery() for e in ends))).one())
