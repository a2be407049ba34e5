"""The job as a task of Procrastinate: `procrastinate --app by_procrastinate.procrastinate worker`."""

from __future__ import annotations

import os

import psycopg
from procrastinate import App, PsycopgConnector
from psycopg_pool import AsyncConnectionPool

JOBS = int(os.environ["PEERS_CONCURRENCY"])
procrastinate = App(
    connector=PsycopgConnector(
        conninfo=os.environ["PEERS_DATABASE"], min_size=JOBS, max_size=JOBS + 2
    )
)
held: list[AsyncConnectionPool[psycopg.AsyncConnection]] = []


async def pool() -> AsyncConnectionPool[psycopg.AsyncConnection]:
    """One pool for each process, as one would have it."""
    if not held:
        held.append(
            AsyncConnectionPool(
                os.environ["PEERS_DATABASE"], min_size=JOBS, max_size=JOBS, open=False
            )
        )
    await held[0].open()  # of one that is open: nothing
    return held[0]


@procrastinate.task(name="job")
async def job(number: int) -> None:
    """The effect, and its commit."""
    async with (await pool()).connection() as connection:  # commits at its end
        await connection.execute("INSERT INTO effect (job) VALUES (%s)", (number,))
