"""The faults of an app's tasks, a line each: overdue, failing in a row, disabled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from jittask_prefect.records.app_facts import IN_A_ROW, Facts, Kind, Open, Trouble
from jittask_prefect.records.moments import moment
from jittask_prefect.records.record import named_row

if TYPE_CHECKING:
    from jittask_prefect.records.overview import TaskLine

MOST_NAMED = 5
"""Tasks that a line names; further tasks are counted."""


def troubles_of(facts: Facts, lines: Iterable[TaskLine]) -> Iterator[Trouble]:
    """A line for each kind of trouble of each task; the tasks that are off share a line."""
    paused: dict[str, list[TaskLine]] = {}
    for line in lines:
        task, last = line.facts, line.last
        since = facts.open.get(task.name, Open()).late_since
        if line.overdue:
            told = f"{line.overdue:,} overdue"
            if since is not None:
                told += f", since {moment(since, facts.now, facts.zone)}"
            yield Trouble(Kind.OVERDUE, told, task.name, task.title)
        if last is not None and last.in_a_row >= IN_A_ROW:
            told = f"failed {last.in_a_row:,} times in a row"
            told += f", last {moment(last.at, facts.now, facts.zone)}"
            row = named_row(last.row, last.label)
            about = f"row {row}: {last.message}" if row else last.message
            yield Trouble(
                Kind.FAILING, f"{told}: {about}".rstrip(": "), task.name, task.title
            )
        if task.state in ("disabled", "paused"):
            paused.setdefault(task.state, []).append(line)
    for state, found in paused.items():
        how = "disabled" if state == "disabled" else "paused in Prefect"
        yield Trouble(Kind.PAUSED, f"{how}: {listed(found)}")


def listed(lines: Sequence[TaskLine]) -> str:
    """The titles of some tasks, the first few by name."""
    names = [line.facts.title for line in lines[:MOST_NAMED]]
    more = len(lines) - len(names)
    return ", ".join(names) + (f" and {more:,} more" if more else "")
