"""How much longer tests wait on a slow machine before they give up; what is there is not waited for any longer."""

from __future__ import annotations

import os
import time

USUAL_SECONDS = 0.06
AT_LEAST, AT_MOST = (
    2.0,
    5.0,
)  # three processes share two cores, and a machine may slow down later on
NAME = "JITTASK_TEST_PATIENCE"


def _measured() -> float:
    begun, total = time.perf_counter(), 0
    for number in range(1_000_000):
        total += number * number
    return min(max((time.perf_counter() - begun) / USUAL_SECONDS, AT_LEAST), AT_MOST)


# Once, by the process that starts the others: while they are at work all of them would be slow.
PATIENCE = float(os.environ.setdefault(NAME, f"{_measured():.2f}"))
