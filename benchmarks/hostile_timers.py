"""Timers as nobody means them (huge periods, full BY lists, dates at the ends of the calendar), read and asked.

Each reading and each question has a limit of CPU time; what takes longer, an endless loop too, is a difference.
"""

from __future__ import annotations

import random
import sys

from measure import line, scale

# isort: split

from hostile import TooSlow, some_timer, tried

LIMIT = 0.25
"""Seconds of CPU time for a question; the slowest take 0.05 where the machine has nothing else to do."""


def main() -> None:
    count, taken, slow = max(50, int(20_000 * scale(__doc__ or ""))), 0, 0
    for number in range(count):
        try:
            taken += tried(random.Random(number), LIMIT)
        except TooSlow:
            slow += 1
            print(
                f"too slow: {number}: {some_timer(random.Random(number))}",
                file=sys.stderr,
            )
    more = {"timers": count, "refused": count - taken, "limit_seconds": LIMIT}
    line(
        "hostile timers within the limit",
        float(slow),
        "differences",
        "a limit of CPU time",
        **more,
    )


if __name__ == "__main__":
    main()
