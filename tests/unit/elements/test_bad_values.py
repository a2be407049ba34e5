"""No value of one element keeps the others from working, and whatever is wrong is told in a sentence."""

from __future__ import annotations

import contextlib
import json
import os
import random
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from app_files import APP, DAILY, PLAIN, REMIND, only, patched, write
from bad_files import NOW, loaded, look, random_app, random_task, raw

from jittask_prefect import App, ConfigError, JittaskError
from jittask_prefect.ledger.keys import from_json, key_value, to_json

CODE = ("e.json", "inner.py")
HALF = r'"a\ud800b"'
WHOLE = "half a surrogate pair"
TASK: dict[str, tuple[str, str, str, str]] = {
    # A key of e.json, what stands there as raw JSON, the key that check names, and a part of what it says.
    "HalfTitle": ("title", HALF, "title", WHOLE),
    "HalfTag": ("tags", f"[{HALF}]", "tags.0", WHOLE),
    "HalfText": ("description", HALF, "description", WHOLE),
    "HalfType": ("type", HALF, "type", r"\ud800"),
    "HalfFunc": ("func", HALF, "func", WHOLE),
    "HalfArgument": ("argDict", '{"a": [' + HALF + "]}", "argDict.a.0", WHOLE),
    "HalfName": ("argDict", "{" + HALF + ": 1}", "argDict", WHOLE),
    "HalfZone": ("timerCfg.timezone", HALF, "timerCfg.timezone", WHOLE),
    "HalfKey": (
        "timerCfg",
        '{"startTime": "2026-01-05 09:00:00", ' + HALF + ": 1}",
        "timerCfg",
        WHOLE,
    ),
    "ControlTitle": ("title", r'"a\u009bb"', "title", "control"),
    "ControlTag": ("tags", r'["a\u0000b"]', "tags.0", "control"),
    "ControlText": ("description", r'"a\u001b[31mb"', "description", "control"),
    "Deep": ("argDict", '{"a":' * 60 + "1" + "}" * 60, "argDict.", "50 levels"),
    "Deeper": ("argDict", "[" * 5000 + "]" * 5000, "", ""),
    "Timeout": ("timeout", "1e10", "timeout", "3155760000"),
    "Huge": ("timeout", "1" + "0" * 400, "timeout", ""),
    "Delay": ("retryDelay", "1e11", "retryDelay", "3155760000"),
    "Grace": ("missed.grace", "1e11", "missed.grace", "3155760000"),
    "Lookback": ("missed.lookback", "1e11", "missed.lookback", "3155760000"),
    "Limit": (
        "concurrency.limit",
        "9223372036854775808",
        "concurrency.limit",
        "1000000",
    ),
    "Endless": ("argDict", '{"a": 1e400}', "argDict.a", "finite"),
}
ROWS: dict[str, tuple[str, str, str, str]] = {
    "HexFilter": ("filter", f'"Q(reminders=0x{"f" * 3900})"', "filter", "38 digits"),
    "WideFilter": ("filter", '"Q(reminders=9223372036854775808)"', "filter", "64 bits"),
    "HalfFilter": (
        "filter",
        f'"Q(customer={HALF[1:-1]!r})"'.replace(r"\\", "\\"),
        "filter",
        WHOLE,
    ),
    "EscapedHalf": ("filter", r'"Q(customer=\"\\ud800\")"', "filter", "a text"),
    "ControlFilter": ("filter", r'"Q(customer=\"\u001b\")"', "filter", "control"),
    "HalfField": ("timerCfg.startField", HALF, "timerCfg.startField", WHOLE),
    "RowsLookback": ("missed.lookback", "1e308", "missed.lookback", "3155760000"),
    "Offset": (
        "timerCfg.startOffset",
        '{"offsetType": 1, "offset": 1e10, "offsetUnit": "day"}',
        "timerCfg",
        "whole",
    ),
}


@pytest.fixture(scope="module")
def ruined(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[App, dict[str, list[tuple[str, str]]]]:
    """An app with all of these elements at once, and what check says of each: keys and sentences."""
    files: dict[str, Any] = {}
    for rows, table in ((False, TASK), (True, ROWS)):
        for name, (path, text, _, _) in table.items():
            files[f"tasks/{name}/e.json"] = raw(REMIND if rows else DAILY, path, text)
            files[f"tasks/{name}/inner.py"] = (
                f"def customFunc({'row' if rows else '**given'}): ...\n"
            )
    files["models/HalfModel/e.json"] = (
        '{"type": "models.NormalType", "title": ' + HALF + "}"
    )
    files["services/HalfSvc/e.json"] = (
        '{"type": "services.NormalType", "title": ' + HALF + "}"
    )
    app = write(tmp_path_factory.mktemp("ruined"), **files)
    said: dict[str, list[tuple[str, str]]] = {}
    for problem in look(app):
        said.setdefault(problem.file.split("/")[1], []).append(
            (problem.key, str(problem))
        )
    return app, said


@pytest.mark.parametrize("name", [*TASK, *ROWS])
def test_a_bad_value_is_a_mistake_of_its_element(
    name: str, ruined: tuple[App, dict[str, list[tuple[str, str]]]]
) -> None:
    """Check names its key and what is allowed; the element cannot be had, and nothing but a ConfigError says so."""
    app, said = ruined
    _, _, key, told = {**TASK, **ROWS}[name]
    assert any(found.startswith(key) and told in text for found, text in said[name]), (
        said[name]
    )
    if name not in ("WideFilter", "EscapedHalf"):  # seen against the model only
        with pytest.raises(ConfigError):
            app.getElement(f"tasks.{name}")


def test_bad_values_of_models_and_services_are_mistakes(
    ruined: tuple[App, dict[str, list[tuple[str, str]]]],
) -> None:
    assert (
        ruined[1]["HalfModel"][0][0] == "title"
        and WHOLE in ruined[1]["HalfModel"][0][1]
    )
    assert WHOLE in ruined[1]["HalfSvc"][0][1]


def test_nothing_of_other_elements_is_lost(
    ruined: tuple[App, dict[str, list[tuple[str, str]]]],
) -> None:
    """Whatever stands beside them, the plain elements have no mistake and work."""
    app, said = ruined
    assert {"Contract", "NoticeSvc", "Daily", "Remind"} & set(said) == set()
    assert app.getElement("services.NoticeSvc").send() == "sent"


APPS: dict[str, tuple[str, str, str]] = {
    "half a pair in the title": ("title", HALF, "title"),
    "C1 in the title": ("title", r'"a\u009bb"', "title"),
    "a database without a name": ("databases", '{"": "sqlite://"}', "databases"),
    "NUL in a database's name": ("databases", r'{"a\u0000": "sqlite://"}', "databases"),
    "half a pair in a database's name": ("databases", "{" + HALF + ": 1}", "databases"),
    "half a pair in a URL": (
        "databases",
        '{"a": "sqlite:///x\\ud800.db"}',
        "databases.a",
    ),
    "maxConcurrency of 400 digits": (
        "maxConcurrency",
        "1" + "0" * 400,
        "maxConcurrency",
    ),
    "horizon beyond a year": ("horizon", "1e10", "horizon"),
    "deep": ("calendars", '{"a":' * 60 + "1" + "}" * 60, "calendars"),
}


@pytest.mark.parametrize("path, text, key", APPS.values(), ids=APPS)
def test_a_bad_value_of_app_json(
    tmp_path: Path, path: str, text: str, key: str
) -> None:
    with pytest.raises(ConfigError) as error:
        write(tmp_path, **{"app.json": raw(APP, path, text)})
    assert error.value.problems[0].file == "app.json"
    assert error.value.problems[0].key.startswith(key)
    str(error.value).encode()


URLS: dict[str, tuple[str, str]] = {
    "async SQLite in memory": ("sqlite+aiosqlite://", "in memory"),
    "a driver that is not installed": (
        "postgresql+pg8000://u:secret@h/d",
        "not installed",
    ),
    "another kind's driver": ("mssql+pymssql://u:secret@h/d", "not installed"),
    "no URL": ("postgres//u:secret@h/d", "no URL"),
    "a port that is none": ("postgresql+psycopg://u:secret@h:port/d", "no URL"),
    "a parameter that is no number": ("sqlite:///x.db?timeout=soon", "no URL"),
    "a server of SQLite": ("sqlite://secret/x.db", "no URL"),
    "NUL": ("sqlite:///x\x00.db", "no URL"),
}


@pytest.mark.parametrize("url, said", URLS.values(), ids=URLS)
def test_a_database_that_cannot_be_asked(tmp_path: Path, url: str, said: str) -> None:
    """Check names it without its password, the elements work, and the engine is refused with the same sentence."""
    app = write(tmp_path, **{"app.json": APP | {"databases": {"crm": url}}})
    problem = only(app.check())
    assert (problem.file, problem.key) == ("app.json", "databases.crm")
    assert said in problem.found and "secret" not in str(problem)
    assert [t.fullName for t in app.templates()] == ["tasks.Daily", "tasks.Remind"]
    with pytest.raises(ConfigError, match=r"databases\.crm"):
        app.engine("crm")


def test_a_parameter_that_the_driver_does_not_know(tmp_path: Path) -> None:
    """It shows when the driver connects; it is a mistake of app.json all the same."""
    app = write(
        tmp_path,
        **{
            "app.json": APP | {"database": "mysql+pymysql://u:secret@127.0.0.1/d?foo=1"}
        },
    )
    with (
        pytest.raises(ConfigError, match=r"app\.json: database: found .*foo") as error,
        app.engine().connect(),
    ):
        pass
    assert "secret" not in str(error.value)


def test_a_key_of_timerCfg_that_is_no_text_ends(tmp_path: Path) -> None:
    """The reader of timers takes out what is wrong and looks again; where nothing is left to take out, it ends."""
    app = write(
        tmp_path,
        **{"tasks/Daily/e.json": raw(DAILY, "timerCfg", '{"\\ud800": {"\\udfff": 1}}')},
    )
    assert (
        only([p for p in app.check() if p.key == "timerCfg"]).file
        == "tasks/Daily/e.json"
    )


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "tasks" / "Dir" / "e.json").mkdir(parents=True)
    (tmp_path / "tasks" / "Code" / "inner.py").mkdir(parents=True)
    app = write(tmp_path, **{"tasks/Code/e.json": DAILY})
    assert {(p.file, p.found) for p in app.check()} == {
        ("tasks/Dir/e.json", "a folder"),
        ("tasks/Code/inner.py", "no such file"),
    }
    (tmp_path / "other" / "app.json").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"app\.json"):
        App(tmp_path / "other")


@pytest.fixture
def nobody() -> Iterator[None]:
    """A user who is not root, for whom modes count."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_files_and_folders_that_may_not_be_read(request: pytest.FixtureRequest) -> None:
    """Each is a mistake of its own element, or of its folder; the others work."""
    with tempfile.TemporaryDirectory(
        prefix="jittask-unread-"
    ) as place:  # pytest's own folders are root's alone
        os.chmod(place, 0o755)
        files = {
            f"tasks/{n}/{f}": PLAIN[f"tasks/Daily/{f}"]
            for n in ("NoJson", "NoCode", "NoDir")
            for f in CODE
        }
        write(Path(place), **files).close()
        closed = (
            "tasks/NoJson/e.json",
            "tasks/NoCode/inner.py",
            "tasks/NoDir",
            "services",
        )
        for name in closed:
            os.chmod(Path(place) / name, 0)
        request.getfixturevalue("nobody")
        app = App(place)
        assert {(p.file, p.found.split(":")[-1].strip()) for p in app.check()} == {
            ("services", "Permission denied"),
            ("tasks/NoJson/e.json", "Permission denied"),
            ("tasks/NoCode/inner.py", f"'{place}/tasks/NoCode/inner.py'"),
            ("tasks/NoDir/e.json", "Permission denied"),
        }
        assert {"tasks.Daily", "tasks.Remind"} <= {t.fullName for t in app.templates()}
        with pytest.raises(ConfigError, match="Permission denied"):
            app.getElement("tasks.NoDir")
        with pytest.raises(ConfigError, match="Permission denied"):
            app.getElement("services.NoticeSvc")
        os.seteuid(0) if os.getuid() == 0 else [
            os.chmod(Path(place) / name, 0o755) for name in closed
        ]


def test_random_files(tmp_path: Path) -> None:
    """A few of the files that `benchmarks/bad_input.py` makes by the thousand."""
    chance = random.Random(14)
    tasks = {
        f"tasks/Bad{n}/{file}": text
        for n in range(60)
        for file, text in random_task(chance).items()
    }
    app = loaded(tmp_path / "tasks", **tasks)
    assert app is not None
    look(app)
    for number in range(15):
        app = loaded(tmp_path / str(number), **{"app.json": random_app(chance)})
        if app is not None:
            app.check()
            app.close()


# Results and keys


@pytest.mark.parametrize(
    "value, text",
    [
        (float("nan"), '"NaN"'),
        (
            {"a": [float("inf"), -float("inf"), 1.5]},
            '{"a": ["Infinity", "-Infinity", 1.5]}',
        ),
        ("NaN", '"NaN"'),
        ({"a": "x\ud800\0"}, '{"a": "x?\\u0000"}'),
        (10**5000, '"<int>"'),
    ],
    ids=("NaN", "infinity", "a text", "no text", "thousands of digits"),
)
def test_a_result_is_valid_json(value: Any, text: str) -> None:
    """What JSON has no word for is kept as a text; nothing else than a parser of plain JSON is needed to read it."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    assert to_json(value) == text
    json.loads(to_json(value), parse_constant=refuse)


def test_a_deep_or_circular_result_is_kept_in_some_way() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    circle: list[Any] = []
    circle.append(circle)
    assert [from_json(to_json(value)) for value in (deep, circle)] == [
        "<list>",
        "[[...]]",
    ]


def test_a_result_is_cut_by_its_bytes() -> None:
    """MariaDB's TEXT holds 65,535 bytes: 30,000 Chinese characters are too many."""
    assert len(to_json("日" * 30_000).encode()) < 65_535


def test_a_result_of_an_earlier_version_is_read() -> None:
    assert from_json("[NaN, -Infinity]") == ["NaN", "-Infinity"]


@pytest.mark.parametrize(
    "key",
    ["9" * 400, "9" * 5000, "9223372036854775808", "1.5", "\ud800", ""],
    ids=range(6),
)
def test_a_key_that_no_database_holds(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError):
        key_value(write(tmp_path).getElement("models.Contract"), key, "sqlite")


# Times


@pytest.mark.parametrize("start", ["0001-01-01 00:00:00", "9999-12-31 23:59:59"])
def test_the_ends_of_the_calendar(tmp_path: Path, start: str) -> None:
    """A start at either end is taken or refused with a sentence, in a zone on either side of Greenwich."""
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        begun, files = (
            patched(DAILY, {"timerCfg.startTime": start, "timerCfg.timezone": zone}),
            {},
        )
        for kind in ("Normal", "Hour", "Day", "Year"):
            files[f"tasks/{kind}/e.json"] = patched(
                begun, {"timerCfg.repeat.repeatType": kind.lower()}
            )
            files[f"tasks/{kind}/inner.py"] = "def customFunc(): ...\n"
        app = write(tmp_path / zone.replace("/", ""), **files)
        look(app)
        for template in app.templates():
            if template.taskType == "tasks.NormalType":
                for at in (
                    datetime(1, 1, 1, tzinfo=UTC),
                    NOW,
                    datetime(9999, 12, 31, tzinfo=UTC),
                ):
                    template.getNextRunTime(None, at)


def test_rows_at_the_ends_of_the_calendar_are_never_due(tmp_path: Path) -> None:
    app = write(tmp_path)
    remind, Contract = app.getElement("tasks.Remind"), app.getElement("models.Contract")
    for day in (datetime.min.date(), datetime.max.date()):
        assert (
            list(
                remind.occurrences(
                    datetime(1, 1, 1), datetime(9999, 12, 31), Contract(endDate=day)
                )
            )
            == []
        )


def test_a_relationship_that_leads_nowhere(tmp_path: Path) -> None:
    """SQLAlchemy configures all models at once: one that fails must not fail the others, whoever is loaded first."""
    head = "from typing import Optional\nfrom sqlmodel import Field, Relationship, SQLModel\n"
    lost = head + (
        "class Lost(SQLModel, table=True):\n    id: int | None = Field(default=None, primary_key=True)\n"
        "    there: 'Nowhere' = Relationship()\n"
    )
    near = head + (
        "class Near(SQLModel, table=True):\n    id: int | None = Field(default=None, primary_key=True)\n"
        "    far_id: int | None = Field(default=None, foreign_key='far.id')\n"
        "    far: Optional['Far'] = Relationship()\n"
    )
    far = (
        head
        + "class Far(SQLModel, table=True):\n    id: int | None = Field(default=None, primary_key=True)\n"
    )
    files: dict[str, Any] = {
        f"models/{n}/e.json": {"type": "models.NormalType"}
        for n in ("Lost", "Near", "Far")
    }
    files |= {
        "models/Lost/model.py": lost,
        "models/Near/model.py": near,
        "models/Far/model.py": far,
    }
    for first in ("models.Contract", "models.Lost", "models.Near", "tasks.Remind"):
        app = write(tmp_path / first, **files)
        with contextlib.suppress(JittaskError):
            app.getElement(first)
        assert (
            "Nowhere" in only(app.check()).found
            and only(app.check()).file == "models/Lost/model.py"
        )
        with pytest.raises(JittaskError, match="Nowhere"):
            app.getElement("models.Lost")
        near_by = app.getElement("models.Near")(
            id=1, far=app.getElement("models.Far")(id=2)
        )
        assert near_by.far.id == 2 and app.getElement("models.Contract")(id=3).id == 3
        app.close()


def test_only_errors_of_ours_leave_get_element(tmp_path: Path) -> None:
    """Whatever an element's code raises as it loads."""
    mute = "class E(Exception):\n    def __str__(self): raise ValueError\nraise E"
    code = {
        "Exit": "raise SystemExit(3)",
        "Mute": mute,
        "Nul": "x = '\0'",
        "Deep": "def f(): f()\nf()",
    }
    files: dict[str, Any] = {f"tasks/{n}/e.json": DAILY for n in code}
    files |= {f"tasks/{n}/inner.py": text + "\n" for n, text in code.items()}
    service = "from jittask_prefect import NormalService\nclass {0}(NormalService):\n    def __init__(self): raise {1}\n"
    files |= {
        f"services/{n}/e.json": {"type": "services.NormalType"}
        for n in ("ExitSvc", "DeepSvc")
    }
    files |= {"services/ExitSvc/service.py": service.format("ExitSvc", "SystemExit(3)")}
    files |= {
        "services/DeepSvc/service.py": service.format(
            "DeepSvc", "RecursionError('deep')"
        )
    }
    app = write(tmp_path, **files)
    assert {p.file.split("/")[1] for p in app.check()} == {*code, "ExitSvc", "DeepSvc"}
    for name in (
        *(f"services.{n}" for n in ("ExitSvc", "DeepSvc")),
        "tasks.\ud800",
        "a" * 10_000,
        5,
        None,
        ("tasks",),
    ):
        with pytest.raises(JittaskError):
            app.getElement(name)  # type: ignore[arg-type]
