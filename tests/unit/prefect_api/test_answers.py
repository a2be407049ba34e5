"""A server that answers with something else than Prefect's API does: calls and commands say so in a sentence."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jittask_prefect.cli import commands
from jittask_prefect.errors import PrefectApiError
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.rows.databases import upgrade
from jittask_prefect.testing import build_app

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
RUN = {
    "id": "r",
    "name": "n",
    "tags": [],
    "state_type": "SCHEDULED",
    "state": {"type": "SCHEDULED"},
}
ANSWERS: dict[str, tuple[int, bytes]] = {
    "a proxy's page": (200, b"<html><body>Welcome</body></html>"),
    "a proxy's error": (504, b"<html>\n<h1>Gateway Time-out</h1>\n</html>"),
    "an error of the server": (500, b'{"exception_message":"Internal Server Error"}'),
    "nothing": (200, b""),
    "null": (200, b"null"),
    "a list": (200, b"[]"),
    "an object": (200, b"{}"),
    "a list of numbers": (200, b"[1, 2]"),
    "a list of objects": (200, b'[{"id": 1, "name": null}]'),
    "a text": (200, b'"ok"'),
    "a number": (200, b"1e999"),
    "no text": (200, b"\xff\xfe"),
    "half": (200, b'[{"id": "x"'),
    "deep": (200, b"[" * 100_000 + b"]" * 100_000),
    "a run with another time": (
        200,
        json.dumps([RUN | {"expected_start_time": "soon"}]).encode(),
    ),
    "a run with another state": (200, json.dumps([RUN | {"state": [1]}]).encode()),
}
CALLS: dict[str, Callable[[PrefectApi], Any]] = {
    "ensure_pool": lambda api: api.ensure_pool("p", "jittask"),
    "pool_kind": lambda api: api.pool_kind("p"),
    "deployments": lambda api: api.deployments("app:x"),
    "make_deployment": lambda api: api.make_deployment("f", {}),
    "create_run": lambda api: api.create_run(
        "d", key="k", name="n", due=NOW, tags=[], parameters={}
    ),
    "run": lambda api: api.run("r"),
    "runs": lambda api: api.runs(limit=5),
    "count_runs": lambda api: api.count_runs(),
    "set_state": lambda api: api.set_state("r", "CANCELLED"),
    "logs": lambda api: api.logs("r"),
    "table": lambda api: api.table("r"),
    "put_markdown": lambda api: api.put_markdown("k", "t", "d"),
    "notification_blocks": lambda api: api.notification_blocks(),
}
COMMANDS = (
    ["deploy"], ["sync"], ["records"], ["doctor"], ["notify"], ["notify", "a/b"], ["notify", "--off"],
    ["end", "x"], ["worker"],
)  # fmt: skip


class Server(ThreadingHTTPServer):
    """A server that gives one answer to all."""

    answer: tuple[int, bytes]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        code, body = self.server.answer
        if "csrf" in self.path and body.startswith((b"[", b"{")):
            code = 404  # an older server asks for no token
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _answer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def api(server: Server) -> PrefectApi:
    return PrefectApi(f"http://127.0.0.1:{server.server_port}/api")


@pytest.mark.parametrize("how", ANSWERS)
def test_a_call_gives_what_it_says_or_is_refused(
    api: PrefectApi, server: Server, how: str
) -> None:
    """An empty list and null may be an answer; everything else of these is none."""
    server.answer = ANSWERS[how]
    given = {}
    for name, call in CALLS.items():
        try:
            given[name] = call(api)
        except PrefectApiError as error:
            assert f"http://127.0.0.1:{server.server_port}/api" in str(
                error
            ) and "\n" not in str(error)
    lists = {
        "deployments": {},
        "runs": [],
        "logs": [],
        "table": [],
        "notification_blocks": {},
    }
    assert given == (lists if how == "a list" else {})


@pytest.mark.parametrize("how", ["a proxy's page", "a list of objects"])
def test_a_command_says_it_in_a_sentence(
    tmp_path: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    how: str,
) -> None:
    server.answer = ANSWERS[how]
    timer = {"startTime": "2026-11-01 09:00:00", "repeat": {"repeatType": "day"}}
    daily = {"type": "tasks.NormalType", "title": "Daily", "timerCfg": timer}
    app = build_app(
        tmp_path / "app",
        {
            "tasks/Daily": {
                "e.json": daily,
                "inner.py": "def customFunc():\n    return 1\n",
            }
        },
    )
    upgrade(app)
    monkeypatch.setenv("JITTASK_APP", str(app.path))
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.server_port}/api")
    for command in COMMANDS:
        monkeypatch.setattr("sys.argv", ["jittask", *command])
        with pytest.raises(SystemExit) as ended:
            commands.main()
        said = capsys.readouterr()
        assert (ended.value.code, "Traceback" in said.out + said.err) == (1, False), (
            command,
            said,
        )
