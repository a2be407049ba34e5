"""A deployment on the server beside the app's: the fields that differ, and their change in place.

A change is a PATCH that names the differing schedule slots: their ids stay, and with them the keys of the runs that
they made. Prefect deletes a deployment's future runs with each change. The caller fills the schedule again at once,
from an instant before the change; a run that exists is not made twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jittask_prefect.deploying.deployments import Deployment, Json
from jittask_prefect.elements.app_name import ENV_APP, ENV_NAME
from jittask_prefect.prefect_api.answers import ServerDeployment
from jittask_prefect.prefect_api.api import Api
from jittask_prefect.schedule.schedule_text import SLUGS

PLAIN = ("entrypoint", "parameters", "paused", "work_pool_name", "work_queue_name")
COMPARED = ("description", "tags", "pull_steps", "job_variables")
RESTORED = ("description", "tags", "parameters", "paused", "schedules")
"""The fields that a sync restores. Where a deployment runs is the team's choice, in the UI too."""


def restored(wanted: Deployment, there: ServerDeployment) -> tuple[str, ...]:
    """The fields of a deployment that a sync restores: also a work pool that its template names, or that was deleted."""
    pool = ("work_pool_name",) if _pool_is_ours(wanted, there) else ()
    return (*RESTORED, *pool)


def _pool_is_ours(wanted: Deployment, there: ServerDeployment) -> bool:
    """Whether the app says in which pool a deployment is: a pool that the team deleted is no choice of the team's."""
    return wanted.keeps_pool or not there.work_pool_name


def differences(wanted: Deployment, there: ServerDeployment, root: Path) -> list[str]:
    """The names of the fields that the server's deployment has otherwise than the app.

    Args:
        wanted: The app's deployment.
        there: The server's.
        root: The folder of prefect.yaml.
    """
    want, have = comparable(wanted.as_api(root)), comparable(as_api(there))
    left_alone = set()
    if not _pool_is_ours(wanted, there):
        left_alone.add("work_pool_name")
    if not wanted.keeps_queue:
        left_alone.add("work_queue_name")
    return [n for n in want if want[n] != have[n] and n not in left_alone]


def as_api(there: ServerDeployment) -> Json:
    """The fields of the server's deployment, in the form of the app's body (`Deployment.as_api`)."""
    schedules = [
        {
            "slug": schedule.slug,
            "active": schedule.active,
            "schedule": schedule.schedule,
            "parameters": schedule.parameters,
        }
        for schedule in there.schedules
    ]
    fields = {name: getattr(there, name) for name in (*PLAIN, *COMPARED)}
    return {**fields, "schedules": schedules}


def comparable(fields: Json) -> Json:
    """The fields of the app's body, or of the API's answer, in a form in which equal fields compare equal."""
    # Somebody's own schedule that rests is none of ours; slots of ours count always.
    schedules = [
        schedule
        for schedule in fields.get("schedules") or []
        if schedule["active"] or schedule["slug"] in SLUGS
    ]
    return {
        "description": (fields.get("description") or "").strip(),
        "tags": sorted(fields.get("tags") or []),
        **{name: fields[name] for name in PLAIN},
        "job_variables": app_variables(fields["job_variables"]),
        "pull_steps": fields.get("pull_steps"),
        "schedules": sorted(map(_schedule_text, schedules)),
    }


def app_variables(job_variables: Mapping[str, Any] | None) -> Json:
    """The variables that say which app a deployment is of; the team may have added others."""
    environment = _environment(job_variables)
    return {name: environment.get(name) for name in (ENV_APP, ENV_NAME)}


def _environment(job_variables: Mapping[str, Any] | None) -> Json:
    environment = (job_variables or {}).get("env")
    return dict(environment) if isinstance(environment, Mapping) else {}


def _schedule_text(schedule: Json) -> str:
    rule = schedule["schedule"]
    anchor, seconds = rule.get("anchor_date"), rule.get("interval")
    content = {name: rule.get(name) for name in ("rrule", "cron", "timezone")}
    content |= {
        "slug": schedule["slug"],
        "active": schedule["active"],
        "parameters": schedule.get("parameters") or {},
        "interval": float(seconds) if seconds else None,
        "anchor": _utc(anchor) if anchor else None,
    }
    return json.dumps(content, sort_keys=True)


def _utc(anchor: object) -> str:
    return datetime.fromisoformat(str(anchor)).astimezone(UTC).isoformat()


def digest(fields: Json) -> str:
    """A short text that changes with a field that a sync restores.

    Args:
        fields: The app's body (`Deployment.as_api`) or that of the server's deployment (`as_api`).
    """
    compared = comparable(fields)
    content = json.dumps({name: compared[name] for name in RESTORED}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def correct(
    api: Api,
    wanted: Deployment,
    there: ServerDeployment,
    root: Path,
    only: Iterable[str] | None = None,
) -> list[str]:
    """Change in place the fields that differ on the server.

    Args:
        api: Prefect.
        wanted: The app's deployment.
        there: The server's.
        root: The folder of prefect.yaml.
        only: The fields to compare; all where absent.

    Returns:
        The names of the fields that differed.

    Raises:
        PrefectApiError: The server cannot be reached or refuses.
    """
    names = differences(wanted, there, root)
    if only is not None:
        names = [name for name in names if name in only]
    fields = wanted.as_api(root)
    body = {name: fields[name] for name in names if name != "schedules"}
    if "work_pool_name" in names:  # the queue of another pool is of no use
        body["work_queue_name"] = wanted.queue
    elif "work_queue_name" in names:  # the server finds a queue by its pool only
        body["work_pool_name"] = there.work_pool_name
    if "job_variables" in names:
        variables, environment = (
            dict(there.job_variables),
            _environment(there.job_variables),
        )
        environment |= fields["job_variables"]["env"]
        body["job_variables"] = variables | {"env": environment}
    if "schedules" in names:
        _rest_foreign_schedules(api, there)
        known = comparable(as_api(there))["schedules"]
        differing = [s for s in fields["schedules"] if _schedule_text(s) not in known]
        if differing:
            body["schedules"] = differing
    if body:
        api.change_deployment(there.id, body)
    return names


def _rest_foreign_schedules(api: Api, there: ServerDeployment) -> None:
    """Put schedules that somebody added to a deployment out of action.

    A deleted schedule would take all waiting runs of the deployment with it. A schedule without a slug would let the
    PATCH of the others replace them, with other ids.
    """
    for schedule in there.schedules:
        if schedule.slug is None or (schedule.active and schedule.slug not in SLUGS):
            changed = {"slug": f"x-{schedule.id[-8:]}", "active": False}
            api.change_schedule(there.id, schedule.id, changed)
