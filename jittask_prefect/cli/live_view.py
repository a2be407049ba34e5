"""The live view of `jittask up`: the last tasks, those at work or late, and the next ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, tzinfo

from rich.text import Text

from jittask_prefect.records.record import Record
from jittask_prefect.records.text_table import table

STYLES = {
    "executing": "bold cyan",
    "overdue": "yellow",
    "pending": "",
    "completed": "green",
    "error": "bold red",
    "ended": "dim",
    "starting": "cyan",
}
STARTS_WITHIN = 15.0
"""Seconds that a worker takes to begin a run; until then the run is not called overdue."""
STATUS_AT = len("\n11-21 12:00:00  ")
"""The place of the status in a line, behind the due time."""


def view(
    records: Sequence[Record], zone: tzinfo, now: datetime, width: int, height: int
) -> Text:
    """The records as a table of limited size.

    Args:
        records: Any records, in any order.
        zone: The zone of the times.
        now: The present instant.
        width: The characters of a line.
        height: The lines at most.
    """
    counts = Counter(record.status for record in records)
    total = ", ".join(f"{counts[name]} {name}" for name in STYLES if counts[name])
    found = Text.assemble(
        (f"{now.astimezone(zone):%Y-%m-%d %H:%M:%S}", "bold"),
        "  ",
        (total or "nothing yet", "dim"),
    )
    rows = list(_rows(_selected(records, max(4, height - 3)), zone, now))
    head = ("due", "status", "task", "row", "result")
    for number, line in enumerate(table([head, *rows], width // 3, width)):
        shown = Text(f"\n{line}", style="" if number else "bold")
        status = rows[number - 1][1] if number else ""
        shown.stylize(STYLES.get(status, ""), STATUS_AT, STATUS_AT + len(status))
        found.append_text(shown)
    return found


def _selected(records: Sequence[Record], room: int) -> list[Record]:
    """The records that fit: up to half of them busy, the others past and pending in equal parts."""

    def of(*statuses: str) -> list[Record]:
        return sorted((r for r in records if r.status in statuses), key=_due)

    busy = of("executing", "overdue")[: room // 2]
    past = sorted(of("completed", "error", "ended"), key=_end)
    room -= len(busy)
    pending = of("pending")[: max(2, room - min(len(past), room // 2))]
    past = past[-max(2, room - len(pending)) :]
    return [*sorted(past, key=_due), *busy, *pending]


def _rows(
    records: Sequence[Record], zone: tzinfo, now: datetime
) -> Iterator[tuple[str, ...]]:
    for record in records:
        age = (now - _due(record)).total_seconds()
        status, result = record.status, record.message
        if status == "pending":
            result = f"in {_span(-age)}"
        elif status == "overdue":
            result = f"for {_span(age)}"
            status = "starting" if age < STARTS_WITHIN else status
        elif record.result is not None:
            result = json.dumps(record.result, ensure_ascii=False)
        due = f"{_due(record).astimezone(zone):%m-%d %H:%M:%S}"
        cells = (due, status, record.title, record.row or "", result)
        yield tuple(" ".join(cell.split()) for cell in cells)


def _due(record: Record) -> datetime:
    return record.due or datetime.max.replace(tzinfo=UTC)


def _end(record: Record) -> datetime:
    return record.finished or _due(record)


def _span(seconds: float) -> str:
    """A length of time in its largest unit."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
