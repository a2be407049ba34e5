"""What the warm worker decides without a server: what it refuses, what it loads, what its children put back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import anyio
import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_RETRY_JITTER_FACTOR,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    temporary_settings,
)
from prefect.states import Cancelled
from prefect.workers.base import BaseWorker

from jittask_prefect.errors import ArgumentError
from jittask_prefect.schedule import clock
from jittask_prefect.warm import child, loaded_file
from jittask_prefect.warm.job import JittaskJobConfiguration
from jittask_prefect.warm.outage import Outage
from jittask_prefect.warm.pipe import Pipe, encode
from jittask_prefect.warm.places import ActiveRun, DueRun, Places, server_pace
from jittask_prefect.warm.run_end import RunEnds
from jittask_prefect.warm.turns import Turns
from jittask_prefect.warm.worker import JittaskWorker

STEP = "prefect.deployments.steps.set_working_directory"


def configured(**deployment: Any) -> JittaskJobConfiguration:
    plain: dict[str, Any] = {
        "name": "tasks.Daily",
        "job_variables": {},
        "pull_steps": [{STEP: {"directory": "/srv/shop"}}],
        "entrypoint": "flows/jittask_flows.py:NormalType",
        "path": None,
    }
    flow_run = FlowRun.model_construct(job_variables=deployment.pop("of_the_run", None))
    template = JittaskWorker.get_default_base_job_template()
    return JittaskJobConfiguration.from_deployment(
        flow_run, SimpleNamespace(**plain | deployment), template
    )


def test_prefect_knows_the_type_by_its_entry_point() -> None:
    assert BaseWorker.get_worker_class_from_type("jittask") is JittaskWorker
    assert JittaskWorker.get_default_base_job_template()["variables"] == {
        "type": "object",
        "properties": {},
    }


def test_a_deployment_says_what_a_child_loads() -> None:
    made = configured()
    assert (made.file, made.function) == (
        "/srv/shop/flows/jittask_flows.py",
        "NormalType",
    )
    assert (made.flow_file.file, made.flow_file.directory) == (made.file, "/srv/shop")


def test_a_deployment_says_whose_a_child_is() -> None:
    env = {"JITTASK_APP": "/srv/shop/flows", "JITTASK_NAME": "shop-staging"}
    of = configured(job_variables={"env": env}).flow_file
    assert (of.app_folder, of.app_name) == ("/srv/shop/flows", "shop-staging")
    relative = configured(job_variables={"env": {**env, "JITTASK_APP": "flows"}})
    assert relative.flow_file == of
    other = configured(job_variables={"env": {**env, "JITTASK_NAME": "shop"}})
    assert other.flow_file != of


def test_an_empty_job_variable_is_none() -> None:
    assert configured(job_variables={"env": {}}).function == "NormalType"


@pytest.mark.parametrize(
    ("deployment", "said"),
    [
        (
            {"job_variables": {"env": {"A": "b"}}},
            "job variables env.A of deployment tasks.Daily",
        ),
        (
            {"of_the_run": {"command": "echo", "env": {"A": "b"}}},
            "job variables command, env.A of",
        ),
        (
            {"pull_steps": [{"prefect.deployments.steps.git_clone": {}}]},
            "pull step prefect.deployments.steps.git_cl",
        ),
        (
            {"entrypoint": "shop.flows.NormalType"},
            "allowed in a pool of type jittask: FILE.py:FLOW",
        ),
    ],
)
def test_what_the_pool_cannot_do_is_refused(
    deployment: dict[str, Any], said: str
) -> None:
    with pytest.raises(ArgumentError, match=said):
        configured(**deployment)


@pytest.mark.parametrize(
    ("api", "database", "runs"),
    [
        ("http://127.0.0.1:4200/api", "", 1),
        ("http://127.0.0.1:4200/api", "sqlite+aiosqlite:////srv/prefect.db", 1),
        (
            "http://127.0.0.1:4200/api",
            "postgresql+asyncpg://prefect@127.0.0.1/prefect",
            2,
        ),
        ("https://prefect.example.com/api", "", 2),
    ],
)
def test_the_pace_follows_the_servers_database(
    api: str, database: str, runs: int
) -> None:
    with temporary_settings(
        {PREFECT_API_URL: api, PREFECT_SERVER_DATABASE_CONNECTION_URL: database or None}
    ):
        assert server_pace({}) == runs


def test_several_servers_have_postgresql_whatever_stands_before_them() -> None:
    """A balancer on this machine says nothing of the servers' database; their broker does."""
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:4200/api"}):
        for broker, runs in (
            ("prefect_redis.messaging", 2),
            ("prefect.server.utilities.messaging.memory", 1),
        ):
            told = {"server": {"events": {"messaging_broker": broker}}}
            assert server_pace(told) == runs


def test_messages_come_as_they_were_sent_and_end_with_the_pipe() -> None:
    ours, its = socket.socketpair()
    pipe = Pipe(its)
    ours.sendall(encode({"run": "数据 \n"}) + encode({"run": 2}))
    messages = pipe.messages()
    assert [next(messages), next(messages)] == [{"run": "数据 \n"}, {"run": 2}]
    pipe.send({"ready": 1})
    assert ours.recv(100) == b'{"ready": 1}\n'
    ours.close()
    assert list(messages) == []
    with pytest.raises(OSError):
        for _ in range(2):
            pipe.send({"log": "nobody reads this"})


def test_a_closed_pipe_is_not_written_to_by_its_number() -> None:
    ours, its = socket.socketpair()
    pipe = Pipe(its)
    threading.Thread(target=lambda: list(pipe.messages()), daemon=True).start()
    pipe.close()
    with pytest.raises(OSError):
        pipe.send({"log": "a copy of the process"})
    ours.close()


def test_what_a_run_left_otherwise_is_put_back(tmp_path: Path) -> None:
    folder, output, handler = os.getcwd(), sys.stdout, signal.getsignal(signal.SIGUSR1)
    with child.restored():
        os.chdir(tmp_path)
        os.environ["JITTASK_LEFT"] = "x"
        os.environ.pop("PATH")
        sys.stdout = sys.stderr
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    assert (os.getcwd(), sys.stdout, signal.getsignal(signal.SIGUSR1)) == (
        folder,
        output,
        handler,
    )
    assert "JITTASK_LEFT" not in os.environ and "PATH" in os.environ


def test_the_stamps_tell_what_of_an_app_has_changed(tmp_path: Path) -> None:
    task = tmp_path / "tasks" / "Daily"
    task.mkdir(parents=True)
    flows = tmp_path / "jittask_flows.py"
    for file in (
        flows,
        tmp_path / "app.json",
        task / "e.json",
        task / "inner.py",
        task / "notes.txt",
    ):
        file.write_text("")
    ours = {
        name
        for name in loaded_file.modification_times(str(flows))
        if name.startswith(str(tmp_path))
    }
    assert ours == {
        str(flows),
        *map(str, (tmp_path / "app.json", task / "e.json", task / "inner.py")),
    }
    assert not [
        name
        for name in loaded_file.modification_times(str(flows))
        if "site-packages" in name
    ]
    before = loaded_file.modification_times(str(flows))
    os.utime(task / "inner.py", ns=(1, 1))
    after = loaded_file.modification_times(str(flows))
    assert {name for name in after if after[name] != before[name]} == {
        str(task / "inner.py")
    }


def room(
    at_work: list[str], asks: str, limit: int = 8, pace: int = 1, ago: float = 0
) -> bool:
    """Whether a run may begin beside others that began so many seconds ago; each is a `row`, a `batch`, a `share` or a `sync`.

    All shares are flow runs of one batch, for other workers too.
    """
    dues = iter("abcdefgh")

    def flow_run(kind: str) -> FlowRun:
        of = {"batch": ("due", next(dues)), "share": ("due", "x")}
        key, value = of.get(kind, ("taskId", "x"))
        parameters = {"template": "tasks.Task", key: value}
        return FlowRun.model_construct(parameters=parameters)

    now = 100.0
    active = [ActiveRun(flow_run(kind), kind == "sync", now - ago) for kind in at_work]
    due = DueRun(clock.now(), flow_run(asks), asks == "sync")
    return Places(limit, pace).may_begin(due, active, now)


@pytest.mark.parametrize(
    ("at_work", "asks", "more", "may"),
    [
        ([], "row", {}, True),
        (["row"], "row", {}, False),  # on SQLite one after the other
        (["row"], "row", {"pace": 2}, True),
        (
            ["row"],
            "row",
            {"ago": 4},
            True,
        ),  # that one asks the server for nothing any more
        (["batch"], "batch", {}, True),  # a batch never does
        (["batch", "batch"], "batch", {}, False),  # but there are two cores
        (["batch", "batch"], "batch", {"ago": 4}, True),
        (["share"], "share", {}, False),  # for another worker, if there is any
        (["share"], "share", {"ago": 2}, True),
        (["share"], "batch", {}, True),
        (["row", "row"], "row", {"ago": 4, "limit": 2}, False),
        (["row", "row"], "sync", {"ago": 4, "limit": 2}, True),  # its own place
        (["row", "row", "sync"], "sync", {"ago": 4, "limit": 2}, False),
    ],
)
def test_which_run_may_begin_beside_others(
    at_work: list[str], asks: str, more: dict[str, Any], may: bool
) -> None:
    assert room(at_work, asks, **more) is may


def test_the_hooks_of_an_ended_run_are_called_though_the_server_did_not_answer_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jittask_prefect.warm.run_end.AGAIN_SECONDS", 0)
    found = FlowRun.model_construct(id=uuid4(), state=Cancelled(), job_variables=None)
    asked: list[UUID] = []
    jobs: list[dict[str, Any]] = []

    async def read(run_id: UUID) -> FlowRun:
        asked.append(run_id)
        if len(asked) < 3:
            raise httpx.ReadTimeout("timed out")
        return found

    async def acquire(_code: object) -> Any:
        return SimpleNamespace(request=request)

    async def request(job: dict[str, Any]) -> dict[str, Any]:
        jobs.append(job)
        return {}

    async def hooks() -> None:
        children: Any = SimpleNamespace(
            acquire=acquire, release=lambda child, leave=None: None
        )
        client: Any = SimpleNamespace(read_flow_run=read)
        log = logging.getLogger("jittask")
        ends = RunEnds(client, children, Outage(log), log)
        await ends.call_hooks(ActiveRun(found, False, 0.0), configured())

    asyncio.run(hooks())
    assert len(asked) == 3
    assert [job["state"]["type"] for job in jobs] == ["CANCELLED"]


class Busy(BaseHTTPRequestHandler):
    """A server that answers 503."""

    def do_GET(self) -> None:
        self.server.asked.append(time.monotonic())  # type: ignore[attr-defined]
        self.send_error(503)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def test_a_busy_server_is_asked_again_soon_for_what_somebody_cancels() -> None:
    """Prefect's client waits 2 s after a 503, and by itself 4, 8 and 16 s after further ones."""

    async def watch(port: int) -> None:
        worker = JittaskWorker.__new__(JittaskWorker)
        worker._active = {uuid4(): ActiveRun(FlowRun.model_construct(), False, 0.0)}
        worker._children = SimpleNamespace(trim=lambda: None)  # type: ignore[assignment]
        worker._logger = logging.getLogger("test")  # type: ignore[assignment]
        worker._outage = Outage(logging.getLogger("test"))
        async with PrefectClient(f"http://127.0.0.1:{port}/api") as worker._client:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(worker._watch(), 9)

    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        server.asked = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with temporary_settings({PREFECT_CLIENT_RETRY_JITTER_FACTOR: 0}):
            asyncio.run(watch(server.server_port))
        server.shutdown()
        gaps = [after - before for before, after in pairwise(server.asked)]  # type: ignore[attr-defined]
    assert gaps and max(gaps) < 3.8


def test_a_run_that_begins_while_a_poll_waits_for_an_answer_is_not_begun_again() -> (
    None
):
    run = FlowRun(id=uuid4(), flow_id=uuid4(), deployment_id=uuid4())
    run.expected_start_time = clock.now()
    worker: Any = object.__new__(JittaskWorker)
    kept = SimpleNamespace(keep_warm=lambda number: None)
    for name, value in {
        "_active": {}, "_waiting": [], "_polling": anyio.Lock(), "_polled": 0.0,
        "_new_work": anyio.Event(), "_children": kept, "_places": Places(4, 2), "_turns": Turns("ada"),
    }.items():  # fmt: skip
        setattr(worker, name, value)

    async def found() -> list[Any]:
        return [run]

    async def due_run(flow_run: FlowRun, now: datetime) -> DueRun:
        # Another run has ended meanwhile, and the run that the last poll found begins in its place.
        worker._active[run.id] = ActiveRun(run, False, 0.0)
        return DueRun(now, flow_run, False)

    worker._first_due = found
    worker._deployments = SimpleNamespace(due_run=due_run)
    asyncio.run(worker._poll())
    assert worker._waiting == []


class LeadingChild:
    """A child whose rows are slow: it tells their pace, and asks for helpers, for which there is no room."""

    pid, runs = 1, 0

    def __init__(self) -> None:
        self.jobs: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        """Hear how many help."""

    async def request(self, job: dict[str, Any]) -> dict[str, Any]:
        self.jobs.append(job)
        leader: Any = self
        leader.told_pace([0.1, 0.001])
        leader.asked_for_help(5)
        leader.asked_for_help(0)
        return {}


@pytest.mark.parametrize(
    ("before_due", "waits"),
    [(1.99, 1.59), (1.6, 1.2), (0.4, 0.0), (0.3, 0.0), (-7.0, 0.0)],
)
def test_a_run_asks_to_begin_when_the_server_lets_the_run(
    before_due: float, waits: float
) -> None:
    due = datetime(2026, 3, 2, 9, tzinfo=UTC)
    flow_run = FlowRun(flow_id=uuid4(), next_scheduled_start_time=due)
    now = due - timedelta(seconds=before_due)
    assert child.seconds_to_ask(flow_run, now) == pytest.approx(waits)


def test_a_run_without_a_due_time_asks_at_once() -> None:
    assert child.seconds_to_ask(FlowRun(flow_id=uuid4()), clock.now()) == 0


def test_the_next_run_of_a_deployment_knows_the_pace_of_the_last_and_finds_processes() -> (
    None
):
    daily, other = uuid4(), uuid4()
    child, warm = LeadingChild(), list[int]()

    async def acquire(_file: object) -> Any:
        return child

    async def configuration(_run: FlowRun, _template: object) -> Any:
        return configured()

    async def claim(_run: ActiveRun) -> bool:
        return True

    worker: Any = object.__new__(JittaskWorker)
    children = SimpleNamespace(
        acquire=acquire, keep_warm=warm.append, release=lambda child, leave: None
    )
    for name, value in {
        "_active": {}, "_last_runs": {}, "_children": children, "_places": Places(0, 2), "is_setup": True, "_claim": claim,
        "_deployments": SimpleNamespace(configuration=configuration), "_logger": logging.getLogger("jittask"),
        "_work_pool": SimpleNamespace(base_job_template={}),
    }.items():  # fmt: skip
        setattr(worker, name, value)
    for deployment in (daily, other, daily):
        run = FlowRun(id=uuid4(), flow_id=uuid4(), deployment_id=deployment)
        worker._active = {run.id: ActiveRun(run, False, 0.0)}
        asyncio.run(worker._take(worker._active[run.id]))
    assert [job.get("pace") for job in child.jobs] == [None, None, [0.1, 0.001]]
    assert warm == [0, 0, 5]


@pytest.mark.parametrize("wrong", ["port", "drain"])
def test_a_worker_whose_settings_cannot_be_used_ends_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    """Prefect's command prints a traceback for any other exception, also between lines of JSON."""
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        if wrong == "port":
            monkeypatch.setenv("JITTASK_METRICS_PORT", str(port))
        else:
            monkeypatch.setenv("JITTASK_DRAIN_SECONDS", "soon")
        worker = JittaskWorker(work_pool_name="nowhere")
        logger = logging.getLogger(f"worker.{wrong}")
        worker._logger = logger
        with pytest.raises(SystemExit) as ended:
            asyncio.run(worker.setup())
    assert ended.value.code == 1
    [said] = [r.getMessage() for r in caplog.records if r.name == logger.name]
    if wrong == "port":
        assert said.startswith(f"metrics on port {port}: Address already in use; ")
    else:
        assert "soon" in said
