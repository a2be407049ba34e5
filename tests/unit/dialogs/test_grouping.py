"""Groups of a form: a tab says what its fields said before, a task's form opens the tab that shows the task, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from shop import Shop, rows_task, utc
from submitting import submit

from jittask_prefect.dialogs import forms, words
from jittask_prefect.dialogs.edit import edit_link
from jittask_prefect.dialogs.grouping import grouped, ungrouped
from jittask_prefect.errors import ConfigError

Make = Callable[..., Shop]
NOW = utc("2026-03-02 08:00")
SCHEDULED = {"title": "Report", "startDate": "2026-03-02", "startTime": "09:00"}
OF_ROWS = {"title": "Remind", "startField": "Bill.at"}
CHOICES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("repeats", {"choice": "Once"}, {"repeat": "No repeat"}),
    ("repeats", {"everyDays": 2}, {"repeat": "Daily", "period": 2}),
    ("repeats", {"everyWeeks": 1, "weekdays": ["Monday"]},
     {"repeat": "Weekly", "period": 1, "weekdays": ["Monday"]}),
    ("repeats", {"everyMonths": 1, "week": ["First"], "weekdays": ["Monday"]},
     {"repeat": "Monthly", "period": 1, "week": ["First"], "weekdays": ["Monday"]}),
    ("repeats", {"everyYears": 1, "months": ["May"], "days": ["1"]},
     {"repeat": "Yearly", "period": 1, "months": ["May"], "days": ["1"]}),
    ("repeats", {"everyHours": 3}, {"repeat": "Hourly", "period": 3}),
    ("repeats", {"everyMinutes": 5}, {"repeat": "Every minute", "period": 5}),
    ("repeats", {"cron": "0 9 * * 1-5"}, {"repeat": "Custom", "cron": "0 9 * * 1-5"}),
    ("repeats", {"rrule": "FREQ=DAILY"}, {"repeat": "Custom", "rrule": "FREQ=DAILY"}),
    ("repeats", {"dates": "2026-12-24"}, {"repeat": "Custom", "dates": "2026-12-24"}),
    ("holidays", {"choice": "As any day"}, {"skipHoliday": False, "workdaysOnly": False}),
    ("holidays", {"skipHoliday": True, "calendar": "CN"}, {"skipHoliday": True, "calendar": "CN"}),
    ("ends", {"choice": "Never"}, {}),
    ("ends", {"endDate": "2027-01-01"}, {"endDate": "2027-01-01"}),
    ("what", {"choice": "Its own function"}, {"func": words.INNER}),
    ("limits", {"choice": "As usual"}, {}),
    ("limits", {"retries": 3}, {"retries": 3}),
    ("late", {"missed": "Run none"}, {"missed": "Run none"}),
    ("more", {"tags": ["a"], "name": "Nightly"}, {"tags": ["a"], "name": "Nightly"}),
]  # fmt: skip
DEAL = """
from datetime import date
from sqlmodel import Field, SQLModel

class Deal(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    ends: date | None = None
"""
NOTES = """
from jittask_prefect import NormalService

class NoteSvc(NormalService):
    def of_row(self, row): return row.id
"""
TITLED = {
    "models/Deal": {"e.json": {"type": "models.NormalType", "title": "合同"}, "model.py": DEAL},
    "services/NoteSvc": {"e.json": {"type": "services.NormalType", "title": "Notes"}, "service.py": NOTES},
}  # fmt: skip
DUE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"choice": "On the date"}, {"when": "On the date"}),
    ({"atTime": "09:00"}, {"when": "On the date", "atTime": "09:00"}),
    (
        {"before": 7, "offsetUnit": "days", "atTime": "09:00"},
        {"when": "Before", "offset": 7, "offsetUnit": "days", "atTime": "09:00"},
    ),
    ({"levels": "a: 1 day after"}, {"levels": "a: 1 day after"}),
    ({"after": 2, "offsetUnit": "hours"}, {"when": "After", "offset": 2, "offsetUnit": "hours"}),
]  # fmt: skip


def flat(s: Shop, dialog: str, form: dict[str, Any]) -> dict[str, Any]:
    return ungrouped(form, forms.form(s.app, dialog, NOW), forms.layout(dialog))


def refused(s: Shop, dialog: str, form: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        submit(s.app, s.api, dialog, form, NOW)
    return str(error.value)


@pytest.mark.parametrize(("group", "value", "fields"), CHOICES)
def test_a_tab_says_what_its_fields_say(
    shop: Make, group: str, value: dict[str, Any], fields: dict[str, Any]
) -> None:
    s = shop()
    said = flat(s, forms.NEW_SCHEDULED, {**SCHEDULED, group: value})
    assert said == {**SCHEDULED, **fields}


@pytest.mark.parametrize(("value", "fields"), DUE)
def test_a_due_time_counted_from_a_row_s_date(
    shop: Make, value: dict[str, Any], fields: dict[str, Any]
) -> None:
    said = flat(shop(), forms.NEW_DATE_FIELD, {**OF_ROWS, "due": value})
    assert said == {**OF_ROWS, **fields}


def test_an_untouched_group_says_nothing(shop: Make) -> None:
    s = shop()
    for value in (None, {}, {"everyDays": None}, ""):
        assert (
            flat(s, forms.NEW_SCHEDULED, {**SCHEDULED, "repeats": value}) == SCHEDULED
        )


def test_a_field_by_its_own_name_wins_over_its_group(shop: Make) -> None:
    """Forms of other makers, and of earlier versions, have the fields without groups."""
    said = {"repeats": {"everyWeeks": 1}, "period": 3, "timeout": None}
    assert flat(shop(), forms.NEW_SCHEDULED, said) == {
        "repeat": "Weekly",
        "period": 3,
        "timeout": None,
    }


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("Daily", "Repeats: found"),
        (["Daily"], "Repeats: found"),
        (True, "Repeats: found"),
        ({"everyDays": 1, "everyWeeks": 1}, "Weekly (everyWeeks, weekdays)"),
        ({"weekdays": ["Monday"]}, "Weekly (everyWeeks, weekdays)"),
        ({"choice": "Sometimes"}, "allowed: Once"),
        ({"choice": ["Once"]}, "allowed: Once"),
        ({"choice": "Once", "everyDays": 1}, "allowed: Once"),
        ({"__class__": 1}, "allowed: Once"),
        ({"everyDays": "2"}, "Every … cycles: found"),
        ({"everyDays": 0}, "a number of 1 or more"),
        ({"everyDays": True}, "a number of 1 or more"),
        ({"everyWeeks": 1, "weekdays": "Monday"}, "Weekdays: found"),
        ({"everyWeeks": 1, "weekdays": ["Someday"]}, "one of the drop-down's"),
        ({"everyWeeks": {"__prefect_kind": "json", "value": "1"}}, "Every … cycles: found"),
        ({"cron": "{{ 1 }}"}, "a text without {{"),
        ({"cron": "\u202e0 9 * * *"}, "Custom: cron: found"),
        ({"dates": "x" * 30_000}, "at most 20000 characters"),
    ],
)  # fmt: skip
def test_a_group_of_another_shape_is_refused_with_a_sentence(
    shop: Make, value: Any, told: str
) -> None:
    s = shop()
    before = sorted(str(file) for file in s.folder.rglob("*"))
    assert told in refused(s, forms.NEW_SCHEDULED, {**SCHEDULED, "repeats": value})
    assert sorted(str(file) for file in s.folder.rglob("*")) == before


def test_fields_of_the_other_kind_are_refused(shop: Make) -> None:
    s = shop()
    said = refused(s, forms.NEW_SCHEDULED, {**SCHEDULED, "due": {"before": 1}})
    assert "Due: found" in said and "allowed: nothing" in said
    ended = {**SCHEDULED, "ends": {"endField": "Bill.at"}}
    assert "Ends: found" in refused(s, forms.NEW_SCHEDULED, ended)
    mixed = {**OF_ROWS, "due": {"startDate": "2026-01-01"}}
    assert "Due: found" in refused(s, forms.NEW_DATE_FIELD, mixed)


def test_each_field_stands_in_the_form(shop: Make) -> None:
    s = shop(app_json={"allowCodeFromForms": True})
    for dialog in (forms.NEW_SCHEDULED, forms.NEW_DATE_FIELD, forms.EDIT):
        fields = forms.form(s.app, dialog, NOW)
        made = forms.schema(dialog, fields)
        shown = made["properties"]
        assert len(shown) <= 15
        places = [n for n in shown if "anyOf" not in shown[n] or n in ("task",)]
        groups = {n for n in shown if n not in places}
        tabs = [tab for name in groups for tab in shown[name]["anyOf"]]
        labels = {
            p["title"] for tab in tabs for p in tab.get("properties", {}).values()
        }
        renamed = {"How long before or after", "Every … cycles", "Due", "Repeat cycle"}
        inside = {f.title for f in fields if f.name not in places} - renamed
        assert inside <= labels
        for name in {*places, *groups}:
            assert "Code: " in shown[name]["description"]


def test_a_long_list_of_fields_is_never_open_at_first(shop: Make) -> None:
    """Fields that one sees before touching anything: those that stand alone, and the first tabs'."""
    s = shop()
    for dialog in (forms.NEW_SCHEDULED, forms.NEW_DATE_FIELD):
        shown = forms.schema(dialog, forms.form(s.app, dialog, NOW))["properties"]
        open_tabs = [p["anyOf"][0] for p in shown.values() if "anyOf" in p]
        inside = [name for tab in open_tabs for name in tab.get("properties", {})]
        assert inside == []


def test_a_task_s_form_opens_the_tab_that_shows_the_task(shop: Make) -> None:
    s = shop(
        repeat={"repeatType": "week", "period": 2, "weekday": [1, 4]},
        endTimeType=2, endField="until",
        startOffset={"offsetType": -1, "offset": 3, "offsetUnit": "day"}, retries=2,
    )  # fmt: skip
    from jittask_prefect.dialogs.conversion import shown_form

    template = s.app.template("tasks.Task")
    fields = forms.form(s.app, forms.EDIT, None)
    found = grouped(shown_form(template), fields, forms.layout(forms.EDIT))
    assert found["repeats"] == {"everyWeeks": 2, "weekdays": ["Monday", "Thursday"]}
    assert found["due"] == {"before": 3, "offsetUnit": "days"}
    assert found["ends"] == {"endField": "Bill.until", "endWhen": "On the date"}
    assert found["limits"]["retries"] == 2 and found["limits"]["timeout"] == 43200
    assert found["late"] == found["more"] == {"choice": "As usual"}
    assert found["holidays"] == {"choice": "As any day"}
    assert "period" not in found and found["title"] == "Task"


def edit(s: Shop, **form: Any) -> str:
    return submit(s.app, s.api, forms.EDIT, {"task": "tasks.Task", **form}, NOW).message


def test_another_tab_takes_away_what_it_does_not_show(shop: Make) -> None:
    s = shop(
        endTimeType=2, endField="until", retries=2, timeout=60, skipHoliday=1, calendar="CN",
        startOffset={"offsetType": 0, "offset": 0, "offsetUnit": "day", "time": "09:00"},
    )  # fmt: skip
    told = edit(s, ends={"endDate": "2027-01-01"})
    assert "End" in told and "or end by a date field" in told
    edit(s, ends={"choice": "Never"}, limits={"choice": "As usual"})
    edit(s, due={"choice": "On the date"}, holidays={"choice": "As any day"})
    cfg, timer = (
        s.app.template("tasks.Task").cfg,
        s.app.template("tasks.Task").timer.cfg,
    )
    assert (cfg.retries, cfg.timeout) == (0, 43200)
    assert (timer.end_field, timer.end_time, timer.skip_holiday) == (None, None, False)
    assert timer.start_offset is None or timer.start_offset.time is None


def schema(s: Shop, dialog: str) -> dict[str, Any]:
    return forms.schema(dialog, forms.form(s.app, dialog, NOW))


def listed(shown: dict[str, Any], field: dict[str, Any]) -> list[str]:
    """The texts of a drop-down, found as Prefect's form finds them: by the reference as it is written."""
    place = field["$ref"].removeprefix("#/definitions/")
    found: list[str] = shown["definitions"][place]["enum"]
    return found


def test_a_drop_down_names_tasks_by_title_and_takes_both(shop: Make) -> None:
    title = "<b>&  \u202ekcab * {{ x }} `"
    s = shop(
        more={
            "tasks/Odd": rows_task(title="x" * 150),
            "tasks/Plain": rows_task(title="Plain"),
        }
    )
    shown = schema(s, forms.RUN_NOW)
    assert listed(shown, shown["properties"]["task"]) == [
        "x" * 79 + "… · tasks.Odd", "Plain · tasks.Plain", "Task · tasks.Task"
    ]  # fmt: skip
    from jittask_prefect.dialogs.options import clean_title

    assert clean_title(title) == "<b>& \ufffdkcab * { { x } } `"
    for task in ("tasks.Task", "Task · tasks.Task", "An old · title · tasks.Task"):
        told = submit(s.app, s.api, forms.EDIT, {"task": task, "enable": "On"}, NOW)
        assert (
            told.message
            == "tasks.Task is already what the form says: nothing is written"
        )


def test_models_and_services_stand_in_drop_downs_by_title(shop: Make) -> None:
    """A name alone is taken too, beside the groups and in them: by Prefect's server, and by the flow."""
    from prefect.utilities.schema_tools.validation import is_valid

    s = shop(more=TITLED)
    shown = schema(s, forms.NEW_DATE_FIELD)
    field, function = "合同 · models.Deal.ends", "Notes · services.NoteSvc.of_row"
    assert field in listed(shown, shown["properties"]["startField"])
    [_, of_service] = shown["properties"]["what"]["anyOf"]
    assert listed(shown, of_service["properties"]["func"]) == [words.INNER, function]

    for said in (field, "models.Deal.ends", "Deal.ends"):
        form = {"title": "Remind", "startField": said, "ends": {"endField": said}}
        for to in (function, "services.NoteSvc.of_row"):
            form |= {"what": {"func": to}}
            assert is_valid(form, shown) and is_valid({**form, "func": to}, shown)
            assert flat(s, forms.NEW_DATE_FIELD, form) == {
                "title": "Remind",
                "startField": "Deal.ends",
                "endField": "Deal.ends",
                "func": "services.NoteSvc.of_row",
            }
    assert not is_valid({**form, "startField": 3}, shown)
    assert "one of the drop-down's" in refused(
        s, forms.NEW_DATE_FIELD, {**form, "startField": "合同 · models.Deal.none"}
    )


def test_a_link_for_editing_has_the_texts_of_the_drop_downs(shop: Make) -> None:
    """A form that is opened and submitted as it is changes nothing."""
    function = {"funcType": "Global", "func": "services.NoteSvc.of_row"}
    task = rows_task("ends", model="models.Deal", **function)
    s = shop(more={**TITLED, "tasks/OfDeal": task})
    link = edit_link("", "id", s.app.template("tasks.OfDeal"))
    [found] = parse_qs(urlsplit(link).query)["parameters"]
    form = json.loads(found)
    assert form["startField"] == "合同 · models.Deal.ends"
    assert form["what"] == {"func": "Notes · services.NoteSvc.of_row"}
    told = submit(s.app, s.api, forms.EDIT, form, NOW).message
    assert told == "tasks.OfDeal is already what the form says: nothing is written"


def test_the_next_run_of_a_schedule_may_be_ended(shop: Make) -> None:
    from jittask_prefect.dialogs.options import OpenTask

    s = shop()
    due = datetime.fromisoformat("2026-03-02T10:00:00+00:00")
    name = "Report · 2026-03-02 18:00"
    run_id = "0190f3a2-0000-7000-8000-000000000001"
    runs = [OpenTask(run_id, name, due, "pending")]
    [field, _] = forms.form(s.app, forms.END, NOW, runs)
    [said] = field.schema["enum"]
    assert said.startswith("Report · 2026-03-02 ")
    assert said.endswith(" · pending · 0190f3a2-0000-7000-8000-000000000001")


def test_the_sync_puts_the_next_run_of_each_schedule_into_the_form(shop: Make) -> None:
    """Scheduled runs are Prefect's until they begin: the ledger does not know them."""
    from jittask_prefect.deploying.renew import renew

    s = shop(
        more={
            "tasks/Report": {
                "e.json": {
                    "type": "tasks.NormalType",
                    "title": "Report *of* the day",
                    "timerCfg": {
                        "startTime": "2026-03-02 09:00:00",
                        "repeat": {"repeatType": "day"},
                    },
                },
                "inner.py": "def customFunc(): ...\n",
            }
        }
    )
    made = [
        s.api.create_run(
            s.api.deployments("app:test")["tasks.Report"].id,
            key=f"k{day}",
            name="plucky-otter",
            due=utc(f"2026-03-0{day} 09:00"),
            tags=[],
            parameters={},
        )
        for day in (4, 3)
    ]
    renew(s.app, s.api, s.now)
    schema = s.api.all_deployments[forms.END]["parameter_openapi_schema"]
    listed = [t for t in schema["properties"]["task"]["enum"] if "Report" in t]
    _, sooner = made
    assert listed == [f"Report *of* the day · 2026-03-03 09:00 · pending · {sooner.id}"]


TITLES: list[tuple[str, str]] = [
    ("<img src=x onerror=alert(1)>", "a text without HTML"),
    ("x" * 10_000, "at most 200 characters, not 10000"),
    ("a\x00b", "control characters"),
    ("a\x1b[31mb", "control characters"),
    ("\u202egnitroper", "control characters"),
    ("{{ 7 * 7 }}", "a text without {{"),
    ("a\nb", "one line"),
]


@pytest.mark.parametrize(("title", "told"), TITLES)
def test_a_hostile_title_is_refused_in_any_place(
    shop: Make, title: str, told: str
) -> None:
    s = shop()
    before = sorted(str(file) for file in s.folder.rglob("*"))
    form = {**OF_ROWS, "title": title, "due": {"before": 1, "offsetUnit": "days"}}
    assert told in refused(s, forms.NEW_DATE_FIELD, form)
    assert told in refused(s, forms.EDIT, {"task": "tasks.Task", "title": title})
    tagged = {**OF_ROWS, "more": {"tags": [title]}}
    refused(s, forms.NEW_DATE_FIELD, tagged)
    assert sorted(str(file) for file in s.folder.rglob("*")) == before


def test_a_title_of_markdown_or_arabic_stays_a_title(shop: Make) -> None:
    s = shop()
    for title in ("**Bold** [x](y) `z`", "تذكير العميل"):
        form = {**OF_ROWS, "title": title, "more": {"name": f"Task{len(title)}"}}
        done = submit(s.app, s.api, forms.NEW_DATE_FIELD, form, NOW)
        assert s.app.template(done.name).title == title
        assert "[x](y)" not in done.page
        assert "/deployments/deployment/" in done.links["The task"]
        assert done.links["All tasks"].endswith("/artifacts/key/test-overview")
