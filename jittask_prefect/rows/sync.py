"""The sync: read rows and ledger → plan → apply → hand over to Prefect.

Rows are the truth; the ledger remembers what was handed over. Each step may stop anywhere and be done again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.elements.app import DEFAULT, App
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import (
    planned_rows,
    state_table,
    versions,
    watermarks,
)
from jittask_prefect.ledger.entry import without_return
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.rows.flow_runs import Keep
from jittask_prefect.rows.follow import apply_all
from jittask_prefect.rows.handover import hand_over
from jittask_prefect.rows.plan import Report
from jittask_prefect.rows.planning import Memories, pieces
from jittask_prefect.rows.pruning import prune_some, require_records
from jittask_prefect.rows.run_endings import end_cancelling, show_ends
from jittask_prefect.rows.settling import enter_left, settle_dead, settle_waiting

BATCH = 1000
LEASE_SECONDS = (
    25.0  # with a sync every minute, a dead sync's work is taken up within 85 s
)
RENEW_SECONDS = 5.0
RETURN_AFTER = timedelta(minutes=1)
log = logging.getLogger("jittask")


class LeaseLostError(JittaskError):
    """Another sync has taken over."""


def run(
    app: App,
    api: Api,
    now: datetime,
    owner: str,
    *,
    since: datetime | None = None,
    clock: Callable[[], datetime],
    after: Callable[[Report], None] | None = None,
) -> Report | None:
    """A whole sync.

    Args:
        app: The app.
        api: Prefect.
        now: The present instant.
        owner: Who holds the lease that lets a single sync run at a time.
        since: Start of the window, instead of the last sync.
        clock: Gives the instant for renewing the lease while a long sync goes on.
        after: Called with the report while the lease is held.

    Returns:
        The report; None where another sync holds the lease.

    Raises:
        LedgerError: The ledger's tables are missing.
        InvalidTime: `since` lies before the records that the ledger has.
        PrefectApiError: Prefect cannot be reached; the ledger keeps all plans.
    """
    with app.engine().connect() as connection:
        versions.require(connection, "the app's database")

    if since is not None:
        require_records(app, since)

    lease = _Lease(app, owner, clock)

    if not lease.take(now):
        return None

    try:
        with lease.renewed():
            report = _run(app, api, now, since, lease.keep)
            if after is not None:
                after(report)

            return report
    finally:
        lease.free()


def _run(
    app: App, api: Api, now: datetime, since: datetime | None, keep: Keep
) -> Report:
    report = Report()

    for database in app.databases():
        if _ready(app, database, report):
            _plan_and_apply(app, database, report, now, since, keep)

    report.actions.sort(key=lambda a: (a.template, a.due, a.row))
    databases = [name for name in app.databases() if name not in report.down]

    for database in databases:
        with app.engine(database).connect() as connection:
            left = without_return(connection, app.name, now - RETURN_AFTER)

        left += settle_dead(app, database, api, now)
        report.died += [(database, entry) for entry in left]

    for database in databases:
        keep()
        ended = settle_waiting(app, database, api, now, keep)
        report.died += [(database, entry) for entry in ended]

        if database == DEFAULT:
            enter_left(app, api, now)

        hand_over(app, database, api, now, report, keep)
        ended = end_cancelling(app, database, api, now, report)
        report.died += [(database, entry) for entry in ended]

    show_ends(app, api, now, report)

    for database in databases:
        keep()
        hindered = prune_some(app, database, now)
        report.problems += [hindered] if hindered else []

    return report


class _Lease:
    """The lease that lets a single sync run at a time."""

    def __init__(self, app: App, owner: str, clock: Callable[[], datetime]) -> None:
        self._app, self._owner, self._clock = app, owner, clock

    def take(self, now: datetime) -> bool:
        """Take or renew the lease; whether the owner has the lease now."""
        of = (self._app.name, "sync", self._owner, now, LEASE_SECONDS)
        with self._app.engine().begin() as connection:
            return state_table.take_lease(connection, *of)

    def keep(self) -> None:
        """Renew the lease.

        Raises:
            LeaseLostError: Another sync has taken over.
        """
        if not self.take(self._clock()):
            raise LeaseLostError

    def free(self) -> None:
        """Give the lease back."""
        with self._app.engine().begin() as connection:
            state_table.free_lease(connection, self._app.name, "sync", self._owner)

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew the lease from a thread, so that long steps keep the lease, which ends with the process."""
        stop = threading.Event()

        def renew() -> None:
            while not stop.wait(RENEW_SECONDS):
                try:
                    if not self.take(self._clock()):
                        return
                except SQLAlchemyError as error:
                    log.debug("the sync's lease was not renewed: %s", error)

        thread = threading.Thread(target=renew, name="jittask-sync-lease", daemon=True)
        thread.start()

        try:
            yield
        finally:
            stop.set()
            thread.join()


def _ready(app: App, database: str, report: Report) -> bool:
    """Whether a database answers and has the ledger; else the report says why, and the others go on."""
    if database not in report.down:
        try:
            with app.engine(database).connect() as connection:
                versions.require(
                    connection,
                    f"database {database}" if database else "the app's database",
                )
        except JittaskError as error:
            report.down.add(database)
            report.problems.append(str(error))
        except SQLAlchemyError as error:
            report.down.add(database)
            report.problems.append(f"database {database or 'default'}: {error}")

    return database not in report.down


def _plan_and_apply(
    app: App,
    database: str,
    report: Report,
    now: datetime,
    since: datetime | None,
    keep: Keep,
) -> None:
    engine, memories, counted = app.engine(database), Memories(), False
    for model, actions in pieces(app, database, now, since, report, memories):
        for start in range(0, len(actions), BATCH):
            part = actions[start : start + BATCH]
            with engine.begin() as connection:
                apply_all(connection, app.name, part, model, now)
                if len(part) == BATCH and not counted:
                    planned_rows.count_rows(connection)
                    counted = True
            keep()
        report.note(actions)

    if not memories:
        return

    with engine.begin() as connection:
        for name, memory in memories.items():
            watermarks.remember(connection, app.name, name, memory)
