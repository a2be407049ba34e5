"""The app folder: app.json, names, broken files, and that what is broken never keeps the rest from working."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from app_files import APP, DAILY, PLAIN, REMIND, only, patched, write, write_files

from jittask_prefect import App, UnknownElement
from jittask_prefect.errors import ConfigError

# --- app.json --------------------------------------------------------------------------------------------------------

BAD_APPS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no name": ({"name": ...}, "name", "nothing"),
    "name of a number": ({"name": 1}, "name", "1"),
    "hostile name": ({"name": "{{ x }}"}, "name", "{{ x }}"),
    "unknown key": ({"timeZone": "UTC"}, "timeZone", "UTC"),
    "unknown zone": ({"timezone": "Mars/Base"}, "timezone", "Mars/Base"),
    "mistyped zone": (
        {"timezone": "Europe/Berln"},
        "timezone",
        "did you mean Europe/Berlin",
    ),
    "database of a number": ({"database": 5}, "database", "5"),
    "databases of a list": ({"databases": ["a"]}, "databases", "a"),
    "database of a number, named": ({"databases": {"crm": 5}}, "databases.crm", "5"),
    "horizon 0": ({"horizon": 0}, "horizon", "0"),
    "horizon of a text": ({"horizon": "24"}, "horizon", "24"),
    "maxConcurrency 0": ({"maxConcurrency": 0}, "maxConcurrency", "0"),
    "maxConcurrency 1.5": ({"maxConcurrency": 1.5}, "maxConcurrency", "1.5"),
    "allowCodeFromForms of a text": (
        {"allowCodeFromForms": "no"},
        "allowCodeFromForms",
        "no",
    ),
    "calendar of a number": ({"calendar": 86}, "calendar", "86"),
    "unknown key of a calendar": (
        {"calendars": {"office": {"land": "CN"}}},
        "calendars.office.land",
        "CN",
    ),
    "closed of no date": (
        {"calendars": {"office": {"closed": ["xmas"]}}},
        "calendars.office.closed",
        "xmas",
    ),
    "closed backwards": (
        {"calendars": {"office": {"closed": ["2026-12-26/2026-12-24"]}}},
        "calendars.office.closed",
        "2026-12-26/2026-12-24",
    ),
    "unknown block": (
        {"calendars": {"office": {"block": "all"}}},
        "calendars.office.block",
        "all",
    ),
    "hostile calendar": (
        {"calendars": {"{{ x }}": {"country": "CN"}}},
        "calendars",
        "{{ x }}",
    ),
}


@pytest.mark.parametrize("patch, key, found", BAD_APPS.values(), ids=BAD_APPS)
def test_a_mistake_in_app_json(
    tmp_path: Path, patch: dict[str, Any], key: str, found: str
) -> None:
    with pytest.raises(ConfigError) as error:
        write(tmp_path, **{"app.json": patched(APP, patch)})
    problem = only(list(error.value.problems))
    assert problem.file == "app.json"
    assert problem.key.startswith(key), problem
    assert found in str(problem), problem


LATER: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown calendar": ({"calendar": "offices"}, "calendar", "offices"),
    "unknown country": (
        {"calendars": {"office": {"country": "XX"}}},
        "calendars.office",
        "XX",
    ),
    "no URL": ({"database": "shop.db"}, "database", "no URL"),
    "unknown kind of database": (
        {"databases": {"crm": "oraclex://h/n"}},
        "databases.crm",
        "oraclex",
    ),
}


@pytest.mark.parametrize("patch, key, found", LATER.values(), ids=LATER)
def test_a_mistake_in_app_json_that_the_elements_outlive(
    tmp_path: Path, patch: dict[str, Any], key: str, found: str
) -> None:
    app = write(tmp_path, **{"app.json": patched(APP, patch)})
    problem = only(app.check())
    assert (problem.file, problem.key[: len(key)]) == ("app.json", key)
    assert found in str(problem)
    assert [t.fullName for t in app.templates()] == ["tasks.Daily", "tasks.Remind"]


def test_a_bad_url_does_not_show_its_password(tmp_path: Path) -> None:
    app = write(
        tmp_path, **{"app.json": APP | {"database": "postgres//me:secret@host/name"}}
    )
    assert "secret" not in str(only(app.check()))


def test_the_whole_of_app_json(tmp_path: Path) -> None:
    whole = {
        "name": "shop",
        "title": "Shop",
        "timezone": "Asia/Shanghai",
        "database": "sqlite:///shop.db",
        "databases": {"crm": "postgresql+psycopg://crm@db/crm"},
        "horizon": 24,
        "maxConcurrency": 8,
        "allowCodeFromForms": False,
        "calendar": "office",
        "calendars": {
            "office": {
                "country": "CN",
                "subdiv": None,
                "categories": ["public"],
                "block": "contiguous",
                "closed": ["2026-12-24/2026-12-26"],
                "open": ["2026-12-19"],
            }
        },
    }
    app = write(tmp_path, **{"app.json": whole})
    assert app.check() == []
    assert (app.name, app.title, app.timezone) == ("shop", "Shop", "Asia/Shanghai")
    assert app.database_url("crm") == "postgresql+psycopg://crm@db/crm"


def test_the_least_app_json(tmp_path: Path) -> None:
    app = write_files(tmp_path, {"app.json": {"name": "least"}})
    assert app.check() == []
    assert app.title == "least"
    said = app.warnings(datetime(2026, 1, 1, tzinfo=UTC))
    assert [w for w in said if "timezone" in w] == [
        f"app.json: no timezone; the machine's is used: {app.timezone}"
    ]


def test_a_zone_that_is_named_is_not_warned_of(tmp_path: Path) -> None:
    assert write(tmp_path).warnings(datetime(2026, 1, 1, tzinfo=UTC)) == []


def test_a_rule_of_rows_whose_every_occurrence_holidays_take_away_is_told(
    tmp_path: Path,
) -> None:
    """A weekend's repeat of a task that keeps off weekends, and moves nothing: no row's date makes it due."""
    timer: dict[str, Any] = {
        "startField": "endDate",
        "repeat": {"repeatType": "week", "weekday": [6, 7]},
        "workdaysOnly": 1,
    }
    timer["calendar"] = "US"
    never = "tasks.Remind: it is never due: holidays or weekends take away each occurrence of every row"
    for policy, told in (("skip", [never]), ("next", [])):
        app = write(
            tmp_path / policy,
            **{
                "tasks/Remind/e.json": {
                    **REMIND,
                    "timerCfg": {**timer, "holidayPolicy": policy},
                }
            },
        )
        assert app.check() == []
        said = app.warnings(datetime(2026, 1, 1, tzinfo=UTC))
        assert [text for text in said if "never due" in text] == told


def test_a_custom_rule_in_the_hour_that_comes_twice_is_told(tmp_path: Path) -> None:
    """Berlin's clocks go back from 03:00 to 02:00 on 2026-10-25; crontab would run every quarter of an hour twice."""
    said = {}
    for cron in ("*/15 * * * *", "0 9,18 * * *"):
        timer = {
            "repeat": {"repeatType": "custom", "cron": cron},
            "timezone": "Europe/Berlin",
        }
        e_json = {**DAILY, "timerCfg": {**DAILY["timerCfg"], **timer}}
        app = write(tmp_path / cron.split()[1], **{"tasks/Daily/e.json": e_json})
        assert app.check() == []
        said[cron] = [
            text
            for text in app.warnings(datetime(2026, 6, 1, tzinfo=UTC))
            if "twice" in text
        ]
    assert said.pop("0 9,18 * * *") == []
    ((warning,),) = said.values()
    assert "2026-10-25 02:00" in warning and "Europe/Berlin" in warning


def test_a_subdivision_is_a_calendar_of_the_app_of_a_task_and_of_a_name(
    tmp_path: Path,
) -> None:
    app_json = {
        "name": "test",
        "timezone": "UTC",
        "calendar": "DE-BY",
        "calendars": {"shop": {"country": "GB-ENG"}},
    }
    files = {
        f"tasks/{name}/e.json": patched(
            DAILY, {"timerCfg.skipHoliday": 1, "timerCfg.calendar": calendar}
        )
        for name, calendar in (
            ("Daily", None),
            ("Shop", "shop"),
            ("West", "US-CA"),
            ("Wrong", "DE-XX"),
        )
    }
    inner = {
        name.replace("e.json", "inner.py"): PLAIN["tasks/Daily/inner.py"]
        for name in files
    }
    app = write(tmp_path, **{"app.json": app_json, **files, **inner})
    (problem,) = app.check()
    assert (
        problem.file == "tasks/Wrong/e.json"
        and "DE-BY" in problem.allowed
        and "BY" in problem.allowed
    )
    labels = [
        app.template(f"tasks.{name}").timer.calendar
        for name in ("Daily", "Shop", "West")
    ]
    assert [found.label for found in labels if found] == ["DE-BY", "GB-ENG", "US-CA"]


def test_bank_holidays_that_a_countrys_calendar_leaves_out_are_told_once(
    tmp_path: Path,
) -> None:
    app_json = {"name": "test", "timezone": "UTC", "calendar": "GB"}
    files = {
        f"tasks/{name}/e.json": patched(DAILY, {"timerCfg.skipHoliday": 1})
        for name in ("Daily", "Other")
    }
    inner = {
        name.replace("e.json", "inner.py"): PLAIN["tasks/Daily/inner.py"]
        for name in files
    }
    app = write(tmp_path, **{"app.json": app_json, **files, **inner})
    (said,) = [
        text
        for text in app.warnings(datetime(2026, 1, 1, tzinfo=UTC))
        if "leaves out" in text
    ]
    assert "Easter Monday (2026-04-06)" in said and "GB-ENG" in said


def test_a_calendar_with_the_house_s_own_days(tmp_path: Path) -> None:
    app_json = {
        "name": "test",
        "timezone": "UTC",
        "calendar": "office",
        "calendars": {"office": {"country": "US", "closed": ["2026-12-24/2026-12-28"]}},
    }
    e_json = patched(DAILY, {"timerCfg.skipHoliday": 1})
    app = write(tmp_path, **{"app.json": app_json, "tasks/Daily/e.json": e_json})
    due = app.getElement("tasks.Daily").occurrences(
        datetime(2026, 12, 23), datetime(2026, 12, 31)
    )
    # 24–28 December is closed: those five come to the 29th, as one.
    assert [d.day for d in due] == [23, 29, 30]


# --- files that cannot be read ---------------------------------------------------------------------------------------


def test_broken_json_says_line_and_column(tmp_path: Path) -> None:
    broken = '{\n  "type": "tasks.NormalType",\n  "title": "Daily"\n  "timerCfg": {}\n}'
    problem = only(write(tmp_path, **{"tasks/Daily/e.json": broken}).check())
    assert problem.file == "tasks/Daily/e.json"
    assert "line 4, column 3" in problem.found


def test_broken_app_json_says_line_and_column(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"app\.json: found line 1, column 17"):
        write(tmp_path, **{"app.json": '{"name": "test",}'})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "5",
        "null",
        '"tasks.NormalType"',
        "[" * 100_000,
        '{"a": NaN}',
        "1" * 5000,
    ],
)
def test_json_that_is_no_element(tmp_path: Path, text: str) -> None:
    app = write(tmp_path, **{"tasks/Daily/e.json": text})
    assert only(app.check()).file == "tasks/Daily/e.json"
    assert [t.fullName for t in app.templates()] == ["tasks.Remind"]


def test_a_key_written_twice(tmp_path: Path) -> None:
    text = json.dumps(DAILY)[:-1] + ', "title": "Again"}'
    problem = only(write(tmp_path, **{"tasks/Daily/e.json": text}).check())
    assert (problem.key, problem.found) == ("title", "the key twice")


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    app = write(
        tmp_path, **{"tasks/Daily/e.json": b"\xef\xbb\xbf" + json.dumps(DAILY).encode()}
    )
    assert app.check() == []


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    problem = only(
        write(
            tmp_path, **{"tasks/Daily/e.json": '{"title": "日报"}'.encode("gbk")}
        ).check()
    )
    assert "UTF-8" in problem.allowed


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["9Daily", "Daily-Report", "每日", "A" * 65, "Daily Report", "Daily.Report"]
)
def test_a_folder_name_that_is_no_name(tmp_path: Path, name: str) -> None:
    files = {
        f"tasks/{name}/e.json": DAILY,
        f"tasks/{name}/inner.py": "def customFunc(): ...\n",
    }
    app = write(tmp_path, **files)
    problem = only(app.check())
    assert name in problem.found
    assert "64" in str(problem) or "63" in str(problem)
    assert [t.fullName for t in app.templates()] == ["tasks.Daily", "tasks.Remind"]
    with pytest.raises(UnknownElement):
        app.getElement(f"tasks.{name}")


@pytest.mark.parametrize("name", ["A" * 64, "_daily", "py"])
def test_a_folder_name_that_is_a_name(tmp_path: Path, name: str) -> None:
    app = write(
        tmp_path,
        **{
            f"tasks/{name}/e.json": DAILY,
            f"tasks/{name}/inner.py": "def customFunc():\n    return 7\n",
        },
    )
    assert app.check() == []
    assert app.getElement(f"tasks.{name}").getFunc()() == 7


@pytest.mark.parametrize(
    "name",
    [
        "tasks.../x",
        "../tasks.Daily",
        "tasks",
        "tasks.",
        ".Daily",
        "",
        "tasks/Daily",
        "tasks.Daily.x",
        "tasks.Nothing",
        "x.Y",
    ],
)
def test_a_name_of_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnknownElement):
        write(tmp_path).getElement(name)


@pytest.mark.parametrize("name", [None, 5, ["tasks.Daily"]])
def test_a_name_that_is_no_text(tmp_path: Path, name: Any) -> None:
    app = write(tmp_path)
    with pytest.raises(UnknownElement):
        app.getElement(name)
    with pytest.raises(UnknownElement):
        app.template(name)


def test_an_unknown_element_is_told_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UnknownElement, match=r"models\.Contact.*Contract"):
        write(tmp_path).getElement("models.Contact")


def test_what_stands_beside_elements_is_left_alone(tmp_path: Path) -> None:
    extra = {
        "tasks/__init__.py": "raise RuntimeError\n",
        "tasks/Daily/__init__.py": "raise RuntimeError\n",
        "tasks/Daily/backendBundleEntry": "x",
        "tasks/__pycache__/x.pyc": "x",
        "tasks/.idea/e.txt": "x",
        "tasks/README.md": "x",
        "prefect.yaml": "x",
    }
    app = write(tmp_path, **extra)
    assert app.check() == []
    assert app.names("tasks") == ["tasks.Daily", "tasks.Remind"]


def test_code_without_its_e_json_is_a_missing_part(tmp_path: Path) -> None:
    problem = only(
        write(tmp_path, **{"tasks/Half/inner.py": "def customFunc(): ...\n"}).check()
    )
    assert (problem.file, problem.found) == ("tasks/Half/e.json", "no such file")


# --- all at once, and one at a time ----------------------------------------------------------------------------------


def test_check_reports_every_mistake_of_every_file_at_once(tmp_path: Path) -> None:
    files = {
        "tasks/Daily/e.json": patched(
            DAILY,
            {"enable": 2, "retries": -1, "timerCfg.startTime": "soon", "titel": "x"},
        ),
        "tasks/Remind/e.json": patched(
            REMIND,
            {"timerCfg.startField": "no", "filter": "Q(nope=1)", "dispatch": "x"},
        ),
        "tasks/Broken/e.json": "{",
        "models/Bad/e.json": {
            "type": "models.NormalType",
            "title": "Bad",
            "database": "crm",
        },
        "models/Bad/model.py": "",
        "services/Bad/e.json": {"type": "services.NormalType", "titel": "Bad"},
        "services/Bad/service.py": "",
    }
    found = {(p.file, p.key) for p in write(tmp_path, **files).check()}
    assert found >= {
        ("tasks/Daily/e.json", "enable"),
        ("tasks/Daily/e.json", "retries"),
        ("tasks/Daily/e.json", "timerCfg.startTime"),
        ("tasks/Daily/e.json", "titel"),
        ("tasks/Remind/e.json", "dispatch"),
        ("tasks/Broken/e.json", ""),
        ("models/Bad/e.json", "database"),
        ("services/Bad/e.json", "titel"),
    }


def test_fields_filter_and_signature_are_reported_together(tmp_path: Path) -> None:
    files = {
        "tasks/Remind/e.json": patched(
            REMIND, {"timerCfg.startField": "no", "filter": "Q(nope=1)"}
        ),
        "tasks/Remind/inner.py": "def customFunc(): ...\n",
    }
    found = {(p.file, p.key) for p in write(tmp_path, **files).check()}
    assert found == {
        ("tasks/Remind/inner.py", "customFunc"),
        ("tasks/Remind/e.json", "timerCfg.startField"),
        ("tasks/Remind/e.json", "filter"),
    }


BROKEN_CODE: dict[str, tuple[str, str]] = {
    "syntax": ("def customFunc(:\n", "SyntaxError"),
    "import": ("import no_such_module_of_mine\n", "no_such_module_of_mine"),
    "exit": ("raise SystemExit(3)\n", "SystemExit"),
    "division": ("\n\n1 / 0\n", "ZeroDivisionError"),
    "cancelled": ("import asyncio\nraise asyncio.CancelledError\n", "CancelledError"),
    "skipped": (
        "import pytest\npytest.importorskip('no_such_module_of_mine')\n",
        "Skipped",
    ),
    "null byte": ("def customFunc(): ...\0\n", ""),
}


@pytest.mark.parametrize("code, said", BROKEN_CODE.values(), ids=BROKEN_CODE)
@pytest.mark.parametrize(
    "stem", ["tasks/Daily/inner", "models/Contract/model", "services/NoticeSvc/service"]
)
def test_code_that_does_not_import(
    tmp_path: Path, stem: str, code: str, said: str
) -> None:
    app = write(
        tmp_path,
        **{
            f"{stem}.py": code,
            "tasks/Other/e.json": DAILY,
            "tasks/Other/inner.py": PLAIN["tasks/Daily/inner.py"],
        },
    )
    first = next(p for p in app.check() if p.file == f"{stem}.py")
    assert said in first.found
    assert app.getElement("tasks.Other").getFunc()() == 1


def test_code_that_does_not_import_names_its_line(tmp_path: Path) -> None:
    assert (
        only(write(tmp_path, **{"tasks/Daily/inner.py": "\n\n1 / 0\n"}).check()).key
        == "line 3"
    )


def test_a_service_or_a_type_that_fails_when_it_is_made(tmp_path: Path) -> None:
    init = "    def __init__(self, *_):\n        raise OSError('no disk')\n"
    files = {
        "services/NoticeSvc/service.py": (
            f"from jittask_prefect import NormalService\nclass NoticeSvc(NormalService):\n{init}"
        ),
        "tasks/Odd/e.json": {"type": "tasks.Meta", "title": "Odd"},
        "tasks/Odd/type.py": f"from jittask_prefect import NormalType\nclass Odd(NormalType):\n{init}",
        "tasks/Daily/e.json": DAILY | {"type": "tasks.Odd"},
    }
    app = write(tmp_path, **files)
    found = app.check()
    assert {p.file for p in found} == {
        "services/NoticeSvc/service.py",
        "tasks/Daily/e.json",
    }
    assert all("no disk" in p.found for p in found)
    assert [t.fullName for t in app.templates()] == ["tasks.Remind"]


# --- databases -------------------------------------------------------------------------------------------------------


def test_a_relative_sqlite_path_is_relative_to_app_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    app = write(
        tmp_path / "shop",
        **{"app.json": APP | {"database": "sqlite:///data/../shop.db"}},
    )
    assert app.database_url() == f"sqlite:///{tmp_path.resolve()}/shop/shop.db"


def test_the_environment_overrides_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = write(
        tmp_path, **{"app.json": APP | {"databases": {"crm": "sqlite:///crm.db"}}}
    )
    monkeypatch.setenv("JITTASK_DATABASE_URL", "sqlite:////elsewhere/x.db")
    assert app.database_url() == "sqlite:////elsewhere/x.db"
    assert app.database_url("crm").endswith("/crm.db")
    monkeypatch.setenv("JITTASK_DATABASE_URL", "nonsense")
    assert only(app.check()).file == "JITTASK_DATABASE_URL"


def test_a_model_in_a_database_that_app_json_does_not_name(tmp_path: Path) -> None:
    e_json = {"type": "models.NormalType", "title": "Contract", "database": "crm"}
    problems = write(tmp_path, **{"models/Contract/e.json": e_json}).check()
    assert ("models/Contract/e.json", "database") in {(p.file, p.key) for p in problems}


def test_the_path_may_be_app_json_itself(tmp_path: Path) -> None:
    write(tmp_path)
    assert App(tmp_path / "app.json").path == tmp_path.resolve()


def test_no_app_json(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"app\.json: found no such file"):
        App(tmp_path)


def test_a_wrong_e_json_hides_no_mistake_of_the_rest(tmp_path: Path) -> None:
    wrong = patched(
        REMIND,
        {"titel": "x", "filter": "Q('nothing', '=', 1)", "timerCfg.startField": "z"},
    )
    app = write(
        tmp_path,
        **{
            "tasks/Remind/e.json": wrong,
            "tasks/Remind/inner.py": "def customFunc(a, b):\n    pass\n",
        },
    )
    keys = {(p.file.rpartition("/")[2], p.key) for p in app.check()}
    assert keys == {
        ("e.json", "titel"),
        ("e.json", "timerCfg.startField"),
        ("e.json", "filter"),
        ("inner.py", "customFunc"),
    }
