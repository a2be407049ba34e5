"""An app's page as Markdown, for Prefect's UI: users' texts stand in the page as plain text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from jittask_prefect.dialogs.options import labelled
from jittask_prefect.dialogs.words import SWITCH
from jittask_prefect.prefect_api import links
from jittask_prefect.prefect_api.markup import cut, md, table
from jittask_prefect.prefect_api.names import of_app
from jittask_prefect.records import charts
from jittask_prefect.records.app_facts import HOUR, Kind, Trouble
from jittask_prefect.records.moments import day_text
from jittask_prefect.records.overview import DayHour, Overview, Planned, TaskLine
from jittask_prefect.records.overview_troubles import MOST_NAMED

MOST_WRONG = 20
"""Lines of troubles; the others are counted."""
TITLE, RULE, MESSAGE = 60, 200, 120
"""Characters of a title, a rule and a message at most."""
MOST_PAGE = 200_000
"""Characters of the page at most."""
MOST_IN_AN_HOUR = 12
"""Tasks that an hour of the day names; further tasks are counted."""
HEAD = ("task", "when", "next due", "last", "pending", "overdue", "failed, 24 h", "")
HALF_A_DAY = 12
OTHERS = "Other tasks"
Safe = Callable[[str, int], str]
"""Makes a text safe for its place: the text, and the characters at most."""


@dataclass(frozen=True)
class PageLinks:
    """The values for the page's links.

    Attributes:
        run: The id of the dialog that runs a task now; empty without the dialog.
        edit: By task, the address of its filled form for editing.
        retry: The id of the dialog that runs failed tasks again; empty where the dialog is missing.
        forms: By text, the addresses of forms that concern no single task.
        editing: The id of the dialog for editing; a task without a filled form opens it with the task chosen.
    """

    run: str = ""
    edit: Mapping[str, str] = field(default_factory=dict)
    retry: str = ""
    forms: Mapping[str, str] = field(default_factory=dict)
    editing: str = ""


def summary(page: Overview, artifact_id: str) -> str:
    """The text above the page, and on the page of its key.

    Args:
        page: The page.
        artifact_id: The artifact's id; empty while it is not known.
    """
    told = f"{len(page.wrong)} things need a look"
    if len(page.wrong) == 1:
        told = "one thing needs a look"
    if not page.wrong:
        told = page.calm[0][0].lower() + page.calm[0][1:]
    text = f"**{md(page.title, TITLE)}**: {told}."
    if artifact_id:
        text += f" [Open the overview]({links.artifact(artifact_id)})"
    return text


def markdown(page: Overview, to: PageLinks) -> str:
    """The page.

    Where the page would be longer than `MOST_PAGE`, its links for editing open the form with the task alone.

    Args:
        page: The page.
        to: The values for the links.
    """
    text = "\n".join(_lines(page, to))
    if len(text) > MOST_PAGE:
        text = "\n".join(_lines(page, replace(to, edit={})))
    return cut(text, MOST_PAGE)


def _lines(page: Overview, to: PageLinks) -> Iterator[str]:
    names = [task.facts.name for task in page.tasks]
    writer = _Writer(page, to, names)
    yield from (writer.as_of(), "")
    yield from writer.wrong()
    yield from writer.picture()
    yield from writer.tasks()
    yield from writer.day()


@dataclass(frozen=True)
class _Writer:
    """Writes the parts of a page."""

    page: Overview
    to: PageLinks
    names: Collection[str]

    def as_of(self) -> str:
        """The page's time: an old page tells that no sync runs."""
        old = "where that is more than 15 minutes ago, no worker runs the sync"
        return f"As of {self.page.as_of}; {old}."

    # Faults

    def wrong(self) -> Iterator[str]:
        """A line for each trouble."""
        found = self.page.wrong
        if not found:
            yield "**{}**: {}.".format(*self.page.calm)
        else:
            yield "**Needs a look**"
        yield ""
        for trouble in found[:MOST_WRONG]:
            yield f"- {self._trouble(trouble)}"
        if (more := len(found) - MOST_WRONG) > 0:
            yield f"- and {more:,} more, each first in its group below"
        yield ""

    def _trouble(self, trouble: Trouble) -> str:
        told = md(trouble.text, 300)
        if not trouble.task:
            return told
        shown = f"**{md(trouble.title, TITLE)}**: {told}"
        status = {Kind.OVERDUE: "overdue", Kind.FAILING: "error"}.get(trouble.kind)
        if status is None:
            return shown
        found = f"{shown} · [its runs]({self._runs(trouble.task, status)})"
        if trouble.kind is Kind.FAILING and self.to.retry:
            about = {"task": labelled(trouble.title, trouble.task)}
            found += f" · {self._retry(about)}"
        return found

    def _retry(self, filled: Mapping[str, str]) -> str:
        return f"[retry]({links.form(self.to.retry, filled)})"

    def _runs(self, name: str, status: str) -> str:
        return links.runs(status, tag=of_app(self.page.app, name))

    # The picture

    def picture(self) -> Iterator[str]:
        """Sums and the last 24 hours and the next."""
        page = self.page
        tasks = page.tasks
        pending = sum(task.pending for task in tasks)
        overdue = sum(task.overdue for task in tasks)
        executing = sum(task.executing for task in tasks)
        failed = sum(task.failed for task in tasks)
        told = [f"{len(tasks):,} tasks", f"{pending:,} pending"]
        told += [f"{executing:,} at work"] if executing else []
        told += [f"{overdue:,} overdue", f"{failed:,} failed in 24 hours"]
        yield " · ".join(told) + self._failing(tasks)
        hours = {hour.start: hour.counts for hour in page.hours}
        chart = charts.data_uri(charts.by_hour(hours, page.now))
        yield from ("", f"![The last 24 hours and the next]({chart})", "")
        if self.to.forms:
            shown = (f"[{text}]({link})" for text, link in self.to.forms.items())
            yield from (" · ".join(shown), "")

    # Tasks

    def tasks(self) -> Iterator[str]:
        """All tasks in one table, so that its columns stay below each other; a line in bold begins each group."""
        groups = self.page.groups
        rows: list[Sequence[str]] = []
        for group in groups:
            if len(groups) > 1:
                name = md(group.name or OTHERS, TITLE).upper()
                rows.append((f"**{name}**", *[""] * (len(HEAD) - 1)))
            rows += [self._cells(task) for task in group.tasks]
        yield from ("### Tasks", "", *table(HEAD, rows), "")

    def _cells(self, task: TaskLine) -> Sequence[str]:
        facts = task.facts
        title = md(facts.title, TITLE)
        mark = f"**{title}**" if task.wrong is not None else title
        return (
            mark,
            md(facts.rule.replace("`", ""), RULE),
            self._next(task),
            self._last(task),
            self._count(task, task.pending, "pending"),
            self._count(task, task.overdue, "overdue"),
            self._failed(task),
            self._links(task),
        )

    def _next(self, task: TaskLine) -> str:
        page, facts = self.page, task.facts
        if facts.state and task.next_due is None:
            return facts.state
        if task.next_due is None:
            return "–"
        at = page.moment(task.next_due)
        told = f"{at}, {rows_text(task.next_count)}" if task.next_count else at
        return f"{told} ({facts.state})" if facts.state else told

    def _last(self, task: TaskLine) -> str:
        last = task.last
        if last is None:
            return "–"
        at = self.page.moment(last.at)
        shown = f"**{last.status}**" if last.status == "error" else last.status
        return f"{shown} {at}{last.share}"

    def _count(self, task: TaskLine, count: int, status: str) -> str:
        if not count:
            return "0"
        return f"[{count:,}]({self._runs(task.facts.name, status)})"

    def _failing(self, tasks: Sequence[TaskLine]) -> str:
        """The tasks that failed in 24 hours, the most failures first; each leads to the failed runs."""
        failing = sorted((t for t in tasks if t.failed), key=lambda t: -t.failed)
        if not failing:
            return ""
        named = [
            f"[{md(task.facts.title, TITLE)}]({self._failed_runs(task)})"
            for task in failing[:MOST_NAMED]
        ]
        more = len(failing) - len(named)
        return f": {', '.join(named)}" + (f" and {more:,} more" if more else "")

    def _failed_runs(self, task: TaskLine) -> str:
        tag, since = of_app(self.page.app, task.facts.name), self.page.since
        return links.runs("error", tag=tag, start=since, end=since + 48 * HOUR)

    def _failed(self, task: TaskLine) -> str:
        if not task.failed:
            return "0"
        since, to = self.page.since, self._failed_runs(task)
        found = f"[{task.failed:,}]({to})"
        if self.to.retry:
            about = {"task": _label(task), "since": since.date().isoformat()}
            found += f" · {self._retry(about)}"
        return found

    def _links(self, task: TaskLine) -> str:
        name, found = task.facts.name, []
        statistics = links.statistics(self.page.app, name, self.names)
        if self.to.run:
            to_form = links.form(self.to.run, {"task": _label(task)})
            found.append(f"[Run now]({to_form})")
        if not task.facts.declared:
            short = links.form(self.to.editing, {"task": _label(task)})
            empty = short if self.to.editing else statistics
            found.append(f"[Edit]({self.to.edit.get(name, empty)})")
            found += self._switch(task)
        return " · ".join([*found, f"[statistics]({statistics})"])

    def _switch(self, task: TaskLine) -> list[str]:
        """A link to the form that pauses the task, or enables a disabled task; its other fields stay as they are."""
        if not self.to.editing:
            return []
        off = task.facts.state == "disabled"
        filled = {"task": _label(task), "enable": SWITCH[off]}
        text = "Enable" if off else "Pause"
        return [f"[{text}]({links.form(self.to.editing, filled)})"]

    # The day

    def day(self) -> Iterator[str]:
        """The due tasks of the day, hour by hour."""
        page = self.page
        yield from (f"### {day_title(page)}", "")
        rows = list(day_rows(page, md))
        if rows:
            yield from table(("hour", "tasks"), rows)
        else:
            yield "Nothing is due."
        yield ""
        if page.uncounted:
            yield from (f"{md(uncounted_text(page), 300)}", "")


def _label(task: TaskLine) -> str:
    """A task as the drop-downs of forms have it."""
    return labelled(task.facts.title, task.facts.name)


def day_rows(page: Overview, safe: Safe) -> Iterator[tuple[str, str]]:
    """The hours of the day, each with its tasks.

    Tasks that are due alike in every hour stand in a line of their own, and so do hours after each other in which the same
    is due.

    Args:
        page: The page.
        safe: Makes a title safe for its place.
    """
    hours = list(page.day_hours)
    steady = _steady(hours)
    if steady:
        every = replace(hours[0], tasks=steady)
        span = f"{hours[0].start:%H:%M} … {hours[-1].start:%H:%M}"
        yield span, f"each hour: {planned_text(every, safe)}"
    told, known = [], {task.name for task in steady}
    for hour in hours:
        rest = [task for task in hour.tasks if task.name not in known]
        if rest:
            told.append((hour.start, planned_text(replace(hour, tasks=rest), safe)))
    for _, found in groupby(
        enumerate(told), lambda each: (each[1][1], each[1][0] - each[0] * HOUR)
    ):
        alike = [each for _, each in found]
        first, text = alike[0]
        if len(alike) == 1:
            yield f"{first:%H:%M}", text
        else:
            yield f"{first:%H:%M} … {alike[-1][0]:%H:%M}", f"each hour: {text}"


def _steady(hours: Sequence[DayHour]) -> list[Planned]:
    """The tasks that are due alike in every hour, of at least half a day."""
    if len(hours) < HALF_A_DAY:
        return []
    by_name = [{task.name: task for task in hour.tasks} for hour in hours]
    return [
        task
        for task in hours[0].tasks
        if all(tasks.get(task.name) == task for tasks in by_name)
    ]


def day_title(page: Overview) -> str:
    """The day that is shown hour by hour: `Tomorrow, Tue 1 Dec`."""
    today = page.now.date()
    near = {-1: "Yesterday", 0: "Today", 1: "Tomorrow"}.get((page.day - today).days)
    shown = day_text(page.day, today)
    return f"{near}, {shown}" if near else shown


def rows_text(count: int) -> str:
    """A number of rows: `1 row`, `1,200 rows`."""
    return f"{count:,} row" if count == 1 else f"{count:,} rows"


def planned_text(hour: DayHour, safe: Safe) -> str:
    """The tasks of an hour in a line, e.g. `Contract reminder (12 rows), Rent`; past tasks with their status.

    Args:
        hour: The hour.
        safe: Makes a title safe for its place, with the characters at most.
    """
    parts = []
    for task in hour.tasks[:MOST_IN_AN_HOUR]:
        total = sum(task.counts.values())
        about = [rows_text(total)] if task.rows else [f"{total:,} times"] * (total > 1)
        others = {s: n for s, n in task.counts.items() if s != "pending"}
        if len(task.counts) == 1 and others:
            about += list(others)
        else:
            about += [f"{n:,} {status}" for status, n in others.items()]
        parts.append(
            safe(task.title, TITLE) + (f" ({', '.join(about)})" if about else "")
        )
    if more := hour.tasks[MOST_IN_AN_HOUR:]:
        parts.append(f"and {len(more):,} more tasks")
    return ", ".join(parts)


def uncounted_text(page: Overview) -> str:
    """The tasks whose rows are not counted on the day."""
    named = ", ".join(page.uncounted[:5])
    more = len(page.uncounted) - 5
    named += f" and {more:,} more" if more > 0 else ""
    return f"Not counted, or not wholly, since there are too many or they cannot be read: {named}. `jittask pending TASK` lists them."
