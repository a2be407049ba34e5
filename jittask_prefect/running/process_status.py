"""A process of this machine as Linux shows it in `/proc`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessStatus:
    """The status of a process, from `/proc`.

    Attributes:
        parent: The parent's pid.
        session: The pid of the session's leader.
        started: When the process began, in seconds since the machine did.
        dead: Whether the process has ended and only its entry is left.
        stopped: Whether the process stands still, by SIGSTOP.
    """

    parent: int
    session: int
    started: float
    dead: bool
    stopped: bool


def process_of(pid: int) -> ProcessStatus | None:
    """The status of a process; None where there is no such process, or no `/proc`."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # proc(5): the name, in parentheses, may hold anything.
    state, parent, _, session, *rest = text.rpartition(")")[2].split()
    started = int(rest[15]) / os.sysconf("SC_CLK_TCK")
    return ProcessStatus(
        parent=int(parent),
        session=int(session),
        started=started,
        dead=state in "ZX",
        stopped=state == "T",
    )
