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
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import Json, TypeAdapter, ValidationError

from jittask_prefect.errors import PrefectApiError

CLOUD_API, CLOUD_UI = "https://api.prefect.cloud/api", "https://app.prefect.cloud"
# `prefect/client/base.py`: headers that Prefect's client sets by itself.
PROTECTED_HEADERS = ("user-agent", "prefect-csrf-token", "prefect-csrf-client")


@dataclass(frozen=True)
class ClientSettings:
    """The settings of a client of Prefect's API.

    Attributes:
        url: The API's address; None where no source names a server.
        ui_url: The UI's address; None where no source names one: `ui_url_of` derives the address then.
        key: The key of `Authorization: Bearer`.
        auth_string: `USER:PASSWORD` of `Authorization: Basic`; preferred to a key.
        headers: Further headers of each request.
        verify_tls: Whether the server's certificate is checked.
        certificate_file: The file of trusted certificates; None for those of `certifi`.
        csrf: Whether to fetch a token from a server that protects itself against forged requests.
        timeout: How long a request may take, in seconds.
        retries: How many further attempts a request has.
    """

    url: str | None
    ui_url: str | None
    key: str | None
    auth_string: str | None
    headers: Mapping[str, str]
    verify_tls: bool
    certificate_file: str | None
    csrf: bool
    timeout: float
    retries: int

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


def client_settings() -> ClientSettings:
    """Prefect's settings for this process: its environment, its working directory, the user's profile.

    Raises:
        PrefectApiError: A file of settings, or a value, cannot be read.
    """
    sources = _Sources()
    headers = sources.value(
        "client", "custom_headers", Json[dict[str, str]] | dict[str, str], {}
    )
    return ClientSettings(
        url=sources.value("api", "url", str | None) or None,
        ui_url=sources.value("", "ui_url", str | None),
        key=sources.value("api", "key", str | None),
        auth_string=sources.value("api", "auth_string", str | None),
        headers={
            name: value
            for name, value in headers.items()
            if name.lower() not in PROTECTED_HEADERS
        },
        verify_tls=not sources.value("api", "tls_insecure_skip_verify", bool, False),
        certificate_file=sources.value(
            "api", "ssl_cert_file", str | None, os.environ.get("SSL_CERT_FILE")
        ),
        csrf=sources.value("client", "csrf_support_enabled", bool, True),
        timeout=sources.value("api", "request_timeout", float, 60.0),
        retries=sources.value("client", "max_retries", int, 5),
    )


class _Sources:
    """All sources of settings, read once."""

    def __init__(self) -> None:
        dotenv = _dotenv()
        project = _table(_toml(Path("pyproject.toml")), "tool", "prefect")
        self._variables = [
            {name.lower(): value for name, value in source.items()}
            for source in (os.environ, dotenv)
        ]
        self._tables = [_toml(Path("prefect.toml")), project]
        self._profile = _profile(_profiles_path(dotenv, self._tables))

    def value(self, section: str, name: str, kind: Any, default: Any = None) -> Any:
        """The value of a setting, as `kind`; the default where no source names the setting."""
        variable = "_".join(filter(None, ("prefect", section, name)))
        value = self._raw(variable, section, name)
        try:
            return (
                default if value is None else TypeAdapter(kind).validate_python(value)
            )
        except ValidationError as error:
            # Without the value, which may be a secret.
            reason = error.errors()[0]["msg"]
            raise PrefectApiError(
                f"Prefect's setting {variable.upper()}: {reason}"
            ) from None

    def _raw(self, variable: str, section: str, name: str) -> Any:
        for source in self._variables:
            if variable in source:
                return source[variable]
        for table in self._tables:
            value = _table(table, section).get(name) if section else table.get(name)
            if value is not None:
                return value
        return self._profile.get(variable.upper())


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
