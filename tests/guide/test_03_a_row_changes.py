"""The rows are the truth: whatever happens to a row, its task follows."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from contract_shop import open_shop

from jittask_prefect import App
from jittask_prefect.testing import FakePrefect, at, deploy

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
NINE = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def prefect() -> Iterator[FakePrefect]:
    with at(NOW):
        yield FakePrefect()


@pytest.fixture
def app(tmp_path: Path, prefect: FakePrefect) -> App:
    """One contract, whose reminder is due today at nine."""
    app = open_shop(tmp_path)
    deploy(app, prefect, NOW)
    with app.session() as s:
        s.add(
            app.getElement("models.Contract")(
                id=1, customer="Ada", endDate=date(2026, 3, 9)
            )
        )
        s.commit()
    prefect.sync(app, NOW)
    return app


def change(app: App, **values: Any) -> None:
    with app.session() as s:
        row = s.get(app.getElement("models.Contract"), 1)
        for name, value in values.items():
            setattr(row, name, value)
        s.commit()  # the hooks act here, in the same transaction


def test_a_new_date_supersedes_the_old_task(app: App, prefect: FakePrefect) -> None:
    change(app, endDate=date(2026, 3, 10))
    prefect.sync(app, NOW)
    assert prefect.run_due(app, NINE) == []
    prefect.sync(
        app, NINE
    )  # a task has a flow run from 24 hours before it is due (app.json's `horizon`)
    assert [
        o.status for o in prefect.run_due(app, datetime(2026, 3, 3, 9, 0, tzinfo=UTC))
    ] == ["completed"]


def test_a_row_that_no_longer_meets_the_filter_has_no_task(
    app: App, prefect: FakePrefect
) -> None:
    change(app, status="cancelled")
    prefect.sync(app, NOW)
    assert prefect.run_due(app, NINE) == []


def test_a_row_that_is_deleted_has_no_task(app: App, prefect: FakePrefect) -> None:
    with app.session() as s:
        s.delete(s.get(app.getElement("models.Contract"), 1))
        s.commit()
    prefect.sync(app, NOW)
    assert prefect.run_due(app, NINE) == []


def test_what_no_hook_saw_is_found_at_the_due_moment(
    app: App, prefect: FakePrefect
) -> None:
    """Raw SQL goes around the hooks. The row is read again before anything runs."""
    with app.engine().begin() as connection:
        connection.exec_driver_sql("UPDATE contract SET status = 'cancelled'")
    (outcome,) = prefect.run_due(app, NINE)
    assert outcome.status == "ended"
    with app.session() as s:
        assert s.get(app.getElement("models.Contract"), 1).reminded == 0
