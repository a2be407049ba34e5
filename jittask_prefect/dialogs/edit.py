"""Editing a task: only the fields that the form says otherwise than the task change its e.json."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from urllib.parse import quote

from jittask_prefect.dialogs import forms, words
from jittask_prefect.dialogs.checking import checked, filled_in
from jittask_prefect.dialogs.code import with_line_end
from jittask_prefect.dialogs.conversion import config_of, form_of, shown_form
from jittask_prefect.dialogs.fields import Field, Form, Json, titles_of
from jittask_prefect.dialogs.folder import inner_file
from jittask_prefect.dialogs.grouping import grouped
from jittask_prefect.dialogs.options import label, task_label
from jittask_prefect.dialogs.task_fields import (
    BY_NAME,
    OF_OFFSET,
    TASK_FIELDS,
    children,
)
from jittask_prefect.dialogs.versions import version_of
from jittask_prefect.elements.built_in import TASK_TYPES
from jittask_prefect.elements.types import Meta
from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.prefect_api import links
from jittask_prefect.validation import shown

ABOUT_FORM = ("task", "version", "clear")
"""Fields that say nothing of the task itself."""
TOGETHER = (
    ("funcType", "func", "taskFunc"),
    ("endTimeType", "endTime", "endField", "endOffset"),
)
"""Keys of e.json that are written together: an old key beside a new key may contradict it."""
INSIDE = ("timerCfg", "repeat", "missed", "concurrency")
"""Objects of e.json of which single keys are written. An offset has two spellings, so all of it is written."""
MAX_LINK = 7_500
"""Characters of a link's parameters. Many servers and proxies refuse a first line of more than 8 KB."""


@dataclass(frozen=True)
class Edit:
    """The effect of a form on a task.

    Attributes:
        config: The new e.json.
        code: The new inner.py; None where the form has none.
        changed: The titles of changed fields, cleared ones among them.
        left: The titles of empty fields that have a value in the task.
    """

    config: Json
    code: str | None
    changed: list[str]
    left: list[str]


def differing(template: Meta, form: Form, fields: Sequence[Field]) -> Json:
    """The fields that a form says otherwise than the task is, not checked yet.

    Args:
        template: The task.
        form: The submitted values.
        fields: The fields of the form.
    """
    shows = shown_form(template)
    found = {
        name: value
        for name, value in _filled(form).items()
        if name not in ABOUT_FORM and value != shows.get(name)
    }
    if isinstance(code := found.get("code"), str):
        inner = inner_file(template.app, template.fullName)
        same = with_line_end(code).encode(errors="replace")
        if inner.is_file() and inner.read_bytes() == same:
            del found["code"]
    if clear := form.get("clear"):
        # Nothing is there to take away from an empty field.
        used = {*form_of(template), *found}
        unused = [field.title for field in fields if field.name not in used]
        if not (isinstance(clear, list) and all(title in unused for title in clear)):
            found["clear"] = clear
    return found


def edited(template: Meta, form: Form, fields: Sequence[Field]) -> Edit:
    """The effect of a form on a task. Fields that say the same as the task are not looked at.

    Args:
        template: The present task.
        form: The submitted values.
        fields: The fields of the form.

    Raises:
        ConfigError: With every field whose value does not fit.
    """
    titles, differs = titles_of(fields), differing(template, form, fields)
    new = checked({"task": template.fullName, **differs}, fields)
    code = new.pop("code", None)
    clear = new.pop("clear", ())
    new.pop("task")
    before = form_of(template)
    gone = _cleared(clear, new, titles) | _dropped({**before, **new}, new)
    after = {name: value for name, value in before.items() if name not in gone} | new
    config = deepcopy(template.config)
    kind, rows = template.taskType, template.rows
    was, now = (config_of(form, kind, rows=rows) for form in (before, after))
    _carry(config, was, now)
    changed = {*new, *(gone & set(before)), *(["code"] if code is not None else [])}
    left = set(before) - set(_filled(form)) - gone
    if template.taskType in TASK_TYPES:
        left.discard("type")  # its tab shows *As usual*, and nobody emptied the field
    return Edit(config, code, _titled(titles, changed), _titled(titles, left))


def _filled(form: Form) -> Json:
    """The fields that are not empty, switches in words; forms of other makers have booleans."""
    return {
        name: words.SWITCH[value] if isinstance(value, bool) else value
        for name, value in filled_in(form).items()
    }


def _titled(titles: Form, names: Collection[str]) -> list[str]:
    return [title for name, title in titles.items() if name in names]


def _cleared(clear: Iterable[str], new: Form, titles: Form) -> set[str]:
    """The fields to take away, with those that say nothing without them."""
    gone = {name for name, title in titles.items() if title in clear}
    if both := sorted(gone & set(new)):
        allowed = "nothing, or no Clear for it"
        raise ConfigError(
            [Problem("", titles[name], shown(new[name]), allowed) for name in both]
        )
    for name in set(gone):
        gone |= children(name) - set(new)
    return gone


def _dropped(form: Form, new: Form) -> set[str]:
    """The fields that a new repeat cycle, or another kind of offset, does not take, unless they are filled in too."""
    gone: set[str] = set()
    if "repeat" in new:
        cycle = BY_NAME["repeat"].to_json(new["repeat"])
        gone |= {f.name for f in TASK_FIELDS if f.cycles and cycle not in f.cycles}
        if cycle in ("month", "year") and "week" not in form:
            gone.add("weekdays")
    for when, amount, unit in (
        ("when", "offset", "offsetUnit"),
        ("endWhen", "endOffset", "endOffsetUnit"),
    ):
        if new.get(when) == words.WHEN[0]:
            gone |= {amount, unit}
    if "levels" in new:
        gone |= OF_OFFSET
    elif OF_OFFSET & set(new):
        gone.add("levels")
    return gone - set(new)


def _carry(config: Json, before: Form, after: Form) -> None:
    """Write into an e.json the difference between two others; keys that neither has stay."""
    differ = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    differ |= {name for group in TOGETHER if differ & set(group) for name in group}
    for name in [name for name in {**config, **after} if name in differ]:
        parts = (config.get(name), before.get(name), after.get(name))
        if name not in after:
            config.pop(name, None)
        elif name in INSIDE and all(isinstance(part, dict) for part in parts):
            _carry(config[name], before[name], after[name])
        else:
            config[name] = after[name]


def edit_link(base: str, deployment_id: str, template: Meta) -> str:
    """The address of the form for editing a task, filled in with its present content.

    A link that is too long loses its longest fields: an empty field changes nothing.

    Args:
        base: The address of the UI.
        deployment_id: The id of the dialog's deployment.
        template: The task.
    """
    needed = {"task": task_label(template), "version": version_of(template)}
    fields = forms.form(template.app, forms.EDIT, None)
    form = grouped(_labelled(template), fields, forms.layout(forms.EDIT))
    lengths = {name: len(_quoted({name: value})) for name, value in form.items()}
    for name in sorted(form, key=lengths.__getitem__, reverse=True):
        if len(_quoted({**needed, **form})) <= MAX_LINK:
            break
        del form[name]
    return links.form(deployment_id, {**needed, **form}, base)


def _labelled(template: Meta) -> Json:
    """The form for editing a task, with the texts of the drop-downs."""
    sources = {field.name: field.source for field in TASK_FIELDS}
    shows = shown_form(template).items()
    return {name: label(template.app, sources[name], each) for name, each in shows}


def _quoted(form: Form) -> str:
    return quote(json.dumps(form), safe="")
