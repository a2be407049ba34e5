"""The page of an app: what it costs a sync with 200 tasks and 100,000 records, as a share of the sync without the page.

Half of the tasks are of rows, in one table; the records are of the last 30 days. SQLite in a file, and a Prefect in memory:
the server's own work is the same few calls for any number of tasks. The sync without the page is measured in the same run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from measure import line, scale, too_small, workplace
from sqlalchemy import event, text

from jittask_prefect.deploying import renew
from jittask_prefect.elements.app import App
from jittask_prefect.records import overview_page, template_pages
from jittask_prefect.rows.plan import Report
from jittask_prefect.testing import FakePrefect, build_app, deploy

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
MODEL = """
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class Item(SQLModel, table=True):
    id: int = Field(primary_key=True)
    at: NaiveDatetime | None = Field(default=None, index=True)
"""
SPAN = 30 * 86400
ENDED = """
UPDATE jittask_ledger SET finished = :at WHERE task_id = printf('%036d', 1)
"""
RECORDS = """
WITH RECURSIVE counted(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM counted WHERE n < :records - 1)
INSERT INTO jittask_ledger (task_id, app, template, row_key, nominal, generation, due, created, status, outcome, message,
                            dirty, attempt, started, finished, returned)
SELECT printf('%036d', n), 'test', 'tasks.Rows' || (n % :tasks), 'r' || n, at, 1, at, at,
       CASE WHEN n % 50 = 0 THEN 'error' ELSE 'completed' END, CASE WHEN n % 50 = 0 THEN 'failed' ELSE 'completed' END,
       CASE WHEN n % 50 = 0 THEN 'error: OSError: no route' ELSE '' END, 0, 1, at, at, 1
FROM (SELECT n, strftime('%Y-%m-%d %H:%M:%S.000000', :begin + n * :span / :records, 'unixepoch') AS at FROM counted)
"""
ROWS = """
WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < :rows)
INSERT INTO item (id, at) SELECT n, strftime('%Y-%m-%d %H:%M:%S.000000', :begin + n * 3600, 'unixepoch') FROM counted
"""


def elements(tasks: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "models/Item": {"e.json": {"type": "models.NormalType"}, "model.py": MODEL}
    }
    for n in range(tasks // 2):
        timer: dict[str, Any] = {"startField": "at", "startOffset": {"offset": n}}
        timer["startOffset"] |= {"offsetType": 1, "offsetUnit": "minute"}
        e_json = {"type": "tasks.DateFieldType", "title": f"Rows {n}"}
        e_json |= {"modelPath": "models.Item", "timerCfg": timer, "tags": [f"t{n % 9}"]}
        found[f"tasks/Rows{n}"] = {
            "e.json": e_json,
            "inner.py": "def customFunc(row): pass\n",
        }
        timer = {"startTime": f"2026-01-01 {n % 24:02}:30:00"}
        timer["repeat"] = {"repeatType": ("day", "week", "hour")[n % 3]}
        e_json = {"type": "tasks.NormalType", "title": f"Daily {n}", "timerCfg": timer}
        found[f"tasks/Daily{n}"] = {
            "e.json": e_json,
            "inner.py": "def customFunc(): pass\n",
        }
    return found


def fill(app: App, tasks: int, records: int, rows: int) -> None:
    """Records of 30 days, and rows of the coming days."""
    begin = int(NOW.timestamp())
    with app.engine().begin() as connection:
        values = {"records": records, "tasks": tasks // 2, "span": SPAN}
        connection.execute(text(RECORDS), {**values, "begin": begin - SPAN})
        connection.execute(text(ROWS), {"rows": rows, "begin": begin})
    with app.engine().begin() as connection:
        connection.execute(text("ANALYZE"))


def measured(work: Callable[[datetime], object], runs: int, first: datetime) -> float:
    """The median of some runs, a minute apart on the clock of the app, in seconds."""
    taken = []
    for n in range(runs):
        now = first + timedelta(minutes=n)
        begun = time.perf_counter()
        work(now)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def main() -> None:
    share = scale(str(__doc__))
    tasks, records = max(4, int(200 * share) // 2 * 2), max(100, int(100_000 * share))
    runs = 5 if share >= 0.1 else 3
    with workplace() as folder:
        app, api = build_app(folder / "app", elements(tasks)), FakePrefect()
        deploy(app, api, NOW)
        fill(app, tasks, records, max(10, int(100 * share)))
        pages = template_pages.refresh

        def plain(now: datetime) -> Report:
            """A sync as it was: rows, ledger, deployments, pages of statistics."""
            report = api.sync(app, now)
            renew.renew(app, api, now)
            pages(app, api, now)
            return report

        for n in range(-3, 0):  # the first syncs plan the rows of the day
            plain(NOW + timedelta(minutes=n))
        number: list[str] = []
        event.listen(
            app.engine(),
            "before_cursor_execute",
            lambda _c, _cursor, said, *_: number.append(said),
        )
        overview_page.refresh(app, api, NOW - timedelta(minutes=1))
        asked = len(number)
        before = measured(plain, runs, NOW)

        def changed(now: datetime) -> bool:
            """The page after a task has ended."""
            with app.engine().begin() as connection:
                connection.execute(text(ENDED), {"at": f"{now:%Y-%m-%d %H:%M:%S.%f}"})
            return overview_page.refresh(app, api, now)

        page = measured(changed, runs, NOW + timedelta(hours=2))
        with app.engine().begin() as connection:
            # Nobody does the rows' tasks here: each minute another one would be overdue, which is a change.
            connection.execute(
                text("DELETE FROM jittask_ledger WHERE status = 'pending'")
            )
        overview_page.refresh(app, api, NOW + timedelta(hours=3))
        quiet = measured(
            lambda now: overview_page.refresh(app, api, now),
            runs,
            NOW + timedelta(hours=3, minutes=1),
        )
        app.close()
    line(
        "statements of the page",
        asked,
        "statements",
        "one more for each 50 tasks of rows",
        tasks=tasks,
    )
    if share < 0.1:
        too_small("the page beside the sync", "a tenth of the whole")
        return
    line(
        "a minute without a change beside a minute with one",
        quiet / page,
        "times the page after a task has ended",
        "the page after a task has ended, in the same run",
        quiet_seconds=quiet,
        page_seconds=page,
        tasks=tasks,
        records=records,
    )
    line(
        "the page beside the sync",
        (before + page) / before,
        "times a sync without the page",
        "the sync without the page, in the same run",
        sync_seconds=before,
        page_seconds=page,
        tasks=tasks,
        records=records,
    )


if __name__ == "__main__":
    main()
