"""Rows and ledger entries → actions; pure. Applying a plan and planning again gives nothing to do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile

from jittask_prefect.elements.config import Missed
from jittask_prefect.ledger.entry import Entry, identity
from jittask_prefect.ledger.tables import OPEN
from jittask_prefect.ledger.twins import DONE
from jittask_prefect.schedule.timer import Occurrence, Series

MOST = 10_000
NOT_MET = "the row has no date, or the filter is not met"


Dates = tuple[datetime | None, datetime | None]


@dataclass(frozen=True, slots=True)
class Action:
    """One step of a plan.

    Attributes:
        action: `create`, `reschedule` (create, and close what it replaces), `end`, or `skip` (nothing to do).
        task_id: The task that the action is about; for `reschedule` the new one.
        closes: The ids of the open tasks that it closes.
        missed: The task is recorded as missed instead of being run.
        dates: The row's dates that it was planned from, as the ledger keeps them; for `skip` where it has others.
        again: Other tasks of the row say from which dates they were planned, and that must not count any more.
        gone: The row is known to be gone: what its tasks did binds no later row of that key.
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
    dates: Dates | None = None
    again: bool = False
    gone: bool = False

    def as_dict(self) -> dict[str, str]:
        """The action as `jittask sync --json` prints it."""
        return {
            "fullName": self.template,
            "row": self.row,
            "taskId": self.task_id,
            "dueTime": self.due.isoformat(),
            "action": self.action,
            "reason": self.reason,
        }


@dataclass
class Report:
    """What a sync planned and did.

    Attributes:
        actions: The plan, by template and due time; of a sync what it changed, the first MOST of it.
        changes: How many actions changed something.
        problems: What could not be looked at; everything else went on.
        failed: The templates whose plan is not whole: nothing of it is applied.
        down: The databases that do not answer, or have no ledger.
        created: Flow runs that exist now because of this sync.
        ended: Flow runs that were cancelled because their task is closed.
        died: Tasks that ended outside an execution (its worker died, or somebody cancelled the run in Prefect), with
            their database: `afterReturn` is still to be called.
        calendars: Where the days of a calendar are others than at the last sync, and what that changed; sentences.
        deployments: What was renewed, restored or made good of deployments, a sentence each.
    """

    actions: list[Action] = field(default_factory=list)
    changes: int = 0
    problems: list[str] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    down: set[str] = field(default_factory=set)
    created: int = 0
    ended: int = 0
    died: list[tuple[str, Entry]] = field(default_factory=list)
    calendars: list[str] = field(default_factory=list)
    deployments: list[str] = field(default_factory=list)

    def note(self, actions: Sequence[Action]) -> None:
        """Count what was changed, and keep the first of it."""
        done = [action for action in actions if action.action != "skip"]
        self.changes += len(done)
        self.actions += done[: MOST - len(self.actions)]


def wanted(series: Series, after: datetime, before: datetime) -> list[Occurrence]:
    """The occurrences of a row that are due in (after, before]."""
    tick = timedelta(microseconds=1)
    return list(series.between(after + tick, before + tick))


def since_moved(
    series: Series, repeats: bool, now: datetime, missed: Missed, before: datetime
) -> list[Occurrence]:
    """The occurrences up to an instant of a row whose date moved: what is past is due at once, or recorded as missed.

    A single date is found however long ago it is due; of a series what is due within `lookback`, and what a holiday
    move has carried out of it from a later day.
    """
    if not repeats:
        only = series.single()
        return [only] if only is not None and only.due <= before else []
    start = now - timedelta(
        seconds=missed.lookback, microseconds=1
    )  # the window is open at its start
    return [*series.moved_before(start), *wanted(series, start, before)]


def stands(entry: Entry, series: Series) -> bool:
    """Whether a task is still one of the row's occurrences: due then, and of that nominal time."""
    found = series.due_at(entry.due)
    return (
        found is not None
        and entry.nominal is not None
        and _utc(found.nominal) == _utc(entry.nominal)
    )


def plan_row(
    app: str,
    template: str,
    row: str,
    series: Series | None,
    occurrences: Sequence[Occurrence],
    entries: Sequence[Entry],
    now: datetime,
    missed: Missed,
    *,
    gone: str = NOT_MET,
    known: datetime | None = None,
    dates: Dates | None = None,
) -> list[Action]:
    """What is to be done about one row of one template.

    Args:
        app: The app's name, part of every identity.
        template: The template's full name.
        row: The row's key.
        series: The row's series as the row is now; None where it has no tasks (then `gone` says why).
        occurrences: Those of its occurrences that the caller looks at (`wanted`).
        entries: All ledger entries of this row and template.
        now: The present instant.
        missed: The template's policy for what is late.
        known: What was due until then, and is not in the ledger, became due by a change of the row only now: it is
            not late, however long ago its due time is.
        dates: The row's dates as the ledger keeps them, where `occurrences` are all that the next sync will ask for.

    Returns:
        Actions, in the order of due times.
    """
    waiting = [e for e in entries if e.status == "pending"]

    def about(action: str, e: Entry, reason: str) -> Action:
        return Action(
            action,
            template,
            row,
            e.task_id,
            e.due,
            reason,
            e.nominal,
            e.anchor,
            e.generation,
        )

    if series is None:
        return _forgetting([about("end", e, gone) for e in waiting], entries)
    anchor = _utc(series.anchor)
    # Of two of one generation (a hook and a sync at one moment) the one of the row's present date counts as the later.
    by_age = sorted(
        entries, key=lambda e: (e.generation, e.anchor == anchor), reverse=True
    )
    current = list(takewhile(lambda e: e.anchor == anchor, by_age))
    fresh = by_age[0].generation + 1 if by_age else 1
    base = current[0].generation if current else fresh
    taken = {(e.nominal, e.generation) for e in entries}
    living = [e for e in entries if e.anchor is not None]
    done = {e.due: e for e in living if e.status == "completed"}
    busy = {e.due for e in living if e.status in OPEN}
    # A task keeps its nominal time: where another calendar puts that elsewhere, also out of the window, the task moves.
    there = {_utc(o.nominal) for o in occurrences}
    moved = [
        o for e in waiting
        if e in current and e.nominal is not None and e.nominal not in there and not stands(e, series)
        and (o := series.at_nominal(e.nominal)) is not None
    ]  # fmt: skip
    if moved:
        occurrences = sorted([*occurrences, *moved], key=lambda o: _utc(o.due))
    late = _late(occurrences, now, missed, known, {_utc(o.due) for o in moved})
    actions: list[Action] = []
    kept: set[str] = set()

    def make(
        o: Occurrence,
        action: str,
        reason: str,
        closes: tuple[str, ...] = (),
        again: bool = False,
    ) -> None:
        why, nominal = late.get(_utc(o.due)), _utc(o.nominal)
        # Two tasks of one instant differ in their generation: the later one asks for the other before it begins.
        generation = (
            fresh if again or (nominal, base) in taken or _utc(o.due) in busy else base
        )
        task_id = identity(app, template, row, nominal, generation)
        text = why or reason + (f"; moved by {o.moved}" if o.moved else "")
        actions.append(
            Action(
                action,
                template,
                row,
                task_id,
                o.due,
                text,
                o.nominal,
                anchor,
                generation,
                closes,
                bool(why),
                dates,
            )
        )

    for o in occurrences:
        same = next((e for e in current if e.nominal == _utc(o.nominal)), None)
        if _utc(o.due) in done:
            same = done[_utc(o.due)]
        if same is None:
            make(
                o, "create", "due within the horizon" if o.due > now else "already due"
            )
        elif same.status == "pending" and same.due != _utc(o.due):
            kept.add(same.task_id)
            make(o, "reschedule", _was(same, o.due), (same.task_id,), again=True)
        elif same.outcome == "superseded" or (same.outcome == "missed" and o.due > now):
            # Missed, and yet to come: the clock of then was another one (`--now`, a database restored).
            make(o, "create", "is due again", again=True)
        else:
            kept.add(same.task_id)
            known_by = None if dates == (same.start_value, same.end_value) else dates
            actions.append(replace(about("skip", same, _reason(same)), dates=known_by))
    twice = [e for e in waiting if e.due in done]
    stale = [
        e
        for e in waiting
        if e.task_id not in kept
        and e not in twice
        and not (e in current and stands(e, series))
    ]
    left = sorted(stale, key=lambda e: e.due)
    actions = [_paired(a, left) for a in actions]
    actions += [about("end", e, "no longer an occurrence of the row") for e in left]
    actions += [about("end", e, DONE) for e in twice]
    return _forgetting(sorted(actions, key=lambda a: a.due), entries)


def _forgetting(actions: list[Action], entries: Sequence[Entry]) -> list[Action]:
    """A row that comes back to a date it had is to be looked at, though tasks that are over were planned from it."""
    closing = {a.task_id for a in actions if a.action == "end"}.union(
        *(a.closes for a in actions)
    )
    if all(e.start_value is None or e.task_id in closing for e in entries):
        return actions
    new = ("create", "reschedule")
    return [
        replace(a, again=True)
        if a.action == "end" or (a.action in new and a.generation > 1)
        else a
        for a in actions
    ]


def _utc(instant: datetime) -> datetime:
    """The instant in UTC: in a repeated hour, datetimes of different zones never compare as equal (PEP 495)."""
    return instant.astimezone(UTC)


def _late(
    occurrences: Sequence[Occurrence],
    now: datetime,
    missed: Missed,
    known: datetime | None,
    moved: Collection[datetime],
) -> dict[datetime, str]:
    """Which due times (UTC) are not to run, with the reason: the template's `missed`."""
    dues = [_utc(o.due) for o in occurrences if o.due <= now]
    new = {due for due in dues if due in moved or (known is not None and due <= known)}
    reasons = {}
    for due in dues:
        age = (now - due).total_seconds()
        if age <= missed.grace:
            continue
        if due in new and age > missed.lookback:
            reasons[due] = f"missed: more than {missed.lookback:g} s ago"
        elif missed.policy == "none" and due not in new:
            reasons[due] = "missed: late, and missed.policy is none"
        elif missed.policy != "all" and due != max(dues):
            reasons[due] = "missed: a later occurrence is due too"
    return reasons


def _reason(entry: Entry) -> str:
    return {
        "pending": "is planned",
        "executing": "is executing",
        "completed": "was done",
        "error": "was tried and failed",
    }.get(entry.status, entry.message or "was ended")


def _was(entry: Entry, due: datetime) -> str:
    """When a task was due, in the zone of its new due time, which is the task's."""
    return f"was due {entry.due.astimezone(due.tzinfo):%Y-%m-%d %H:%M}"


def _paired(action: Action, left: list[Entry]) -> Action:
    """A new task as the `reschedule` of one that is closed, taken from those left; others as they are."""
    if action.action != "create" or not left:
        return action
    old = left.pop(0)
    reason = action.reason if action.missed else _was(old, action.due)
    return replace(action, action="reschedule", closes=(old.task_id,), reason=reason)
