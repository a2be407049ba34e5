"""The dialogs: what a form says is what e.json says, and back; what is in the drop-downs; what is refused."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shop import COUNT, Shop, model_of, utc
from submitting import submit

from jittask_prefect.dialogs import folder, forms, words
from jittask_prefect.dialogs.checking import checked
from jittask_prefect.dialogs.conversion import config_of, form_of
from jittask_prefect.elements.config import read_task
from jittask_prefect.elements.scaffold import SCHEDULED as SCHEDULED_CODE
from jittask_prefect.errors import (
    ConfigError,
    JittaskError,
    PrefectApiError,
    UnknownElement,
)
from jittask_prefect.testing import deploy

Make = Callable[..., Shop]
NOW = utc("2026-03-02 08:00")
SERVICE = """
from jittask_prefect import NormalService

class NoteSvc(NormalService):
    def everywhere(self): return 1
    def with_default(self, upTo=3): return upTo
    def of_row(self, row): return row.id
    def two(self, row, text): return text
    def _hidden(self): return 1
"""
SERVICES = {
    "services/NoteSvc": {
        "e.json": {"type": "services.NormalType", "title": "N"},
        "service.py": SERVICE,
    }
}
SCHEDULED = {"title": "Report", "startDate": "2026-03-02", "startTime": "09:00"}
OF_ROWS = {"title": "Remind", "startField": "Bill.at"}


def config(form: dict[str, Any], dialog: str, s: Shop) -> dict[str, Any]:
    rows = dialog == forms.NEW_DATE_FIELD
    kind = "tasks.DateFieldType" if rows else "tasks.NormalType"
    return config_of(checked(form, forms.form(s.app, dialog, NOW)), kind, rows=rows)


def wrong(form: dict[str, Any], dialog: str, s: Shop) -> str:
    with pytest.raises(ConfigError) as error:
        submit(s.app, s.api, dialog, form, NOW)
    return str(error.value)


# What a form says


def test_the_simplest_forms(shop: Make) -> None:
    s = shop()
    assert config(SCHEDULED, forms.NEW_SCHEDULED, s) == {
        "type": "tasks.NormalType",
        "title": "Report",
        "timerCfg": {
            "startTime": "2026-03-02 09:00:00",
            "repeat": {"repeatType": "normal"},
        },
    }
    assert config(OF_ROWS, forms.NEW_DATE_FIELD, s) == {
        "type": "tasks.DateFieldType",
        "title": "Remind",
        "modelPath": "models.Bill",
        "timerCfg": {"startField": "at", "repeat": {"repeatType": "normal"}},
    }


def test_a_form_with_everything(shop: Make) -> None:
    form = {
        "title": "Remind", "startField": "Bill.at", "when": "Before", "offset": 7, "offsetUnit": "days",
        "atTime": "09:00", "filter": "Q(status='active')", "endField": "Bill.at", "endWhen": "After", "endOffset": 1,
        "endOffsetUnit": "months", "repeat": "Monthly", "period": 2, "days": ["1", "Last"],
        "monthEnd": "No occurrence", "skipHoliday": True, "holidayPolicy": "To the previous working day",
        "workdaysOnly": True, "calendar": "CN", "timezone": "Europe/Berlin", "func": "services.NoteSvc.of_row",
        "enable": False, "missed": "Run none", "grace": 5, "lookback": 60.5, "retries": 2, "retryDelay": 1,
        "timeout": 30, "limit": 3, "tags": ["a", "b"], "description": "*Why*",
        "dispatch": "Always together", "rowRuns": "All", "parallel": 3, "rate": "100/minute",
    }  # fmt: skip
    assert config(form, forms.NEW_DATE_FIELD, shop(more=SERVICES)) == {
        "type": "tasks.DateFieldType", "title": "Remind", "enable": 0, "funcType": "Global",
        "func": "services.NoteSvc.of_row", "modelPath": "models.Bill", "filter": "Q(status='active')",
        "timerCfg": {
            "startField": "at",
            "startOffset": {"offsetType": -1, "offset": 7, "offsetUnit": "day", "time": "09:00"},
            "endTimeType": 2, "endField": "at",
            "endOffset": {"offsetType": 1, "offset": 1, "offsetUnit": "month"},
            "repeat": {"repeatType": "month", "period": 2, "day": [1, -1], "monthEnd": "skip"},
            "skipHoliday": 1, "workdaysOnly": 1, "holidayPolicy": "previous", "calendar": "CN",
            "timezone": "Europe/Berlin",
        },
        "timeout": 30, "retries": 2, "retryDelay": 1, "tags": ["a", "b"], "description": "*Why*",
        "missed": {"policy": "none", "grace": 5, "lookback": 60.5}, "dispatch": "batch", "rowRuns": "all",
        "concurrency": {"limit": 3}, "parallel": 3, "rate": "100/minute",
    }  # fmt: skip


CLOCKS = st.times().map(lambda t: t.isoformat("seconds" if t.second else "minutes")[:8])
DAYS = st.dates(
    min_value=datetime(2000, 1, 1).date(), max_value=datetime(2090, 1, 1).date()
).map(str)
TITLES = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=40
).filter(
    lambda t: (
        not any(
            mark in t for mark in ("{{", "}}", "__prefect_kind", "<", "../", "..\\")
        )
    )
)


def some(values: dict[Any, str]) -> st.SearchStrategy[list[str]]:
    return st.lists(
        st.sampled_from(list(values.values())), min_size=1, max_size=4, unique=True
    )


@st.composite
def repeats(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(
        st.sampled_from(
            ["normal", "minute", "hour", "day", "workday", "week", "month", "year"]
        )
    )
    form: dict[str, Any] = {"repeat": words.REPEAT[kind]}
    if kind != "normal" and draw(st.booleans()):
        form["period"] = draw(st.integers(2, 40))
    if kind == "week" and draw(st.booleans()):
        form["weekdays"] = draw(some(words.WEEKDAYS))
    if kind in ("month", "year"):
        how = draw(st.sampled_from(["days", "week", "workdays"]))
        if how == "workdays":
            form["workdays"] = draw(some(words.WORKDAYS))
        elif how == "week":
            form |= {
                "week": draw(some(words.WEEKS)),
                "weekdays": draw(some(words.WEEKDAYS)),
            }
        else:
            form["days"] = draw(some(words.DAYS))
        if kind == "year":
            form["months"] = draw(some(words.MONTHS))
    return form


@st.composite
def filled(draw: st.DrawFn) -> dict[str, Any]:
    form: dict[str, Any] = {"title": draw(TITLES), **draw(repeats())}
    form |= {
        "type": "tasks.NormalType",
        "func": words.INNER,
        "startDate": draw(DAYS),
        "startTime": draw(CLOCKS),
    }
    for name, values in (
        ("enable", st.just(False)),
        ("skipHoliday", st.just(True)),
        ("calendar", st.just("CN")),
        ("timezone", st.sampled_from(["Europe/Berlin", "Asia/Kathmandu"])),
        ("missed", st.sampled_from([words.MISSED["all"], words.MISSED["none"]])),
        ("grace", st.integers(0, 59)),
        ("retries", st.integers(1, 9)),
        ("timeout", st.integers(1, 600)),
        ("limit", st.integers(1, 9)),
        (
            "tags",
            st.lists(
                TITLES.filter(lambda t: not t.startswith("app:")),
                min_size=1,
                max_size=3,
            ),
        ),
    ):
        if draw(st.booleans()) or (name == "calendar" and "skipHoliday" in form):
            form[name] = draw(values)
    if draw(st.booleans()):
        form["endDate"] = draw(DAYS.filter(lambda day: day > form["startDate"]))
        if draw(st.booleans()):
            form["endTime"] = draw(CLOCKS)
    return form


@pytest.fixture
def one(shop: Make) -> Shop:
    return shop()


@settings(
    max_examples=75,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(form=filled())
def test_a_form_comes_back_from_its_e_json_as_it_was(
    one: Shop, form: dict[str, Any]
) -> None:
    s = one
    said = config(form, forms.NEW_SCHEDULED, s)
    try:
        read_task(said, rows=False)
    except ConfigError:
        return  # a combination that e.json does not take
    name = "tasks.Round"
    (s.folder / "tasks/Round").mkdir(exist_ok=True)
    (s.folder / "tasks/Round/e.json").write_text(json.dumps(said))
    s.app.forget(name)
    assert form_of(s.app.template(name)) == form


def test_every_e_json_of_the_demo_comes_back_from_its_form() -> None:
    from jittask_prefect import App

    app = App(Path(__file__).parents[3] / "flows")
    for template in app.templates():
        dialog = forms.NEW_DATE_FIELD if template.rows else forms.NEW_SCHEDULED
        again = config_of(
            checked(form_of(template), forms.form(app, dialog, NOW)),
            template.taskType,
            rows=template.rows,
        )
        cfg, timer = read_task(again, rows=template.rows)
        raw = {"timerCfg": None}
        assert cfg.model_dump() | raw == template.cfg.model_dump() | raw, (
            template.fullName
        )
        offset = template.timer.cfg.start_offset
        if (
            offset is None or offset.amount or offset.time
        ):  # one of nothing is no offset
            assert timer == template.timer.cfg, template.fullName
    app.close()


# What is in the drop-downs


def options(s: Shop, dialog: str, name: str) -> list[str]:
    [field] = (f for f in forms.form(s.app, dialog, s.now) if f.name == name)
    found: list[str] = field.schema["enum"]
    return found


def test_drop_downs_have_what_the_app_has(shop: Make) -> None:
    s = shop(more={**SERVICES, "models/Other": model_of("class Other: pass")})
    assert options(s, forms.NEW_DATE_FIELD, "startField") == [
        "Bill.day",
        "Bill.at",
        "Bill.moment",
        "Bill.until",
    ]
    fits = [words.INNER, "services.NoteSvc.everywhere", "services.NoteSvc.with_default"]
    assert options(s, forms.NEW_SCHEDULED, "func") == fits
    of_row = [words.INNER, "services.NoteSvc.of_row", "services.NoteSvc.with_default"]
    assert options(s, forms.NEW_DATE_FIELD, "func") == of_row
    assert options(s, forms.NEW_SCHEDULED, "repeat") == [
        "No repeat", "Every minute", "Hourly", "Daily", "Every working day", "Weekly", "Monthly", "Yearly", "Custom"
    ]  # fmt: skip
    assert "CN" in options(s, forms.NEW_SCHEDULED, "calendar")
    assert options(s, forms.EDIT, "task") == ["tasks.Task"]
    assert "code" not in {f.name for f in forms.form(s.app, forms.NEW_SCHEDULED, s.now)}


def may_be_ended(s: Shop) -> list[str]:
    deploy(s.app, s.api, s.now)
    schema = s.api.all_deployments[forms.END]["parameter_openapi_schema"]
    found: list[str] = schema["properties"]["task"]["enum"]
    return found


def test_what_may_be_ended_is_in_a_drop_down(shop: Make) -> None:
    s = shop(inner=COUNT)
    s.save(id=1, at=datetime(2026, 3, 2, 10))
    s.sync()
    [entry] = s.entries()
    [said] = may_be_ended(s)
    assert said == f"Task · Bill 1 · 2026-03-02 10:00 · pending · {entry.task_id}"
    done = submit(s.app, s.api, forms.END, {"task": said}, s.now)
    assert done.message == "Task · Bill 1 · 2026-03-02 10:00 was pending and is ended"
    again = submit(s.app, s.api, forms.END, {"task": said}, s.now)
    assert again.links["All tasks"].endswith("/artifacts/key/test-overview")
    assert again.message.endswith(" is ended already: nothing changed")
    assert s.tasks() == ["1 03-02 10:00 #1 forced"] and may_be_ended(s) == []


def test_the_sync_keeps_the_forms(shop: Make) -> None:
    s = shop()
    there = s.api.deployments("app:test")
    name = next(n for n in there if n == forms.EDIT)
    s.api.change_deployment(there[name].id, {"parameter_openapi_schema": {}})
    from jittask_prefect.deploying.renew import renew

    renew(s.app, s.api, s.now)
    found = s.api.all_deployments[name]["parameter_openapi_schema"]
    listed = found["definitions"]["tasks%20of%20the%20app"]
    assert listed["enum"] == ["Task · tasks.Task"]
    assert found["required"] == ["task"]


def test_a_form_that_prefect_refuses_costs_the_sync_nothing_else(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server answered 503 to the PATCH of one form: the other forms are changed, and the next sync tries again."""
    from jittask_prefect.deploying.renew import renew
    from jittask_prefect.deploying.renewal_memory import last_renewal

    s = shop()
    names = (forms.NEW_SCHEDULED, forms.EDIT)
    there = {name: s.api.all_deployments[name] for name in names}
    right = {name: there[name]["parameter_openapi_schema"] for name in names}
    for content in there.values():
        content["parameter_openapi_schema"] = {}
    change, busy = s.api.change_deployment, [there[forms.NEW_SCHEDULED]["id"]]

    def refuse(deployment_id: str, body: Any) -> None:
        if deployment_id in busy:
            raise PrefectApiError("PATCH /deployments/…: answered 503")
        change(deployment_id, body)

    monkeypatch.setattr(s.api, "change_deployment", refuse)
    [told] = [c for c in renew(s.app, s.api, s.now) if c.kind == "refused"]
    assert told.name == forms.NEW_SCHEDULED and "503" in told.subject
    assert there[forms.EDIT]["parameter_openapi_schema"] == right[forms.EDIT]
    with s.app.engine().connect() as connection:
        assert last_renewal(connection, s.app.name) == s.now
    busy.clear()
    assert renew(s.app, s.api, s.now) == []
    assert there[names[0]]["parameter_openapi_schema"] == right[names[0]]


def test_a_queue_that_prefect_refuses_costs_the_sync_nothing_else(
    shop: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jittask_prefect.deploying.renew import renew
    from jittask_prefect.deploying.renewal_memory import last_renewal

    s = shop()

    def refuse(*_: Any, **__: Any) -> None:
        raise PrefectApiError("PATCH /work_pools/…: answered 503")

    monkeypatch.setattr(s.api, "ensure_queue", refuse)
    [told] = renew(s.app, s.api, s.now)
    assert (told.name, told.kind) == ("jittask.sync", "refused")
    with s.app.engine().connect() as connection:
        assert last_renewal(connection, s.app.name) == s.now


# What is made


def test_a_new_task_stands_in_its_folder_and_is_deployed(shop: Make) -> None:
    s = shop()
    s.save(id=7, at=datetime(2026, 3, 4))
    done = submit(
        s.app, s.api, forms.NEW_DATE_FIELD, {**OF_ROWS, "title": "合同到期提醒"}, s.now
    )
    assert (done.message, done.name) == (
        "tasks.HeTongDaoQiTiXing is made and deployed",
        "tasks.HeTongDaoQiTiXing",
    )
    made = s.folder / "tasks/HeTongDaoQiTiXing"
    assert json.loads((made / "e.json").read_text())["title"] == "合同到期提醒"
    assert (made / "inner.py").read_text().startswith("def customFunc(rowData):")
    assert done.name in s.api.deployments("app:test")
    assert "| Wed 2026-03-04 00:00 | 7 |  |" in done.page and "[Edit it](" in done.page
    assert s.app.check() == []


def test_a_preview_shows_what_a_holiday_moved(shop: Make) -> None:
    s = shop()
    form = {
        **SCHEDULED,
        "startDate": "2026-10-01",
        "repeat": "Monthly",
        "skipHoliday": True,
        "calendar": "CN",
    }
    page = submit(s.app, s.api, forms.NEW_SCHEDULED, form, s.now).page
    assert "| Thu 2026-10-08 09:00 | Thu 2026-10-01 | National Day |" in page


def test_an_edit_writes_what_the_form_says_and_leaves_the_code(shop: Make) -> None:
    s = shop(
        inner=COUNT,
        startOffset={"offsetType": 1, "offset": 2, "offsetUnit": "day"},
        filter="Q(status='active')",
    )
    form = {"task": "tasks.Task", "title": "Other", "offset": 3, "clear": ["Filter"]}
    done = submit(s.app, s.api, forms.EDIT, form, s.now)
    assert (
        done.message
        == "tasks.Task is changed and deployed: Task name, How long before or after, Filter"
    )
    after = s.app.template("tasks.Task")
    assert (after.title, after.timer.cfg.start_offset.amount, after.cfg.filter) == (
        "Other",
        3,
        "",
    )  # type: ignore[union-attr]
    assert (s.folder / "tasks/Task/inner.py").read_text() == COUNT
    assert "3 days after" in s.api.all_deployments["tasks.Task"]["description"]


def test_a_task_runs_now(shop: Make) -> None:
    s = shop(inner=COUNT)
    s.save(id=3, at=datetime(2026, 9, 1))
    form = {"task": "tasks.Task", "row": "3"}
    begun = submit(s.app, s.api, forms.RUN_NOW, form, s.now)
    [run] = s.api.runs()
    assert begun.message == f"tasks.Task, row 3, begins as flow run {run.id}"
    assert begun.page == f"[Its flow run](memory://prefect/v2/runs/flow-run/{run.id})\n"
    again = submit(s.app, s.api, forms.RUN_NOW, form, s.now)
    assert (
        again.message
        == f"tasks.Task, row 3, is on its way already, as flow run {run.id}"
    )
    assert [o.status for o in s.work()] == ["completed"]
    assert s.row(3).count == 1
    assert "Arguments: found" in wrong(
        {"task": "tasks.Task", "row": "3", "argDict": "{}"}, forms.RUN_NOW, s
    )


def test_failed_tasks_run_again(shop: Make) -> None:
    """Submitted twice, the second form finds them waiting; `since` is a day of the task's zone."""
    inner = "def customFunc(row):\n    row.count += 1\n    if row.status == 'bad': raise ValueError\n"
    s = shop(inner=inner, timezone="Asia/Shanghai")
    s.save(id=1, at=datetime(2026, 3, 2, 17, 0), status="bad")  # 09:00 UTC
    s.sync()
    s.work("2026-03-02 09:00")
    s.raw("UPDATE bill SET status = 'good'")

    def said(**form: str) -> str:
        return submit(s.app, s.api, forms.RETRY, form, s.now).message

    assert said(since="2026-03-03") == "0 failed tasks run again, in 0 flow runs."
    once = {"task": "tasks.Task", "since": "2026-03-02"}
    assert said(**once) == "1 failed task runs again, in 1 flow run."
    assert said(since="2026-03-01") == (
        "0 failed tasks run again, in 0 flow runs. "
        "1 failed task not retried: the flow run is pending or executing already."
    )
    assert [o.status for o in s.work()] == ["completed"]
    assert "Task: found nothing" in wrong({}, forms.RETRY, s)
    assert "Failed since: found" in wrong({"since": "2026-02-30"}, forms.RETRY, s)


@pytest.mark.parametrize("dialog", [forms.RUN_NOW, forms.RETRY, forms.EDIT])
def test_a_form_for_a_task_whose_folder_was_removed(shop: Make, dialog: str) -> None:
    """The form was open in a browser meanwhile, and the process knows the task."""
    s = shop()
    s.save(id=1)
    s.app.template("tasks.Task")
    shutil.rmtree(s.folder / "tasks/Task")
    form = {"task": "tasks.Task"}
    if dialog == forms.RUN_NOW:
        form["row"] = "1"
    with pytest.raises(JittaskError, match=r"tasks\.Task"):
        submit(s.app, s.api, dialog, form, s.now)
    assert s.api.runs() == [] and not (s.folder / "tasks/Task").exists()


def test_a_taken_name_is_told(shop: Make) -> None:
    """The English name is made from the title; another task has that name."""
    s = shop()
    first = submit(s.app, s.api, forms.NEW_SCHEDULED, SCHEDULED, s.now)
    assert first.message == "tasks.Report is made and deployed"
    other = {**SCHEDULED, "startTime": "10:00"}
    second = submit(s.app, s.api, forms.NEW_SCHEDULED, other, s.now)
    assert second.message == (
        "tasks.Report2 is made and deployed; tasks.Report is the name of another task"
    )


@pytest.mark.parametrize("name", [{}, {"name": "Mine"}])
def test_a_form_that_was_made_and_not_deployed_is_deployed_by_its_retry(
    shop: Make, monkeypatch: pytest.MonkeyPatch, name: dict[str, str]
) -> None:
    """The server went away between the folder and the deployment; the person presses Retry."""
    s, form = shop(), {**SCHEDULED, **name}
    made = f"tasks.{name.get('name', 'Report')}"
    monkeypatch.setattr(s.api, "ping", lambda: s.api._called("ping"))
    s.api.down = True
    first = submit(s.app, s.api, forms.NEW_SCHEDULED, form, s.now)
    assert first.failed and f"{made} is made, and not deployed: " in first.message
    assert "`jittask deploy`, or *Retry* of this run, does it" in first.message
    s.api.down = False
    again = submit(s.app, s.api, forms.NEW_SCHEDULED, form, s.now)
    assert again.message == f"{made} is made and deployed"
    assert made in s.api.all_deployments
    assert sorted(s.app.names("tasks")) == sorted([made, "tasks.Task"])
    refused = "a name that no other element" if name else f"the values of {made}"
    assert refused in wrong(form, forms.NEW_SCHEDULED, s)


# What is refused, and then nothing is written


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"title": ""}, "Task name: found nothing; allowed: it must be filled in"),
        ({"title": "{{ x }}"}, "a text without {{"),
        ({"title": "a __prefect_kind b"}, "a text without __prefect_kind"),
        ({"title": "<script>alert(1)</script>"}, "a text without HTML"),
        ({"title": "../../etc/passwd"}, "a text without ../"),
        ({"title": "x" * 100_000}, "at most 200 characters, not 100000"),
        ({"title": {"__prefect_kind": "json", "value": "1"}}, "Task name: found"),
        ({"name": "../evil"}, "English name: found"),
        ({"name": "Meta"}, "a name that no other element of tasks/ has"),
        ({"name": "task"}, "a name that no other element of tasks/ has"),
        ({"description": "<img src=x onerror=alert(1)>"}, "a text without HTML"),
        ({"description": "x" * 100_000}, "at most 20000 characters"),
        ({"filter": "__import__('os').system('x')"}, "Filter: found"),
        ({"filter": "Q(nothing=1)"}, "Filter: found"),
        ({"startField": "Bill.status"}, "one of the drop-down's"),
        ({"func": "os.system"}, "one of the drop-down's"),
        ({"timezone": "Mars/Olympus"}, "one of the drop-down's"),
        ({"when": "Before"}, "How long before or after"),
        ({"offset": 3}, "Due: found"),
        ({"offset": True}, "a number of 0 or more"),
        ({"offset": -1}, "a number of 0 or more"),
        ({"atTime": "25:00"}, "At: found"),
        ({"endField": "Bill.at", "endDate": "2026-05-01"}, "one of the two"),
        ({"endTime": "10:00"}, "nothing while 'End' is empty"),
        ({"endWhen": "After"}, "nothing while 'or end by a date field' is empty"),
        ({"repeat": "Daily", "weekdays": ["Monday"]}, "Weekdays: found"),
        ({"repeat": "Weekly", "weekdays": ["Someday"]}, "Weekdays: found"),
        ({"repeat": "Custom"}, "Repeat cycle"),
        ({"repeat": "Custom", "cron": "* * *"}, "Custom: cron"),
        ({"skipHoliday": True}, "Skip legal holidays: found"),
        ({"startDate": "2026-01-01"}, "startDate: found a value; allowed: nothing"),
        ({"code": "import os"}, "code: found a value; allowed: nothing"),
        ({"overlap": "Not run"}, "At a time"),
    ],
)
def test_what_does_not_fit_is_refused(
    shop: Make, change: dict[str, Any], said: str
) -> None:
    s = shop()
    before = sorted(str(file) for file in s.folder.rglob("*"))
    assert said in wrong({**OF_ROWS, **change}, forms.NEW_DATE_FIELD, s)
    assert sorted(str(file) for file in s.folder.rglob("*")) == before


def test_all_that_is_wrong_is_told_at_once(shop: Make) -> None:
    told = wrong({"title": "<b>", "name": "1x"}, forms.NEW_DATE_FIELD, shop())
    assert all(
        part in told
        for part in (
            "Task name: found",
            "English name: found",
            "Model and date field: found nothing",
        )
    )


def test_an_edit_that_does_not_work_changes_nothing(shop: Make) -> None:
    s = shop(inner=COUNT)
    before = (s.folder / "tasks/Task/e.json").read_bytes()
    form = {
        "task": "tasks.Task",
        **form_of(s.app.template("tasks.Task")),
        "filter": "Q(nothing=1)",
    }
    assert "Filter: found" in wrong(form, forms.EDIT, s)
    assert (s.folder / "tasks/Task/e.json").read_bytes() == before
    assert s.app.template("tasks.Task").cfg.filter == ""
    with pytest.raises(UnknownElement, match="no task template"):
        submit(s.app, s.api, forms.EDIT, {**form, "task": "tasks.Nobody"}, s.now)


def test_hours_that_do_not_fit_are_told_of_the_field_and_nothing_is_written(
    shop: Make,
) -> None:
    """96 windows of a minutely task, each on one day of the week: the deploy would refuse them."""
    s = shop()
    lines = [
        f"{hour:02}:{minute:02} to {hour:02}:{minute + 3:02} on {words.WEEKDAYS[1 + (hour + minute) % 7]}"
        for hour in range(24)
        for minute in (1, 11, 21, 31)
    ]
    form = {**SCHEDULED, "repeat": "Every minute", "window": "\n".join(lines)}
    told = wrong(form, forms.NEW_SCHEDULED, s)
    assert told.startswith("Opening hours: found too many opening hours")
    assert not (s.folder / "tasks/Report").exists()

    submit(s.app, s.api, forms.NEW_SCHEDULED, {**form, "window": lines[0]}, s.now)
    before = (s.folder / "tasks/Report/e.json").read_bytes()
    told = wrong({"task": "tasks.Report", **form}, forms.EDIT, s)
    assert "Opening hours: found too many opening hours" in told
    assert (s.folder / "tasks/Report/e.json").read_bytes() == before


def test_code_from_a_form_only_where_the_app_allows_it(shop: Make) -> None:
    s = shop(app_json={"allowCodeFromForms": True})
    form = {**SCHEDULED, "code": "def customFunc():\n    return 42"}
    submit(s.app, s.api, forms.NEW_SCHEDULED, form, s.now)
    assert (
        s.folder / "tasks/Report/inner.py"
    ).read_text() == "def customFunc():\n    return 42\n"
    for code, said in (
        ("def x(:", "Python"),
        ("x = 1", "def customFunc()"),
        ("def customFunc(a): ...", "customFunc"),
    ):
        assert said in wrong(
            {**SCHEDULED, "title": "Bad", "code": code}, forms.NEW_SCHEDULED, s
        )
    assert not (s.folder / "tasks/Bad").exists()


def test_of_two_who_take_one_name_one_is_told(shop: Make) -> None:
    s = shop()
    start, made, told = threading.Barrier(8), [], []
    said = config(SCHEDULED, forms.NEW_SCHEDULED, s)

    def create() -> None:
        start.wait()
        try:
            made.append(folder.create(s.app, "Same", said, SCHEDULED_CODE, NOW))
        except ConfigError as error:
            told.append(str(error))

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(made), len(told)) == (1, 7) and all(
        "no other element" in text for text in told
    )
    assert [
        p.name for p in (s.folder / "tasks").iterdir() if p.name.startswith(".")
    ] == []
    assert s.app.template("tasks.Same").title == "Report"


def test_a_task_without_a_function_of_its_own_yet_says_so(shop: Make) -> None:
    s = shop()
    form = {"title": "Call", "startField": "Bill.day"}
    made = submit(s.app, s.api, forms.NEW_DATE_FIELD, form, s.now)
    [note] = made.notes
    assert note.endswith(": fill in tasks/Call/inner.py") and note.split(":")[0] in (
        made.page
    )
    (s.app.path / "tasks/Call/inner.py").write_text("def customFunc(row): return 1\n")
    changed = {"task": "tasks.Call", "title": "Call them"}
    assert submit(s.app, s.api, forms.EDIT, changed, s.now).notes == []


def test_a_task_of_rows_does_not_run_without_a_row(shop: Make) -> None:
    s = shop()
    with pytest.raises(ConfigError, match=r"Row: found nothing; .*row of models\.Bill"):
        submit(s.app, s.api, forms.RUN_NOW, {"task": "tasks.Task"}, s.now)
