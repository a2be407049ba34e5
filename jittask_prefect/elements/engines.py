"""A database's URL for a driver that waits, and the engine that an app names in its configuration."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sqlalchemy import URL, Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from jittask_prefect.errors import invalid

_SYNC = {
    "asyncpg": "psycopg",
    "psycopg_async": "psycopg",
    "aiosqlite": "pysqlite",
    "asyncmy": "pymysql",
    "aiomysql": "pymysql",
}
"""By an async driver, the driver of the same database that waits."""
PACKAGES = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "pymysql": "pymysql",
    "mysqldb": "mysqlclient",
}
"""By a driver, the package to install."""
_OWN_PARAMETERS = {"prepared_statement_cache_size", "prepared_statement_name_func"}
"""Of SQLAlchemy for asyncpg; no other driver knows them."""
ENGINE = 'an Engine, an AsyncEngine, or a function without arguments that gives one, like "shop.database:engine"'


def sync_url(url: URL) -> URL:
    """A URL of the same database, for a driver that waits.

    Raises:
        NoSuchModuleError: SQLAlchemy knows no such driver.
    """
    driver = _SYNC.get(url.get_driver_name())
    if driver is None:
        return url

    query = {k: v for k, v in url.query.items() if k not in _OWN_PARAMETERS}
    if driver == "psycopg" and "ssl" in query:
        query["sslmode"] = query.pop("ssl")
    backend = url.get_backend_name()
    name = backend if backend == "sqlite" else f"{backend}+{driver}"
    return url.set(drivername=name, query=query)


def object_at(path: str, allowed: str) -> Any:
    """An object that the configuration names as `package.module:name`.

    Args:
        path: The name.
        allowed: The allowed values, for messages.

    Raises:
        ConfigError: The module cannot be imported, or has no such name.
    """
    module, _, name = path.partition(":")
    try:
        found = import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # SystemExit too: a module of the team's may end the process when it is imported.
        said = f"{path}, whose module fails: {type(error).__name__}: {error}"
        raise invalid("", said, "a module that imports") from error

    for part in name.split("."):
        if not hasattr(found, part):
            raise invalid("", f"{path}: {module} has no {name}", allowed)
        found = getattr(found, part)

    return found


def engine_at(path: str) -> Engine | AsyncEngine:
    """The engine that the configuration names.

    Raises:
        ConfigError: The name leads to nothing, or to something that is no engine; or the function fails.
    """
    found = object_at(path, ENGINE)
    if callable(found) and not isinstance(found, Engine | AsyncEngine):
        try:
            found = found()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            said = f"{path}, which fails: {type(error).__name__}: {error}"
            raise invalid("", said, ENGINE) from error

    if not isinstance(found, Engine | AsyncEngine):
        raise invalid("", f"{path}, which is {type(found).__name__}", ENGINE)

    return found
