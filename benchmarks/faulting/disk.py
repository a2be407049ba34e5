"""A small disk in memory, which a campaign fills."""

from __future__ import annotations

import os
from pathlib import Path

from .description import does


def mounted(folder: Path, size: str) -> Path | None:
    """Mount a disk of this size, such as `8m`; None where this user may not mount."""
    folder.mkdir()
    command = f"mount -t tmpfs -o size={size},mode=1777 tmpfs {folder}"
    return folder if os.geteuid() == 0 and does(command) else None
