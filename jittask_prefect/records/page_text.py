"""The Markdown of a template's page: statistics with a chart, and the upcoming occurrences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.prefect_api import links
from jittask_prefect.prefect_api.markup import md, table
from jittask_prefect.prefect_api.names import of_app
from jittask_prefect.records import charts
from jittask_prefect.records.month_grid import MonthGrid
from jittask_prefect.records.record import Record
from jittask_prefect.records.statistics import STATUSES, Statistics, duration_text
from jittask_prefect.schedule.words import describe

MAX_NEXT, MAX_MOVES = 10, 20
"""Occurrences in the table of next occurrences, and in the table of moved occurrences."""
SPREAD_HEAD = ("", "half within", "95 % within", "longest", "runs measured")
REASON_HEAD = ("tasks", "status", "reason", "last due")
ONLY_IN_PREFECT = " A waiting run of a schedule is in Prefect alone until it begins."


def summary(numbers: Statistics, artifact_id: str, edit_link: str = "") -> str:
    """The text above the artifact, and on the page of its key.

    Args:
        numbers: The template's statistics.
        artifact_id: The artifact's id; empty while it is not known.
        edit_link: The address of the form for editing; empty where there is none.
    """
    counts = (
        f"{numbers.counts[status]:,} {status}"
        for status in STATUSES
        if numbers.counts[status]
    )
    told = ", ".join(counts) or "nothing was due"
    text = f"**{md(numbers.title)}**, last {len(numbers.days)} days: {told}."
    if artifact_id:
        text += f" [Chart, tables and what comes next]({links.artifact(artifact_id)})"
    return f"{text} · [Edit the task]({edit_link})" if edit_link else text


def page_lines(
    template: Meta, numbers: Statistics, grid: MonthGrid, now: datetime
) -> list[str]:
    """The lines of a template's page.

    Args:
        template: The template.
        numbers: Its statistics.
        grid: Its occurrences of this month and the next.
        now: The present instant, aware.
    """
    zone = template.timer.zone
    local = now.astimezone(zone)
    waiting = "" if isinstance(template, DateFieldType) else ONLY_IN_PREFECT
    return [
        *_past(template, numbers),
        *_upcoming(template, grid, local),
        f"As of {local:%Y-%m-%d %H:%M} ({zone.key}).{waiting}",
    ]


def _past(template: Meta, numbers: Statistics) -> Iterator[str]:
    yield from (f"### {md(template.title)}: last {len(numbers.days)} days", "")
    chart = charts.data_uri(charts.by_day(numbers.days))
    yield from (f"![Tasks by day and status]({chart})", "")
    # `jittask records` gives the same counts for the span. The links show the runs that Prefect still has.
    tag = of_app(template.app.name, template.fullName)
    start, end = numbers.start, numbers.end
    head = [
        f"[{status}]({links.runs(status, tag=tag, start=start, end=end)})"
        for status in STATUSES
    ]
    cells = [str(numbers.counts[status]) for status in STATUSES]
    yield from (*table(head, [cells]), "")
    spreads = {
        "from begin to end": numbers.duration,
        "begun after the due time": numbers.lateness,
    }
    rows = [
        (title, *map(duration_text, (s.p50, s.p95, s.max)), f"{s.runs:,}")
        for title, s in spreads.items()
        if s is not None
    ]
    if rows:
        yield from (*table(SPREAD_HEAD, rows), "")
    if numbers.reasons:
        yield from ("### Why tasks failed or were ended", "")
        reasons = [
            (f"{r.count:,}", r.status, md(r.text), _local(r.last, template))
            for r in numbers.reasons
        ]
        yield from (*table(REASON_HEAD, reasons), "")


def _local(instant: datetime | None, template: Meta) -> str:
    if instant is None:
        return ""
    return f"{instant.astimezone(template.timer.zone):%Y-%m-%d %H:%M}"


def _upcoming(template: Meta, grid: MonthGrid, now: datetime) -> Iterator[str]:
    yield from ("### What comes next", "", describe(template.timer), "")
    chart = charts.data_uri(charts.months(list(grid.days.values()), now.date()))
    yield from (f"![What comes next]({chart})", "")
    if grid.note:
        yield from (grid.note, "")
    if grid.moves:
        moves = grid.moves[:MAX_MOVES]
        cells = [(_when(m.nominal), _when(m.due), md(m.moved or "")) for m in moves]
        yield from ("**Moved or left out**", "")
        yield from (*_with_rows(("from", "to", "because"), cells, moves), "")
        if more := len(grid.moves) - len(moves):
            yield from (f"and {more} more", "")
    if grid.next:
        first = grid.next[:MAX_NEXT]
        yield from ("**Next**", "")
        yield from (*_with_rows(("due",), [(_when(n.due),) for n in first], first), "")
    if grid.moves or grid.next:
        for warning in template.app.warnings(now, [template]):
            yield f"{md(warning, 500)}\n"


def _with_rows(
    head: Sequence[str], cells: Sequence[Sequence[str]], records: Sequence[Record]
) -> list[str]:
    """A table of occurrences, with the rows' keys as its last column where there are rows."""
    if not any(record.row for record in records):
        return table(head, cells)
    keys = [md(record.row or "") for record in records]
    rows = [(*each, key) for each, key in zip(cells, keys, strict=True)]
    return table((*head, "row"), rows)


def _when(instant: datetime | None) -> str:
    return f"{instant:%a %Y-%m-%d %H:%M}" if instant else "left out"
