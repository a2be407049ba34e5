"""A ledger of ten million finished tasks: what a sync, a save and the disk cost before they are removed, and after.

10,000 rows, each with 1,000 finished tasks of an hourly repeat, all older than the app's retention. The sync has nothing to
do; its Prefect is in memory. Each figure before the removal is divided by the same figure after it, in one run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from measure import line, too_small, workplace
from sqlalchemy import create_engine, insert, text
from sqlmodel import Session

from jittask_prefect.elements.app import App
from jittask_prefect.rows import hooks, sync
from jittask_prefect.rows.pruning import prune_all
from jittask_prefect.testing import FakePrefect, build_app, deploy

TASKS, EACH = 10_000_000, 1000
NOW = datetime(2026, 11, 2, 8, tzinfo=UTC)
SERVER = os.environ.get(
    "JITTASK_BENCH_DATABASE", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
)
MODEL = """
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class Item(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    at: NaiveDatetime | None = Field(default=None, index=True)
"""
COLUMNS = """(task_id, app, template, model, row_key, nominal, generation, anchor, start_value, due, created, status, outcome,
              message, dirty, attempt, started, finished, returned)"""
FILL = {
    "sqlite": f"""
WITH RECURSIVE counted(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM counted WHERE n < :tasks - 1)
INSERT INTO jittask_ledger {COLUMNS}
SELECT printf('%036d', n), 'test', 'tasks.Hourly', 'models.Item', CAST(n / :each + 1 AS TEXT), at, 1, :start, :start, at, at,
       'completed', 'completed', '', 0, 1, at, at, 1
FROM (SELECT n, strftime('%Y-%m-%d %H:%M:%S.000000', :begin + n % :each * 3600, 'unixepoch') AS at FROM counted)
""",
    "postgresql": f"""
INSERT INTO jittask_ledger {COLUMNS}
SELECT lpad(n::text, 36, '0'), 'test', 'tasks.Hourly', 'models.Item', (n / :each + 1)::text, at, 1, :start, :start, at, at,
       'completed', 'completed', '', false, 1, at, at, true
FROM (SELECT n, to_timestamp(:begin + n % :each * 3600) AT TIME ZONE 'UTC' AS at
      FROM generate_series(0, CAST(:tasks AS bigint) - 1) AS n) AS counted
""",
}
SIZE = {
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
    "postgresql": "SELECT pg_total_relation_size('jittask_ledger')",
}
COUNT = {"sqlite": "SELECT 1", "postgresql": "ANALYZE"}
"""As the databases do by themselves: PostgreSQL counts after large changes, SQLite does not."""
SHRINK = {"sqlite": "VACUUM", "postgresql": "VACUUM FULL jittask_ledger"}


def elements() -> dict[str, Any]:
    timer = {"startField": "at", "repeat": {"repeatType": "hour"}}
    about = {"type": "tasks.DateFieldType", "title": "Hourly", "timerCfg": timer}
    return {
        "models/Item": {"e.json": {"type": "models.NormalType"}, "model.py": MODEL},
        "tasks/Hourly": {
            "e.json": {
                **about,
                "modelPath": "models.Item",
                "filter": "Q(id__gt=1000000)",
            },
            "inner.py": "def customFunc(row): pass\n",
        },
    }


def fill(app: App, kind: str, tasks: int) -> None:
    """Finished tasks, from March on."""
    begin = datetime(2026, 3, 2, tzinfo=UTC)
    values = {
        "tasks": tasks,
        "each": EACH,
        "begin": int(begin.timestamp()),
        "start": f"{begin:%Y-%m-%d %H:%M:%S.000000}"
        if kind == "sqlite"
        else begin.replace(tzinfo=None),
    }
    with app.engine().begin() as connection:
        connection.execute(text(FILL[kind]), values)
        rows = [{"at": begin.replace(tzinfo=None)}] * (tasks // EACH)
        connection.execute(insert(app.getElement("models.Item")), rows)
    execute(app, COUNT[kind])


def execute(app: App, statement: str) -> Any:
    """A statement outside of a transaction; its first value, where it has any."""
    engine = app.engine().execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        found = connection.execute(text(statement))
        return found.scalar() if found.returns_rows else None


def median(work: Callable[[], object], turns: int) -> float:
    taken = []
    for _ in range(turns):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def figures(app: App, api: FakePrefect, kind: str) -> dict[str, float]:
    """Seconds of a sync that has nothing to do and removes nothing, seconds of a save, bytes of the ledger."""
    item = app.getElement("models.Item")

    def save() -> None:
        with Session(app.engine()) as session:
            session.add(item(at=datetime(2027, 1, 1)))
            session.commit()

    def run() -> None:
        sync.run(app, api, NOW, "bench", clock=lambda: NOW)

    save(), run()
    return {
        "sync": median(run, 5),
        "save": median(save, 200),
        "bytes": float(execute(app, SIZE[kind])),
    }


def measured(folder: Path, kind: str, tasks: int, url: str) -> None:
    api = FakePrefect()
    app = build_app(folder / "app", elements(), database=url, retention=36525)
    deploy(app, api, NOW)
    hooks._nudges.clear()
    fill(app, kind, tasks)
    before = figures(app, api, kind)
    begun, removed = time.perf_counter(), []
    prune_all(
        app, datetime(2026, 9, 1, tzinfo=UTC), NOW, lambda _, n: removed.append(n)
    )
    took = time.perf_counter() - begun
    execute(app, SHRINK[kind])
    execute(app, COUNT[kind])
    after = figures(app, api, kind)
    about = {"tasks": tasks, "left": tasks - sum(removed)}
    if tasks < TASKS // 100:
        too_small(f"retention, {kind}", "a hundredth of the whole")
        app.close()
        return
    for name in ("sync", "save"):
        more = {"before": before[name], "after": after[name], **about}
        against = "the same after the removal"
        line(f"{name}, {kind}", before[name] / after[name], "times", against, **more)
    more = {"before_mb": before["bytes"] / 1e6, "after_mb": after["bytes"] / 1e6}
    share = after["bytes"] / before["bytes"]
    line(f"bytes, {kind}", share, "times", "before the removal", **more, **about)
    pace = sum(removed) / took
    line(f"removal, {kind}", pace, "tasks a second", "", seconds=took, **about)
    app.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), action="append")
    asked = parser.parse_args()
    tasks = max(EACH, int(TASKS * asked.scale) // EACH * EACH)
    for kind in asked.database or ("sqlite", "postgresql"):
        with workplace() as folder:
            if kind == "sqlite":
                measured(folder, kind, tasks, "sqlite:///ledger.db")
                continue
            name = f"jittask_retention_{os.getpid()}"
            admin = create_engine(SERVER, isolation_level="AUTOCOMMIT")
            url = admin.url.set(database=name).render_as_string(hide_password=False)
            with admin.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
                try:
                    measured(folder, kind, tasks, url)
                finally:
                    drop = f"DROP DATABASE {name} WITH (FORCE)"
                    connection.exec_driver_sql(drop)
            admin.dispose()


if __name__ == "__main__":
    main()
