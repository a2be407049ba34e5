"""Charts as SVG: tasks by day or hour and status, and a grid of two months with a template's occurrences.

Each chart has a light ground of its own, so that it reads the same in the UI's light and dark theme.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby

from jittask_prefect.prefect_api.markup import xml
from jittask_prefect.records.statistics import STATUSES
from jittask_prefect.records.year_grid import WEEKDAYS

WIDTH = 640
COLOURS = {
    "completed": "#16a34a",
    "error": "#dc2626",
    "ended": "#64748b",
    "executing": "#2563eb",
    "overdue": "#ea580c",
    "pending": "#cbd5e1",
}
STYLE = """
text { fill: #0f172a } .faint { fill: #475569 } .white { fill: #fff } .moved { fill: #c2410c }
.middle { text-anchor: middle } .end { text-anchor: end }
.title { font-size: 14px; font-weight: 600 } .small { font-size: 11px } .tiny { font-size: 9px }
.bold { font-weight: 600 } .past { opacity: 0.45 }
.line { stroke: #cbd5e1 } .today { stroke: #0f172a; stroke-width: 2 }
.away { fill: none; stroke: #c2410c; stroke-dasharray: 3 2 }
"""
RUNS, MOVED = "#1d4ed8", "#c2410c"
AXIS_LEFT, AXIS_WIDTH = 48, 576
LEAST_HEIGHT = 2.0
"""The height of a bar at least, so that a single error among a thousand tasks is visible."""
LETTER = 7
"""The width of a character, about; for the places of a legend."""


def data_uri(svg: str) -> str:
    """An SVG as an image's address."""
    return f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"


def _svg(height: float, parts: Iterable[str], title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}" font-size="12"'
        " font-family=\"system-ui, -apple-system, 'Segoe UI', sans-serif\">"
        f"<title>{xml(title)}</title><style>{STYLE}</style>"
        f'<rect class="line" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}"'
        f' rx="8" fill="#f8fafc"/>{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text class="{style}" x="{x:g}" y="{y:g}">{xml(text)}</text>'


def _legend(x: float, y: float, items: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Squares side by side, each with its name; an item is the square's attributes and the name."""
    for look, name in items:
        yield f'<rect {look} x="{x:g}" y="{y - 10:g}" width="12" height="12" rx="2"/>'
        yield _text(x + 17, y, name)
        x += 27 + LETTER * len(name)


# Tasks by day


def by_day(days: Mapping[date, Mapping[str, int]]) -> str:
    """Bars of the tasks that were due on each day, stacked by status.

    Args:
        days: The number of tasks of each status, by day, ascending.
    """
    return _svg(220, _by_day(days), "Tasks by day and status")


def _by_day(days: Mapping[date, Mapping[str, int]]) -> Iterator[str]:
    bars = _Bars(list(days.values()), 44, 190)
    yield from bars.frame("no tasks were due in this time")
    every = -(-len(days) // 10)  # ten dates at most, so that none runs into the next
    for number, day in enumerate(days):
        yield from bars.bar(number)
        if number % every == 0:
            x = bars.x(number + 0.5)
            yield _text(x, 207, f"{day.day} {day:%b}", "middle faint")


def by_hour(hours: Mapping[datetime, Mapping[str, int]], now: datetime) -> str:
    """Bars of the tasks that are due in each hour, stacked by status, with a line at the present instant.

    Args:
        hours: The number of tasks of each status, by the hour's beginning in the zone of the axis, ascending.
        now: The present instant, in the same zone.
    """
    return _svg(180, _by_hour(hours, now), "Tasks by hour and status")


def _by_hour(
    hours: Mapping[datetime, Mapping[str, int]], now: datetime
) -> Iterator[str]:
    bars = _Bars(list(hours.values()), 56, 144)
    yield from bars.frame("no tasks are due in this time")
    for number, start in enumerate(hours):
        yield from bars.bar(number)
        x = bars.x(number)
        if start.hour % 6 == 0:
            yield _text(x, 160, f"{start:%H:%M}", "middle small faint")
        if start.hour == 0:
            yield _text(x, 173, f"{start:%a} {start.day} {start:%b}", "middle small")
    first = next(iter(hours), None)
    if first is not None and first <= now:
        x = bars.x((now - first).total_seconds() / 3600)
        yield f'<path class="today" d="M{x:.1f} {bars.top - 6}V{bars.bottom}"/>'
        yield _text(x, bars.top - 9, "now", "middle tiny")


@dataclass(frozen=True)
class _Bars:
    """Bars side by side, stacked by status, with a legend and an axis.

    Attributes:
        counts: The number of tasks of each status, for each bar.
        top: Where the axis ends.
        bottom: Where the bars stand.
    """

    counts: Sequence[Mapping[str, int]]
    top: int
    bottom: int

    @property
    def _most(self) -> int:
        """The number at the top of the axis."""
        return axis_top(max((sum(each.values()) for each in self.counts), default=0))

    def x(self, number: float) -> float:
        """The left edge of a bar."""
        return AXIS_LEFT + number * AXIS_WIDTH / max(1, len(self.counts))

    def frame(self, nothing: str) -> Iterator[str]:
        """The legend and the lines of the axis; a sentence where there are no tasks."""
        totals = {s: sum(each.get(s, 0) for each in self.counts) for s in STATUSES}
        legend = [
            (f'fill="{COLOURS[status]}"', f"{status} {total:,}")
            for status, total in totals.items()
            if total
        ]
        yield from _legend(AXIS_LEFT, 26, legend)
        if not legend:
            middle = (self.top + self.bottom) / 2
            yield _text(
                AXIS_LEFT + AXIS_WIDTH / 2, middle - 10, nothing, "middle faint"
            )
        for part in (0, 1, 2):
            y = self.bottom - (self.bottom - self.top) * part / 2
            yield f'<path class="line" d="M{AXIS_LEFT} {y:g}h{AXIS_WIDTH}"/>'
            yield _text(
                AXIS_LEFT - 6, y + 4, f"{self._most * part // 2:,}", "end faint"
            )

    def bar(self, number: int) -> Iterator[str]:
        """A bar, its parts in the order of the statuses."""
        unit = (self.bottom - self.top) / self._most
        x, y, width = self.x(number), float(self.bottom), self.x(1) - self.x(0)
        for status in STATUSES:
            if count := self.counts[number].get(status):
                height = max(LEAST_HEIGHT, unit * count)
                y -= height
                yield (
                    f'<rect x="{x + width * 0.12:.2f}" y="{y:.2f}" width="{width * 0.76:.2f}"'
                    f' height="{height:.2f}" fill="{COLOURS[status]}"/>'
                )


def axis_top(most: int) -> int:
    """The number at the top of an axis: 2, 4, 6, 8 or 10 times a power of ten, not below `most`."""
    size = 1
    while True:
        for step in (2, 4, 6, 8, 10):
            if step * size >= most:
                return step * size
        size *= 10


# Two months


@dataclass
class DayCell:
    """A day of the grid.

    Attributes:
        day: The day.
        kind: `holiday`, `makeup`, `weekend` or `workday`.
        here: The occurrences of the day in a few characters, a time or a number; empty without any.
        moved: Whether a holiday has moved an occurrence to this day.
        away: The days to which occurrences of this day were moved.
        dropped: Whether an occurrence of this day does not take place.
    """

    day: date
    kind: str = "workday"
    here: str = ""
    moved: bool = False
    away: tuple[date, ...] = ()
    dropped: bool = False


GROUNDS = {
    "workday": "#ffffff",
    "weekend": "#e9eef5",
    "holiday": "#fecaca",
    "makeup": "#bbf7d0",
}
LEGEND = (
    (f'class="line" fill="{GROUNDS["holiday"]}"', "holiday"),
    (f'class="line" fill="{GROUNDS["makeup"]}"', "make-up day"),
    (f'class="line" fill="{GROUNDS["weekend"]}"', "weekend"),
    (f'fill="{RUNS}"', "runs"),
    (f'fill="{MOVED}"', "moved here"),
    ('class="away"', "away, or left out"),
)
CELL_WIDTH, CELL_HEIGHT, GAP, EDGE, TOP = 42, 38, 20, 16, 58


def months(cells: Sequence[DayCell], today: date) -> str:
    """Two months side by side, Monday first.

    Args:
        cells: Every day of both months, ascending.
        today: The day with a thick frame; earlier days are faint.
    """
    both = [
        list(days) for _, days in groupby(cells, lambda c: (c.day.year, c.day.month))
    ]
    weeks = max((days[0].day.weekday() + len(days) + 6) // 7 for days in both)
    height = TOP + weeks * CELL_HEIGHT + 34
    parts = [*_month(both[0], EDGE, today)]
    parts += _month(both[1], EDGE + 7 * CELL_WIDTH + GAP, today)
    parts += _legend(EDGE, height - 14, LEGEND)
    return _svg(height, parts, "What comes next")


def _month(days: Sequence[DayCell], left: float, today: date) -> Iterator[str]:
    first = days[0].day
    yield _text(left, 26, f"{first:%B} {first.year}", "title")
    for column, name in enumerate(WEEKDAYS):
        yield _text(left + (column + 0.5) * CELL_WIDTH, 48, name, "middle faint")
    for place, cell in enumerate(days, first.weekday()):
        week, column = divmod(place, 7)
        x, y = left + column * CELL_WIDTH, TOP + week * CELL_HEIGHT
        parts = "".join(_cell(cell, today))
        yield f'<g transform="translate({x:g} {y:g})">{parts}</g>'


def _cell(cell: DayCell, today: date) -> Iterator[str]:
    past = cell.day < today
    frame = "today" if cell.day == today else "line past" if past else "line"
    yield (
        f'<rect class="{frame}" x="1" y="1" width="40" height="36" rx="3"'
        f' fill="{GROUNDS[cell.kind]}"/>'
    )
    yield _text(5, 13, str(cell.day.day), "small faint" if past else "small")
    gone = f"→ {cell.away[0].day}" if cell.away else "–"
    if cell.here:
        fill = MOVED if cell.moved else RUNS
        yield f'<rect x="3" y="17" width="36" height="17" rx="3" fill="{fill}"/>'
        yield _text(21, 29.5, cell.here, "middle small bold white")
        if cell.away:
            yield _text(38, 13, gone, "end tiny moved")
    elif cell.away or cell.dropped:
        yield '<rect class="away" x="3.5" y="17.5" width="35" height="16" rx="3"/>'
        yield _text(21, 29.5, gone, "middle small moved")
