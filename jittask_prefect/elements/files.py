"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path


def replace_file(file: Path, content: bytes) -> None:
    """Write a file so that readers, and a crash, find the old content or the new, never a part.

    The file keeps its mode; a symbolic link goes on to point at the file that is replaced.

    Args:
        file: The file; made where it is missing.
        content: All of its content.

    Raises:
        OSError: The file cannot be written; the old content stands.
    """
    file = file.resolve()
    spare = file.with_name(f".{file.name}.new-{os.getpid()}-{threading.get_ident()}")
    try:
        with spare.open("wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        if file.exists():
            shutil.copymode(file, spare)
        spare.replace(file)
    finally:
        spare.unlink(missing_ok=True)
