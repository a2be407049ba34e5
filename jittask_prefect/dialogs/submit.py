"""The effect of a submitted form, with a message for the run's state and a page that shows the task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from functools import cached_property
from itertools import islice

from jittask_prefect.dialogs import folder
from jittask_prefect.dialogs.actions import Actions
from jittask_prefect.dialogs.checking import checked
from jittask_prefect.dialogs.code import checked_code
from jittask_prefect.dialogs.conversion import (
    about_fields,
    arguments,
    config_of,
    shown_form,
)
from jittask_prefect.dialogs.edit import differing, edit_link, edited
from jittask_prefect.dialogs.fields import LINE, Field, Form, Json
from jittask_prefect.dialogs.forms import (
    EDIT,
    END,
    NEW_DATE_FIELD,
    NEW_SCHEDULED,
    RETRY,
    form,
    layout,
)
from jittask_prefect.dialogs.grouping import ungrouped
from jittask_prefect.dialogs.options import MARK
from jittask_prefect.dialogs.result import Result
from jittask_prefect.dialogs.versions import outdated, remember, version_of
from jittask_prefect.elements.app import App
from jittask_prefect.elements.built_in import TASK_TYPES
from jittask_prefect.elements.scaffold import OF_ROWS, RESERVED, SCHEDULED, english_name
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import (
    ConfigError,
    JittaskError,
    PrefectApiError,
    Problem,
    invalid,
)
from jittask_prefect.prefect_api import links
from jittask_prefect.prefect_api.answers import ServerDeployment
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.markup import md, table
from jittask_prefect.prefect_api.names import app_tag, of_app
from jittask_prefect.schedule.words import describe
from jittask_prefect.validation import shown

SHOWN = 10
"""Occurrences of a preview."""
SCHEDULE_AHEAD, ROWS_AHEAD = timedelta(days=400), timedelta(days=31)
DUE = "%a %Y-%m-%d %H:%M"


def submit(
    app: App,
    api: Api,
    actions: Actions,
    dialog: str,
    values: Form,
    now: datetime,
) -> Result:
    """Carry out a form.

    Args:
        app: The app.
        api: Prefect.
        actions: The actions beyond the app's files.
        dialog: The dialog's name.
        values: The submitted values.
        now: The present instant, aware.

    Raises:
        JittaskError: With everything that is wrong; nothing is written then.
        OutdatedForm: The form was made from another version of the task; the error's page leads to a fresh form.
    """
    fields = form(app, dialog, now)
    if dialog not in (NEW_SCHEDULED, NEW_DATE_FIELD):
        # The drop-down may be a minute old: other tasks are looked for.
        fields = [replace(f, schema=LINE) if f.name == "task" else f for f in fields]
    chosen = values.get("task")
    values = ungrouped(values, fields, layout(dialog))
    submission = Submission(app, api, actions, now, fields, values)
    if dialog == EDIT:
        return submission.edit()
    if dialog == END:
        return submission.end(str(chosen or ""))
    if dialog in (NEW_SCHEDULED, NEW_DATE_FIELD):
        return submission.make(rows=dialog == NEW_DATE_FIELD)
    if dialog == RETRY:
        return submission.retry()
    return submission.run()


@dataclass(frozen=True)
class Submission:
    """A submitted form; the arguments of `submit`, and the form's fields."""

    app: App
    api: Api
    actions: Actions
    now: datetime
    fields: list[Field]
    values: Form

    @cached_property
    def checked(self) -> Json:
        """The filled-in fields, each of its field's kind."""
        return checked(self.values, self.fields)

    def make(self, *, rows: bool) -> Result:
        """Make a task and deploy it."""
        filled, taken, told = self.checked, folder.names_in_use(self.app), ""
        name = filled.get("name")
        if name in RESERVED:
            raise folder.taken(name)
        if name is None:
            first = english_name(filled["title"], RESERVED)
            name = english_name(filled["title"], [*RESERVED, *taken])
            if name != first:
                told = f"; tasks.{first} is the name of another task"
        with self._told_of_fields():
            kind = next(n for n, t in TASK_TYPES.items() if t.rows == rows)
            config = config_of(filled, kind, rows=rows)
            code = checked_code(filled.get("code"), rows=rows)
            if code is None and config.get("funcType") != "Global":
                code = OF_ROWS if rows else SCHEDULED
            twins = [t for t in self.app.templates() if t.config == config]
            if "name" in filled:
                twins = [t for t in twins if t.fullName == f"tasks.{name}"]
            if left := self._without_deployment(twins, filled.get("code")):
                return self._deployed(left.fullName, "made")
            if twins and "name" not in filled:
                # Two tasks would do each thing twice.
                found = f"the values of {twins[0].fullName}"
                allowed = "another task name, or an English name, for a second task with the same values"
                raise invalid("title", found, allowed)
            folder.create(self.app, name, config, code or "", self.now)
        return self._deployed(f"tasks.{name}", "made", told)

    def _without_deployment(
        self, twins: Sequence[Meta], code: str | None
    ) -> Meta | None:
        """The task that an earlier try of a form has made, and whose deployment Prefect could not take; None without."""
        there = self._deployments() if twins else {}
        for twin in twins:
            inner = folder.inner_file(self.app, twin.fullName)
            same = code is None or (inner.exists() and inner.read_text() == code)
            if twin.declared is None and same and twin.fullName not in there:
                return twin
        return None

    def edit(self) -> Result:
        """Change a task's files where the form differs, and its deployment."""
        about = {name: self.values.get(name) for name in ("task", "version")}
        about = checked(about, self.fields)
        template = self._template(about["task"])
        name, rows = template.fullName, isinstance(template, DateFieldType)
        if template.declared is not None:
            found = f"{name}, which is the function {template.declared.function_name}"
            allowed = f"a task with a folder; this one is changed in {template.declared.source}"
            raise invalid("Task", found, allowed)

        differs = differing(template, self.values, self.fields)
        if not differs:
            told = f"{name} is already what the form says: nothing is written"
            return self._shown(told, name)
        version = about.get("version")
        if version not in (None, version_of(template)):
            link = self._edit_link(template, self._deployments())
            shows = shown_form(template)
            raise outdated(template, version, differs, shows, link)
        with self._told_of_fields():
            edit = edited(template, self.values, self.fields)
            code = checked_code(edit.code, rows=rows)
            inner = folder.inner_file(self.app, name)
            own_function = edit.config.get("funcType") != "Global"
            if code is None and own_function and not inner.exists():
                code = OF_ROWS if rows else SCHEDULED
            folder.change(self.app, template, edit.config, code, self.now)
        told = f": {', '.join(edit.changed)}"
        # A form with a version showed these values: somebody may have meant to take them away.
        if edit.left and version is not None:
            told += f"; left as it was, for its field is empty: {', '.join(edit.left)}"
        return self._deployed(name, "changed", told)

    def _template(self, name: str) -> Meta:
        """A task as its files are now, whatever this process has read of them before."""
        try:
            known = self.app.template(name)
            if known.declared is not None:  # its code changes with the process
                return known
            self.app.forget(name)
            return self.app.template(name)
        except ConfigError as error:
            found = f"{name}, whose files are broken"
            allowed = "a task that works; nothing is written over its files"
            problems = [*error.problems, Problem("", "Task", found, allowed)]
            raise ConfigError(problems) from None

    def _deployed(self, name: str, done: str, about: str = "") -> Result:
        """Deploy a task whose files are written: nothing is refused any more."""
        try:
            self.actions.deploy(name, self.now)
        except JittaskError as error:
            again = "`jittask deploy`, or *Retry* of this run,"
            left = again if done == "made" else "the next sync"
            told = f"{name} is {done}, and not deployed: {error}; {left} does it"
            return Result(told, "", name, failed=True)
        told = f"{name} is {done} and deployed{about}"
        return self._shown(told, name)

    def _shown(self, told: str, name: str) -> Result:
        """A message about a task, with the task's page and the links of that page."""
        try:
            there = self._deployments()
        except PrefectApiError:  # the task stands; the page has no links
            there = {}
        to, notes = self._links(name, there), self._notes(name)
        page = self._page(name, to, notes)
        return Result(told, page, name, links=to, notes=notes)

    def _notes(self, name: str) -> list[str]:
        """The work that is left for a person: a function that nobody has written yet."""
        inner = folder.inner_file(self.app, name)
        own = self.app.template(name).cfg.funcType != "Global"
        if own and inner.exists() and inner.read_text() in (OF_ROWS, SCHEDULED):
            place = f"{name.replace('.', '/')}/{inner.name}"
            return [f"Its function only writes a line to the log: fill in {place}"]
        return []

    def end(self, chosen: str) -> Result:
        """End a task; `chosen` is its text in the form's list."""
        given = [self.checked[n] for n in ("task", "taskId") if n in self.checked]
        if len(given) != 1:
            found = "both" if given else "nothing"
            allowed = "a task, or the id of one"
            raise invalid("Task", found, allowed)
        task_id = str(given[0])
        answer = self.actions.end(task_id)
        before, after = answer["previousStatus"], answer["status"]
        name, *_ = chosen.rsplit(MARK, 2)  # without the list's status and id
        shown = name or task_id
        told = f"{shown} was {before} and is {after}"
        if not answer["changed"]:
            told = f"{shown} is {after} already: nothing changed"
        return Result(told, links=self._home())

    def run(self) -> Result:
        """Run a task outside its schedule, in a flow run of its own."""
        template = self._template(self.checked["task"])
        row, given = self.checked.get("row"), self.checked.get("argDict")
        name = template.fullName
        if isinstance(template, DateFieldType):
            if row is None:
                allowed = f"the key of a row of {template.model_name}"
                raise invalid("Row", "nothing", allowed)
            if given is not None:
                allowed = "nothing: the function gets the row"
                raise invalid("Arguments", given, allowed)
            begun = self.actions.run_row(name, row, self.now)
            does = "is on its way already, as" if begun.before else "begins as"
            message = f"{name}, row {begun.row}, {does} flow run {begun.run_id}"
            return _begun(message, begun.url)
        if row is not None:
            allowed = f"nothing: {name} is a scheduled task"
            raise invalid("Row", row, allowed)
        try:
            called_with = (
                dict(template.cfg.argDict) if given is None else arguments(given)
            )
        except ValueError as error:
            raise invalid("Arguments", shown(given), str(error)) from None
        own = template.cfg.funcType != "Global"
        function = "customFunc" if own else str(template.cfg.func)
        made = self.actions.start(template, self.now, function, called_with)
        does = "is on its way already, as" if made.get("before") else "begins as"
        message = f"{name} {does} flow run {made['taskId']}"
        return _begun(message, str(made["url"]))

    def retry(self) -> Result:
        """Have failed tasks run again."""
        about, day = self.checked, self.checked.get("since")
        if not about:  # *Quick run* sends an empty form
            allowed = "a task, or the day since when tasks failed"
            raise invalid("Task", "nothing", allowed)
        template = self._template(about["task"]) if "task" in about else None
        since = None
        if day is not None:
            zone = template.timer.zone if template else self.app.zone
            since = start_of(day, zone)
        name = template.fullName if template else None
        told, to = self.actions.retry(name, since), {}
        if name:
            tag, base = of_app(self.app.name, name), links.base(self.api.ui_url)
            to["Its runs"] = links.runs(tag=tag, at=base)
        return Result(told, links={**to, **self._home()})

    def _home(self) -> dict[str, str]:
        """The address of the overview."""
        base = links.base(self.api.ui_url)
        return {"All tasks": links.overview(self.app.name, base)}

    @contextmanager
    def _told_of_fields(self) -> Iterator[None]:
        """Tell the problems of the files, made from the form, of the form's fields."""
        try:
            yield
        except ConfigError as error:
            raise about_fields(error, self.fields) from None

    # The page

    def _page(self, name: str, to: Mapping[str, str], notes: Sequence[str]) -> str:
        """A preview of a task: its rule, its next occurrences, and links to the task and to its form."""
        template = self.app.template(name)
        lines = [f"## {md(template.title)}", ""]
        try:
            lines += self._preview(template)
        except Exception as error:  # noqa: BLE001  a Type of the app's own may raise anything, and the task stands
            lines.append(f"No preview: {md(f'{type(error).__name__}: {error}')}")
        for note in notes:
            lines += ["", md(note)]
        lines += ["", *(f"- [{text}]({link})" for text, link in to.items())]
        return "\n".join(lines) + "\n"

    def _links(
        self, name: str, there: Mapping[str, ServerDeployment]
    ) -> dict[str, str]:
        """The addresses of a task: its deployment, its statistics, the overview, its form."""
        template, base = self.app.template(name), links.base(self.api.ui_url)
        found: dict[str, str] = {}
        if own := there.get(name):
            found["The task"] = links.deployment(own.id, base)
            names = self.app.names("tasks")
            page = links.statistics(self.app.name, name, names, base)
            found["Its statistics, from the next sync on"] = page
            found |= self._home()
        if link := self._edit_link(template, there):
            found["Edit it"] = link
        return found

    def _deployments(self) -> Mapping[str, ServerDeployment]:
        return self.api.deployments(app_tag(self.app.name))

    def _edit_link(self, template: Meta, there: Mapping[str, ServerDeployment]) -> str:
        """The address of the form that shows a task as it is; empty where there is no such dialog."""
        if EDIT not in there or template.declared is not None:
            return ""
        remember(template)
        return edit_link(links.base(self.api.ui_url), there[EDIT].id, template)

    def _preview(self, template: Meta) -> list[str]:
        rule = f"`{template.fullName}`: {describe(template.timer)}"
        if isinstance(template, DateFieldType):
            head = ("due", "row", "moved")
            until = self.now + ROWS_AHEAD
            upcoming = self.actions.upcoming_rows(template, self.now, until, SHOWN)
            rows = [(f"{r.due:{DUE}}", md(r.row), md(r.moved)) for r in upcoming]
            none = f"none within {ROWS_AHEAD.days} days, as the rows are now"
        else:
            head = ("due", "moved from", "because")
            rows = list(islice(_occurrences(template, self.now), SHOWN))
            none = f"none within {SCHEDULE_AHEAD.days} days"
        return [rule, "", *table(head, rows or [(none, "", "")])]


def start_of(day: str, zone: tzinfo) -> datetime:
    """The first instant of a day of a form.

    Raises:
        ConfigError: There is no such day.
    """
    try:
        return datetime.fromisoformat(day).replace(tzinfo=zone)
    except ValueError:
        raise invalid("Failed since", day, "a day as yyyy-MM-dd") from None


def _begun(message: str, url: str) -> Result:
    """A message about a flow run, which the log and the page lead to."""
    return Result(message, f"[Its flow run]({url})\n", links={"Its flow run": url})


def _occurrences(template: Meta, now: datetime) -> Iterator[tuple[str, str, str]]:
    """The next occurrences of a schedule: due time, day before the holiday move, reason."""
    found = template.explained(now, now + SCHEDULE_AHEAD)
    for each in islice(found, 3 * SHOWN):
        if each.due is not None:
            moved = f"{each.moved_from:%a %Y-%m-%d}" if each.moved_from else ""
            yield f"{each.due:{DUE}}", moved, md(each.because or each.note)
