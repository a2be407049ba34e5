"""The counters, by what the database has in the end: the effects of each row and task, and the ledger's states."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, create_engine, text

from .journal import Journal, Row
from .shop import MINUTE, TIMER

COUNTERS = ("Lost", "Dup", "Stale", "Ghost")
# A task that began as its row changed is right; so is a statement on its way meanwhile.
MARGIN = timedelta(seconds=1)
EFFECTS = text(
    "SELECT task_id, template, row_id, at, timezone('utc', due) AS due, timezone('utc', began) AS began"
    " FROM fault_effect ORDER BY seq"
)
LEDGER = text(
    "SELECT coalesce(first_run_id, task_id) AS task_id, template, row_key, due, status, outcome, attempt, message"
    " FROM jittask_ledger"
)
DONE = text("SELECT id, done FROM faultrow")


@dataclass
class Verdict:
    """The counters, and a sentence for each difference."""

    counts: Counter[str] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)
    effects: int = 0
    died: int = 0

    def fail(self, counter: str, text_: str) -> None:
        self.counts[counter] += 1
        self.found.append(f"{counter}: {text_}")


def judge(url: str, journal: Journal, until: datetime) -> Verdict:
    """Count the differences between what the load has done and what came of it.

    Args:
        url: The app's database.
        journal: The load's.
        until: The instant up to which all tasks are to be done, in UTC without a zone.
    """
    engine = create_engine(url)
    with engine.connect() as connection:
        case = _Case(connection, journal, until)
    engine.dispose()
    case.rows()
    case.timers()
    case.minutes()
    case.open_tasks()
    return case.verdict


class _Case:
    """What is compared."""

    def __init__(
        self, connection: Connection, journal: Journal, until: datetime
    ) -> None:
        self.verdict = Verdict()
        self._journal, self._until = journal, until
        self._effects = [
            effect
            for effect in connection.execute(EFFECTS)
            if effect.row_id is None or effect.row_id > journal.earlier_row
        ]
        self._ledger = {task.task_id: task for task in connection.execute(LEDGER)}
        self._done = {key: done for key, done in connection.execute(DONE)}
        self.verdict.effects = len(self._effects)

    def rows(self) -> None:
        """Each date of a row has one effect, unless the row left the date before."""
        by_date: defaultdict[tuple[int, datetime], list[Any]] = defaultdict(list)
        by_row: Counter[int] = Counter()
        for effect in self._effects:
            if effect.row_id is not None:
                by_date[effect.row_id, effect.at].append(effect)
                by_row[effect.row_id] += 1
        for row in self._journal.rows.values():
            self._dates(row, by_date)
            done = self._done.get(row.id)
            if done is not None and done != by_row[row.id]:
                self._fail(
                    "Dup", f"row {row.id}: done {done}, effects {by_row[row.id]}"
                )
        for key in by_date:
            self._fail(
                "Stale", f"row {key[0]} had an effect of {key[1]}, not a date of it"
            )

    def _dates(self, row: Row, by_date: dict[tuple[int, datetime], list[Any]]) -> None:
        for date in row.dates:
            effects = by_date.pop((row.id, date.at), [])
            about = f"{row.template} row {row.id}, due {date.at}"
            if len(effects) > 1:
                self._fail("Dup", f"{about}: {len(effects)} effects")
            if not effects and date.left is None and date.at <= self._until:
                self._fail("Lost", f"{about}: {self._tasks_of(row.id)}")
            for effect in effects:
                if effect.due != date.at:
                    self._fail("Stale", f"{about}: its task was due {effect.due}")
                elif date.left is not None and effect.began > date.left + MARGIN:
                    counter = "Ghost" if date.deleted else "Stale"
                    at = f"began {effect.began}, and the row had left {date.left}"
                    self._fail(counter, f"{about}: {at}")

    def timers(self) -> None:
        """A timer task runs, and again only after its worker died."""
        by_task = Counter(e.task_id for e in self._effects if e.template == TIMER)
        known = {timer.task for timer in self._journal.timers}
        known |= self._journal.earlier_tasks
        for timer in self._journal.timers:
            if timer.task is None:
                continue
            effects, entry = by_task[timer.task], self._ledger.get(timer.task)
            about = f"timer {timer.task}, due {timer.due}: {entry}"
            attempts = entry.attempt if entry else 1
            if effects > attempts:
                self._fail("Dup", f"{about}, {effects} effects")
            if (
                not effects
                and not timer.asked_to_end
                and _naive(timer.due) <= self._until
            ):
                self._fail("Lost", about)
            if effects and timer.ended and not (entry and attempts > 1):
                self._fail("Ghost", f"{about}, ended {timer.ended}")
        refused = sum(timer.refused for timer in self._journal.timers)
        unknown = [task for task in by_task if task not in known]
        for task in unknown[: max(0, len(unknown) - self._uncertain())]:
            self._fail(
                "Ghost", f"timer {task}: nobody made the task; {refused} refused"
            )

    def _uncertain(self) -> int:
        """Calls of `createTimerTask` whose database gave no answer: the task may be there."""
        return sum(t.task is None and not t.refused for t in self._journal.timers)

    def minutes(self) -> None:
        """A run of each minute has an effect, at most one; none where its worker died, since it has no retry."""
        effects = Counter(e.due for e in self._effects if e.template == MINUTE)
        tasks = {t.due: t for t in self._ledger.values() if t.template == MINUTE}
        for due in self._minutes():
            entry = tasks.get(due)
            if effects[due] > 1:
                self._fail("Dup", f"minute {due}: {effects[due]} effects")
            if effects[due]:
                continue
            if entry is not None and entry.status == "error":
                self.verdict.died += 1
            else:
                self._fail("Lost", f"minute {due}: {entry}")

    def _minutes(self) -> Iterator[datetime]:
        begun = self._journal.begun
        assert begun is not None
        minute = begun.replace(second=0, microsecond=0) + timedelta(minutes=2)
        while minute <= self._until:
            yield minute
            minute += timedelta(minutes=1)

    def open_tasks(self) -> None:
        """Nothing is at work any more, and nothing that is due waits."""
        for task in self._ledger.values():
            due = task.status == "pending" and task.due <= self._until
            if task.status == "executing" or due:
                self._fail("Ghost", f"still {task.status}: {task}")

    def _tasks_of(self, row: int) -> list[Any]:
        return [t for t in self._ledger.values() if t.row_key == str(row)]

    def _fail(self, counter: str, text_: str) -> None:
        self.verdict.fail(counter, text_)


def _naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)
