"""Groups of a form's fields, each shown as tabs: only the fields of the chosen tab are there.

Prefect shows an `anyOf` of objects as tabs. A tab with a `const` has no fields, and the tab that shows a value is the tab
with most of the value's keys. So a key that tells tabs apart, e.g. `everyWeeks`, stands in a single tab.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jittask_prefect.dialogs import words
from jittask_prefect.dialogs.fields import Field, Form, Json

CHOICE = "choice"
"""The key of a tab without fields, whose value is the tab's title."""
AS_IT_IS = "As it is"
"""The first tab of the form for editing: the group changes nothing."""
ANY = "*"
USUAL = "As usual"
CHANGE = "Change"
Fields = Mapping[str, Field]
"""The fields of a form, by name."""


@dataclass(frozen=True)
class Tab:
    """A tab of a group.

    Attributes:
        title: The label.
        parts: The names of the fields, by the keys of the group's value.
        says: The fields that the tab stands for, with the form's words.
        titles: Labels, by key, that differ from the fields' own.
        defaults: The content of fresh fields, by key.
        needs: The field whose value shows the tab; `*` for any unusual field; empty where `says` is enough.
        clears: The fields that a task loses when somebody chooses the tab.
    """

    title: str
    parts: Mapping[str, str] = field(default_factory=dict)
    says: Form = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    defaults: Form = field(default_factory=dict)
    needs: str = ""
    clears: Sequence[str] = ()


@dataclass(frozen=True)
class Group:
    """A group of fields.

    Attributes:
        name: The parameter's name.
        title: The label.
        about: The help text.
        tabs: The tabs; the first is what an untouched form means.
    """

    name: str
    title: str
    about: str
    tabs: tuple[Tab, ...]


def _named(*names: str) -> Mapping[str, str]:
    return {name: name for name in names}


def _every(key: str, cycle: str, unit: str, *names: str) -> Tab:
    """A tab of a repeat cycle, which its period tells from the others."""
    word = words.REPEAT[cycle]
    return Tab(
        word,
        {key: "period", **_named(*names)},
        {"repeat": word},
        {key: f"Every … {unit}"},
        {key: 1},
    )


def _custom(title: str, name: str) -> Tab:
    return Tab(title, _named(name), {"repeat": words.REPEAT["custom"]}, needs=name)


def _offset(key: str, direction: int) -> Tab:
    word = words.WHEN[direction]
    return Tab(
        word,
        {key: "offset", **_named("offsetUnit", "atTime")},
        {"when": word},
        {key: "How many"},
        {key: 1, "offsetUnit": words.UNITS["day"]},
    )


def _changed(*names: str) -> tuple[Tab, Tab]:
    return Tab(USUAL, clears=names), Tab(CHANGE, _named(*names), needs=ANY)


DAYS_OF_MONTH = ("days", "week", "weekdays", "workdays", "monthEnd")
GROUPS = (
    Group("due", "Due", "When the task is due, e.g. an hour before the row's date", (
        Tab(words.WHEN[0], says={"when": words.WHEN[0]}, clears=("atTime",)),
        Tab("That day at", _named("atTime"), {"when": words.WHEN[0]}, needs="atTime"),
        _offset("before", -1),
        _offset("after", 1),
        Tab("At several times", _named("levels"), needs="levels"),
        Tab("From a first day on", _named("startDate", "startTime"), needs=ANY),
    )),
    Group("repeats", "Repeats", "How often, e.g. Weekly on Monday and Thursday", (
        Tab("Once", says={"repeat": words.REPEAT["normal"]}),
        _every("everyDays", "day", "days"),
        _every("everyWorkdays", "workday", "working days"),
        _every("everyWeeks", "week", "weeks", "weekdays"),
        _every("everyMonths", "month", "months", *DAYS_OF_MONTH),
        _every("everyYears", "year", "years", "months", *DAYS_OF_MONTH),
        _every("everyHours", "hour", "hours"),
        _every("everyMinutes", "minute", "minutes"),
        _custom("On dates", "dates"),
        _custom("Cron", "cron"),
        _custom("RRULE", "rrule"),
    )),
    Group("holidays", "Holidays", "What happens to a due day that is a holiday, e.g. the next working day instead", (
        Tab("As any day", says={"skipHoliday": False, "workdaysOnly": False}),
        Tab("Not on holidays", _named("skipHoliday", "workdaysOnly", "holidayPolicy", "calendar", "calendarField"),
            defaults={"skipHoliday": True}, needs=ANY),
    )),
    Group("ends", "Ends", "The last day, e.g. 2027-12-31, or a date field of the row", (
        Tab("Never", clears=("endDate", "endTime", "endField")),
        Tab("On a day", _named("endDate", "endTime"), needs="endDate", clears=("endField",)),
        Tab("By a date of the row", _named("endField", "endWhen", "endOffset", "endOffsetUnit", "endAtTime"),
            needs="endField", clears=("endDate", "endTime")),
    )),
    Group("what", "What it does", "The function that runs, e.g. customFunc of the task's folder", (
        Tab("Its own function", says={"func": words.INNER}),
        Tab("A service's function", _named("func"), needs=ANY),
        Tab("Code from here", _named("code"), needs="code"),
    )),
    Group("limits", "Limits", "Time limit, retries, how many at a time, e.g. 3 retries", _changed(
        "timeout", "retries", "retryDelay", "limit", "overlap", "rate", "parallel", "dispatch", "digest", "rowRuns",
    )),
    Group("late", "When nothing ran in time", "What happens to due times that passed without a worker, e.g. Run the latest", _changed(
        "missed", "grace", "lookback",
    )),
    Group("more", "More", "Tags, opening hours, time zone, arguments, e.g. the tag mail", _changed(
        "name", "enable", "tags", "description", "window", "timezone", "timezoneField", "argDict", "type",
    )),
)  # fmt: skip
BY_NAME = {group.name: group for group in GROUPS}


def tabs_of(group: Group, fields: Fields) -> list[Tab]:
    """The tabs of a group that a form with these fields has."""
    found = []
    for tab in group.tabs:
        parts = {key: name for key, name in tab.parts.items() if name in fields}
        if all(name in fields for name in tab.says) and (parts or not tab.parts):
            found.append(_only(tab, parts))
    return found


def _only(tab: Tab, parts: Mapping[str, str]) -> Tab:
    return Tab(
        tab.title, parts, tab.says, tab.titles, tab.defaults, tab.needs, tab.clears
    )


def as_property(group: Group, fields: Fields, position: int, *, editing: bool) -> Json:
    """A group's part of the form's schema.

    Args:
        group: The group.
        fields: The fields of the form.
        position: The group's place in the form.
        editing: Whether the form is for editing: an untouched group changes nothing then.
    """
    tabs = tabs_of(group, fields)
    shown = [_tab_schema(tab, fields, editing=editing) for tab in tabs]
    unchanged = [{"title": AS_IT_IS, "type": "object", "properties": {}}]
    return {
        "title": group.title,
        "description": f"{group.about}. Code: {group.name}",
        "position": position,
        "anyOf": [*(unchanged if editing else []), *shown],
        # Prefect tells what is wrong with these beside the field; of `anyOf` only that nothing fits.
        "properties": {
            key: strict(fields[name]) for tab in tabs for key, name in tab.parts.items()
        },
    }


def _tab_schema(tab: Tab, fields: Fields, *, editing: bool) -> Json:
    if not tab.parts:
        return {"title": tab.title, "type": "object", "const": {CHOICE: tab.title}}
    found = {}
    for position, (key, name) in enumerate(tab.parts.items()):
        found[key] = fields[name].as_property(position)
        if key in tab.titles:
            found[key]["title"] = tab.titles[key]
        if key in tab.defaults:
            found[key]["default"] = _default(tab.defaults[key], editing=editing)
    return {"title": tab.title, "type": "object", "properties": found}


def _default(value: object, *, editing: bool) -> object:
    """The content of a fresh field; a switch of the form for editing says On or Off."""
    return words.SWITCH[value] if editing and isinstance(value, bool) else value


def strict(each: Field) -> Json:
    """The schema that Prefect checks a value by, empty or filled in; the flow checks the options that an app has."""
    schema = {name: part for name, part in each.schema.items() if name != "enum"}
    options = each.schema.get("enum")
    if options is not None and not each.source:
        schema["enum"] = [*options, None]
    return {**schema, "type": [schema["type"], "null"]}
