"""App → deployments → prefect.yaml."""

from __future__ import annotations

import logging
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from jittask_prefect.dialogs.forms import DIALOGS
from jittask_prefect.elements.app import App
from jittask_prefect.elements.check import template_problems
from jittask_prefect.elements.types import DateFieldType, Meta
from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.prefect_api import links
from jittask_prefect.prefect_api.markup import md
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.schedule import prefect_schedules, schedule_text
from jittask_prefect.schedule.words import describe

POOL = "jittask"
POOL_KIND = "jittask"
SYNC = "jittask.sync"
QUEUE = "first"
"""The pool's work queue for the sync and the dialogs: they are quick, and come before all that is overdue."""
FLOW_FILE = "jittask_flows.py"
FLOW_TEXT = '''"""The flows that prefect.yaml points at: one for each task Type of this app, and the sync."""

from pathlib import Path

from jittask_prefect import App
from jittask_prefect.running.flows import flows_of

globals().update(flows_of(App(Path(__file__).parent)))
'''
EVERY_MINUTE = {
    "interval": 60,
    "anchor_date": "2020-01-01T00:00:00Z",
    "timezone": "UTC",
}
KEEP_NOW = timedelta(days=30)
log = logging.getLogger("jittask")
_HEADER = re.compile(r"# made by: jittask compile --now (\S+)")


def root_of(app: App) -> Path:
    """The folder that prefect.yaml stands in: the app's parent where ours is there already, else the app folder."""
    beside = app.path.parent / "prefect.yaml"
    return (
        app.path.parent
        if _is_ours(beside) and not (app.path / "prefect.yaml").exists()
        else app.path
    )


def instant_of(app: App, now: datetime) -> datetime:
    """The instant that a file made today is made for.

    Args:
        app: The app.
        now: The present instant.

    Returns:
        The existing file's own while it is younger than 30 days, so that the text changes only with the app;
        else midnight UTC of today.
    """
    recorded = recorded_now(root_of(app) / "prefect.yaml")
    if recorded is not None and timedelta(0) <= now - recorded < KEEP_NOW:
        return recorded
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def recorded_now(file: Path) -> datetime | None:
    """The instant in a file's first line, None where there is none."""
    found = _header(file)
    try:
        when = datetime.fromisoformat(found[1]) if found else None
    except ValueError:
        return None
    return when if when is not None and when.tzinfo else None


def _header(file: Path) -> re.Match[str] | None:
    if not file.is_file():
        return None
    with file.open(encoding="utf-8", errors="replace") as lines:
        return _HEADER.match(lines.readline())


def _is_ours(file: Path) -> bool:
    return _header(file) is not None


def deployments(app: App, now: datetime) -> list[dict[str, Any]]:
    """The app's deployments, in prefect.yaml's form, by name.

    Args:
        app: The app.
        now: The instant that the schedules are made for; they hold for 400 days from there.
    """
    found = []
    for template in sound(app):
        try:
            found.append(deployment(app, template, now))
        except Exception as error:  # noqa: BLE001  a Type of the app's own may raise anything
            log.error(
                "%s is left out: %s: %s", template.fullName, type(error).__name__, error
            )
    sync = _entry(
        app,
        SYNC,
        "jittask_sync",
        "Brings rows and flow runs together, every minute, one at a time.",
        [],
    )
    first = {
        "work_pool": {"name": POOL, "work_queue_name": QUEUE},
        "parameters": {},
        "paused": False,
    }
    sync |= {**first, "schedules": schedule_text.fixed_slots([EVERY_MINUTE])}
    by_hand: dict[str, Any] = {**first, "schedules": []}
    dialogs = [
        _entry(app, dialog.name, dialog.function, dialog.about, []) | by_hand
        for dialog in DIALOGS
    ]
    return [*found, sync, *dialogs]


def sound(app: App) -> list[Meta]:
    """The templates that have no mistake; the others are left to `jittask check`."""
    return [template for template in app.templates() if not template_problems(template)]


def deployment(
    app: App, template: Meta, now: datetime, said: datetime | None = None
) -> dict[str, Any]:
    """A template's deployment, with schedules that hold from `now` on.

    Args:
        app: The app.
        template: One of its templates.
        now: The instant, aware.
        said: What a Type that decides itself said of its next occurrence; it is asked where absent.

    Raises:
        ConfigError: Its rule fits no schedule.
    """
    kind = template.taskType
    entry = _entry(
        app,
        template.fullName,
        kind.partition(".")[2],
        description(template),
        [kind, template.fullName, *template.cfg.tags],
    )
    entry |= {
        "parameters": {"template": template.fullName},
        "paused": not template.enable,
        "schedules": _schedules(template, now, said),
    }
    return entry


def _entry(
    app: App, name: str, flow: str, text: str, tags: list[str]
) -> dict[str, Any]:
    folder = os.path.relpath(app.path, root_of(app))
    file = FLOW_FILE if folder == "." else f"{Path(folder).as_posix()}/{FLOW_FILE}"
    return {
        "name": name,
        "description": text,
        "tags": [app_tag(app.name), *tags],
        "entrypoint": f"{file}:{flow}",
        "work_pool": {"name": POOL},
    }


def following(template: Meta, now: datetime) -> datetime | None:
    """What a Type that decides itself says of its next occurrence; a naive answer is a wall time of the task's zone."""
    said = template.getNextRunTime(None, now)
    return template.local(said) if said is not None else None


def _schedules(
    template: Meta, now: datetime, said: datetime | None
) -> list[dict[str, Any]]:
    if isinstance(template, DateFieldType):
        return schedule_text.fixed_slots([])
    if template.own_times:  # one occurrence at a time
        said = said or following(template, now)
        return (
            prefect_schedules.at_instant(said, template.timer.zone.key)
            if said
            else schedule_text.fixed_slots([])
        )
    return prefect_schedules.schedules(template.timer, now)


def description(template: Meta) -> str:
    """A deployment's description in Markdown: the title, the rule in words, what is called, the filter, and links."""
    cfg = template.cfg
    lines = [f"**{md(template.title)}**", "", describe(template.timer)]
    if isinstance(template, DateFieldType):
        lines[2] = (
            f"One task for each `{template.model_name}`: {lines[2][:1].lower()}{lines[2][1:]}"
        )
        if cfg.filter and not any(
            mark in cfg.filter for mark in ("{{", "}}", "__prefect_kind", "`", "\n")
        ):
            lines += ["", f"Only rows with `{cfg.filter}`."]
    inner = f"`customFunc` in `{template.fullName.replace('.', '/')}/inner.py`"
    lines += ["", f"Calls {f'`{cfg.func}`' if cfg.funcType == 'Global' else inner}."]
    if not template.enable:
        lines += ["", "Disabled."]
    if cfg.description:
        lines += ["", cfg.description]
    lines += ["", links.markdown(template.fullName, template.app.names("tasks"))]
    return "\n".join(lines)


def text(app: App, now: datetime) -> str:
    """prefect.yaml: stable order, the same text for the same app and instant."""
    body = {
        "name": app.name,
        "build": None,
        "push": None,
        "pull": [
            {
                "prefect.deployments.steps.set_working_directory": {
                    "directory": "{{ $PWD }}"
                }
            }
        ],
        "deployments": deployments(app, now),
    }
    header = f"# made by: jittask compile --now {now.isoformat()}\n# from the app folder; edit e.json there, not this file\n"
    return header + yaml.dump(
        body, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000
    )


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _block_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", value, style="|" if "\n" in value else None
    )


_Dumper.add_representer(str, _block_text)


def write(app: App, now: datetime, out: Path | None = None) -> Path:
    """Write prefect.yaml and, where it is missing, the file with the flows; the file's path.

    Raises:
        ConfigError: There is a prefect.yaml that `compile` has not made, and nobody said to write over it with `out`.
    """
    file = out or root_of(app) / "prefect.yaml"
    if out is None and file.exists() and not _is_ours(file):
        allowed = "a file that `jittask compile` made; --out FILE writes another one"
        raise ConfigError(Problem(str(file), "", "a file of somebody else's", allowed))
    made = text(app, now)
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists() or file.read_text(encoding="utf-8") != made:
        spare = file.with_name(f".{file.name}.{os.getpid()}")
        spare.write_text(made, encoding="utf-8")
        spare.replace(file)
    flows = app.path / FLOW_FILE
    if not flows.exists():
        flows.write_text(FLOW_TEXT, encoding="utf-8")
    return file
