"""Where the commands print: users' text reaches a terminal, a file or a pipe without characters that these obey."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.text import Text

from jittask_prefect.errors.printable import escape_controls, escape_controls_json


class Terminal(Console):
    """A console that shows control characters instead of passing them on; its own colours it still writes."""

    def render_str(self, text: str, **options: Any) -> Text:
        """A text of rich's markup; overridden so that columns are as wide as the shown text."""
        return super().render_str(escape_controls(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The parts of a renderable; everything printed comes through here."""
        for part in super().render(renderable, options):
            shown = Segment(escape_controls(part.text), part.style)
            yield part if part.control else shown


def _open_streams() -> None:
    """Give this process the streams that it was started without: a file opened later must not get their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, "w" if number else "r")  # noqa: SIM115
            setattr(sys, name, stream)


_open_streams()


def _has_edge() -> bool:
    """Whether lines are broken: a file or a pipe has no edge."""
    return sys.stdout.isatty() or "COLUMNS" in os.environ


_WIDTH = None if _has_edge() else 140
out = Terminal(highlight=False, soft_wrap=True, width=_WIDTH)
err = Terminal(stderr=True, highlight=False, soft_wrap=True)


def edge() -> int | None:
    """The width of the terminal, or of COLUMNS; None for a file or a pipe."""
    return out.width if _has_edge() else None


def warn(text: object, word: str = "warning") -> None:
    """Print a warning on standard error, after a word in yellow."""
    err.print(f"[yellow]{word}:[/] {escape(str(text))}")


def print_line(text: object) -> None:
    """Print a line without colours or breaks, for another program."""
    print(escape_controls(str(text)))


def print_lines(lines: Iterable[str]) -> None:
    """Print lines without reading markup in them."""
    for line in lines:
        out.print(line, markup=False, emoji=False)


def print_json(value: Any) -> None:
    """Print JSON."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    print(escape_controls_json(text), flush=True)


def takes(text: str, encoding: str | None) -> bool:
    """Whether an encoding has all characters of a text."""
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class _EscapingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return escape_controls(super().format(record))


class _ToStderr(logging.Handler):
    """Writes to the stderr of the moment: the one of the start may be closed by then."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except (OSError, ValueError):
            self.handleError(record)


def show_logs() -> None:
    """Print the texts that are logged from now on."""
    handler = _ToStderr()
    handler.setFormatter(_EscapingFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def prepare() -> None:
    """Let this process write any text, also in an encoding that lacks characters, and in its log."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_EscapingFormatter())
