"""The facts of an app's overview that templates tell: the rule, the next due time, calendars that end, files with mistakes.

A Type of the app's own may raise anything. Its task is marked then, and the page has all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import JittaskError
from jittask_prefect.prefect_api.answers import ServerDeployment
from jittask_prefect.records.app_facts import CALENDAR_ENDS, Kind, TaskFacts, Trouble
from jittask_prefect.schedule.words import describe

FAILS = "its Type fails"
"""The state of a task whose Type raises."""


class Failures(dict[str, str]):
    """By full name, the error of a template's Type."""

    def note(self, template: Meta, error: Exception) -> None:
        """Remember the first failure of a template."""
        said = " ".join(f"{type(error).__name__}: {error}".split())
        self.setdefault(template.fullName, said)

    def troubles(self, tasks: Iterable[TaskFacts]) -> Iterator[Trouble]:
        """A line for each task whose Type fails."""
        for task in tasks:
            if task.name in self:
                told = f"{FAILS}: {self[task.name]}"
                yield Trouble(Kind.BROKEN, told, task.name, task.title)


def task_facts(
    template: Meta,
    now: datetime,
    there: Mapping[str, ServerDeployment],
    failures: Failures,
) -> TaskFacts:
    """The facts of a template.

    Args:
        template: The template.
        now: The present instant.
        there: The deployments on the server.
        failures: Takes the errors of the template's Type.
    """
    try:
        return _of(template, now, there)
    except Exception as error:  # noqa: BLE001  of the app's own code
        failures.note(template, error)
        rows = isinstance(template, DateFieldType)
        return TaskFacts(template.fullName, template.title, rows=rows, state=FAILS)


def _of(
    template: Meta, now: datetime, there: Mapping[str, ServerDeployment]
) -> TaskFacts:
    deployment = there.get(template.fullName)
    rows = isinstance(template, DateFieldType)
    state = ""
    if not template.enable:
        state = "disabled"
    elif deployment is not None and deployment.paused:
        state = "paused"
    elif template.by_code:
        state = "by code only"
    elif template.own_times:
        state = "its Type decides"
    series = None if state or rows else template.series()
    following = series.next(now) if series is not None else None
    return TaskFacts(
        name=template.fullName,
        title=template.title,
        rule="" if template.by_code else _rule(template),
        group=next(iter(template.cfg.tags), ""),
        rows=rows,
        state=state,
        next_due=following.due if following else None,
        declared=template.declared is not None,
    )


def _rule(template: Meta) -> str:
    """The rule in words; the app's own zone stands once on the page."""
    words, zone = describe(template.timer), template.timer.zone.key
    return words.replace(f" ({zone})", "") if zone == template.app.timezone else words


def broken(app: App, templates: Sequence[Meta]) -> Iterator[Trouble]:
    """A line for all elements that do not load."""
    working = {template.fullName for template in templates}
    found = []
    for name in app.names("tasks"):
        if name not in working:
            try:
                app.getElement(name)  # a Type is no template
            except JittaskError:
                found.append(name)
    if found:
        more = f" and {len(found) - 3} more" if found[3:] else ""
        named = ", ".join(found[:3]) + more
        told = f"{named}: files with mistakes; `jittask check` tells which"
        yield Trouble(Kind.BROKEN, told)


def calendars(templates: Iterable[Meta], now: datetime) -> Iterator[Trouble]:
    """A line for each calendar in use whose published days end soon."""
    told = set[str]()
    for template in templates:
        calendar, cfg = template.timer.calendar, template.timer.cfg
        if calendar is None or not cfg.asks_calendar:
            continue
        until = calendar.reliable_until
        soon = (now + CALENDAR_ENDS).astimezone(template.timer.zone).date()
        if until is not None and until < soon and calendar.limit not in told:
            told.add(calendar.limit)
            yield Trouble(Kind.CALENDAR, calendar.limit)
