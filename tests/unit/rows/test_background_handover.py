"""The background hand-over: nobody waits for it, and nothing comes to harm where its process ends first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jittask_prefect.rows import background_handover
from jittask_prefect.testing import FakePrefect, build_app

# A client that takes a second to be made, most of it in a function that Rust calls.
MAKES = """
import threading, time
from pydantic import TypeAdapter, BeforeValidator
from typing import Annotated
from jittask_prefect.prefect_api import client
from jittask_prefect.rows import background_handover as nudge, handover

begun = threading.Event()

def busy(value):
    begun.set()
    until = time.monotonic() + 1
    while time.monotonic() < until:
        pass
    return value

class Slow:
    def __init__(self, url):
        TypeAdapter(Annotated[int, BeforeValidator(busy)]).validate_python(1)
        threading._register_atexit(print)  # as some modules do when they are imported: refused by then

client.PrefectApi = Slow
nudge.guard.require = lambda *arguments: None
handover.hand_over = lambda *arguments: None  # a parent that waits for its child gets as far
class App:
    path = __import__("pathlib").Path("nowhere")
nudge.nudge(App(), "")
begun.wait()
"""
# A client as it is, whose server answers nothing.
CONNECTS = """
import os, socket
from pathlib import Path
from jittask_prefect.rows import background_handover as nudge

class App:
    path = Path("nowhere")
nudge.guard.require = lambda app, api: api.ping()
with socket.create_server(("127.0.0.1", 0)) as server:
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{server.getsockname()[1]}/api"
    nudge.nudge(App(), "")
    server.accept()
"""
FORKS = """
import os
pid = os.fork()
if pid:
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize(
    "script", [MAKES, MAKES + FORKS, CONNECTS], ids=["ends", "forks", "connects"]
)
def test_a_process_that_ends_while_a_client_is_made(script: str) -> None:
    env = {**os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_nothing_of_a_tests_app_goes_to_the_server_that_the_settings_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, other = build_app(tmp_path / "app"), build_app(tmp_path / "other")
    FakePrefect().serve(app)
    asked: list[tuple[object, str]] = []
    monkeypatch.setattr(
        background_handover,
        "_queue",
        type("Queue", (), {"put": staticmethod(asked.append), "get": None})(),
    )
    monkeypatch.setattr(background_handover, "_work", lambda: None)
    background_handover.nudge(app, "")
    background_handover.nudge(other, "")
    assert asked == [(other, "")]
