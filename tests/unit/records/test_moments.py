"""Instants as people say them: a day begins at midnight of the zone."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from jittask_prefect.records.moments import moment

SHANGHAI = ZoneInfo("Asia/Shanghai")
NOW = datetime(2026, 3, 2, 9, tzinfo=SHANGHAI)


@pytest.mark.parametrize(
    "due, shown",
    [
        (datetime(2026, 3, 1, 23, 59, tzinfo=SHANGHAI), "yesterday 23:59"),
        (datetime(2026, 3, 2, 15, 59, tzinfo=UTC), "today 23:59"),
        (datetime(2026, 3, 2, 16, 0, tzinfo=UTC), "tomorrow 00:00"),
        (datetime(2026, 3, 4, 9, 0, tzinfo=SHANGHAI), "Wed 4 Mar 09:00"),
        (datetime(2027, 1, 4, 9, 0, tzinfo=SHANGHAI), "Mon 4 Jan 2027 09:00"),
    ],
)
def test_a_day_is_the_zones(due: datetime, shown: str) -> None:
    assert moment(due, NOW, SHANGHAI) == shown
