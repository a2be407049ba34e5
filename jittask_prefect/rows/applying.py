"""A plan's actions → the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from jittask_prefect.ledger import planned_rows
from jittask_prefect.rows.plan import Action


def apply_all(
    connection: Connection,
    app: str,
    actions: Sequence[Action],
    model: str,
    now: datetime,
) -> None:
    """Write actions into the ledger; a second time changes nothing.

    Args:
        connection: In a transaction.
        app: The app's name.
        actions: Of rows of one model.
        model: The model's full name.
        now: The present instant.
    """
    ended = [(a.task_id, f"ended: {a.reason}") for a in actions if a.action == "end"]
    replaced = [
        (old, f"superseded: now due {a.due:%Y-%m-%d %H:%M}")
        for a in actions
        for old in a.closes
    ]
    planned_rows.supersede(connection, [*ended, *replaced], now)
    again = dict.fromkeys((a.template, a.row) for a in actions if a.again)
    planned_rows.forget_dates(connection, app, list(again))
    gone = dict.fromkeys((a.template, a.row) for a in actions if a.gone)
    planned_rows.end_lives(connection, app, list(gone))
    # Last: a task that is written from here on stands for the present dates of its row.
    made = [task_columns(a, app, model, now) for a in actions if a.makes]
    planned_rows.plan(connection, made)
    known = [
        (a.task_id, *a.dates)
        for a in actions
        if a.action == "skip" and a.dates is not None
    ]
    planned_rows.remember_dates(connection, known)


def task_columns(action: Action, app: str, model: str, now: datetime) -> dict[str, Any]:
    """The columns of a new task."""
    values: dict[str, Any] = {
        "task_id": action.task_id,
        "app": app,
        "template": action.template,
        "model": model,
        "row_key": action.row,
        "nominal": action.nominal,
        "generation": action.generation,
        "anchor": action.anchor,
        "due": action.due,
        "created": now,
    }
    if action.dates is not None:
        values["start_value"], values["end_value"] = action.dates
    if action.missed:
        values |= {
            "status": "ended",
            "outcome": "missed",
            "message": action.reason,
            "finished": now,
            "dirty": False,
            "returned": True,
        }
    return values
