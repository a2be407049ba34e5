"""A submitted form without its groups, and a task's form with them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from jittask_prefect.dialogs import words
from jittask_prefect.dialogs.checking import EMPTY
from jittask_prefect.dialogs.fields import Field, Form, Json
from jittask_prefect.dialogs.groups import (
    ANY,
    BY_NAME,
    CHOICE,
    Fields,
    Group,
    Tab,
    tabs_of,
)
from jittask_prefect.dialogs.options import MARK, MODELS
from jittask_prefect.dialogs.task_fields import BY_NAME as FIELDS
from jittask_prefect.elements.built_in import TASK_TYPES
from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.validation import shown

DEFAULT_TYPES = tuple(TASK_TYPES)


def named(text: Any) -> Any:
    """The name at the end of a drop-down's text; other values stay as they are."""
    return text.rpartition(MARK)[2] if isinstance(text, str) else text


# Form → fields


def ungrouped(form: Form, fields: Iterable[Field], alone: Collection[str]) -> Json:
    """A form whose groups have become fields. A field that stands beside the groups wins over its group.

    Args:
        form: The submitted values.
        fields: The fields of the form.
        alone: The fields that stand in no group.

    Raises:
        ConfigError: With every group whose value fits no tab.
    """
    by_name = {each.name: each for each in fields}
    inside = {name: each for name, each in by_name.items() if name not in alone}
    own = {name: value for name, value in form.items() if name not in BY_NAME}
    found: Json = {}
    clear: list[str] = []
    problems: list[Problem] = []
    for name in (name for name in form if name in BY_NAME):
        try:
            values, gone = _of_group(BY_NAME[name], form[name], inside)
        except ValueError as error:
            title, value = BY_NAME[name].title, shown(form[name])
            problems.append(Problem("", title, value, str(error)))
        else:
            found |= values
            clear += [
                inside[n].title for n in gone if n in inside and inside[n].clearable
            ]
    if problems:
        raise ConfigError(problems)
    whole = found | {n: v for n, v in own.items() if v not in EMPTY or n not in found}
    if clear and "clear" in by_name:
        whole["clear"] = _with(own.get("clear"), clear, whole, by_name)
    return {name: _plain(by_name.get(name), value) for name, value in whole.items()}


def _with(chosen: Any, clear: list[str], form: Form, fields: Fields) -> Any:
    """The titles of *Clear* with those that a tab takes away."""
    if chosen not in EMPTY and not _texts(chosen):
        return chosen  # refused later, as in a form without groups
    filled = {fields[name].title for name in form if name in fields}
    unfilled = [title for title in clear if title not in filled]
    return list(dict.fromkeys([*(chosen or []), *unfilled]))


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _plain(field: Field | None, value: Any) -> Any:
    """A value without its label."""
    if field is None or not field.source:
        return value
    name = named(value)
    of_model = field.source == "date fields" and isinstance(name, str)
    return name.removeprefix(MODELS) if of_model else name


def _of_group(group: Group, value: Any, fields: Fields) -> tuple[Json, Iterable[str]]:
    """The fields of a group's value, and those that its tab takes away."""
    tabs = tabs_of(group, fields)
    allowed = f"{'; or '.join(map(_told, tabs))}" if tabs else "nothing"
    if value in (*EMPTY, {}):
        return {}, ()
    if not isinstance(value, Mapping):
        raise ValueError(allowed)
    filled = {key: each for key, each in value.items() if each not in EMPTY}
    if not filled:
        return {}, ()
    tab = _tab_of(tabs, filled)
    if tab is None:
        raise ValueError(allowed)
    found = {tab.parts[key]: each for key, each in filled.items() if key != CHOICE}
    return {**tab.says, **found}, tab.clears


def _tab_of(tabs: Iterable[Tab], filled: Form) -> Tab | None:
    """The tab whose fields are filled in; of several the one that has a field to be told by."""
    if CHOICE in filled:
        chosen = [
            tab for tab in tabs if not tab.parts and filled == {CHOICE: tab.title}
        ]
        return chosen[0] if chosen else None
    found = [tab for tab in tabs if set(filled) <= set(tab.parts)]
    if len(found) > 1:
        found = [tab for tab in found if next(iter(tab.parts)) in filled]
    return found[0] if len(found) == 1 else None


def _told(tab: Tab) -> str:
    return f"{tab.title} ({', '.join(tab.parts)})" if tab.parts else tab.title


# Fields → form


def grouped(form: Form, fields: Iterable[Field], alone: Collection[str]) -> Json:
    """A form with groups, as its link has it.

    Args:
        form: The fields, switches in words.
        fields: The fields of the form.
        alone: The fields that stand in no group.
    """
    by_name = {each.name: each for each in fields if each.name not in alone}
    found = dict(form)
    for group in BY_NAME.values():
        tabs = tabs_of(group, by_name)
        inside = {name for tab in tabs for name in (*tab.parts.values(), *tab.says)}
        tab = _shown(tabs, form)
        found = {name: value for name, value in found.items() if name not in inside}
        if tab is not None:
            found[group.name] = _value(tab, form)
    return found


def _shown(tabs: Sequence[Tab], form: Form) -> Tab | None:
    """The tab that shows a form; tabs without fields come last."""
    fits = [tab for tab in tabs if _fits(tab, form)]
    return next((tab for tab in fits if tab.parts), fits[0] if fits else None)


def _fits(tab: Tab, form: Form) -> bool:
    """Whether a tab shows what a form says of its group."""
    for name, value in tab.says.items():
        if form.get(name) != (words.SWITCH[value] if value is False else value):
            return False
    if tab.needs == ANY:
        return any(_is_unusual(name, form) for name in tab.parts.values())
    return tab.needs in form if tab.needs else True


def _is_unusual(name: str, form: Form) -> bool:
    if name == "func":
        return bool(form.get(name) != words.INNER)
    if name == "type":
        return form.get(name, DEFAULT_TYPES[0]) not in DEFAULT_TYPES
    field = FIELDS.get(name)
    if name not in form or field is None:
        return False
    usual = field.to_form(field.usual)
    return bool(form[name] != (words.SWITCH[usual] if field.switch else usual))


def _value(tab: Tab, form: Form) -> Json:
    if not tab.parts:
        return {CHOICE: tab.title}
    return {key: form[name] for key, name in tab.parts.items() if name in form}
