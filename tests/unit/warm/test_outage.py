"""A worker whose Prefect server gives no usable answer waits for it, and says so once a minute."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
    PREFECT_WORKER_QUERY_SECONDS,
    temporary_settings,
)

from jittask_prefect.warm.children import ChildPool
from jittask_prefect.warm.outage import Outage, refused
from jittask_prefect.warm.worker import JittaskWorker

POOL = {
    "id": "11111111-1111-4111-8111-111111111111",
    "name": "jittask",
    "type": "jittask",
    "base_job_template": {"job_configuration": {}, "variables": {}},
    "default_queue_id": "11111111-1111-4111-8111-111111111112",
}
BROKEN = {
    "500": (500, b'{"exception_message": "Internal Server Error"}'),
    "a page of a proxy": (200, b"<html>welcome</html>"),
    "nothing": (200, b""),
    "another shape": (200, b'{"runs": {"a": 1}}'),
    "401": (401, b'{"detail": "Unauthorized"}'),
}


class Server(ThreadingHTTPServer):
    """As much of an API as a worker needs; broken from its start, or from a later moment on."""

    polls = 0
    answer: tuple[int, bytes] | None = None
    pool = POOL


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        polls = "get_scheduled_flow_runs" in self.path
        self.server.polls += polls
        self._send(b"[]")

    def do_GET(self) -> None:
        if "work_pools/jittask" in self.path:
            return self._send(json.dumps(self.server.pool).encode())
        return self._send(b'"3.9.1"' if "version" in self.path else b"[]")

    def _send(self, said: bytes) -> None:
        code, said = self.server.answer or (200, said)
        self.send_response(code)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


@pytest.mark.parametrize("how", BROKEN)
def test_a_worker_outlives_a_server_that_gives_no_usable_answer(
    server: Server,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Prefect's loop ends a worker after twelve failed requests; this one goes on, and says when all is well again."""
    monkeypatch.setattr(
        ChildPool, "keep_warm", lambda self, count=1: None
    )  # no process is needed
    monkeypatch.setattr("prefect.workers.base.emit_event", lambda *event, **more: None)
    settings = {
        PREFECT_API_URL: f"http://127.0.0.1:{server.server_port}/api",
        PREFECT_WORKER_QUERY_SECONDS: 0.005,
        PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False,
    }

    async def live() -> None:
        worker = JittaskWorker("jittask", name="w")
        running = asyncio.create_task(worker.start(printer=lambda *said: None))

        async def polls(more: int) -> None:
            upto = server.polls + more
            while server.polls < upto:
                await asyncio.sleep(0.005)
                assert not running.done(), running.exception()

        try:
            await polls(2)
            server.answer = BROKEN[how]
            await polls(15)  # Prefect gives up after the twelfth
            server.answer = None
            await polls(2)
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    with temporary_settings(settings), caplog.at_level(logging.WARNING, "prefect"):
        logging.getLogger("prefect").propagate = True
        asyncio.run(asyncio.wait_for(live(), 30))
    said = [
        record.getMessage()
        for record in caplog.records
        if "The Prefect server" in record.getMessage()
    ]
    assert [" ".join(line.split()[:5]) for line in said] == [
        "The Prefect server gives no", "The Prefect server answers again,"
    ]  # fmt: skip


def test_a_work_pool_that_is_another_one_is_said(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Prefect's worker makes a pool that is gone, and is silent about deployments that went with the server's database."""
    monkeypatch.setattr(ChildPool, "keep_warm", lambda self, count=1: None)
    monkeypatch.setattr("prefect.workers.base.emit_event", lambda *event, **more: None)
    url = f"http://127.0.0.1:{server.server_port}/api"
    settings = {PREFECT_API_URL: url, PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False}

    async def live() -> None:
        async with JittaskWorker("jittask", name="w") as worker:
            for pool in (POOL, POOL, POOL | {"id": POOL["default_queue_id"]}):
                server.pool = pool
                await worker.sync_with_backend()
            await worker.sync_with_backend()

    with temporary_settings(settings), caplog.at_level(logging.WARNING, "prefect"):
        logging.getLogger("prefect").propagate = True
        asyncio.run(asyncio.wait_for(live(), 30))
    said = [record.getMessage() for record in caplog.records]
    assert [line for line in said if "made anew" in line] == [
        f"The work pool jittask at {url} was made anew: somebody deleted the pool, or emptied the server's database. "
        "`jittask doctor` names deployments that are missing; `jittask deploy` makes them, and the next sync makes the "
        "runs of the open tasks."
    ]


def test_it_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    outage = Outage(logging.getLogger("away"), lambda: now)
    for now in range(150):  # noqa: B007  the clock
        outage.failed(ValueError("no JSON\nbut a page"))
    outage.answered()
    outage.answered()
    assert [record.getMessage() for record in caplog.records] == [
        f"The Prefect server gives no usable answer, for {seconds} s now (ValueError: no JSON). "
        "The worker waits for it."
        for seconds in (0, 60, 120)
    ] + ["The Prefect server answers again, after 149 s."]
    assert outage.since is None


@pytest.mark.parametrize(
    ("code", "final"),
    [(404, True), (422, True), (408, False), (429, False), (500, False)],
)
def test_a_refusal_is_not_asked_again(code: int, final: bool) -> None:
    request = httpx.Request("GET", "http://x")
    error = httpx.HTTPStatusError(
        "said", request=request, response=httpx.Response(code, request=request)
    )
    assert refused(error) is final
