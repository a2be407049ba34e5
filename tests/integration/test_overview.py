"""The overview of an app on a real server: the sync writes it, the UI shows it, its links lead where they say."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path

import pytest
from patience import PATIENCE
from place import DAILY, Place, model, rows, scheduled

from jittask_prefect.prefect_api import links
from jittask_prefect.records import overview_page
from jittask_prefect.schedule import clock
from jittask_prefect.server.service import ServiceInfo

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: ServiceInfo
) -> Iterator[Place]:
    elements = {
        "models/SeenItem": model("SeenItem"),
        "tasks/SeenRows": rows("SeenItem", title="Rows <b>|*all*"),
        "tasks/SeenDaily": scheduled("def customFunc():\n    return 1\n", repeat=DAILY),
    }
    folder = tmp_path_factory.mktemp("overview") / "app"
    made = Place.build(folder, elements, name="seen")
    made.deploy()
    yield made
    made.remove()


def artifacts(place: Place) -> list[dict[str, str]]:
    body = {"artifacts": {"key": {"any_": ["seen-overview"]}}}
    found: list[dict[str, str]] = place.api.call("POST", "/artifacts/filter", body)
    return found


def test_the_sync_keeps_one_page_and_the_ui_shows_it(
    place: Place, tmp_path: Path
) -> None:
    due = datetime.now(UTC).replace(tzinfo=None, microsecond=0) + timedelta(minutes=30)
    place.save("SeenItem", at=due)
    place.sync()
    overview_page.refresh(place.app, place.api, clock.now() + timedelta(minutes=1))
    [before] = artifacts(place)
    place.save("SeenItem", at=due)
    place.sync()
    overview_page.refresh(place.app, place.api, clock.now() + timedelta(minutes=2))
    [page] = artifacts(place)
    assert page["id"] == before["id"], "changed in place"
    [row] = [x for x in page["data"].splitlines() if x.startswith("| Rows &lt;b")]
    found = dict(re.findall(r"\[([^\]]+)\]\((/v2/[^)]+)\)", row))
    assert "Run now" in found and "Edit" in found
    assert re.search(r"\| \[2\]\(/v2/runs\?state=Scheduled,", row)
    described = place.deployments()["tasks.SeenRows"]["description"]
    assert f"({links.overview('seen')})" in described
    if CHROMIUM is None:
        pytest.skip("no chromium")
    shown = dump(
        f"{links.base(place.api.ui_url)}/artifacts/artifact/{page['id']}", tmp_path
    )
    assert "Rows <b>|*all*" in unescape(shown)
    assert 'src="data:image/svg+xml;base64,' in shown
    assert "Tomorrow, " in shown


def dump(address: str, folder: Path) -> str:
    """The page as a browser has it after its scripts ran."""
    command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu"]
    command += ["--virtual-time-budget=15000", f"--user-data-dir={folder}"]
    done = subprocess.run(
        [*command, "--dump-dom", address],
        capture_output=True,
        text=True,
        timeout=90 * PATIENCE,
    )
    return done.stdout
