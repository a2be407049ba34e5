"""What servers say of themselves: several behind one address, a clock that is wrong, a Redis that is there or not."""

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

from jittask_prefect.prefect_api import server_facts
from jittask_prefect.prefect_api.server_facts import Offset, ServerFacts, redis_fault
from jittask_prefect.schedule import clock


class Servers(ThreadingHTTPServer):
    """Servers behind a balancer, asked in turn; with clocks that are wrong by some seconds."""

    ahead: timedelta | None = timedelta()
    settings: list[dict[str, Any]]
    asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api"


class Handler(BaseHTTPRequestHandler):
    server: Servers

    def do_GET(self) -> None:
        found: Any = "3.9.1"
        if self.path.endswith("/settings"):
            turn = self.server.asked % len(self.server.settings)
            found = self.server.settings[turn]
            self.server.asked += 1
        text = json.dumps(found).encode()
        self.send_response_only(200)
        if self.server.ahead is not None:
            at = datetime.now(UTC) + self.server.ahead
            self.send_header("Date", format_datetime(at, usegmt=True))
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def servers() -> Iterator[Servers]:
    with Servers(("127.0.0.1", 0), Handler) as made:
        made.settings = [{"server": {"api": {"port": 1}}}]
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


def asked(servers: Servers) -> ServerFacts:
    facts = server_facts.ask(servers.url, clock.now)
    assert facts is not None
    return facts


def test_each_server_behind_a_balancer_is_seen_once(servers: Servers) -> None:
    servers.settings += [{"server": {"api": {"port": 2}}}]
    facts = asked(servers)
    assert facts.versions == {"3.9.1"}
    assert facts.values("server.api.port") == [1, 2]
    assert facts.values("server.api.host") == [None]
    assert servers.asked == 6


@pytest.mark.parametrize("ahead", [30.0, -30.0, 1.0, 0.0])
def test_the_clock_of_a_server(servers: Servers, ahead: float) -> None:
    """`Date` has whole seconds, so an offset of 1 s is never told."""
    servers.ahead = timedelta(seconds=ahead)
    offset = asked(servers).offset
    assert offset is not None and offset.low <= ahead <= offset.high
    found = offset.beyond(2)
    assert (found is None) == (abs(ahead) < 2)
    assert found is None or found * ahead > 0


def test_a_busy_server_gives_an_old_date_now_and_then() -> None:
    """Its other answers count; of another server the wrong clock does."""
    facts = ServerFacts()
    for low in (-0.9, -15.0, -0.8):
        facts.add({"port": 1}, Offset(low, low + 1))
    assert facts.offset is not None and facts.offset.beyond(2) is None
    facts.add({"port": 2}, Offset(4.0, 5.0))
    assert facts.offset.beyond(2) == 4.0


def test_an_answer_without_a_date(servers: Servers) -> None:
    servers.ahead = None
    assert asked(servers).offset is None


def test_a_slow_answer_proves_no_offset() -> None:
    assert Offset(-10.0, 3.0).beyond(2) is None
    assert Offset(2.5, 40.0).beyond(2) == 2.5
    assert Offset(-40.0, -2.5).beyond(2) == -2.5


def test_prefect_cloud_is_not_asked() -> None:
    assert (
        server_facts.ask("https://api.prefect.cloud/api/accounts/1", clock.now) is None
    )


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"+PONG\r\n", None),
        (b"-NOAUTH Authentication required.\r\n", None),
        (b"HTTP/1.1 400 Bad Request\r\n", "it answered b'HTTP/1.1 400 Bad Request"),
        (b"", "it answered b''"),
    ],
)
def test_redis_answers_or_does_not(answer: bytes, fault: str | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            taken, _ = listening.accept()
            with taken:
                taken.recv(64)
                taken.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        port = listening.getsockname()[1]
        found = redis_fault(f"redis://:secret@127.0.0.1:{port}/1")
    assert (found or "").startswith(fault or "") and (found is None) == (fault is None)


def test_no_redis_there() -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        found = redis_fault(f"redis://127.0.0.1:{taken.getsockname()[1]}")
    assert found is not None and "refused" in found
