"""The lines of `jittask up`: a long step is named while it lasts, in a terminal and in a pipe."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from jittask_prefect.cli.progress import AGAIN, PATIENCE, Progress

SOON = 0.02


class Lines(io.StringIO):
    """A file that tells when a line has come, and whether each was flushed."""

    def __init__(self) -> None:
        super().__init__()
        self.came = threading.Event()

    def flush(self) -> None:
        super().flush()
        if self.getvalue().endswith("\n"):
            self.came.set()


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_a_long_step_is_named_while_it_lasts(terminal: bool) -> None:
    lines = Lines()
    console = Console(file=lines, force_terminal=terminal, width=100)
    progress = Progress(console, patience=SOON, again=SOON)
    with progress.long("waiting for the server"):
        for _ in range(3):
            assert lines.came.wait(10)
            lines.came.clear()
    assert lines.getvalue().count("waiting for the server …") >= 3


def test_no_five_seconds_pass_in_silence() -> None:
    assert max(PATIENCE, AGAIN) + 0.5 < 5


def test_a_short_step_says_nothing() -> None:
    lines = Lines()
    with Progress(Console(file=lines), patience=60).long("waiting for the server"):
        pass
    assert lines.getvalue() == ""


def test_a_step_that_fails_ends_its_line_too() -> None:
    lines = Lines()
    progress = Progress(Console(file=lines), patience=60)
    before = threading.active_count()
    with pytest.raises(RuntimeError), progress.long("waiting for the server"):
        raise RuntimeError
    assert threading.active_count() == before
