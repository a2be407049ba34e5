"""Editing a task by its form: the form shows what is, empty means unchanged, and an outdated form changes nothing."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from shop import COUNT, Shop, model_of, rows_task
from submitting import submit

from jittask_prefect.dialogs import flows, folder, forms
from jittask_prefect.dialogs.grouping import ungrouped
from jittask_prefect.dialogs.levels import levels_text
from jittask_prefect.errors import ConfigError, JittaskError, OutdatedForm
from jittask_prefect.records import template_pages
from jittask_prefect.running.form_actions import form_actions

Make = Callable[..., Shop]
TASK = "tasks.Task"
REPORT = {
    "e.json": {
        "type": "tasks.NormalType",
        "title": "Report",
        "timerCfg": {
            "startTime": "2026-03-02 09:00:00",
            "repeat": {"repeatType": "week", "weekday": [1, 4]},
        },
        "tags": ["a"],
        "retries": 2,
    },
    "inner.py": "def customFunc(a=1): return a\n",
}


@pytest.fixture
def scheduled(shop: Make) -> Shop:
    return shop(elements={"models/Bill": model_of(), "tasks/Task": REPORT})


def file(s: Shop) -> Path:
    return s.folder / "tasks/Task/e.json"


def about(s: Shop) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file(s).read_text(encoding="utf-8"))
    return found


def by_hand(s: Shop, **keys: Any) -> None:
    """Somebody writes other values into the e.json."""
    file(s).write_text(json.dumps({**about(s), **keys}))


def link(s: Shop) -> dict[str, Any]:
    """The form that the link on the task's page opens, once the sync has seen to the page."""
    s.app.forget(TASK)
    template_pages.refresh(s.app, s.api, s.now)
    return of_link(s.api.summaries["stats-test--tasks-task"])


def of_link(text: str) -> dict[str, Any]:
    """The form of the last link of a text."""
    [parameters] = parse_qs(urlsplit(text.rpartition("](")[2].partition(")")[0]).query)[
        "parameters"
    ]
    found: dict[str, Any] = json.loads(parameters)
    return found


def edit(s: Shop, form: dict[str, Any], **more: Any) -> str:
    return submit(s.app, s.api, forms.EDIT, {**form, **more}, s.now).message


def refused(s: Shop, form: dict[str, Any], **more: Any) -> OutdatedForm:
    before = file(s).read_bytes()
    with pytest.raises(OutdatedForm) as error:
        edit(s, form, **more)
    assert file(s).read_bytes() == before
    return error.value


# F1: an outdated form


CHANGES: list[tuple[dict[str, Any], str]] = [
    (
        {"title": "Other"},
        'title: found a form made from "Report"; allowed: a form made from "Other"',
    ),
    (
        {"enable": 0},
        "enable: found a form made from nothing; allowed: a form made from 0",
    ),
    ({"retries": 3}, "retries: found a form made from 2; allowed: a form made from 3"),
    ({"tags": []}, 'tags: found a form made from ["a"]; allowed: a form made from []'),
    (
        {"description": "Why"},
        'description: found a form made from nothing; allowed: a form made from "Why"',
    ),
    (
        {"argDict": {"a": 1}},
        'argDict: found a form made from nothing; allowed: a form made from {"a": 1}',
    ),
    ({"missed": {"policy": "all"}}, 'allowed: a form made from {"policy": "all"}'),
    (
        {"concurrency": {"limit": 2}},
        'concurrency: found a form made from nothing; allowed: a form made from {"limit"',
    ),
    (
        {"funcType": "Global", "func": "services.X.y"},
        "func: found a form made from nothing; allowed: a form made from",
    ),
    (
        {"timeout": 9},
        "timeout: found a form made from nothing; allowed: a form made from 9",
    ),
    (
        {
            "timerCfg": {
                **REPORT["e.json"]["timerCfg"],
                "startTime": "2026-03-02 10:00:00",
            }
        },  # type: ignore[index]
        'timerCfg.startTime: found a form made from "2026-03-02 09:00:00"; '
        'allowed: a form made from "2026-03-02 10:00:00"',
    ),
]


def test_a_form_of_an_earlier_state_is_refused_with_the_difference(
    scheduled: Shop,
) -> None:
    """Whatever key of the e.json changed, and the page's link is of the new state then."""
    s = scheduled
    forms_of = {}
    for change, told in CHANGES:
        file(s).write_text(json.dumps(REPORT["e.json"]))
        form = forms_of.setdefault("first", link(s))
        by_hand(s, **change)
        assert told in str(refused(s, form, title="Mine", timeout=60)), change
        fresh = link(s)
        assert fresh["version"] != form["version"], change


def test_a_form_of_a_state_that_nobody_remembers_is_refused_too(
    scheduled: Shop,
) -> None:
    s = scheduled
    form = link(s)
    (s.folder / ".jittask/versions/tasks.Task.json").unlink()
    by_hand(s, enable=0)
    assert 'enable: found "On"; allowed: "Off", which the task has now' in str(
        refused(s, form)
    )


def test_an_outdated_link_does_not_enable_a_disabled_task(shop: Make) -> None:
    """The case of the report: somebody disables a task, and a form from before is submitted."""
    s = shop()
    form = link(s)
    edit(s, link(s), enable="Off")
    refused(s, form, title="New title")
    assert about(s)["enable"] == 0 and s.api.all_deployments[TASK]["paused"]


def test_a_refusal_leads_to_a_fresh_form(scheduled: Shop) -> None:
    s = scheduled
    form = link(s)
    by_hand(s, title="Other", enable=0)
    page = refused(s, form, timeout=60).page
    assert (
        '| title | "Report" | "Other" |' in page and "| enable | nothing | 0 |" in page
    )
    fresh = of_link(page)
    assert (fresh["title"], fresh["enable"]) == ("Other", "Off")
    assert edit(s, fresh, timeout=60) == f"{TASK} is changed and deployed: Time limit"
    assert about(s) == {
        **REPORT["e.json"],
        "title": "Other",
        "enable": 0,
        "timeout": 60,
    }  # type: ignore[dict-item]


def test_a_changed_file_s_page_waits_for_no_other(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_pages, "MAX_PAGES", 1)
    s = shop(more={f"tasks/A{n}": rows_task() for n in range(4)})
    for _ in range(5):
        template_pages.refresh(s.app, s.api, s.now)
    by_hand(s, title="Other")
    s.app.forget(TASK)
    s.at("2026-03-03 08:00")  # all pages are of yesterday
    assert template_pages.refresh(s.app, s.api, s.now) == [TASK]


def test_the_same_submit_twice_is_done_once(scheduled: Shop) -> None:
    s = scheduled
    form = {**link(s), "title": "Other"}
    assert edit(s, form) == f"{TASK} is changed and deployed: Task name"
    assert edit(s, form) == f"{TASK} is already what the form says: nothing is written"


def test_of_two_who_edit_at_once_the_second_is_told(scheduled: Shop) -> None:
    s = scheduled
    form, start, told = link(s), threading.Barrier(2), []

    def one(name: str) -> None:
        start.wait()
        try:
            with flows.one_at_a_time(s.folder):
                told.append(edit(s, form, title=name))
        except OutdatedForm as error:
            told.append(str(error))

    threads = [threading.Thread(target=one, args=(name,)) for name in ("A", "B")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    done, late = told
    assert done == f"{TASK} is changed and deployed: Task name"
    assert (
        f'title: found a form made from "Report"; allowed: a form made from "{about(s)["title"]}"'
        in late
    )


# F2: what is shown, what is empty


def test_an_empty_form_changes_nothing(scheduled: Shop) -> None:
    s = scheduled
    before = file(s).read_bytes()
    for form in ({}, {"title": ""}, {"title": None, "tags": [], "filter": "  "}):
        assert (
            edit(s, {"task": TASK}, **form)
            == f"{TASK} is already what the form says: nothing is written"
        )
    assert file(s).read_bytes() == before
    with pytest.raises(
        ConfigError, match="Task: found nothing; allowed: it must be filled in"
    ):
        edit(s, {})


def test_a_form_with_some_fields_changes_those(shop: Make) -> None:
    """Without the link's version, only what is filled in counts."""
    offset = {"offsetType": -1, "offset": 7, "offsetUnit": "day", "time": "09:00"}
    s = shop(
        enable=0,
        filter="Q(status='active')",
        startOffset=offset,
        repeat={"repeatType": "month"},
        retries=2,
    )
    before = about(s)
    assert edit(s, {"task": TASK}, title="Other", offset=3) == (
        f"{TASK} is changed and deployed: Task name, How long before or after"
    )
    timer = {**before["timerCfg"], "startOffset": {**offset, "offset": 3}}
    assert about(s) == {**before, "title": "Other", "timerCfg": timer}


def test_the_form_shows_what_is(shop: Make) -> None:
    s = shop(
        filter="Q(status='a&b')",
        enable=0,
        missed={"policy": "all"},
        description="多行\n文本",
    )
    fields = forms.form(s.app, forms.EDIT, s.now)
    shown = ungrouped(link(s), fields, forms.layout(forms.EDIT))
    assert {
        "task": TASK, "enable": "Off", "missed": "Run all, in order", "when": "On the date",
        "skipHoliday": False, "workdaysOnly": False, "grace": 60, "lookback": 86400,
        "filter": "Q(status='a&b')", "description": "多行\n文本", "repeat": "No repeat", "startField": "Bill.at",
    }.items() <= shown.items()  # fmt: skip
    by_hand(s, enable=1)
    assert link(s)["enable"] == "On"


def test_the_blank_form_claims_nothing(shop: Make) -> None:
    """A switch that nobody touched would show *off*: in this form there are none, and nothing is filled in."""
    s = shop()
    made = forms.schema(forms.EDIT, forms.form(s.app, forms.EDIT, s.now))
    assert made["required"] == ["task"]
    shown = made["properties"]
    assert not [n for n, f in shown.items() if "boolean" in str(f) or "default" in f]
    for name in (
        "due",
        "repeats",
        "holidays",
        "ends",
        "what",
        "limits",
        "late",
        "more",
    ):
        untouched = {"title": "As it is", "type": "object", "properties": {}}
        assert shown[name]["anyOf"][0] == untouched
    told = [n for n, f in shown.items() if "empty" in f.get("description", "")]
    # Of no other field does empty mean something of its own.
    assert told == ["task", "clear"]


def test_clearing_is_a_choice(shop: Make) -> None:
    s = shop(
        filter="Q(status='active')", retries=2, tags=["a"], description="Why", concurrency={"limit": 2},
        endTimeType=2, endField="until", endOffset={"offsetType": 1, "offset": 1, "offsetUnit": "month"},
    )  # fmt: skip
    form = {
        name: value for name, value in link(s).items() if name != "filter"
    }  # emptied by hand
    assert edit(s, form, title="A") == (
        f"{TASK} is changed and deployed: Task name; left as it was, for its field is empty: Filter"
    )
    assert about(s)["filter"] == "Q(status='active')"
    titles = [
        "Filter",
        "Retries",
        "Tags",
        "Description",
        "At a time",
        "or end by a date field",
    ]
    edit(s, link(s), clear=titles)
    kept = {k: v for k, v in rows_task()["e.json"].items() if k != "title"}
    assert about(s) == {**kept, "title": "A"}
    assert edit(s, link(s), clear=titles).endswith("nothing is written")
    with pytest.raises(ConfigError, match="Filter: found"):
        edit(s, link(s), clear=["Filter"], filter="Q(id=1)")
    with pytest.raises(ConfigError, match="Clear: found"):
        edit(s, link(s), clear=["Task name"])


def test_another_repeat_cycle_drops_what_it_does_not_take(scheduled: Shop) -> None:
    s = scheduled
    assert edit(s, link(s), repeat="Daily", period=2) == (
        f"{TASK} is changed and deployed: Repeat cycle, Every … cycles, Weekdays"
    )
    assert about(s)["timerCfg"]["repeat"] == {"repeatType": "day", "period": 2}


def test_what_the_form_does_not_change_stays_as_it_was_written(shop: Make) -> None:
    """Older spellings, explicit defaults, the order of keys, and a row task's arguments, which have no field."""
    s = shop(
        enable=1, retries=0, argDict={"x": "{{ y }}"}, skipHoliday=0, endTimeType=0,
        startOffset={"offsetType": 1, "offset": -7, "offsetUnit": "days"}, title="Old <b>",
    )  # fmt: skip
    before = about(s)
    edit(s, link(s), timeout=60)
    assert list(about(s).items()) == [*before.items(), ("timeout", 60)]
    edit(s, link(s), offset=8)
    offset = {"offsetType": -1, "offset": 8, "offsetUnit": "day"}
    assert about(s) == {
        **before,
        "timeout": 60,
        "timerCfg": {**before["timerCfg"], "startOffset": offset},
    }


@pytest.mark.parametrize(("digest", "text"), [({}, "*"), ({"by": "status"}, "status")])
def test_a_digest_stays(shop: Make, digest: dict[str, str], text: str) -> None:
    s = shop(digest=digest, inner="def customFunc(rows): return len(rows)\n")
    form = link(s)
    assert form["limits"]["digest"] == text
    edit(s, form, timeout=60, filter="Q(status='open')")
    assert about(s)["digest"] == digest
    assert (about(s)["timeout"], about(s)["filter"]) == (60, "Q(status='open')")
    with pytest.raises(ConfigError, match="Rows at once: found 2 with digest"):
        edit(s, link(s), parallel=2)
    assert about(s)["digest"] == digest


def test_a_digest_is_a_field(shop: Make) -> None:
    s = shop(inner="def customFunc(rows): return len(rows)\n")
    for text, digest in (
        ("status", {"by": "status"}),
        ("*", {}),
        ("count", {"by": "count"}),
    ):
        edit(s, link(s), digest=text)
        assert about(s)["digest"] == digest
    with pytest.raises(ConfigError, match=r"Rows of one call: found .*owner_id"):
        edit(s, link(s), digest="owner_id")
    edit(s, link(s), digest="*")
    edit(s, link(s), clear=["Rows of one call"])
    assert "digest" not in about(s)


def test_a_long_link_is_cut_to_what_a_browser_takes(scheduled: Shop) -> None:
    s = scheduled
    by_hand(s, description="长" * 5000, title="标题")
    form = link(s)
    assert len(s.api.summaries["stats-test--tasks-task"]) < 9000
    assert form["title"] == "标题" and "description" not in form
    edit(s, form, title="B")
    assert about(s)["description"] == "长" * 5000


# What is there, or no longer


def test_a_task_that_is_gone_or_broken_is_not_written(scheduled: Shop) -> None:
    s = scheduled
    form = link(s)
    file(s).write_text('{"type": ')
    with pytest.raises(
        ConfigError,
        match=r"(?s)e\.json: found line 1.*Task: found tasks\.Task, whose files are brok",
    ):
        edit(s, form, title="B")
    assert file(s).read_text() == '{"type": '
    (s.folder / "tasks/Task").rename(s.folder / "tasks/Renamed")
    with pytest.raises(JittaskError, match=r"'tasks\.Task' is no task template"):
        edit(s, form, title="B")
    assert not (s.folder / "tasks/Task").exists()


def test_a_write_is_whole_and_keeps_mode_and_link(
    scheduled: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = scheduled
    real = s.folder / "elsewhere.json"
    file(s).rename(real)
    file(s).symlink_to(real)
    real.chmod(0o640)
    edit(s, link(s), title="B")
    assert file(s).is_symlink() and json.loads(real.read_text())["title"] == "B"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    before = real.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        edit(s, link(s), title="C")
    assert real.read_bytes() == before
    assert [
        p.name for p in s.folder.rglob("*") if ".new" in p.name or "tmp" in p.name
    ] == []


def test_an_edit_that_does_not_work_is_never_there_for_others(
    scheduled: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sync may read at any moment: what is refused is never in the folder."""
    s = scheduled
    seen: list[str] = []
    check = folder.template_problems
    monkeypatch.setattr(
        folder,
        "template_problems",
        lambda t, now: (seen.append(about(s)["title"]), check(t, now))[1],
    )
    with pytest.raises(ConfigError, match=r"holidays|calendar"):
        edit(s, link(s), title="B", skipHoliday="On")
    edit(s, link(s), title="C")
    assert set(seen) <= {"Report", "C"} and "C" not in seen[:1]


def test_what_prefect_refuses_is_said_to_be_written(
    scheduled: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = scheduled
    form = link(s)
    monkeypatch.setattr(s.api, "ping", lambda: s.api._called("ping"))
    s.api.down = True
    done = submit(s.app, s.api, forms.EDIT, {**form, "title": "B"}, s.now)
    assert done.failed and done.message.startswith(
        f"{TASK} is changed, and not deployed: "
    )
    assert about(s)["title"] == "B"


# Nothing of a form is evaluated, and nothing hostile leaves a trace


HOSTILE: list[tuple[str, Any]] = [
    ("title", "\ud800"), ("title", "a\x00b"), ("description", "\x00"), ("description", "a\x1b[31m"),
    ("tags", ["\udfff"]), ("argDict", "[" * 9000), ("argDict", '{"a": NaN}'), ("argDict", '{"a": 1, "a": 2}'),
    ("argDict", '{"a": ' + "1" * 5000 + "}"), ("timeout", float("nan")), ("timeout", 1e300),
    ("retries", 10**30), ("grace", float("inf")), ("title", {"__prefect_kind": "jinja", "template": "{{ 1 }}"}),
    ("filter", "().__class__"), ("tags", ["{{ x }}"]), ("cron", "{{ x }}"), ("version", "not a version"),
    ("clear", ["Nothing"]), ("clear", [{}]), ("nobody", 1), ("func", "os.system"), ("startDate", "9999-99-99"),
    ("startTime", "٠٩:٠٠"), ("endDate", "0000-00-00"), ("days", ["1"] * 101), ("code", "def customFunc(): ..."),
    ("task", ["tasks.Task"]), ("task", "tasks/../tasks.Task"),
]  # fmt: skip
CODES = (
    "(" * 5000,
    "-" * 19_000 + "1",
    "x = '\ud800'",
    "def customFunc():\n    \x00",
    "def customFunc(): 1/",
    "x = 1",
)


def test_hostile_values_are_refused_with_a_sentence(scheduled: Shop) -> None:
    s = scheduled
    form, before = link(s), file(s).read_bytes()
    for field, value in HOSTILE:
        with pytest.raises(JittaskError) as error:
            edit(s, form, **{field: value})
        assert str(error.value) and file(s).read_bytes() == before, (field, value)


def test_hostile_code_is_refused_with_a_sentence(shop: Make) -> None:
    s = shop(app_json={"allowCodeFromForms": True}, inner=COUNT)
    form = link(s)
    for code in CODES:
        with pytest.raises(ConfigError, match=r"code|inner"):
            edit(s, form, code=code)
        assert (s.folder / "tasks/Task/inner.py").read_text() == COUNT


def test_code_of_a_form_replaces_only_the_code_that_the_form_was_made_beside(
    shop: Make,
) -> None:
    s = shop(app_json={"allowCodeFromForms": True}, inner=COUNT)
    form = link(s)
    edit(s, link(s), code="def customFunc(row):\n    return 2\n")
    assert "inner.py: found" in str(
        refused(s, form, code="def customFunc(row):\n    return 3\n")
    )
    assert (
        s.folder / "tasks/Task/inner.py"
    ).read_text() == "def customFunc(row):\n    return 2\n"


def test_the_same_new_task_twice_is_made_once(shop: Make) -> None:
    s = shop()
    form = {"title": "Remind", "startField": "Bill.at"}
    assert (
        submit(s.app, s.api, forms.NEW_DATE_FIELD, form, s.now).name == "tasks.Remind"
    )
    with pytest.raises(ConfigError, match=r"Task name: found .*tasks\.Remind"):
        submit(s.app, s.api, forms.NEW_DATE_FIELD, form, s.now)
    assert (
        submit(
            s.app, s.api, forms.NEW_DATE_FIELD, {**form, "name": "Second"}, s.now
        ).name
        == "tasks.Second"
    )


LEVELS = [
    {"name": "first", "offsetType": 1, "offset": 3, "offsetUnit": "day"},
    {"name": "final", "offsetType": 1, "offset": 30, "offsetUnit": "day"},
]


def test_a_form_shows_named_offsets_and_changes_them(shop: Make) -> None:
    task = rows_task(startOffset=LEVELS)
    s = shop(elements={"models/Bill": model_of(), "tasks/Task": task})
    form = link(s)
    assert form["due"] == {"levels": levels_text(LEVELS)}
    edit(s, form, title="Remind of the bill")
    edit(s, {"task": TASK, "repeats": {"everyDays": 2}})
    timer = about(s)["timerCfg"]
    assert about(s)["title"] == "Remind of the bill"
    assert timer["startOffset"] == LEVELS and timer["repeat"]["repeatType"] == "day"
    due = {"levels": "soon: 1 working day before at 09:00\nlate: 14 days after"}
    edit(s, {"task": TASK, "due": due})
    assert link(s)["due"] == due
    assert about(s)["timerCfg"]["startOffset"] == [
        {"name": "soon", "offsetType": -1, "offset": 1, "offsetUnit": "workday", "time": "09:00"},
        {"name": "late", "offsetType": 1, "offset": 14, "offsetUnit": "day"},
    ]  # fmt: skip
    edit(s, {"task": TASK, "clear": ["Due at several times"]})
    assert "startOffset" not in about(s)["timerCfg"]


@pytest.mark.parametrize(
    ("due", "told"),
    [
        ({"levels": "after 3 days"}, "Due at several times: found .*a level on each line"),
        ({"levels": "a: 1 day after\na: 2 days after"}, "Due at several times: found .*no other"),
        ({"levels": "a: 1 hour after at 09:00"}, "Due at several times: found .*only with day"),
        ({"levels": "a: 1 day after", "before": 3}, "Due: found"),
    ],
)  # fmt: skip
def test_named_offsets_that_do_not_fit_are_refused(
    shop: Make, due: dict[str, Any], told: str
) -> None:
    s = shop()
    before = about(s)
    with pytest.raises(ConfigError, match=told):
        edit(s, {"task": TASK, "due": due})
    assert about(s) == before


def test_named_offsets_replace_an_offset_of_the_task(shop: Make) -> None:
    s = shop(
        startOffset={
            "offsetType": -1,
            "offset": 7,
            "offsetUnit": "day",
            "time": "09:00",
        }
    )
    edit(s, {"task": TASK, "due": {"levels": "a: 1 day after"}})
    level = {"name": "a", "offsetType": 1, "offset": 1, "offsetUnit": "day"}
    assert about(s)["timerCfg"]["startOffset"] == [level]
    with pytest.raises(ConfigError, match="nothing beside a single offset"):
        edit(s, {"task": TASK, "levels": "b: 1 day after", "atTime": "09:00"})
    assert about(s)["timerCfg"]["startOffset"] == [level]


def test_opening_hours_are_a_field_of_the_form(shop: Make) -> None:
    hours = [{"from": "08:00", "to": "12:00", "workdays": 1}, {"from": "22:00", "to": "06:00"}]  # fmt: skip
    s = shop(window=hours)
    form = link(s)
    assert form["more"]["window"] == "08:00 to 12:00 on working days\n22:00 to 06:00"
    edit(s, form, title="Remind of the bill")
    edit(s, {"task": TASK, "repeats": {"everyDays": 2}})
    assert about(s)["timerCfg"]["window"] == hours
    assert about(s)["title"] == "Remind of the bill"
    edit(s, {"task": TASK, "more": {"window": "09:00-17:00 on Monday, friday"}})
    assert about(s)["timerCfg"]["window"] == {"from": "09:00", "to": "17:00", "weekdays": [1, 5]}  # fmt: skip
    with pytest.raises(
        ConfigError, match=r"Opening hours: found .*a window on each line"
    ):
        edit(s, {"task": TASK, "more": {"window": "office hours"}})
    with pytest.raises(ConfigError, match=r"Opening hours: .*the whole day is 00:00"):
        edit(s, {"task": TASK, "more": {"window": "09:00 to 09:00"}})


@pytest.mark.parametrize(
    ("due", "offset"),
    [
        ({"choice": "On the date"}, None),
        ({"atTime": "09:00"}, {"offsetType": 0, "time": "09:00"}),
        (
            {"before": 7, "offsetUnit": "days"},
            {"offsetType": -1, "offset": 7, "offsetUnit": "day"},
        ),
    ],
)
def test_an_offset_of_the_form_replaces_the_named_offsets(
    shop: Make, due: dict[str, Any], offset: dict[str, Any] | None
) -> None:
    task = rows_task(startOffset=LEVELS)
    s = shop(elements={"models/Bill": model_of(), "tasks/Task": task})
    edit(s, {"task": TASK, "due": due})
    assert about(s)["timerCfg"].get("startOffset") == offset


def test_the_columns_of_a_row_s_own_zone_and_calendar_are_fields(shop: Make) -> None:
    own = {"timezoneField": "status", "calendarField": "status", "workdaysOnly": 1}
    s = shop(elements={"models/Bill": model_of(), "tasks/Task": rows_task()})
    timer = {**about(s)["timerCfg"], **own}
    by_hand(s, timerCfg=timer)
    form = link(s)
    assert form["holidays"]["calendarField"] == "status"
    assert form["more"]["timezoneField"] == "status"
    edit(s, form, title="Another")
    assert about(s)["timerCfg"] == timer
    with pytest.raises(ConfigError, match="a text column of Bill: status"):
        edit(s, {"task": TASK, "more": {"timezoneField": "day"}})
    assert about(s)["timerCfg"] == timer


def test_a_form_whose_server_went_away_ends_once_the_server_is_back(
    scheduled: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its run would be Crashed, with no word of the task that is changed and not deployed."""
    s, pings = scheduled, list[bool]()

    def ping() -> None:
        pings.append(s.api.down)
        s.api.down = len(pings) < 4
        s.api._called("ping")

    monkeypatch.setattr(s.api, "ping", ping)
    monkeypatch.setattr(flows, "connect", lambda _app: s.api)
    monkeypatch.setattr(flows, "LOOK_SECONDS", 0.0)
    [dialog] = [d for d in forms.DIALOGS if d.name == forms.EDIT]
    form = {**link(s), "title": "B"}
    s.api.down = True
    actions = form_actions(s.app, s.api)
    done = flows._submit(s.app, lambda *_: actions, dialog, form, None)
    assert done.failed and "is changed, and not deployed: " in done.message
    assert len(pings) == 4 and not s.api.down
