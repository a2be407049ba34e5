"""The commands that write files of an app for people to go on with."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from jittask_prefect.cli.options import the_app
from jittask_prefect.cli.terminal import err, out, print_line, print_lines
from jittask_prefect.errors import ArgumentError
from jittask_prefect.schedule import clock


class TaskKind(StrEnum):
    """The two kinds of tasks."""

    scheduled = "scheduled"
    date_field = "date-field"


def init(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR")] = None,
    here: Annotated[
        bool,
        typer.Option(
            "--here", help="Make the project of this folder an app, with an example."
        ),
    ] = False,
) -> None:
    """Make a new app that works at once, or an existing project an app."""
    if here:
        if folder is not None:
            raise ArgumentError("--here is for the folder that you are in, without DIR")
        _init_here()
        return
    if folder is None:
        raise ArgumentError(
            "`jittask init DIR` makes a new app, `jittask init --here` makes this project one"
        )

    from jittask_prefect.deploying import prefect_yaml
    from jittask_prefect.elements import scaffold
    from jittask_prefect.rows.databases import upgrade
    from jittask_prefect.task_svc.wiring import App

    made = App(scaffold.init(folder))
    prefect_yaml.write(made, prefect_yaml.instant_of(made, clock.now()))
    if made.database_url().startswith("sqlite"):  # another database may be the team's
        upgrade(made, models=True)
    command = f"[bold]cd {escape(str(folder))} && jittask up[/]"
    out.print(f"{escape(str(made.path))} is made. Next: {command}")


def _init_here() -> None:
    """Make the project of this folder an app, and say what was done and what comes next."""
    from jittask_prefect.elements.project_scaffold import init_here

    root = Path.cwd()
    made = init_here(root)
    found = made.survey
    print_line("pyproject.toml has a new table:")
    print_lines(f"    {line}" for line in made.table.splitlines())
    if found.engine is None:
        print_line(
            'No engine was found: `database` is a SQLite file; write engine = "package.module:name", or your own URL.'
        )

    example = made.example.relative_to(root)
    print_line(f"{example} is an example:")
    print_lines(f"    {line}".rstrip() for line in made.example_text.splitlines()[2:])
    print_line(
        "Where your web process starts: `from jittask_prefect import app as tasks`, then `tasks.load()`."
    )
    print_line("Next: jittask check && jittask db upgrade && jittask up")


def new(
    kind: TaskKind,
    title: str,
    model: Annotated[
        str | None,
        typer.Option(help="The model of a date-field task, e.g. models.Contract."),
    ] = None,
    field: Annotated[
        str | None, typer.Option(help="The date field of a date-field task.")
    ] = None,
    append: Annotated[
        bool,
        typer.Option(
            "--append", help="Write the function to the app's module, not to stdout."
        ),
    ] = False,
) -> None:
    """Make the folder of a task, or, for an app with modules, a decorated function; its English name comes from the title."""
    from jittask_prefect.elements import scaffold

    app = the_app()
    if kind is TaskKind.scheduled and (model or field):
        raise ArgumentError("--model and --field belong to a date-field task")
    if app.modules.names:
        _new_function(app, kind, title, model, field, append)
        return
    if append:
        raise ArgumentError("--append is for an app with modules")

    if kind is TaskKind.scheduled:
        folder = scaffold.new_scheduled(app, title, clock.now())
    else:
        folder = scaffold.new_date_field(app, title, model, field)
    file = folder / "e.json"
    made = json.loads(file.read_text(encoding="utf-8"))
    rows = ""
    if "modelPath" in made:
        rows = f" for {made['modelPath']}, field {made['timerCfg']['startField']}"
    out.print(f"tasks.{folder.name} is made{rows}: {escape(str(file))}, inner.py")


def _new_function(
    app: Any,
    kind: TaskKind,
    title: str,
    model: str | None,
    field: str | None,
    append: bool,
) -> None:
    from jittask_prefect.elements.project_scaffold import new_function

    rows = kind is TaskKind.date_field
    made = new_function(app, title, rows=rows, model=model, field=field)
    if append:
        out.print(f"{made.name} is at the end of {escape(str(made.append()))}")
        return

    print(made.text, end="")
    place = made.file or "a module that `modules` names"
    err.print(escape(f"{made.name}: paste it into {place}, or take --append"))
