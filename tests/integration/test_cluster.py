"""Several API servers with Redis, as `docs/cluster.md` builds them: any of them may fail, and each row is done once."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from cluster import REDIS, SETTINGS, Cluster, cluster, free_port, settings
from place import Place, model, rows, until, worker

from jittask_prefect.cli.doctor import findings
from jittask_prefect.schedule import clock
from jittask_prefect.server.selection import refresh_settings

DOCS = Path(__file__).parents[2] / "docs"
RELAY = Path(__file__).parents[2] / "benchmarks" / "faulting" / "relay.py"
ROWS = 30
SLOW = "import time\ndef customFunc(row):\n    row.done += 1\n    time.sleep(0.3)\n"


@pytest.fixture
def several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with cluster(tmp_path) as made:
        monkeypatch.setenv("PREFECT_API_URL", made.url)
        password = settings()["PREFECT_SERVER_API_AUTH_STRING"]
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", password)
        refresh_settings()
        yield made
    monkeypatch.undo()
    refresh_settings()


@contextmanager
def relay(url: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A way to a server that signals make silent: the server's URL by that way, and the process."""
    port, place = free_port(), urlsplit(url)
    target = f"{place.hostname}:{place.port or 6379}"
    with subprocess.Popen([sys.executable, RELAY, str(port), target]) as way:
        yield f"redis://127.0.0.1:{port}", way
        way.kill()


def test_each_row_once_while_servers_fail(several: Cluster, tmp_path: Path) -> None:
    """`jittask doctor` sees both servers before."""
    elements = {
        "models/Far": model("Far"),
        "tasks/FarRows": rows("Far", SLOW, retries=2),
    }
    place = Place.build(
        tmp_path / "app", elements, name="far", database=several.database
    )
    place.deploy()
    due = (clock.now() + timedelta(seconds=8)).replace(tzinfo=None)
    for _ in range(ROWS):
        place.save("Far", at=due)
    place.sync()
    told = list(findings(place.app, clock.now()))
    shared = f"2 servers at {several.url}, which share Redis"
    assert ("ok", shared) in [(found.state, found.text) for found in told]
    assert [found.text for found in told if found.state == "wrong"] == []
    done = "SELECT count(*) FROM far WHERE done = 1"

    with (
        worker(tmp_path / "w1", tmp_path, limit=3),
        worker(tmp_path / "w2", tmp_path, limit=3),
    ):
        until(lambda: place.sql(done) > 2, 60, what="the first rows")
        several.kill("api1")
        several.kill("services")
        until(lambda: place.sql(done) > ROWS / 2, 60, what="half of the rows")
        several.start("api1")
        several.start("services")
        until(lambda: several.answers("api1"), 60, what="the server is back")
        several.kill("api2")

        def over() -> bool:
            place.sync()
            statuses = {e.status for e in place.entries("tasks.FarRows")}
            return statuses == {"completed"}

        until(over, 90, every=1, what="all rows")

    assert place.sql(done) == place.sql("SELECT count(*) FROM far") == ROWS
    place.app.close()


def test_an_answer_of_redis_that_never_comes_keeps_no_flow_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server asks Redis while its transaction has the run locked; a firewall has forgotten the connection."""
    with relay(REDIS) as (redis, way), cluster(tmp_path, 1, redis) as made:
        monkeypatch.setenv("PREFECT_API_URL", made.url)
        password = settings()["PREFECT_SERVER_API_AUTH_STRING"]
        user, word = password.split(":")
        with httpx.Client(auth=(user, word), timeout=15) as prefect:

            def post(path: str, **about: object) -> httpx.Response:
                return prefect.post(f"{made.url}/{path}", json=about)

            flow = post("flows/", name="kept").json()["id"]
            run = post("flow_runs/", flow_id=flow).json()["id"]
            about = {"state": {"type": "PENDING"}, "force": True}
            way.send_signal(signal.SIGUSR1)
            with suppress(httpx.TimeoutException):
                post(f"flow_runs/{run}/set_state", **about)
            way.send_signal(signal.SIGINT)

            def kept() -> bool:
                with suppress(httpx.TimeoutException):
                    answer = post(f"flow_runs/{run}/set_state", **about)
                    return answer.status_code < 300
                return False

            until(kept, 40, what="the flow run takes a state")


def test_the_page_shows_the_settings_of_the_folder() -> None:
    page = (DOCS / "cluster.md").read_text()
    shown = re.search(r'```ini title="prefect.env"\n(.*?)```', page, re.DOTALL)
    assert shown is not None
    own = [line for line in SETTINGS.read_text().splitlines() if line[0] != "#"]
    assert shown[1].splitlines() == own


def test_compose_has_the_settings_of_the_folder() -> None:
    """The values differ by host and password only."""
    compose = yaml.safe_load((SETTINGS.parent / "compose.yaml").read_text())
    found = compose["services"]["api"]["environment"]
    assert set(found) == set(settings())
    same = [
        name for name in found if found[name].startswith(("prefect_redis", "false"))
    ]
    assert {name: found[name] for name in same} == {
        name: value
        for name, value in settings().items()
        if value.startswith(("prefect_redis", "false"))
    }


def test_the_described_faults_have_the_keys_of_the_page() -> None:
    page = (DOCS / "cluster.md").read_text()
    keys = set(re.findall(r"`([a-z]+)`", page.split("| key |")[1].split("\n\n")[0]))
    found = tomllib.loads((SETTINGS.parent / "faults.toml").read_text())
    faults = found.pop("faults")
    assert faults and all(fault.keys() >= {"name", "part", "begin"} for fault in faults)
    assert {key for fault in faults for key in fault} | found.keys() <= keys
