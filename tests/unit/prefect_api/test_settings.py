"""Prefect's client settings are read as Prefect reads them, from every source and in its order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prefect.settings import sources
from prefect.settings.models.root import Settings

from jittask_prefect.errors import PrefectApiError
from jittask_prefect.prefect_api.settings import client_settings

PROFILES = """
active = "work"

[profiles.work]
PREFECT_API_URL = "http://profile/api"
PREFECT_API_KEY = "from-profile"
PREFECT_CLIENT_MAX_RETRIES = "7"

[profiles.other]
PREFECT_API_URL = "http://other/api"
PREFECT_CLIENT_CSRF_SUPPORT_ENABLED = "false"
PREFECT_CLIENT_CUSTOM_HEADERS = '{"X-Profile": "1"}'
PREFECT_API_TLS_INSECURE_SKIP_VERIFY = true
"""
TOML = """
ui_url = "http://toml-ui"

[api]
url = "http://toml/api"
request_timeout = 7.5
tls_insecure_skip_verify = true

[client]
max_retries = 1
custom_headers = {"X-Toml" = "2", "User-Agent" = "mine"}
"""
PYPROJECT = """
[project]
name = "shop"

[tool.prefect]
ui_url = "http://pyproject-ui"

[tool.prefect.api]
url = "http://pyproject/api"
auth_string = "shop:secret"

[tool.prefect.client]
csrf_support_enabled = false
"""
CLOUD = "https://api.prefect.cloud/api/accounts/a/workspaces/w"
Files = dict[str, str]
Environment = dict[str, str]
CASES: dict[str, tuple[Files, Environment]] = {
    "nothing": ({}, {}),
    "variables": (
        {},
        {
            "PREFECT_API_URL": "http://environment/api",
            "PREFECT_API_KEY": "key",
            "PREFECT_API_AUTH_STRING": "a:b",
            "PREFECT_API_SSL_CERT_FILE": "/etc/certificates",
            "PREFECT_API_REQUEST_TIMEOUT": "12",
            "PREFECT_CLIENT_CUSTOM_HEADERS": '{"X-A": "b"}',
            "PREFECT_UI_URL": "http://ui",
        },
    ),
    "a variable in lower case": ({}, {"prefect_api_url": "http://lower/api"}),
    "an empty variable hides the profile": (
        {"home/profiles.toml": PROFILES},
        {"PREFECT_API_URL": ""},
    ),
    "truth values": (
        {},
        {
            "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "1",
            "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "No",
        },
    ),
    ".env": (
        {
            ".env": "export PREFECT_API_URL='http://dotenv/api' # mine\n"
            "PREFECT_API_KEY\nPREFECT_UI_URL=${PREFECT_API_URL}/ui\n"
        },
        {},
    ),
    "prefect.toml": ({"prefect.toml": TOML}, {}),
    "pyproject.toml": ({"pyproject.toml": PYPROJECT}, {}),
    "a pyproject.toml of others": ({"pyproject.toml": "[tool.other]\na = 1\n"}, {}),
    "profile": ({"home/profiles.toml": PROFILES}, {}),
    "another profile": (
        {"home/profiles.toml": PROFILES},
        {"PREFECT_PROFILE": "other"},
    ),
    "a profile that is not there": (
        {"home/profiles.toml": PROFILES},
        {"PREFECT_PROFILE": "gone"},
    ),
    "no active profile": (
        {"home/profiles.toml": PROFILES.replace("active", "inactive", 1)},
        {},
    ),
    "a bundled profile": ({}, {"PREFECT_PROFILE": "local"}),
    "a bundled profile beside a home": (
        {},
        {"PREFECT_PROFILE": "local", "PREFECT_HOME": "elsewhere"},
    ),
    "PREFECT_HOME": (
        {"elsewhere/profiles.toml": PROFILES},
        {"PREFECT_HOME": "elsewhere"},
    ),
    "PREFECT_PROFILES_PATH": (
        {"mine.toml": PROFILES, "home/profiles.toml": 'active = "work"'},
        {"PREFECT_PROFILES_PATH": "mine.toml"},
    ),
    "a path of profiles in .env": (
        {".env": "PREFECT_PROFILES_PATH=mine.toml\n", "mine.toml": PROFILES},
        {},
    ),
    "a path of profiles in prefect.toml": (
        {"prefect.toml": 'profiles_path = "mine.toml"', "mine.toml": PROFILES},
        {},
    ),
    "a path of profiles in pyproject.toml": (
        {
            "pyproject.toml": '[tool.prefect]\nprofiles_path = "mine.toml"',
            "mine.toml": PROFILES,
        },
        {},
    ),
    "all sources": (
        {
            ".env": "PREFECT_API_KEY=dotenv\n",
            "prefect.toml": TOML,
            "pyproject.toml": PYPROJECT,
            "home/profiles.toml": PROFILES,
        },
        {"PREFECT_CLIENT_MAX_RETRIES": "3"},
    ),
    "Prefect Cloud": ({}, {"PREFECT_API_URL": CLOUD}),
    "a path behind a proxy": ({}, {"PREFECT_API_URL": "http://host/api/team/api"}),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; no setting of Prefect's from outside."""
    for name in list(os.environ):
        if name.upper().startswith("PREFECT"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "DEFAULT_PREFECT_HOME", tmp_path / "home")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "user")
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / ".prefect").symlink_to(tmp_path / "home")
    return tmp_path


@pytest.mark.parametrize("case", CASES)
def test_settings_are_those_that_prefect_finds(
    folder: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    files, environment = CASES[case]
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    theirs, ours = Settings(), client_settings()
    key, auth = theirs.api.key, theirs.api.auth_string
    assert (ours.url or None) == (theirs.api.url or None)
    assert ours.key == (key and key.get_secret_value())
    assert ours.auth_string == (auth and auth.get_secret_value())
    assert ours.tls_insecure_skip_verify is theirs.api.tls_insecure_skip_verify
    assert ours.ssl_cert_file == theirs.api.ssl_cert_file
    assert ours.csrf_support_enabled is theirs.client.csrf_support_enabled
    assert ours.request_timeout == theirs.api.request_timeout
    assert ours.max_retries == theirs.client.max_retries
    assert ours.custom_headers == theirs.client.custom_headers
    if theirs.api.url:
        assert ours.ui_url_of(theirs.api.url) == theirs.ui_url


@pytest.mark.parametrize(
    ("files", "environment", "reason"),
    [
        ({"prefect.toml": "[api"}, {}, "prefect.toml: "),
        ({"pyproject.toml": "=="}, {}, "pyproject.toml: "),
        ({"home/profiles.toml": "active ="}, {}, "profiles.toml: "),
        (
            {},
            {"PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "perhaps"},
            "tls_insecure_skip_verify: ",
        ),
        (
            {},
            {"PREFECT_CLIENT_CUSTOM_HEADERS": "[1]"},
            "custom_headers: ",
        ),
        ({"prefect.toml": "[api]\nkey = 1234"}, {}, "key: "),
    ],
)
def test_settings_that_cannot_be_read_are_refused_without_their_value(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: Files,
    environment: Environment,
    reason: str,
) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PrefectApiError) as refused:
        client_settings()
    assert reason in str(refused.value) and "1234" not in str(refused.value)
