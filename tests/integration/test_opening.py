"""A retry that comes after the closing waits, and a real worker tries the task again at the next opening."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from place import Place, model, rows, until, worker

from jittask_prefect.schedule import clock
from jittask_prefect.server.service import ServiceInfo

MINUTE = timedelta(minutes=1)
SOON = 25  # seconds that a worker has to begin the task before the closing
INNER = """
def customFunc(row):
    row.done += 1
    if app.task.attempt == 1:
        raise ValueError("the line is busy")
"""


@pytest.fixture
def closing() -> datetime:
    """The next full minute that leaves time for a first attempt before."""
    at = clock.now() + timedelta(seconds=SOON)
    return at.replace(second=0, microsecond=0) + MINUTE


@pytest.fixture
def place(
    closing: datetime,
    tmp_path_factory: pytest.TempPathFactory,
    prefect_server: ServiceInfo,
) -> Iterator[Place]:
    opening = closing + MINUTE
    hours = [
        {"from": f"{begin:%H:%M}", "to": f"{end:%H:%M}"}
        for begin, end in (
            (closing - 30 * MINUTE, closing),
            (opening, opening + 30 * MINUTE),
        )
    ]
    delay = (closing - clock.now()).total_seconds() + 20
    made = Place.build(
        tmp_path_factory.mktemp("opening") / "app",
        {
            "models/CallItem": model("CallItem"),
            "tasks/Call": rows(
                "CallItem",
                INNER,
                timer={"window": hours, "timezone": "UTC"},
                retries=1,
                retryDelay=delay,
            ),
        },
        name="opening",
    )
    made.deploy()
    yield made
    made.remove()


def test_a_late_retry_waits_for_the_next_opening(
    place: Place, closing: datetime
) -> None:
    opening = closing + MINUTE
    home = place.app.path.parent
    with worker(home / ".jittask", cwd=home):
        row = place.save("CallItem", at=clock.now().astimezone(UTC).replace(tzinfo=None))  # fmt: skip
        place.sync()
        [task] = place.entries("tasks.Call", row.id)
        waiting = until(
            lambda: e if (e := place.entry(task.task_id)).not_before else None,
            60,
            what=str(place.entry(task.task_id)),
        )
        assert waiting is not None
        assert (waiting.status, waiting.attempt) == ("pending", 1)
        assert waiting.not_before == opening
        assert waiting.message.startswith("attempt 1 failed (error: ValueError")
        assert "outside its opening hours: waits until" in waiting.message
        assert place.sql("SELECT done FROM callitem") == 0

        place.sync()
        [run] = place.runs("tasks.Call", "SCHEDULED")
        assert run.expected_start_time == opening
        assert [r.state_type for r in place.runs("tasks.Call", "CANCELLED")] == [
            "CANCELLED"
        ]
        time.sleep(max(0.0, (opening - clock.now()).total_seconds()))
        done = place.ended(task.task_id, 60)

    assert (done.status, done.attempt) == ("completed", 2)
    assert done.started is not None and done.started >= opening
    assert place.sql("SELECT done FROM callitem") == 1
