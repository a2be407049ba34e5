"""The database of an app: a URL of an async driver, an engine of the team's, and the sentence where neither works."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_files import only
from sqlalchemy import Engine, make_url, text

from jittask_prefect import App
from jittask_prefect.elements import engines
from jittask_prefect.errors import ConfigError
from jittask_prefect.testing import build_app


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of the team's, `shop_database`, to be written."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "shop_database.py"
    sys.modules.pop("shop_database", None)


def app_of(folder: Path, **app_json: Any) -> App:
    app_json.setdefault("engine", "shop_database:engine")
    plain = {"name": "shop", "timezone": "UTC", **app_json}
    (folder / "app").mkdir()
    import json

    (folder / "app/app.json").write_text(json.dumps(plain))
    return App(folder / "app")


@pytest.mark.parametrize(
    "written, sync",
    [
        ("postgresql+asyncpg://u:p@h/d?ssl=require", "postgresql+psycopg://u:p@h/d?sslmode=require"),
        ("postgresql+psycopg_async://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgresql+asyncpg://h/d?prepared_statement_cache_size=0", "postgresql+psycopg://h/d"),
        ("sqlite+aiosqlite:///shop.db", "sqlite:///shop.db"),
        ("mysql+aiomysql://u@h/d?charset=utf8mb4", "mysql+pymysql://u@h/d?charset=utf8mb4"),
        ("mariadb+asyncmy://u@h/d", "mariadb+pymysql://u@h/d"),
        ("postgresql+psycopg2://h/d", "postgresql+psycopg2://h/d"),
        ("sqlite:///shop.db", "sqlite:///shop.db"),
    ],
)  # fmt: skip
def test_the_driver_that_waits(written: str, sync: str) -> None:
    found = engines.sync_url(make_url(written))
    assert found.render_as_string(hide_password=False) == sync


def test_an_async_url_in_app_json(tmp_path: Path) -> None:
    app = build_app(tmp_path / "app", database="sqlite+aiosqlite:///shop.db")
    assert app.check() == []
    assert app.engine().url.drivername == "sqlite"
    assert app.engine().url.database == str(tmp_path / "app/shop.db")


def test_a_driver_that_is_not_there_names_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if not installed
    url = "postgresql+asyncpg://u:secret@h/d"
    said = str(only(build_app(tmp_path / "app", ready=False, database=url).check()))
    assert said.startswith(
        "app.json: database: found postgresql+asyncpg, an async driver; "
        "tasks use postgresql+psycopg, whose driver is not installed ("
    )
    assert "`pip install 'psycopg[binary]'`" in said
    assert "secret" not in said


def test_an_async_database_in_memory_is_refused(tmp_path: Path) -> None:
    app = build_app(tmp_path / "app", ready=False, database="sqlite+aiosqlite://")
    assert "sqlite+aiosqlite in memory, which no other driver sees" in str(
        only(app.check())
    )


ENGINES = {
    "an Engine": "from sqlalchemy import create_engine\nengine = create_engine('sqlite:///PLACE')\n",
    "a function": "from sqlalchemy import create_engine\ndef engine(): return create_engine('sqlite:///PLACE')\n",
    "an AsyncEngine": (
        "from sqlalchemy.ext.asyncio import create_async_engine\n"
        "engine = create_async_engine('sqlite+aiosqlite:///PLACE')\n"
    ),
    "its sync engine": (
        "from sqlalchemy.ext.asyncio import create_async_engine\n"
        "engine = create_async_engine('sqlite+aiosqlite:///PLACE').sync_engine\n"
    ),
}


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_instead_of_a_url(tmp_path: Path, team: Path, name: str) -> None:
    team.write_text(ENGINES[name].replace("PLACE", str(tmp_path / "team.db")))
    app = app_of(tmp_path)
    assert app.check() == []
    with app.session() as session:
        assert session.execute(text("SELECT 1")).scalar() == 1
    assert app.engine() is app.engine()
    assert app.engine().url.database == str(tmp_path / "team.db")
    if name == "an Engine":
        import shop_database  # type: ignore[import-not-found]

        assert app.engine() is shop_database.engine
    app.close()


def test_the_team_s_engine_outlives_the_app(tmp_path: Path, team: Path) -> None:
    team.write_text(
        "from sqlalchemy import create_engine\nfrom sqlalchemy.pool import StaticPool\n"
        "engine = create_engine('sqlite://', poolclass=StaticPool)\n"
    )
    app = app_of(tmp_path)
    engine: Engine = app.engine()
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE kept (id INTEGER)"))
    app.close()
    with engine.connect() as connection:  # disposed, it would be another database
        assert connection.execute(text("SELECT count(*) FROM kept")).scalar() == 0


def test_the_environment_overrides_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JITTASK_DATABASE_URL", f"sqlite:///{tmp_path}/other.db")
    app = app_of(tmp_path, engine="not.there:engine")
    assert app.check() == []
    assert app.engine().url.database == f"{tmp_path}/other.db"


@pytest.mark.parametrize(
    "source, path, said",
    [
        ("", "shop_database:engine", "shop_database:engine: shop_database has no engine"),
        ("engine = 3", "shop_database:engine", "shop_database:engine, which is int"),
        ("engine = 'sqlite://'", "shop_database:engine", "which is str"),
        ("def engine(): return None", "shop_database:engine", "which is NoneType"),
        ("def engine(x): ...", "shop_database:engine", "which fails: TypeError: engine() missing 1"),
        ("def engine(): raise OSError('no')", "shop_database:engine", "which fails: OSError: no"),
        ("1 / 0", "shop_database:engine", "whose module fails: ZeroDivisionError"),
        ("import sys; sys.exit(1)", "shop_database:engine", "whose module fails: SystemExit"),
        ("", "shop_nowhere:engine", "whose module fails: ModuleNotFoundError: No module named 'shop_nowhere'"),
    ],
)  # fmt: skip
def test_an_engine_that_cannot_be_had(
    tmp_path: Path, team: Path, source: str, path: str, said: str
) -> None:
    team.write_text(source)
    app = app_of(tmp_path, engine=path)
    found = str(only(app.check()))
    assert found.startswith("app.json: engine: found ")
    assert said in found and "; allowed: " in found
    with pytest.raises(ConfigError):
        app.engine()


@pytest.mark.parametrize("path", ["shop", "shop:", "shop.engine", "a b:c", 3])
def test_a_path_of_an_engine_that_is_none(tmp_path: Path, path: Any) -> None:
    with pytest.raises(ConfigError, match="engine: found"):
        app_of(tmp_path, engine=path)


def test_both_a_url_and_an_engine(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match="engine: found both; allowed: `engine` or `database`, not both",
    ):
        app_of(tmp_path, engine="shop:engine", database="sqlite://")
