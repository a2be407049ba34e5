"""The name of an app: the one rule, `JITTASK_NAME`, and the database that the environment names for an app."""

from __future__ import annotations

from pathlib import Path

import pytest

from jittask_prefect import App, ConfigError
from jittask_prefect.elements.app_name import app_name, database_variables
from jittask_prefect.testing import build_app


@pytest.mark.parametrize("name", ["shop", "Shop_2", "shop-staging", "_", "x" * 64])
def test_a_name_of_letters_digits_dash_and_underscore_is_taken(name: str) -> None:
    assert app_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a/b", "商店", "x" * 65, "x" * 200, "-shop", "my shop", "shop.de", "shop\n"],
)
def test_any_other_name_is_refused_with_the_allowed_names(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="name") as refused:
        build_app(tmp_path, name=name)
    (problem,) = refused.value.problems
    assert (problem.file, problem.key) == ("app.json", "name")
    assert "64" in problem.allowed


def test_the_environment_gives_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_app(tmp_path, name="shop", ready=False)
    monkeypatch.setenv("JITTASK_NAME", "shop-staging")
    assert App(tmp_path).name == "shop-staging"
    monkeypatch.setenv("JITTASK_NAME", "shop/staging")
    with pytest.raises(ConfigError, match="JITTASK_NAME"):
        App(tmp_path)


def test_a_database_of_the_environment_may_be_for_one_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = build_app(tmp_path, name="my-shop", ready=False)
    monkeypatch.setenv("JITTASK_DATABASE_URL", "sqlite:////x/plain.db")
    assert app.database_url() == "sqlite:////x/plain.db"
    monkeypatch.setenv("JITTASK_DATABASE_URL__MY_SHOP", "sqlite:////x/own.db")
    monkeypatch.setenv("JITTASK_DATABASE_URL__CRM", "sqlite:////x/other.db")
    assert app.database_url() == "sqlite:////x/own.db"
    monkeypatch.setenv("JITTASK_DATABASE_URL__MY_SHOP", "nonsense")
    with pytest.raises(ConfigError, match="JITTASK_DATABASE_URL__MY_SHOP: found"):
        app.database_url()


def test_the_variable_of_an_app_comes_first() -> None:
    assert database_variables("my-shop") == (
        "JITTASK_DATABASE_URL__MY_SHOP",
        "JITTASK_DATABASE_URL",
    )
