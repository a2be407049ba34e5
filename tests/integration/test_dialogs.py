"""The dialogs and the notices on a real server: submitted as the UI submits, and what becomes of it."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from place import Place, until

from jittask_prefect.dialogs import forms
from jittask_prefect.errors import PrefectApiError
from jittask_prefect.schedule import clock


def submit(work: Place, dialog: str, form: dict[str, Any]) -> str:
    """Submit a form as the UI does: the server checks it by its schema; the flow run's id."""
    found = work.deployments()[dialog]["id"]
    body = {"parameters": form, "state": {"type": "SCHEDULED"}}
    path = f"/deployments/{found}/create_flow_run"
    return str(work.api.call("POST", path, body=body)["id"])


def done(work: Place, run_id: str) -> dict[str, Any]:
    return work.state(run_id, "Completed", "Failed", "Crashed", seconds=90)


def page(work: Place, key: str) -> str:
    return str(work.api.call("GET", f"/artifacts/{key}/latest")["data"])


def again(work: Place, name: str) -> None:
    """What a first try of the test has made is no task that stands in the way of a second."""
    shutil.rmtree(work.app.path / name.replace(".", "/"), ignore_errors=True)


def test_a_date_field_task_from_form_to_effect(work: Place) -> None:
    form = {
        "title": "从表单来的任务",
        "startField": "WorkItem.at",
        "filter": "Q(status='formed')",
        "when": "On the date",
    }
    name = "tasks.CongBiaoDanLaiDeRenWu"
    again(work, name)
    run_id = submit(work, forms.NEW_DATE_FIELD, form)
    assert done(work, run_id).message == f"{name} is made and deployed"
    assert (work.app.path / name.replace(".", "/") / "e.json").exists()
    assert name in work.deployments()
    assert f"`{name}`" in page(work, "dialog-working--tasks-congbiaodanlaiderenwu")
    work.save("WorkItem", at=datetime.now() - timedelta(seconds=1), status="formed")
    work.sync()
    entry = max(work.entries(name), key=lambda e: e.created)
    assert work.ended(entry.task_id, 90).status == "completed"

    # Its own form, with another filter; the child that ran it before has old code and is replaced.
    edited = {
        "task": name,
        "title": "Edited",
        "startField": "WorkItem.at",
        "filter": "Q(status='never')",
    }
    changed = f"{name} is changed and deployed: Task name, Filter"
    assert done(work, submit(work, forms.EDIT, edited)).message == changed
    assert (
        json.loads((work.app.path / name.replace(".", "/") / "e.json").read_text())[
            "filter"
        ]
        == "Q(status='never')"
    )
    assert "Edited" in work.deployments()[name]["description"]


def linked(page: str) -> dict[str, Any]:
    """The form that the last link of a page opens."""
    [parameters] = parse_qs(urlsplit(page.rpartition("](")[2].partition(")")[0]).query)[
        "parameters"
    ]
    found: dict[str, Any] = json.loads(parameters)
    return found


def test_a_copy_of_an_earlier_submit_changes_nothing(work: Place) -> None:
    """*Copy to new run* has the parameters of a form that was made before somebody disabled the task."""
    name, key = "tasks.CopiedForm", "dialog-working--tasks-copiedform"
    again(work, name)
    made = {
        "title": "Copied",
        "name": "CopiedForm",
        "startDate": "2026-01-01",
        "repeat": "Yearly",
    }
    assert done(work, submit(work, forms.NEW_SCHEDULED, made)).name == "Completed"
    first = {**linked(page(work, key)), "title": "Second"}
    assert (
        done(work, submit(work, forms.EDIT, first)).message
        == f"{name} is changed and deployed: Task name"
    )
    off = {**linked(page(work, key)), "enable": "Off", "title": "Third"}
    assert (
        done(work, submit(work, forms.EDIT, off)).message
        == f"{name} is changed and deployed: Task name, Enabled"
    )
    file = work.app.path / name.replace(".", "/") / "e.json"
    before = file.read_bytes()
    copied = done(work, submit(work, forms.EDIT, first))
    assert copied.name == "Failed"
    assert (
        'title: found a form made from "Copied"; allowed: a form made from "Third"'
        in copied.message
    )
    assert (
        "enable: found a form made from nothing; allowed: a form made from 0"
        in copied.message
    )
    assert file.read_bytes() == before and work.deployments()[name]["paused"]
    fresh = linked(page(work, key))
    assert (fresh["title"], fresh["enable"]) == ("Third", "Off")
    with pytest.raises(
        PrefectApiError, match="answered 409"
    ):  # a Quick run has no parameters
        submit(work, forms.EDIT, {})


def test_what_is_refused_says_so_in_state_and_log_and_writes_nothing(
    work: Place,
) -> None:
    before = sorted(place.name for place in (work.app.path / "tasks").iterdir())
    run_id = submit(
        work,
        forms.NEW_SCHEDULED,
        {"title": "<b>x</b>", "startDate": "2026-01-01", "cron": "{{ 1 }}"},
    )
    state = done(work, run_id)
    assert (
        state.name == "Failed"
        and "Task name: found" in state.message
        and "Custom: cron" in state.message
    )
    starts = ("Task name: found", "Custom: cron: found")
    said = until(
        lambda: [
            log.message
            for log in work.api.logs(run_id)
            if log.message.startswith(starts)
        ]
    )
    assert len(said) == 2
    assert sorted(place.name for place in (work.app.path / "tasks").iterdir()) == before


def test_the_server_refuses_what_the_schema_does_not_take(work: Place) -> None:
    for form in (
        {"title": "No start"},
        {"title": "x", "startDate": "2026-01-01", "repeat": "Sometimes"},
        {"title": "x", "startDate": "2026-01-01", "repeats": {"everyWeeks": 0}},
        {"title": "x", "startDate": "2026-01-01", "limits": {"timeout": "long"}},
        {"title": "x", "startDate": "2026-01-01", "repeats": "Weekly"},
    ):
        with pytest.raises(PrefectApiError, match="answered 409"):
            submit(work, forms.NEW_SCHEDULED, form)


def test_of_two_who_make_one_name_one_is_told(work: Place) -> None:
    form = {"title": "One of two", "name": "OneOfTwo", "startDate": "2026-01-01"}
    with ThreadPoolExecutor(2) as pool:
        runs = list(
            pool.map(lambda _: submit(work, forms.NEW_SCHEDULED, form), range(2))
        )
    states = sorted(done(work, run).message for run in runs)
    assert states[0].startswith("refused: English name: found") or states[0].startswith(
        "refused: name"
    )
    assert states[1] == "tasks.OneOfTwo is made and deployed"


def test_run_now_and_end(work: Place) -> None:
    assert done(
        work,
        submit(
            work, forms.RUN_NOW, {"task": "tasks.WorkAdd", "argDict": '{"amount": 7}'}
        ),
    ).name == ("Completed")
    until(
        lambda: [
            r
            for r in work.svc.getTaskRecords("tasks.WorkAdd")
            if r["result"] == {"sum": 7}
        ],
        60,
    )
    row = work.save("WorkItem", at=datetime.now() + timedelta(hours=3), status="later")
    work.sync()
    [entry] = work.entries("tasks.WorkLater", row.id)
    run_id = submit(work, forms.END, {"taskId": entry.task_id})
    ended = done(work, run_id)
    assert ended.message == f"{entry.task_id} was pending and is ended"
    # At once: the UI asks for the log of an ended run a single time.
    assert ended.message in [line.message for line in work.api.logs(run_id)]
    assert work.entry(entry.task_id).outcome == "forced"


class Inbox:
    """A web server that keeps what is posted to it."""

    def __init__(self) -> None:
        self.got: list[str] = []
        got = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                got.append(
                    self.rfile.read(int(self.headers["Content-Length"])).decode()
                )
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    made = Inbox()
    yield made
    made.server.shutdown()
    made.server.server_close()


def overdue(work: Place, inbox: Inbox) -> str:
    """What is told of a task that no worker takes: its pool has none."""
    work.api.ensure_pool("nobody", "process")
    deployment = work.deployments()["tasks.WorkFails"]
    work.api.change_deployment(deployment["id"], {"work_pool_name": "nobody"})
    try:
        task = work.svc.createTimerTask(
            "tasks.WorkFails", clock.now(), "customFunc", "tasks.NormalType"
        )
        [told] = until(lambda: [text for text in inbox.got if "is Late" in text], 90)
        work.svc.forcedEnd(task["taskId"])
    finally:
        before = {n: deployment[n] for n in ("work_pool_name", "work_queue_name")}
        work.api.change_deployment(deployment["id"], before)
    return told


def test_a_failed_and_an_overdue_task_are_told_of(work: Place, inbox: Inbox) -> None:
    kind = work.api.call("GET", "/block_types/slug/custom-webhook")
    schemas = work.api.call(
        "POST",
        "/block_schemas/filter",
        body={"block_schemas": {"block_type_id": {"any_": [kind["id"]]}}},
    )
    port = inbox.server.server_port
    block = f"ops-{port}"  # another one where the test is run again
    data = {
        "name": block,
        "url": f"http://127.0.0.1:{port}/",
        "method": "POST",
        "json_data": {"text": "{{body}}", "about": "{{subject}}"},
    }
    about = {
        "name": block,
        "block_type_id": kind["id"],
        "block_schema_id": schemas[0]["id"],
        "data": data,
    }
    work.api.call("POST", "/block_documents/", body=about)
    assert f"custom-webhook/{block}" in work.jittask("notify").stdout
    for _ in range(2):
        made = work.jittask("notify", f"custom-webhook/{block}")
        assert made.stdout.splitlines() == [
            f"jittask working: failed: through custom-webhook/{block}",
            f"jittask working: overdue: through custom-webhook/{block}",
        ], made.stderr
    work.svc.createTimerTask(
        "tasks.WorkFails", clock.now(), "customFunc", "tasks.NormalType"
    )
    [told] = until(
        lambda: [text for text in inbox.got if "no such customer" in text], 90
    )
    assert (
        "is Failed: error: ValueError: no such customer" in told
        and "a task failed" in told
    )
    told = overdue(work, inbox)
    assert (
        "of tasks.WorkFails is Late" in told
        and "a task is overdue" in told
        and "/v2/runs/flow-run/" in told
        and "/v2/v2/" not in told
    )
    refused = work.jittask("notify", "slack-webhook/nobody")
    assert refused.returncode == 1 and f"custom-webhook/{block}" in refused.stderr
    assert "jittask working: failed: off" in work.jittask("notify", "--off").stdout
    assert work.jittask("notify", "--off").stdout.strip() == "there were none"
