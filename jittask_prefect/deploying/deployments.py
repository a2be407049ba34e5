"""The deployments of an app: for each task template, for the sync, and for each dialog."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from jittask_prefect.deploying.prefect_folder import root_of
from jittask_prefect.dialogs.forms import DIALOGS, Dialog
from jittask_prefect.elements.app import App
from jittask_prefect.elements.check import template_problems
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import ArgumentError
from jittask_prefect.prefect_api import links
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.markup import md
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.schedule import prefect_schedules, schedule_text
from jittask_prefect.schedule.schedule_text import ScheduleSlot
from jittask_prefect.schedule.words import describe

Json = dict[str, Any]
"""An object of JSON."""
POOL = "jittask"
POOL_TYPE = "jittask"
SYNC = "jittask.sync"
QUEUE = "first"
"""The work queue of the sync and the dialogs. Their short runs come before all overdue tasks."""
FLOW_FILE = "jittask_flows.py"
EVERY_MINUTE = {
    "interval": 60,
    "anchor_date": "2020-01-01T00:00:00Z",
    "timezone": "UTC",
}
_OPTIONAL_TEXT = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
TASK_PARAMETERS: Json = {
    "title": "Parameters",
    "type": "object",
    "properties": {
        "template": {
            "default": "",
            "position": 0,
            "title": "template",
            "type": "string",
        },
        "taskId": {**_OPTIONAL_TEXT, "position": 1, "title": "taskId"},
        "due": {**_OPTIONAL_TEXT, "position": 2, "title": "due"},
    },
}
"""The parameters of a task Type's flow, as `prefect deploy` reads them from its signature in `running/flows.py`."""
NO_PARAMETERS = {"title": "Parameters", "type": "object", "properties": {}}
log = logging.getLogger("jittask")


@dataclass(frozen=True)
class Deployment:
    """A deployment as the app wants it.

    Attributes:
        name: The deployment's name: the template's full name, `jittask.sync`, or a dialog's name.
        flow: The name of its flow.
        entrypoint: The flow's place: the file, relative to the folder of prefect.yaml, and its function.
        description: Markdown.
        tags: Tags; the app's own is among them.
        parameters: The parameters of scheduled runs.
        paused: Whether the schedules rest.
        schedules: The schedules in prefect.yaml's form.
        queue: The work queue; None leaves the choice to the team.
        form: The JSON schema of the parameters; None for a dialog, whose form follows the app's content.
    """

    name: str
    flow: str
    entrypoint: str
    description: str
    tags: list[str]
    parameters: Json = field(default_factory=dict)
    paused: bool = False
    schedules: list[ScheduleSlot] = field(default_factory=list)
    queue: str | None = None
    form: Json | None = None

    def as_yaml(self) -> Json:
        """The entry in prefect.yaml."""
        queue = {"work_queue_name": self.queue} if self.queue else {}
        return {
            "name": self.name,
            "description": self.description,
            "tags": self.tags,
            "entrypoint": self.entrypoint,
            "work_pool": {"name": POOL, **queue},
            "parameters": self.parameters,
            "paused": self.paused,
            "schedules": self.schedules,
        }

    def as_api(self, root: Path) -> Json:
        """The fields of the API's body that `prefect deploy` fills from the entry in prefect.yaml.

        Args:
            root: The folder of prefect.yaml.
        """
        queue = {"work_queue_name": self.queue} if self.queue else {}
        return {
            "description": self.description,
            "tags": self.tags,
            "entrypoint": self.entrypoint,
            "parameters": self.parameters,
            "paused": self.paused,
            "work_pool_name": POOL,
            **queue,
            "pull_steps": pull_steps(str(root)),
            "schedules": [_api_schedule(slot) for slot in self.schedules],
        }


def ensure_work_pool(api: Api, name: str | None = None) -> None:
    """Make the work pool where it is missing.

    Args:
        api: Prefect.
        name: The pool's name; absent, the pool of the app's deployments.

    Raises:
        ArgumentError: There is a pool of that name with another type, which Prefect does not change.
    """
    name = name or POOL
    kind = api.ensure_pool(name, POOL_TYPE)
    if kind != POOL_TYPE:
        raise ArgumentError(
            f"the work pool {name!r} is of type {kind}; allowed: {POOL_TYPE}. "
            f"`prefect worker start --pool {name}` runs a worker of that type, "
            f"`prefect work-pool delete {name}` makes room for a pool of type {POOL_TYPE}"
        )


def pull_steps(folder: str) -> list[Json]:
    """The steps before a run: the process works in a folder."""
    step = "prefect.deployments.steps.set_working_directory"
    return [{step: {"directory": folder}}]


def _api_schedule(slot: ScheduleSlot) -> Json:
    rule = {
        name: slot[name]
        for name in ("rrule", "interval", "anchor_date", "timezone")
        if name in slot
    }
    return {
        "slug": slot["slug"],
        "active": slot["active"],
        "schedule": rule,
        "parameters": {},
    }


def deployments(app: App, now: datetime) -> list[Deployment]:
    """The deployments of an app: the templates' by name, the sync's, the dialogs'.

    Args:
        app: The app.
        now: The instant from which the schedules hold, aware. They hold for 400 days.
    """
    found = []
    for template in sound_templates(app):
        try:
            found.append(of_template_at(template, now))
        except Exception as error:  # noqa: BLE001  a Type of the app's own may raise anything
            reason = f"{type(error).__name__}: {error}"
            log.error("%s is left out: %s", template.fullName, reason)
    return [*found, _of_sync(app), *(_of_dialog(app, dialog) for dialog in DIALOGS)]


def sound_templates(app: App) -> list[Meta]:
    """The templates without a mistake; `jittask check` tells of the others."""
    return [template for template in app.templates() if not template_problems(template)]


def of_template_at(
    template: Meta, now: datetime, own_next: datetime | None = None
) -> Deployment:
    """A template's deployment.

    Args:
        template: The template.
        now: The instant from which the schedules hold, aware.
        own_next: The next due time that a Type with own times has said before; absent, the Type is asked.

    Raises:
        ConfigError: Prefect has no schedule for the rule.
    """
    kind = template.taskType
    return Deployment(
        name=template.fullName,
        flow=kind,
        entrypoint=_entrypoint(template.app, kind.partition(".")[2]),
        description=description(template),
        tags=_tags(template.app, kind, template.fullName, *template.cfg.tags),
        parameters={"template": template.fullName},
        paused=not template.enable,
        schedules=_schedules(template, now, own_next),
        form=TASK_PARAMETERS,
    )


def _of_sync(app: App) -> Deployment:
    return Deployment(
        name=SYNC,
        flow=SYNC,
        entrypoint=_entrypoint(app, "jittask_sync"),
        description="Brings rows and flow runs together, every minute, one at a time.",
        tags=_tags(app),
        schedules=schedule_text.fixed_slots([EVERY_MINUTE]),
        queue=QUEUE,
        form=NO_PARAMETERS,
    )


def _of_dialog(app: App, dialog: Dialog) -> Deployment:
    return Deployment(
        name=dialog.name,
        flow=dialog.name,
        entrypoint=_entrypoint(app, dialog.function),
        description=dialog.about,
        tags=_tags(app),
        queue=QUEUE,
    )


def _tags(app: App, *more: str) -> list[str]:
    return [app_tag(app.name), *more]


def _entrypoint(app: App, function: str) -> str:
    folder = Path(os.path.relpath(app.place.generated, root_of(app)))
    return f"{(folder / FLOW_FILE).as_posix()}:{function}"


def own_next_time(template: Meta, now: datetime) -> datetime | None:
    """The next due time that a Type with own times says; a naive answer is a wall time of the task's zone."""
    due = template.getNextRunTime(None, now)
    return template.local(due) if due is not None else None


def _schedules(
    template: Meta, now: datetime, own_next: datetime | None
) -> list[ScheduleSlot]:
    if isinstance(template, DateFieldType):
        return schedule_text.fixed_slots([])
    if not template.own_times:
        return prefect_schedules.schedules(template.timer, now)
    due = own_next or own_next_time(template, now)
    if due is None:
        return schedule_text.fixed_slots([])
    return prefect_schedules.at_instant(due, template.timer.zone.key)


def description(template: Meta) -> str:
    """A deployment's description in Markdown: title, rule, filter, function, and links."""
    cfg = template.cfg
    rule = "By code only." if template.by_code else describe(template.timer)
    parts = [f"**{md(template.title)}**", rule]
    if isinstance(template, DateFieldType):
        parts[1] = (
            f"One task for each `{template.model_name}`: {rule[:1].lower()}{rule[1:]}"
        )
        unsafe = ("{{", "}}", "__prefect_kind", "`", "\n")
        if cfg.filter and not any(mark in cfg.filter for mark in unsafe):
            parts.append(f"Only rows with `{cfg.filter}`.")
    parts.append(f"Calls {_function_text(template)}.")
    if not template.enable:
        parts.append("Disabled.")
    if cfg.description:
        parts.append(cfg.description)
    parts.append(links.markdown(template.fullName, template.app.names("tasks")))
    return "\n\n".join(parts)


def _function_text(template: Meta) -> str:
    """The function that a template calls, with its file."""
    if template.declared is not None:
        return f"`{template.declared.function_name}` in `{template.declared.file}`"
    if template.cfg.funcType == "Global":
        return f"`{template.cfg.func}`"

    return f"`customFunc` in `{template.fullName.replace('.', '/')}/inner.py`"
