"""Links into Prefect's UI (V2): the Runs page by status, template, row and time range; a run; a task's statistics.

Without a base the links are relative to the host that shows them. A deployment's description needs such links: neither
the host nor the deployment's id is known when the description is compiled. The Runs page takes several tags as "any of them", so there is
a link has a single tag: the template's, which runs of schedules inherit from their deployment, or the row's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import quote

from jittask_prefect.prefect_api.names import app_slug, of_app, slug

STATES = {
    "pending": (
        "Scheduled",
        "AwaitingRetry",
        "Pending",
        "Submitting",
        "InfrastructurePending",
        "Paused",
    ),
    "executing": ("Running", "Retrying", "Cancelling"),
    "overdue": ("Late",),
    "completed": ("Completed",),
    "error": ("Failed", "Crashed", "TimedOut"),
    "ended": ("Cancelled",),
}
"""The names of the states that a status of the records stands for; Prefect calls a run Late 15 s after its due time."""
COMING = ("pending", "overdue")
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""The page knows no range with one end: these stand for the other one."""
MILLISECOND = timedelta(milliseconds=1)
ROOT = "/v2"


def base(ui_url: str) -> str:
    """Where the UI is: a server has V2 under /v2, Prefect Cloud under no name of its own."""
    return (
        ui_url
        if "prefect.cloud" in ui_url
        else f"{ui_url.rstrip('/').removesuffix(ROOT)}{ROOT}"
    )


def runs(
    status: str | None = None,
    *,
    tag: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    named: str | None = None,
    at: str = ROOT,
) -> str:
    """The Runs page: the next runs first where they are still to come, else the newest.

    Args:
        status: A key of `STATES`; all where absent.
        tag: A template's full name, or a row's tag (`rows.flow_runs.run_tags`).
        start: Only those that are due then or later; aware.
        end: Only those that are due earlier; aware.
        named: Only runs whose name contains this text. For a row whose key has a comma, which a tag in a link cannot have.
        at: The UI's address (`base`); relative to the host where absent.
    """
    asked = []
    if status is not None:
        asked.append(("state", ",".join(STATES[status])))
    if tag is not None:
        asked.append(("tags", tag))
    if named is not None:
        asked.append(("flow-run-search", named))
    if start is not None or end is not None:
        asked.append(("start", _zulu(start or EARLIEST)))
        asked.append(("end", _zulu((end - MILLISECOND) if end else LATEST)))
    asked.append(("sort", "START_TIME_ASC" if status in COMING else "START_TIME_DESC"))
    return f"{at}/runs?" + "&".join(
        f"{name}={quote(value, safe=',:')}" for name, value in asked
    )


def run(run_id: str, at: str = ROOT) -> str:
    """The page of a flow run."""
    return f"{at}/runs/flow-run/{run_id}"


def task_run(run_id: str, at: str = ROOT) -> str:
    """The page of a task run: a row of a batch."""
    return f"{at}/runs/task-run/{run_id}"


def statistics(app: str, name: str, names: Collection[str] = (), at: str = ROOT) -> str:
    """The page of a template's statistics: the artifact of that key."""
    return f"{at}/artifacts/key/{key(app, name, names)}"


def overview(app: str, at: str = ROOT) -> str:
    """The page of an app's overview: the artifact of that key."""
    return f"{at}/artifacts/key/{overview_key(app)}"


def overview_key(app: str) -> str:
    """The key of an app's overview: `shop-overview`."""
    return f"{app_slug(app)}-overview"


def form(deployment_id: str, values: Mapping[str, object], at: str = ROOT) -> str:
    """The Run form of a deployment, filled in.

    Args:
        deployment_id: The id of the deployment.
        values: The fields that are filled in.
        at: The UI's address (`base`); relative to the host where absent.
    """
    filled = quote(json.dumps(values), safe="")
    return f"{at}/deployments/deployment/{deployment_id}/run?parameters={filled}"


def deployment(deployment_id: str, at: str = ROOT) -> str:
    """The page of a deployment."""
    return f"{at}/deployments/deployment/{deployment_id}"


def artifact(artifact_id: str, at: str = ROOT) -> str:
    """The page of an artifact."""
    return f"{at}/artifacts/artifact/{artifact_id}"


def key(app: str, name: str, names: Collection[str] = ()) -> str:
    """The key of a template's artifact, of `a-z`, `0-9` and `-` as Prefect demands: `stats-shop--tasks-dailyreport`.

    No slug has `--`: an app's part and a template's are told apart.

    Args:
        app: The app's name.
        name: The template's full name.
        names: Those of all templates of the app: two that differ only in case or `_` get keys that differ.
    """
    plain = slug(name)
    if any(slug(other) == plain for other in names if other != name):
        plain += f"-{sha256(name.encode()).hexdigest()[:6]}"
    return f"stats-{app_slug(app)}--{plain}"


def markdown(app: str, name: str, names: Collection[str] = (), at: str = ROOT) -> str:
    """A line with the links of a template, for its deployment's description."""
    tag = of_app(app, name)
    found = [f"[{status}]({runs(status, tag=tag, at=at)})" for status in STATES]
    page = statistics(app, name, names, at)
    whole = f"[overview]({overview(app, at)})"
    return f"Records: {' · '.join(found)} · [statistics]({page}) · {whole}"


def _zulu(at: datetime) -> str:
    """An instant in the page's own form: with an offset the page shows another range."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
