"""The deployments of an app: for each task template, for the sync, and for each dialog."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from jittask_prefect.deploying.prefect_folder import root_of
from jittask_prefect.dialogs.forms import DIALOGS, Dialog
from jittask_prefect.elements.app import App
from jittask_prefect.elements.app_name import ENV_APP, ENV_NAME
from jittask_prefect.elements.check import template_problems
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import ArgumentError
from jittask_prefect.ledger.pause import paused_since
from jittask_prefect.prefect_api import links
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.markup import md
from jittask_prefect.prefect_api.names import (
    app_tag,
    first_queue,
    of_app,
    task_queue,
)
from jittask_prefect.schedule import prefect_schedules, schedule_text
from jittask_prefect.schedule.schedule_text import ScheduleSlot
from jittask_prefect.schedule.words import describe

Json = dict[str, Any]
"""An object of JSON."""
POOL = "jittask"
POOL_TYPE = "jittask"
SYNC = "jittask.sync"
FLOW_FILE = "jittask_flows.py"
WORKING_DIRECTORY = "{{ $PWD }}"
"""The folder of prefect.yaml, which `prefect deploy` fills in."""
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
        "row": {**_OPTIONAL_TEXT, "position": 3, "title": "row"},
    },
}
"""The parameters of a task Type's flow, as `prefect deploy` reads them from its signature in `running/flows.py`."""
ROW_FORM: Json = {
    "title": "Parameters",
    "type": "object",
    "properties": {
        "row": {
            "title": "Row",
            "type": "string",
            "minLength": 1,
            "maxLength": 200,
            "position": 0,
            "description": "The row's key, e.g. 42. The task runs once for this row, now, beside the row's own due times.",
        },
    },
    "required": ["row"],
}
"""The Run form of a task of rows, which asks for a row. The flow runs that jittask makes are not checked against the form."""
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
        pool: The work pool, where the deployment is made.
        queue: The work queue, where the deployment is made.
        app_folder: The app's folder, relative to the folder of prefect.yaml.
        app_name: The app's name.
        keeps_pool: Whether a sync restores the pool. Else the choice is the team's.
        keeps_queue: Whether a deploy restores the queue. Else the choice is the team's.
        form: The JSON schema of the parameters; None for a dialog, whose form follows the app's content.
    """

    name: str
    flow: str
    entrypoint: str
    description: str
    tags: list[str]
    pool: str
    queue: str
    app_folder: str
    app_name: str
    parameters: Json = field(default_factory=dict)
    paused: bool = False
    schedules: list[ScheduleSlot] = field(default_factory=list)
    keeps_pool: bool = False
    keeps_queue: bool = False
    form: Json | None = None

    def as_yaml(self) -> Json:
        """The entry in prefect.yaml."""
        return {
            "name": self.name,
            "description": self.description,
            "tags": self.tags,
            "entrypoint": self.entrypoint,
            "work_pool": {
                "name": self.pool,
                "work_queue_name": self.queue,
                "job_variables": self._job_variables(WORKING_DIRECTORY),
            },
            "parameters": self.parameters,
            "paused": self.paused,
            "schedules": self.schedules,
        }

    def as_api(self, root: Path) -> Json:
        """The fields of the API's body that `prefect deploy` fills from the entry in prefect.yaml.

        Args:
            root: The folder of prefect.yaml.
        """
        return {
            "description": self.description,
            "tags": self.tags,
            "entrypoint": self.entrypoint,
            "parameters": self.parameters,
            "paused": self.paused,
            "work_pool_name": self.pool,
            "work_queue_name": self.queue,
            "job_variables": self._job_variables(str(root)),
            "pull_steps": pull_steps(str(root)),
            "schedules": [_api_schedule(slot) for slot in self.schedules],
        }

    def _job_variables(self, root: str) -> Json:
        """The app's folder and name: a worker sets these in the process of a run."""
        folder = root if self.app_folder == "." else f"{root}/{self.app_folder}"
        return {"env": {ENV_APP: folder, ENV_NAME: self.app_name}}


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
            f"if the pool is another app's, name a pool of this app's own with workPool in app.json; if nobody uses the pool, "
            f"`prefect work-pool delete {name}` makes room"
        )


def ensure_queues(app: App, api: Api, pool: str) -> None:
    """Make the app's work queues in a pool, and put that of its short runs in front."""
    api.ensure_queue(pool, first_queue(app.name), first=True)
    api.ensure_queue(pool, task_queue(app.name), first=False)


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
    found, names = [], app.names("tasks")
    for template in sound_templates(app):
        try:
            found.append(of_template_at(template, now, names=names))
        except Exception as error:  # noqa: BLE001  a Type of the app's own may raise anything
            reason = f"{type(error).__name__}: {error}"
            log.error("%s is left out: %s", template.fullName, reason)
    return [*found, _of_sync(app), *(_of_dialog(app, dialog) for dialog in DIALOGS)]


def deployments_now(app: App, now: datetime) -> list[Deployment]:
    """As `deployments`, as the server is to have them: while the app is paused, its schedules rest.

    Args:
        app: The app; its database has a ledger.
        now: The instant from which the schedules hold, aware.
    """
    found = deployments(app, now)
    if paused_since(app) is None:
        return found
    return [d if d.name in own_names() else replace(d, paused=True) for d in found]


def own_names() -> set[str]:
    """The names of the deployments that no template has: the sync's and the dialogs'."""
    return {SYNC, *(dialog.name for dialog in DIALOGS)}


def sound_templates(app: App) -> list[Meta]:
    """The templates without a mistake; `jittask check` lists the mistakes of the others."""
    return [template for template in app.templates() if not template_problems(template)]


def of_template_at(
    template: Meta,
    now: datetime,
    own_next: datetime | None = None,
    names: Collection[str] | None = None,
) -> Deployment:
    """A template's deployment.

    Args:
        template: The template.
        now: The instant from which the schedules hold, aware.
        own_next: The next due time that a Type with own times has said before; absent, the Type is asked.
        names: The full names of all tasks of the app; absent, the folders are read.

    Raises:
        ConfigError: Prefect has no schedule for the rule.
    """
    kind = template.taskType
    app, own_pool = template.app, template.cfg.workPool
    own_tags = [of_app(app.name, name) for name in (kind, template.fullName)]
    return Deployment(
        name=template.fullName,
        flow=of_app(app.name, kind),
        entrypoint=_entrypoint(app, kind.partition(".")[2]),
        description=description(template, names),
        tags=[app_tag(app.name), *own_tags, *template.cfg.tags],
        pool=own_pool or pool_of(app),
        queue=task_queue(app.name),
        app_folder=_app_folder(app),
        app_name=app.name,
        parameters={"template": template.fullName},
        paused=not template.enable,
        schedules=_schedules(template, now, own_next),
        keeps_pool=own_pool is not None,
        form=ROW_FORM if template.rows else TASK_PARAMETERS,
    )


def _of_sync(app: App) -> Deployment:
    about = "Brings rows and flow runs together, every minute, one at a time."
    made = _of_app(app, SYNC, "jittask_sync", about)
    slots = schedule_text.fixed_slots([EVERY_MINUTE])
    return replace(made, schedules=slots, form=NO_PARAMETERS)


def _of_dialog(app: App, dialog: Dialog) -> Deployment:
    about = f"{dialog.about} App: {md(app.title)}."
    return _of_app(app, dialog.name, dialog.function, about)


def _of_app(app: App, name: str, function: str, about: str) -> Deployment:
    """A deployment of the app itself, of no template."""
    return Deployment(
        name=name,
        flow=of_app(app.name, name),
        entrypoint=_entrypoint(app, function),
        description=about,
        tags=[app_tag(app.name)],
        pool=pool_of(app),
        queue=first_queue(app.name),
        app_folder=_app_folder(app),
        app_name=app.name,
        keeps_queue=True,
    )


def pool_of(app: App) -> str:
    """The work pool of an app's deployments, where neither a task nor the team has chosen another pool."""
    return app.cfg.workPool or POOL


def _app_folder(app: App) -> str:
    return Path(os.path.relpath(app.path, root_of(app))).as_posix()


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


def description(template: Meta, names: Collection[str] | None = None) -> str:
    """A deployment's description in Markdown: title, rule, filter, function, and links; `names` as of `of_template_at`."""
    app, cfg = template.app, template.cfg
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
    names = app.names("tasks") if names is None else names
    parts.append(links.markdown(app.name, template.fullName, names))
    return "\n\n".join(parts)


def _function_text(template: Meta) -> str:
    """The function that a template calls, with its file."""
    if template.declared is not None:
        return f"`{template.declared.function_name}` in `{template.declared.file}`"
    if template.cfg.funcType == "Global":
        return f"`{template.cfg.func}`"

    return f"`customFunc` in `{template.fullName.replace('.', '/')}/inner.py`"
