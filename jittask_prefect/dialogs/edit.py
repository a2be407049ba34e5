"""Editing a task: the form that shows what it is, and the e.json with what the form changes, the rest as it was."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from jittask_prefect.dialogs import words
from jittask_prefect.dialogs.fields import Field
from jittask_prefect.dialogs.values import checked, config_of, form_of
from jittask_prefect.dialogs.versions import version_of
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.validation import shown

SWITCHES = ("enable", "skipHoliday", "workdaysOnly")
USUAL: dict[str, Any] = {
    "enable": words.SWITCH[True],
    "period": 1,
    "monthEnd": words.MONTH_END["last"],
    "skipHoliday": words.SWITCH[False],
    "workdaysOnly": words.SWITCH[False],
    "holidayPolicy": words.HOLIDAY["next"],
    "missed": words.MISSED["latest"],
    "grace": 60,
    "lookback": 86400,
    "retries": 0,
    "retryDelay": 0,
    "timeout": 43200,
}
USUAL_OF_ROWS = {
    "when": words.WHEN[0],
    "dispatch": words.DISPATCH["auto"],
    "rowRuns": words.ROW_RUNS["failed"],
}
"""What a task has of which its e.json says nothing."""
WITH = {
    "endField": ("endWhen", "endOffset", "endOffsetUnit", "endAtTime"),
    "endDate": ("endTime",),
    "limit": ("overlap",),
}
"""What goes along with a field that is cleared."""
OF_REPEAT = (
    "period",
    "weekdays",
    "week",
    "days",
    "months",
    "monthEnd",
    "cron",
    "rrule",
    "dates",
)
TAKES = {
    "minute": ("period",),
    "hour": ("period",),
    "day": ("period",),
    "week": ("period", "weekdays"),
    "month": ("period", "weekdays", "week", "days", "monthEnd"),
    "year": ("period", "weekdays", "week", "days", "monthEnd", "months"),
    "custom": ("cron", "rrule", "dates"),
}
"""What a repeat cycle takes."""
TOGETHER = (
    ("funcType", "func", "taskFunc"),
    ("endTimeType", "endTime", "endField", "endOffset"),
)
"""Keys of e.json that are written anew together: one alone may contradict the others."""
INSIDE = ("timerCfg", "repeat", "missed", "concurrency")
"""Objects of e.json of which single keys are changed; of an offset's two spellings no key means the same."""
APART = ("task", "version", "clear")
"""Fields that say nothing of the task itself."""
LONGEST = 7_500
"""Characters of a link's parameters: many servers and proxies refuse a first line of more than 8 KB."""
Form = Mapping[str, Any]


@dataclass(frozen=True)
class Edit:
    """What a form makes of a task.

    Attributes:
        config: The e.json.
        code: The inner.py; None where the form has none.
        changed: The titles of the fields that say something else than the task, cleared ones among them.
        empty: The titles of the fields that are empty, though the task has something there.
    """

    config: dict[str, Any]
    code: str | None
    changed: list[str]
    empty: list[str]


def shown_form(template: Meta) -> dict[str, Any]:
    """The form that shows what a task is, also where that is the default."""
    usual = USUAL | (USUAL_OF_ROWS if isinstance(template, DateFieldType) else {})
    if template.cfg.concurrency:
        usual["overlap"] = words.OVERLAP["queue"]
    form = usual | form_of(template)
    return form | {name: _switched(form[name]) for name in SWITCHES}


def edited(template: Meta, form: Form, fields: Sequence[Field]) -> Edit:
    """What a form makes of a task: what it says otherwise than the task is changed, and nothing else.

    Args:
        template: The task as it is.
        form: What was filled in.
        fields: The dialog's.

    Raises:
        ConfigError: With every field that holds what it may not. What the form says as the task does is not looked at.
    """
    titles, said = {field.name: field.title for field in fields}, said_of(form)
    filled = checked(
        {"task": template.fullName, **differing(template, form, fields)}, fields
    )
    code = filled.pop("code", None)
    mine, shows = form_of(template), shown_form(template)
    new = {
        name: value
        for name, value in filled.items()
        if name not in APART and value != shows.get(name)
    }
    gone = _cleared(filled.get("clear", ()), new, titles) | _dropped(
        {**mine, **new}, new
    )
    after = {name: value for name, value in mine.items() if name not in gone}
    after |= {
        name: value == words.SWITCH[True] if name in SWITCHES else value
        for name, value in new.items()
    }
    config = deepcopy(template.config)
    kind, rows = template.taskType, isinstance(template, DateFieldType)
    _carry(
        config,
        config_of(mine, kind, rows=rows).config,
        config_of(after, kind, rows=rows).config,
    )
    changed = [
        name for name in titles if name in new or (name in gone and name in mine)
    ]
    empty = [
        name
        for name in titles
        if name in mine and name not in said and name not in gone
    ]
    about = [titles["code"]] if code is not None else []
    return Edit(
        config,
        code,
        [*(titles[name] for name in changed), *about],
        [titles[name] for name in empty],
    )


def differing(template: Meta, form: Form, fields: Sequence[Field]) -> dict[str, Any]:
    """What a form says otherwise than the task is; nothing of it is looked at yet."""
    shows, mine = shown_form(template), form_of(template)
    found = {
        name: value
        for name, value in said_of(form).items()
        if name not in APART and value != shows.get(name)
    }
    if isinstance(code := found.get("code"), str):
        inner = template.app.path / template.fullName.replace(".", "/") / "inner.py"
        if inner.is_file() and inner.read_bytes() == ended(code).encode(
            errors="replace"
        ):
            del found["code"]
    if clear := form.get("clear"):
        idle = {
            field.title for field in fields if field.name not in {*mine, *found}
        }  # there is nothing to take away
        if not (
            isinstance(clear, list)
            and all(isinstance(title, str) and title in idle for title in clear)
        ):
            found["clear"] = clear
    return found


def ended(code: str) -> str:
    """Code with the end of its last line."""
    return code if code.endswith("\n") else code + "\n"


def said_of(form: Form) -> dict[str, Any]:
    """What is filled in, a switch in words: older forms had on and off."""
    filled = {
        name: value.strip() if isinstance(value, str) else value
        for name, value in form.items()
    }
    return {
        name: _switched(value) if name in SWITCHES else value
        for name, value in filled.items()
        if value not in (None, "", [])
    }


def _switched(value: Any) -> Any:
    return words.SWITCH[value] if isinstance(value, bool) else value


def _cleared(clear: Iterable[str], new: Form, titles: Mapping[str, str]) -> set[str]:
    names = {title: name for name, title in titles.items()}
    gone = {names[title] for title in clear}
    problems = [
        Problem("", titles[name], shown(new[name]), "nothing, or no Clear for it")
        for name in sorted(gone & set(new))
    ]
    if problems:
        raise ConfigError(problems)
    return gone | {
        name for each in gone for name in WITH.get(each, ()) if name not in new
    }


def _dropped(form: Form, new: Form) -> set[str]:
    """What another repeat cycle, or another direction, does not take, and nobody filled in with it."""
    gone: set[str] = set()
    if "repeat" in new:
        takes = set(TAKES.get(words.meant(words.REPEAT, new["repeat"]), ()))
        takes -= {"weekdays"} if "week" in takes and "week" not in form else set()
        gone |= set(OF_REPEAT) - takes
    for when, others in (
        ("when", ("offset", "offsetUnit")),
        ("endWhen", ("endOffset", "endOffsetUnit")),
    ):
        if new.get(when) == words.WHEN[0]:
            gone |= set(others)
    return gone - set(new)


def _carry(config: dict[str, Any], before: Form, after: Form) -> None:
    """Change in an e.json what differs between two others; what is in neither stays."""
    differ = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    differ |= {name for group in TOGETHER if differ & set(group) for name in group}
    for name in (name for name in {**config, **after} if name in differ):
        old, new = before.get(name), after.get(name)
        if name not in after:
            config.pop(name, None)
        elif (
            name in INSIDE
            and isinstance(config.get(name), dict)
            and isinstance(old, dict)
            and isinstance(new, dict)
        ):
            _carry(config[name], old, new)
        else:
            config[name] = new


def edit_link(base: str, deployment_id: str, template: Meta) -> str:
    """The address of the form for editing a task, filled in with what the task is.

    What is too long for a link is left out, the longest first: a field that stays empty changes nothing.

    Args:
        base: Where the UI is.
        deployment_id: Of the dialog.
        template: The task.
    """
    form = {
        "task": template.fullName,
        **shown_form(template),
        "version": version_of(template),
    }
    parts = {name: len(_quoted({name: value})) for name, value in form.items()}
    for name in sorted(
        set(parts) - {"task", "version"}, key=lambda name: parts[name], reverse=True
    ):
        if len(filled := _quoted(form)) <= LONGEST:
            break
        del form[name]
    else:
        filled = _quoted(form)
    return f"{base}/deployments/deployment/{deployment_id}/run?parameters={filled}"


def _quoted(form: Form) -> str:
    return quote(json.dumps(form), safe="")
