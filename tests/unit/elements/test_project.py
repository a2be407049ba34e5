"""Where an app is: app.json, or a table of pyproject.toml; each mistake of that file is a sentence."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from jittask_prefect import App, ConfigError
from jittask_prefect.elements.project import find_place, in_an_app, place_of
from jittask_prefect.errors import Problem

TABLE = '[project]\nname = "clinic.app"\n\n[tool.jittask]\ntimezone = "UTC"\n'


def project(folder: Path, text: str = TABLE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    return folder


def refusal(folder: Path) -> Problem:
    with pytest.raises(ConfigError) as error:
        App(folder)
    (problem,) = error.value.problems
    return problem


def test_a_table_of_pyproject_is_an_app_with_the_projects_name(tmp_path: Path) -> None:
    app = App(project(tmp_path))
    assert (app.name, app.timezone, app.path) == ("clinic-app", "UTC", tmp_path)
    assert app.database_url() == f"sqlite:///{tmp_path}/app.db"


def test_folder_elements_of_a_project_stand_in_flows(tmp_path: Path) -> None:
    project(tmp_path)
    for folder in (tmp_path, tmp_path / "flows"):
        (folder / "tasks" / "Own").mkdir(parents=True)
    (tmp_path / "tasks/Own/e.json").write_text("not ours")
    daily = '{"type": "tasks.NormalType", "title": "Daily", "timerCfg": {"startTime": "2026-01-05 09:00:00"}}'
    (tmp_path / "flows/tasks/Own/e.json").write_text(daily)
    (tmp_path / "flows/tasks/Own/inner.py").write_text("def customFunc(): return 1")
    app = App(tmp_path)
    assert app.check() == []
    assert app.getElement("tasks.Own").title == "Daily"


def test_app_json_wins_over_the_table(tmp_path: Path) -> None:
    project(tmp_path)
    (tmp_path / "app.json").write_text('{"name": "shop", "timezone": "UTC"}')
    assert App(tmp_path).name == "shop"
    assert App(tmp_path / "pyproject.toml").name == "clinic-app"


def test_app_json_in_flows_wins_as_well(tmp_path: Path) -> None:
    project(tmp_path)
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/app.json").write_text('{"name": "shop", "timezone": "UTC"}')
    assert place_of(tmp_path).path == tmp_path / "flows"


def test_the_nearest_app_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = project(tmp_path / "whole", "[tool.jittask]\nname = 'outer'\n") / "part/src"
    inner.mkdir(parents=True)
    project(inner.parent, '[project]\nname = "a library without tasks"\n')
    monkeypatch.delenv("JITTASK_APP", raising=False)
    monkeypatch.chdir(inner)
    assert find_place().path == tmp_path / "whole"
    assert in_an_app()


def test_the_environment_names_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JITTASK_APP", str(project(tmp_path / "a")))
    assert find_place().path == tmp_path / "a"
    monkeypatch.setenv("JITTASK_APP", str(tmp_path / "a/pyproject.toml"))
    assert find_place().path == tmp_path / "a"
    monkeypatch.setenv("JITTASK_APP", str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"JITTASK_APP: found .* where no app\.json is"
    ):
        find_place()


def test_nothing_is_no_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JITTASK_APP", raising=False)
    monkeypatch.chdir(tmp_path)
    assert not in_an_app()
    with pytest.raises(ConfigError, match="jittask init --here"):
        find_place()


def test_dates_of_toml_are_dates_of_app_json(tmp_path: Path) -> None:
    text = (
        '[tool.jittask]\nname = "x"\ncalendar = "office"\n'
        '[tool.jittask.calendars.office]\ncountry = "DE"\nclosed = [2026-12-24]\n'
    )
    app = App(project(tmp_path, text))
    calendar = app.calendar_named("office")
    assert calendar is not None
    [closed] = calendar.cfg.closed
    assert (closed.first, closed.last) == (date(2026, 12, 24), date(2026, 12, 24))


LONG = "a" * 200
MISTAKES: dict[str, tuple[str, str, str, str]] = {
    "no table": (
        "[project]\nname = 'x'\n",
        "",
        "no table [tool.jittask]",
        "the table [tool.jittask]; `jittask init --here` writes it",
    ),
    "a syntax error": (
        "[tool.jittask]\nname = \n",
        "",
        "Invalid value (at line 2, column 8)",
        "valid TOML",
    ),
    "an unknown key": (
        "[tool.jittask]\nname = 'x'\nzone = 'UTC'\n",
        "tool.jittask.zone",
        '"UTC"',
        "no such key; the keys are",
    ),
    "modules as text": (
        "[tool.jittask]\nname = 'x'\nmodules = 'clinic.tasks'\n",
        "tool.jittask.modules",
        '"clinic.tasks"',
        'a list of names of modules, like ["clinic.tasks"]',
    ),
    "a file as a module": (
        "[tool.jittask]\nname = 'x'\nmodules = ['clinic/tasks.py']\n",
        "tool.jittask.modules.0",
        '"clinic/tasks.py"',
        "the name of a module, like clinic.tasks",
    ),
    "a class without a module": (
        "[tool.jittask]\nname = 'x'\nmodels = {Visit = 'Visit'}\n",
        "tool.jittask.models.Visit.class",
        '"Visit"',
        "a module and a class, like clinic.models:Appointment",
    ),
    "a table that is none": (
        "[tool]\njittask = 3\n",
        "tool.jittask",
        "3",
        "a table",
    ),
    "no name anywhere": (
        "[tool.jittask]\ntimezone = 'UTC'\n",
        "tool.jittask.name",
        "nothing",
        "this key is required",
    ),
    "a slash in the name": (
        "[tool.jittask]\nname = 'a/b'\n",
        "tool.jittask.name",
        '"a/b"',
        "up to 64 letters of A to Z, digits, - or _",
    ),
    "a Chinese name": (
        "[tool.jittask]\nname = '诊所'\n",
        "tool.jittask.name",
        '"诊所"',
        "up to 64 letters of A to Z, digits, - or _",
    ),
    "a name of 200 characters": (
        f"[tool.jittask]\nname = '{LONG}'\n",
        "tool.jittask.name",
        '"' + "a" * 76 + "…",
        "up to 64 letters of A to Z, digits, - or _",
    ),
}


@pytest.mark.parametrize("text, key, found, allowed", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_a_sentence(
    tmp_path: Path, text: str, key: str, found: str, allowed: str
) -> None:
    problem = refusal(project(tmp_path, text))
    assert (problem.file, problem.key) == ("pyproject.toml", key)
    assert problem.found == found
    assert problem.allowed.startswith(allowed)


def test_a_broken_pyproject_with_the_table_is_the_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without this, a slip in pyproject.toml would let another app above be taken, or none."""
    monkeypatch.delenv("JITTASK_APP", raising=False)
    monkeypatch.chdir(project(tmp_path, "[tool.jittask]\nname = \n"))
    assert find_place().file == "pyproject.toml"
