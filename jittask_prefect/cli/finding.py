"""A finding of `jittask doctor`, and its lines in a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len

from jittask_prefect.records.text_table import folded

INDENT = "  "
LEAST_WIDTH = 20
QUOTED = re.compile(r"`[^`]+`")
JOINT = "\ue000"  # of the private use area: stands for a space at which no line ends


@dataclass(frozen=True)
class Finding:
    """One result of the examination.

    Args:
        about: The subject: `versions`, `app`, `database` or `server`.
        state: `ok`, `warning` or `wrong`.
        text: The result, and the next step after a fault.
    """

    about: str
    state: str
    text: str

    def lines(self, width: int | None) -> Iterator[str]:
        """The finding's lines, each after the first indented; a command in backticks stays on one line where it fits.

        Args:
            width: The columns of the terminal; None for a file or a pipe, whose line is whole.
        """
        whole = f"{self.state} {self.about}: {self.text}"
        if width is None:
            yield whole
            return
        room = max(LEAST_WIDTH, width) - len(INDENT)
        joined = QUOTED.sub(lambda found: _joined(found[0], room), whole)
        first, *rest = folded(joined, room)
        yield first.replace(JOINT, " ")
        yield from (INDENT + line.replace(JOINT, " ") for line in rest)


def _joined(command: str, room: int) -> str:
    return command.replace(" ", JOINT) if cell_len(command) <= room else command
