"""A task that should not run after all is ended by its id; the records say what became of each."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from contract_shop import open_shop

from jittask_prefect import UnknownTask
from jittask_prefect.testing import FakePrefect, at, deploy

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
NINE = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def test_a_task_is_ended_once_and_for_all(tmp_path: Path) -> None:
    app, prefect = open_shop(tmp_path), FakePrefect()
    deploy(app, prefect, NOW)
    taskSvc, Contract = (
        app.getElement("services.TaskSvc"),
        app.getElement("models.Contract"),
    )
    with at(NOW):
        with app.session() as s:
            s.add_all(
                [
                    Contract(id=key, customer="Ada", endDate=date(2026, 3, 9))
                    for key in (1, 2)
                ]
            )
            s.commit()
        prefect.sync(app, NOW)

        # The records know every task, of rows and of schedules.
        first = next(
            r
            for r in taskSvc.getTaskRecords("tasks.ContractReminder")
            if r["row"] == "1"
        )
        assert (first["status"], first["dueTime"]) == (
            "pending",
            "2026-03-02T09:00:00+00:00",
        )

        assert taskSvc.forcedEnd(first["taskId"])["changed"] is True
        assert (
            taskSvc.forcedEnd(first["taskId"])["changed"] is False
        )  # a second time changes nothing

    assert len(prefect.run_due(app, NINE)) == 1  # the other row's
    with at(NINE):
        statuses = {
            r["row"]: r["status"]
            for r in taskSvc.getTaskRecords("tasks.ContractReminder")
        }
    assert statuses == {"1": "ended", "2": "completed"}


def test_there_is_no_such_task(tmp_path: Path) -> None:
    taskSvc = open_shop(tmp_path).getElement("services.TaskSvc")
    with pytest.raises(UnknownTask):
        taskSvc.forcedEnd("task_uuid_12345")
