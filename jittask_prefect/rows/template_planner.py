"""A template's rows and ledger entries of a moment → actions, in pieces of bounded size.

A sync does not read every row of its window again. Tasks that the ledger has planned from a row's present dates stand;
so the database is asked for the other rows, and for the rows that have come within the horizon since the last sync. All
rows of the window are read where the template was changed, and in a dry run.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Engine, or_

from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.ledger import planned_rows
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.keys import NoKey, key_value
from jittask_prefect.ledger.watermarks import Memory
from jittask_prefect.rows import dialects
from jittask_prefect.rows.own_columns import Own
from jittask_prefect.rows.plan import (
    NOT_MET,
    TICK,
    Action,
    Report,
    no_more_tasks,
    plan_row,
    since_moved,
    wanted,
)
from jittask_prefect.rows.row_reading import Dated, Unreadable, Values, dated_rows
from jittask_prefect.rows.scan import CHUNK, Scan, Window, snapshot
from jittask_prefect.schedule.instants import DAY
from jittask_prefect.schedule.timer import Occurrence, Series
from jittask_prefect.schedule.wide_reach import APART, BREAK

OVERLAP = timedelta(minutes=10)
"""At least: a transaction that was open during the last sync commits an earlier date."""
MOST_PROBLEMS = 20
log = logging.getLogger("jittask")


class TemplatePlanner:
    """Plans the rows of a template.

    Args:
        template: The date-field template.
        engine: The engine of the database that the template's rows are in.
        now: The present instant.
        since: Start of the window, instead of the last sync.
        memory: The template's memory of the last sync; None before the first sync.
        report: Takes the rows that cannot be read.
    """

    def __init__(
        self,
        template: DateFieldType,
        engine: Engine,
        now: datetime,
        since: datetime | None,
        memory: Memory | None,
        report: Report,
    ) -> None:
        self.app, self.template, self.now, self.report = (
            template.app,
            template,
            now,
            report,
        )
        self.name, self.missed = template.fullName, template.cfg.missed
        self.engine = engine
        self.scan = Scan(template, now, engine.dialect.name)
        self.memory, self.since = memory, since
        config = memory.config if memory is not None else None
        self.present = fingerprint(template)
        self.edited = memory is not None and rule_of(config) != rule_of(self.present)
        self.changed = memory is not None and config != self.present
        self.known = None if since or memory is None else memory.mark
        self.pairs: list[Own] | None = None
        """The values of zone and calendar that occur, where rows have their own; read before the rows."""
        self.window = self._window()
        self.scanned = self._scanned()
        self._read_keys: set[str] = set()
        self._reported: set[str] = set()

    # Windows

    @property
    def other_days(self) -> bool:
        """Whether only the days of the calendar are known to differ from those of the last sync."""
        before = self.memory.config if self.memory is not None else None
        had_days = before != rule_of(before)
        return bool(
            self.changed and not self.edited and had_days and self.template.enable
        )

    def _window(self) -> Window:
        """From the reach of a moved date, but after the template was enabled and edited, to the horizon."""
        end, memory = self.now + timedelta(hours=self.app.cfg.horizon), self.memory
        if self.since is not None:
            return self.since, end
        if memory is None:
            return self.now, end
        overlap = max(OVERLAP, timedelta(seconds=self.missed.lookback))
        floor = memory.mark if self.changed else memory.floor or memory.mark
        return max(memory.mark - overlap, floor), end

    def _scanned(self) -> Window:
        """The window, begun early enough for due times that a holiday move carries into the window's past."""
        (after, end), memory = self.window, self.memory
        if self.since is not None or memory is None:
            return self.window
        carried = min(self._carried(after.astimezone(UTC)))
        floor = memory.mark if self.edited else memory.floor or memory.mark
        least = max(carried - TICK, floor)
        return (least if carried < after else after), end

    def _carried(self, after: datetime) -> Iterator[datetime]:
        """The earliest instants at which an occurrence after an instant can be due, by the calendars of the rows."""
        template = self.template
        spare = APART if template.own_fields else timedelta(0)
        if template.heeds_calendars:
            spare += BREAK * DAY
        for timer in (template.timer, *template.calendar_timers()):
            carried = timer.moves.earliest_due_after(after, timer.zone)
            yield carried if carried == after else carried - spare

    def next_memory(self) -> Memory | None:
        """The memory of this sync; None for a disabled template, which is enabled anew later."""
        before = self.memory
        if not self.template.enable:
            return None
        if before is None:
            floor = self.since or self.now
        else:
            floor = before.mark if self.edited else before.floor or before.mark
        return Memory(self.now, self.window[1], floor, self.present)

    def occurrences(self, series: Series) -> list[Occurrence]:
        """The occurrences of a row that the window asks for."""
        (after, end), least = self.window, self.scanned[0]
        carried = []
        if least < after:
            carried = [o for o in series.moved_before(after) if o.due > least]
        return [*carried, *wanted(series, after, end)]

    # Pieces of the plan

    def pieces(self, fresh: bool, everything: bool) -> Iterator[list[Action]]:
        """The plan, piece by piece; no transaction is open in between.

        Args:
            fresh: The database has no ledger yet.
            everything: Read every row of the window.
        """
        if not self.template.enable:
            if not fresh:
                yield from self._plan_of_waiting_rows(self._plan_of_disabled)
            return
        if self.scan.own is not None:
            with snapshot(self.engine) as connection:
                self.pairs = self.scan.pairs(connection, self.scanned)
        condition, last = self._condition(fresh or everything), None
        while condition is not None:
            with snapshot(self.engine) as connection:
                found, last = self.scan.rows(connection, condition, last)
                actions = self._planned(connection, found, fresh)
            yield actions
            if last is None:
                break
        self._report_unsorted()
        if self.changed:
            yield from self._plan_of_waiting_rows(self._plan_of_unread_rows)

    def unplanned_keys(self, connection: Connection) -> Iterator[dict[str, Values]]:
        """The keys of rows in the window that no task has been planned for, piece by piece: the rows of INSERTs."""
        self.pairs = self.scan.pairs(connection, self.scanned)
        condition = self.scan.condition(self.scanned, self.pairs)
        unplanned = self.scan.unplanned(self.scanned)
        if condition is None or unplanned is None or not self.template.enable:
            return
        last = None
        while True:
            found, last = self.scan.rows(connection, condition & unplanned, last)
            yield self._values([row.key for row in self._readable(found)])
            if last is None:
                return

    def _condition(self, all_rows: bool) -> ColumnElement[bool] | None:
        """The condition of the rows that are read."""
        memory, scan = self.memory, self.scan
        whole = all_rows or self.since or self.changed
        if whole or memory is None or memory.upto is None or self.now < memory.mark:
            return scan.condition(self.scanned, self.pairs)
        after, end = self.scanned
        planned, new = (after, memory.upto), (memory.upto, end)
        found = []
        if (condition := scan.condition(planned, self.pairs)) is not None:
            unplanned = scan.unplanned(planned)
            found.append(condition if unplanned is None else condition & unplanned)
        if (condition := scan.condition(new, self.pairs)) is not None:
            found.append(condition)
        return or_(*found) if found else None

    def _plan_of_waiting_rows(
        self, planned: Callable[[Connection, list[str]], list[Action]]
    ) -> Iterator[list[Action]]:
        """The plan of all rows with pending tasks, piece by piece, each in a snapshot of its own."""
        last = ""
        while True:
            with snapshot(self.engine) as connection:
                of = (connection, self.app.name, self.name)
                keys = planned_rows.rows_that_wait(*of, last, CHUNK)
                actions = planned(connection, keys)
            yield actions
            if len(keys) < CHUNK:
                return
            last = keys[-1]

    def _plan_of_disabled(
        self, connection: Connection, keys: list[str]
    ) -> list[Action]:
        found = self._entries(connection, keys)
        return [
            action
            for key in keys
            for action in no_more_tasks(found[self.name, key], "disabled")
        ]

    def _plan_of_unread_rows(
        self, connection: Connection, keys: list[str]
    ) -> list[Action]:
        """The template was changed: the rows outside the window, too."""
        others = self._values([key for key in keys if key not in self._read_keys])
        rows = dated_rows(connection, self.template, others, self.now)
        gone = {row.key for row in rows if isinstance(row, Dated) and not row.there}
        actions = self._planned(connection, rows, fresh=False)
        return [replace(action, gone=action.row in gone) for action in actions]

    # Rows

    def _values(self, keys: Sequence[str]) -> dict[str, Values]:
        """The values of keys; a key that the model cannot read is reported, since its row is not known to be gone."""
        values = {}
        for key in keys:
            try:
                values[key] = key_value(
                    self.template.model, key, self.engine.dialect.name
                )
            except NoKey as error:
                self._problem(key, str(error))
        return values

    def _readable(self, rows: Sequence[Dated | Unreadable]) -> list[Dated]:
        """The rows that can be read; the others are reported."""
        for row in rows:
            if isinstance(row, Unreadable):
                self._problem(row.key, row.why)
        return [row for row in rows if isinstance(row, Dated)]

    def _entries(
        self, connection: Connection, keys: Sequence[str]
    ) -> Mapping[tuple[str, str], list[Entry]]:
        return planned_rows.of_rows(connection, self.app.name, [self.name], keys)

    def _planned(
        self, connection: Connection, rows: Sequence[Dated | Unreadable], fresh: bool
    ) -> list[Action]:
        """The actions for some rows."""
        actions: list[Action] = []
        for start in range(0, len(rows), CHUNK):
            part = self._readable(rows[start : start + CHUNK])
            keys = [row.key for row in part]
            known = {} if fresh else self._entries(connection, keys)
            if self.changed:
                self._read_keys.update(keys)
            for row in part:
                try:
                    actions += self._row(row, known.get((self.name, row.key), ()))
                except (ValueError, OverflowError, TypeError) as error:
                    self._problem(row.key, str(error))
        return actions

    def _row(self, row: Dated, found: Sequence[Entry]) -> list[Action]:
        series = self.template.series_of(row.times)
        if series is None:
            return no_more_tasks(found, NOT_MET)
        # A repeat is not made good for the past; a single date that an edit moved into the past is a moved date.
        waits = any(entry.status == "pending" for entry in found)
        moved = self.changed and series.listed and waits
        known = self.now if moved else self.known
        due = self.occurrences(series)
        if moved:
            due = since_moved(series, self.now, self.missed, self.window[1])
        self._log_dropped(row, series)
        if not due and not found:
            return []
        kept = dialects.kept(self.template, row.times)
        about = (self.template, row.key, series, due, found, self.now)
        counted = kept if self.template.timer.counts_workdays else None
        return plan_row(*about, known=known, times=kept, counted=counted)

    def _log_dropped(self, row: Dated, series: Series) -> None:
        if not self.known:
            return
        for item in series.dropped(self.known, self.now):
            at = f"{item.nominal:%Y-%m-%d %H:%M}"
            log.warning("%s, row %s: %s %s", self.name, row.key, at, item.note)

    def _report_unsorted(self) -> None:
        """Report texts in a date column of SQLite that no window would ever meet."""
        if (condition := self.scan.unsorted()) is not None:
            with snapshot(self.engine) as connection:
                found = self.scan.texts(connection, condition, MOST_PROBLEMS)
            for key, text in found:
                self._problem(key, f"{text!r} in {self.scan.start.key} is no date")

    def _problem(self, key: str, why: str) -> None:
        if key in self._reported:
            return
        self._reported.add(key)
        if len(self._reported) <= MOST_PROBLEMS:
            self.report.problems.append(f"{self.name}, row {key}: {why}")
        elif len(self._reported) == MOST_PROBLEMS + 1:
            self.report.problems.append(f"{self.name}: there are more such rows")


# What a template's plan depends on


def rule_of(config: str | None) -> str:
    """The part of a fingerprint that stands for e.json and app.json, without the days of the calendar."""
    return (config or "").partition("-")[0]


def fingerprint(template: Meta) -> str:
    """The fingerprint of a template.

    Two parts: the rules of e.json and app.json; and, behind `-`, the days of the calendar that the template heeds,
    which a release of `holidays` may change.
    """
    cfg, calendar = template.cfg, template.timer.calendar
    about = [
        cfg.timerCfg,
        cfg.filter,
        cfg.modelPath,
        str(template.timer.zone),
        calendar.cfg.model_dump(mode="json") if calendar else None,
    ]
    text = json.dumps(about, sort_keys=True, default=str)
    rule = hashlib.sha256(text.encode()).hexdigest()[:16]
    days = template.days_digest
    return f"{rule}-{days}" if days else rule
