"""Where the commands print: user text reaches a terminal, a file or a pipe without what these would obey."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from jittask_prefect.errors.printable import escape_controls, escape_controls_json


class Terminal(Console):
    """A console that shows control characters instead of passing them on; its own colours it still writes."""

    def render_str(self, text: str, **how: Any) -> Text:
        """A text of markup as rich has it; here, so that columns are as wide as what is shown."""
        return super().render_str(escape_controls(text), **how)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The parts of something to be printed; all that is printed comes through here."""
        for part in super().render(renderable, options):
            yield (
                part
                if part.control
                else Segment(escape_controls(part.text), part.style)
            )


def say(text: object) -> None:
    """Print a line as it is, without colours or breaks: what another program reads."""
    print(escape_controls(str(text)))


def print_json(value: Any) -> None:
    """Print JSON."""
    print(
        escape_controls_json(
            json.dumps(value, ensure_ascii=False, indent=2, default=str)
        ),
        flush=True,
    )


class _Visible(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return escape_controls(super().format(record))


def prepare() -> None:
    """Have this process write whatever it has to say: in an encoding that cannot, and in its log too."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Visible())
