"""A server's deployments: brought to what the templates say.

A change is made in place: a PATCH that names the slots which differ, so that their ids stay, and with them the keys of
the runs that they made. Prefect deletes a deployment's future runs with each change; they are made again at once, from
before the change on, and a run that exists already is not made twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from jittask_prefect.deploying import compile
from jittask_prefect.dialogs.forms import DIALOGS, schemas
from jittask_prefect.elements.app import App
from jittask_prefect.errors import ConfigError, PrefectApiError, Problem
from jittask_prefect.prefect_api.client import Api
from jittask_prefect.prefect_api.names import app_tag
from jittask_prefect.schedule.schedule_text import SLUGS

FIELDS = (
    "description", "tags", "entrypoint", "parameters", "paused", "work_pool_name", "work_queue_name", "pull_steps",
    "schedules",
)  # fmt: skip
OUTER = ("slug", "active", "parameters")
KEPT = ("description", "tags", "parameters", "paused", "schedules")
"""What a sync restores. Where a deployment runs is the team's to choose, in the UI too."""

Deployment = Mapping[str, Any]


@dataclass
class Deployed:
    """What `deploy` did, by names of deployments; `leftover` ones have no template any more."""

    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    leftover: list[str] = field(default_factory=list)


def deploy(
    app: App,
    api: Api,
    now: datetime,
    *,
    prune: bool = False,
    only: Collection[str] | None = None,
) -> Deployed:
    """Compile, and bring the server's deployments to it, touching only what differs.

    Args:
        app: The app.
        api: Prefect.
        now: The present instant.
        prune: Remove deployments whose template is gone.
        only: Leave all others as they are.

    Raises:
        PrefectApiError: The server cannot be reached or refuses.
        ConfigError: A deployment of that name belongs to another app.
    """
    api.ping()
    file = compile.write(app, compile.instant_of(app, now))
    written = {
        d["name"]: d
        for d in yaml.safe_load(file.read_text(encoding="utf-8"))["deployments"]
    }
    wanted = {
        d["name"]: d
        for d in compile.deployments(app, now)
        if only is None or d["name"] in only
    }
    api.ensure_pool(compile.POOL, compile.POOL_KIND)
    api.ensure_queue(compile.POOL, compile.QUEUE)
    there = present(app, api, wanted)
    root, done = compile.root_of(app), Deployed()
    for name, entry in wanted.items():
        # The file may be some days old: its schedules hold as well.
        same = name in there and any(
            not differences(e, there[name], root)
            for e in (written.get(name, entry), entry)
        )
        (done.unchanged if same else done.changed).append(name)
    there = _deploy_new(
        app, api, file, {name: wanted[name] for name in done.changed}, there
    )
    for name in done.changed:
        bring(api, wanted[name], there[name], root)
        if (
            wanted[name]["schedules"] and not wanted[name]["paused"]
        ):  # filling does not ask whether it is
            api.fill_schedule(there[name]["id"], now)
    fill_forms(app, api, there, now)
    if only is not None:
        return done
    # A broken one's folder is there: a slip in it must not cost its runs.
    for name in sorted(
        name
        for name in set(there) - set(wanted)
        if not name.startswith("tasks.") or app.gone(name)
    ):
        if prune:
            api.delete_deployment(there[name]["id"])
            done.removed.append(name)
        else:
            done.leftover.append(name)
    return done


def fill_forms(app: App, api: Api, there: Mapping[str, Any], now: datetime) -> None:
    """Give the dialogs' forms their titles, and what the app has now in the drop-downs.

    `prefect deploy` makes a form from the flow's signature only.

    Args:
        app: The app.
        api: Prefect.
        there: The deployments on the server.
        now: The present instant.
    """
    for name, wanted in (
        schemas(app, now).items()
        if any(dialog.name in there for dialog in DIALOGS)
        else ()
    ):
        if name in there and there[name].get("parameter_openapi_schema") != wanted:
            api.change_deployment(
                there[name]["id"], {"parameter_openapi_schema": wanted}
            )


def _deploy_new(
    app: App,
    api: Api,
    file: Path,
    wanted: Mapping[str, Deployment],
    there: Mapping[str, Deployment],
) -> dict[str, Any]:
    """`prefect deploy` of what is not there, or of another flow, which no PATCH changes; then all that is there."""
    new = [
        name
        for name, e in wanted.items()
        if name not in there or e["entrypoint"] != there[name].get("entrypoint")
    ]
    if not new:
        return dict(there)
    dialogs = {dialog.name for dialog in DIALOGS}
    if rest := [name for name in new if name not in dialogs]:
        api.deploy(file, rest)
    for name in dialogs & set(
        new
    ):  # without a schedule there is nothing that only `prefect deploy` does
        api.make_deployment(name, {**of_file(wanted[name], file.parent), "name": name})
    found = {
        **there,
        **api.deployments(app_tag(app.name)),
    }  # those whose tag was taken away are found by name only
    if missing := [name for name in new if name not in found]:
        raise PrefectApiError(f"`prefect deploy` left out {', '.join(missing)}")
    for name in set(new) & set(there):
        if (
            found[name]["id"] != there[name]["id"]
        ):  # of another Type, that is of another flow: the old one would go on
            api.delete_deployment(there[name]["id"])
    return found


def present(app: App, api: Api, wanted: Mapping[str, Deployment]) -> dict[str, Any]:
    """The app's deployments on the server, those that somebody took our tag from among them.

    Raises:
        PrefectApiError: The server cannot be reached.
        ConfigError: A deployment of a wanted name belongs to another app, or to nobody we know.
    """
    there = api.deployments(app_tag(app.name))
    absent = [name for name in wanted if name not in there]
    for name, found in api.named(absent).items() if absent else ():
        owner = next(
            (tag for tag in found["tags"] if tag.startswith("app:")), "something else"
        )
        if (
            owner != "something else"
            or found.get("entrypoint") != wanted[name]["entrypoint"]
        ):
            told = f"a deployment of that name that belongs to {owner}"
            raise ConfigError(
                Problem("prefect.yaml", name, told, "a server, or a name, of its own")
            )
        there[name] = found
    return there


# What differs, and putting it right


def differences(wanted: Deployment, there: Deployment, root: Path) -> list[str]:
    """The names of what a server's deployment has otherwise than prefect.yaml says.

    Args:
        wanted: The deployment as `compile.deployments` gives it.
        there: As the API gives it.
        root: The folder that prefect.yaml stands in.
    """
    want, have = of_file(wanted, root), of_server(there)
    return [name for name in want if want[name] != have[name]]


def of_file(entry: Deployment, root: Path) -> dict[str, Any]:
    """The fields of a deployment as prefect.yaml has them, comparable with `of_server`."""
    pool = entry["work_pool"]
    return {
        "description": entry["description"].strip(),
        "tags": sorted(entry["tags"]),
        "entrypoint": entry["entrypoint"],
        "parameters": entry["parameters"],
        "paused": entry["paused"],
        "work_pool_name": pool["name"],
        # Where none is named, the queue is the team's to choose.
        **(
            {"work_queue_name": pool["work_queue_name"]}
            if "work_queue_name" in pool
            else {}
        ),
        "pull_steps": [
            {
                "prefect.deployments.steps.set_working_directory": {
                    "directory": str(root)
                }
            }
        ],
        "schedules": sorted(_slot(slot) for slot in entry["schedules"]),
    }


def of_server(there: Deployment) -> dict[str, Any]:
    """The fields of a deployment as the API has them."""
    slots = [
        dict(at.get("schedule", {})) | {k: at.get(k) for k in OUTER}
        for at in there.get("schedules") or []
    ]
    return {
        **{name: there.get(name) for name in FIELDS},
        "description": (there.get("description") or "").strip(),
        "tags": sorted(there.get("tags") or []),
        "schedules": sorted(
            _slot(slot) for slot in slots if slot["active"] or slot["slug"] in SLUGS
        ),
    }


def _slot(slot: Mapping[str, Any]) -> str:
    """A schedule as one text, the same from prefect.yaml and from the server."""
    anchor, seconds = slot.get("anchor_date"), slot.get("interval")
    told = {
        name: slot.get(name) for name in ("slug", "active", "rrule", "cron", "timezone")
    }
    told["interval"] = float(seconds) if seconds else None
    told["anchor"] = (
        datetime.fromisoformat(str(anchor)).astimezone(UTC).isoformat()
        if anchor
        else None
    )
    return json.dumps(
        told | {"parameters": slot.get("parameters") or {}}, sort_keys=True
    )


def digest(wanted_or_there: Mapping[str, Any]) -> str:
    """A short text that changes with what a sync looks after; of `of_file` or `of_server`."""
    kept = {name: wanted_or_there[name] for name in KEPT}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def bring(
    api: Api,
    wanted: Deployment,
    there: Deployment,
    root: Path,
    only: Iterable[str] = FIELDS,
) -> list[str]:
    """Put right, in place, what differs on a deployment that is there.

    Args:
        api: Prefect.
        wanted: The deployment as `compile.deployments` gives it.
        there: As the API gives it.
        root: The folder that prefect.yaml stands in.
        only: The fields to look at.

    Returns:
        The names of those that differed.

    Raises:
        PrefectApiError: The server cannot be reached or refuses.
    """
    names = [name for name in differences(wanted, there, root) if name in only]
    want, have = of_file(wanted, root), of_server(there)
    body = {name: want[name] for name in names if name != "schedules"}
    if "work_queue_name" in names:  # alone the server would look for a queue of no pool
        body.setdefault("work_pool_name", there.get("work_pool_name"))
    if "schedules" in names:
        for slot in there.get("schedules") or []:
            if slot.get("slug") is None or (
                slot["active"] and slot["slug"] not in SLUGS
            ):
                # Somebody's own. Deleted, it would take all waiting runs of the deployment with it; without a slug, a
                # PATCH of the others would make them all anew, with other ids.
                api.change_schedule(
                    there["id"],
                    slot["id"],
                    {"slug": f"x-{slot['id'][-8:]}", "active": False},
                )
        if wrong := [
            slot for slot in wanted["schedules"] if _slot(slot) not in have["schedules"]
        ]:
            body["schedules"] = [_as_api(slot) for slot in wrong]
    if body:
        api.change_deployment(there["id"], body)
    return names


def _as_api(slot: Mapping[str, Any]) -> dict[str, Any]:
    schedule = {
        name: slot[name]
        for name in ("rrule", "interval", "anchor_date", "timezone")
        if name in slot
    }
    return {
        "slug": slot["slug"],
        "active": slot["active"],
        "schedule": schedule,
        "parameters": {},
    }
