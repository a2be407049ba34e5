"""The guard: which database the server knows an app by, and who is refused."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jittask_prefect import App, LedgerError, OtherDatabase
from jittask_prefect.ledger import guard
from jittask_prefect.running import sync_flow
from jittask_prefect.testing import FakePrefect, build_app, deploy

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def same_app(app: App) -> App:
    """The app as another process has it."""
    return App(app.path)


def deployed(folder: Path) -> tuple[App, FakePrefect]:
    app, prefect = build_app(folder, name="shop"), FakePrefect()
    deploy(app, prefect, NOW)
    return app, prefect


def test_the_first_deploy_names_the_database_without_address_or_password(
    tmp_path: Path,
) -> None:
    _, prefect = deployed(tmp_path)
    (name, value) = prefect.variables.popitem()
    assert name == "jittask_shop" and set(value) == {"id", "database", "server"}
    lengths = [len(value[key]) for key in ("id", "database", "server")]
    assert lengths == [36, 32, 36]


def test_the_same_database_is_let_through_and_asked_for_once(tmp_path: Path) -> None:
    app, prefect = deployed(tmp_path)
    other = same_app(app)
    prefect.calls.clear()
    for _ in range(3):
        guard.require(other, prefect)
    assert prefect.calls == ["variable"]
    guard.require(other, prefect, again=True)
    assert prefect.calls == ["variable", "variable"]


def test_another_database_under_the_name_is_refused_with_both_ways_out(
    tmp_path: Path,
) -> None:
    _, prefect = deployed(tmp_path / "one")
    other = build_app(tmp_path / "two", name="shop")
    before = (dict(prefect.variables), dict(prefect.all_deployments))
    with pytest.raises(OtherDatabase, match="JITTASK_NAME=shop-staging") as refused:
        deploy(other, prefect, NOW)
    assert "jittask deploy --take-over" in str(refused.value)
    with pytest.raises(OtherDatabase):
        guard.require(other, prefect)
    assert (prefect.variables, prefect.all_deployments) == before


def test_a_copy_of_the_database_is_refused(tmp_path: Path) -> None:
    app, prefect = deployed(tmp_path / "one")
    app.close()
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    with pytest.raises(OtherDatabase, match="of which this is a copy"):
        guard.require(App(tmp_path / "copy"), prefect)


def test_a_new_ledger_at_the_same_place_is_refused(tmp_path: Path) -> None:
    """Two containers have one path, and two databases."""
    app, prefect = deployed(tmp_path)
    app.close()
    for file in tmp_path.glob("test.db*"):
        file.unlink()
    again = build_app(tmp_path, name="shop")
    with pytest.raises(OtherDatabase, match="an earlier ledger"):
        guard.require(again, prefect)


def test_a_take_over_lets_the_new_database_in_and_the_old_one_out(
    tmp_path: Path,
) -> None:
    first, prefect = deployed(tmp_path / "one")
    second = build_app(tmp_path / "two", name="shop")
    guard.claim(second, prefect, take_over=True)
    guard.require(same_app(second), prefect)
    with pytest.raises(OtherDatabase):
        guard.require(first, prefect, again=True)


def test_another_name_has_a_database_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, prefect = deployed(tmp_path / "one")
    build_app(tmp_path / "two", name="shop")
    monkeypatch.setenv("JITTASK_NAME", "shop-staging")
    deploy(App(tmp_path / "two"), prefect, NOW)
    monkeypatch.delenv("JITTASK_NAME")
    guard.require(same_app(first), prefect)
    assert set(prefect.variables) == {"jittask_shop", "jittask_shop-staging"}


def test_before_the_first_deploy_there_is_nothing_to_compare(tmp_path: Path) -> None:
    guard.require(build_app(tmp_path, name="shop"), FakePrefect())


def test_a_deploy_needs_the_ledger(tmp_path: Path) -> None:
    app = build_app(tmp_path, name="shop", ready=False)
    with pytest.raises(LedgerError, match="jittask db upgrade"):
        guard.claim(app, FakePrefect())


def test_of_two_servers_the_one_of_the_last_deploy_is_the_apps(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both make runs of each task: deploy says so once, the former server's syncs and `doctor` until it is mended."""
    app, first = deployed(tmp_path)
    second = FakePrefect()
    first.url, second.url = "http://one/api", "http://two/api"
    deploy(app, first, NOW)
    assert caplog.text == "" and guard.require(app, first, again=True) == ""

    deploy(app, second, NOW)
    assert "was on another Prefect server before, http://one/api" in caplog.text
    assert guard.require(app, second, again=True) == ""
    told = guard.require(app, first, again=True)
    assert "another Prefect server, http://two/api" in told
    assert "stop the workers of http://one/api" in told

    deploy(app, first, NOW)
    assert guard.require(app, first, again=True) == ""
    assert guard.require(app, second, again=True) != ""


def test_a_sync_on_the_former_server_says_so(tmp_path: Path) -> None:
    app, first = deployed(tmp_path)
    second = FakePrefect()
    second.url = "http://two/api"
    deploy(app, second, NOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sync_flow, "connect", lambda app: first)
        report = sync_flow.run_sync(app, NOW)
    assert report is not None
    [told] = report.problems
    assert "was deployed last to another Prefect server" in told


def test_an_older_variable_gets_the_servers_id_with_the_next_deploy(
    tmp_path: Path,
) -> None:
    app, prefect = deployed(tmp_path)
    [value] = prefect.variables.values()
    del value["server"]
    assert guard.require(app, prefect, again=True) == ""
    deploy(app, prefect, NOW)
    [value] = prefect.variables.values()
    assert len(value["server"]) == 36


def test_a_copy_of_the_database_on_a_server_of_its_own_is_no_move(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As a staging system from a copy of production: nobody is to stop the workers of production for it."""
    app, _ = deployed(tmp_path / "one")
    app.close()
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    copy, staging = App(tmp_path / "copy"), FakePrefect()
    staging.url = "http://staging/api"
    deploy(copy, staging, NOW)
    assert "another Prefect server" not in caplog.text
    assert guard.require(copy, staging, again=True) == ""
