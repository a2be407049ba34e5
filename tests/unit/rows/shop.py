"""A small app for the tests of rows and of executions: its time stands still, and nothing runs in the background."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from jittask_prefect import clock
from jittask_prefect.rows import hooks, sync
from jittask_prefect.rows.ledger import Entry, entries, to_entry
from jittask_prefect.rows.plan import Report
from jittask_prefect.running.execute import Outcome, Run, execute
from jittask_prefect.testing import FakePrefect, build_app, deploy

MODEL = """
from datetime import date, datetime
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class Bill(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    status: str = "open"
    day: date | None = None
    at: NaiveDatetime | None = None
    moment: datetime | None = None
    until: date | None = None
    count: int = 0
"""
GONE = """
from datetime import date
from sqlmodel import Field, SQLModel

class Gone(SQLModel, table=True):
    id: int = Field(primary_key=True)
    day: date
"""
COUNT = "def customFunc(row):\n    row.count += 1\n    return row.count\n"


def utc(text: str) -> datetime:
    """`2026-03-02 09:00` in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def rows_task(field: str = "at", *, inner: str = COUNT, model: str = "models.Bill", **keys: Any) -> dict[str, Any]:
    """The files of a date-field task; keys of e.json, or of its `timerCfg`."""
    timer = {"startField": field}
    for key in ("startOffset", "repeat", "endTimeType", "endTime", "endField", "endOffset", "timezone", "calendar",
                "skipHoliday", "holidayPolicy", "workdaysOnly"):  # fmt: skip
        if key in keys:
            timer[key] = keys.pop(key)
    task = {"type": "tasks.DateFieldType", "title": "Task", "modelPath": model, "timerCfg": timer, **keys}
    return {"e.json": task, "inner.py": inner}


def model_of(source: str = MODEL, **keys: Any) -> dict[str, Any]:
    return {"e.json": {"type": "models.NormalType", **keys}, "model.py": source}


class Shop:
    """An app, its Prefect in memory, and the hands that work on both; `now` is what every clock shows."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, elements: dict[str, Any], **app_json: Any) -> None:
        self.folder, self._elements, self._json = folder, elements, app_json
        self.now = utc("2026-03-02 08:00")  # a Monday
        patch.setattr(clock, "now", lambda: self.now)
        patch.setattr(hooks, "_nudges", [])
        self.api = FakePrefect()
        self.app = build_app(folder, elements, **app_json)
        deploy(self.app, self.api, self.now)

    def again(self, **elements: Any) -> None:
        """The app after its files changed, as the next process sees it; None removes an element."""
        self.app.close()
        for place, files in elements.items():
            if files is None:
                for file in (self.folder / place).iterdir():
                    if file.is_file():
                        file.unlink()
            self._elements[place] = files
        self.app = build_app(self.folder, {k: v for k, v in self._elements.items() if v is not None}, **self._json)
        deploy(self.app, self.api, self.now)

    def element(self, name: str) -> Any:
        return self.app.getElement(name)

    def at(self, instant: str) -> Shop:
        self.now = utc(instant)
        return self

    @contextmanager
    def session(self, database: str = "") -> Iterator[Session]:
        with Session(self.app.engine(database)) as session:
            yield session

    def save(self, model: str = "models.Bill", **fields: Any) -> Any:
        """Insert a row, or change the one of that `id`, through the ORM; its key."""
        cls = self.element(model)
        with self.session(self.app.database_of(model)) as session:
            row = session.get(cls, fields["id"]) if "id" in fields else None
            if row is None:
                row = cls(**fields)
                session.add(row)
            for name, value in fields.items():
                setattr(row, name, value)
            session.commit()
            return row.id

    def drop(self, key: Any, model: str = "models.Bill") -> None:
        with self.session(self.app.database_of(model)) as session:
            session.delete(session.get(self.element(model), key))
            session.commit()

    def raw(self, statement: str, database: str = "", **values: Any) -> None:
        """SQL that no hook sees."""
        with self.app.engine(database).begin() as connection:
            connection.execute(text(statement), values)

    def row(self, key: Any, model: str = "models.Bill") -> Any:
        with self.session(self.app.database_of(model)) as session:
            return session.get(self.element(model), key)

    def sync(self, instant: str | None = None, since: str | None = None) -> Report:
        if instant is not None:
            self.at(instant)
        now = self.now
        report = sync.run(self.app, self.api, now, "me", since=utc(since) if since else None, clock=lambda: now)
        assert report is not None
        return report

    def did(self, instant: str | None = None, **keys: Any) -> list[str]:
        """What a sync changed, as `action row due`."""
        return [
            f"{a.action} {a.row} {a.due.astimezone(UTC):%m-%d %H:%M}"
            for a in self.sync(instant, **keys).actions
            if a.action != "skip"
        ]

    def work(self, instant: str | None = None) -> list[Outcome]:
        """Let a worker take up what is due."""
        if instant is not None:
            self.at(instant)
        return self.api.run_due(self.app, self.now)

    def entries(self, database: str = "", **where: Any) -> list[Entry]:
        query = select(entries).order_by(entries.c.due, entries.c.row_key, entries.c.generation)
        for key, value in where.items():
            query = query.where(entries.c[key] == value)
        with self.app.engine(database).connect() as connection:
            return [to_entry(r) for r in connection.execute(query)]

    def tasks(self, database: str = "", **where: Any) -> list[str]:
        """The ledger, as `row due #generation outcome`."""
        return [
            f"{e.row_key} {e.due:%m-%d %H:%M} #{e.generation} {e.outcome or e.status}"
            for e in self.entries(database, **where)
        ]

    def run(self, entry: Entry, sleep: Callable[[float], None] = lambda s: None, run_id: str = "run") -> Outcome:
        """One execution of a task, outside Prefect."""
        now = self.now
        return execute(self.app, entry.template, entry.task_id, Run(run_id, entry.due), lambda: now, sleep=sleep)

    def config(self, **keys: Any) -> None:
        """Change the e.json of tasks.Task, and load the app anew."""
        files = self._elements["tasks/Task"]
        self.again(**{"tasks/Task": {**files, "e.json": {**files["e.json"], **keys}}})


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Shop]]:
    """Make an app: `shop(field, **keys of tasks.Task)`, or `shop(elements={…})`."""
    made: list[Shop] = []

    def make(
        field: str = "at", *, elements: dict[str, Any] | None = None, more: dict[str, Any] | None = None,
        app_json: dict[str, Any] | None = None, **keys: Any,
    ) -> Shop:  # fmt: skip
        parts = elements or {"models/Bill": model_of(), "tasks/Task": rows_task(field, **keys)}
        made.append(Shop(tmp_path / "app", monkeypatch, {**parts, **(more or {})}, **(app_json or {})))
        return made[-1]

    yield make
    for each in made:
        each.app.close()


@pytest.fixture
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL database that is thrown away."""
    name = f"jittask_rows_unit_{os.getpid()}"
    server = create_engine("postgresql+psycopg://postgres@127.0.0.1:5432/test", isolation_level="AUTOCOMMIT")
    try:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            connection.execute(text(f"CREATE DATABASE {name}"))
    except SQLAlchemyError as error:
        pytest.skip(f"no PostgreSQL: {error}")
    yield f"postgresql+psycopg://postgres@127.0.0.1:5432/{name}"
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
