"""The clock of recoveries: when each execution's effect became visible, and how long a fault kept rows waiting."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from .journal import Journal

EVERY_SECONDS = 0.25
# Effects become visible out of order: a transaction may have been open for that long.
OPEN_SECONDS = 120
SEEN = text(
    "SELECT seq, row_id, at FROM fault_effect WHERE row_id IS NOT NULL"
    f" AND began > clock_timestamp() - interval '{OPEN_SECONDS} seconds'"
)


class Watch:
    """Looks for effects of rows, in a thread of its own.

    Args:
        url: The app's database.
        journal: What the load has done.
        late: Seconds within which a row is done while nothing fails.

    Attributes:
        seen: By row and date, the moment at which the effect became visible, by this machine's wall clock.
    """

    def __init__(self, url: str, journal: Journal, late: float) -> None:
        self.seen: dict[tuple[int, datetime], datetime] = {}
        self._journal, self._late = journal, timedelta(seconds=late)
        self._engine = create_engine(url, pool_pre_ping=True)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._engine.dispose()

    def open(self, until: datetime) -> list[tuple[int, datetime]]:
        """Rows that were due by an instant, and have no effect yet."""
        by = until.replace(tzinfo=None)
        return [
            key
            for key in self._journal.expected()
            if key[1] <= by and key not in self.seen
        ]

    def is_late(self) -> bool:
        """Whether a row is late just now."""
        return bool(self.open(datetime.now(UTC) - self._late))

    def first_after(self, moment: datetime) -> datetime | None:
        """When the first effect after a moment became visible."""
        return min((at for at in list(self.seen.values()) if at > moment), default=None)

    def last_late(self, begin: datetime) -> datetime | None:
        """When the last late effect after a moment became visible."""
        seen = list(self.seen.items())
        found = (
            at
            for (_, due), at in seen
            if at > begin and at - due.replace(tzinfo=UTC) > self._late
        )
        return max(found, default=None)

    def _go_on(self) -> None:
        while not self._stop.wait(EVERY_SECONDS):
            try:
                with self._engine.connect() as connection:
                    found = connection.execute(SEEN).all()
            except SQLAlchemyError:
                continue
            now = datetime.now(UTC)
            for _, row, at in found:
                self.seen.setdefault((row, at), now)


@dataclass
class Recoveries:
    """Seconds of recovery, by kind of fault: until the next row, and until no row was late any more.

    Attributes:
        file: Keeps them for the next campaign, a line of JSON for each fault; nothing keeps them where None.
    """

    file: Path | None = None
    number: Counter[str] = field(default_factory=Counter)
    next_row: defaultdict[str, list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )
    backlog: defaultdict[str, list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def __post_init__(self) -> None:
        if self.file and self.file.exists():
            for one in self.file.read_text().splitlines():
                self._take(**json.loads(one))

    def add(self, kind: str, watch: Watch, begin: datetime, base: datetime) -> None:
        """Note a fault that is over, and whose backlog is done; seconds count from `base`."""
        first, last = watch.first_after(base), watch.last_late(begin)
        next_row = (first - base).total_seconds() if first else None
        seconds = (last - base).total_seconds() if last else 0.0
        noted = {"kind": kind, "next_row": next_row, "backlog": max(0.0, seconds)}
        self._take(**noted)
        if self.file:
            with self.file.open("a") as out:
                out.write(json.dumps(noted) + "\n")

    def _take(self, kind: str, next_row: float | None, backlog: float) -> None:
        self.number[kind] += 1
        if next_row is not None:
            self.next_row[kind].append(next_row)
        self.backlog[kind].append(backlog)


def wait_for_backlog(watch: Watch, since: datetime, seconds: float) -> bool:
    """Wait until all rows due by a moment are done, another one after it, and none is late; whether that is so."""
    deadline = time.monotonic() + seconds
    while watch.open(since) or watch.is_late() or not watch.first_after(since):
        if time.monotonic() > deadline:
            return False
        time.sleep(EVERY_SECONDS)
    return True


def figures(taken: list[float]) -> tuple[Any, ...]:
    """Median, 95 % and maximum, in seconds."""
    if not taken:
        return ("–",) * 3
    ordered = sorted(taken)
    at_95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    return tuple(
        f"{value:.1f}" for value in (ordered[len(ordered) // 2], at_95, ordered[-1])
    )
