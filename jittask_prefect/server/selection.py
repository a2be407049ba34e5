"""Which Prefect server an app uses: that of Prefect's settings, else the one that `jittask up` started."""

from __future__ import annotations

import sys
from pathlib import Path

from jittask_prefect.prefect_api.api import Api
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.prefect_api.settings import client_settings
from jittask_prefect.server.embedded import Embedded


def configured_url() -> str | None:
    """The API's address in Prefect's settings: environment, files of the working directory, profile.

    Raises:
        PrefectApiError: The settings cannot be read.
    """
    return client_settings().url or None


def address(home: Path) -> str | None:
    """The API's address of an app's Prefect server; None where no server is known.

    Args:
        home: The app folder.

    Raises:
        PrefectApiError: Prefect's settings cannot be read.
    """
    if url := configured_url():
        return url
    found = Embedded(home / ".jittask").find()
    return found.url if found else None


def connect(home: Path) -> Api:
    """The API of an app's Prefect server.

    Args:
        home: The app folder.

    Raises:
        PrefectApiError: No server is known, or Prefect's settings cannot be read.
    """
    return PrefectApi(address(home))


def refresh_settings() -> None:
    """Have Prefect, where this process has imported Prefect, read its settings again after a change of the environment."""
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()
