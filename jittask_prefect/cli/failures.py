"""Errors as sentences: what the command prints of an error before it exits with 1."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

from rich.markup import escape

from jittask_prefect.cli.terminal import err

NOT_WRITABLE = ("readonly database", "unable to open database file")
"""SQLite's words."""


def is_run() -> bool:
    """Whether the command is `jittask run`: it is for debugging, so its errors keep their traceback."""
    return "run" in sys.argv[1:2]


def leave_streams() -> None:
    """Print nothing more: at its end, Python would print the rest once more."""
    for stream in (sys.stdout, sys.stderr):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def fail_of_file(error: OSError) -> NoReturn:
    """Say which file or folder cannot be read or written; without a name it is the output that cannot be written."""
    said = error.strerror or str(error)
    place = error.filename or "the output"
    if isinstance(place, bytes):
        place = os.fsdecode(place)
    with contextlib.suppress(OSError, SystemExit):  # nobody reads
        err.print(f"[red]{type(error).__name__}:[/] {escape(str(place))}: {said}")
    leave_streams()
    sys.exit(1)


def fail(source: str, text: str) -> NoReturn:
    """Print an error with its source, and exit with 1."""
    err.print(f"[red]{source}:[/] {escape(text)}")
    sys.exit(1)


def database_answer(error: Exception) -> str:
    """A database's own words, without the statement; empty for errors of other kinds."""
    from jittask_prefect.cli.options import the_app
    from jittask_prefect.ledger import hindrance
    from jittask_prefect.ledger.error_codes import NO_RIGHT, code, is_of_missing_table

    origin = getattr(error, "orig", None)
    of_database = type(error).__module__.startswith("sqlalchemy")
    if is_run() or not isinstance(origin, Exception) or not of_database:
        return ""
    said = str(origin)
    if code(error) == NO_RIGHT:
        return hindrance.told(the_app(), error)
    if is_of_missing_table(error):
        return f"{said}; `jittask db upgrade --models` makes missing tables"
    if any(words in said for words in NOT_WRITABLE):
        return f"{said}; allowed: a file, in a folder, that may be written"
    return said
