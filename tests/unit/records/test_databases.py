"""Statistics and pages of records, which are statements of their own, on all three servers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from shop import SERVERS
from sqlalchemy import insert

from jittask_prefect.ledger.entry import BLANK
from jittask_prefect.ledger.tables import entries
from jittask_prefect.records import paging, statistics
from jittask_prefect.records.statistics import Spread
from jittask_prefect.testing import build_app

NOW = datetime(2026, 9, 14, 3, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DAILY = {
    "e.json": {
        "type": "tasks.NormalType",
        "title": "Daily",
        "timerCfg": {
            "startTime": "2026-01-01 09:00:00",
            "repeat": {"repeatType": "day"},
        },
    },
    "inner.py": "def customFunc():\n    pass\n",
}


@pytest.mark.parametrize("kind", SERVERS)
def test_what_is_counted_is_the_same_everywhere(
    url: Callable[[str], str], tmp_path: Path, kind: str
) -> None:
    app = build_app(
        tmp_path / "app",
        {"tasks/Daily": DAILY},
        timezone="Asia/Shanghai",
        database=url(kind),
    )
    template, made = app.template("tasks.Daily"), []
    blank = {**BLANK, "app": app.name}
    for number in range(
        70
    ):  # one a day, the last one today at 10:00 in Shanghai; every seventh one failed
        due = datetime(2026, 9, 14, 2, tzinfo=UTC) - timedelta(days=number)
        failed = number % 7 == 0
        made.append(
            blank
            | {
                "task_id": f"task-{number:02}", "template": "tasks.Daily", "nominal": due, "due": due, "created": due,
                "status": "error" if failed else "completed", "outcome": "failed" if failed else "completed",
                "message": f"error: no {number} of “7”" if failed else "", "started": due + SECOND,
                "finished": due + SECOND + (number + 1) * SECOND, "returned": True,
            }
        )  # fmt: skip
    made[1] |= {"status": "pending", "started": None, "finished": None}
    with app.engine().begin() as connection:
        connection.execute(insert(entries), made)
    borders = statistics.day_borders(
        template, NOW, start=datetime(2026, 7, 6, 16, tzinfo=UTC)
    )
    found = statistics.of_template(template, borders, NOW)
    assert len(found.days) == 70
    assert found.counts == {"completed": 59, "error": 10, "overdue": 1}
    assert found.days[date(2026, 9, 7)] == {"error": 1}
    assert found.lateness == Spread(1.0, 1.0, 1.0, 69)
    assert found.duration == Spread(
        36.0, 67.0, 70.0, 69
    )  # of 1 and 3 to 70: the 35th and the 66th
    [reason] = found.reasons
    assert (reason.count, reason.text, reason.last) == (
        10,
        "error: no # of “#”",
        datetime(2026, 9, 14, 2, tzinfo=UTC),
    )
    part = paging.LedgerPage(app, [""], [entries.c.status == "completed"], 5)
    keys = part.keys(2)
    assert [task for (_, task), _ in keys] == ["task-04", "task-05", "task-06"]
    assert {entry.task_id for entry in part.entries(keys).values()} == {
        "task-04",
        "task-05",
        "task-06",
    }
    app.close()
