"""A cycle: the nominal times of a series, without zones and holidays."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta


class Cycle:
    """Nominal times as naive datetimes: wall times of the task's zone, or of UTC where elapsed time counts."""

    __slots__ = ()

    @property
    def sub_daily(self) -> bool:
        """Whether a holiday drops occurrences instead of moving them: there are several on a day."""
        return False

    @property
    def last(self) -> datetime | None:
        """A time after which there is no other; None for a series without end."""
        return None

    @property
    def pace(self) -> timedelta:
        """About how far each time lies from the next: the width at which a search begins."""
        raise NotImplementedError

    def wall_times(self, low: datetime, high: datetime) -> Iterator[datetime]:
        """The times n with low <= n < high, none before the start, in order."""
        raise NotImplementedError

    def first(self, low: datetime) -> datetime | None:
        """The first time from `low` on; None otherwise. The search ends, whatever the cycle."""
        return next(self.wall_times(low, datetime.max), None)
