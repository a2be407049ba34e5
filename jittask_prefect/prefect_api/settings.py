"""Prefect's client settings, read as Prefect reads them and without importing Prefect.

The sources, the first that names a setting wins (`prefect/settings/base.py` and `sources.py`, Prefect 3.9.1):

1. environment variables, in any case: `PREFECT_API_URL`;
2. `.env` of the working directory;
3. `prefect.toml` of the working directory: `[api]`, `url = "…"`;
4. `[tool.prefect]` of `pyproject.toml` in the working directory: `[tool.prefect.api]`, `url = "…"`;
5. the active profile of `profiles.toml`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import Json, TypeAdapter, ValidationError

from jittask_prefect.errors import PrefectApiError

CLOUD_API, CLOUD_UI = "https://api.prefect.cloud/api", "https://app.prefect.cloud"


@dataclass(frozen=True)
class ClientSettings:
    """The settings of a client of Prefect's API, with Prefect's defaults.

    Attributes:
        url: The API's address; None where no source names a server.
        ui_url: The UI's address; None where no source names the UI: `ui_url_of` derives the address then.
        key: The key of `Authorization: Bearer`.
        auth_string: `USER:PASSWORD` of `Authorization: Basic`; preferred to a key.
        tls_insecure_skip_verify: Whether the server's certificate is not checked.
        ssl_cert_file: The file of trusted certificates; None for those of `certifi`.
        request_timeout: How long a request may take, in seconds.
        custom_headers: Further headers of each request.
        csrf_support_enabled: Whether to fetch a token from a server that protects itself against forged requests.
        max_retries: How many further attempts a request has.
    """

    url: str | None = None
    ui_url: str | None = None
    key: str | None = None
    auth_string: str | None = None
    tls_insecure_skip_verify: bool = False
    ssl_cert_file: str | None = field(
        default_factory=lambda: os.environ.get("SSL_CERT_FILE")
    )
    request_timeout: float = 60.0
    custom_headers: dict[str, str] | Json[dict[str, str]] = field(default_factory=dict)
    csrf_support_enabled: bool = True
    max_retries: int = 5

    def ui_url_of(self, api_url: str) -> str:
        """The UI's address: that of the settings, else derived from the API's (`_defaults.py`, `default_ui_url`)."""
        if self.ui_url is not None:
            return self.ui_url
        ui_url = api_url
        if api_url.startswith(CLOUD_API):
            ui_url = CLOUD_UI + api_url.removeprefix(CLOUD_API)
        ui_url = ui_url.removesuffix("/api").replace("/api/", "/")
        return ui_url.replace("/accounts/", "/account/").replace(
            "/workspaces/", "/workspace/"
        )


SECTIONS = {
    "": ("ui_url",),
    "api": (
        "url", "key", "auth_string", "tls_insecure_skip_verify", "ssl_cert_file", "request_timeout",
    ),
    "client": ("custom_headers", "csrf_support_enabled", "max_retries"),
}  # fmt: skip
"""The fields of `ClientSettings`, by the section of Prefect's settings: `PREFECT_API_URL`, `[api]` `url`."""


def client_settings() -> ClientSettings:
    """Prefect's settings for this process: its environment, its working directory, the user's profile.

    Raises:
        PrefectApiError: A file of settings, or a value, cannot be read.
    """
    dotenv = _dotenv()
    variables = [
        {name.lower(): value for name, value in source.items()}
        for source in (os.environ, dotenv)
    ]
    project = _table(_toml(Path("pyproject.toml")), "tool", "prefect")
    tables = [_toml(Path("prefect.toml")), project]
    profile = _profile(_profiles_path(dotenv, tables))
    values = {}
    for section, names in SECTIONS.items():
        prefix = f"prefect_{section}_" if section else "prefect_"
        sections = [_table(table, section) if section else table for table in tables]
        for name in names:
            candidates = (
                *(source.get(prefix + name) for source in variables),
                *(table.get(name) for table in sections),
                profile.get((prefix + name).upper()),
            )
            found = [value for value in candidates if value is not None]
            if found:
                values[name] = found[0]
    try:
        return TypeAdapter(ClientSettings).validate_python(values)
    except ValidationError as error:
        # Without the value, which may be a secret.
        first = error.errors(include_input=False)[0]
        raise PrefectApiError(
            f"Prefect's setting {first['loc'][0]}: {first['msg']}"
        ) from None


def _dotenv() -> dict[str, str]:
    file = Path(".env")
    try:
        found = dotenv_values(file) if file.is_file() else {}
    except (OSError, ValueError) as error:
        raise PrefectApiError(
            f"Prefect's settings in {file.absolute()}: {error}"
        ) from error
    return {name: value for name, value in found.items() if value is not None}


def _toml(file: Path) -> Mapping[str, Any]:
    """The content of a TOML file; empty where there is no such file."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise PrefectApiError(
            f"Prefect's settings in {file.absolute()}: {error}"
        ) from error


def _table(table: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """A table within a table; empty where there is none of that name."""
    for name in names:
        inner = table.get(name)
        table = inner if isinstance(inner, dict) else {}
    return table


def _profiles_path(
    dotenv: Mapping[str, str], tables: Sequence[Mapping[str, Any]]
) -> Path | None:
    """The file of profiles; None where Prefect's own profiles hold (`sources.py`, `_get_profiles_path`)."""
    named = [source.get("PREFECT_PROFILES_PATH") for source in (os.environ, dotenv)]
    for path in (*named, *(table.get("profiles_path") for table in tables)):
        if path:
            return Path(path)
    if home := os.environ.get("PREFECT_HOME"):
        return Path(home) / "profiles.toml"
    default = Path.home() / ".prefect" / "profiles.toml"
    return default if default.exists() else None


def _profile(file: Path | None) -> Mapping[str, Any]:
    """The active profile; Prefect's default profile where the file names none that exists."""
    bundled = _bundled_profiles()
    found = bundled if file is None else _toml(file)
    active = os.environ.get("PREFECT_PROFILE") or found.get("active")
    profiles = _table(found, "profiles")
    if active not in profiles:
        active, profiles = bundled.get("active"), _table(bundled, "profiles")
    return _table(profiles, str(active))


def _bundled_profiles() -> Mapping[str, Any]:
    """The profiles in Prefect's package, which is found and not imported."""
    package = find_spec("prefect")
    if package is None or package.origin is None:
        return {}
    return _toml(Path(package.origin).parent / "settings" / "profiles.toml")
