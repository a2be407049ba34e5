"""Retries that a person asks for: failed tasks wait again, by *Retry* of a batch's flow run, or by `jittask retry`.

The flow run of a single task needs no transition here: the claim lets a failed task of that run begin again.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, update

from jittask_prefect.ledger.tables import entries


def retry_batch(
    connection: Connection, app: str, template: str, due: datetime, run_id: str
) -> None:
    """Have the rows that failed in a batch's flow run wait again: somebody has pressed Retry.

    Condition: they ended as errors, in this flow run.
    """
    failed = (
        entries.c.app == app,
        entries.c.template == template,
        entries.c.due == due,
        entries.c.flow_run_id == run_id,
        entries.c.status == "error",
    )
    values = {"status": "pending", "outcome": None, "message": "", "finished": None}
    connection.execute(update(entries).where(*failed).values(**values, dirty=False))


def retry_lost(
    connection: Connection, app: str, run_id: str | None, template: str | None = None
) -> int:
    """Have tasks that failed in a flow run which Prefect has no longer wait for another one; how many do.

    Condition: they ended as errors, in this flow run.

    Args:
        connection: In a transaction.
        app: The app's name.
        run_id: The flow run; None where the ledger names none.
        template: Only tasks of this template; of all where absent.
    """
    lost = [
        entries.c.app == app,
        entries.c.flow_run_id.is_not_distinct_from(run_id),
        entries.c.status == "error",
    ]
    if template is not None:
        lost.append(entries.c.template == template)
    values = {
        "status": "pending",
        "queue": None,
        "outcome": None,
        "message": "",
        "finished": None,
        "flow_run_id": None,
        "batch": None,
        "dirty": True,
    }
    return connection.execute(update(entries).where(*lost).values(**values)).rowcount
