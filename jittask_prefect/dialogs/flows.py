"""The dialogs as flows: a run carries out its form, or fails with the reason and has written nothing."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.context import FlowRunContext
from prefect.runtime import flow_run as runtime
from prefect.states import Completed, Failed

from jittask_prefect.dialogs.actions import Actions
from jittask_prefect.dialogs.fields import Form, signed
from jittask_prefect.dialogs.forms import DIALOGS, Dialog, form, parameters
from jittask_prefect.dialogs.options import clean_title
from jittask_prefect.dialogs.result import Result
from jittask_prefect.dialogs.submit import submit
from jittask_prefect.elements.app import App
from jittask_prefect.errors import (
    ConfigError,
    JittaskError,
    OutdatedForm,
    PrefectApiError,
)
from jittask_prefect.ledger.guard import connect
from jittask_prefect.prefect_api import links
from jittask_prefect.prefect_api.answers import LogLine
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.flow_names import refuse_foreign
from jittask_prefect.prefect_api.names import app_slug, of_app, prefect_name, slug
from jittask_prefect.schedule import clock

ActionsFor = Callable[[App, Api, str | None], Actions]
NAMES = tuple(dialog.name for dialog in DIALOGS)
"""The names of the dialogs' deployments."""
MAX_MESSAGE = 2000
AWAY_SECONDS, LOOK_SECONDS = 480.0, 2.0
"""How long a form whose server went away waits for its return, at most; and between two looks. A sync calls a dialog dead after 10 minutes."""
LONGEST_LINK = 300
"""Characters of an address in the log; longer ones stand on the page only."""


def flows_of(app: App, storage: Path | None, actions_for: ActionsFor) -> dict[str, Any]:
    """The dialogs' flows, by the name that an entrypoint uses.

    Args:
        app: The app.
        storage: The folder of Prefect's results.
        actions_for: Makes the actions of a form for a Prefect server and the form's flow run.
    """
    flows = {}
    for dialog in DIALOGS:
        fields = form(app, dialog.name, None)
        function = signed(
            _function(app, dialog, actions_for), parameters(dialog.name, fields)
        )
        flows[dialog.function] = flow(
            name=of_app(app.name, dialog.name),
            flow_run_name=lambda dialog=dialog: _run_name(dialog),
            validate_parameters=False,
            persist_result=False,
            result_storage=storage,
        )(function)
    return flows


def _function(app: App, dialog: Dialog, actions_for: ActionsFor) -> Callable[..., Any]:
    async def run(**values: Any) -> Any:
        context = FlowRunContext.get()
        this = context.flow_run if context else None
        run_id = str(this.id) if this else None
        try:
            if this is not None:
                own = of_app(app.name, dialog.name)
                api = await asyncio.to_thread(connect, app)
                await asyncio.to_thread(refuse_foreign, api, str(this.flow_id), own)
            result = await asyncio.to_thread(
                _submit, app, actions_for, dialog, values, run_id
            )
        except JittaskError as error:
            problems = error.problems if isinstance(error, ConfigError) else [error]
            await _log(app, run_id, logging.ERROR, map(str, problems))
            return Failed(message=f"refused: {error}"[:MAX_MESSAGE])
        if result.failed:
            await _log(app, run_id, logging.ERROR, [result.message])
            return Failed(message=result.message[:MAX_MESSAGE])
        to = (f"{text}: {link}" for text, link in result.links.items())
        await _log(app, run_id, logging.INFO, [result.message, *result.notes, *to])
        return Completed(message=result.message)

    run.__name__ = run.__qualname__ = dialog.function
    run.__doc__ = dialog.about
    return run


async def _log(app: App, run_id: str | None, level: int, texts: Iterable[str]) -> None:
    """Log the answer to a form, so that its page shows the answer as soon as the run has ended.

    Prefect's UI asks for the log of an ended run once. Prefect's own logging sends lines up to two seconds later.
    """
    logger, lines = get_run_logger(), [LogLine(t, level, clock.now()) for t in texts]
    sent = False
    if run_id is not None:
        try:
            await asyncio.to_thread(_send, app, run_id, lines)
            sent = True
        except JittaskError:
            pass  # Prefect's logging tries again
    for line in lines:
        logger.log(level, "%s", line.message, extra={"send_to_api": not sent})


def _send(app: App, run_id: str, lines: Sequence[LogLine]) -> None:
    connect(app).add_logs(run_id, lines)


def _run_name(dialog: Dialog) -> str:
    """A flow run's name: the dialog and its subject, instead of random words."""
    values = runtime.parameters
    found = (values.get(name) for name in ("title", "task", "taskId"))
    subject = next(filter(None, found), "")
    action = dialog.name.partition(".")[2].replace("-", " ")
    named = isinstance(subject, str) and subject
    return prefect_name(f"{action} · {clean_title(subject)}" if named else action)


def _submit(
    app: App,
    actions_for: ActionsFor,
    dialog: Dialog,
    values: Form,
    run_id: str | None,
) -> Result:
    """Carry out a form, and keep its page as an artifact of the run."""
    api = connect(app)

    def keep_page(task: str, page: str, about: str) -> str:
        key = f"dialog-{app_slug(app.name)}"
        if task:
            key += f"--{slug(task)}"
        return api.put_markdown(key, page, about, run_id=run_id)

    actions = actions_for(app, api, run_id)
    try:
        with one_at_a_time(app.path):
            result = submit(app, api, actions, dialog.name, values, clock.now())
    except OutdatedForm as error:
        keep_page(str(values.get("task")), error.page, "An outdated form")
        raise
    except PrefectApiError:
        wait_for_server(api)
        raise
    if result.failed:
        wait_for_server(api)
    if not result.page:
        return result
    page = keep_page(result.name, result.page, result.message)
    preview = links.artifact(page, links.base(api.ui_url))
    short = {t: to for t, to in result.links.items() if len(to) <= LONGEST_LINK}
    return replace(result, links={"Preview": preview, **short})


def wait_for_server(api: Api) -> None:
    """Wait for a server that went away: the form's end must reach it, or nobody hears what is left to do."""
    until = time.monotonic() + AWAY_SECONDS
    while time.monotonic() < until:
        try:
            api.ping()
            return
        except PrefectApiError:
            time.sleep(LOOK_SECONDS)


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """A lock on an app's folder: two forms at once would write the same prefect.yaml."""
    (folder / ".jittask").mkdir(mode=0o700, exist_ok=True)
    with (folder / ".jittask" / "dialog.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
