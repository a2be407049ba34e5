"""What must have happened, and what must not, said without the code under test: rows by hand, dates by hand.

Times of rows are wall times of the app's zone, which has no summer time. `ns` are moments of the machine's monotonic
clock: a row's state holds from before the statement that made it until after the statement that ended it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import count
from typing import Any

FOREVER = 2**63 - 1
COUNTERS = ("Lost", "Dup", "Stale", "Ghost")
MARGIN = timedelta(
    hours=3
)  # a change is seen by the next sync that lives; on the edge of `lookback` either is right
CLOSED = ("2037-03-18", "2037-03-20/2037-03-20")
_CLOSED = (date(2037, 3, 18), date(2037, 3, 20))  # a Wednesday and a Friday
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
KINDS = {
    "once": ("tasks.Once", "tasks.Before"),
    "office": ("tasks.Office",),
    "every": ("tasks.Every",),
    "daily": ("tasks.Daily",),
}
TEMPLATES = tuple(name for names in KINDS.values() for name in names)
RETRIES = {"tasks.Before": 0}
LOOKBACK = {"tasks.Before": DAY}

Key = tuple[str, int, int, datetime]
"""Template, row, how often the row's date has changed, due time."""


def working(day: datetime) -> datetime:
    """The same clock time on the next day that is neither weekend nor closed."""
    while day.weekday() >= 5 or day.date() in _CLOSED:
        day += DAY
    return day


def dues(template: str, at: datetime, until: datetime) -> Iterator[datetime]:
    """When a row of this date is due, up to an instant."""
    step = {"tasks.Every": 2 * HOUR, "tasks.Daily": DAY}.get(template)
    if step is None:
        due = {
            "tasks.Once": at,
            "tasks.Before": at - 2 * HOUR,
            "tasks.Office": working(at + DAY),
        }[template]
        if due <= until:
            yield due
        return
    for number in count():
        if at + number * step > until:
            return
        yield at + number * step


@dataclass
class Span:
    """A state of a row, and how long it held."""

    version: int
    at: datetime | None
    open: bool
    since: datetime
    begin: int
    end: int = FOREVER

    @property
    def valid(self) -> bool:
        return self.open and self.at is not None


@dataclass
class Row:
    """A row with its history; `at` and `open` are what the database has now, `gone` that it has no such row."""

    id: int
    kind: str
    spans: list[Span] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    gone: bool = False

    @property
    def now(self) -> Span:
        return self.spans[-1]


@dataclass
class Effect:
    """What a task left in the log: the date that it saw, and when it was due, began, and was begun."""

    task_id: str
    template: str
    row: int
    at: datetime
    due: datetime
    began: int
    claimed: int


class Oracle:
    """The rows as they are and were, the effects, and the four counters."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.effects: dict[Key, Effect] = {}
        # What was done at an instant is not done again, also where the row's date has gone away and come back.
        self.done: dict[tuple[str, int, datetime], Effect] = {}
        self.closed: dict[Key, int] = {}  # forced ends: when each was confirmed
        self.ended: dict[str, int] = {}  # the same, by task
        self.free: set[Key] = (
            set()
        )  # may or may not run: cancelled in Prefect, or its worker died too often
        self.expected: set[Key] = set()
        self.count: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        self.found: list[tuple[str, int, str]] = []

    def change(
        self, key: int, begin: int, end: int, now: datetime, what: str, **new: Any
    ) -> None:
        """A change that was committed between two moments; `gone` deletes the row."""
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = Row(key, new["kind"])
            before = None
        else:
            before = row.now
        at = new.get("at", before.at if before else None)
        held = new.get("open", before.open if before else True)
        row.gone = bool(new.get("gone"))
        if row.gone:
            at, held = None, False
        row.log.append(
            f"{now:%d %H:%M} {what}: at={at} open={held}{' gone' if row.gone else ''}"
        )
        if before and (before.at, before.open) == (at, held):
            return
        version = before.version + (before.at != at) if before else 1
        if before:
            before.end = end
        row.spans.append(Span(version, at, held, now, begin))

    def spent(self, row: Row, now: datetime) -> bool:
        """Whether all that the row's present date makes due is known to be done."""
        span = row.now
        if not span.valid or span.at is None:
            return True
        return all(
            (name, row.id, due) in self.done
            for name in KINDS[row.kind]
            for due in dues(name, span.at, now)
        )

    def key_of(self, template: str, key: int, due: datetime) -> Key | None:
        """The occurrence of a row's present date that is due at an instant."""
        row = self.rows.get(key)
        if (
            row is None
            or row.now.at is None
            or due not in dues(template, row.now.at, due)
        ):
            return None
        return template, key, row.now.version, due

    def fail(self, counter: str, row: int, text: str) -> None:
        self.count[counter] += 1
        self.found.append((counter, row, text))

    def effect(self, effect: Effect, now: datetime) -> None:
        """Take up an effect: whether it was right, and the first of its identity."""
        row = self.rows[effect.row]
        held = [
            s for s in row.spans
            if s.valid and s.at == effect.at and s.begin <= effect.began and s.end >= effect.claimed
        ]  # fmt: skip
        about = f"{effect.template} row {effect.row}, due {effect.due}, task {effect.task_id}"
        if not held:
            self.fail(
                "Stale",
                effect.row,
                f"{about}: it saw {effect.at}, which the row did not have then",
            )
            return
        fresh = [
            s
            for s in held
            if (effect.template, effect.row, s.version, effect.due) not in self.effects
        ]
        span = (fresh or held)[-1]
        key = (effect.template, effect.row, span.version, effect.due)
        if effect.due > now or effect.due not in dues(effect.template, effect.at, now):
            self.fail(
                "Stale",
                effect.row,
                f"{about}: no occurrence of {effect.at}, or not due yet",
            )
            return
        if all(self._due(effect.template, s, effect.due) is False for s in held):
            self.fail("Stale", effect.row, f"{about}: was missed, and ran")
        instant = (effect.template, effect.row, effect.due)
        if instant in self.done:
            self.fail(
                "Dup",
                effect.row,
                f"{about}: had an effect already, of task {self.done[instant].task_id}",
            )
            return
        self.effects[key] = self.done[instant] = effect
        if effect.task_id in self.ended:
            self.fail(
                "Ghost", effect.row, f"{about}: ended by force, and has an effect"
            )
        elif effect.began > self.closed.get(key, FOREVER):
            self.fail(
                "Ghost", effect.row, f"{about}: its occurrence had been ended by force"
            )

    def _due(self, template: str, span: Span, due: datetime) -> bool | None:
        """Whether an occurrence of a row's state is to run; None where both are right."""
        assert span.at is not None
        if template in LOOKBACK:
            edge = span.since - LOOKBACK[template]
            return None if abs(due - edge) <= MARGIN else due > edge
        if template == "tasks.Daily" and due + DAY <= span.since + MARGIN:
            return None if due + DAY > span.since else False
        return True

    def settle(self, now: datetime) -> None:
        """Everything has had the time to run: what has no effect is lost."""
        for row in self.rows.values():
            span = row.now
            if not span.valid or span.at is None:
                continue
            for template in KINDS[row.kind]:
                for due in dues(template, span.at, now):
                    key = (template, row.id, span.version, due)
                    if key in self.expected or key in self.closed or key in self.free:
                        continue
                    if self._due(template, span, due):
                        self.expected.add(key)
                        if (template, row.id, due) not in self.done:
                            self.fail(
                                "Lost",
                                row.id,
                                f"{template} row {row.id}, date {span.at}, due {due}",
                            )
