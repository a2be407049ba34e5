"""The load: a web process that saves, moves and deletes rows, and makes timer tasks, while parts of the system fail."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, select

from jittask_prefect.errors import JittaskError, PrefectApiError
from jittask_prefect.task_svc.service import TaskSvc
from jittask_prefect.task_svc.wiring import App

from .journal import Date, Journal, Row, Timer
from .shop import TIMER, WAITS, WRITES

EVERY_SECONDS = 2.0  # where nothing else is said
ROWS = 3  # of an instant, in a batch
AHEAD = (2.0, 25.0)  # seconds
UNSEEN = 15.0  # beyond the time between two syncs, a date that no hook saw is further ahead: the sync finds it
EARLIER_ROW = text(
    "SELECT greatest((SELECT max(id) FROM faultrow), (SELECT max(row_id) FROM fault_effect),"
    " (SELECT max(CAST(row_key AS INTEGER)) FROM jittask_ledger"
    f" WHERE template IN ('{WRITES}', '{WAITS}') AND row_key ~ '^[0-9]+$'))"
)
# The caller of `createTimerTask` knows the task by its first flow run.
EARLIER_TASKS = text("SELECT coalesce(first_run_id, task_id) FROM jittask_ledger")
NOW = text("SELECT timezone('utc', clock_timestamp())")


class Load:
    """Goes on in a thread of its own until it is stopped.

    Args:
        app: The app of the campaign, on a connection that nobody harms.
        svc: Its facade.
        seed: Of what is done; the moments are the machine's.
        every: Seconds between two changes.
        sync: Seconds between two syncs of the system.
    """

    def __init__(
        self,
        app: App,
        svc: TaskSvc,
        seed: int,
        every: float = EVERY_SECONDS,
        sync: float = 60.0,
    ) -> None:
        self.journal = Journal()
        self.problems: list[str] = []
        self._app, self._svc, self._every = app, svc, every
        self._unseen = sync + UNSEEN
        self._random = random.Random(seed)
        self._model: Any = app.getElement("models.FaultRow")
        self._stop = threading.Event()
        self._next_id = 0
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def start(self) -> None:
        self.journal.begun = self._now()
        self._next_id = self.journal.earlier_row = self._asked(EARLIER_ROW)[0][0] or 0
        tasks = self._asked(EARLIER_TASKS)
        self.journal.earlier_tasks = frozenset(task for (task,) in tasks)
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end, and wait for its end."""
        self._stop.set()
        self._thread.join()
        self.journal.ended = self._now()

    def _go_on(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001  told with the counters
                self.problems.append(f"load: {type(error).__name__}: {error}"[:300])
            self._stop.wait(max(0.0, begun + self._every - time.monotonic()))

    def _turn(self) -> None:
        self._insert()
        chance = self._random.random()
        if chance < 0.35:
            self._change_one()
        elif chance < 0.5:
            self._timer()
        elif chance < 0.53:
            self._end_timer()

    # Rows

    def _insert(self) -> None:
        at = self._date()
        templates = [WRITES] * ROWS
        if self._random.random() < 0.5:
            templates.append(WAITS)
        rows = []
        for template in templates:
            self._next_id += 1
            rows.append(Row(self._next_id, template, [Date(at)]))
        made = [
            self._model(id=row.id, kind=_kind(row.template), at=at, done=0)
            for row in rows
        ]
        self._save(lambda session: session.add_all(made))
        kept = self._dates(rows)
        self.journal.rows |= {row.id: row for row in rows if row.id in kept}

    def _change_one(self) -> None:
        """Move or delete a row, some seconds before its date or about then; by the ORM, or by SQL that no hook sees."""
        now = self._now()
        soon = [
            row
            for row in self.journal.rows.values()
            if not row.gone and row.dates[-1].at > now - timedelta(seconds=1)
        ]
        if not soon:
            return
        row = self._random.choice(soon)
        if self._random.random() < 0.5:  # in the moment in which the task begins
            left = (row.dates[-1].at - now).total_seconds()
            self._stop.wait(min(max(0.0, left), self._every))
        hook = self._random.random() < 0.7
        at = (
            None
            if self._random.random() < 0.4
            else self._date(0 if hook else self._unseen)
        )
        self._save(self._changed(row, at, hook))
        self._note(row)

    def _changed(
        self, row: Row, at: datetime | None, hook: bool
    ) -> Callable[[Session], Any]:
        table, model = self._model.__table__, self._model
        where = table.c.id == row.id

        def by_sql(session: Session) -> None:
            statement = delete(table) if at is None else update(table).values(at=at)
            session.connection().execute(statement.where(where))

        def by_orm(session: Session) -> None:
            found = session.get(model, row.id)
            if at is None:
                session.delete(found)
            elif found is not None:
                found.at = at

        return by_orm if hook else by_sql

    def _note(self, row: Row) -> None:
        """Note the date that the row has after a change, whatever the change's answer was."""
        found = self._dates([row])
        now, last = self._now(), row.dates[-1]
        if row.id not in found:
            last.left, last.deleted = now, True
        elif found[row.id] != last.at:
            last.left = now
            row.dates.append(Date(found[row.id]))

    def _save(self, work: Callable[[Session], Any]) -> None:
        try:
            with Session(self._app.engine(), expire_on_commit=False) as session:
                work(session)
                session.commit()
        except SQLAlchemyError:
            self.journal.failed_saves += 1  # the database says what was kept

    def _dates(self, rows: list[Row]) -> dict[int, datetime]:
        """The dates of rows, as the database has them."""
        columns = self._model.id, self._model.at
        statement = select(*columns).where(self._model.id.in_([row.id for row in rows]))
        return {key: at for key, at in self._asked(statement)}

    def _date(self, later: float = 0.0) -> datetime:
        ahead = later + self._random.uniform(*AHEAD)
        return (datetime.now(UTC) + timedelta(seconds=ahead)).replace(tzinfo=None)

    # Timer tasks

    def _timer(self) -> None:
        due = datetime.now(UTC) + timedelta(seconds=self._random.uniform(*AHEAD))
        timer = Timer(due)
        try:
            about = (TIMER, due, "customFunc", "tasks.FaultPlainType")
            timer.task = self._svc.createTimerTask(*about)["taskId"]
        except PrefectApiError:
            timer.refused = True
        except JittaskError:
            self.journal.failed_saves += 1
        self.journal.timers.append(timer)

    def _end_timer(self) -> None:
        now = datetime.now(UTC)
        for timer in self.journal.timers[-10:]:
            if timer.task and not timer.asked_to_end and timer.due > now:
                timer.asked_to_end = True
                try:
                    changed = self._svc.forcedEnd(timer.task)["changed"]
                except JittaskError:
                    return
                timer.ended = self._now() if changed else None
                return

    # The database, until it answers

    def _now(self) -> datetime:
        """The database's clock, in UTC without a zone."""
        found: datetime = self._asked(NOW)[0][0]
        return found

    def _asked(self, statement: Any) -> list[Any]:
        while True:
            try:
                with self._app.engine().connect() as connection:
                    return list(connection.execute(statement))
            except SQLAlchemyError:
                time.sleep(0.2)


def _kind(template: str) -> str:
    return "waits" if template == WAITS else "writes"
