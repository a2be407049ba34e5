"""The occurrences of a task, each with its explanation: as lines of a table, and as an iCalendar."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from icalendar import Calendar as ICalendar
from icalendar import Event

from jittask_prefect.schedule.explanation import Explained

EVENT_LENGTH = timedelta(minutes=15)
"""The length of an event: Outlook's day view hides events without a length."""


@dataclass(frozen=True)
class PreviewLine:
    """A line of a preview: an occurrence, or a run of occurrences that a holiday drops."""

    first: Explained
    last: Explained
    count: int = 1

    def cells(self) -> tuple[str, ...]:
        """Due, nominal, because, note."""
        item = self.first
        due = f"{item.due:%a %Y-%m-%d %H:%M %Z}" if item.due else "–"
        nominal = f"{item.nominal:%a %Y-%m-%d %H:%M}" * (item.due != item.nominal)
        if self.count > 1:
            nominal += f" … {self.last.nominal:%m-%d %H:%M} ({self.count})"
        level = f"level {item.level}" if item.level else ""
        note = "; ".join(filter(None, (level, item.note)))
        return due, nominal, item.because or "", note


def first_due(found: Iterable[Explained], count: int) -> Iterator[Explained]:
    """The occurrences up to the last of the first `count` that take place."""
    for item in found:
        yield item
        count -= item.due is not None
        if count <= 0:
            return


def preview_lines(found: Iterable[Explained]) -> Iterator[PreviewLine]:
    """The lines of a preview; occurrences that a holiday drops for the same reason share a line."""
    number = itertools.count()

    def group(item: Explained) -> object:
        dropped = item.due is None and item.moved_from
        about = (item.because, item.note, item.level)
        return about if dropped else next(number)

    for _, run in itertools.groupby(found, group):
        items = list(run)
        yield PreviewLine(items[0], items[-1], len(items))


def ics(
    found: Iterable[Explained], name: str, title: str, rule: str, now: datetime
) -> bytes:
    """An iCalendar (RFC 5545) of the occurrences that take place.

    Args:
        found: The occurrences.
        name: The task's full name, with the row's key where there is one. An event's UID follows from the name and the
            nominal time, so that a second import replaces the first.
        title: The task's title.
        rule: The rule in words.
        now: The instant at which the file is made; aware.

    Returns:
        The file's content. Times are in UTC, which every program reads without a zone table.
    """
    made = ICalendar()
    made.add("prodid", "-//jittask-prefect//preview//EN")
    made.add("version", "2.0")
    made.add("method", "PUBLISH")
    made.add("x-wr-calname", title)
    for item in found:
        if item.due is None:
            continue
        due, nominal = item.due.astimezone(UTC), item.nominal.astimezone(UTC)
        digest = hashlib.sha256(f"{name} {nominal.isoformat()}".encode()).hexdigest()
        event = Event()
        event.add("uid", f"{digest[:32]}@jittask-prefect")
        event.add("dtstamp", now.astimezone(UTC).replace(microsecond=0))
        event.add("dtstart", due)
        event.add("dtend", due + EVENT_LENGTH)
        event.add("summary", f"{title}: {item.level}" if item.level else title)
        event.add("transp", "TRANSPARENT")  # a task keeps nobody busy
        parts = (rule, item.origin, _explanation(item, item.due))
        event.add("description", "\n".join(filter(None, parts)))
        made.add_component(event)
    return bytes(made.to_ical())


def _explanation(item: Explained, due: datetime) -> str:
    parts = [f"Due {due:%Y-%m-%d %H:%M} ({item.zone})"]
    if item.because:
        nominal = f"{item.nominal:%Y-%m-%d %H:%M}"
        parts.append(f"moved from {nominal} because of {item.because}")
    return "; ".join(filter(None, (*parts, item.note))) + "."
