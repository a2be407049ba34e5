"""Counts of the executor and the sync for the worker's metrics: begins, ends, lateness, durations, lost leases."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import func, select

from jittask_prefect.elements.app import App
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.tables import entries, of_app
from jittask_prefect.running.outcome import Outcome
from jittask_prefect.warm import tally


def begun(app: App, tasks: Iterable[Entry], now: datetime) -> None:
    """The function of some tasks begins; how late it is counts for the first attempt only."""
    figures = tally.of_process()
    if figures is None:
        return
    for entry in tasks:
        figures.count("begun", app.name, entry.template)
        if entry.attempt <= 1:
            late = (now - max(entry.due, entry.created)).total_seconds()
            figures.observe(max(0.0, late), "late", app.name, entry.template)


def ended(
    app: App, ends: Iterable[tuple[Entry, Outcome]], begun_at: float | None
) -> None:
    """Some tasks have ended.

    Args:
        app: The app.
        ends: The tasks, each with its outcome.
        begun_at: When the function began, by the monotonic clock; None where none did.
    """
    figures = tally.of_process()
    if figures is None:
        return
    for entry, outcome in ends:
        figures.count("ended", app.name, entry.template, outcome.status)
        if begun_at is not None:
            seconds = time.monotonic() - begun_at
            figures.observe(seconds, "long", app.name, entry.template)


def lease_lost(app: App) -> None:
    """An owner has lost the lease of its tasks."""
    if (figures := tally.of_process()) is not None:
        figures.count("lost", app.name)
        figures.flush()


def synced(app: App, seconds: float, now: datetime, down: Iterable[str]) -> None:
    """A sync is over.

    Args:
        app: The app.
        seconds: How long it took.
        now: The present instant.
        down: The databases that did not answer.
    """
    figures = tally.of_process()
    if figures is None:
        return
    waits = (of_app(app.name), entries.c.status == "pending", entries.c.due <= now)
    due = 0
    for database in set(app.databases()) - set(down):
        with app.engine(database).connect() as connection:
            count = select(func.count()).select_from(entries).where(*waits)
            due += connection.execute(count).scalar_one()
    figures.observe(seconds, "sync", app.name)
    figures.set_level(due, "due", app.name)
