"""What a web process pays: importing the package and saving a row, against SQLModel alone; the facade's first call.

Fresh processes, the kinds in turn, by their own CPU time: so HTTP's waiting is left out, and a busy machine counts
little. The promises: at most 0.3 s more than SQLModel alone, and at most 0.5 s for the first call, on a machine where
SQLModel alone takes 0.3 s.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from measure import line, scale, workplace

from jittask_prefect.testing import build_app

ALONE = """
import sys, time
from sqlmodel import Field, Session, SQLModel, create_engine
class Bill(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    at: str = ""
engine = create_engine(f"sqlite:///{sys.argv[1]}/alone.db")
SQLModel.metadata.create_all(engine)
with Session(engine) as session:
    session.add(Bill())
    session.commit()
print(time.process_time())
"""
OURS = """
import sys, time
from datetime import datetime, timedelta
from sqlmodel import Session
import jittask_prefect
app = jittask_prefect.App(sys.argv[1])
with Session(app.engine()) as session:
    session.add(app.getElement("models.Bill")(at=datetime.now() + timedelta(hours=1)))
    session.commit()
print(time.process_time())
"""
CALL = """
import sys, time
import jittask_prefect
app = jittask_prefect.App(sys.argv[1])
app.getElement("models.Bill")
begun = time.process_time()
made = app.getElement("services.TaskSvc").createTimerTask(
    "tasks.Daily", "2099-01-01 09:00:00", "customFunc", "tasks.NormalType", {}
)
print(time.process_time() - begun)
"""
MODEL = """
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel
class Bill(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    at: NaiveDatetime | None = None
"""
ONCE = {"repeatType": "normal"}
ELEMENTS: Mapping[str, Any] = {
    "models/Bill": {
        "e.json": {"type": "models.NormalType", "title": "Bill"},
        "model.py": MODEL,
    },
    "tasks/Remind": {
        "e.json": {
            "type": "tasks.DateFieldType",
            "title": "Remind",
            "modelPath": "models.Bill",
            "filter": "Q('id', '>', 0)",
            "timerCfg": {"startField": "at", "repeat": ONCE},
        },
        "inner.py": "def customFunc(row): ...\n",
    },
    "tasks/Daily": {
        "e.json": {
            "type": "tasks.NormalType",
            "title": "Daily",
            "timerCfg": {
                "startTime": "2026-01-01 09:00:00",
                "repeat": {"repeatType": "day"},
            },
        },
        "inner.py": "def customFunc(): ...\n",
    },
}
DEPLOYMENT = {"id": "d", "name": "tasks.Daily", "tags": ["app:test"], "schedules": []}


class Handler(BaseHTTPRequestHandler):
    """A Prefect server with one deployment, that makes each run that is asked for."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer: Any = [DEPLOYMENT]
        if self.path.endswith("create_flow_run"):
            due = body["state"]["state_details"]["scheduled_time"]
            state = {"type": "SCHEDULED", "name": "Scheduled"}
            answer = {**body, "id": "r", "state": state, "expected_start_time": due}
        self._send(200, json.dumps(answer).encode())

    def do_GET(self) -> None:
        self._send(404, b"")

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def seconds(code: str, folder: Path, url: str | None) -> float:
    """The CPU time that a fresh process reports."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    env |= {"PREFECT_API_URL": url} if url else {}
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    rounds = 9 if scale(__doc__ or "") >= 1 else 1
    with workplace() as folder:
        build_app(folder / "app", ELEMENTS).close()
        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            serve = threading.Thread(target=server.serve_forever, daemon=True)
            serve.start()
            url = f"http://127.0.0.1:{server.server_port}/api"
            taken: dict[str, list[float]] = {ALONE: [], OURS: [], CALL: []}
            for _ in range(rounds):
                taken[ALONE].append(seconds(ALONE, folder, None))
                taken[OURS].append(seconds(OURS, folder / "app", None))
                taken[CALL].append(seconds(CALL, folder / "app", url))
            server.shutdown()
    alone, ours, call = (statistics.median(taken[kind]) for kind in (ALONE, OURS, CALL))
    both = {"seconds": round(ours, 3), "alone": round(alone, 3), "processes": rounds}
    about = "import and save of a row: more than SQLModel alone"
    line(
        about, ours - alone, "s", "SQLModel alone", ratio=round(ours / alone, 2), **both
    )
    about = "first call of the facade, without HTTP's waiting"
    line(about, call, "s", "0.5 s", ratio=round(call / alone, 2), processes=rounds)


if __name__ == "__main__":
    main()
