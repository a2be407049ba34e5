"""The benchmarks run: a hundredth of each, and what they promise that is no speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE

FOLDER = Path(__file__).parents[2] / "benchmarks"
# A real Prefect server is started for the report; here the processes share one in memory.
MORE = {"exactly_once": ["--prefect", "memory"]}
# `latency` waits for the clock on a machine that has nothing else to do, which the suite's never is; `take_up`
# waits for minutes to pass; `bad_input` has its share in the tests of `elements`.
NAMES = sorted(
    path.stem
    for path in FOLDER.glob("*.py")
    if path.stem not in ("measure", "latency", "take_up", "bad_input")
)


@pytest.mark.parametrize("name", NAMES)
def test_a_hundredth_of_each(name: str) -> None:
    command = [
        sys.executable,
        str(FOLDER / f"{name}.py"),
        "--scale",
        "0.01",
        *MORE.get(name, []),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=250 * PATIENCE
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines and all(
        {"name", "figure", "unit", "against"} <= set(line) for line in lines
    )
    assert [
        line for line in lines if line["unit"] == "differences" and line["figure"]
    ] == [], done.stderr
