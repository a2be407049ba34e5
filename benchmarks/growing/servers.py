"""Prefect's servers of a measurement: on SQLite, on PostgreSQL, or several with PostgreSQL and Redis."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from batches import SERVER
from cluster import REDIS, cluster, settings
from create_rate import DATABASE, postgres
from redis import Redis

from jittask_prefect.server.embedded import Embedded

POOL_SIZE = "PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_SIZE"
"""As `docs/production.md` has it."""
SQLITE, POSTGRESQL, WITH_REDIS = "sqlite", "postgresql", "redis"
KINDS = (SQLITE, POSTGRESQL, WITH_REDIS)


@dataclass(frozen=True)
class Servers:
    """Servers that run.

    Attributes:
        url: The API's address.
        pids: Their processes, by the part's name.
        database: The name of Prefect's database in PostgreSQL; empty on SQLite.
    """

    url: str
    pids: dict[str, int]
    database: str = ""


@contextmanager
def servers(home: Path, kind: str, number: int) -> Iterator[Servers]:
    """Servers of a kind; more than one needs Redis."""
    with ExitStack() as stack:
        if kind == WITH_REDIS:
            password = settings()["PREFECT_SERVER_API_AUTH_STRING"]
            os.environ["PREFECT_API_AUTH_STRING"] = password
            folder = home / "cluster"
            folder.mkdir()
            made = stack.enter_context(cluster(folder, number))
            names = {name.replace("api", "API server "): pid for name, pid in made.pids.items()}  # fmt: skip
            with Redis.from_url(REDIS) as redis:
                names["Redis"] = redis.info("server")["process_id"]
            yield Servers(made.url, names, f"jittask_cluster_{os.getpid()}")
            return
        database = ""
        if kind == POSTGRESQL:
            url = stack.enter_context(postgres(SERVER))
            for name, value in ((DATABASE, url), (POOL_SIZE, "20")):
                os.environ[name] = value
                stack.callback(os.environ.pop, name)
            database = url.rsplit("/", 1)[1]
        embedded = stack.enter_context(Embedded(home / "server"))
        info = embedded.ensure(900)[0]
        yield Servers(info.url, {"API server 1": info.pid}, database)
