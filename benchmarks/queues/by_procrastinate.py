"""The job as a task of Procrastinate: `procrastinate --app by_procrastinate.procrastinate worker`."""

from __future__ import annotations

import asyncio
import os

import psycopg
from procrastinate import App, PsycopgConnector
from psycopg_pool import AsyncConnectionPool

JOBS = int(os.environ["PEERS_CONCURRENCY"])
WAIT = float(os.environ["PEERS_WAIT"])
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
    """The wait, then the effect and its commit."""
    if WAIT:
        await asyncio.sleep(WAIT)
    async with (await pool()).connection() as connection:  # commits at its end
        await connection.execute("INSERT INTO effect (job) VALUES (%s)", (number,))
