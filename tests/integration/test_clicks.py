"""Buttons of Prefect's UI, clicked in headless Chromium; the effect of each is asserted in the ledger."""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from patience import PATIENCE
from place import Place, model, rows, scheduled, until, worker

from jittask_prefect.deploying import deployments
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.prefect_api import links
from jittask_prefect.schedule import clock
from jittask_prefect.server.service import ServiceInfo

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
ROW, ONCE, MINUTELY = "tasks.ClickRow", "tasks.ClickOnce", "tasks.ClickMinutely"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: ServiceInfo
) -> Iterator[Place]:
    inner = "def customFunc():\n    return 1\n"
    minute = {"repeatType": "minute", "period": 1}
    elements = {
        "models/ClickItem": model("ClickItem"),
        "tasks/ClickRow": rows("ClickItem"),
        "tasks/ClickOnce": scheduled(inner),
        "tasks/ClickMinutely": scheduled(inner, repeat=minute),
    }
    folder = tmp_path_factory.mktemp("clicks")
    made = Place.build(folder / "app", elements, name="clicked")
    made.deploy()
    with worker(folder / ".jittask", cwd=folder, limit=1):
        yield made
    made.remove()


@pytest.fixture(scope="module")
def page(place: Place) -> Iterator[playwright.Page]:
    """A page without animations, which a machine without a graphics card spends most of its time on."""
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        view = {"width": 1280, "height": 1000}
        made = launched.new_page(viewport=view, reduced_motion="reduce")
        made.set_default_timeout(60_000 * PATIENCE)
        yield made
        launched.close()


def opened(place: Place, page: playwright.Page, path: str) -> None:
    page.goto(f"{links.base(place.api.ui_url)}/{path}")


def deployment(place: Place, page: playwright.Page, name: str) -> None:
    """Open the page of a deployment."""
    found = place.deployments()[name]["id"]
    opened(place, page, f"deployments/deployment/{found}")


def run(page: playwright.Page, how: str) -> None:
    """*Run* on the page of a deployment, and an item of its menu."""
    page.get_by_role("button", name="Run", exact=True).first.click()
    page.get_by_role("menuitem", name=how).click()


def sees(page: playwright.Page, words: str) -> None:
    """Wait until words are there; the page is loaded again now and then, as it does not follow everything."""
    deadline = time.monotonic() + 120 * PATIENCE
    while True:
        try:
            page.get_by_text(words, exact=True).first.wait_for(timeout=5_000)
            return
        except playwright.TimeoutError:
            assert time.monotonic() < deadline, f"{words!r} is not on {page.url}"
            page.reload()


@contextmanager
def no_worker(place: Place) -> Iterator[None]:
    """Meanwhile the pool gives its worker no runs."""
    pool = f"/work_pools/{deployments.POOL}"
    place.api.call("PATCH", pool, {"is_paused": True})
    try:
        yield
    finally:
        place.api.call("PATCH", pool, {"is_paused": False})


def by_hand(place: Place, name: str) -> list[Entry]:
    """The tasks outside the schedule."""
    return [entry for entry in place.entries(name) if entry.nominal is None]


def test_cancel_of_a_late_run(place: Place, page: playwright.Page) -> None:
    with no_worker(place):
        at = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=30)
        row = place.save("ClickItem", at=at)

        def handed_over() -> Entry | None:
            place.sync()
            [entry] = place.entries(ROW, row.id)
            return entry if entry.flow_run_id else None

        entry = until(handed_over, 60, every=1)
        assert entry
        opened(place, page, f"runs/flow-run/{entry.flow_run_id}")
        sees(page, "Late")
        page.get_by_role("button", name="Open menu").click()
        page.get_by_role("menuitem", name="Cancel", exact=True).click()
        page.get_by_role("button", name="Cancel Flow Run").click()
        place.state(str(entry.flow_run_id), "Cancelled", seconds=60)

    def ended() -> bool:
        place.sync()
        return place.entry(entry.task_id).status == "ended"

    until(ended, 60, every=1)
    assert place.entry(entry.task_id).outcome == "forced"
    assert place.sql("SELECT done FROM clickitem WHERE id = :id", id=row.id) == 0


def test_quick_run_of_a_schedule_and_custom_run_for_a_row(
    place: Place, page: playwright.Page
) -> None:
    before = len(by_hand(place, ONCE))  # of an earlier try
    deployment(place, page, ONCE)
    run(page, "Quick run")
    page.get_by_text("Flow run created").first.wait_for()
    [entry] = until(lambda: by_hand(place, ONCE)[before:], 90)
    assert place.ended(entry.task_id, 90).status == "completed"

    row = place.save("ClickItem", at=None)
    deployment(place, page, ROW)
    run(page, "Custom run")
    page.get_by_label(re.compile("^Row")).fill(str(row.id))
    page.get_by_role("button", name="Submit").click()
    [entry] = until(
        lambda: [e for e in by_hand(place, ROW) if e.row_key == str(row.id)], 90
    )
    assert place.ended(entry.task_id, 90).status == "completed"
    assert len(by_hand(place, ONCE)) == before + 1
    assert place.sql("SELECT done FROM clickitem WHERE id = :id", id=row.id) == 1


def test_the_switch_that_pauses_a_schedule_is_put_right(
    place: Place, page: playwright.Page
) -> None:
    """The occurrences go on, each once."""
    deployment(place, page, MINUTELY)
    switch = page.get_by_role("switch", name="Pause or resume all schedules")
    switch.click()
    page.get_by_text("Deployment paused").first.wait_for()
    clicked = clock.now()

    def goes_on() -> bool:
        place.sync()
        return not place.deployments()[MINUTELY]["paused"]

    until(goes_on, 60, every=1)

    def completed() -> list[Entry]:
        found = place.entries(MINUTELY)
        return [e for e in found if e.due > clicked and e.status == "completed"]

    until(completed, 180, every=1)
    due = Counter(entry.due for entry in place.entries(MINUTELY))
    assert max(due.values()) == 1
