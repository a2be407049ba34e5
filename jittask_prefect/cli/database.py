"""The commands `jittask db`: the ledger's tables in the app's databases."""

from __future__ import annotations

from typing import Annotated

import typer

from jittask_prefect.cli.options import instant_of, the_app
from jittask_prefect.cli.terminal import out
from jittask_prefect.schedule import clock

db = typer.Typer(help="The ledger's tables.", no_args_is_help=True)


@db.command("upgrade")
def db_upgrade(
    models: Annotated[
        bool,
        typer.Option("--models", help="Also make missing tables of the app's models."),
    ] = False,
) -> None:
    """Make the ledger's tables in each database of the app."""
    from jittask_prefect.rows.databases import upgrade

    made = upgrade(the_app(), models=models)
    out.print("\n".join(made) or "the tables are current")


@db.command("prune")
def db_prune(
    before: Annotated[
        str,
        typer.Option(
            help="Tasks that were due and ended before this date are removed."
        ),
    ],
) -> None:
    """Remove finished tasks from the ledger now; the sync removes those that are older than `retention` of app.json."""
    from jittask_prefect.rows.pruning import prune_all

    app = the_app()

    def said(database: str, removed: int) -> None:
        out.print(f"{database or 'default'}: {removed:,} tasks removed")

    prune_all(app, instant_of(before, app, "--before"), clock.now(), said)
