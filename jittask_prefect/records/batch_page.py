"""The page of a row that shares a flow run: its task run, where the batch has shown the row, else the batch's flow run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.ledger.tables import entries, of_app
from jittask_prefect.prefect_api import links
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.names import LONGEST_RUN, prefect_name
from jittask_prefect.records.ledgers import connections, databases_of
from jittask_prefect.rows.flow_runs import PART, row_name


def page_in_batch(
    api: Api, template: DateFieldType, key: str, where: Sequence[Any]
) -> str | None:
    """The page of the newest task of a row; None where that task has a flow run of its own, or no flow run yet.

    Args:
        api: Prefect.
        template: The template.
        key: The row's key.
        where: Further conditions on the ledger's entries.

    Raises:
        PrefectApiError: Prefect cannot be reached.
    """
    run_id = _batch_run(template, where)
    if run_id is None:
        return None
    at = links.base(api.ui_url)
    task_run = _shown(template, key, api.task_runs(run_id))
    return links.task_run(task_run, at) if task_run else links.run(run_id, at)


def _batch_run(template: DateFieldType, where: Sequence[Any]) -> str | None:
    c = entries.c
    query = select(c.flow_run_id, c.batch).where(
        of_app(template.app.name), c.flow_run_id.is_not(None), *where
    )
    newest = query.order_by(c.due.desc(), c.generation.desc()).limit(1)
    for _, connection in connections(template.app, databases_of(template)):
        if (found := connection.execute(newest).first()) is not None:
            return str(found.flow_run_id) if found.batch is not None else None
    return None


def _shown(template: DateFieldType, key: str, names: dict[str, str]) -> str | None:
    """The last task run of a row, by its name: the row's label may have changed since."""
    own = prefect_name(row_name(template.model_name, key), LONGEST_RUN)
    mine = [
        run
        for run, name in names.items()
        if f"{name}{PART}".startswith(f"{own}{PART}")
        or f"({own}){PART}" in f"{name}{PART}"
    ]
    return mine[-1] if mine else None
