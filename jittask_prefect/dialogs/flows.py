"""The dialogs as flows: what a form says is done, or the run fails with the reason, and nothing is written."""

from __future__ import annotations

import asyncio
import fcntl
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.context import FlowRunContext
from prefect.runtime import flow_run as runtime
from prefect.states import Completed, Failed

from jittask_prefect.dialogs.actions import Actions
from jittask_prefect.dialogs.fields import signed
from jittask_prefect.dialogs.forms import DIALOGS, Dialog, form
from jittask_prefect.dialogs.submit import Done, submit
from jittask_prefect.elements.app import App
from jittask_prefect.errors import ConfigError, JittaskError, OutdatedForm
from jittask_prefect.prefect_api.client import Api
from jittask_prefect.prefect_api.names import prefect_name
from jittask_prefect.schedule import clock
from jittask_prefect.server.selection import connect

ActionsOf = Callable[[App, Api], Actions]
NAMES = tuple(dialog.name for dialog in DIALOGS)  # of their deployments


def flows_of(app: App, storage: Path | None, actions_of: ActionsOf) -> dict[str, Any]:
    """The dialogs' flows, by the name that an entrypoint uses.

    Args:
        app: The app.
        storage: Where results would lie.
        actions_of: Makes the actions of the forms for a Prefect server.
    """
    return {
        dialog.function: _flow(app, dialog, storage, actions_of) for dialog in DIALOGS
    }


def _flow(app: App, dialog: Dialog, storage: Path | None, actions_of: ActionsOf) -> Any:
    async def run(**said: Any) -> Any:
        logger = get_run_logger()
        context = FlowRunContext.get()
        run_id = str(context.flow_run.id) if context and context.flow_run else ""
        try:
            done = await asyncio.to_thread(
                _submit, app, dialog.name, said, run_id, actions_of
            )
        except ConfigError as error:
            for problem in error.problems:
                logger.error("%s", problem)
            return Failed(message=f"refused: {error}"[:2000])
        except JittaskError as error:
            logger.error("%s", error)
            return Failed(message=f"refused: {error}"[:2000])
        if done.failed:
            logger.error("%s", done.said)
            return Failed(message=done.said[:2000])
        logger.info("%s", done.said)
        return Completed(message=done.said)

    run.__name__ = run.__qualname__ = dialog.function
    run.__doc__ = dialog.about
    fields: Callable[..., Any] = signed(run, form(app, dialog.name, None))
    options: dict[str, Any] = {
        "validate_parameters": False,
        "persist_result": False,
        "result_storage": storage,
    }
    return flow(name=dialog.name, flow_run_name=lambda: _name(dialog), **options)(
        fields
    )


def _name(dialog: Dialog) -> str:
    """A flow run's name, instead of the random one that the UI proposes: what it was about."""
    about = (
        runtime.parameters.get("title")
        or runtime.parameters.get("task")
        or runtime.parameters.get("taskId")
        or ""
    )
    what = dialog.name.partition(".")[2].replace("-", " ")
    return prefect_name(
        f"{what} · {about}" if isinstance(about, str) and about else what
    )


def _submit(
    app: App, dialog: str, said: dict[str, Any], run_id: str, actions_of: ActionsOf
) -> Done:
    api = connect(app.path)
    try:
        with _one_at_a_time(app.path):
            done = submit(app, api, actions_of(app, api), dialog, said, clock.now())
    except OutdatedForm as error:
        _show(api, str(said.get("task")), error.page, "An outdated form", run_id)
        raise
    if done.page:
        _show(api, done.name, done.page, done.said, run_id)
    return done


def _show(api: Api, name: str, page: str, said: str, run_id: str) -> None:
    key = "dialog-" + re.sub("[^a-z0-9]+", "-", name.lower()) if name else "dialog"
    api.put_markdown(key, page, said, run_id=run_id or None)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Two forms that are submitted at once would write one prefect.yaml."""
    (folder / ".jittask").mkdir(mode=0o700, exist_ok=True)
    with (folder / ".jittask" / "dialog.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
