"""Requests to a Prefect server: headers, further attempts, tokens against forged requests."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from jittask_prefect.errors import PrefectApiError
from jittask_prefect.prefect_api import connection
from jittask_prefect.prefect_api.connection import Connection, NotFound
from jittask_prefect.prefect_api.settings import ClientSettings

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
Answer = tuple[int, Any, dict[str, str]]
OK: Answer = (200, {"id": "x"}, {})


class Server(ThreadingHTTPServer):
    """A server that gives its answers in turn, and keeps the requests; `token` guards what changes something."""

    answers: list[Answer]
    requests: list[tuple[str, str, dict[str, str]]]
    token: str | None = None
    refusals_of_token: list[Answer]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.command, self.path, headers))
        token = self.server.token
        if self.path.startswith("/api/csrf-token"):
            given = (200, {"token": token, "client": "c"}, {})
            return self._send((self.server.refusals_of_token or [given]).pop(0))
        if token and self.command == "POST":
            sent = headers.get("prefect-csrf-token")
            if sent != token:
                word = "Missing" if sent is None else "Invalid"
                return self._send((403, {"detail": f"{word} CSRF token."}, {}))
        return self._send(self.server.answers.pop(0))

    do_GET = do_POST = _answer

    def _send(self, answer: Answer) -> None:
        status, body, headers = answer
        text = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(text))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The header `Date` of each answer."""
        return format_datetime(NOW, usegmt=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        made.answers, made.requests, made.refusals_of_token = [], [], []
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which take no time here."""
    made: list[float] = []
    monkeypatch.setattr(connection.time, "sleep", made.append)
    monkeypatch.setattr(connection.random, "uniform", lambda low, high: low)
    return made


def post(server: Server, **settings: Any) -> Any:
    found = Connection(server.url, ClientSettings(**settings))
    return found.call("POST", "/flows/", dict, body={"name": "f"})


# A 503 of Prefect comes at once and has changed nothing: short pauses, and more of them.
PAUSES = [(408, [2, 4]), (429, [2, 4]), (502, [2, 4]), (503, [0.5, 1, 2, 4, 8])]


@pytest.mark.parametrize(("status", "pauses"), PAUSES)
def test_a_busy_server_is_asked_again(
    server: Server, waits: list[float], status: int, pauses: list[float]
) -> None:
    server.answers = [(status, {}, {})] * len(pauses) + [OK]
    assert post(server) == {"id": "x"}
    assert waits == pauses


@pytest.mark.parametrize(("status", "pauses"), PAUSES)
def test_the_last_refusal_is_an_error(
    server: Server, waits: list[float], status: int, pauses: list[float]
) -> None:
    server.answers = [(status, {"a": 1}, {})] * (len(pauses) + 1)
    with pytest.raises(PrefectApiError, match=f"answered {status}"):
        post(server)
    assert waits == pauses and server.answers == []


def test_the_settings_may_allow_fewer_attempts(
    server: Server, waits: list[float]
) -> None:
    server.answers = [(503, {}, {})] * 2
    with pytest.raises(PrefectApiError, match="answered 503"):
        post(server, max_retries=1)
    assert waits == [0.5]


def test_other_refusals_are_errors_at_once(server: Server, waits: list[float]) -> None:
    server.answers = [(404, {"detail": "gone"}, {}), (500, {}, {})]
    with pytest.raises(NotFound, match="answered 404"):
        post(server)
    with pytest.raises(PrefectApiError, match="answered 500"):
        post(server)
    assert waits == []


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("7", [7]),
        (format_datetime(NOW + timedelta(seconds=9), usegmt=True), [9]),
        ("soon", [2]),
        ("3600", []),  # too long to wait: the answer is an error
    ],
)
def test_the_server_says_when_to_come_again(
    server: Server, waits: list[float], header: str, wait: list[float]
) -> None:
    server.answers = [(429, {}, {"Retry-After": header}), OK]
    if wait:
        assert post(server) == {"id": "x"}
    else:
        with pytest.raises(PrefectApiError, match="answered 429"):
            post(server)
    assert waits == wait


def test_a_token_is_fetched_where_the_server_asks_for_one(server: Server) -> None:
    server.token, server.answers = "first", [OK, OK, OK]
    found = Connection(server.url, ClientSettings())
    found.call("POST", "/flows/", dict, body={})
    found.call("POST", "/flows/", dict, body={})
    server.token = "second"
    found.call("POST", "/flows/", dict, body={})
    paths = [
        path.partition("?")[0].removeprefix("/api") for _, path, _ in server.requests
    ]
    ask, change = "/csrf-token", "/flows/"
    assert paths == [change, ask, change, change, change, ask, change]
    assert server.requests[-1][2]["prefect-csrf-client"] in server.requests[-2][1]


def test_a_busy_server_is_asked_again_for_its_token(
    server: Server, waits: list[float]
) -> None:
    server.token, server.answers = "t", [OK]
    server.refusals_of_token = [(503, {}, {})] * 2
    assert post(server) == {"id": "x"}
    assert waits == [0.5, 1]


def test_no_token_is_fetched_where_the_settings_say_so(server: Server) -> None:
    server.token = "t"
    with pytest.raises(PrefectApiError, match="answered 403"):
        post(server, csrf_support_enabled=False)
    assert len(server.requests) == 1


def test_keys_and_headers_are_sent(server: Server) -> None:
    server.answers = [OK] * 3
    post(server, key="k")
    post(server, key="k", auth_string="shop:pw")
    post(server, custom_headers={"X-Team": "shop", "Prefect-Csrf-Token": "forged"})
    sent = [headers for _, _, headers in server.requests]
    assert sent[0]["authorization"] == "Bearer k"
    assert sent[1]["authorization"] == "Basic c2hvcDpwdw=="
    assert sent[2]["x-team"] == "shop" and "prefect-csrf-token" not in sent[2]


def test_nobody_at_the_address_is_said_at_once(waits: list[float]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/api"
    with pytest.raises(PrefectApiError, match="is it running"):
        Connection(url, ClientSettings()).call("GET", "/health", object)
    assert waits == []


def test_a_redirect_to_nobody_names_where_it_leads(
    server: Server, waits: list[float]
) -> None:
    """A balancer that keeps the port to itself has the server redirect to another address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        elsewhere = f"http://127.0.0.1:{probe.getsockname()[1]}/api/flows"
    server.answers = [(307, {}, {"Location": elsewhere})] * 3
    with pytest.raises(PrefectApiError) as refused:
        post(server)
    said = str(refused.value)
    assert f"{server.url} redirects to {elsewhere}, which gives no answer" in said
    assert "Host" in said and "is it running" not in said
