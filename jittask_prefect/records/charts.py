"""Charts as SVG, drawn by hand: tasks by day and status, and a grid of months with what comes next.

Each stands on a light ground of its own, so that it reads the same in the UI's light and dark theme.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from jittask_prefect.prefect_api.markup import xml
from jittask_prefect.records.statistics import STATUSES

WIDTH = 640
COLOURS = {
    "completed": "#16a34a",
    "error": "#dc2626",
    "ended": "#64748b",
    "executing": "#2563eb",
    "overdue": "#ea580c",
    "pending": "#cbd5e1",
}
GROUND, INK, FAINT, LINE = "#f8fafc", "#0f172a", "#475569", "#cbd5e1"
FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif"
LEAST = 2.0
"""How high what is there at least is: one error among a thousand is to be seen."""


def data_uri(svg: str) -> str:
    """An SVG as an image's address."""
    return f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"


def _svg(height: int, parts: Iterator[str], about: str) -> str:
    ground = f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8" fill="{GROUND}" stroke="{LINE}"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return f'{head} font-family="{FONT}" font-size="12"><title>{xml(about)}</title>{ground}{"".join(parts)}</svg>'


def _text(
    x: float,
    y: float,
    said: str,
    *,
    anchor: str = "start",
    fill: str = INK,
    more: str = "",
) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{fill}"{more}>{xml(said)}</text>'


def _box(
    x: float, y: float, wide: float, high: float, fill: str, more: str = ""
) -> str:
    return f'<rect x="{x:.2f}" y="{y:.2f}" width="{wide:.2f}" height="{high:.2f}" fill="{fill}"{more}/>'


# Tasks by day


def by_day(days: Mapping[date, Mapping[str, int]]) -> str:
    """Bars of the tasks that were due on each day, stacked by status.

    Args:
        days: How many of each status, by day, ascending.
    """
    return _svg(220, _by_day(days), "Tasks by day and status")


def _by_day(days: Mapping[date, Mapping[str, int]]) -> Iterator[str]:
    left, right, top, bottom = 48.0, WIDTH - 16.0, 44.0, 190.0
    shown = [s for s in STATUSES if any(number.get(s) for number in days.values())]
    x = left
    for status in shown:
        said = f"{status} {sum(number.get(status, 0) for number in days.values()):,}"
        yield _box(x, 16, 10, 10, COLOURS[status], ' rx="2"')
        yield _text(x + 15, 25, said)
        x += 15 + 7 * len(said) + 12
    most = top_of(max((sum(number.values()) for number in days.values()), default=0))
    for part in (0, 1, 2):
        y = bottom - (bottom - top) * part / 2
        yield f'<path d="M{left:g} {y:g}H{right:g}" stroke="{LINE}"/>'
        yield _text(left - 6, y + 4, f"{most * part // 2:,}", anchor="end", fill=FAINT)
    if not shown:
        yield _text(
            (left + right) / 2,
            (top + bottom) / 2 - 10,
            "no tasks were due in this time",
            anchor="middle",
            fill=FAINT,
        )
    wide = (right - left) / max(1, len(days))
    every = -(
        -len(days) // 10
    )  # ten dates at most, so that none runs into the next one
    for number, (day, counts) in enumerate(days.items()):
        y = bottom
        for status in shown:
            if counts.get(status):
                high = max(LEAST, (bottom - top) * counts[status] / most)
                y -= high
                yield _box(
                    left + number * wide + wide * 0.12,
                    y,
                    wide * 0.76,
                    high,
                    COLOURS[status],
                )
        if number % every == 0:
            yield _text(
                left + (number + 0.5) * wide,
                bottom + 17,
                f"{day.day} {day:%b}",
                anchor="middle",
                fill=FAINT,
            )


def top_of(most: int) -> int:
    """The number at the top of an axis: an even one of 1, 2, 4, 6 or 8 tens, hundreds, …, not below `most`."""
    size = 1
    while True:
        for step in (2, 4, 6, 8, 10):
            if step * size >= most:
                return step * size
        size *= 10


# What comes next


@dataclass(frozen=True)
class Cell:
    """One day of the grid.

    Attributes:
        day: The day.
        kind: `holiday`, `makeup`, `weekend` or `workday`.
        here: What takes place on it, in a few characters: a time or a number; empty where nothing does.
        moved: Whether some of it was moved here from another day.
        away: The days that something nominal on this day was moved to.
        dropped: Whether something nominal on this day does not take place.
    """

    day: date
    kind: str = "workday"
    here: str = ""
    moved: bool = False
    away: tuple[date, ...] = ()
    dropped: bool = False


KINDS = {
    "workday": "#ffffff",
    "weekend": "#e9eef5",
    "holiday": "#fecaca",
    "makeup": "#bbf7d0",
}
HERE, MOVED = "#1d4ed8", "#c2410c"
CELL, HIGH, GAP, EDGE, TOP = 42, 38, 20, 16, 58
WEEK = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")


def months(cells: Sequence[Cell], today: date) -> str:
    """Two months side by side, Monday first.

    Args:
        cells: Every day of both months, ascending.
        today: Has a thick frame; what lies before it is faint.
    """
    both = [
        list(found)
        for _, found in groupby(cells, lambda cell: (cell.day.year, cell.day.month))
    ]
    weeks = max((found[0].day.weekday() + len(found) + 6) // 7 for found in both)
    height = TOP + weeks * HIGH + 34
    return _svg(height, _months(both, today, height), "What comes next")


def _months(both: Sequence[Sequence[Cell]], today: date, height: int) -> Iterator[str]:
    for number, found in enumerate(both[:2]):
        left = EDGE + number * (7 * CELL + GAP)
        yield _text(
            left,
            26,
            f"{found[0].day:%B} {found[0].day.year}",
            more=' font-weight="600" font-size="14"',
        )
        for column, name in enumerate(WEEK):
            yield _text(
                left + (column + 0.5) * CELL, 48, name, anchor="middle", fill=FAINT
            )
        before = found[0].day.weekday()
        for cell in found:
            week, column = divmod(before + cell.day.day - 1, 7)
            yield from _cell(cell, left + column * CELL, TOP + week * HIGH, today)
    yield from _legend(height - 14)


def _cell(cell: Cell, x: float, y: float, today: date) -> Iterator[str]:
    past = cell.day < today
    frame = (
        f' stroke="{INK}" stroke-width="2"'
        if cell.day == today
        else f' stroke="{LINE}"'
    )
    yield _box(
        x + 1,
        y + 1,
        CELL - 2,
        HIGH - 2,
        KINDS[cell.kind],
        f' rx="3"{frame}' + (' opacity="0.45"' if past else ""),
    )
    yield _text(
        x + 5,
        y + 13,
        str(cell.day.day),
        fill=FAINT if past else INK,
        more=' font-size="11"',
    )
    gone = f"→ {cell.away[0].day}" if cell.away else "–"
    if cell.here:
        yield _box(
            x + 3, y + 17, CELL - 6, 17, MOVED if cell.moved else HERE, ' rx="3"'
        )
        said = ' font-size="11" font-weight="600"'
        yield _text(
            x + CELL / 2,
            y + 29.5,
            cell.here,
            anchor="middle",
            fill="#ffffff",
            more=said,
        )
        if cell.away:
            yield _text(
                x + CELL - 4,
                y + 13,
                gone,
                anchor="end",
                fill=MOVED,
                more=' font-size="9"',
            )
    elif cell.away or cell.dropped:
        yield _box(
            x + 3.5,
            y + 17.5,
            CELL - 7,
            16,
            "none",
            f' rx="3" stroke="{MOVED}" stroke-dasharray="3 2"',
        )
        yield _text(
            x + CELL / 2,
            y + 29.5,
            gone,
            anchor="middle",
            fill=MOVED,
            more=' font-size="11"',
        )


def _legend(y: float) -> Iterator[str]:
    x = float(EDGE)
    dashes = f' rx="3" stroke="{MOVED}" stroke-dasharray="3 2"'
    outlined = f' rx="2" stroke="{LINE}"'
    for fill, more, said in (
        (KINDS["holiday"], outlined, "holiday"),
        (KINDS["makeup"], outlined, "make-up day"),
        (KINDS["weekend"], outlined, "weekend"),
        (HERE, ' rx="2"', "runs"),
        (MOVED, ' rx="2"', "moved here"),
        ("none", dashes, "away, or left out"),
    ):
        yield _box(x, y - 10, 12, 12, fill, more)
        yield _text(x + 17, y, said)
        x += 17 + 7 * len(said) + 10
