"""What `benchmarks/faults.py` tells beside its counters."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
BEGIN = datetime(2026, 11, 30, 12, tzinfo=UTC)


def test_pieces_of_a_campaign_have_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A campaign of hours runs in pieces, each of which adds its recoveries to a file."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    watching = importlib.import_module("faulting.watch")
    journal = importlib.import_module("faulting.journal").Journal()
    file = tmp_path / "times.jsonl"
    for done, kind in ((2, "kill Redis"), (4, "kill Redis"), (9, "freeze the sync")):
        watch = watching.Watch("sqlite://", journal, 3.0)
        watch.stop()
        due = BEGIN.replace(tzinfo=None) - timedelta(seconds=1)
        watch.seen[1, due] = BEGIN + timedelta(seconds=done)
        piece = watching.Recoveries(file)
        piece.add(kind, watch, BEGIN, BEGIN + timedelta(seconds=1))
    assert piece.number == {"kill Redis": 2, "freeze the sync": 1}
    assert piece.next_row == {"kill Redis": [1.0, 3.0], "freeze the sync": [8.0]}
    assert piece.backlog == {"kill Redis": [0.0, 3.0], "freeze the sync": [8.0]}
