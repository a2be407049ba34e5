"""Notices: Prefect automations that tell of overdue and failed tasks, through a notification block of the server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import Meta
from jittask_prefect.errors import ArgumentError
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.prefect_api.names import of_app

EVENTS = {
    "failed": ("Failed", "Crashed", "TimedOut"),
    "overdue": ("Late",),
}
"""The kinds of notices, and for each kind the states of a flow run that cause a notice."""
BODY = (
    "{{ flow_run.name }} of {{ deployment.name }} is {{ flow_run.state.name }}"
    "{% if flow_run.state.message %}: {{ flow_run.state.message }}{% endif %}\n"
    "{% set page = flow_run|ui_url or '' %}"
    "{% if '/v2/' in page or 'prefect.cloud' in page %}{{ page }}"
    "{% else %}{{ page|replace('/runs/flow-run/', '/v2/runs/flow-run/') }}{% endif %}"
)
"""Prefect's own filter leads to the pages before V2, where the address of the UI does not say V2."""


def notify(
    app: App, api: PrefectApi, block: str, kinds: tuple[str, ...] = tuple(EVENTS)
) -> list[str]:
    """Set up the notices of an app, or change the present ones. A second call changes nothing.

    Args:
        app: The app.
        api: Prefect.
        block: A notification block as `TYPE/NAME`, e.g. `slack-webhook/ops`.
        kinds: Of `failed` and `overdue`.

    Returns:
        The automations' names.

    Raises:
        ArgumentError: There is no such block on the server.
        PrefectApiError: The server cannot be reached.
    """
    known = api.notification_blocks()
    if block not in known:
        there = ", ".join(sorted(known)) or "none yet; Prefect's page Blocks makes one"
        raise ArgumentError(
            f"block {block!r}; allowed: a notification block of {api.url}: {there}"
        )
    made = []
    for kind in kinds:
        api.keep_automation(automation(app, kind, known[block]))
        made.append(_name(app, kind))
    return made


def silence(app: App, api: PrefectApi) -> list[str]:
    """Remove the notices of an app; the names of the removed."""
    return [
        name
        for name in (_name(app, kind) for kind in EVENTS)
        if api.drop_automation(name)
    ]


def automation(app: App, kind: str, block_id: str) -> dict[str, Any]:
    """The automation's body for the API.

    The automation watches the runs of the app's task Types. The sync runs each minute, and is left out.

    Args:
        app: The app.
        kind: `failed` or `overdue`.
        block_id: The notification block's id.
    """
    types = [name for name, cls in app.types().items() if cls is not Meta]
    trigger: Mapping[str, Any] = {
        "type": "event",
        "posture": "Reactive",
        "expect": [f"prefect.flow-run.{state}" for state in EVENTS[kind]],
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {
            "prefect.resource.role": "tag",
            "prefect.resource.id": [
                f"prefect.tag.{of_app(app.name, name)}" for name in types
            ],
        },
        "for_each": ["prefect.resource.id"],
        "threshold": 1,
        "within": 0,
    }
    action = {
        "type": "send-notification",
        "block_document_id": block_id,
        "subject": f"{_without_jinja(app.title)}: a task {'failed' if kind == 'failed' else 'is overdue'}",
        "body": BODY,
    }
    return {
        "name": _name(app, kind),
        "description": f"{', '.join(EVENTS[kind])} tasks of {app.name}; made by `jittask notify`",
        "enabled": True,
        "trigger": trigger,
        "actions": [action],
    }


def _without_jinja(text: str) -> str:
    """A text without meaning in a Jinja template: braces stand for themselves."""
    return re.sub(r"[{}]", lambda found: "{{ '" + found[0] + "' }}", text)


def _name(app: App, kind: str) -> str:
    return f"jittask {app.name}: {kind}"
