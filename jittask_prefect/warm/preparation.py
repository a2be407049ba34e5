"""The parts of an app that every run needs, made once before the fork; nothing is opened for them."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import configure_mappers

from jittask_prefect.elements.app import App, apps_in_use
from jittask_prefect.errors import JittaskError

# A first run imports these: Prefect's client, its locks of results, the event loop's sockets, and the console.
MODULES = (
    "anyio._backends._asyncio",
    "encodings.idna",
    "filelock",
    "rich._emoji_codes",
    "jittask_prefect.prefect_api.client",
    "jittask_prefect.server.selection",
)


def prepare_apps() -> None:
    """Load the elements of the apps that this process has in use, and make their engines, without connections.

    Broken elements and databases are left out: the first run that needs one says so.
    """
    for name in MODULES:
        with suppress(ImportError):  # a library's inner part may have moved
            import_module(name)
    for app in apps_in_use():
        _prepare(app)
    with suppress(SQLAlchemyError):
        configure_mappers()


def _prepare(app: App) -> None:
    with suppress(JittaskError):
        app.load()
    for database in app.databases():
        with suppress(JittaskError, SQLAlchemyError, ImportError):
            app.lease_engine(database)
