"""Your own tasks are tested without a server: load your app, hand it a Prefect in memory, and choose the time.

In your project: `app = App("flows")` and `JITTASK_DATABASE_URL=sqlite:///…` of a temporary folder.
"""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jittask_prefect import App
from jittask_prefect.rows.databases import upgrade
from jittask_prefect.testing import FakePrefect, at, deploy

FLOWS = Path(__file__).parents[2] / "flows"  # the demo app of this repository
NINE = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)  # 09:00 in Shanghai


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    """The demo app, on a database of its own."""
    ignored = shutil.ignore_patterns(".jittask", "*.db*")
    shutil.copytree(
        FLOWS, tmp_path / "flows", ignore=ignored
    )  # a deploy writes prefect.yaml beside the app
    monkeypatch.setenv("JITTASK_DATABASE_URL", f"sqlite:///{tmp_path}/test.db")
    app = App(tmp_path / "flows")
    upgrade(app, models=True)
    return app


def test_nothing_is_wrong_with_it(app: App) -> None:
    assert app.check() == []


def test_a_function_is_just_a_function(app: App) -> None:
    """The quickest test of all: no Prefect, not even a fake one."""
    Member = app.getElement("models.Member")
    member = Member(
        customer="Ada",
        email="ada@example.org",
        level="gold",
        expiresAt=datetime(2026, 3, 1),
    )
    downgrade = app.getElement("tasks.MembershipDowngrade").getFunc()
    assert downgrade(member) == {"from": "gold", "to": "basic"}
    assert member.level == "basic"


def test_from_the_row_to_its_effect(app: App) -> None:
    """The whole way: a row is saved, its task is due, the worker runs it, the row has changed."""
    prefect = FakePrefect()
    deploy(app, prefect, NINE)
    Order = app.getElement("models.Order")
    with at(NINE), app.session() as s:
        values = {
            "customer": "Ada",
            "email": "ada@example.org",
            "item": "a lamp",
            "amount": 4200,
        }
        s.add(
            Order(id=1, payBy=datetime(2026, 3, 2, 7, 0), **values)
        )  # local time; due two hours later
        s.commit()
    prefect.sync(app, NINE)
    assert [o.status for o in prefect.run_due(app, NINE)] == ["completed"]
    with app.session() as s:
        assert s.get(Order, 1).status == "cancelled"


def test_a_prefect_that_is_down(app: App) -> None:
    """Saving goes on; what was not handed over is found by the next sync."""
    prefect = FakePrefect()
    deploy(app, prefect, NINE)
    prefect.down = True
    Member = app.getElement("models.Member")
    with at(NINE), app.session() as s:
        s.add(
            Member(
                id=1,
                customer="Ada",
                email="a@b.c",
                level="gold",
                expiresAt=datetime(2026, 3, 2, 8, 0),
            )
        )
        s.commit()
    prefect.down = False
    prefect.sync(app, NINE)
    assert [o.status for o in prefect.run_due(app, NINE)] == ["completed"]
