"""Rows and ledger entries → actions; pure. Applying a plan and planning again gives nothing to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ..elements.config import Missed
from ..schedule.timer import Occurrence, Series
from .ledger import Entry, identity

NOT_MET = "the row has no date, or the filter is not met"


@dataclass(frozen=True)
class Action:
    """One step of a plan.

    Attributes:
        action: `create`, `reschedule` (create, and close what it replaces), `end`, or `skip` (nothing to do).
        task_id: The task that the action is about; for `reschedule` the new one.
        closes: The ids of the open tasks that it closes.
        missed: The task is recorded as missed instead of being run.
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

    def as_dict(self, zone: object = None) -> dict[str, str]:
        """The action as `jittask sync --json` prints it."""
        return {
            "fullName": self.template,
            "row": self.row,
            "taskId": self.task_id,
            "dueTime": self.due.isoformat(),
            "action": self.action,
            "reason": self.reason,
        }


def wanted(series: Series, after: datetime, before: datetime, *, next_too: bool = False) -> list[Occurrence]:
    """The occurrences of a row that a plan looks at.

    Args:
        series: The row's series.
        after: Start of the window; occurrences due exactly then are out.
        before: End of the window; occurrences due exactly then are in.
        next_too: Also the first one beyond the window, where the window has none after `after`.
    """
    tick = timedelta(microseconds=1)
    found = list(series.between(after + tick, before + tick))
    if next_too and not found:
        later = series.next(before)
        found = [later] if later else []
    return found


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

    Returns:
        Actions, in the order of due times.
    """
    waiting = [e for e in entries if e.status == "pending"]
    if series is None:
        return [
            Action("end", template, row, e.task_id, e.due, gone, e.nominal, e.anchor, e.generation) for e in waiting
        ]
    by_age = sorted(entries, key=lambda e: e.generation, reverse=True)
    last = by_age[0].generation if by_age else 0
    current: list[Entry] = []
    for entry in by_age:
        if entry.anchor != series.anchor:
            break
        current.append(entry)
    base = current[0].generation if current else last + 1
    late = _late(occurrences, now, missed)
    actions: list[Action] = []
    kept: set[str] = set()

    def make(o: Occurrence, generation: int, action: str, reason: str, closes: tuple[str, ...] = ()) -> None:
        why = late.get(o.due)
        task_id = identity(app, template, row, o.nominal, generation)
        moved = f"; moved by {o.moved}" if o.moved else ""
        text = why or reason + moved
        actions.append(
            Action(
                action,
                template,
                row,
                task_id,
                o.due,
                text,
                o.nominal,
                series.anchor,
                generation,
                closes,
                why is not None,
            )
        )

    for o in occurrences:
        same = next((e for e in current if e.nominal == o.nominal), None)
        if same is None:
            make(o, base, "create", "due in the window" if o.due > now else "already due")
        elif same.status == "pending" and same.due != o.due:
            last += 1
            kept.add(same.task_id)
            make(o, last, "reschedule", f"was due {same.due.isoformat()}", (same.task_id,))
        elif same.status == "ended" and same.outcome == "superseded":
            last += 1
            make(o, last, "create", "is due again")
        else:
            kept.add(same.task_id)
            actions.append(
                Action(
                    "skip",
                    template,
                    row,
                    same.task_id,
                    same.due,
                    _reason(same),
                    same.nominal,
                    same.anchor,
                    same.generation,
                )
            )
    stale = [e for e in waiting if e.task_id not in kept and not _stands(e, current, series)]
    return _paired(actions, sorted(stale, key=lambda e: e.due), template, row)


def _stands(entry: Entry, current: Sequence[Entry], series: Series) -> bool:
    """Whether an open entry outside the window is still one of the row's occurrences."""
    if entry not in current:
        return False
    found = series.contains(entry.due)
    return found is not None and found.nominal == entry.nominal


def _late(occurrences: Sequence[Occurrence], now: datetime, missed: Missed) -> dict[datetime, str]:
    """Which due times are too late to run, with the reason; the policy is the template's `missed`."""
    past = [o.due for o in occurrences if o.due < now - timedelta(seconds=missed.grace)]
    reasons = {
        due: f"missed: more than {missed.lookback:g} s ago"
        for due in past
        if due <= now - timedelta(seconds=missed.lookback)
    }
    if missed.policy == "none":
        reasons |= {due: "missed: late, and missed.policy is none" for due in past if due not in reasons}
    if missed.policy == "latest":
        newest = max((o.due for o in occurrences if o.due <= now), default=None)
        reasons |= {d: "missed: a later occurrence is due too" for d in past if d != newest and d not in reasons}
    return reasons


def _reason(entry: Entry) -> str:
    return {
        "pending": "is planned",
        "executing": "is executing",
        "completed": "was done",
        "error": "was tried and failed",
    }.get(entry.status, entry.message or "was ended")


def _paired(actions: list[Action], stale: Sequence[Entry], template: str, row: str) -> list[Action]:
    """Turn a closed task and a new one into one `reschedule`."""
    left = list(stale)
    result = []
    for action in actions:
        if action.action == "create" and left:
            old = left.pop(0)
            reason = action.reason if action.missed else f"was due {old.due.isoformat()}"
            action = replace(action, action="reschedule", closes=(old.task_id,), reason=reason)
        result.append(action)
    result += [
        Action(
            "end",
            template,
            row,
            e.task_id,
            e.due,
            "no longer an occurrence of the row",
            e.nominal,
            e.anchor,
            e.generation,
        )
        for e in left
    ]
    return sorted(result, key=lambda a: a.due)
