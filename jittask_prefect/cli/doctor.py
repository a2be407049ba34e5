"""`jittask doctor`: whether versions, app, database and server are as they must be, each with what to do."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from packaging.requirements import Requirement
from sqlalchemy import URL, Connection
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from jittask_prefect.deploying import compile
from jittask_prefect.deploying.renew import last_rolled
from jittask_prefect.deploying.rollout import differences
from jittask_prefect.elements.app import App
from jittask_prefect.errors import JittaskError
from jittask_prefect.ledger import error_codes, hindrance, rights, versions
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.rows import indexes
from jittask_prefect.rows.plan import Report
from jittask_prefect.rows.planning import templates_of
from jittask_prefect.server.selection import connect

PACKAGE = "jittask-prefect"
BOUNDED = ("prefect", "sqlalchemy", "sqlmodel", "holidays")
"""Packages whose other versions are known to break something; pyproject.toml says what."""
LATE = timedelta(minutes=3)
NEAR = (None, "", "localhost", "127.0.0.1", "::1")
_LIBPQ = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60000,
}
KEEP_ALIVE = {
    "psycopg": _LIBPQ,
    "psycopg2": _LIBPQ,
    "pymysql": {"read_timeout": 3600, "write_timeout": 60},
    "mysqldb": {"read_timeout": 3600, "write_timeout": 60},
}
"""By driver: the keys of a database URL that end a connection which answers nothing."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        about: What: `versions`, `app`, `database` or `server`.
        state: `ok`, `warning` or `wrong`.
        text: What was found, and what to do where it is not as it must be.
    """

    about: str
    state: str
    text: str


def findings(app: App, now: datetime) -> Iterator[Finding]:
    """All that is to be said of an app on this machine.

    Args:
        app: The app.
        now: The present instant.
    """
    yield from _versions()
    if problems := app.check():
        yield Finding("app", "wrong", f"{len(problems)} mistakes: `jittask check`")
    else:
        yield Finding("app", "ok", f"{app.path}: {len(app.templates())} tasks")
    for text in app.warnings(now):
        yield Finding("app", "warning", text)
    yield from _secrets(app)
    yield from _databases(app, now)
    yield from _server(app, now)


def _versions() -> Iterator[Finding]:
    required = {
        r.name.lower(): r
        for r in map(Requirement, importlib.metadata.requires(PACKAGE) or [])
    }
    for name in BOUNDED:
        there, wanted = importlib.metadata.version(name), required[name].specifier
        if not wanted.contains(there, prereleases=True):
            yield Finding(
                "versions",
                "wrong",
                f"{name} {there}; allowed: {wanted}: `pip install '{name}{wanted}'`",
            )
    told = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in BOUNDED)
    yield Finding("versions", "ok", f"Python {sys.version.split()[0]}, {told}")


def _secrets(app: App) -> Iterator[Finding]:
    """A password in app.json is for the user alone that runs the app."""
    try:
        mode = (app.path / "app.json").stat().st_mode & 0o777
    except OSError as error:
        yield Finding("app", "wrong", f"app.json: {error.strerror}")
        return
    named = {
        "database": app.cfg.database,
        **{f"databases.{name}": url for name, url in app.cfg.databases.items()},
    }
    holding = [key for key, url in named.items() if _has_password(url)]
    if holding and mode & 0o077 and os.name == "posix":
        told = f"app.json ({mode:o}) may be read by others, and {', '.join(holding)} holds a password: "
        yield Finding(
            "app",
            "warning",
            f"{told}`chmod 600 {app.path / 'app.json'}`, or name it in JITTASK_DATABASE_URL",
        )


def _has_password(text: str) -> bool:
    try:
        url = make_url(text)
    except (
        ArgumentError,
        ValueError,
    ):  # `check` says so; what is no URL may hold one all the same
        return "@" in text
    return url.password is not None or any("pass" in key.lower() for key in url.query)


def _databases(app: App, now: datetime) -> Iterator[Finding]:
    for database in app.databases():
        where = f"database {database}" if database else "the app's database"
        try:
            with app.engine(database).connect() as connection:
                versions.require(connection, where)
                mark = None if database else last_rolled(connection, app.name)
                missing = [
                    *_rights(app, database, connection, where),
                    *_indexes(app, database, connection, now),
                ]
        except JittaskError as error:
            yield Finding("database", "wrong", str(error))
            continue
        except Exception as error:  # noqa: BLE001  a driver's own errors are of any kind
            yield Finding(
                "database", "wrong", f"{where}: {_explained(app, database, error)}"
            )
            continue
        yield Finding("database", "ok", f"{where}: the ledger's tables are current")
        yield from _keep_alive(where, app.engine(database).url)
        yield from missing
        if not database and (mark is None or now - mark > LATE):
            since = (
                "no sync has run yet"
                if mark is None
                else f"the last sync ran {mark:%Y-%m-%d %H:%M:%S} UTC"
            )
            yield Finding(
                "server",
                "warning",
                f"{since}: is a worker running? `jittask up`, or `prefect worker start`",
            )


def _keep_alive(where: str, url: URL) -> Iterator[Finding]:
    """A connection that stays open and answers nothing keeps whoever waits for an answer waiting for ever."""
    wanted = KEEP_ALIVE.get(url.get_driver_name())
    if wanted is None or url.host in NEAR or set(url.query) & set(wanted):
        return
    example = "&".join(f"{name}={value}" for name, value in wanted.items())
    told = f"{where}: nothing ends a connection that {url.host} keeps open and does not answer; add to its URL: ?{example}"
    yield Finding("database", "warning", told)


def _explained(app: App, database: str, error: Exception) -> str:
    """An error of a database; where a right is missing, which one."""
    if error_codes.code(error) != error_codes.NO_RIGHT:
        return str(error)
    with app.engine(database).connect() as connection:
        return hindrance.explained(connection, error)


def _rights(
    app: App, database: str, connection: Connection, where: str
) -> Iterator[Finding]:
    """What the role of `app.json` may not do with the ledger's tables, and whether a sync may read the rows."""
    if lacks := rights.sentence(connection, rights.SAVE):
        yield Finding("database", "wrong", f"{where}: {lacks}")
        return
    quoted = connection.dialect.identifier_preparer.format_table
    tables = {
        sa_inspect(template.model).local_table
        for template in templates_of(app, database, Report())
    }
    there = {
        quoted(t): ("SELECT",)
        for t in tables
        if connection.dialect.has_table(connection, t.name, schema=t.schema)
    }
    if lacks := rights.sentence(
        connection, {**rights.WORK, **dict(sorted(there.items()))}
    ):
        told = f"{where}: enough for a program that saves rows; for a worker, or a sync, {lacks}"
        yield Finding("database", "warning", told)


def _indexes(
    app: App, database: str, connection: Connection, now: datetime
) -> Iterator[Finding]:
    """Without an index on its date each sync reads a template's whole table."""
    for template in templates_of(app, database, Report()):
        try:
            statement = indexes.missing(connection, template, now)
        except Exception as error:  # noqa: BLE001  a missing table or column is of any kind
            told = str(error).strip().partition("\n")[0]
            yield Finding(
                "database",
                "wrong",
                f"{template.fullName}: its rows cannot be asked for: {told}",
            )
            connection.rollback()
            continue
        if statement is not None:
            told = f"{template.fullName}: each sync reads the whole table; an index makes it quick: {statement};"
            yield Finding("database", "warning", told)


def _server(app: App, now: datetime) -> Iterator[Finding]:
    try:
        api = connect(app.path)
        api.ping()
        there = api.deployments(app_tag(app.name))
    except JittaskError as error:
        yield Finding("server", "wrong", str(error))
        return
    yield Finding("server", "ok", f"{api.url}: {len(there)} deployments of {app.name}")
    root = compile.root_of(app)
    for entry in compile.deployments(app, now):
        name = entry["name"]
        if name not in there:
            yield Finding(
                "server", "wrong", f"{name} is not deployed: `jittask deploy`"
            )
        elif names := differences(entry, there[name], root):
            told = f"{name} differs in {', '.join(names)}: the next sync, or `jittask deploy`, puts it right"
            yield Finding("server", "warning", told)
