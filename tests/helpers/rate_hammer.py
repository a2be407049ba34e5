"""Begins at a rate, as threads of a process reserve them: run in several processes at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from sqlalchemy import create_engine

from jittask_prefect.ledger import lease_time
from jittask_prefect.ledger.rate import reserve
from jittask_prefect.schedule.rate import Rate

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)  # the database's clock counts


def begins(url: str, rate: Rate, threads: int, each: int) -> list[tuple[float, float]]:
    """When functions would begin, as threads of a process reserve: asked at, begun at, by the machine's clock."""
    lease_time.use_clock_of_caller(False)
    engine = create_engine(url, connect_args={"timeout": 30} if "sqlite" in url else {})

    def work(_: int) -> list[tuple[float, float]]:
        found = []
        for _ in range(each):
            asked = time.monotonic()
            wait = reserve(engine, "shop", "tasks.Task", rate, NOW)
            time.sleep(wait)
            found.append((asked, time.monotonic()))
        return found

    with ThreadPoolExecutor(threads) as pool:
        found = [one for some in pool.map(work, range(threads)) for one in some]
    engine.dispose()
    return found
