"""Which tasks in the ledger belong to a row's present date, level by level, whatever the list of levels was before.

A task keeps the start of its series: the date with the offset of its level. A level is known by its name and its start.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from itertools import takewhile

from jittask_prefect.ledger.entry import Entry
from jittask_prefect.schedule.series import Series


def stands(entry: Entry, series: Series) -> bool:
    """Whether a task is still an occurrence of the row: due then, of that nominal time and that level."""
    found = series.due_at(entry.due)
    if found is None or entry.nominal is None or found.level != entry.level:
        return False
    return found.nominal.astimezone(UTC) == entry.nominal.astimezone(UTC)


def of_present_date(series: Series, entries: Sequence[Entry]) -> list[Entry]:
    """The tasks that were planned from the row's present date, the newest first, back to the first of another date.

    A task of a level that was taken off the list, or has another name now, tells nothing of other tasks. Nor does a task
    that was planned from the present date when its level had another offset.
    """
    # Of two of one generation (a hook and a sync at one moment) the task of the row's present date counts as the later.
    present = {e.task_id for e in entries if e.anchor in series.starts_of(e.level)}
    by_age = sorted(
        entries, key=lambda e: (e.generation, e.task_id in present), reverse=True
    )
    if len(present) == len(by_age):  # as of each row whose dates never changed
        return by_age
    former = _former_starts(series, entries, present)
    known = (
        e
        for e in by_age
        if e.task_id in present
        or (series.has_level(e.level) and (e.level, e.anchor) not in former)
    )
    return list(takewhile(lambda e: e.task_id in present, known))


def _former_starts(
    series: Series, entries: Sequence[Entry], present: Collection[str]
) -> set[tuple[str | None, datetime | None]]:
    """Levels, each with a start that the row's present date had by an offset that has changed since.

    Another date makes tasks of another generation, another offset does not. So a start that stands beside one of the
    present date is of that date too, also where it comes again in a later generation, by other opening hours.
    """
    of = {
        e.generation
        for e in entries
        if e.task_id in present and series.has_level(e.level)
    }
    return {(e.level, e.anchor) for e in entries if e.generation in of}


def is_of_any_level(entry: Entry, series: Series) -> bool:
    """Whether a level of the row's present date starts as that of a task, whatever both are called."""
    return entry.anchor in (*series.starts_of(entry.level), *series.starts_of(None))
