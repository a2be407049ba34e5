"""Texts that come from data (titles, row keys, messages) as plain text in Markdown and in SVG."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from jittask_prefect.errors.printable import JOINERS

MOST = 100_000
"""Characters of one Markdown text; the UI renders longer ones slowly."""
_CUT = "\n\n(Cut here.)"
_MARKS = re.compile(r"([\\`*_{}\[\]|~])")


def md(text: str, most: int = 200) -> str:
    """A text as a line of Markdown that shows exactly this text: no markup, no HTML, no placeholder of Prefect's.

    Args:
        text: Any text.
        most: The length at which the text is cut, in characters.
    """
    line = " ".join(printable(text).split())
    if len(line) > most:
        line = line[: most - 1] + "…"
    # `\{\{` is no placeholder. Markup that counts only at the start of a line is left: the text stands inside a line.
    return _MARKS.sub(r"\\\1", escape(line, quote=False))


def xml(text: str) -> str:
    """A text as the content, or an attribute's value, of SVG."""
    return escape(" ".join(printable(text).split()))


def printable(text: str) -> str:
    """A text without characters that XML, a server's database or a terminal refuses: `\\ufffd` stands for each."""
    return "".join(
        c if c.isprintable() or c.isspace() or c in JOINERS else "\ufffd" for c in text
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table, whose cells are Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def cut(text: str, most: int = MOST) -> str:
    """A Markdown text of at most `most` characters, cut at the end of a line."""
    if len(text) <= most:
        return text
    return text[: most - len(_CUT)].rpartition("\n")[0] + _CUT


__all__ = ["MOST", "cut", "md", "printable", "table", "xml"]
