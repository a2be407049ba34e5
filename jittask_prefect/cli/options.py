"""Options and arguments that several commands have: the app, a row, instants, JSON."""

from __future__ import annotations

import signal
from datetime import datetime
from typing import Annotated, Any

import typer

from jittask_prefect.cli.terminal import warn
from jittask_prefect.errors import InvalidTime
from jittask_prefect.schedule import clock

Now = Annotated[
    str | None,
    typer.Option(
        "--now", help="The instant to work as of, ISO 8601; the present where absent."
    ),
]
Task = Annotated[
    str, typer.Argument(help="The task's full name, e.g. tasks.DailyReport.")
]
AnyTask = Annotated[
    str | None, typer.Argument(help="The task's full name; all tasks where absent.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TakeOver = Annotated[
    bool,
    typer.Option(
        "--take-over",
        help="Let this app's database take the place of another that the server knows the app by.",
    ),
]
RowKey = Annotated[
    str | None, typer.Option("--row", help="The row's key, for a date-field task.")
]


def heed_interrupts() -> None:
    """Let an interrupt end this process and its children, also where a script's `&` had interrupts ignored.

    Prefect's worker sends itself a SIGINT when it gets a SIGTERM, and would otherwise never end.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def the_app() -> Any:
    """The app that `JITTASK_APP`, or the nearest app.json, names."""
    from jittask_prefect.task_svc.wiring import app

    return app


def instant_of(text: str, owner: Any, option: str) -> datetime:
    """The instant that an option names.

    Args:
        text: The option's value.
        owner: The template or app whose zone holds for a text without an offset.
        option: The option's name, for the error.

    Raises:
        InvalidTime: The text is not a time.
    """
    from jittask_prefect.task_svc.arguments import instant

    try:
        return instant(text, owner)
    except InvalidTime as error:
        raise InvalidTime(f"{option}: {error}") from None


def instant_or_now(text: str | None, option: str = "--now") -> datetime:
    """The instant that an option names; the present without one."""
    return clock.now() if text is None else instant_of(text, the_app(), option)


def end_of(text: str, template: Any) -> datetime:
    """The last instant that `--until` includes: a date without a time means the whole day."""
    from jittask_prefect.schedule.instants import TICK, day_after

    at, zone = instant_of(text, template, "--until"), template.timer.zone
    if len(text.strip()) > len("yyyy-mm-dd"):
        return at
    try:
        return day_after(at.astimezone(zone).date(), zone) - TICK
    except OverflowError as error:
        raise InvalidTime(f"--until: {error}") from None


def warn_of_problems(app: Any) -> None:
    """Print the mistakes of elements, which the command leaves out."""
    for problem in app.check(clock.now()):
        warn(problem, "problem")


def on_clocks(at: datetime, app: Any) -> str:
    """An instant on the app's clocks, to the minute, with the zone."""
    return f"{at.astimezone(app.zone):%Y-%m-%d %H:%M %Z}"


def pause_text(app: Any) -> str:
    """The sentence on the pause of the whole app; empty where the app is not paused."""
    from jittask_prefect.ledger.pause import paused_since

    since = paused_since(app)
    if since is None:
        return ""
    return f"the app is paused since {on_clocks(since, app)}: `jittask resume` ends the pause"


def warn_of_pause(app: Any) -> None:
    """Say on stderr that the whole app is paused, where it is."""
    if text := pause_text(app):
        warn(text)
