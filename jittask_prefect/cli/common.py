"""What the commands share: where they print, options that several have, the app and the instants that they name."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from jittask_prefect.cli.terminal import Terminal, print_json, say
from jittask_prefect.errors import InvalidTime
from jittask_prefect.schedule import clock

__all__ = ["print_json", "say"]  # of `terminal`

# A file or a pipe has no edge at which to break lines.
_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 140
out = Terminal(highlight=False, soft_wrap=True, width=_WIDTH)
err = Terminal(stderr=True, highlight=False, soft_wrap=True)

Now = Annotated[
    str | None,
    typer.Option(
        "--now", help="The instant to work as of, ISO 8601; the present where absent."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def heed_interrupts() -> None:
    """Have an interrupt end this process and what it starts, also where a script's `&` had it ignored.

    A worker of Prefect's that gets SIGTERM sends itself a SIGINT, and would otherwise never end.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def the_app() -> Any:
    from jittask_prefect.task_svc.wiring import app

    return app


def an_instant(text: str | None, *, name: str = "--now") -> datetime:
    if text is None:
        return clock.now()
    from jittask_prefect.task_svc.arguments import instant

    try:
        return instant(text, the_app())
    except InvalidTime as error:
        raise InvalidTime(f"{name}: {error}") from None


def last_meant(text: str, of: Any) -> datetime:
    """The last instant that is meant: a date without a time is that whole day."""
    from jittask_prefect.schedule.instants import TICK, day_after
    from jittask_prefect.task_svc.arguments import instant

    try:
        at = instant(text, of)
        zone = of.timer.zone
        return (
            day_after(at.astimezone(zone).date(), zone) - TICK
            if len(text.strip()) == 10
            else at
        )
    except (InvalidTime, OverflowError) as error:
        raise InvalidTime(f"--until: {error}") from None


def say_left_out(app: Any) -> None:
    for problem in app.check():
        err.print(f"[yellow]problem:[/] {escape(str(problem))}")


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        out.print(line, markup=False, emoji=False)
