"""prefect.yaml: the deployments of an app as a file for `prefect deploy --all`, and the file with their flows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from jittask_prefect.deploying.deployments import (
    FLOW_FILE,
    WORKING_DIRECTORY,
    deployments,
    pull_steps,
)
from jittask_prefect.deploying.prefect_folder import (
    HEADER,
    file_of,
    is_ours,
    recorded_instant,
)
from jittask_prefect.elements.app import App
from jittask_prefect.elements.files import replace_file
from jittask_prefect.errors import invalid

KEPT_INSTANT = timedelta(days=30)


def instant_of(app: App, now: datetime) -> datetime:
    """The instant that a file of today is made for.

    Args:
        app: The app.
        now: The present instant, aware.

    Returns:
        The instant of the existing file while it is younger than 30 days, so that the text changes with the app
        only; else midnight UTC of today.
    """
    recorded = recorded_instant(file_of(app))
    if recorded is not None and timedelta(0) <= now - recorded < KEPT_INSTANT:
        return recorded
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def text(app: App, now: datetime) -> str:
    """The text of prefect.yaml: the same for the same app and instant."""
    content = {
        "name": app.name,
        "build": None,
        "push": None,
        "pull": pull_steps(WORKING_DIRECTORY),
        "deployments": [entry.as_yaml() for entry in deployments(app, now)],
    }
    header = (
        f"{HEADER}{now.isoformat()}\n"
        f"# from {'pyproject.toml and its modules; edit these' if app.place.in_project else 'the app folder; edit e.json there'}, not this file\n"
    )
    return header + yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000
    )


class _Dumper(yaml.SafeDumper):
    """Repeats equal values instead of pointing at them, and writes texts of several lines as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _block_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _block_text)


def write(app: App, now: datetime, out: Path | None = None) -> Path:
    """Write prefect.yaml and, where missing, the file with the flows.

    Args:
        app: The app.
        now: The instant from which the schedules hold, aware.
        out: Another file than the app's own; any content of it is replaced.

    Returns:
        The path of the file.

    Raises:
        ConfigError: The app's prefect.yaml was not made by `jittask compile`.
    """
    file = out or file_of(app)
    if out is None and file.exists() and not is_ours(file):
        allowed = "a file that `jittask compile` made; --out FILE writes another one"
        raise invalid("", "a file of somebody else's", allowed, file=str(file))
    made = text(app, now)
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists() or file.read_text(encoding="utf-8") != made:
        replace_file(file, made.encode())
    write_flows(app)
    return file


def flow_text(app: App) -> str:
    """The text of the file with the flows."""
    folder = "parents[1]" if app.place.in_project else "parent"
    return f'''"""The flows that prefect.yaml points at: one for each task Type of this app, and the sync."""

from pathlib import Path

from jittask_prefect import App
from jittask_prefect.running.flows import flows_of

globals().update(flows_of(App(Path(__file__).{folder})))
'''


def write_flows(app: App) -> Path:
    """Write the file with the flows where missing. The generated file of a project is always written anew."""
    file, made = app.place.generated / FLOW_FILE, flow_text(app)
    file.parent.mkdir(parents=True, exist_ok=True)
    stale = app.place.in_project and file.exists() and file.read_text() != made
    if stale or not file.exists():
        replace_file(file, made.encode())
    return file
