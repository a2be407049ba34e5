"""The databases of an app: URLs, engines, sessions, and the session of a row's execution."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sqlalchemy import Dialect, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import Session

from jittask_prefect.elements.app_name import database_variables
from jittask_prefect.elements.config import AppCfg
from jittask_prefect.elements.engines import PACKAGES, engine_at, sync_url
from jittask_prefect.elements.patience import connected, of_own_engine
from jittask_prefect.elements.project import Place
from jittask_prefect.elements.row_session import ROW_SESSION
from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.errors.printable import has_controls

SYNC_DRIVERS = "sqlite, postgresql+psycopg or mysql+pymysql"
URL_TEXT = (
    "a database URL like sqlite:///shop.db or postgresql+psycopg://user@host/name"
)
DEFAULT = ""
"""The name of the database that app.json calls `database`."""


class Databases:
    """The databases of an app.

    Args:
        place: The app's place; relative SQLite paths begin there.
        cfg: app.json, or the table of pyproject.toml.
    """

    def __init__(self, place: Place, cfg: AppCfg) -> None:
        self.place = place
        self.path = place.path
        self.cfg = cfg
        self._engines: dict[str, Engine] = {}
        self._named: Engine | AsyncEngine | None = None
        self._lease_engines: dict[str, Engine] = {}
        self._engine_lock = threading.RLock()

    def databases(self) -> list[str]:
        """The names of the app's databases, the default database first."""
        return [DEFAULT, *sorted(self.cfg.databases)]

    def database_url(self, database: str = DEFAULT) -> str:
        """The SQLAlchemy URL of a database of the app.

        Args:
            database: Its name in app.json; the default database where empty.

        Raises:
            ConfigError: No database has the name; its text is no URL, of no known kind of database, or for a driver
                that is not installed; or the engine that app.json names cannot be had.
        """
        place = self._database_place(database)

        def refused(found: str, allowed: str = URL_TEXT) -> ConfigError:
            return ConfigError(Problem(*place, found, allowed))

        # No message shows the text: it may hold a password.
        text = self._database_text(database)
        try:
            if has_controls(text):
                raise ValueError

            written = make_url(text)
            url = sync_url(written)
            dialect = url.get_dialect()
            in_memory = url.database in (None, "", ":memory:")
            if url.get_backend_name() == "sqlite" and not in_memory:
                url = url.set(database=str((self.path / str(url.database)).resolve()))

            if in_memory and url != written:
                found = f"{written.drivername} in memory, which no other driver sees"
                raise refused(found, "a database file, like sqlite:///shop.db")

            dialect().create_connect_args(url)
        except (NoSuchModuleError, ImportError):
            raise refused(written.drivername) from None
        except (ArgumentError, ValueError, OSError, RuntimeError):
            # RuntimeError: a path of links in a circle.
            raise refused("a text that is no URL") from None

        if dialect.is_async:
            found = f"{url.drivername}, an async driver"
            raise refused(found, f"a driver that waits: {SYNC_DRIVERS}")

        try:
            dialect.import_dbapi()
        except ImportError as error:
            found = f"{url.drivername}, whose driver is not installed ({error})"
            if url != written:
                found = f"{written.drivername}, an async driver; tasks use {found}"

            package = PACKAGES.get(url.get_driver_name(), url.get_driver_name())
            allowed = (
                f"an installed driver: `pip install '{package}'`, or another driver in "
                f"the URL, like {SYNC_DRIVERS}"
            )
            raise refused(found, allowed) from None

        return url.render_as_string(hide_password=False)

    def _database_text(self, database: str) -> str:
        """The URL of a database as it is written."""
        if database == DEFAULT and (named := self._named_engine()) is not None:
            return named.url.render_as_string(hide_password=False)
        if database == DEFAULT:
            variable = self._database_variable()
            return os.environ[variable] if variable else self.cfg.database
        if database not in self.cfg.databases:
            known = ", ".join(sorted(self.cfg.databases)) or "none"
            allowed = f"a name of its databases: {known}"
            found = f"no {database!r}"
            key = self.place.key("databases")
            raise ConfigError(Problem(self.place.file, key, found, allowed))

        return self.cfg.databases[database]

    def _database_variable(self) -> str | None:
        """The environment variable that names the default database; None where app.json does."""
        variables = database_variables(self.cfg.name)
        return next((name for name in variables if os.environ.get(name)), None)

    def _database_place(self, database: str) -> tuple[str, str]:
        """The file and the key that a database's URL comes from."""
        if database == DEFAULT and (variable := self._database_variable()):
            return variable, ""
        key = f"databases.{database}" if database else "database"
        if database == DEFAULT and self.cfg.engine is not None:
            key = "engine"
        return self.place.file, self.place.key(key)

    def _named_engine(self) -> Engine | AsyncEngine | None:
        """The engine that app.json names; None where app.json, or the environment, has a URL.

        Raises:
            ConfigError: The name leads to no engine.
        """
        path = self.cfg.engine
        if path is None or self._database_variable():
            return None
        if self._named is None:
            # Outside of any lock, since a module of the team's is imported.
            try:
                found = engine_at(path)
            except ConfigError as error:
                raise error.within(*self._database_place(DEFAULT)) from None
            with self._engine_lock:
                self._named = self._named or found

        return self._named

    def engine(self, database: str = DEFAULT) -> Engine:
        """The engine of a database of the app, made once; the team's own, where app.json names an engine that waits."""
        known = self._engines.get(database)
        if known is not None:
            return known

        named = self._named_engine() if database == DEFAULT else None
        url = self.database_url(database)
        with self._engine_lock:
            if database not in self._engines:
                if isinstance(named, Engine) and not named.dialect.is_async:
                    engine = named
                    if not event.contains(engine, "do_connect", of_own_engine):
                        event.listen(engine, "do_connect", of_own_engine)
                else:
                    engine = self._made(url, database)
                if engine.dialect.name == "sqlite" and not event.contains(
                    engine, "connect", _set_up_sqlite
                ):
                    event.listen(engine, "connect", _set_up_sqlite)

                self._engines[database] = engine

            return self._engines[database]

    def _made(self, url: str, database: str) -> Engine:
        lite = url.startswith("sqlite")
        engine = create_engine(
            url,
            connect_args={"timeout": 30} if lite else {},
            pool_pre_ping=not lite,
        )
        event.listen(engine, "do_connect", self._connector(database))
        return engine

    def lease_engine(self, database: str = DEFAULT) -> Engine:
        """An engine for leases, with connections of its own and the listeners of `engine`; the same engine on SQLite."""
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
        """Opens a connection; a driver's error about an unknown parameter becomes a mistake in the URL."""

        def connect(dialect: Dialect, _record: Any, args: Any, parameters: Any) -> Any:
            try:
                return connected(partial(dialect.connect, *args, **parameters))
            except Exception as error:
                if isinstance(error, dialect.loaded_dbapi.Error):
                    raise

                found = (
                    f"a URL that its driver refuses ({type(error).__name__}: {error})"
                )
                allowed = "a database URL whose parameters the driver knows"
                place = self._database_place(database)
                raise ConfigError(Problem(*place, found, allowed)) from error

        return connect

    @contextmanager
    def session(self, database: str = DEFAULT) -> Iterator[Session]:
        """A database session; inside a row task the row's own, whose commits hold with the task's completion."""
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
                    if engine is not self._named:  # the team's own
                        engine.dispose()

                engines.clear()


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    """Readers do not block the writer, and the writer waits instead of failing."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA busy_timeout=30000")
