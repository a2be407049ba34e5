"""The environment of a child: its own app's, and nothing of another's."""

from __future__ import annotations

from pathlib import Path

import pytest

from jittask_prefect.warm.app_environment import environment_of, served_text

SHOP, CRM = ("/srv/shop", "shop"), ("/srv/crm", "my-crm")
WORKER = {
    "PATH": "/bin",
    "JITTASK_APP": "/srv/elsewhere",
    "JITTASK_NAME": "elsewhere",
    "JITTASK_DATABASE_URL": "sqlite:///plain.db",
    "JITTASK_DATABASE_URL__SHOP": "sqlite:///shop.db",
    "JITTASK_DATABASE_URL__MY_CRM": "sqlite:///crm.db",
}


def test_a_child_has_its_deployments_app_and_its_own_database_only() -> None:
    worker = {**WORKER, "JITTASK_WORKER_APPS": served_text([SHOP, CRM])}
    assert environment_of(worker, *SHOP) == {
        "PATH": "/bin",
        "JITTASK_APP": "/srv/shop",
        "JITTASK_NAME": "shop",
        "JITTASK_DATABASE_URL__SHOP": "sqlite:///shop.db",
    }
    assert environment_of(worker, *CRM) == {
        "PATH": "/bin",
        "JITTASK_APP": "/srv/crm",
        "JITTASK_NAME": "my-crm",
        "JITTASK_DATABASE_URL__MY_CRM": "sqlite:///crm.db",
    }


def test_the_plain_database_is_for_the_only_app() -> None:
    worker = {
        "JITTASK_DATABASE_URL": "sqlite:///plain.db",
        "JITTASK_WORKER_APPS": served_text([SHOP]),
    }
    assert "JITTASK_DATABASE_URL" in environment_of(worker, *SHOP)
    assert "JITTASK_DATABASE_URL" not in environment_of(worker, *CRM)
    # Another name is another app, also in the same folder.
    assert "JITTASK_DATABASE_URL" not in environment_of(worker, "/srv/shop", "staging")


@pytest.mark.parametrize(
    ("named", "folder", "has"),
    [
        ("shop", "shop", True),
        ("shop", "shop/flows", True),
        ("shop/flows/app.json", "shop/flows", True),
        ("shop", "crm", False),
    ],
)
def test_prefects_own_command_has_the_app_of_its_environment(
    tmp_path: Path, named: str, folder: str, has: bool
) -> None:
    worker = {
        "JITTASK_APP": str(tmp_path / named),
        "JITTASK_DATABASE_URL": "sqlite:///plain.db",
    }
    child = environment_of(worker, str(tmp_path / folder), "shop")
    assert ("JITTASK_DATABASE_URL" in child) is has
    named_otherwise = {**worker, "JITTASK_NAME": "shop-staging"}
    child = environment_of(named_otherwise, str(tmp_path / folder), "shop")
    assert "JITTASK_DATABASE_URL" not in child


def test_a_deployment_that_names_no_app_has_the_workers_environment() -> None:
    assert environment_of(WORKER, "", "") == WORKER
