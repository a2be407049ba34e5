"""The databases of an app: URLs, engines, sessions, and the session of a row's execution."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Dialect, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlmodel import Session

from jittask_prefect.elements.config import AppCfg
from jittask_prefect.elements.row_session import ROW_SESSION
from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.errors.printable import has_controls

_WAIT = "sqlite, postgresql+psycopg or mysql+pymysql"
ENV_DATABASE = "JITTASK_DATABASE_URL"
DEFAULT = ""  # the name under which app.json's `database` is kept


class Databases:
    """What an app knows about its databases.

    Args:
        path: The app folder; relative SQLite paths are relative to it.
        cfg: app.json.
    """

    def __init__(self, path: Path, cfg: AppCfg) -> None:
        self.path = path
        self.cfg = cfg
        self._engines: dict[str, Engine] = {}
        self._lease_engines: dict[str, Engine] = {}
        self._engine_lock = threading.RLock()

    def databases(self) -> list[str]:
        """The names of the app's databases, the default one first."""
        return [DEFAULT, *sorted(self.cfg.databases)]

    def database_url(self, database: str = DEFAULT) -> str:
        """The SQLAlchemy URL of a database of the app; the default one where no name is given.

        Raises:
            ConfigError: It is no URL, of no known kind of database, for a driver that is not installed or that is
                async, or there is none of that name.
        """
        from_environment = os.environ.get(ENV_DATABASE) if database == DEFAULT else None
        where = self._database_place(database)
        if from_environment:
            text = from_environment
        elif database and database not in self.cfg.databases:
            known = ", ".join(sorted(self.cfg.databases)) or "none"
            raise ConfigError(
                Problem(
                    "app.json",
                    "databases",
                    f"no {database!r}",
                    f"a name of its databases: {known}",
                )
            )
        else:
            text = self.cfg.databases[database] if database else self.cfg.database
        allowed = "a database URL like sqlite:///shop.db or postgresql+psycopg://user@host/name"
        # No message shows the text: it may hold a password.
        try:
            if has_controls(text):
                raise ValueError
            url = make_url(text)
            dialect = url.get_dialect()
            if url.get_backend_name() == "sqlite" and url.database not in (
                None,
                "",
                ":memory:",
            ):
                url = url.set(database=str((self.path / str(url.database)).resolve()))
            dialect().create_connect_args(url)
        except (NoSuchModuleError, ImportError):
            raise ConfigError(Problem(*where, url.drivername, allowed)) from None
        except (
            ArgumentError,
            ValueError,
            OSError,
            RuntimeError,
        ):  # a path may be of links in a circle
            raise ConfigError(
                Problem(*where, "a text that is no URL", allowed)
            ) from None
        if dialect.is_async:
            raise ConfigError(
                Problem(
                    *where,
                    f"{url.drivername}, an async driver",
                    f"a driver that waits: {_WAIT}",
                )
            )
        try:
            dialect.import_dbapi()
        except ImportError as error:
            found = f"{url.drivername}, whose driver is not installed ({error})"
            allowed = f"an installed driver: `pip install` it, or name another one in the URL, like {_WAIT}"
            raise ConfigError(Problem(*where, found, allowed)) from None
        return url.render_as_string(hide_password=False)

    def _database_place(self, database: str) -> tuple[str, str]:
        """The file and the key that a database's URL comes from."""
        if database == DEFAULT and os.environ.get(ENV_DATABASE):
            return ENV_DATABASE, ""
        return "app.json", f"databases.{database}" if database else "database"

    def engine(self, database: str = DEFAULT) -> Engine:
        """The engine of a database of the app, made once."""
        with self._engine_lock:
            if database not in self._engines:
                url = self.database_url(database)
                lite = url.startswith("sqlite")
                engine = create_engine(
                    url,
                    connect_args={"timeout": 30} if lite else {},
                    pool_pre_ping=not lite,
                )
                event.listen(engine, "do_connect", self._connector(database))
                if lite:
                    event.listen(engine, "connect", _wal)
                self._engines[database] = engine
            return self._engines[database]

    def lease_engine(self, database: str = DEFAULT) -> Engine:
        """An engine with connections of its own, made as those of `engine`, its listeners too; SQLite's is the same."""
        with self._engine_lock:
            engine = self.engine(database)
            if engine.dialect.name == "sqlite":
                return engine
            if database not in self._lease_engines:
                self._lease_engines[database] = Engine(
                    engine.pool.recreate(),
                    engine.dialect,
                    engine.url,
                    execution_options=engine.get_execution_options(),
                )
            return self._lease_engines[database]

    def _connector(self, database: str) -> Callable[..., Any]:
        """Opens a connection; what a driver says of a parameter that it does not know is a mistake in the URL."""

        def connect(dialect: Dialect, _record: Any, args: Any, parameters: Any) -> Any:
            try:
                return dialect.connect(*args, **parameters)
            except Exception as error:
                if isinstance(error, dialect.loaded_dbapi.Error):
                    raise
                told = (
                    f"a URL that its driver refuses ({type(error).__name__}: {error})"
                )
                allowed = "a database URL whose parameters the driver knows"
                raise ConfigError(
                    Problem(*self._database_place(database), told, allowed)
                ) from error

        return connect

    @contextmanager
    def session(self, database: str = DEFAULT) -> Iterator[Session]:
        """A database session; inside a row task, the row's own: what it commits holds with the task's completion."""
        current = ROW_SESSION.get()
        if current is not None and current.get_bind().engine is self.engine(database):
            with current.block():
                yield current
            return
        with Session(self.engine(database)) as session:
            yield session

    def dispose(self) -> None:
        """Close the connections."""
        with self._engine_lock:
            for engines in (self._lease_engines, self._engines):
                for engine in engines.values():
                    engine.dispose()
                engines.clear()


def _wal(connection: Any, _record: Any) -> None:
    """SQLite: readers do not block the writer, and the writer waits instead of failing."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA busy_timeout=30000")
