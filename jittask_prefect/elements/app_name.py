"""The name of an app: which names there are, and what the environment says of an app by its name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.validation import shown

ENV_APP = "JITTASK_APP"
ENV_NAME = "JITTASK_NAME"
ENV_DATABASE = "JITTASK_DATABASE_URL"
ALLOWED = "up to 64 letters of A to Z, digits, - or _, beginning with no -"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


def app_name(text: str) -> str:
    """Refuse a text that cannot name an app.

    The name stands in Prefect's flows, tags, work queues and variables, in links, in the ledger and in names of
    environment variables. Prefect refuses `/ % & < >`; a dot ends the name in `shop.tasks.NormalType`. A title may
    have any letters.

    Raises:
        ValueError: With the allowed names.
    """
    if not _NAME.fullmatch(text):
        raise ValueError(ALLOWED)
    return text


def name_of_environment(environment: Mapping[str, str] = os.environ) -> str | None:
    """The name that `JITTASK_NAME` gives to the app of this process, instead of that in its files.

    Raises:
        ConfigError: The name is none of an app.
    """
    name = environment.get(ENV_NAME)
    if not name:
        return None
    try:
        return app_name(name)
    except ValueError as error:
        raise ConfigError(Problem(ENV_NAME, "", shown(name), str(error))) from None


def database_variables(name: str) -> tuple[str, str]:
    """The environment variables that may hold the URL of an app's database; the first that is set counts."""
    suffix = name.upper().replace("-", "_")
    return f"{ENV_DATABASE}__{suffix}", ENV_DATABASE
