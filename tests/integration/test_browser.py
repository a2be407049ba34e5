"""What a person does in the Prefect UI, in headless Chromium: fill in a dialog, follow a task, end another.

The guide's pictures come from here: `JITTASK_SCREENSHOTS=docs/images pytest -n 0 tests/integration/test_browser.py`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from patience import PATIENCE
from place import SCRIPTS, until
from prefect_database import prepare
from sqlalchemy import text
from sqlmodel import Session

from jittask_prefect import App

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = (
    shutil.which("chromium")
    or shutil.which("chromium-browser")
    or shutil.which("google-chrome")
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]
NAME = "tasks.CallTheCustomer"
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")


class Shop:
    """The demo shop as `jittask up` runs it, in a folder of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url, self.app = url, App(folder)

    def appointment(self, key: int, due: timedelta) -> None:
        """An appointment an hour after the instant that its call is due."""
        now = datetime.now(ZoneInfo(self.app.timezone)).replace(
            tzinfo=None, microsecond=0
        )
        with Session(self.app.engine()) as session:
            model = self.app.getElement("models.Appointment")
            row = session.get(model, key)
            if row is None:
                row = model(
                    id=key,
                    customer="Li Wei",
                    phone="+86 10 5555",
                    subject="Fitting",
                    startsAt=now,
                )
                session.add(row)
            row.startsAt = now + due + timedelta(hours=1)
            session.commit()

    def orders(self, count: int) -> None:
        """Unpaid orders that are cancelled at one instant, 20 seconds from now; the task fails for one of them."""
        now = datetime.now(ZoneInfo(self.app.timezone)).replace(tzinfo=None)
        pay_by = now.replace(microsecond=0) + timedelta(hours=-2, seconds=20)
        model = self.app.getElement("models.Order")
        with Session(self.app.engine()) as session:
            for key in range(2001, 2001 + count):
                item = "Lamp" if key == 2043 else "Chair"
                about = {"customer": f"Customer {key}", "email": f"{key}@example.com"}
                row = model(id=key, item=item, amount=1, payBy=pay_by, **about)
                session.add(row)
            session.commit()

    def status(self, key: int) -> str | None:
        """The status of an appointment's earliest open or completed task."""
        query = text(
            "SELECT status FROM jittask_ledger WHERE template = :name AND row_key = :key"
            " AND status <> 'ended' ORDER BY due"
        )
        with self.app.engine().connect() as connection:
            found = connection.execute(query, {"name": NAME, "key": str(key)})
            return found.scalars().first()


@pytest.fixture(scope="module")
def shop(
    tmp_path_factory: pytest.TempPathFactory, prefect_database: Path
) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("browser") / "shop"
    shutil.copytree(
        ROOT / "flows",
        folder,
        ignore=shutil.ignore_patterns(".jittask", "*.db*", "__pycache__"),
    )
    inner = folder / "tasks/OrderCancel/inner.py"
    refuses = 'if rowData.item == "Lamp":\n        raise RuntimeError("the stock system does not know the item")'
    first = 'rowData.status = "cancelled"'
    inner.write_text(inner.read_text().replace(first, f"{refuses}\n    {first}", 1))
    prepare(folder / ".jittask", prefect_database)
    env = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {
        "JITTASK_APP": str(folder)
    }
    log = folder.parent / "up.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [SCRIPTS / "jittask", "up"],
            env=env,
            cwd=folder,
            stdout=output,
            stderr=output,
        )

    def up() -> re.Match[str] | None:
        assert process.poll() is None, "`jittask up` has ended: " + log.read_text()
        return re.search(r"is up: (\S+)", log.read_text())

    try:
        found = until(
            up, 180, what=f"`jittask up` does not say that it is up, see {log}"
        )
        yield Shop(folder, found[1])
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


class Browser:
    """A page of the UI, and what hands and eyes do there."""

    def __init__(self, page: playwright.Page, shop: Shop) -> None:
        self.page, self.base = page, f"{shop.url}/v2"

    def goto(self, path: str) -> None:
        self.page.goto(self.base + path)

    def rests(self) -> None:
        """Leave the UI while nothing of it is looked at: each of its pages asks the server again and again."""
        self.page.goto("about:blank")

    def shot(self, name: str) -> None:
        """Keep a picture, where one is asked for."""
        if folder := os.environ.get("JITTASK_SCREENSHOTS"):
            self.page.wait_for_timeout(500)
            self.page.screenshot(path=Path(folder) / f"{name}.png")

    def sees(self, text: str, seconds: float = 60) -> playwright.Locator:
        """Wait until a text is there; the page is loaded again now and then, as it does not follow everything."""
        found, deadline = (
            self.page.get_by_text(text).first,
            time.monotonic() + seconds * PATIENCE,
        )
        while True:
            try:
                found.wait_for(timeout=5_000)
                return found
            except playwright.TimeoutError:
                assert time.monotonic() < deadline, (
                    f"{text!r} is not on {self.page.url}"
                )
                self.page.reload()

    def dialog(self, name: str) -> None:
        """Open a dialog's form, by way of the list of deployments."""
        self.goto("/deployments")
        self.page.get_by_role("link", name=name).first.click()
        self.page.get_by_role("button", name="Run").first.click()
        self.page.get_by_role("menuitem", name="Custom run").click()
        self.page.get_by_role("heading", name="Parameters").wait_for()

    def field(self, title: str) -> playwright.Locator:
        label = self.page.locator("label").filter(
            has_text=re.compile(rf"^{re.escape(title)}( \(Optional\))?$")
        )
        return self.page.locator(f'[id="{label.first.get_attribute("for")}"]')

    def choose(self, title: str, option: str, *, many: bool = False) -> None:
        self.field(title).click()
        self.page.get_by_role("option", name=option, exact=True).click()
        listed = self.page.get_by_role("listbox")
        if many:  # such a list stays open
            self.page.keyboard.press("Escape")
        listed.wait_for(state="hidden")

    def tab(self, group: str, title: str) -> None:
        """Choose a tab of a group."""
        label = self.page.locator("label").filter(
            has_text=re.compile(rf"^{re.escape(group)}( \(Optional\))?$")
        )
        place = label.locator("xpath=ancestor::div[contains(@class, 'group')][1]")
        place.get_by_role("tab", name=title, exact=True).click()

    def labels(self) -> list[str]:
        """The labels of the form's fields that are there."""
        found = self.page.locator("label").all_inner_texts()
        return [text.removesuffix(" (Optional)") for text in found]

    def submit(self) -> None:
        """Submit, as often as a busy server refuses, and follow the run to its page."""
        form = self.page.url
        for _ in range(6):
            self.page.get_by_role("button", name="Submit").click()
            try:
                self.page.wait_for_url(
                    lambda url: url != form, timeout=10_000 * PATIENCE
                )
                break
            except playwright.TimeoutError:
                continue
        self.page.locator('a[href*="/runs/flow-run/"]').first.click()
        self.page.wait_for_url("**/runs/flow-run/**")


@pytest.fixture(scope="module")
def chromium() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def browser(chromium: playwright.Browser, shop: Shop) -> Iterator[Browser]:
    """A new page. Without animations: a machine without a graphics card spends most of its time on these."""
    page = chromium.new_page(
        viewport={"width": 1280, "height": 1000}, reduced_motion="reduce"
    )
    page.set_default_timeout(30_000 * PATIENCE)
    yield Browser(page, shop)
    page.close()


def test_a_task_from_the_dialog_to_its_end(browser: Browser, shop: Shop) -> None:
    # Fill in the dialog.
    browser.dialog("jittask.new-date-field-task")
    browser.field("Task name").fill("Call the customer")
    browser.choose("Model and date field", "Appointment · models.Appointment.startsAt")
    assert len(browser.labels()) <= 15
    browser.tab("Due", "Before")
    browser.field("How many").fill("1")
    browser.choose("Unit", "hours")
    browser.shot("dialog")
    browser.submit()
    browser.sees(f"{NAME} is made and deployed", 90)
    browser.sees("Preview: ")
    browser.shot("submitted")
    for path in ("/artifacts/artifact/", "/deployments/deployment/", "/artifacts/key/"):
        assert browser.page.locator(f'a[target=_blank][href*="/v2{path}"]').count()
    assert (shop.app.path / "tasks/CallTheCustomer/e.json").exists()

    # The task is among the deployments.
    browser.goto("/deployments")
    browser.page.get_by_role("link", name=NAME).first.click()
    browser.page.get_by_role("tab", name="Description").click()
    browser.sees("1 hour before")
    browser.shot("task")

    # A row changes; its run is pending under its name, then runs, and is among the completed ones.
    shop.appointment(501, timedelta(minutes=30))
    shop.appointment(501, timedelta(seconds=40))
    shop.appointment(502, timedelta(minutes=30))
    browser.goto(f"/runs?tags=shop.{NAME}&state=Scheduled&sort=START_TIME_ASC")
    browser.sees("(Appointment 501) · ", 90)
    browser.sees("(Appointment 502) · ", 90)
    browser.shot("pending")
    browser.rests()
    until(lambda: shop.status(501) == "completed", 120, every=0.5)
    browser.goto(f"/runs?tags=shop.{NAME}&state=Completed")
    browser.sees("(Appointment 501) · ")
    browser.shot("completed")

    # End another: by the id in the address of its run.
    browser.goto(f"/runs?tags=shop.{NAME}&state=Scheduled&sort=START_TIME_ASC")
    browser.sees("(Appointment 502) · ").click()
    browser.page.wait_for_url("**/runs/flow-run/**")
    run_id = re.search(r"flow-run/([0-9a-f-]{36})", browser.page.url)
    assert run_id
    browser.dialog("jittask.end-task")
    browser.field("or its id").fill(run_id[1])
    browser.shot("end")
    browser.submit()
    browser.sees("was pending and is ended", 90)
    browser.goto(f"/runs/flow-run/{run_id[1]}")
    browser.sees("Cancelled")
    browser.shot("ended")


def test_only_the_fields_of_the_chosen_tab_are_there(
    browser: Browser, shop: Shop
) -> None:
    browser.dialog("jittask.new-scheduled-task")
    assert "Weekdays" not in browser.labels() and len(browser.labels()) <= 15
    browser.field("Task name").fill("Water the plants")
    browser.field("Start").click()
    browser.page.get_by_role("gridcell").get_by_role("button").last.click()
    browser.tab("Repeats", "Cron")
    browser.field("Custom: cron").fill("nonsense")
    browser.tab("Repeats", "Weekly")
    assert "Custom: cron" not in browser.labels()
    browser.choose("Weekdays", "Thursday", many=True)
    browser.shot("tabs")
    browser.submit()
    browser.sees("tasks.WaterThePlants is made and deployed", 90)
    file = shop.app.path / "tasks/WaterThePlants/e.json"
    timer = json.loads(file.read_text())["timerCfg"]
    assert timer["repeat"] == {"repeatType": "week", "weekday": [4]}


def test_the_form_for_editing_shows_what_is(browser: Browser, shop: Shop) -> None:
    """Opened from its page it is filled in; opened by hand it claims nothing; an emptied field changes nothing."""
    name, file = (
        "tasks.AppointmentReminder",
        shop.app.path / "tasks/AppointmentReminder/e.json",
    )
    before = json.loads(file.read_text())
    browser.dialog("jittask.edit-task")
    browser.shot("edit-blank")
    assert (
        browser.field("Enabled").inner_text().strip() == "Select"
    )  # a switch would show *off*
    browser.goto("/artifacts/key/stats-shop--tasks-appointmentreminder")
    browser.sees("Edit the task", 120).click()
    browser.page.get_by_role("heading", name="Parameters").wait_for()
    assert browser.field("Task name").input_value() == before["title"]
    assert "On" in browser.field("Enabled").inner_text()
    browser.shot("edit")
    browser.field("Task name").fill("Remind by phone")
    browser.field("Filter").fill("")
    browser.choose("Enabled", "Off")
    browser.shot("edited")
    browser.submit()
    browser.sees(
        f"{name} is changed and deployed: Task name, Enabled; left as it was, for its field is empty: Filter",
        90,
    )
    browser.shot("edit-done")
    assert json.loads(file.read_text()) == {
        **before,
        "title": "Remind by phone",
        "enable": 0,
    }


def test_the_rows_of_an_instant_share_a_run_in_which_the_failed_row_is_named(
    browser: Browser, shop: Shop
) -> None:
    shop.orders(100)
    browser.goto("/runs?tags=shop.tasks.OrderCancel&sort=START_TIME_DESC&state=Failed")
    run = browser.sees("Cancel overdue order · 100 rows · ", 120)
    run.scroll_into_view_if_needed()
    browser.shot("instant")
    run.click()
    browser.page.wait_for_url("**/runs/flow-run/**")
    browser.page.get_by_role("tab", name="Task Runs").click()
    browser.sees("Customer 2043 (Order 2043)")
    browser.shot("failed-row")


def test_what_does_not_fit_is_said_in_the_form(browser: Browser) -> None:
    browser.dialog("jittask.new-scheduled-task")
    browser.tab("More", "Change")
    browser.field("English name").fill("1 not a name")
    browser.page.get_by_role("button", name="Submit").click()
    for said in ("is a required property", "does not match"):
        browser.page.get_by_text(said).first.wait_for()
    browser.shot("refused")
