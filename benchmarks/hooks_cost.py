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


def business_elements() -> dict[str, Any]:
    """A plain task of bills, and a task of invoices with a zone of each row and three levels in working days."""
    found = elements(1)
    invoice = MODEL.replace("Bill", "Invoice").replace(
        "    count", "    zone: str | None = None\n    count"
    )
    found["models/Invoice"] = {
        "e.json": {"type": "models.NormalType"},
        "model.py": invoice,
    }
    timer = {
        "startField": "at",
        "timezoneField": "zone",
        "calendar": "DE-BY",
        "startOffset": [
            {"name": f"n{n}", "offsetType": 1, "offset": n, "offsetUnit": "workday"}
            for n in (3, 14, 30)
        ],
    }
    plain = found["tasks/T0"]
    e_json = {**plain["e.json"], "modelPath": "models.Invoice", "timerCfg": timer}
    found["tasks/Reminder"] = {**plain, "e.json": e_json}
    return found


def business_costs(folder: Path, database: str, runs: int) -> None:
    """A save with the hook of a task with zones and levels, against a save with the hook of a plain task; in turn."""
    keys = {"database": database} if database else {}
    app = build_app(folder, business_elements(), **keys)
    bill, invoice = (app.getElement(f"models.{n}") for n in ("Bill", "Invoice"))
    soon = clock.now().replace(tzinfo=None) + timedelta(days=30)
    keys_of, number = iter(range(1, 10**9)), iter(range(10**9))
    zones = ("Asia/Tokyo", "Europe/Berlin", "America/New_York")

    def saved(cls: Any, change: Callable[[Any], None] | None) -> float:
        key = next(keys_of)
        own = {"zone": zones[key % len(zones)]} if cls is invoice else {}
        begun = time.perf_counter()
        with Session(app.engine()) as session:
            session.add(cls(id=key, at=soon, **own))
            session.commit()
        if change is None:
            return time.perf_counter() - begun
        with Session(app.engine()) as session:
            row = session.get(cls, key)
            begun = time.perf_counter()
            change(row)
            session.commit()
            return time.perf_counter() - begun

    def move(row: Any) -> None:
        row.at = soon + timedelta(minutes=next(number))

    def other(row: Any) -> None:
        row.count = next(number)

    kind = "PostgreSQL" if database else "SQLite"
    for name, change in (
        ("insert", None),
        ("update of the date", move),
        ("update of another field", other),
    ):
        taken: dict[Any, list[float]] = {bill: [], invoice: []}
        for turn in range(max(4, runs)):
            for cls in (bill, invoice):
                found = saved(cls, change)
                if turn:  # statements are prepared by then
                    taken[cls].append(found)
        plain, ours = (statistics.median(taken[cls]) * 1e3 for cls in (bill, invoice))
        line(
            f"hooks: {name}, a zone of each row and three levels in working days, {kind}",
            ours / plain, "times", "a save with the hook of a plain task",
            milliseconds=ours, plain_milliseconds=plain, saves=len(taken[bill]),
        )  # fmt: skip
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
        business_costs(folder / "business", "", runs)
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
                business_costs(folder / "pg business", SERVER + NAME, runs)
            finally:
                with admin.connect() as connection:
                    connection.execute(
                        text(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
                    )
        if share >= 0.1:  # a server takes longer to start than all of the above
            visible(folder / "visible", max(10, int(100 * share)))


if __name__ == "__main__":
    main()
