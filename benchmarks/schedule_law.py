"""The law of compiled schedules: over 400 days, the server's dates are the timer's occurrences, each once.

Random timers of every kind, in zones whose clocks change at midnight or by half an hour, with "now" at bad moments;
nothing of the horizon is left out.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from measure import line, scale

# isort: split

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from server_dates import YEAR, fires
from timer_cases import (
    at_moment,
    custom_repeats,
    day_repeats,
    moments,
    step_repeats,
    timers,
    turning_repeats,
)

from jittask_prefect import ConfigError, Timer
from jittask_prefect.schedule.prefect_schedules import schedules
from jittask_prefect.schedule.rrule import MAX_RRULE_LENGTH

KINDS = {"days and longer": day_repeats(), "minutes and hours": step_repeats(), "cron and rrule": custom_repeats(),
         "positions and weeks": turning_repeats()}  # fmt: skip
DENSE = 40_000
"""Occurrences in 400 days beyond which 40 days stand for them: 19 µs each, twice."""


def campaign(
    repeats: st.SearchStrategy[dict[str, Any]], number: int, examples: int
) -> dict[str, int]:
    """Random timers of one kind, and what became of them."""
    count = {"cases": 0, "refused": 0, "occurrences": 0, "differences": 0}

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(timers(repeats), st.integers(0, 2900), moments())
    def compare(case: Any, days: int, moment: Any) -> None:
        now = at_moment(
            case, datetime(2019, 6, 1, tzinfo=UTC) + timedelta(days), moment
        )
        try:
            timer = Timer(*case)
            slots = [slot for slot in schedules(timer, now) if slot["active"]]
        except ConfigError:
            count["refused"] += 1
            return
        assert all(len(slot.get("rrule", "")) <= MAX_RRULE_LENGTH for slot in slots)
        ours = [
            at.astimezone(UTC) for at in timer.occurrences(now, now + timedelta(40))
        ]
        horizon = timedelta(40) if len(ours) > DENSE / 10 else YEAR
        if horizon == YEAR:
            ours = [at.astimezone(UTC) for at in timer.occurrences(now, now + YEAR)]
        theirs = sorted(at for slot in slots for at in fires(slot, now, now + horizon))
        count["cases"] += 1
        count["occurrences"] += len(ours)
        if ours != theirs:
            count["differences"] += 1
            print(
                f"differs: {case} at {now}: {sorted(set(ours) ^ set(theirs))[:5]}",
                file=sys.stderr,
            )

    compare()
    return count


def main() -> None:
    share = scale(__doc__ or "")
    for number, (name, repeats) in enumerate(KINDS.items(), 1):
        count = campaign(repeats, number, max(5, int(1000 * share)))
        differences = float(count.pop("differences"))
        line(
            f"compiled schedules, {name}",
            differences,
            "differences",
            "the server's own get_dates",
            **count,
        )


if __name__ == "__main__":
    main()
