"""Which Prefect server is the app's: the one of Prefect's settings; else the one that `jittask up` started."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from jittask_prefect.prefect_api.client import Api, PrefectApi
from jittask_prefect.server.embedded import Embedded


def configured_url() -> str | None:
    """The API's address that `PREFECT_API_URL` or the user's profile names."""
    if os.environ.get("PREFECT_API_URL"):
        return os.environ["PREFECT_API_URL"]
    if "prefect" not in sys.modules and not _has_settings():
        return None  # importing Prefect to be told so would cost more than a second
    from prefect.settings import get_current_settings

    return get_current_settings().api.url


def _has_settings() -> bool:
    """Whether there is a file, or a profile, that could name a server (`prefect/settings/sources.py`)."""
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    files = [home / "profiles.toml", Path("prefect.toml"), Path(".env")]
    if any(file.exists() for file in files) or {
        "PREFECT_PROFILE",
        "PREFECT_PROFILES_PATH",
    } & set(os.environ):
        return True
    project = Path("pyproject.toml")
    return project.exists() and "tool.prefect" in project.read_text(
        encoding="utf-8", errors="replace"
    )


def refresh_settings() -> None:
    """Have an imported Prefect read its settings anew, after the environment has changed."""
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


def address(home: Path) -> str | None:
    """Where the app's Prefect server is: where the settings say; else the one that `jittask up` started.

    Args:
        home: The app folder.
    """
    if url := configured_url():
        return url
    found = Embedded(home / ".jittask").find()
    return found.url if found else None


def connect(home: Path) -> Api:
    """The API of the app's Prefect server.

    Raises:
        PrefectApiError: No server is known.
    """
    return PrefectApi(address(home))
