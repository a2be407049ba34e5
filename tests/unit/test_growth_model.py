"""What `benchmarks/growth_model.py` predicts, where the answer is known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[2] / "benchmarks" / "growth_model.py"
PARTS = ("API server 1", "workers", "children of workers", "the app's database")
MACHINE = "all processes of the machine"


def cell(
    load: str, rate: float, workers: int = 1, servers: int = 1, **cost: float
) -> dict[str, object]:
    """A cell as `growth.py` prints it; costs in milliseconds, by the first word of the part."""
    of = {part: cost.get(part.split()[0].lower(), 0.0) for part in PARTS}
    others = ("PostgreSQL, other", "balancer and benchmark")
    all_parts = of | dict.fromkeys(others, 0.0)
    about = {"load": load, "server": "redis", "api_servers": servers}
    busy = dict.fromkeys([*all_parts, MACHINE, "others"], 0.0)
    figures = {"number": 100 * workers, "per_second": rate}
    known = {"busy": busy, "idle": busy, "cost": all_parts}
    return about | {"workers": workers} | figures | known


def predicted(file: Path, *cells: dict[str, object]) -> list[float]:
    """The rates that the model gives the cells; their order is that of servers and workers."""
    file.write_text("\n".join(map(json.dumps, cells)))
    done = subprocess.run(
        [sys.executable, MODEL, file], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [line["figure"] for line in lines if line["unit"].endswith("a second")]


def test_rows_that_only_wait_grow_with_the_workers(tmp_path: Path) -> None:
    cells = (cell("rows", 80.0), cell("rows", 160.0, 2), cell("rows", 320.0, 4))
    found = predicted(tmp_path / "cells", *cells)
    assert found == pytest.approx([80, 160, 320], rel=0.05)


def test_a_server_that_is_full_bounds_the_runs_and_a_second_one_doubles_them(
    tmp_path: Path,
) -> None:
    cells = (
        cell("runs", 8.0, api=100.0),
        cell("runs", 10.0, 4, api=100.0),
        cell("runs", 20.0, 8, 2, api=100.0),
    )
    found = predicted(tmp_path / "cells", *cells)
    assert found == pytest.approx([8, 10, 20], rel=0.05)


def test_two_processors_bound_what_their_processes_do(tmp_path: Path) -> None:
    cells = (cell("rows", 60.0, children=10.0), cell("rows", 200.0, 8, children=10.0))
    assert predicted(tmp_path / "cells", *cells) == pytest.approx([60, 200], rel=0.1)
