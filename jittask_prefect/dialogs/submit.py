"""What a submitted form does. Each returns what was done, and a page in Markdown that shows it."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from jittask_prefect.dialogs import folder
from jittask_prefect.dialogs.actions import Actions
from jittask_prefect.dialogs.edit import differing, edit_link, edited, ended, shown_form
from jittask_prefect.dialogs.fields import Field
from jittask_prefect.dialogs.forms import (
    EDIT,
    END,
    NEW_DATE_FIELD,
    NEW_SCHEDULED,
    RUN_NOW,
    TASK_ID,
    form,
    types_of,
)
from jittask_prefect.dialogs.values import arguments, checked, config_of, in_the_form
from jittask_prefect.dialogs.versions import outdated, remember, version_of
from jittask_prefect.elements.app import App
from jittask_prefect.elements.scaffold import OF_ROWS, RESERVED, SCHEDULED, english_name
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import ConfigError, JittaskError, PrefectApiError, Problem
from jittask_prefect.prefect_api import links
from jittask_prefect.prefect_api.client import Api
from jittask_prefect.prefect_api.markup import md
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.schedule.words import describe
from jittask_prefect.validation import shown

SHOWN = 10  # occurrences of a preview
AHEAD, SOON = (
    timedelta(days=400),
    timedelta(days=31),
)  # looked ahead: of a schedule, of rows
DUE = "%a %Y-%m-%d %H:%M"


@dataclass(frozen=True)
class Done:
    """What a dialog did.

    Attributes:
        said: In a sentence, for the run's state.
        page: In Markdown; empty where there is nothing to show.
        name: The task's full name, for the page's key.
        failed: Whether a part of it is left to do, as `said` tells.
    """

    said: str
    page: str = ""
    name: str = ""
    failed: bool = False


def submit(
    app: App,
    api: Api,
    actions: Actions,
    dialog: str,
    said: Mapping[str, Any],
    now: datetime,
) -> Done:
    """Do what a form says.

    Args:
        app: The app.
        api: Prefect.
        actions: What is done beyond the app's files.
        dialog: The dialog's name.
        said: What was filled in.
        now: The present instant.

    Raises:
        JittaskError: With everything that is wrong; nothing is written then.
        OutdatedForm: A form for editing was made from another state of the task; its page leads to a fresh form.
    """
    fields = form(app, dialog, now)
    if dialog in (EDIT, RUN_NOW, END):
        fields = [_any(field) if field.name == "task" else field for field in fields]
    if dialog == EDIT:
        return _edit(app, api, actions, said, fields, now)
    filled = checked(
        {name: value for name, value in said.items() if value is not None}, fields
    )
    if dialog in (NEW_SCHEDULED, NEW_DATE_FIELD):
        return _new(
            app, api, actions, filled, fields, now, rows=dialog == NEW_DATE_FIELD
        )
    if dialog == END:
        return _end(actions, filled)
    assert dialog == RUN_NOW
    return _run(app, actions, filled, now)


def _any(field: Field) -> Field:
    """The drop-down may be a minute old: what it does not have is looked for."""
    return Field(
        field.name,
        field.title,
        {"type": "string", "maxLength": 400},
        field.about,
        field.required,
    )


def _new(
    app: App,
    api: Api,
    actions: Actions,
    filled: dict[str, Any],
    fields: list[Field],
    now: datetime,
    *,
    rows: bool,
) -> Done:
    tasks = app.path / "tasks"
    there = [place.name for place in tasks.iterdir()] if tasks.is_dir() else []
    name = filled.get("name") or english_name(filled["title"], [*RESERVED, *there])
    if name in RESERVED:
        raise folder.taken(name)
    with _told(fields):
        said = config_of(filled, types_of(app, rows=rows), rows=rows)
        code = _code(said.code, rows) or (OF_ROWS if rows else SCHEDULED)
        if said.config.get("funcType") == "Global":
            code = said.code or ""
        if "name" not in filled:
            _not_twice(app, said.config)
        folder.create(app, name, said.config, code)
    return _deployed(app, api, actions, f"tasks.{name}", "made", now)


def _not_twice(app: App, config: Mapping[str, Any]) -> None:
    """Refuse a form that was submitted twice: two tasks would do each thing twice."""
    for template in app.templates():
        if template.config == config:
            allowed = (
                "another name, or an English name, for a second task that does the same"
            )
            raise ConfigError(
                Problem("", "title", f"all that {template.fullName} has", allowed)
            )


def _edit(
    app: App,
    api: Api,
    actions: Actions,
    said: Mapping[str, Any],
    fields: list[Field],
    now: datetime,
) -> Done:
    about = checked(
        {
            name: said[name]
            for name in ("task", "version")
            if said.get(name) is not None
        },
        fields,
    )
    template = _now(app, about["task"])
    name, rows = template.fullName, isinstance(template, DateFieldType)
    differs = differing(template, said, fields)
    if not differs:
        return Done(
            f"{name} is already what the form says: nothing is written",
            _page(app, api, actions, name, now),
            name,
        )
    if about.get("version", version_of(template)) != version_of(template):
        link = _link(app, api, template, api.deployments(app_tag(app.name)))
        raise outdated(template, about["version"], differs, shown_form(template), link)
    with _told(fields):
        edit = edited(template, said, fields)
        code = _code(edit.code, rows)
        inner = app.path / name.replace(".", "/") / "inner.py"
        if (
            code is None
            and edit.config.get("funcType") != "Global"
            and not inner.exists()
        ):
            code = OF_ROWS if rows else SCHEDULED
        folder.change(app, template, edit.config, code)
    told = f": {', '.join(edit.changed)}"
    if (
        edit.empty and "version" in about
    ):  # a form that showed them: somebody may have meant to take them away
        told += f"; left as it was, for its field is empty: {', '.join(edit.empty)}"
    return _deployed(app, api, actions, name, "changed", now, told)


def _now(app: App, name: str) -> Meta:
    """A task as its files are now, whatever this process has read of them before."""
    try:
        app.template(name)
        app.forget(name)
        return app.template(name)
    except ConfigError as error:
        allowed = "a task that works; nothing is written over its files"
        broken = Problem("", "Task", f"{name}, whose files are broken", allowed)
        raise ConfigError([*error.problems, broken]) from None


def _deployed(
    app: App,
    api: Api,
    actions: Actions,
    name: str,
    done: str,
    now: datetime,
    about: str = "",
) -> Done:
    """Deploy a task whose files are written: from here on nothing is refused any more."""
    try:
        actions.deploy(name, now)
    except JittaskError as error:
        left = "`jittask deploy` does it" if done == "made" else "the next sync does it"
        return Done(
            f"{name} is {done}, and not deployed: {error}; {left}",
            "",
            name,
            failed=True,
        )
    return Done(
        f"{name} is {done} and deployed{about}",
        _page(app, api, actions, name, now),
        name,
    )


def _end(actions: Actions, filled: Mapping[str, Any]) -> Done:
    given = [name for name in ("task", "taskId") if name in filled]
    if len(given) != 1:
        raise ConfigError(
            Problem(
                "", "Task", "both" if given else "nothing", "a task, or the id of one"
            )
        )
    task_id = str(filled[given[0]]).rpartition(TASK_ID)[2]
    answer = actions.end(task_id)
    return Done(f"{task_id} was {answer['previousStatus']} and is {answer['status']}")


def _run(app: App, actions: Actions, filled: Mapping[str, Any], now: datetime) -> Done:
    template = _now(app, filled["task"])
    if isinstance(template, DateFieldType):
        if "argDict" in filled:
            raise ConfigError(
                Problem(
                    "",
                    "Arguments",
                    filled["argDict"],
                    "nothing: the function gets the row",
                )
            )
        answer = actions.run_row(template.fullName, filled.get("row"), now)
        return Done(
            f"{template.fullName}, row {answer['row']}: {json.dumps(answer['result'], ensure_ascii=False)}"
        )
    if "row" in filled:
        raise ConfigError(
            Problem(
                "",
                "Row",
                filled["row"],
                f"nothing: {template.fullName} is a scheduled task",
            )
        )
    try:
        given = (
            arguments(filled["argDict"])
            if "argDict" in filled
            else dict(template.cfg.argDict)
        )
    except ValueError as error:
        raise ConfigError(
            Problem("", "Arguments", shown(filled["argDict"]), str(error))
        ) from None
    func = str(template.cfg.func) if template.cfg.funcType == "Global" else "customFunc"
    made = actions.start(template, now, func, given)
    return Done(
        f"{template.fullName} begins as flow run {made['taskId']}",
        f"[Its flow run]({made['url']})\n",
    )


@contextmanager
def _told(fields: list[Field]) -> Iterator[None]:
    """Say of the form's fields what is wrong with the files that it makes."""
    try:
        yield
    except ConfigError as error:
        raise in_the_form(error, fields) from None


def _code(code: str | None, rows: bool) -> str | None:
    """An inner.py from a form, which the app allows; it is looked at, and never run here.

    Raises:
        ConfigError: It is no Python, or has no customFunc.
    """
    if code is None:
        return None
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        said = (
            str(error).encode(errors="backslashreplace").decode()
            or type(error).__name__
        )
        raise ConfigError(Problem("", "code", said, "Python")) from None
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    if not any(
        isinstance(node, functions) and node.name == "customFunc" for node in tree.body
    ):
        needed = "def customFunc(rowData)" if rows else "def customFunc()"
        raise ConfigError(Problem("", "code", "no customFunc", needed))
    return ended(code)


# Pages


def _page(app: App, api: Api, actions: Actions, name: str, now: datetime) -> str:
    """A preview of a task: its rule, its next occurrences, and links to change it and to look at it."""
    template = app.template(name)
    try:
        lines = _preview(actions, template, now)
    except Exception as error:  # noqa: BLE001  a Type of the app's own may raise anything, and the task stands
        lines = [
            f"## {md(template.title)}",
            "",
            f"No preview: {md(f'{type(error).__name__}: {error}')}",
        ]
    lines.append("")
    try:
        there = api.deployments(app_tag(app.name))
    except PrefectApiError:  # the task stands; the page has no links
        there = {}
    if own := there.get(name):
        lines.append(
            f"- [The task]({links.base(api.ui_url)}/deployments/deployment/{own['id']})"
        )
    if link := _link(app, api, template, there):
        lines.append(f"- [Edit it]({link})")
    return "\n".join(lines) + "\n"


def _link(app: App, api: Api, template: Meta, there: Mapping[str, Any]) -> str:
    """The address of the form that shows a task as it is; empty where there is no such dialog."""
    editor = there.get(EDIT)
    if editor is None:
        return ""
    remember(template)
    return edit_link(links.base(api.ui_url), editor["id"], template)


def _preview(actions: Actions, template: Meta, now: datetime) -> list[str]:
    name = template.fullName
    lines = [
        f"## {md(template.title)}",
        "",
        f"`{name}`: {describe(template.timer)}",
        "",
    ]
    if isinstance(template, DateFieldType):
        first = actions.upcoming_rows(template, now, now + SOON, SHOWN)
        lines += ["| due | row | moved |", "|---|---|---|"]
        lines += [
            f"| {item.due:{DUE}} | {md(item.row)} | {md(item.moved)} |"
            for item in first
        ]
        lines += (
            []
            if first
            else [f"| none within {SOON.days} days, as the rows are now | | |"]
        )
    else:
        lines += ["| due | moved from | because |", "|---|---|---|"]
        found = [
            e
            for e in islice(template.explained(now, now + AHEAD), 3 * SHOWN)
            if e.due is not None
        ][:SHOWN]
        for each in found:
            moved = f"{each.moved_from:%a %Y-%m-%d}" if each.moved_from else ""
            lines.append(
                f"| {each.due:{DUE}} | {moved} | {md(each.because or each.note)} |"
            )
        lines += [] if found else [f"| none within {AHEAD.days} days | | |"]
    return lines
