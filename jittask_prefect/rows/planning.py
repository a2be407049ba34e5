"""Reading for a plan: rows and ledger of one moment → the actions of every template, in pieces of bounded size.

A sync does not look at every row of its window again. What the ledger has planned from the dates that a row has now
stands; so the database is asked for the rows of which that is not so, and of a repeat for what has come within the
horizon since the last sync. Everything is looked at where the template was changed, and in a dry run.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Engine, func, or_, select
from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.elements.app import DEFAULT, App, check_rows
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import ConfigError, JittaskError
from jittask_prefect.ledger import planned_rows, versions, watermarks
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.tables import entries
from jittask_prefect.rows import dialects, scan
from jittask_prefect.rows.plan import (
    NOT_MET,
    Action,
    Report,
    plan_row,
    since_moved,
    wanted,
)
from jittask_prefect.rows.scan import (
    CHUNK,
    PIECE,
    TICK,
    Dated,
    Scan,
    Unreadable,
    Window,
)
from jittask_prefect.schedule.timer import Occurrence, Series

OVERLAP = timedelta(
    minutes=10
)  # at least: a transaction that was open during the last sync commits an earlier date
MOST_PROBLEMS = 20
log = logging.getLogger("jittask")


@dataclass
class Piece:
    """Some actions of a template, to be applied before the next piece is asked for."""

    template: str
    model: str
    actions: list[Action]


def plan(app: App, now: datetime, since: datetime | None = None) -> Report:
    """What a sync would do with the rows, `skip` (nothing) included; reads only, and needs no server.

    Args:
        app: The app.
        now: The present instant.
        since: Start of the window, instead of the last sync.
    """
    report = Report()
    for database in app.databases():
        for piece in pieces(app, database, now, since, report, everything=True):
            report.actions += piece.actions
    report.actions.sort(key=lambda a: (a.template, a.due, a.row))
    report.changes = sum(a.action != "skip" for a in report.actions)
    return report


def pieces(
    app: App,
    database: str,
    now: datetime,
    since: datetime | None,
    report: Report,
    *,
    everything: bool = False,
) -> Iterator[Piece]:
    """The plan of one database, piece by piece; no transaction is open in between.

    Args:
        app: The app.
        database: Its name in app.json.
        now: The present instant.
        since: Start of the window, instead of the last sync.
        report: Takes what could not be looked at.
        everything: Look at every row of the window.
    """
    templates = templates_of(app, database, report)
    try:
        with app.engine(database).connect() as connection:
            fresh = not versions.there(connection)
            known = {} if fresh else watermarks.memories(connection, app.name)
            orphans = (
                [] if fresh else _orphans(app, database, connection, templates, report)
            )
    except (SQLAlchemyError, ImportError, JittaskError) as error:
        if database == DEFAULT:
            raise
        report.down.add(database)
        report.problems.append(f"database {database}: {type(error).__name__}: {error}")
        return
    for template in templates:
        memory = known.get(template.fullName)
        try:
            one = Look(app, template, app.engine(database), now, since, memory, report)
            moved: set[str] = set()
            for actions in one.pieces(fresh, everything):
                moved.update(
                    a.row
                    for a in actions
                    if one.other_days and a.action in ("reschedule", "end")
                )
                yield Piece(template.fullName, template.model_name, actions)
            if one.other_days:
                of = template.timer.moves.calendar.label
                said = (
                    f"the tasks of {len(moved)} rows are planned anew"
                    if moved
                    else "no task is due otherwise by that"
                )
                report.calendars.append(
                    f"{template.fullName}: the days of the calendar {of} have changed; {said}"
                )
        except Exception as error:  # noqa: BLE001  whatever a driver or a model makes of a row
            report.failed.add(template.fullName)
            report.problems.append(
                f"{template.fullName}: {type(error).__name__}: {error}"
            )
    if orphans:
        yield Piece("", "", orphans)


def templates_of(app: App, database: str, report: Report) -> list[DateFieldType]:
    """The date-field templates whose rows are in a database; of those that are wrong the report tells."""
    found = []
    for template in app.templates():
        if not isinstance(template, DateFieldType):
            continue
        try:
            check_rows(template)
            if app.database_of(template.model_name) == database:
                found.append(template)
        except ConfigError as error:
            if database == DEFAULT:
                report.problems.append(f"{template.fullName}: {error}")
    return found


class Look:
    """The look at the rows of one template; its trouble with the database must not keep the others from working."""

    def __init__(
        self,
        app: App,
        template: DateFieldType,
        engine: Engine,
        now: datetime,
        since: datetime | None,
        memory: watermarks.Memory | None,
        report: Report,
    ) -> None:
        self.app, self.template, self.now, self.report = app, template, now, report
        self.name, self.missed = template.fullName, template.cfg.missed
        self.engine = engine
        self.scan = Scan(template, now, engine.dialect.name)
        self.memory, self.since = memory, since
        present = fingerprint(template)
        self.edited = memory is not None and rule_of(memory.config) != rule_of(present)
        self.changed = memory is not None and memory.config != present
        self.known = None if since or memory is None else memory.mark
        self.window = self._window()
        self.seen: set[str] = set()
        self.told: set[str] = set()

    @property
    def other_days(self) -> bool:
        """Whether it is known that only the days of the calendar differ from those of the last sync."""
        before = self.memory.config if self.memory is not None else None
        return bool(
            self.changed
            and not self.edited
            and before != rule_of(before)
            and self.template.enable
        )

    def _window(self) -> Window:
        """As far back as a moved date counts, but neither before the template was enabled nor before it was edited."""
        end, memory = self.now + timedelta(hours=self.app.cfg.horizon), self.memory
        if self.since is not None:
            return self.since, end
        if memory is None:
            return self.now, end
        overlap = max(OVERLAP, timedelta(seconds=self.missed.lookback))
        return max(
            memory.mark - overlap,
            memory.mark if self.changed else memory.floor or memory.mark,
        ), end

    @property
    def _scanned(self) -> Window:
        """The window, and before it what a holiday move may have carried there from a day that lies in it."""
        after, end = self.window
        if self.since is not None or self.memory is None:
            return self.window
        carried = self.template.timer.moves.earliest_due_after(
            after.astimezone(UTC), self.template.timer.zone
        )
        floor = (
            self.memory.mark if self.edited else self.memory.floor or self.memory.mark
        )
        least = max(carried - TICK, floor)
        return (least if carried < after else after), end

    def pieces(self, fresh: bool, everything: bool) -> Iterator[list[Action]]:
        if not self.template.enable:
            if not fresh:
                yield from self._disabled()
            return
        condition, last = self._condition(fresh or everything), None
        while condition is not None:
            with snapshot(self.engine) as connection:
                found, last = self.scan.rows(connection, condition, last)
                actions = self._planned(connection, found, fresh)
            yield actions
            if last is None:
                break
        self._unsorted()
        if self.changed:
            yield from self._left()

    def of_statements(
        self, connection: Connection, keys: Sequence[str], *, new: bool
    ) -> Iterator[list[Action]]:
        """What follows for rows from statements of a transaction that is about to commit.

        Args:
            connection: The transaction's.
            keys: Of the rows that were changed, or deleted.
            new: Rows were made as well: all that no task has been planned for are looked at.
        """
        if not self.template.enable:
            return  # the next sync ends what is open
        self.known = self.now  # what is due in the past is so from now on
        for start in range(0, len(keys), CHUNK):
            rows = self._of_keys(connection, keys[start : start + CHUNK])
            yield self._planned(connection, rows, fresh=False)
            planned_rows.end_lives(
                connection,
                self.app.name,
                [(self.name, key) for key in self._gone(connection, rows)],
            )
        condition, last = self.scan.condition(self._scanned) if new else None, None
        unplanned = self.scan.unplanned(self._scanned)
        while condition is not None and unplanned is not None:
            found, last = self.scan.rows(connection, condition & unplanned, last)
            yield self._planned(connection, found, fresh=False)
            if last is None:
                break

    def _of_keys(
        self, connection: Connection, keys: Sequence[str]
    ) -> list[Dated | Unreadable]:
        """The rows of some keys; those that are gone, or do not meet the filter, without a date."""
        rows = self.scan.of_keys(connection, keys)
        there = {row.key for row in rows}
        return rows + [Dated(key, None, None) for key in keys if key not in there]

    def _gone(
        self, connection: Connection, rows: Sequence[Dated | Unreadable]
    ) -> list[str]:
        """Those of some rows that are not in the table any more."""
        absent = [
            row.key for row in rows if isinstance(row, Dated) and row.start is None
        ]
        return scan.gone(connection, self.template.model, absent) if absent else []

    def _condition(self, all_rows: bool) -> ColumnElement[bool] | None:
        """Which rows are looked at."""
        memory, of = self.memory, self.scan
        if (
            all_rows
            or self.since
            or memory is None
            or memory.upto is None
            or self.changed
            or self.now < memory.mark
        ):
            return of.condition(self._scanned)
        after, end = self._scanned
        repeats = self.template.timer.cfg.repeat.repeat_type != "normal"
        planned = (after, memory.upto if repeats else end)
        found = []
        if (condition := of.condition(planned)) is not None:
            new = of.unplanned(planned)
            found.append(condition if new is None else condition & new)
        if repeats and (condition := of.condition((memory.upto, end))) is not None:
            found.append(condition)
        return or_(*found) if found else None

    def _disabled(self) -> Iterator[list[Action]]:
        last = ""
        while True:
            with self.engine.connect() as connection:
                keys = planned_rows.rows_that_wait(
                    connection, self.app.name, self.name, last, CHUNK
                )
                found = planned_rows.of_rows(
                    connection, self.app.name, [self.name], keys
                )
            actions: list[Action] = []
            for key in keys:
                actions += self._plan(
                    key, None, (), found[self.name, key], gone="disabled"
                )
            yield actions
            if len(keys) < CHUNK:
                return
            last = keys[-1]

    def _left(self) -> Iterator[list[Action]]:
        """The template is not what it was: every other row that has an open task."""
        last = ""
        while True:
            with snapshot(self.engine) as connection:
                keys = planned_rows.rows_that_wait(
                    connection, self.app.name, self.name, last, CHUNK
                )
                others = [key for key in keys if key not in self.seen]
                rows = self._of_keys(connection, others)
                gone = self._gone(connection, rows)
                actions = [
                    replace(action, gone=action.row in gone)
                    for action in self._planned(connection, rows, fresh=False)
                ]
            yield actions
            if len(keys) < CHUNK:
                return
            last = keys[-1]

    def _planned(
        self, connection: Connection, rows: Sequence[Dated | Unreadable], fresh: bool
    ) -> list[Action]:
        """The actions for some rows."""
        actions: list[Action] = []
        for start in range(0, len(rows), CHUNK):
            part: list[Dated] = []
            for row in rows[start : start + CHUNK]:
                if isinstance(row, Unreadable):
                    self._problem(row.key, row.why)
                else:
                    part.append(row)
            keys = [row.key for row in part]
            known = (
                {}
                if fresh
                else planned_rows.of_rows(connection, self.app.name, [self.name], keys)
            )
            if self.changed:
                self.seen.update(keys)
            for row in part:
                try:
                    actions += self._row(row, known.get((self.name, row.key), ()))
                except (ValueError, OverflowError, TypeError) as error:
                    self._problem(row.key, str(error))
        return actions

    def _row(self, row: Dated, found: Sequence[Entry]) -> list[Action]:
        series = (
            None
            if row.start is None
            else self.template.timer.series(row.start, row.end)
        )
        # A series that goes on is not made good for the past; a single date that an edit moved there is a moved date.
        single = self.template.timer.cfg.repeat.repeat_type == "normal"
        moved = self.changed and single and any(e.status == "pending" for e in found)
        due = self._due(series, moved) if series else []
        for item in (
            series.dropped(self.known, self.now) if series and self.known else ()
        ):
            log.warning(
                "%s, row %s: %s %s",
                self.name,
                row.key,
                f"{item.nominal:%Y-%m-%d %H:%M}",
                item.note,
            )
        if not due and not found:
            return []
        return self._plan(
            row.key,
            row,
            due,
            found,
            series=series,
            known=self.now if moved else self.known,
        )

    def _due(self, series: Series, moved: bool) -> list[Occurrence]:
        """Those of a row's occurrences that are looked at."""
        after, end = self.window
        if moved:
            return since_moved(series, False, self.now, self.missed, end)
        least = self._scanned[0]
        carried = (
            [o for o in series.moved_before(after) if o.due > least]
            if least < after
            else []
        )
        return [*carried, *wanted(series, after, end)]

    def _plan(
        self,
        key: str,
        row: Dated | None,
        due: Sequence[Occurrence],
        found: Sequence[Entry],
        *,
        series: Series | None = None,
        known: datetime | None = None,
        gone: str = NOT_MET,
    ) -> list[Action]:
        dates = (
            None
            if row is None or series is None
            else dialects.dates(self.template, row.start, row.end)
        )
        name, missed = self.name, self.missed
        return plan_row(
            self.app.name,
            name,
            key,
            series,
            due,
            found,
            self.now,
            missed,
            gone=gone,
            known=known,
            dates=dates,
        )

    def _unsorted(self) -> None:
        """Report texts in a date column of SQLite that no window would ever meet."""
        if (condition := self.scan.unsorted()) is not None:
            with snapshot(self.engine) as connection:
                for key, text in self.scan.texts(connection, condition, MOST_PROBLEMS):
                    self._problem(key, f"{text!r} in {self.scan.start.key} is no date")

    def _problem(self, key: str, why: str) -> None:
        if key in self.told:
            return
        self.told.add(key)
        if len(self.told) <= MOST_PROBLEMS:
            self.report.problems.append(f"{self.name}, row {key}: {why}")
        elif len(self.told) == MOST_PROBLEMS + 1:
            self.report.problems.append(f"{self.name}: there are more such rows")


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """Rows and ledger are read as of one moment: a row as it was before a save would undo what the save planned."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        elif engine.dialect.name == "sqlite":
            connection.exec_driver_sql(
                "BEGIN"
            )  # the driver itself begins with the first write only
        yield connection


def _orphans(
    app: App,
    database: str,
    connection: Connection,
    here: list[DateFieldType],
    report: Report,
) -> list[Action]:
    """Open tasks of templates that are known to be gone, or to have their rows elsewhere.

    Those of a template that cannot be read wait until it can; the report says so.
    """
    mine = {t.fullName for t in here}
    ended = {
        name: why
        for name in _templates(connection)
        if name not in mine and (why := _ended(app, database, name))
    }
    waits = (entries.c.status == "pending", entries.c.row_key != "")
    query = select(entries).where(*waits, entries.c.template.in_(ended))
    if broken := [
        name
        for name in _templates(connection)
        if name not in mine and name not in ended
    ]:
        count = select(entries.c.template, func.count()).where(
            *waits, entries.c.template.in_(broken)
        )
        for name, number in connection.execute(count.group_by(entries.c.template)):
            if (fault := app.fault(name)) is not None:
                report.problems.append(
                    f"{name} is broken, and {number} open tasks wait until it is mended: {fault.reason}"
                )
    return [
        Action(
            "end",
            r.template,
            r.row_key,
            r.task_id,
            r.due,
            ended[r.template],
            r.nominal,
            r.anchor,
            r.generation,
        )
        for r in (connection.execute(query.limit(PIECE)) if ended else ())
    ]


def _ended(app: App, database: str, name: str) -> str | None:
    """Why the open tasks of a template, whose rows are not planned here, end; None where that is not known."""
    try:
        template = app.template(name)
        if (
            isinstance(template, DateFieldType)
            and app.database_of(template.model_name) == database
        ):
            return None  # its model or its filter is broken
    except JittaskError:
        return "the template was removed" if app.gone(name) else None
    rows = isinstance(template, DateFieldType)
    return (
        "the template's rows are in another database now"
        if rows
        else "the template is of no rows any more"
    )


def _templates(connection: Connection) -> Iterator[str]:
    """The templates that the ledger names, each by a step into an index, however many entries it has."""
    last = ""
    while last is not None:
        query = select(func.min(entries.c.template)).where(entries.c.template > last)
        if (last := connection.execute(query).scalar_one()) is not None:
            yield last


def rule_of(config: str | None) -> str:
    """The part of a fingerprint that says what is written in the app, without the days of the calendar."""
    return (config or "").partition("-")[0]


def fingerprint(template: Meta) -> str:
    """What of a template decides when its tasks are due, as a short text that changes with it.

    Two parts: what e.json and app.json say; and, behind `-`, the days of the calendar that it heeds, which a release of
    `holidays` may change.
    """
    cfg, calendar = template.cfg, template.timer.calendar
    about = [
        cfg.timerCfg,
        cfg.filter,
        cfg.modelPath,
        str(template.timer.zone),
        calendar.cfg.model_dump(mode="json") if calendar else None,
    ]
    rule = hashlib.sha256(
        json.dumps(about, sort_keys=True, default=str).encode()
    ).hexdigest()[:16]
    return (
        f"{rule}-{template.timer.moves.digest}" if template.timer.moves.active else rule
    )
