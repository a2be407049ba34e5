"""`jittask doctor`: several servers without Redis, settings that differ, services that do not run, events that do not arrive."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from jittask_prefect.cli import doctor_servers as doctor
from jittask_prefect.cli.finding import Finding
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.prefect_api.server_facts import ServerFacts

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
URL = "http://tasks.internal/api"
MEMORY = "prefect.server.utilities.messaging.memory"
ALONE: dict[str, Any] = {
    "server": {
        "api": {"port": 4200},
        "events": {
            "messaging_broker": MEMORY,
            "messaging_cache": MEMORY,
            "causal_ordering": "prefect.server.events.ordering.memory",
        },
        "concurrency": {
            "lease_storage": "prefect.server.concurrency.lease_storage.memory"
        },
        "worker_channel": {
            "cleanup_queue_storage": "prefect.server.worker_communication.cleanup_queue.memory"
        },
        "docket": {"url": "memory://"},
        "database": {"migrate_on_start": True},
        "services": {"late_runs": {"enabled": True}, "foreman": {"enabled": True}},
    }
}
"""Settings of a Prefect server by default, as `/admin/settings` of 3.9.1 gives them."""


def cluster() -> dict[str, Any]:
    made = copy.deepcopy(ALONE)
    events = {"messaging_broker": "prefect_redis.messaging", "messaging_cache": "prefect_redis.messaging",
              "causal_ordering": "prefect_redis.ordering"}  # fmt: skip
    made["server"] |= {
        "events": events,
        "concurrency": {"lease_storage": "prefect_redis.lease_storage"},
        "worker_channel": {"cleanup_queue_storage": "prefect_redis.cleanup_queue"},
        "docket": {"url": "redis://redis.internal:6379/1"},
        "database": {"migrate_on_start": False},
    }
    return made


def second(first: dict[str, Any]) -> dict[str, Any]:
    """The settings of another server, which differ by the port."""
    made = copy.deepcopy(first)
    made["server"]["api"]["port"] = 4202
    return made


def facts(*settings: dict[str, Any], version: str = "3.9.1") -> ServerFacts:
    return ServerFacts({version}, list(settings))


def told(found: Iterator[Finding]) -> list[tuple[str, str]]:
    return [(f.state, f.text) for f in found]


def shared(*settings: dict[str, Any]) -> list[tuple[str, str]]:
    return told(doctor.shared_settings(URL, facts(*settings)))


def test_one_server_needs_no_redis() -> None:
    assert shared(ALONE) == []
    assert told(doctor.migrations(facts(ALONE))) == []
    assert told(doctor.switched_off(facts(ALONE))) == []


def test_a_right_cluster() -> None:
    both = cluster(), second(cluster())
    said = f"2 servers at {URL}, which share Redis"
    assert shared(*both) == [("ok", said)]
    assert told(doctor.migrations(facts(*both))) == []


def test_several_servers_without_redis() -> None:
    ((state, text),) = shared(ALONE, second(ALONE))
    assert state == "wrong"
    assert text.startswith(f"2 servers at {URL} without Redis; set for each server: ")
    for name in doctor.SHARED:
        assert f"{name}=" in text
    ((state, text),) = told(doctor.migrations(facts(ALONE, second(ALONE))))
    assert state == "warning" and "MIGRATE_ON_START=false" in text


def test_a_redis_for_a_part_of_the_settings() -> None:
    made = cluster()
    made["server"]["concurrency"] = ALONE["server"]["concurrency"]
    ((state, text),) = shared(made)
    assert state == "warning" and text.startswith("Redis is set in part only")
    assert "LEASE_STORAGE=prefect_redis.lease_storage" in text
    assert "DOCKET_URL" not in text


def test_servers_whose_settings_differ() -> None:
    other = second(cluster())
    other["server"]["docket"] = {"url": "redis://other:6379/1"}
    found = shared(cluster(), other)
    assert ("wrong", f"the servers at {URL} differ in PREFECT_SERVER_DOCKET_URL: "
            "redis://redis.internal:6379/1 and redis://other:6379/1: give all of them the same settings") in found  # fmt: skip


def test_a_service_that_is_switched_off() -> None:
    made = copy.deepcopy(ALONE)
    made["server"]["services"]["late_runs"]["enabled"] = False
    ((state, text),) = told(doctor.switched_off(facts(made)))
    assert state == "warning"
    assert text == (
        "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED is false, and no run is marked as late: set it to true"
    )


@pytest.mark.parametrize(
    ("version", "here", "states"),
    [
        ("3.9.1", "3.9.1", []),
        ("3.9.1", "3.9.2", ["warning"]),
        ("3.8.0", "3.9.1", ["wrong", "warning"]),
    ],
)
def test_the_servers_release(version: str, here: str, states: list[str]) -> None:
    found = told(doctor.releases(facts(ALONE, version=version), here))
    assert [state for state, _ in found] == states


def test_a_redis_that_this_machines_settings_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT_SERVER_DOCKET_URL", "memory://")
    assert told(doctor.redis_of_environment()) == []
    monkeypatch.setenv("PREFECT_SERVER_DOCKET_URL", "redis://127.0.0.1:1/1")
    ((state, text),) = told(doctor.redis_of_environment())
    assert state == "wrong"
    assert text.startswith("the Redis of PREFECT_SERVER_DOCKET_URL gives no answer")


# Runs and events, from a server


class Handler(BaseHTTPRequestHandler):
    answers: dict[str, Any]
    asked: list[tuple[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, body))
        text = json.dumps(self.answers[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def serving(**answers: Any) -> Iterator[tuple[PrefectApi, list[tuple[str, Any]]]]:
    asked: list[tuple[str, Any]] = []
    paths = {f"/api/{path.replace('__', '/')}": found for path, found in answers.items()}  # fmt: skip
    kind = type("Answers", (Handler,), {"answers": paths, "asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield PrefectApi(f"http://127.0.0.1:{made.server_port}/api"), asked
        made.shutdown()


@pytest.mark.parametrize("count", [0, 3])
def test_runs_that_nobody_marks_as_late(count: int) -> None:
    with serving(flow_runs__count=count) as (api, asked):
        found = told(doctor.late_marks("shop", api, NOW))
    assert [state for state, _ in found] == ["warning"] * bool(count)
    assert all(text.startswith("3 runs are late and not marked so") for _, text in found)  # fmt: skip
    ((_, body),) = asked
    asked_for = body["flow_runs"]
    assert asked_for["tags"] == {"all_": ["app:shop"]}
    assert asked_for["expected_start_time"] == {
        "after_": (NOW - timedelta(minutes=10)).isoformat(), "before_": (NOW - timedelta(minutes=1)).isoformat(),
    }  # fmt: skip


def told_of_events(
    last_sync: datetime | None = None, *, stored: bool, ended: int, of: Any = ALONE
) -> list[tuple[str, str]]:
    answers = {"events__filter": {"events": [{}] * stored}, "flow_runs__count": ended}
    with serving(**answers) as (api, asked):
        found = told(doctor.events("shop", api, facts(of), last_sync, NOW))
    span = {"since": "2026-03-02T08:57:00+00:00", "until": "2026-03-02T09:00:00+00:00"}
    assert asked[0][1]["filter"] == {
        "occurred": span, "resource": {"id_prefix": ["prefect.flow-run."]},
    }  # fmt: skip
    return found


def test_events_that_arrive_and_events_that_do_not() -> None:
    arrive = [("ok", "events arrive, so the background services run")]
    assert told_of_events(stored=True, ended=0) == arrive
    said = (
        "no event has arrived since 08:57:00 UTC, and a run has ended meanwhile: notices are not sent; do the background "
        "services run (`prefect server services start`)"
    )
    assert told_of_events(stored=False, ended=1) == [("warning", f"{said}?")]
    ((_, text),) = told_of_events(stored=False, ended=1, of=cluster())
    redis = f"{said}, and do they reach Redis (redis.internal:6379/1; this machine gets no answer: "
    assert text.startswith(redis)


@pytest.mark.parametrize(("seconds", "known"), [(10, False), (30, True), (300, False)])
def test_a_sync_whose_flow_run_is_gone_has_sent_events_too(
    seconds: int, known: bool
) -> None:
    """A moment ago they are on their way; an old sync proves nothing of today's services."""
    at = NOW - timedelta(seconds=seconds)
    assert bool(told_of_events(at, stored=False, ended=0)) is known
