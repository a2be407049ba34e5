"""`jittask doctor`: the state of versions, app, databases and server, each with what to do."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from packaging.requirements import Requirement
from sqlalchemy import URL, Connection
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from jittask_prefect.cli.doctor_database import (
    LOCAL_HOSTS,
    connections,
    database_clock,
    limits,
)
from jittask_prefect.cli.doctor_servers import servers
from jittask_prefect.cli.finding import Finding
from jittask_prefect.deploying.comparison import differences
from jittask_prefect.deploying.deployments import deployments_now
from jittask_prefect.deploying.prefect_folder import root_of
from jittask_prefect.deploying.renewal_memory import last_renewal
from jittask_prefect.elements.app import App
from jittask_prefect.errors import JittaskError, OtherDatabase
from jittask_prefect.ledger import error_codes, guard, hindrance, versions
from jittask_prefect.ledger.error_codes import error_line
from jittask_prefect.ledger.pause import in_transaction
from jittask_prefect.prefect_api.answers import ServerDeployment
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.prefect_api.work_queues import app_queues
from jittask_prefect.rows import indexes
from jittask_prefect.rows.own_columns import unknown_values
from jittask_prefect.rows.plan import Report
from jittask_prefect.rows.planning import templates_of
from jittask_prefect.rows.row_labels import label_problem
from jittask_prefect.server.selection import connect

PACKAGE = "jittask-prefect"
BOUNDED = ("prefect", "sqlalchemy", "sqlmodel", "holidays")
"""Packages of which other versions are known to break something; pyproject.toml has the reasons."""
SYNC_LATE = timedelta(minutes=3)
_LIBPQ = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60000,
}
_MYSQL = {"read_timeout": 3600, "write_timeout": 60}
TIMEOUTS = {
    "psycopg": _LIBPQ,
    "psycopg2": _LIBPQ,
    "pymysql": _MYSQL,
    "mysqldb": _MYSQL,
}
"""By driver, the keys of a database URL that end a silent connection."""


def findings(app: App, now: datetime) -> Iterator[Finding]:
    """The state of an app on this machine.

    Args:
        app: The app.
        now: The present instant.
    """
    yield from _versions()
    if problems := app.check(now):
        yield Finding("app", "wrong", f"{len(problems)} mistakes: `jittask check`")
    else:
        yield Finding("app", "ok", f"{app.path}: {len(app.templates())} tasks")
    for text in app.warnings(now):
        yield Finding("app", "warning", text)
    yield from _secrets(app)
    for database in app.databases():
        yield from _database(app, database, now)
    yield from _server(app, now)


def _versions() -> Iterator[Finding]:
    requirements = map(Requirement, importlib.metadata.requires(PACKAGE) or [])
    required = {requirement.name.lower(): requirement for requirement in requirements}
    versions = {name: importlib.metadata.version(name) for name in BOUNDED}
    for name, version in versions.items():
        wanted = required[name].specifier
        if not wanted.contains(version, prereleases=True):
            command = f"`pip install '{name}{wanted}'`"
            text = f"{name} {version}; allowed: {wanted}: {command}"
            yield Finding("versions", "wrong", text)
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield Finding("versions", "ok", f"Python {sys.version.split()[0]}, {told}")


def _secrets(app: App) -> Iterator[Finding]:
    """Warn of a password in the app's file that other users of the machine may read."""
    file, name = app.path / app.place.file, app.place.file
    try:
        mode = file.stat().st_mode & 0o777
    except OSError as error:
        yield Finding("app", "wrong", f"{name}: {error.strerror}")
        return
    urls = {f"databases.{name}": url for name, url in app.cfg.databases.items()}
    urls["database"] = app.cfg.database
    holding = ", ".join(key for key, url in urls.items() if _has_password(url))
    if holding and mode & 0o077 and os.name == "posix":
        read = (
            f"{name} ({mode:o}) may be read by others, and {holding} holds a password"
        )
        yield Finding("app", "warning", f"{read}: `chmod 600 {file}`")


def _has_password(text: str) -> bool:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        return "@" in text  # `check` reports the URL
    return url.password is not None or any("pass" in key.lower() for key in url.query)


def _database(app: App, database: str, now: datetime) -> Iterator[Finding]:
    name = f"database {database}" if database else "the app's database"
    engine = app.engine(database)
    try:
        with engine.connect() as connection:
            versions.require(connection, name)
            last = None if database else last_renewal(connection, app.name)
            paused = None if database else in_transaction(connection, app.name)
            found = [
                *_rights(app, database, connection, name),
                *_indexes(app, database, connection, now),
                *limits(app, database, connection, name),
                *database_clock(connection, name),
            ]
    except JittaskError as error:
        yield Finding("database", "wrong", str(error))
        return
    except Exception as error:  # noqa: BLE001  a driver's own errors are of any kind
        if error_codes.code(error) == error_codes.NO_RIGHT:
            with engine.connect() as connection:
                text = hindrance.explained(connection, error)
        else:
            key = f"databases.{database}" if database else "database"
            ask = (
                f"is {key} in {app.place.file} right, and can the database be reached?"
            )
            text = f"{error_line(error)}; {ask}"
        yield Finding("database", "wrong", f"{name}: {text}")
        return
    yield Finding("database", "ok", f"{name}: the ledger's tables are current")
    yield from _timeouts(name, engine.url)
    yield from found
    yield from _labels(app, database)
    yield from _own_values(app, database, now)
    if paused is not None:
        text = f"the app is paused since {paused:%Y-%m-%d %H:%M:%S} UTC: `jittask resume` ends the pause"
        yield Finding("app", "warning", text)
    if not database and (last is None or now - last > SYNC_LATE):
        run = f"the last sync ran {last:%Y-%m-%d %H:%M:%S} UTC" if last else ""
        advice = "is a worker running? `jittask up`, or `jittask worker`"
        text = f"{run or 'no sync has run yet'}: {advice}"
        yield Finding("server", "warning", text)


def _timeouts(name: str, url: URL) -> Iterator[Finding]:
    """Warn where nothing ends a connection that stays open and silent."""
    wanted = TIMEOUTS.get(url.get_driver_name())
    if wanted is None or url.host in LOCAL_HOSTS or set(url.query) & set(wanted):
        return
    keys = "&".join(f"{key}={value}" for key, value in wanted.items())
    added = f"{'&' if url.query else '?'}{keys}"
    silent = f"nothing ends a connection that {url.host} keeps open and does not answer"
    yield Finding("database", "warning", f"{name}: {silent}; add to its URL: {added}")


def _rights(
    app: App, database: str, connection: Connection, name: str
) -> Iterator[Finding]:
    """Report rights that the role of app.json lacks on the ledger's tables, and on the rows for a sync."""
    if lacks := hindrance.lacking_rights(connection, hindrance.SAVE):
        yield Finding("database", "wrong", f"{name}: {lacks}")
        return
    dialect = connection.dialect
    templates = templates_of(app, database, Report())
    tables = {sa_inspect(template.model).local_table for template in templates}
    present = {
        dialect.identifier_preparer.format_table(table): ("SELECT",)
        for table in tables
        if dialect.has_table(connection, table.name, schema=table.schema)
    }
    work = {**hindrance.WORK, **dict(sorted(present.items()))}
    if lacks := hindrance.lacking_rights(connection, work):
        enough = "enough for a program that saves rows; for a worker, or a sync"
        yield Finding("database", "warning", f"{name}: {enough}, {lacks}")


def _indexes(
    app: App, database: str, connection: Connection, now: datetime
) -> Iterator[Finding]:
    """Warn of tables that each sync reads whole, for lack of an index on the date."""
    for template in templates_of(app, database, Report()):
        task = template.fullName
        try:
            statement = indexes.missing(connection, template, now)
        except Exception as error:  # noqa: BLE001  a missing table or column is of any kind
            text = f"{task}: its rows cannot be asked for: {error_line(error)}"
            yield Finding("database", "wrong", text)
            connection.rollback()
            continue
        if statement is not None:
            whole = "each sync reads the whole table; an index makes it quick"
            yield Finding("database", "warning", f"{task}: {whole}: {statement};")


def _labels(app: App, database: str) -> Iterator[Finding]:
    """Warn of labels of rows that fail."""
    templates = templates_of(app, database, Report())
    for text in dict.fromkeys(map(label_problem, templates)):
        if text is not None:
            yield Finding("app", "warning", text)


def _own_values(app: App, database: str, now: datetime) -> Iterator[Finding]:
    """Warn of rows whose own zone or calendar is unknown."""
    for template in templates_of(app, database, Report()):
        try:
            with app.engine(database).connect() as connection:
                told = list(unknown_values(connection, template, now))
        except SQLAlchemyError:
            continue  # no table, no rights: another finding says so
        yield from (Finding("app", "warning", text) for text in told)


def _guard(app: App, api: Api) -> Finding:
    """Which database the server knows for the app.

    Raises:
        OtherDatabase: Another app's, or another copy of this app's.
    """
    try:
        known = guard.remembers(app, api)
        elsewhere = guard.require(app, api, again=True)
    except OtherDatabase:
        raise
    except Exception as error:  # noqa: BLE001  a driver's own errors are of any kind
        text = f"the app's database cannot be compared with the server's memory: {error_line(error)}"
        return Finding("server", "wrong", text)

    if not known:
        text = (
            f"it knows no database of {app.name} yet: `jittask deploy` makes it known"
        )
        return Finding("server", "warning", text)
    if elsewhere:
        return Finding("server", "wrong", elsewhere)
    return Finding("server", "ok", f"it knows {app.name} by this database")


def _queues(api: Api, there: Iterable[ServerDeployment]) -> Iterator[Finding]:
    """The work queues with deployments of the app."""
    found = app_queues(api, there)
    for each in found:
        if not each.served:
            yield Finding("server", "warning", each.problem)

    if served := [f"{each.queue} of {each.pool}" for each in found if each.served]:
        yield Finding("server", "ok", f"workers take {', '.join(served)}")


def _workers(api: Api, there: Iterable[ServerDeployment]) -> int:
    """How many workers live in the pools of the app's deployments."""
    pools = {each.work_pool_name for each in there if each.work_pool_name}
    return sum(api.workers(pool) for pool in pools)


def _last_sync(app: App) -> datetime | None:
    try:
        with app.engine().connect() as connection:
            return last_renewal(connection, app.name)
    except SQLAlchemyError:
        return None  # another finding says so


def _of_servers(app: App, api: Api, now: datetime) -> Iterator[Finding]:
    try:
        yield from servers(app.name, api, _last_sync(app), now)
    except JittaskError as error:
        yield Finding("server", "wrong", str(error))


def _server(app: App, now: datetime) -> Iterator[Finding]:
    try:
        api = connect(app.path)
        api.ping()
        there = api.deployments(app_tag(app.name))
    except JittaskError as error:
        yield Finding("server", "wrong", str(error))
        return
    yield Finding("server", "ok", f"{api.url}: {len(there)} deployments of {app.name}")
    try:
        yield _guard(app, api)
    except OtherDatabase as error:  # no step towards these deployments would help
        yield Finding("server", "wrong", str(error))
        yield from _of_servers(app, api, now)
        return
    yield from _queues(api, there.values())
    yield from connections(app, _workers(api, there.values()))
    yield from _of_servers(app, api, now)
    root = root_of(app)
    try:
        all_wanted = deployments_now(app, now)
    except SQLAlchemyError:
        return  # the app's database is wrong, as a line of its own says
    for wanted in all_wanted:
        name = wanted.name
        if name not in there:
            text = f"{name} is not deployed: `jittask deploy`"
            yield Finding("server", "wrong", text)
        elif fields := differences(wanted, there[name], root):
            remedy = "the next sync, or `jittask deploy`, puts it right"
            text = f"{name} differs in {', '.join(fields)}: {remedy}"
            yield Finding("server", "warning", text)
