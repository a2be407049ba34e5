"""A small app for the tests of rows and of executions: its time stands still, and nothing runs in the background."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, inspect, make_url, select, text
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from jittask_prefect.ledger.entry import Entry, to_entry
from jittask_prefect.ledger.tables import entries
from jittask_prefect.rows import hooks, sync
from jittask_prefect.rows.plan import Report
from jittask_prefect.running.outcome import Outcome, Run
from jittask_prefect.running.run import execute
from jittask_prefect.schedule import clock
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


def rows_task(
    field: str = "at", *, inner: str = COUNT, model: str = "models.Bill", **keys: Any
) -> dict[str, Any]:
    """The files of a date-field task; keys of e.json, or of its `timerCfg`."""
    timer = {"startField": field}
    for key in ("startOffset", "repeat", "endTimeType", "endTime", "endField", "endOffset", "timezone", "calendar",
                "skipHoliday", "holidayPolicy", "workdaysOnly", "window"):  # fmt: skip
        if key in keys:
            timer[key] = keys.pop(key)
    task = {
        "type": "tasks.DateFieldType",
        "title": "Task",
        "modelPath": model,
        "timerCfg": timer,
        **keys,
    }
    return {"e.json": task, "inner.py": inner}


def model_of(source: str = MODEL, **keys: Any) -> dict[str, Any]:
    return {"e.json": {"type": "models.NormalType", **keys}, "model.py": source}


def written(value: Any, dialect: str) -> Any:
    """A value as raw SQL of a database has it: one without instants holds UTC, SQLite holds texts."""
    if dialect == "postgresql":
        return value
    if isinstance(value, datetime) and value.tzinfo is not None:
        value = value.astimezone(UTC).replace(tzinfo=None)
    if isinstance(value, uuid.UUID):
        return value.hex
    return str(value) if dialect == "sqlite" and isinstance(value, date) else value


class Shop:
    """An app, its Prefect in memory, and the hands that work on both; `now` is what every clock shows."""

    def __init__(
        self, folder: Path, patch: pytest.MonkeyPatch, elements: dict[str, Any], *, now: str = "2026-03-02 08:00",
        **app_json: Any,
    ) -> None:  # fmt: skip
        self.folder, self._elements, self._json = folder, elements, app_json
        self.now = utc(now)  # a Monday
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
        self.app = build_app(
            self.folder,
            {k: v for k, v in self._elements.items() if v is not None},
            **self._json,
        )
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

    def insert(self, table: str = "bill", database: str = "", **values: Any) -> None:
        """A row that no hook sees, each value as this database writes it."""
        engine = self.app.engine(database)
        quote = engine.dialect.identifier_preparer.quote
        names = ", ".join(map(quote, values))
        statement = f"INSERT INTO {quote(table)} ({names}) VALUES ({', '.join(':' + n for n in values)})"
        self.raw(
            statement,
            database,
            **{n: written(v, engine.dialect.name) for n, v in values.items()},
        )

    def row(self, key: Any, model: str = "models.Bill") -> Any:
        with self.session(self.app.database_of(model)) as session:
            return session.get(self.element(model), key)

    def row_count(self, key: int) -> int:
        """How often the row's tasks were done; read without its dates, which may be unreadable."""
        with self.app.engine().connect() as connection:
            return int(
                connection.execute(
                    text("SELECT count FROM bill WHERE id = :id"), {"id": key}
                ).scalar_one()
            )

    def sync(self, instant: str | None = None, since: str | None = None) -> Report:
        if instant is not None:
            self.at(instant)
        now = self.now
        report = sync.run(
            self.app,
            self.api,
            now,
            "me",
            since=utc(since) if since else None,
            clock=lambda: now,
        )
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
        query = select(entries).order_by(
            entries.c.due, entries.c.row_key, entries.c.generation
        )
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

    def run(
        self,
        entry: Entry,
        sleep: Callable[[float], None] = lambda s: None,
        run_id: str = "run",
    ) -> Outcome:
        """One execution of a task, outside Prefect."""
        now = self.now
        return execute(
            self.app,
            entry.template,
            entry.task_id,
            Run(run_id, entry.due),
            lambda: now,
            sleep=sleep,
        )

    def config(self, **keys: Any) -> None:
        """Change the e.json of tasks.Task, and load the app anew."""
        files = self._elements["tasks/Task"]
        self.again(**{"tasks/Task": {**files, "e.json": {**files["e.json"], **keys}}})


@pytest.fixture
def shop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: object
) -> Iterator[Callable[..., Shop]]:
    """Make an app: `shop(field, **keys of tasks.Task)`, or `shop(elements={…})`; closed before `url` empties."""
    made: list[Shop] = []

    def make(
        field: str = "at", *, elements: dict[str, Any] | None = None, more: dict[str, Any] | None = None,
        app_json: dict[str, Any] | None = None, **keys: Any,
    ) -> Shop:  # fmt: skip
        parts = elements or {
            "models/Bill": model_of(),
            "tasks/Task": rows_task(field, **keys),
        }
        made.append(
            Shop(
                tmp_path / "app",
                monkeypatch,
                {**parts, **(more or {})},
                **(app_json or {}),
            )
        )
        return made[-1]

    yield make
    for each in made:
        each.app.close()


# Three servers

SERVERS = ("sqlite", "postgresql", "mariadb")
LEDGER = {"jittask_ledger", "jittask_state"}
POSTGRES = os.environ.get(
    "JITTASK_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/test"
)
MARIADB = os.environ.get(
    "JITTASK_TEST_MARIADB", "mysql+pymysql://root@127.0.0.1:3306/test"
)


class Server:
    """A database server, with databases of this process that are thrown away: the app's default one, and more by name.

    Attributes:
        kind: `sqlite`, `postgresql` or `mariadb`.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._engines: dict[str, Engine] = {}
        self._admin: Engine | None = None

    def start(self) -> None:
        if self.kind != "sqlite":
            self._admin = create_engine(
                POSTGRES if self.kind == "postgresql" else MARIADB,
                isolation_level="AUTOCOMMIT",
            )
            self.url()

    def url(self, part: str = "") -> str:
        """The URL of a database; SQLite's is a file in the app's folder."""
        if self._admin is None:
            return f"sqlite:///{part or 'test'}.db"
        if part not in self._engines:
            name = f"jittask_lines_{os.getpid()}{part}"
            with self._admin.connect() as connection:
                # A killed process of the same number may have left one.
                connection.execute(text(f"DROP DATABASE IF EXISTS {name}"))
                connection.execute(text(f"CREATE DATABASE {name}"))
                if (
                    self.kind == "postgresql"
                ):  # what is thrown away need not outlive a power cut
                    connection.execute(
                        text(f"ALTER DATABASE {name} SET synchronous_commit = off")
                    )
            self._engines[part] = create_engine(self._admin.url.set(database=name))
        return self._engines[part].url.render_as_string(hide_password=False)

    def app_json(self, *more: str) -> dict[str, Any]:
        """The keys of app.json that lead here: to the default database, and to more by their names."""
        return {
            "database": self.url(),
            **({"databases": {name: self.url(name) for name in more}} if more else {}),
        }

    def empty(self) -> None:
        """Take all tables away; MariaDB, which takes a second to make the ledger's, keeps them, without rows."""
        for engine in self._engines.values():
            with engine.begin() as connection:
                if self.kind == "postgresql":
                    connection.execute(text("DROP SCHEMA public CASCADE"))
                    connection.execute(text("CREATE SCHEMA public"))
                    continue
                names = set(inspect(connection).get_table_names())
                if names >= LEDGER:
                    names -= LEDGER
                    connection.execute(text("DELETE FROM jittask_ledger"))
                    connection.execute(
                        text("DELETE FROM jittask_state WHERE name <> 'schema'")
                    )
                if names:
                    connection.execute(text("SET FOREIGN_KEY_CHECKS = 0"))
                    connection.execute(
                        text("DROP TABLE " + ", ".join(f"`{name}`" for name in names))
                    )
                    connection.execute(text("SET FOREIGN_KEY_CHECKS = 1"))

    def stop(self) -> None:
        for engine in self._engines.values():
            engine.dispose()
            if self._admin is not None:
                with self._admin.connect() as connection:
                    force = " WITH (FORCE)" if self.kind == "postgresql" else ""
                    connection.execute(
                        text(f"DROP DATABASE {engine.url.database}{force}")
                    )
        if self._admin is not None:
            self._admin.dispose()


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str], Server]]:
    """A server of a kind, with its databases, the first time that one is asked for; skips where there is none."""
    running: dict[str, Server] = {}

    def started(kind: str) -> Server:
        if kind not in running:
            made = Server(kind)
            try:
                made.start()
            except (OperationalError, ImportError) as error:
                made.stop()
                pytest.skip(f"no {kind}: {error}")
            running[kind] = made
        return running[kind]

    yield started
    for each in running.values():
        each.stop()


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, servers: Callable[[str], Server]) -> Server:
    """One of the servers, for a module's tests; SQLite not where a module says that other tests do it."""
    if request.param == "sqlite" and not getattr(request.module, "ON_SQLITE", True):
        pytest.skip("other tests hold these lines on SQLite")
    return servers(request.param)


def in_turn(cases: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Values for `("server", …)`, with `indirect=["server"]`: each case on one server, and each server for its share.

    For laws that a server has a part in, but each case no other part: the product of both would show no more.
    """
    return [
        (
            SERVERS[number % len(SERVERS)],
            *(case if isinstance(case, tuple) else (case,)),
        )
        for number, case in enumerate(cases)
    ]


@pytest.fixture
def url(servers: Callable[[str], Server]) -> Iterator[Callable[[str], str]]:
    """The URL of an empty database of a kind; SQLite's is a file in the app's folder."""
    used: list[Server] = []

    def empty(kind: str) -> str:
        used.append(servers(kind))
        return used[-1].url()

    yield empty
    for each in used:
        each.empty()


@pytest.fixture
def on(server: Server, shop: Callable[..., Shop]) -> Iterator[Callable[..., Shop]]:
    """As `shop`, on a server, with fresh tables; `databases` names more than the default one."""
    made: list[Shop] = []

    def make(*args: Any, databases: Sequence[str] = (), **keys: Any) -> Shop:
        made.append(
            shop(
                *args,
                **{
                    **keys,
                    "app_json": {
                        **server.app_json(*databases),
                        **keys.get("app_json", {}),
                    },
                },
            )
        )
        return made[-1]

    yield make
    for each in made:
        each.app.close()
    if made:
        server.empty()


@pytest.fixture
def few() -> Iterator[Callable[[int], str]]:
    """The address of a database for a role that has so many connections at most, from the call on."""
    address, role = make_url(POSTGRES), f"few_{os.getpid()}"
    admin = create_engine(address, isolation_level="AUTOCOMMIT")

    def sql(*statements: str) -> None:
        with admin.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def limited(most: int) -> str:
        sql(f"ALTER ROLE {role} CONNECTION LIMIT {most}")
        own = address.set(username=role, database=role)
        return own.render_as_string(hide_password=False)

    sql(f"CREATE ROLE {role} LOGIN", f"CREATE DATABASE {role} OWNER {role}")
    yield limited
    sql(f"DROP DATABASE {role} WITH (FORCE)", f"DROP ROLE {role}")
    admin.dispose()
