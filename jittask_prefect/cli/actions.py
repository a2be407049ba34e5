"""The commands that act: run, end, retry, pause, resume, open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.markup import escape

from jittask_prefect.cli.options import (
    AnyTask,
    RowKey,
    Task,
    instant_of,
    on_clocks,
    the_app,
)
from jittask_prefect.cli.queries import open_link
from jittask_prefect.cli.terminal import out, print_json, show_logs, warn
from jittask_prefect.errors import ArgumentError, PrefectApiError, UnknownTask
from jittask_prefect.schedule import clock


def run(
    task: Task,
    row: RowKey = None,
    dry: Annotated[
        bool, typer.Option("--dry", help="Roll back the changes of the row.")
    ] = False,
) -> None:
    """Run a task's function here and now, in this process, without a server: for debugging."""
    from jittask_prefect.running.trial import run_here

    show_logs()
    print_json(run_here(the_app(), task, row, clock.now(), dry=dry))


def end(
    task_id: Annotated[str, typer.Argument(help="The task's id, or a flow run's.")],
) -> None:
    """End a task: a pending task never runs, an executing task's process is ended."""
    print_json(the_app().getElement("services.TaskSvc").forcedEnd(task_id))


def retry(
    task: AnyTask = None,
    status: Annotated[
        str, typer.Option(help="The status of the tasks to run again: error.")
    ] = "error",
    since: Annotated[
        str | None,
        typer.Option(help="Only tasks that failed at this time or later, ISO 8601."),
    ] = None,
) -> None:
    """Run failed tasks again, as Retry in Prefect's UI does; a batch runs all its failed rows again."""
    from jittask_prefect.ledger.guard import connect
    from jittask_prefect.running.retry import retry_failed

    if status != "error":
        raise ArgumentError(f"--status {status!r}; allowed: error")
    app = the_app()
    owner = app.template(task) if task else app
    begin = instant_of(since, owner, "--since") if since else None
    done = retry_failed(app, connect(app), task, begin)
    out.print(done.done)
    for told in done.left:
        warn(told)


def pause() -> None:
    """Pause the whole app: no schedule fires and no row's task begins until `jittask resume`; tasks at work go on."""
    from jittask_prefect.ledger import pause as pauses

    app, now = the_app(), clock.now()
    since = pauses.pause(app, now)
    when = "now" if since == now else on_clocks(since, app)
    out.print(
        f"{escape(app.title)} is paused since {when}; `jittask resume` ends the pause."
    )
    _sync_after(app, paused=True)


def resume() -> None:
    """End the pause of the app; `missed` of each task decides which occurrences of the meantime run."""
    from jittask_prefect.ledger import pause as pauses

    app = the_app()
    since = pauses.resume(app)
    told = (
        f"was paused since {on_clocks(since, app)}, and goes on"
        if since
        else "is not paused"
    )
    out.print(f"{escape(app.title)} {told}.")
    _sync_after(app)


def _sync_after(app: Any, *, paused: bool = False) -> None:
    """Tell Prefect of a pause, or of its end, by a sync at once; the schedules of a paused app rest before."""
    from jittask_prefect.running.sync_flow import rest_schedules, run_sync

    try:
        if paused:  # a sync that is at work may take long
            rest_schedules(app, clock.now())
        done = run_sync(app, clock.now())
    except PrefectApiError as error:
        warn(f"Prefect is told by the next sync: {error}")
        return
    if done is None:
        out.print("A sync is at work; the next one does the rest in Prefect.")


def open_(task: AnyTask = None) -> None:
    """Open the app's overview, or a task's page, in Prefect's UI, and print the link."""
    from jittask_prefect.prefect_api import links
    from jittask_prefect.prefect_api.names import app_tag
    from jittask_prefect.server.selection import connect

    app = the_app()
    api = connect(app.path)
    at = links.base(api.ui_url)
    if task is None:
        open_link(links.overview(app.name, at))
        return
    name = app.template(task).fullName
    deployment = api.deployments(app_tag(app.name)).get(name)
    if deployment is None:
        raise UnknownTask(
            f"{name} has no deployment on {api.url}: run `jittask deploy`"
        )
    open_link(f"{at}/deployments/deployment/{deployment.id}")


ACTIONS: dict[str, Callable[..., None]] = {
    "run": run,
    "end": end,
    "retry": retry,
    "pause": pause,
    "resume": resume,
    "open": open_,
}
"""By name, in the order of `jittask --help`."""
