"""Lines on the steps of a command that takes long."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

PATIENCE, AGAIN = 2.0, 4.0
"""Seconds until a long step is named, and until it is named again."""


class Progress:
    """Lines on the steps of a command, each with the seconds since its start.

    Args:
        console: Where the lines go.
        patience: Seconds until a long step is named.
        again: Seconds until a step that goes on is named again.
    """

    def __init__(
        self, console: Console, patience: float = PATIENCE, again: float = AGAIN
    ) -> None:
        self.console, self.patience, self.again = console, patience, again
        self._start = time.monotonic()

    @contextlib.contextmanager
    def long(self, text: str, again: str = "") -> Iterator[None]:
        """Name a step that takes more than two seconds, and again every four: nobody sees five silent seconds.

        Args:
            text: The step.
            again: The shorter words from the second time on; the same where absent.
        """
        done = threading.Event()
        said = (text, again or text, done)
        teller = threading.Thread(target=self._tell, args=said, daemon=True)
        teller.start()
        try:
            yield
        finally:
            done.set()
            teller.join()

    def _tell(self, text: str, again: str, done: threading.Event) -> None:
        patience = self.patience
        while not done.wait(patience):
            self.step(f"{text} …")
            text, patience = again, self.again

    def step(self, text: str) -> None:
        """Print a finished step; rich's markup is read."""
        seconds = f"[dim]{time.monotonic() - self._start:5.1f} s[/]"
        self.console.print(f"{seconds}  {text}", soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a fault that stops nothing."""
        self.console.print(Text(text, style="yellow"), soft_wrap=True)

    def fail(self, text: str) -> None:
        """Print the fault that ends the command."""
        self.console.print(Text(text, style="red"), soft_wrap=True)
