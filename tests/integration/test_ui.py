"""What Prefect's UI shows of the records: links that filter as they say, pages of statistics; in a real browser."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from patience import PATIENCE
from place import DAILY, Place, model, rows, scheduled

from jittask_prefect.prefect_api import links
from jittask_prefect.records import template_pages
from jittask_prefect.schedule import clock
from jittask_prefect.server.service import ServiceInfo

ROWS, DAILY_TASK = "tasks.UiRows", "tasks.UiDaily"
CHROMIUM = shutil.which("chromium")
STATES = {
    "pending": ("SCHEDULED", "Scheduled"),
    "executing": ("RUNNING", "Running"),
    "overdue": ("SCHEDULED", "Late"),
    "completed": ("COMPLETED", "Completed"),
    "error": ("FAILED", "TimedOut"),
    "ended": ("CANCELLED", "Cancelled"),
}


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: ServiceInfo
) -> Iterator[Place]:
    elements = {
        "models/UiItem": model("UiItem"),
        "tasks/UiRows": rows("UiItem", title="Rows <b>|*all*"),
        "tasks/UiDaily": scheduled("def customFunc():\n    return 1\n", repeat=DAILY),
    }
    made = Place.build(tmp_path_factory.mktemp("ui") / "app", elements, name="looking")
    made.deploy()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def runs(place: Place) -> dict[str, str]:
    """A row's flow run in each status, by status; they are due an hour from now, one more than the other."""
    now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    saved = {
        status: place.save("UiItem", at=now + timedelta(hours=n + 1))
        for n, status in enumerate(STATES)
    }
    place.sync()
    made = {
        status: str(place.entries(ROWS, row.id)[0].flow_run_id)
        for status, row in saved.items()
    }
    for status, (kind, name) in STATES.items():
        if status != "pending":
            place.api.set_state(made[status], kind, name=name, force=True)
    return made


def shown(place: Place, link: str) -> set[str]:
    """The ids of the runs that a link's page asks the API for (`ui-v2/src/routes/runs`)."""
    query = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    where: dict[str, Any] = {}
    if "state" in query:
        where["state"] = {"name": {"any_": query["state"].split(",")}}
    if "tags" in query:
        where["tags"] = {"any_": query["tags"].split(",")}
    if "start" in query:
        where["expected_start_time"] = {
            "after_": query["start"],
            "before_": query["end"],
        }
    if "flow-run-search" in query:
        where["name"] = {"like_": query["flow-run-search"]}
    return {run.id for run in place.api.runs(flow_runs=where)}


def described(place: Place, name: str) -> dict[str, str]:
    """The links of a deployment's description, by their text."""
    return dict(
        re.findall(
            r"\[([a-z]+)\]\((/v2/[^)]*)\)", place.deployments()[name]["description"]
        )
    )


def test_each_link_of_a_description_shows_the_runs_of_its_status(
    place: Place, runs: dict[str, str]
) -> None:
    found = described(place, ROWS)
    assert {status: shown(place, found[status]) for status in STATES} == {
        s: {run} for s, run in runs.items()
    }


def test_runs_of_a_schedule_carry_their_templates_tag(place: Place) -> None:
    waiting = {run.id for run in place.runs(DAILY_TASK, "SCHEDULED")}
    assert waiting
    assert shown(place, described(place, DAILY_TASK)["pending"]) == waiting


def test_the_link_of_a_row_and_of_a_span_of_time(
    place: Place, runs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    [mine] = [e for e in place.entries(ROWS) if e.flow_run_id == runs["error"]]
    done = place.jittask("records", ROWS, "--row", mine.row_key, "--open")
    assert done.returncode == 0, done.stderr
    assert opened.read_text() == done.stdout
    assert done.stdout.startswith(place.api.ui_url.removesuffix("/v2") + "/v2/runs?")
    # A sync may have made another run of it: this one failed without a claim.
    [tag] = [
        tag
        for tag in place.api.run(runs["error"]).tags
        if tag.endswith(f":{mine.row_key}")
    ]  # type: ignore[index]
    of_row = {run.id for run in place.api.runs(flow_runs={"tags": {"all_": [tag]}})}
    assert runs["error"] in of_row and shown(place, done.stdout.strip()) == of_row
    due = {status: place.api.run(r).expected_start_time for status, r in runs.items()}  # type: ignore[index]
    link = links.runs(
        tag=f"looking.{ROWS}", start=due["executing"], end=due["completed"]
    )
    assert shown(place, link) == {runs["executing"], runs["overdue"]}


def test_records_of_a_row_as_csv(place: Place, runs: dict[str, str]) -> None:
    entry = place.entry(runs["completed"])
    done = place.jittask("records", ROWS, "--row", entry.row_key, "--csv")
    [record] = csv.DictReader(io.StringIO(done.stdout))
    assert (record["taskId"], record["row"], record["fullName"]) == (
        entry.task_id,
        entry.row_key,
        ROWS,
    )
    assert record["url"].endswith(f"/v2/runs/flow-run/{runs['completed']}")


def artifacts(place: Place, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = place.api.call(
        "POST", "/artifacts/filter", body={"artifacts": {"key": {"any_": [key]}}}
    )
    return found


def test_the_sync_keeps_one_page_of_each_template_current(
    place: Place, runs: dict[str, str]
) -> None:
    place.sync()
    key = links.key(place.app.name, ROWS)
    [before] = artifacts(place, key)
    assert (
        links.statistics(place.app.name, ROWS)
        == described(place, ROWS)["statistics"]
        == f"/v2/artifacts/key/{key}"
    )
    ended = place.save(
        "UiItem", at=datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=30)
    )
    place.svc.forcedEnd(place.entries(ROWS, ended.id)[0].task_id)
    later = clock.now() + timedelta(minutes=6)
    assert template_pages.refresh(place.app, place.api, later) == [ROWS]
    [after] = artifacts(place, key)  # changed in place
    assert after["id"] == before["id"]
    assert "forced" not in before["data"] and "ended: forced" in after["data"]
    assert template_pages.refresh(place.app, place.api, later) == []
    place.api.drop_artifact(after["id"])
    place.svc.forcedEnd(place.entries(ROWS)[-1].task_id)
    assert ROWS in template_pages.refresh(
        place.app, place.api, later + timedelta(days=1)
    )
    [again] = artifacts(place, key)
    assert again["id"] != before["id"]


def dom(place: Place, path: str, home: Path) -> str:
    """A page as a browser has it once it is drawn."""
    assert CHROMIUM
    flags = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=15000",
        "--window-size=1300,1100",
    ]
    url = place.api.url.removesuffix("/api") + path
    done = subprocess.run(
        [CHROMIUM, *flags, f"--user-data-dir={home}", "--dump-dom", url],
        capture_output=True,
        text=True,
        timeout=90 * PATIENCE,
    )
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_shows_links_that_filter_and_a_page_with_charts(
    place: Place, runs: dict[str, str], tmp_path: Path
) -> None:
    place.sync()
    found = place.deployments()[ROWS]
    text = dom(
        place, f"/v2/deployments/deployment/{found['id']}?tab=Description", tmp_path
    )
    linked = {
        unescape(href)
        for href in re.findall(r'<a href="(/v2/(?:runs\?|artifacts/key)[^"]*)"', text)
    }
    assert linked == set(described(place, ROWS).values())
    assert "Rows &lt;b&gt;|*all*</strong>" in text
    error = dom(place, described(place, ROWS)["error"], tmp_path)
    assert (
        "1 Flow run<" in error.replace("<!-- -->", "")
        and f"/v2/runs/flow-run/{runs['error']}" in error
    )
    state = json.loads(
        place.sql("SELECT value FROM jittask_state WHERE name = :n", n=f"page:{ROWS}")
    )
    page = dom(place, links.artifact(state["id"]), tmp_path)
    assert page.count('src="data:image/svg+xml;base64,') == 2
    assert "What comes next</h3>" in page
