"""Several apps of one worker: what they may not share, and what each has of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jittask_prefect import App, ArgumentError, OtherDatabase
from jittask_prefect.deploying import serving
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.server import selection
from jittask_prefect.testing import FakePrefect, build_app


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> FakePrefect:
    """The server of every app here."""
    fake = FakePrefect()
    monkeypatch.setattr(selection, "connect", lambda home: fake)
    return fake


def made(folder: Path, name: str, **more: Any) -> App:
    return build_app(folder / name, name=name, **more)


def test_a_worker_takes_the_queues_of_its_apps_only(
    tmp_path: Path, prefect: FakePrefect
) -> None:
    shop = made(tmp_path, "shop", maxConcurrency=2)
    crm = made(tmp_path, "crm", maxConcurrency=3)
    found = serving.prepare([shop, crm])
    assert found.queues == ("shop.first", "shop", "crm.first", "crm")
    assert (found.pool, found.limit, found.url) == ("jittask", 5, prefect.url)
    apps = json.loads(found.environment["JITTASK_WORKER_APPS"])
    assert sorted(apps) == sorted([[str(shop.path), "shop"], [str(crm.path), "crm"]])


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"JITTASK_NAME": "x"}, "JITTASK_NAME names one app"),
        (
            {"JITTASK_DATABASE_URL": "sqlite:///x.db"},
            "allowed: JITTASK_DATABASE_URL__SHOP, JITTASK_DATABASE_URL__CRM",
        ),
    ],
)
def test_a_variable_of_one_app_is_refused_for_two(
    tmp_path: Path, variables: dict[str, str], said: str
) -> None:
    apps = [made(tmp_path, "shop"), made(tmp_path, "crm")]
    serving.refuse_shared(apps[:1], variables)
    with pytest.raises(ArgumentError, match=said):
        serving.refuse_shared(apps, variables)


def test_two_apps_of_one_name_or_one_variable_are_refused(tmp_path: Path) -> None:
    one = build_app(tmp_path / "one", name="shop")
    two = build_app(tmp_path / "two", name="shop")
    for apps in ([one, two], [one, one]):
        with pytest.raises(ArgumentError, match="are both the app shop"):
            serving.refuse_shared(apps, {})
    apps = [made(tmp_path, "my-shop"), made(tmp_path, "my_shop")]
    with pytest.raises(ArgumentError, match="share a variable JITTASK_DATABASE_URL__"):
        serving.refuse_shared(apps, {})


def test_one_worker_has_one_pool_and_one_server(
    tmp_path: Path, prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps = [made(tmp_path, "shop", workPool="big"), made(tmp_path, "crm")]
    with pytest.raises(ArgumentError, match="shop: big, crm: jittask"):
        serving.prepare(apps)
    assert serving.prepare(apps, "small").pool == "small"

    def another(home: Path) -> Api:
        fake = FakePrefect()
        fake.url = f"memory://{home.name}/api"
        return fake

    monkeypatch.setattr(selection, "connect", another)
    with pytest.raises(ArgumentError, match="different Prefect servers"):
        serving.prepare(apps, "small")


def test_a_worker_with_another_database_does_not_start(
    tmp_path: Path, prefect: FakePrefect
) -> None:
    prefect.variables["jittask_shop"] = {"id": "other", "database": "other"}
    with pytest.raises(OtherDatabase, match="nothing was changed"):
        serving.prepare([made(tmp_path, "shop")])
    assert not prefect.pools
