"""What the benchmarks share: medians, the scale, and the line that each prints."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Tests and benchmarks share `tests/helpers/`. For the tests pyproject.toml says so; every benchmark imports
# this module before a helper.
sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))


def scale(text: str) -> float:
    """How much of the whole measurement to run: 1 for the report, 0.01 in the test suite."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="share of the whole measurement, 1 where absent",
    )
    return float(parser.parse_args().scale)


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder that goes with the run; what a process that is ending still writes there does not matter."""
    with tempfile.TemporaryDirectory(
        prefix="jittask-bench-", ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def seconds(work: Callable[[], object], runs: int = 5) -> float:
    """The median of several runs, by this process's own clock: the machine is shared."""
    taken = []
    for _ in range(runs):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return statistics.median(taken)


def line(name: str, figure: float, unit: str, against: str, **more: object) -> None:
    """Print one result; `figure` is a ratio, or says in `unit` what else."""
    rounded = {
        key: round(value, 4) if isinstance(value, float) else value
        for key, value in more.items()
    }
    print(
        json.dumps(
            {
                "name": name,
                "figure": round(figure, 3),
                "unit": unit,
                "against": against,
                **rounded,
            }
        ),
        flush=True,
    )


def too_small(name: str, enough: str) -> None:
    """Say that a run is too small for the ratio of a line, in place of the line."""
    line(name, 0, "ratios", f"too small for a ratio; a measurement takes {enough}")


def kill_matrix(title: str, rows: Iterable[tuple[object, ...]]) -> str:
    """A Markdown table: what was killed, where, how often, and what came of it."""
    head = ("Killed", "Where", "Times", "Lost", "Dup", "Stale", "Ghost")
    lines = [head, ("---",) * 2 + ("---:",) * 5, *rows]
    return "\n".join(
        [
            f"**{title}**",
            "",
            *("| " + " | ".join(map(str, one)) + " |" for one in lines),
        ]
    )
