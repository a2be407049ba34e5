"""The benchmarks run: a hundredth of each or less, and what they promise that is no speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE
from prefect_database import prepare

FOLDER = Path(__file__).parents[2] / "benchmarks"
# The longest ones do less. A real Prefect server is started for the report of `exactly_once`; here the processes share
# one in memory.
MORE = {
    "ends": ["--number", "3"],
    "exactly_once": ["--prefect", "memory", "--scale", "0.003"],
    "faults": [
        *("--every", "4", "--late", "20"),  # the suite's machine is busy
        *("--only", "kill an API server", "--only", "kill a child"),
        *("--only", "answers lost", "--only", "kill Redis"),
    ],
    "retention": ["--scale", "0.001"],
    "row_scan": ["--scale", "0.002"],
    "schedule_law": ["--scale", "0.005"],
}
# These start a server, here on a database that is migrated already.
WITH_SERVER = ("create_rate", "ends", "growth", "warm_worker")
# `latency` waits for the clock on a machine that has nothing else to do, which the suite's never is; `take_up`
# waits for minutes to pass; `workers` starts four of them; `bad_input` has its share in the tests of `elements`.
NAMES = sorted(
    path.stem
    for path in FOLDER.glob("*.py")
    if path.stem not in ("measure", "latency", "take_up", "workers", "bad_input")
)


@pytest.mark.parametrize("name", NAMES)
def test_a_hundredth_of_each(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    env = dict(os.environ)
    if name in WITH_SERVER:
        prepare(tmp_path, request.getfixturevalue("prefect_database"))
        file = tmp_path / "prefect" / "prefect.db"
        env["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{file}"
    command = [
        sys.executable,
        str(FOLDER / f"{name}.py"),
        "--scale",
        "0.01",
        *MORE.get(name, []),
    ]
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=250 * PATIENCE
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines and all(
        {"name", "figure", "unit", "against"} <= set(line) for line in lines
    )
    assert [
        line for line in lines if line["unit"] == "differences" and line["figure"]
    ] == [], done.stderr
