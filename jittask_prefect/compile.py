"""App → deployments → prefect.yaml, and what on a server differs from it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from .elements.app import App
from .elements.check import of_template
from .elements.types import DateFieldType, Meta
from .errors import ConfigError, PrefectApiError, Problem
from .prefect_api import Api
from .rows.sync import app_tag
from .schedule import rules
from .schedule.words import describe

POOL = "jittask"
POOL_KIND = "process"
SYNC = "jittask.sync"
FLOW_FILE = "jittask_flows.py"
FLOW_TEXT = '''"""The flows that prefect.yaml points at: one for each task Type of this app, and the sync."""

from pathlib import Path

from jittask_prefect import App
from jittask_prefect.running.flows import flows_of

globals().update(flows_of(App(Path(__file__).parent)))
'''
EVERY_MINUTE = {"interval": 60, "anchor_date": "2020-01-01T00:00:00Z", "timezone": "UTC"}
KEEP_NOW = timedelta(days=30)
_HEADER = re.compile(r"# made by: jittask compile --now (\S+)")


def root_of(app: App) -> Path:
    """The folder that prefect.yaml stands in: the app's parent where ours is there already, else the app folder."""
    beside = app.path.parent / "prefect.yaml"
    return app.path.parent if _is_ours(beside) and not (app.path / "prefect.yaml").exists() else app.path


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
    found = [_deployment(app, template, now) for template in sound(app)]
    sync = _entry(app, SYNC, "jittask_sync", "Brings rows and flow runs together, every minute, one at a time.", [])
    sync |= {"parameters": {}, "paused": False, "schedules": rules.fixed_slots([EVERY_MINUTE])}
    return [*found, sync]


def sound(app: App) -> list[Meta]:
    """The templates that have no mistake; the others are left to `jittask check`."""
    return [template for template in app.templates() if not of_template(template)]


def _deployment(app: App, template: Meta, now: datetime) -> dict[str, Any]:
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
        "schedules": _schedules(template, now),
    }
    return entry


def _entry(app: App, name: str, flow: str, text: str, tags: list[str]) -> dict[str, Any]:
    folder = os.path.relpath(app.path, root_of(app))
    file = FLOW_FILE if folder == "." else f"{Path(folder).as_posix()}/{FLOW_FILE}"
    return {
        "name": name,
        "description": text,
        "tags": [app_tag(app), *tags],
        "entrypoint": f"{file}:{flow}",
        "work_pool": {"name": POOL},
    }


def _schedules(template: Meta, now: datetime) -> list[dict[str, Any]]:
    if isinstance(template, DateFieldType):
        return rules.fixed_slots([])
    if type(template).getNextRunTime is not Meta.getNextRunTime:
        # The Type decides when: one occurrence at a time.
        following = template.getNextRunTime(None, now)
        return rules.once(following, template.timer.zone.key) if following else rules.fixed_slots([])
    return rules.schedules(template.timer, now)


def description(template: Meta) -> str:
    """A deployment's description in Markdown: the title, the rule in words, what is called, and the filter."""
    cfg = template.cfg
    lines = [f"**{template.title}**", "", describe(template.timer)]
    if isinstance(template, DateFieldType):
        lines[2] = f"One task for each `{template.model_name}`: {lines[2][:1].lower()}{lines[2][1:]}"
        if cfg.filter and not any(mark in cfg.filter for mark in ("{{", "}}", "__prefect_kind", "`", "\n")):
            lines += ["", f"Only rows with `{cfg.filter}`."]
    inner = f"`customFunc` in `{template.fullName.replace('.', '/')}/inner.py`"
    lines += ["", f"Calls {f'`{cfg.func}`' if cfg.funcType == 'Global' else inner}."]
    if not template.enable:
        lines += ["", "Disabled."]
    if cfg.description:
        lines += ["", cfg.description]
    return "\n".join(lines)


def text(app: App, now: datetime) -> str:
    """prefect.yaml: stable order, the same text for the same app and instant."""
    body = {
        "name": app.name,
        "build": None,
        "push": None,
        "pull": [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $PWD }}"}}],
        "deployments": deployments(app, now),
    }
    header = (
        f"# made by: jittask compile --now {now.isoformat()}\n# from the app folder; edit e.json there, not this file\n"
    )
    return header + yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _block_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


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


# A server


@dataclass
class Deployed:
    """What `deploy` did, by names of deployments; `leftover` ones have no template any more."""

    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    leftover: list[str] = field(default_factory=list)


def deploy(app: App, api: Api, now: datetime, *, prune: bool = False) -> Deployed:
    """Compile, and bring the server's deployments to it, touching only what differs.

    Args:
        app: The app.
        api: Prefect.
        now: The present instant.
        prune: Remove deployments whose template is gone.

    Raises:
        PrefectApiError: The server cannot be reached or refuses.
        ConfigError: A deployment of that name belongs to another app.
    """
    api.ping()
    file = write(app, instant_of(app, now))
    wanted = {d["name"]: d for d in yaml.safe_load(file.read_text(encoding="utf-8"))["deployments"]}
    api.ensure_pool(POOL, POOL_KIND)
    there = api.deployments(app_tag(app))
    done = Deployed()
    for name, entry in wanted.items():
        (done.changed if name not in there or differs(entry, there[name], root_of(app)) else done.unchanged).append(
            name
        )
    if done.changed:
        _refuse_foreign(app, api, done.changed)
        api.deploy(file, done.changed)
        there = api.deployments(app_tag(app))
        missing = [name for name in done.changed if name not in there]
        if missing:
            raise PrefectApiError(f"`prefect deploy` left out {', '.join(missing)}")
        for name in done.changed:
            if wanted[name]["paused"]:
                continue  # filling does not ask whether it is
            # Prefect drops future runs at every deploy and makes them again up to a minute later: make them now.
            # A minute's sync that is over needs no run.
            api.fill_schedule(there[name]["id"], now if name == SYNC else now - timedelta(minutes=1))
    broken = set(app.names("tasks")) - set(wanted)  # its folder is there: a slip in it must not cost its runs
    for name in sorted(set(there) - set(wanted) - broken):
        if prune:
            api.delete_deployment(there[name]["id"])
            done.removed.append(name)
        else:
            done.leftover.append(name)
    return done


def _refuse_foreign(app: App, api: Api, names: list[str]) -> None:
    for name, found in api.named(names).items():
        if app_tag(app) not in found.get("tags", []):
            owner = next((t for t in found["tags"] if t.startswith("app:")), "something else")
            raise ConfigError(
                Problem(
                    "prefect.yaml",
                    name,
                    f"a deployment of that name that belongs to {owner}",
                    "a server, or a name, of its own",
                )
            )


def differs(wanted: Mapping[str, Any], there: Mapping[str, Any], root: Path) -> bool:
    """Whether a server's deployment is not what prefect.yaml says."""
    pull = [{"prefect.deployments.steps.set_working_directory": {"directory": str(root)}}]
    pairs = [
        (wanted["description"].strip(), (there.get("description") or "").strip()),
        (sorted(wanted["tags"]), sorted(there.get("tags") or [])),
        (wanted["entrypoint"], there.get("entrypoint")),
        (wanted["parameters"], there.get("parameters")),
        (wanted["paused"], there.get("paused")),
        (wanted["work_pool"]["name"], there.get("work_pool_name")),
        (pull, there.get("pull_steps")),
        (
            sorted(map(_plain, wanted["schedules"]), key=str),
            sorted(map(_plain_api, there.get("schedules") or []), key=str),
        ),
    ]
    return any(a != b for a, b in pairs)


def _plain(slot: Mapping[str, Any]) -> tuple[Any, ...]:
    anchor = slot.get("anchor_date")
    when = datetime.fromisoformat(str(anchor)) if anchor else None
    seconds = slot.get("interval")
    return (
        slot["slug"],
        slot["active"],
        slot.get("rrule"),
        float(seconds) if seconds else None,
        when,
        slot["timezone"],
    )


def _plain_api(slot: Mapping[str, Any]) -> tuple[Any, ...]:
    return _plain(
        {"slug": slot.get("slug"), "active": slot.get("active"), "timezone": None, **slot.get("schedule", {})}
    )
