"""Rows and ledger entries → actions; pure. Planning again after a plan was applied finds nothing to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo

from jittask_prefect.elements.config import Missed
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.ledger.entry import Entry, identity
from jittask_prefect.ledger.planned_rows import KeptTimes, counted_anew, kept_times
from jittask_prefect.ledger.twins import DONE
from jittask_prefect.rows.lateness import not_to_run
from jittask_prefect.rows.level_tasks import stands
from jittask_prefect.rows.row_tasks import RowTasks
from jittask_prefect.schedule.instants import EARLIEST
from jittask_prefect.schedule.timer import Occurrence, Series

MOST_ACTIONS = 10_000
NOT_MET = "the row has no date, or the filter is not met"
TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Action:
    """A step of a plan.

    Attributes:
        action: `create`, `reschedule` (create, and end the replaced tasks), `end`, or `skip` (nothing to do).
        task_id: The task of the action; for `reschedule` the new task.
        closes: The ids of the pending tasks that a `reschedule` ends.
        missed: The task is recorded as missed instead of being run.
        times: The row's values that the task was planned from; for `skip` only new ones.
        again: The dates that other tasks of the row were planned from must not count any more.
        gone: The row is gone: its tasks bind no later row of that key.
        level: The name of the offset that the occurrence comes from, where the template has several.
    """

    action: str
    template: str
    row: str
    task_id: str
    due: datetime
    reason: str
    nominal: datetime | None = None
    anchor: datetime | None = None
    generation: int = 0
    closes: tuple[str, ...] = ()
    missed: bool = False
    times: KeptTimes | None = None
    again: bool = False
    gone: bool = False
    level: str | None = None

    @property
    def makes(self) -> bool:
        """Whether a task is made."""
        return self.action in ("create", "reschedule")

    @property
    def zone(self) -> tzinfo | None:
        """The zone of the row, in which a new task is due; None of any other action."""
        return self.due.tzinfo if self.makes else None

    def as_dict(self) -> dict[str, str]:
        """The action as `jittask sync --json` prints it."""
        return {
            "fullName": self.template,
            "row": self.row,
            "taskId": self.task_id,
            "dueTime": self.due.isoformat(),
            "action": self.action,
            "reason": self.reason,
            **({"level": self.level} if self.level else {}),
        }


@dataclass
class Report:
    """The plan and the work of a sync.

    Attributes:
        actions: The plan, by template and due time; of a sync its changes, the first MOST_ACTIONS of them.
        changes: How many actions changed something.
        problems: Rows, templates and databases that could not be read; everything else went on.
        down: The databases that do not answer, or have no ledger.
        created: Flow runs that exist now because of this sync.
        ended: Flow runs that were cancelled because their task is closed.
        died: Tasks that ended outside an execution (the worker died, or somebody cancelled the run in Prefect), with
            their database: `afterReturn` is still to be called.
        calendars: Calendars whose days differ from those of the last sync, and the effect; sentences.
        deployments: Deployments that were renewed, restored or corrected, a sentence each.
    """

    actions: list[Action] = field(default_factory=list)
    changes: int = 0
    problems: list[str] = field(default_factory=list)
    down: set[str] = field(default_factory=set)
    created: int = 0
    ended: int = 0
    died: list[tuple[str, Entry]] = field(default_factory=list)
    calendars: list[str] = field(default_factory=list)
    deployments: list[str] = field(default_factory=list)

    def note(self, actions: Sequence[Action]) -> None:
        """Count the changes, and keep the first of them."""
        done = [action for action in actions if action.action != "skip"]
        self.changes += len(done)
        self.actions += done[: MOST_ACTIONS - len(self.actions)]


# Which occurrences are planned


def wanted(series: Series, after: datetime, before: datetime) -> list[Occurrence]:
    """The occurrences of a row that are due in (after, before]."""
    return list(series.between(after + TICK, before + TICK))


def since_moved(
    series: Series, now: datetime, missed: Missed, before: datetime
) -> list[Occurrence]:
    """The occurrences up to an instant of a row whose date moved: past ones are due at once, or recorded as missed.

    The past reaches back by `lookback`, and covers occurrences that a holiday move has carried out of it from a later
    day. Of a list of dates (a single date and levels are such a list), the last date before is recorded where none is due
    in that past.
    """
    start = now - timedelta(seconds=missed.lookback) - TICK
    if not series.listed:
        return [*series.moved_before(start), *wanted(series, start, before)]
    dates = list(series.between(EARLIEST, before + TICK))
    known = [o for o in dates if o.due > start or o.nominal > start]
    if any(o.due <= now for o in known):
        return known
    return [*[o for o in dates if o not in known][-1:], *known]


def plan_row(
    template: DateFieldType,
    row: str,
    series: Series,
    occurrences: Sequence[Occurrence],
    entries: Sequence[Entry],
    now: datetime,
    *,
    known: datetime | None = None,
    times: KeptTimes | None = None,
    counted: KeptTimes | None = None,
) -> list[Action]:
    """The actions for a row and a template.

    Args:
        template: The template.
        row: The row's key.
        series: The row's series as the row is now.
        occurrences: Those of its occurrences that the caller asks about (`wanted`, `since_moved`).
        entries: All ledger entries of this row and template.
        now: The present instant.
        known: An occurrence due until then that is not in the ledger became due by a change of the row: never
            late, however long ago its due time is.
        times: The row's values as the ledger keeps them; without dates where `occurrences` are not all that the next
            sync will ask for.
        counted: Of a timer that counts working days, the row's values as the ledger keeps them.

    Returns:
        Actions, in the order of due times.
    """
    shut = series.windows.opening(_utc(now)) != now
    of_late = (now, template.cfg.missed, known)
    if not entries:  # as each row of a first sync: nothing to compare with
        late = not_to_run(occurrences, *of_late, (), shut)
        new = _Maker(template, row, series, 1, 1, (), (), late, times)
        made = [new.task(o, "create", _why(o, now)) for o in occurrences]
        return sorted(made, key=lambda a: a.due)

    if counted is not None:
        entries = counted_anew(entries, counted, series.starts_of)
    there = RowTasks.of(series, entries)
    moved = _moved(series, there.waiting_of_present_date, occurrences)
    if moved:
        occurrences = sorted([*occurrences, *moved], key=lambda o: _utc(o.due))
    by_calendar = {_utc(o.due) for o in moved}
    late = not_to_run(occurrences, *of_late, by_calendar, shut)
    ids = (there.base, there.fresh, there.taken, there.busy)
    maker = _Maker(template, row, series, *ids, late, times)

    known_tasks = [there.of_occurrence(o) for o in occurrences]
    pairs = zip(occurrences, known_tasks, strict=True)
    actions = [maker.action(o, same, now) for o, same in pairs]
    kept = {same.task_id for same in known_tasks if same is not None}
    left = there.left(kept)
    actions = [_paired(a, left) for a in actions]
    actions += [ending(e, "no longer an occurrence of the row") for e in left]
    actions += [ending(e, DONE) for e in there.twice]
    return _forgetting(sorted(actions, key=lambda a: a.due), entries)


def _why(occurrence: Occurrence, now: datetime) -> str:
    """Why an occurrence that the ledger does not know is planned."""
    return "due within the horizon" if occurrence.due > now else "already due"


@dataclass(slots=True)
class _Maker:
    """Makes the new tasks of a row.

    Attributes:
        template: The template.
        row: The row's key.
        series: The row's series as the row is now.
        base: The generation of tasks from the row's present dates.
        fresh: A generation that no task has.
        taken: The nominal times and generations of all tasks.
        busy: The due times of open tasks.
        late: Why occurrences are not to run, by due time.
        times: The row's values as the ledger keeps them.
    """

    template: DateFieldType
    row: str
    series: Series
    base: int
    fresh: int
    taken: Collection[tuple[datetime | None, int]]
    busy: Collection[datetime]
    late: Mapping[datetime, str]
    times: KeptTimes | None

    def action(self, o: Occurrence, same: Entry | None, now: datetime) -> Action:
        """The action for an occurrence, and for its task in the ledger."""
        due = _utc(o.due)
        if same is None:
            return self.task(o, "create", _why(o, now))
        if same.status == "pending" and (same.due, same.level) != (due, o.level):
            reason = _was(same, o.due) if same.due != due else _was_level(same)
            return self.task(o, "reschedule", reason, (same.task_id,), True)
        # Missed, and yet to come: another clock was in use then (`--now`, a database restored).
        yet_to_come = same.outcome == "missed" and o.due > now
        if same.outcome == "superseded" or yet_to_come:
            return self.task(o, "create", "is due again", again=True)
        return _skip(same, self.times)

    def task(
        self,
        o: Occurrence,
        action: str,
        reason: str,
        closes: tuple[str, ...] = (),
        again: bool = False,
    ) -> Action:
        due = _utc(o.due)
        nominal = due if o.nominal is o.due else _utc(o.nominal)
        # Two tasks of one instant differ in their generation: the later task asks for the other before it begins.
        another = again or (nominal, self.base) in self.taken or due in self.busy
        generation = self.fresh if another else self.base
        name = self.template.fullName
        missed = self.late.get(due)
        moved = f"; moved by {o.moved}" if o.moved else ""
        return Action(
            action,
            name,
            self.row,
            identity(self.template.app.name, name, self.row, nominal, generation),
            o.due,
            missed or reason + moved,
            o.nominal,
            self.series.starts_of(o.level)[0],
            generation,
            closes,
            missed is not None,
            self.times,
            level=o.level,
        )


def no_more_tasks(entries: Sequence[Entry], reason: str = NOT_MET) -> list[Action]:
    """The end of all pending tasks of a row."""
    waiting = [e for e in entries if e.status == "pending"]
    return _forgetting([ending(e, reason) for e in waiting], entries)


def ending(entry: Entry, reason: str, action: str = "end") -> Action:
    """The end of a task."""
    return Action(
        action,
        entry.template,
        entry.row_key,
        entry.task_id,
        entry.due,
        reason,
        entry.nominal,
        entry.anchor,
        entry.generation,
        level=entry.level,
    )


def _skip(entry: Entry, times: KeptTimes | None) -> Action:
    reasons = {
        "pending": "is planned",
        "executing": "is executing",
        "completed": "was done",
        "error": "was tried and failed",
    }
    reason = reasons.get(entry.status, entry.message or "was ended")
    known = times is None or times.start is None or times == kept_times(entry)
    return replace(ending(entry, reason, "skip"), times=None if known else times)


def _moved(
    series: Series, waiting: Sequence[Entry], occurrences: Sequence[Occurrence]
) -> list[Occurrence]:
    """The occurrences of tasks that another calendar moves: a task keeps its nominal time, also out of the window."""
    there = {_utc(o.nominal) for o in occurrences}
    found = [
        series.at_nominal(e.nominal)
        for e in waiting
        if e.nominal is not None and e.nominal not in there and not stands(e, series)
    ]
    return [o for o in found if o is not None]


def _forgetting(actions: list[Action], entries: Sequence[Entry]) -> list[Action]:
    """The actions, marked where a row may come back to dates that tasks which are over were planned from."""
    closing = {a.task_id for a in actions if a.action == "end"}
    closing.update(*(a.closes for a in actions))
    if all(e.start_value is None or e.task_id in closing for e in entries):
        return actions
    return [
        replace(a, again=True)
        if a.action == "end" or (a.makes and a.generation > 1)
        else a
        for a in actions
    ]


def _utc(instant: datetime) -> datetime:
    """The instant in UTC: in a repeated hour, datetimes of different zones never compare as equal (PEP 495)."""
    return instant.astimezone(UTC)


def _was(entry: Entry, due: datetime) -> str:
    """When a task was due, in the zone of its new due time, which is the task's."""
    return f"was due {entry.due.astimezone(due.tzinfo):%Y-%m-%d %H:%M}"


def _was_level(entry: Entry) -> str:
    """Which level a task was of, whose offset has another name now."""
    return f"was level {entry.level}" if entry.level else "had no level"


def _paired(action: Action, left: list[Entry]) -> Action:
    """A new task as the `reschedule` of an ended task, taken from those left; other actions as they are."""
    if action.action != "create" or not left:
        return action
    old = left.pop(0)
    reason = action.reason if action.missed else _was(old, action.due)
    return replace(action, action="reschedule", closes=(old.task_id,), reason=reason)
