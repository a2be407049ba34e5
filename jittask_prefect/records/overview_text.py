"""An app's page for a terminal of any width; a narrow terminal gets a paragraph for each task instead of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap

from rich.cells import cell_len

from jittask_prefect.records.overview import Group, Hour, Overview, TaskLine
from jittask_prefect.records.overview_markdown import (
    OTHERS,
    TITLE,
    day_rows,
    day_title,
    uncounted_text,
)
from jittask_prefect.records.text_table import one_line, shortened

NARROW = 72
"""Columns of a terminal below which a task gets a paragraph."""
MOST_WRONG, TROUBLE = 20, 240
"""Lines of troubles, and the columns of each at most."""
BARS = " ▁▂▃▄▅▆▇█"
ASCII_BARS = " .:-=+*#@"
ASCII = str.maketrans({"…": "~", "–": "-", "·": "|", "“": '"', "”": '"'})
"""Each character has a single substitute, so that columns stay below each other."""
HEAD = ("task", "next", "last", "pend", "late", "fail")


def lines(page: Overview, width: int, *, plain: bool = False) -> Iterator[str]:
    """The lines of the page.

    Args:
        page: The page.
        width: The columns of the terminal.
        plain: Whether the terminal takes ASCII only.
    """
    width = max(20, width)
    for line in _lines(page, width, ASCII_BARS if plain else BARS):
        yield line.translate(ASCII) if plain else line


def _lines(page: Overview, width: int, bars: str) -> Iterator[str]:
    yield from _wrapped(f"{_short(page.title, TITLE)}, {page.as_of}", width)
    yield ""
    yield from _wrong(page, width)
    yield ""
    yield from _picture(page.hours, width, bars)
    for group in page.groups:
        yield ""
        several = len(page.groups) > 1
        yield shortened(_line(group.name) or (OTHERS if several else "Tasks"), width)
        yield from (_table if width >= NARROW else _paragraphs)(page, group, width)
    yield ""
    yield from _day(page, width)
    if not page.asked_prefect:
        yield ""
        told = "Without Prefect: late runs of schedules, which only Prefect knows, are missing."
        yield from _wrapped(told, width)


def _line(text: str) -> str:
    return one_line(" ".join(text.split()))


def _wrapped(text: str, width: int, indent: str = "") -> Iterable[str]:
    """A text in lines of at most `width` columns; characters of double width are counted as such."""
    parts = wrap(text, width, subsequent_indent=indent, break_on_hyphens=False)
    return (shortened(part, width) for part in parts)


def _wrong(page: Overview, width: int) -> Iterator[str]:
    if not page.wrong:
        yield from _wrapped("{}: {}.".format(*page.calm), width)
        return
    yield "Needs a look"
    for trouble in page.wrong[:MOST_WRONG]:
        about = f"{_short(trouble.title, TITLE)}: " if trouble.task else ""
        told = shortened(_line(trouble.text), TROUBLE)
        yield from _wrapped(f"! {about}{told}", width, "  ")
    if (more := len(page.wrong) - MOST_WRONG) > 0:
        yield f"! and {more:,} more"


def _picture(hours: Sequence[Hour], width: int, bars: str) -> Iterator[str]:
    """A bar for each hour, or for some hours together where the terminal is narrow; the hour of now is marked."""
    together = 1 if width >= len(hours) + 2 else 2
    sums, bad = [], []
    for start in range(0, len(hours), together):
        found = hours[start : start + together]
        sums.append(sum(sum(hour.counts.values()) for hour in found))
        bad.append(
            any(hour.counts.get(s) for hour in found for s in ("error", "overdue"))
        )
    most = max(sums) or 1
    heights = (-(-count * (len(bars) - 1) // most) for count in sums)
    half = len(sums) // 2
    past, future = (
        ("last 24 hours", "next 24 hours") if half >= 14 else ("last 24 h", "next 24 h")
    )
    yield past.ljust(half) + future
    yield "".join(bars[height] for height in heights)
    marks = "".join("!" if wrong else " " for wrong in bad)
    yield (marks[:half] + "^" + marks[half + 1 :]).rstrip() + " now"


# Tasks


def _table(page: Overview, group: Group, width: int) -> Iterator[str]:
    rows = [HEAD, *(_cells(page, task) for task in group.tasks)]
    widths = [max(len(row[n]) for row in rows) for n in range(1, 6)]
    left = max(12, width - sum(widths) - 2 * 5)
    for row in rows:
        cells = [_padded(row[0], left)]
        for number, (cell, length) in enumerate(zip(row[1:], widths, strict=True)):
            cells.append(cell.rjust(length) if number > 1 else cell.ljust(length))
        yield shortened("  ".join(cells).rstrip(), width)


def _padded(text: str, width: int) -> str:
    shown = shortened(text, width)
    return shown + " " * (width - cell_len(shown))


def _cells(page: Overview, task: TaskLine) -> tuple[str, ...]:
    mark = "! " if task.wrong is not None else "  "
    counts = (task.pending, task.overdue, task.failed)
    return (
        mark + _line(task.facts.title),
        _next(page, task),
        _last(page, task),
        *(f"{count:,}" if count else "-" for count in counts),
    )


def _next(page: Overview, task: TaskLine) -> str:
    if task.next_due is None:
        return task.facts.state or "-"
    at = page.moment(task.next_due)
    return f"{at} ({task.next_count:,})" if task.next_count else at


def _last(page: Overview, task: TaskLine) -> str:
    if task.last is None:
        return "-"
    word = {"completed": "ok", "error": "ERROR"}.get(task.last.status, task.last.status)
    return f"{word} {page.moment(task.last.at)}{task.last.share}"


def _paragraphs(page: Overview, group: Group, width: int) -> Iterator[str]:
    for task in group.tasks:
        mark = "!" if task.wrong is not None else "-"
        yield shortened(f"{mark} {_line(task.facts.title)}", width)
        yield shortened(f"  next {_next(page, task)}", width)
        yield shortened(f"  last {_last(page, task)}", width)
        counts = [
            f"{count:,} {word}"
            for count, word in (
                (task.pending, "pending"),
                (task.overdue, "overdue"),
                (task.failed, "failed"),
            )
            if count
        ]
        if counts:
            yield shortened(f"  {', '.join(counts)}", width)


# The day


def _day(page: Overview, width: int) -> Iterator[str]:
    yield day_title(page)
    for when, told in day_rows(page, _short):
        yield from _wrapped(f"  {when}  {told}", width, " " * 9)
    if not page.day_hours:
        yield "  nothing is due"
    if page.uncounted:
        yield from _wrapped(shortened(_line(uncounted_text(page)), 2 * TROUBLE), width)


def _short(title: str, most: int) -> str:
    return shortened(_line(title), most)
