"""Rows to tasks: what reading and planning a window costs, against the bare query, for 100,000 and 1,000,000 rows.

In each table 1,000 rows are due within the horizon, at a date with an index, or every year. Then 100,000 are due, and
all of them planned. SQLite in a file, and PostgreSQL where one runs.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import measure
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from jittask_prefect.elements.app import App
from jittask_prefect.prefect_api.answers import FlowRun, flow_run
from jittask_prefect.rows import indexes, sync
from jittask_prefect.rows.plan import Report
from jittask_prefect.rows.template_planner import TemplatePlanner
from jittask_prefect.testing import FakePrefect, build_app

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
FAR = "2026-03-02 08:15:00.500000"  # runs due before are asked for one by one
MODEL = """
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class {name}(SQLModel, table=True):
    __tablename__ = "{table}"
    id: int = Field(primary_key=True)
    at: NaiveDatetime | None = None
    status: str = "open"
    title: str = ""
    zone: str | None = None
"""
ZONES = (
    "Asia/Tokyo",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Shanghai",
    "Pacific/Auckland",
    "GMT+8",
)
"""The zones of rows that have their own; the clock of each shows the same times."""
SPREAD = {
    # 1,000 rows due within a day from NOW, the others over the two years behind them
    "single": "CASE WHEN n < {due} THEN {base} + n * 86300 / {due} ELSE {base} + 86400 * (2 + n % 700) END",
    # the same three working days before: from Wednesday the 25th of February at the hour of NOW, a Monday
    "workday": "CASE WHEN n < {due} THEN {base} - 432000 + n * 86300 / {due} "
    "ELSE {base} - 432000 + 86400 * (2 + n % 700) END",
    # the same 3, 14 or 30 days before, by the row's number
    "levels": "CASE WHEN n < {due} THEN {base} - 86400 * CASE n % 3 WHEN 0 THEN 3 WHEN 1 THEN 14 ELSE 30 END "
    "+ n * 86300 / {due} ELSE {base} + 86400 * (2 + n % 700) END",
    # some thousand rows for each day, before and after NOW: 1,000 of a million in the window of a task with one due time
    "any_day": "{base} - 86400 * ({rows} / {due} * 2 / 5) + n * 86400 / {due}",
    # the same of a task with three due times
    "any_day_of_three": "{base} - 86400 * ({rows} * 3 / {due} * 2 / 5) + n * 259200 / {due}",
    # due on 3 March every year, the others from April to October; all begun in 2001 to 2020
    "yearly": "CASE WHEN n < {due} THEN CASE n % 4 WHEN 0 THEN {y2002} WHEN 1 THEN {y2008} WHEN 2 THEN {y2013} "
    "ELSE {y2019} END + n % 8 * 3600 ELSE {first} + 86400 * (365 * (n % 20) + 100 + n % 200) END",
}


@contextmanager
def databases() -> Iterator[dict[str, str]]:
    """The URLs of an empty database of each kind that is there."""
    with measure.workplace() as folder:
        urls = {"SQLite": f"sqlite:///{folder}/rows.db"}
        name = f"jittask_bench_{os.getpid()}"
        server = create_engine(
            "postgresql+psycopg://postgres@127.0.0.1:5432/test",
            isolation_level="AUTOCOMMIT",
        )
        try:
            with server.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name}"))
            urls["PostgreSQL"] = f"postgresql+psycopg://postgres@127.0.0.1:5432/{name}"
        except (SQLAlchemyError, ImportError) as error:
            print(f"no PostgreSQL: {error}", file=sys.stderr)
        try:
            yield urls
        finally:
            if "PostgreSQL" in urls:
                with server.connect() as connection:
                    connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def fill(engine: Engine, table: str, rows: int, due: int, kind: str) -> None:
    """Rows with their dates, an index on these, and what the database knows of both."""
    base, first = (
        int(NOW.timestamp()) + 60,
        int(datetime(2001, 1, 1, tzinfo=UTC).timestamp()),
    )
    third = {
        f"y{y}": int(datetime(y, 3, 3, tzinfo=UTC).timestamp())
        for y in (2002, 2008, 2013, 2019)
    }
    seconds = SPREAD[kind].format(due=due, base=base, first=first, rows=rows, **third)
    if engine.dialect.name == "sqlite":
        numbers = f"WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < {rows - 1})"
        at = f"strftime('%Y-%m-%d %H:%M:%S.000000', {seconds}, 'unixepoch')"
        source = f"{numbers} SELECT n, {at}, 'open', 'a title of some length' FROM c"
        insert = f"INSERT INTO {table} (id, at, status, title) {source}"
    else:
        at = f"to_timestamp({seconds}) AT TIME ZONE 'UTC'"
        source = f"SELECT n, {at}, 'open', 'a title of some length' FROM generate_series(CAST(0 AS bigint), {rows - 1}) n"
        insert = f"INSERT INTO {table} (id, at, status, title) {source}"
    with engine.begin() as connection:
        connection.execute(text(insert))
        connection.execute(text(f"CREATE INDEX ix_{table} ON {table} (at)"))
    refresh(engine, table)


def refresh(engine: Engine, table: str) -> None:
    """Have the database look at a table."""
    sqlite = engine.dialect.name == "sqlite"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE" if sqlite else f"VACUUM ANALYZE {table}"))


def give_zones(engine: Engine, table: str) -> None:
    """A zone for each row, in turn; every seventh row has none."""
    cases = " ".join(f"WHEN {n} THEN '{zone}'" for n, zone in enumerate(ZONES))
    with engine.begin() as connection:
        count = len(ZONES) + 1
        statement = f"UPDATE {table} SET zone = CASE id % {count} {cases} END"
        connection.execute(text(statement))
    refresh(engine, table)


def app_of(folder: Path, url: str, tables: dict[str, dict[str, Any]]) -> App:
    """An app with a task for each table."""
    elements: dict[str, Any] = {}
    for table, keys in tables.items():
        name = table.title().replace("_", "")
        source = MODEL.format(name=name, table=table)
        elements[f"models/{name}"] = {
            "e.json": {"type": "models.NormalType"},
            "model.py": source,
        }
        e_json = {
            "type": "tasks.DateFieldType",
            "title": name,
            "modelPath": f"models.{name}",
        }
        timer = {"startField": "at", "timezone": "UTC", **keys}
        inner = "def customFunc(row):\n    pass\n"
        elements[f"tasks/{name}"] = {
            "e.json": {**e_json, "timerCfg": timer},
            "inner.py": inner,
        }
    return build_app(folder, elements, database=url)


def taken(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def paired(
    ours: Callable[[], object], theirs: Callable[[], object], runs: int = 11
) -> tuple[float, float]:
    """The medians of two works done in turn."""
    both = [(taken(ours), taken(theirs)) for _ in range(runs)]
    return statistics.median(a for a, _ in both), statistics.median(b for _, b in both)


def planned(app: App, template: str, since: datetime = NOW) -> int:
    """Read and plan one template as a first sync does; how many tasks."""
    report = Report()
    made = 0
    of: Any = app.template(template)
    one = TemplatePlanner(of, app.engine(), NOW, since, None, report)
    for actions in one.pieces(False, False):
        made += len(actions)
    assert not report.problems, report.problems
    return made


def bare(engine: Engine, query: str) -> Callable[[], object]:
    def work() -> object:
        with engine.connect() as connection:
            return connection.execute(text(query)).all()

    return work


def windows(kind: str, url: str, rows: tuple[int, int], due: int) -> None:
    """A window of two tables, and a yearly task of the larger one."""
    small, large = rows
    tables: dict[str, dict[str, Any]] = {
        "small_single": {},
        "large_single": {},
        "large_yearly": {"repeat": {"repeatType": "year"}},
        "large_workday": {
            "startOffset": {"offsetType": 1, "offset": 3, "offsetUnit": "workday"},
            "calendar": "DE-BY",
        },
        "large_levels": {
            "startOffset": [
                {"name": f"n{n}", "offsetType": 1, "offset": n, "offsetUnit": "day"}
                for n in (3, 14, 30)
            ]
        },
        "large_zoned": {"timezoneField": "zone"},
    }
    with measure.workplace() as folder:
        app = app_of(folder / "app", url, tables)
        engine = app.engine()
        for table, count in (
            ("small_single", small),
            ("large_single", large),
            ("large_yearly", large),
            ("large_workday", large),
            ("large_levels", large),
            ("large_zoned", large),
        ):
            spread = table.partition("_")[2].replace("zoned", "single")
            fill(engine, table, count, due, spread)
        day = f"at > '{NOW:%Y-%m-%d %H:%M:%S.%f}' AND at <= '{NOW + timedelta(1):%Y-%m-%d %H:%M:%S.%f}'"
        query = bare(engine, f"SELECT id, at FROM large_single WHERE {day}")
        assert (
            planned(app, "tasks.LargeSingle")
            == due
            == planned(app, "tasks.SmallSingle")
        )
        of_small, of_large = paired(
            lambda: planned(app, "tasks.SmallSingle"),
            lambda: planned(app, "tasks.LargeSingle"),
        )
        alone = statistics.median(taken(query) for _ in range(7))
        measure.line(
            f"{kind}: read and plan {due} of {large} rows", of_large / of_small, "times", f"the same of {small} rows",
            seconds=of_large, bare_indexed_query=alone,
        )  # fmt: skip
        assert planned(app, "tasks.LargeWorkday") == due
        counted, plain = paired(
            lambda: planned(app, "tasks.LargeWorkday"),
            lambda: planned(app, "tasks.LargeSingle"),
        )
        measure.line(
            f"{kind}: three working days after, {due} of {large} rows due", counted / plain, "times",
            "the task without an offset", seconds=counted,
        )  # fmt: skip
        assert planned(app, "tasks.LargeLevels") == due
        levels, plain = paired(
            lambda: planned(app, "tasks.LargeLevels"),
            lambda: planned(app, "tasks.LargeSingle"),
        )
        measure.line(
            f"{kind}: three levels, {due} of {large} rows due", levels / plain, "times",
            "the task without an offset", seconds=levels,
        )  # fmt: skip
        give_zones(engine, "large_zoned")
        found = planned(app, "tasks.LargeZoned")
        zoned, plain = paired(
            lambda: planned(app, "tasks.LargeZoned"),
            lambda: planned(app, "tasks.LargeSingle"),
        )
        measure.line(
            f"{kind}: a zone of each row, {found} of {large} rows due", zoned / plain, "times",
            "the task without zones", seconds=zoned,
        )  # fmt: skip
        if kind == "SQLite":
            days = "strftime('%m-%d', at) IN ('03-02', '03-03')"
        else:
            days = "extract(month FROM at) * 100 + extract(day FROM at) IN (302, 303)"
        query = bare(engine, f"SELECT id, at FROM large_yearly WHERE {days}")
        found = planned(app, "tasks.LargeYearly")
        ours, theirs = paired(lambda: planned(app, "tasks.LargeYearly"), query)
        measure.line(
            f"{kind}: a yearly task, {found} of {large} rows due", ours / theirs, "times",
            "the bare month-and-day query", seconds=ours, bare_query=theirs,
        )  # fmt: skip
        with engine.begin() as connection:
            statement = indexes.missing(
                connection, app.template("tasks.LargeYearly"), NOW
            )  # type: ignore[arg-type]
            assert statement is not None
            connection.execute(text(statement))
            assert (
                indexes.missing(connection, app.template("tasks.LargeYearly"), NOW)
                is None
            )  # type: ignore[arg-type]
        ours, theirs = paired(lambda: planned(app, "tasks.LargeYearly"), query)
        measure.line(
            f"{kind}: the same with the index that doctor proposes", ours / theirs, "times",
            "the bare month-and-day query without it", seconds=ours, bare_query=theirs,
        )  # fmt: skip
        app.close()


def business_time(kind: str, url: str, rows: int, due: int) -> None:
    """A zone of each row and three levels in working days, against a task with one due time; rows of each day."""
    own = {
        "timezoneField": "zone",
        "calendar": "DE-BY",
        "startOffset": [
            {"name": f"n{n}", "offsetType": 1, "offset": n, "offsetUnit": "workday"}
            for n in (3, 14, 30)
        ],
    }
    with measure.workplace() as folder:
        app = app_of(folder / "app", url, {"every_plain": {}, "every_zoned": own})
        engine = app.engine()
        fill(engine, "every_plain", rows, due, "any_day")
        fill(engine, "every_zoned", rows, due, "any_day_of_three")
        give_zones(engine, "every_zoned")
        found, plain_found = (
            planned(app, f"tasks.{name}") for name in ("EveryZoned", "EveryPlain")
        )
        of_date, proposed = "an index of the date", "the index that doctor proposes"
        for index in (of_date, proposed):
            if index is proposed:
                put_proposed_index(app, "tasks.EveryZoned", "every_zoned")
            zoned, plain = paired(
                lambda: planned(app, "tasks.EveryZoned"),
                lambda: planned(app, "tasks.EveryPlain"),
            )
            measure.line(
                f"{kind}: a zone of each row and three levels in working days, {index}, {found} of {rows} rows due",
                zoned / plain, "times", f"a task with one due time, {plain_found} of {rows} rows due",
                seconds=zoned, plain_seconds=plain,
            )  # fmt: skip
        app.close()


def put_proposed_index(app: App, task: str, table: str) -> None:
    """Put the index that `jittask doctor` proposes in the place of a table's index."""
    template: Any = app.template(task)
    with app.engine().begin() as connection:
        connection.execute(text(f"DROP INDEX ix_{table}"))
        statement = indexes.missing(connection, template, NOW)
        assert statement is not None
        connection.execute(text(statement))
    refresh(app.engine(), table)


class Quiet(FakePrefect):
    """A Prefect in which nothing has happened since the runs were made; it answers at once."""

    handed_over = 0

    def count_runs(self, **filters: Any) -> int:
        return self.handed_over

    def runs(self, **filters: Any) -> list[FlowRun]:
        # All of them wait: none is in Cancelling, which a sync asks for without ids.
        return [
            flow_run(
                {
                    "id": one,
                    "name": one,
                    "tags": [],
                    "state_type": "SCHEDULED",
                    "state": {"type": "SCHEDULED"},
                    "expected_start_time": "2026-01-01T00:00:00+00:00",
                }
            )
            for one in filters["flow_runs"].get("id", {"any_": []})["any_"]
        ]


def quiet(kind: str, url: str, due: int) -> None:
    """A sync with nothing to do while many rows are due within the horizon, and what the first one takes of memory."""
    with measure.workplace() as folder:
        app = app_of(folder / "app", url, {"busy_single": {}})
        engine = app.engine()
        fill(engine, "busy_single", 2 * due, due, "single")
        api = Quiet()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        report = Report()
        begun = time.perf_counter()
        sync._plan_and_apply(app, "", report, NOW, NOW, lambda: None)
        first = time.perf_counter() - begun
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert report.changes == due and not report.problems, report.problems
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE jittask_ledger SET dirty = false, flow_run_id = task_id")
            )
            far = connection.execute(
                text("SELECT count(*) FROM jittask_ledger WHERE due >= :at"),
                {"at": FAR},
            )
            api.handed_over = int(far.scalar_one())
        with engine.connect().execution_options(
            isolation_level="AUTOCOMMIT"
        ) as connection:
            connection.execute(
                text("ANALYZE" if kind == "SQLite" else "VACUUM ANALYZE jittask_ledger")
            )
        measure.line(
            f"{kind}: memory of a first sync of {due} due rows",
            grown,
            "MB",
            "before it",
            seconds=first,
        )

        at = [NOW]

        def again() -> None:
            at[0] += timedelta(milliseconds=1)
            done = sync.run(app, api, at[0], "me", clock=lambda: at[0])
            assert done is not None and done.changes == 0 and not done.problems, done

        day = f"at > '{NOW:%Y-%m-%d %H:%M:%S.%f}' AND at <= '{NOW + timedelta(1):%Y-%m-%d %H:%M:%S.%f}'"
        query = bare(engine, f"SELECT id, at FROM busy_single WHERE {day}")
        again()
        ours, theirs = paired(again, query)
        measure.line(
            f"{kind}: a sync with nothing to do, {due} rows due", ours / theirs, "times", "reading their dates",
            seconds=ours, bare_query=theirs,
        )  # fmt: skip
        app.close()


def main() -> None:
    scale = measure.scale(__doc__ or "")
    rows = int(100_000 * scale), int(1_000_000 * scale)
    with databases() as urls:
        for kind, url in urls.items():
            due = int(1000 * min(1, scale * 10))
            windows(kind, url, rows, due)
            business_time(kind, url, rows[1], due)
            quiet(kind, url, rows[0])


if __name__ == "__main__":
    main()
