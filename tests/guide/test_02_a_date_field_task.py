"""A date-field task has one execution for each row, due relative to a date of the row."""

from datetime import UTC, date, datetime
from pathlib import Path

from contract_shop import open_shop

from jittask_prefect.testing import FakePrefect, at, deploy

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


def test_each_row_is_due_on_its_own_day(tmp_path: Path) -> None:
    app = open_shop(tmp_path)
    reminder, Contract = (
        app.getElement("tasks.ContractReminder"),
        app.getElement("models.Contract"),
    )

    row = Contract(customer="Ada", endDate=date(2026, 3, 9))
    (due,) = reminder.occurrences(datetime(2026, 1, 1), datetime(2027, 1, 1), row)

    assert due == datetime(2026, 3, 2, 9, 0, tzinfo=UTC)  # seven days before, at nine


def test_the_function_gets_the_row_and_what_it_changes_is_saved(tmp_path: Path) -> None:
    app = open_shop(tmp_path)
    prefect = FakePrefect()
    deploy(app, prefect, NOW)
    Contract = app.getElement("models.Contract")

    with at(NOW), app.session() as s:  # saving a row looks at the clock
        s.add(
            Contract(id=1, customer="Ada", endDate=date(2026, 3, 9))
        )  # due today at nine
        s.add(
            Contract(id=2, customer="Bob", endDate=date(2026, 9, 9))
        )  # due in September
        s.add(
            Contract(id=3, customer="Eve", endDate=date(2026, 3, 9), status="cancelled")
        )  # the filter leaves it out
        s.commit()
    prefect.sync(
        app, NOW
    )  # rows → flow runs; the flow jittask.sync does this every minute

    assert prefect.run_due(app, NOW) == []  # it is eight
    (outcome,) = prefect.run_due(app, datetime(2026, 3, 2, 9, 0, tzinfo=UTC))
    assert outcome.result == "wrote to Ada"

    with app.session() as s:
        assert [s.get(Contract, key).reminded for key in (1, 2, 3)] == [1, 0, 0]
