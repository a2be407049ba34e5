"""The dates that Prefect's own server makes of a schedule's text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.server.schemas.schedules import IntervalSchedule, RRuleSchedule

YEAR = timedelta(400)
"""The horizon of a compiled schedule."""


def fires(
    slot: dict[str, Any], after: datetime, before: datetime
) -> Iterator[datetime]:
    """What the server schedules for a slot in [after, before); it gives at most 1,000 at a time."""
    if "interval" in slot:
        schedule: Any = IntervalSchedule(
            **{name: slot[name] for name in ("interval", "anchor_date", "timezone")}
        )
    else:
        schedule = RRuleSchedule(rrule=slot["rrule"], timezone=slot["timezone"])
    while True:
        found = [
            datetime.fromtimestamp(at.timestamp(), UTC)
            for at in schedule._get_dates_generator(900, after, before)
        ]
        yield from (at for at in found if at < before)
        if len(found) < 900:
            return
        after = found[-1] + timedelta(seconds=1)
