"""What `pending`, `row` and `sync` print: plain lines, which no terminal is too narrow for, and no pipe cuts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from itertools import groupby

from rich.cells import cell_len

from jittask_prefect.ledger.keys import from_json
from jittask_prefect.records.row_story import Line, Part, RowView
from jittask_prefect.records.statistics import STATUSES, Spread, Stats, seconds
from jittask_prefect.records.upcoming import Pending
from jittask_prefect.rows.plan import Action

DUE, STATUS = 24, 10
"""How wide `Thu 2026-10-08 09:00 CST` and the longest status are."""
KEY = 30
"""Up to where the keys of rows stand in a column."""
SAID = 200
"""A result longer than this is cut; `--json` has the whole."""
COUNTED = {
    "create": "to create",
    "missed": "to record as missed",
    "reschedule": "to reschedule",
    "end": "to end",
    "skip": "as planned",
}
DONE = {
    "create": "created",
    "missed": "recorded as missed",
    "reschedule": "rescheduled",
    "end": "ended",
    "skip": "as planned",
}


def when(at: datetime) -> str:
    """An instant with its weekday and its zone."""
    return f"{at:%a %Y-%m-%d %H:%M %Z}"


def columns(rows: Sequence[Sequence[str]], widest: int = KEY) -> Iterator[str]:
    """Lines of cells that stand below each other; the last cell is as long as it is."""
    wide = [
        min(widest, max(map(cell_len, cells))) for cells in zip(*rows, strict=True)
    ][:-1]
    for row in rows:
        padded = (
            cell + " " * (n - cell_len(cell))
            for cell, n in zip(row, wide, strict=False)
        )
        yield "  ".join([*padded, row[-1]]).rstrip()


def plain(key: str) -> str:
    """A row's key on one line: what cannot be printed is written as Python does."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in key)


def moved(due: datetime, nominal: datetime | None, by: str | None) -> str:
    """Why a task is due on another day than its nominal occurrence; empty where it is not."""
    if nominal is None or due == nominal:
        return ""
    return f"{by or 'a holiday'} moved it from {nominal:%a %Y-%m-%d %H:%M}"


# pending


def pending(tasks: Sequence[Pending], now: datetime) -> Iterator[str]:
    """A line for each task: when, which row, which task, and what else there is to say."""
    rows, ids = (
        any(found)
        for found in zip(
            *((t.row is not None, t.task_id is not None) for t in tasks), strict=True
        )
    )
    cells = []
    for task in tasks:
        notes = ["overdue"] if task.due < now else []
        notes += [text] if (text := moved(task.due, task.nominal, task.moved)) else []
        cells.append(
            (
                when(task.due),
                plain(task.row or ""),
                task.task_id or "",
                "; ".join(notes),
            )
        )
    shown = [True, rows, ids, True]
    table = [("due", "row", "taskId", "note"), *cells]
    yield from columns(
        [
            [cell for cell, show in zip(line, shown, strict=True) if show]
            for line in table
        ],
        36,
    )


# row


def row(found: RowView) -> Iterator[str]:
    """A paragraph for each template."""
    yield f"{found.model} {plain(found.key)}" + (
        "" if found.there else ", which is gone: its row is not in the table"
    )
    for part in found.parts:
        yield ""
        yield from _part(part)
    if not found.parts:
        yield f"No date-field task is of {found.model}."


def _part(part: Part) -> Iterator[str]:
    yield part.template + (
        f" ({part.title})" if part.title and part.title != part.template else ""
    )
    if part.rule:
        yield f"  {part.rule}"
    if part.state:
        yield f"  No tasks: {part.state}."
    elif part.origin:
        yield f"  From {part.origin}."
    if part.earlier:
        yield f"  {part.earlier} earlier left out; --past shows more."
    for line in part.lines:
        yield from _line(line)
    if part.end:
        yield f"  {part.end[0].upper()}{part.end[1:]}."


def _line(line: Line) -> Iterator[str]:
    why = [*line.why]
    if line.due is None:
        because = [line.moved] if line.moved else []
        nominal = when(line.nominal) if line.nominal else ""
        yield f"  {nominal:{DUE}}  {'none':{STATUS}}  {'; '.join([*because, *why])}".rstrip()
        return
    if text := moved(line.due, line.nominal, line.moved):
        why.insert(0, text)
    entry = line.entry
    if entry is not None and entry.result is not None and line.status == "completed":
        said = " ".join(json.dumps(from_json(entry.result), ensure_ascii=False).split())
        why.append(f"result {said if len(said) <= SAID else said[: SAID - 1] + '…'}")
    yield f"  {when(line.due):{DUE}}  {line.status:{STATUS}}  {'; '.join(' '.join(w.split()) for w in why)}".rstrip()
    about = [f"task {line.task_id}"]
    if entry is not None:
        about += [f"generation {entry.generation}"] if entry.generation > 1 else []
        about += [f"flow run {entry.flow_run_id}"] if entry.flow_run_id else []
    yield f"      {', '.join(about)}"


# sync


def plan(actions: Sequence[Action], zones: Mapping[str, tzinfo]) -> Iterator[str]:
    """A paragraph for each template, a line for each action with its reason.

    Args:
        actions: By template and due time.
        zones: The zones of the templates by name; the time of others is shown in UTC.
    """
    for template, part in groupby(actions, lambda action: action.template):
        mine = list(part)
        yield template
        zone = zones.get(template, UTC)
        cells = [
            [when(a.due.astimezone(zone)), _word(a), plain(a.row), plain(a.reason)]
            for a in mine
        ]
        yield from (
            f"  {line}"
            for line in columns([["due", "action", "row", "reason"], *cells])
        )


def counts(actions: Sequence[Action]) -> str:
    """How many actions of each kind there are to do, e.g. `2 to create, 1 to end, 5 as planned`."""
    return _counts(actions, COUNTED)


def done(actions: Sequence[Action]) -> str:
    """How many actions of each kind were done, e.g. `2 created, 1 ended`."""
    return _counts(actions, DONE)


def _counts(actions: Sequence[Action], words: Mapping[str, str]) -> str:
    number = Counter(map(_word, actions))
    return ", ".join(
        f"{number[word]} {said}" for word, said in words.items() if number[word]
    )


def _word(action: Action) -> str:
    return "missed" if action.missed else action.action


# stats


def stats(found: Sequence[Stats]) -> Iterator[str]:
    """A line for each template: how many of each status, how long and how late they were."""
    head = (
        "task",
        *STATUSES,
        "took (half, 95 %, longest)",
        "late (half, 95 %, longest)",
    )
    rows = [
        (
            of.template,
            *(str(of.counts[s]) for s in STATUSES),
            _spread(of.duration),
            _spread(of.lateness),
        )
        for of in found
    ]
    yield from columns([head, *rows], 40)


def stats_of(found: Stats) -> Iterator[str]:
    """Paragraphs about one template: in all, why tasks failed, by day."""
    yield f"{found.template} ({found.title}), due {when(found.start)} to {when(found.end)}"
    yield ", ".join(f"{found.counts[s]} {s}" for s in STATUSES)
    for what, spread in (("took", found.duration), ("late", found.lateness)):
        if spread is not None:
            half, most, longest = map(seconds, (spread.p50, spread.p95, spread.max))
            yield f"{what}: half within {half}, 95 % within {most}, longest {longest}; {spread.runs} runs measured"
    if found.reasons:
        rows = [
            (
                str(r.count),
                r.status,
                f"{r.last:%Y-%m-%d}" if r.last else "",
                plain(r.said),
            )
            for r in found.reasons
        ]
        yield ""
        yield from columns([("tasks", "status", "last due", "reason"), *rows])
    days = [
        (f"{day:%a %Y-%m-%d}", *(str(number[s]) for s in STATUSES))
        for day, number in found.days.items()
        if number
    ]
    if days:
        yield ""
        yield from columns([("day", *STATUSES), *days])


def _spread(found: Spread | None) -> str:
    return ", ".join(map(seconds, (found.p50, found.p95, found.max))) if found else "-"
