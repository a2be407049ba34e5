"""What the hooks add to a save: at most 1 ms (median), on SQLite and PostgreSQL; and how soon its run is in Prefect.

Saves are made in blocks of ten, with the listeners and without them, in turn. From commit to the run in Prefect: p95.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from measure import line, scale, workplace
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from jittask_prefect.deploying import deploy as deploying
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.rows import background_handover, hooks
from jittask_prefect.schedule import clock
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.selection import refresh_settings
from jittask_prefect.testing import build_app

MODEL = """
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class Bill(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    status: str = "open"
    at: NaiveDatetime | None = None
    count: int = 0
"""
BLOCK = 10
SERVER = "postgresql+psycopg://postgres@127.0.0.1:5432/"
NAME = f"jittask_hooks_cost_{os.getpid()}"


def elements(templates: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "models/Bill": {"e.json": {"type": "models.NormalType"}, "model.py": MODEL}
    }
    for number in range(templates):
        timer = {
            "startField": "at",
            "startOffset": {"offsetType": -1, "offset": number, "offsetUnit": "day"},
        }
        task = {
            "type": "tasks.DateFieldType",
            "title": f"T{number}",
            "modelPath": "models.Bill",
            "timerCfg": timer,
        }
        found[f"tasks/T{number}"] = {
            "e.json": task,
            "inner.py": "def customFunc(row):\n    pass\n",
        }
    return found


def switch(on: bool) -> None:
    for target, name, listener in hooks.LISTENERS:
        if on:
            event.listen(target, name, listener)
        else:
            event.remove(target, name, listener)


def costs(folder: Path, database: str, templates: int, runs: int) -> None:
    app = build_app(
        folder, elements(templates), **({"database": database} if database else {})
    )
    cls: Any = app.getElement("models.Bill")
    soon = clock.now().replace(tzinfo=None) + timedelta(days=30)
    number = iter(range(10**9))
    keys = iter(range(1, 10**9))

    def saving(change: Callable[[Session, Any], None]) -> float:
        key = next(
            keys
        )  # each save has a row of its own: a ledger of one row's many moves is no fair one
        with Session(app.engine()) as session:
            session.add(cls(id=key, at=soon))
            session.commit()
        with Session(app.engine()) as session:
            bill = session.get(cls, key)
            begun = time.perf_counter()
            change(session, bill)
            session.commit()
            return time.perf_counter() - begun

    def add(session: Session, _bill: Any) -> None:
        session.add(cls(id=1_000_000 + next(number), at=soon))

    def move(_session: Session, bill: Any) -> None:
        bill.at = soon + timedelta(minutes=next(number))

    def other(_session: Session, bill: Any) -> None:
        bill.count = next(number)

    kind = "PostgreSQL" if database else "SQLite"
    for name, change in (
        ("insert", add),
        ("update of the date", move),
        ("update of another field", other),
    ):
        if database:  # what autovacuum does within a minute of a new table's first rows
            with app.engine().begin() as connection:
                connection.execute(text("ANALYZE"))
        taken: dict[bool, list[float]] = {True: [], False: []}
        for turn in range(max(2, 2 * runs // BLOCK)):
            on = bool(turn % 2)
            if not on:
                switch(False)
            saving(change)  # SQLAlchemy has arranged its listeners anew
            taken[on] += [saving(change) for _ in range(BLOCK)]
            if not on:
                switch(True)
        with_, bare = (statistics.median(taken[on]) * 1e3 for on in (True, False))
        more = {
            "with_ms": with_,
            "without_ms": bare,
            "templates": templates,
            "saves": runs,
        }
        line(
            f"hooks: {name}, {templates} templates, {kind}",
            with_ - bare,
            "milliseconds",
            "1 millisecond",
            **more,
        )
    app.close()


def visible(folder: Path, saves: int) -> None:
    with Embedded(folder / "server") as embedded:
        server, _ = embedded.ensure()
        os.environ["PREFECT_API_URL"] = server.url
        refresh_settings()
        app = build_app(folder / "app", elements(1))
        api = PrefectApi(server.url)
        deploying.deploy(app, api, clock.now())
        cls: Any = app.getElement("models.Bill")
        hooks._nudges[:] = [background_handover.nudge]
        taken = []
        for _ in range(saves):
            due = datetime.now() + timedelta(hours=2)
            with Session(app.engine()) as session:
                session.add(cls(at=due))
                session.commit()
            begun, before = time.perf_counter(), len(taken)
            while len(api.runs(limit=200, sort="START_TIME_DESC")) <= before:
                if time.perf_counter() - begun > 60:
                    raise SystemExit("no run within a minute")
            taken.append(time.perf_counter() - begun)
        p95 = sorted(taken)[int(len(taken) * 0.95) - 1] if len(taken) > 1 else taken[0]
        more = {"median_seconds": statistics.median(taken), "saves": saves}
        line("commit → run visible, p95, SQLite", p95, "seconds", "5 seconds", **more)
        app.close()


def main() -> None:
    share = scale(__doc__ or "")
    runs = max(5, int(400 * share))
    hooks._nudges.clear()
    with workplace() as folder:
        for templates in (1, 5):
            costs(folder / f"lite{templates}", "", templates, runs)
        with suppress(OperationalError):  # no PostgreSQL here
            admin = create_engine(SERVER + "postgres", isolation_level="AUTOCOMMIT")
            with admin.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {NAME}"))
            try:
                for templates in (1, 5):
                    costs(folder / f"pg{templates}", SERVER + NAME, templates, runs)
                    with create_engine(SERVER + NAME).begin() as connection:
                        connection.execute(
                            text("DROP TABLE bill, jittask_ledger, jittask_state")
                        )
            finally:
                with admin.connect() as connection:
                    connection.execute(
                        text(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
                    )
        if share >= 0.1:  # a server takes longer to start than all of the above
            visible(folder / "visible", max(10, int(100 * share)))


if __name__ == "__main__":
    main()
