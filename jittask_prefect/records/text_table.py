"""The printer of all tables: cells below each other, as plain lines that a pipe does not cut."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any

from rich.cells import cell_len, chop_cells, set_cell_size

from jittask_prefect.errors.printable import JOINERS

KEY_WIDTH = 30
"""The widest column of row keys; longer keys push the rest of their line."""


def table(
    rows: Sequence[Sequence[str]], widest: int = KEY_WIDTH, width: int | None = None
) -> Iterator[str]:
    """The lines of a table; the last column is as long as its cells.

    Args:
        rows: The cells, each a text of one line; the names of the columns first.
        widest: The characters of a column at most.
        width: The characters of a line; cells are cut to fit. Without a width nothing is cut.
    """
    columns = list(zip(*rows, strict=True))[:-1]
    widths = [min(widest, max(map(cell_len, cells))) for cells in columns]
    for row in rows:
        cells = []
        for cell, length in zip(row, widths, strict=False):
            shown = cell if width is None else shortened(cell, length)
            cells.append(shown + " " * (length - cell_len(shown)))
        line = "  ".join([*cells, row[-1]]).rstrip()
        yield line if width is None else shortened(line, width)


def folded_table(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    """The lines of a table whose cells are folded in their columns; nothing is cut.

    Args:
        rows: The cells; the names of the columns first.
        widths: The characters of each column.
    """
    for row in rows:
        parts = [folded(cell, width) for cell, width in zip(row, widths, strict=True)]
        for line in zip_longest(*parts, fillvalue=""):
            cells = [
                cell + " " * (width - cell_len(cell))
                for cell, width in zip(line, widths, strict=True)
            ]
            yield "  ".join(cells).rstrip()


def folded(text: str, width: int) -> list[str]:
    """The lines of a text, folded between words; a word that is wider than a line is folded within."""
    lines = [""]
    for word in text.split():
        for piece in chop_cells(word, width):
            longer = f"{lines[-1]} {piece}".strip()
            if cell_len(longer) <= width:
                lines[-1] = longer
            else:
                lines.append(piece)
    return lines


def shortened(text: str, width: int) -> str:
    """A text of at most `width` characters of a terminal, cut with an ellipsis."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def one_line(text: str) -> str:
    """A text on one line: characters that cannot be printed stand as Python writes them."""
    return "".join(
        c if c.isprintable() or c in JOINERS else repr(c)[1:-1] for c in text
    )


def result_json(result: Any) -> str:
    """The result of a function as JSON; empty without a result."""
    return "" if result is None else json.dumps(result, ensure_ascii=False)


def time_text(at: datetime) -> str:
    """An instant with its weekday and its zone."""
    return f"{at:%a %Y-%m-%d %H:%M %Z}"
