"""Unit tests know no server, also where the integration tests of this session have one running."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from projects import Project, project_in
from shop import few, on, server, servers, shop, url  # noqa: F401  fixtures

from jittask_prefect.elements.app import apps_in_use
from jittask_prefect.server.selection import refresh_settings


@pytest.fixture(scope="module", autouse=True)
def no_server() -> Iterator[None]:
    """While a module of unit tests runs, Prefect's settings name no server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_API_URL", raising=False)
        refresh_settings()
        yield
    refresh_settings()


@pytest.fixture(autouse=True)
def apps_end_with_their_test() -> Iterator[None]:
    """What a test has in use is closed after the test: each save would look into the apps of all tests before."""
    before = apps_in_use()
    yield
    for app in apps_in_use():
        if app not in before:
            app.close()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project in a folder of its own, an app once `write` has named its modules."""
    with project_in(tmp_path) as made:
        yield made
