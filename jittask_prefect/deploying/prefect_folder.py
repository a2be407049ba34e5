"""The folder of prefect.yaml, and the instant that the file was made for."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from jittask_prefect.elements.app import App

PREFECT_FILE = "prefect.yaml"
HEADER = "# made by: jittask compile --now "
_FIRST_LINE = re.compile(re.escape(HEADER) + r"(\S+)")


def root_of(app: App) -> Path:
    """The folder that Prefect deploys from: the app's parent where our file is there already, else the app folder.

    Of an app in pyproject.toml the project's folder.
    """
    if app.place.in_project:
        return app.path

    above = app.path.parent
    if is_ours(above / PREFECT_FILE) and not (app.path / PREFECT_FILE).exists():
        return above
    return app.path


def file_of(app: App) -> Path:
    """The app's prefect.yaml. A project's file stands among the generated files, apart from the team's files."""
    folder = app.place.generated if app.place.in_project else root_of(app)
    return folder / PREFECT_FILE


def is_ours(file: Path) -> bool:
    """Whether `jittask compile` has made a file."""
    return _recorded(file) is not None


def recorded_instant(file: Path) -> datetime | None:
    """The instant in the first line of a prefect.yaml; None where there is none."""
    try:
        instant = datetime.fromisoformat(_recorded(file) or "")
    except ValueError:
        return None
    return instant if instant.tzinfo else None


def _recorded(file: Path) -> str | None:
    if not file.is_file():
        return None
    with file.open(encoding="utf-8", errors="replace") as lines:
        found = _FIRST_LINE.match(lines.readline())
    return found[1] if found else None
