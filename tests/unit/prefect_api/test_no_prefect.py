"""A process that saves rows, and hands their tasks over in the background, imports nothing of Prefect."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from shop import model_of, rows_task

from jittask_prefect.testing import build_app

SAVES = """
import sys, time
from datetime import timedelta
from pathlib import Path
from sqlmodel import Session, text
import jittask_prefect
from jittask_prefect.schedule import clock

app = jittask_prefect.App(Path(sys.argv[1]))
due = clock.now() + timedelta(hours=1)
with Session(app.engine()) as session:
    session.add(app.getElement("models.Bill")(id=1, at=due.replace(tzinfo=None)))
    session.commit()
until = time.monotonic() + 20
dirty = True
while dirty and time.monotonic() < until:
    time.sleep(0.05)
    with app.engine().connect() as connection:
        dirty = connection.execute(text("SELECT dirty FROM jittask_ledger")).scalar_one()
assert not dirty, "not handed over"
print(sorted(name for name in sys.modules if name.split(".")[0] == "prefect"))
"""
SAVED = """
import sys
from datetime import datetime
from pathlib import Path
from sqlmodel import Session
import jittask_prefect

app = jittask_prefect.App(Path(sys.argv[1]))
with Session(app.engine()) as session:
    session.add(app.getElement("models.Bill")(id=1, at=datetime(2099, 1, 1)))
    session.commit()
    loaded = set(sys.modules)
print(sorted(loaded & set(sys.argv[2:])))
"""
COSTLY = (
    "prefect", "httpx", "psutil", "filelock", "rich", "typer", "fastapi", "holidays", "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.mysql", "jittask_prefect.server.embedded", "jittask_prefect.task_svc.service",
)  # fmt: skip
"""What a process that saves rows has no use for; `benchmarks/web_process.py` has the times."""
DEPLOYMENT = {"id": "d", "name": "tasks.Task", "tags": ["app:test"], "schedules": []}


class Handler(BaseHTTPRequestHandler):
    """A Prefect server that has one deployment and makes each run that is asked for."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer: Any = []
        if self.path == "/api/deployments/filter":
            answer = [DEPLOYMENT]
        elif self.path == "/api/deployments/d/create_flow_run":
            due = body["state"]["state_details"]["scheduled_time"]
            answer = {**body, "id": "r", "state_type": "SCHEDULED"}
            answer["expected_start_time"] = due
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self) -> None:
        """No object is there: no variable that knows the app's database."""
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


def test_a_saved_row_is_handed_over_without_prefect(tmp_path: Path, url: str) -> None:
    app = build_app(
        tmp_path / "app", {"models/Bill": model_of(), "tasks/Task": rows_task()}
    )
    app.close()
    done = subprocess.run(
        [sys.executable, "-c", SAVES, str(tmp_path / "app")],
        env={**os.environ, "PREFECT_API_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_importing_the_package_and_saving_a_row_loads_nothing_costly(
    tmp_path: Path,
) -> None:
    app = build_app(
        tmp_path / "app", {"models/Bill": model_of(), "tasks/Task": rows_task()}
    )
    app.close()
    # The hand-over's thread begins after the commit, and would load them then.
    quiet = "from jittask_prefect.rows import background_handover as b; b.leave(app)\n"
    code = SAVED.replace("with Session", quiet + "with Session", 1)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "app"), *COSTLY],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
