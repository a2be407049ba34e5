"""The lines that commands print: pending tasks, records, a row's history, a sync's plan, statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from itertools import compress, groupby

from rich.cells import cell_len

from jittask_prefect.records.moments import moment
from jittask_prefect.records.preview import PreviewLine
from jittask_prefect.records.record import Record, named_row
from jittask_prefect.records.row_history import RowHistory, TemplateHistory
from jittask_prefect.records.statistics import (
    STATUSES,
    Spread,
    Statistics,
    duration_text,
)
from jittask_prefect.records.text_table import (
    folded,
    folded_table,
    one_line,
    result_json,
    table,
    time_text,
)
from jittask_prefect.rows.plan import Action

TO_DO = {
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

OPEN = ("pending", "executing", "overdue")
"""The statuses of tasks that `jittask end` takes."""
NARROW = 64
"""The characters of a line below which records have no columns."""
LEAST_DUE = 16
"""The characters of the column of due times at least: most names of zones fit below `due`."""


def preview(lines: Iterable[PreviewLine]) -> Iterator[str]:
    """A line for each occurrence with its explanation."""
    yield from table(
        [("due", "nominal", "because", "note"), *(line.cells() for line in lines)], 50
    )


def pending(tasks: Sequence[Record]) -> Iterator[str]:
    """A line for each task; columns that are empty for all tasks are left out."""
    rows = [
        (time_text(task.due), one_line(task.row_text), task.task_id or "", _note(task))
        for task in tasks
        if task.due
    ]
    _, keys, ids, _ = (any(column) for column in zip(*rows, strict=True))
    shown = (True, keys, ids, True)
    table_rows = [("due", "row", "taskId", "note"), *rows]
    yield from table([list(compress(cells, shown)) for cells in table_rows], 36)


def _note(task: Record) -> str:
    overdue = "overdue" if task.status == "overdue" else ""
    return "; ".join(filter(None, (overdue, moved(task), one_line(task.message))))


def moved(record: Record) -> str:
    """Why a task is due at another time than its nominal occurrence; empty where both are the same."""
    if record.nominal is None or record.due in (None, record.nominal):
        return ""
    nominal = f"{record.nominal:%a %Y-%m-%d %H:%M}"
    return f"{record.moved or 'a holiday'} moved it from {nominal}"


def records(
    found: Sequence[Record],
    zone: tzinfo,
    now: datetime,
    width: int | None = None,
    *,
    full: bool = False,
) -> Iterator[str]:
    """A line for each record, for a pipe; or lines folded to a terminal's width, with the ids of tasks that can be ended.

    Args:
        found: The records, at least one.
        zone: The zone of the times.
        now: The present instant.
        width: The columns of the terminal; None for a pipe.
        full: Also a terminal shows times with date and seconds.
    """
    full = full or width is None
    rows = [
        (
            _due(record.due, zone, now, full=full),
            record.status,
            one_line(" ".join(record.title.split())),
            one_line(record.row_text),
            one_line(" ".join(_happened(record).split())),
        )
        for record in found
    ]
    head = (f"due ({zone})", "status", "task", "row", "result")
    if width is None:
        yield from _piped(found, head, rows)
        return
    widths = _widths(width, [head, *rows]) if width >= NARROW else [width]
    yield from _folded(head if width >= NARROW else head[:1], widths)
    for record, cells in zip(found, rows, strict=True):
        yield from _folded(cells, widths)
        if record.status in OPEN:
            yield f"  {record.task_id}"


def _piped(
    found: Sequence[Record], head: Sequence[str], rows: Sequence[Sequence[str]]
) -> Iterator[str]:
    """A whole line for each record, with its id."""
    lines = [(*head[:2], "taskId", *head[2:])]
    for record, cells in zip(found, rows, strict=True):
        lines.append((*cells[:2], str(record.task_id), *cells[2:]))
    yield from table(lines, 36)


def _folded(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """The lines of a record in columns; with a single width a paragraph."""
    if len(widths) > 1:
        yield from folded_table([cells], widths)
        return
    yield from folded(" ".join(cells[:2]), widths[0])
    below = folded(" ".join(cells[2:]), widths[0] - 2)
    yield from (f"  {line}" for line in below if line)


def _widths(width: int, rows: Sequence[Sequence[str]]) -> list[int]:
    """The widths of the columns of records."""
    dues = [cell_len(row[0]) for row in rows[1:]]
    due = max([LEAST_DUE, *dues])
    longest = [max(cell_len(row[column]) for row in rows) for column in (2, 3)]
    title, key = min(longest[0], width // 4), min(longest[1], width // 6)
    return [due, 9, title, key, width - due - 9 - title - key - 8]


def _due(due: datetime | None, zone: tzinfo, now: datetime, *, full: bool) -> str:
    if due is None:
        return ""
    return (
        f"{due.astimezone(zone):%Y-%m-%d %H:%M:%S}" if full else moment(due, now, zone)
    )


def _happened(record: Record) -> str:
    return record.message if record.result is None else result_json(record.result)


def row(found: RowHistory, width: int | None = None) -> Iterator[str]:
    """A paragraph for each template.

    Args:
        found: The row and its tasks.
        width: The columns of the terminal, to which lines are folded; None for a pipe, whose lines are whole.
    """
    gone = "" if found.exists else ", which is gone: its row is not in the table"
    row_text = one_line(named_row(found.key, found.label))
    yield from _indented(f"{found.model} {row_text}{gone}", 0, width)
    for part in found.parts:
        yield ""
        yield from _template(part, width)
    if not found.parts:
        yield from _indented(f"{found.model} has no date-field task.", 0, width)


def _indented(text: str, indent: int, width: int | None) -> Iterator[str]:
    """A text as lines of a terminal, each indented."""
    lines = [text] if width is None else folded(text, max(LEAST_DUE, width - indent))
    yield from (f"{' ' * indent}{line}".rstrip() for line in lines)


def _template(part: TemplateHistory, width: int | None) -> Iterator[str]:
    title = f" ({part.title})" if part.title not in ("", part.template) else ""
    yield from _indented(f"{part.template}{title}", 0, width)
    about = [part.rule] if part.rule else []
    if part.state:
        about.append(f"No tasks: {part.state}.")
    elif part.origin:
        about.append(f"From {part.origin}.")
    if part.earlier:
        about.append(f"{part.earlier} earlier left out; --past shows more.")
    for text in about:
        yield from _indented(text, 2, width)
    for record in part.records:
        yield from _task(record, width)
    if part.end:
        yield from _indented(f"{part.end[0].upper()}{part.end[1:]}.", 2, width)


def _task(record: Record, width: int | None) -> Iterator[str]:
    """Due time, status and reasons; below a task its ids."""
    at = record.due or record.nominal
    level = f"level {record.level}" if record.level else ""
    why = moved(record) if record.due else record.moved or ""
    reasons = [level, why, *record.notes]
    if record.result is not None and record.status == "completed":
        reasons.append(f"result {result_json(record.result)}")
    told = "; ".join(" ".join(reason.split()) for reason in reasons if reason)
    time = time_text(at) if at else ""
    if width is None:
        yield f"  {time:24}  {record.status:10}  {told}".rstrip()
    elif width >= NARROW:
        cells = [time, record.status, told]
        for line in folded_table([cells], [24, 10, width - 40]):
            yield f"  {line}"
    else:
        yield from _indented(f"{time} {record.status}".strip(), 2, width)
        yield from _indented(told, 4, width) if told else ()
    if record.due is None:
        return
    ids = f"task {record.task_id}"
    if record.generation and record.generation > 1:
        ids += f", generation {record.generation}"
    if record.flow_run_id:
        ids += f", flow run {record.flow_run_id}"
    yield from _indented(ids, 6 if width is None or width >= NARROW else 4, width)


def plan(actions: Sequence[Action], zones: Mapping[str, tzinfo]) -> Iterator[str]:
    """A paragraph for each template, a line for each action with its reason.

    Args:
        actions: By template and due time.
        zones: The zones of the templates by name; the times of others are in UTC. A new task is told in its row's zone.
    """
    for template, found in groupby(actions, lambda action: action.template):
        yield template
        zone = zones.get(template, UTC)
        rows = [
            (
                time_text(action.due.astimezone(action.zone or zone)),
                _kind(action),
                one_line(", ".join(filter(None, (action.row, action.level)))),
                one_line(action.reason),
            )
            for action in found
        ]
        for line in table([("due", "action", "row", "reason"), *rows]):
            yield f"  {line}"


def counts(actions: Iterable[Action], words: Mapping[str, str]) -> str:
    """The number of actions of each kind, e.g. `2 to create, 1 to end` or `2 created, 1 ended`.

    Args:
        actions: The actions.
        words: TO_DO or DONE.
    """
    number = Counter(map(_kind, actions))
    found = [f"{number[kind]} {word}" for kind, word in words.items() if number[kind]]
    return ", ".join(found) or "nothing to do"


def _kind(action: Action) -> str:
    return "missed" if action.missed else action.action


def statistics(found: Sequence[Statistics]) -> Iterator[str]:
    """A line for each template: the number of each status, durations and lateness."""
    spread = "(half, 95 %, longest)"
    rows = [
        (
            of.template,
            *(str(of.counts[status]) for status in STATUSES),
            ", ".join(_spread(of.duration)) or "-",
            ", ".join(_spread(of.lateness)) or "-",
        )
        for of in found
    ]
    yield from table(
        [("task", *STATUSES, f"took {spread}", f"late {spread}"), *rows], 40
    )


def template_statistics(found: Statistics) -> Iterator[str]:
    """Paragraphs about a template: sums, reasons of failures, days."""
    span = f"{time_text(found.start)} to {time_text(found.end)}"
    yield f"{found.template} ({found.title}), due {span}"
    yield ", ".join(f"{found.counts[status]} {status}" for status in STATUSES)
    for name, spread in (("took", found.duration), ("late", found.lateness)):
        if spread is not None:
            half, most, longest = _spread(spread)
            measured = f"longest {longest}; {spread.runs} runs measured"
            yield f"{name}: half within {half}, 95 % within {most}, {measured}"
    if found.reasons:
        reasons = [
            (
                str(reason.count),
                reason.status,
                f"{reason.last:%Y-%m-%d}" if reason.last else "",
                one_line(reason.text),
            )
            for reason in found.reasons
        ]
        yield ""
        yield from table([("tasks", "status", "last due", "reason"), *reasons])
    days = [
        (f"{day:%a %Y-%m-%d}", *(str(counts[status]) for status in STATUSES))
        for day, counts in found.days.items()
        if counts
    ]
    if days:
        yield ""
        yield from table([("day", *STATUSES), *days])


def _spread(found: Spread | None) -> list[str]:
    if found is None:
        return []
    return [duration_text(value) for value in (found.p50, found.p95, found.max)]
