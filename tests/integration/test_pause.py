"""`jittask pause` in the middle of work: with a batch half done, the server killed and away, and `jittask up` in the pause."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from own_server import Server, own_server
from place import SCRIPTS, Place, model, rows, scheduled, until, worker
from sqlmodel import Session

from jittask_prefect.errors import PrefectApiError
from jittask_prefect.schedule import clock

NAME, MINUTELY = "tasks.PauseRows", "tasks.PauseMinutely"
ROWS = 12
# Each row leaves a line when it begins; the row `wait` goes on when the test lets it.
INNER = """
import time
def customFunc(row):
    row.done += 1
    with open(app.path / "begun.txt", "a") as file:
        file.write(f"{row.id}\\n")
    while row.status == "wait" and not (app.path / "go").exists():
        time.sleep(0.05)
"""
MINUTE = """
def customFunc():
    with open(app.path / "minutes.txt", "a") as file:
        file.write("x")
"""


def elements() -> dict[str, object]:
    # A row after the other: which rows have begun is known then.
    one = {"concurrency": {"limit": 1}, "missed": {"policy": "all"}}
    return {
        "models/PauseItem": model("PauseItem"),
        "tasks/PauseRows": rows("PauseItem", INNER, dispatch="batch", **one),
        "tasks/PauseMinutely": scheduled(
            MINUTE,
            repeat={"repeatType": "minute", "period": 1},
            missed={"policy": "all"},
        ),
    }


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, prefect_database: Path
) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("paused") / "server"
    with own_server(home, prefect_database) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def place(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    server: Server,
    url: Callable[[str], str],
) -> Iterator[Place]:
    """An app on SQLite, and on PostgreSQL; without a worker."""
    own = {} if request.param == "sqlite" else {"database": url(request.param)}
    made = Place.build(tmp_path / "app", elements(), name="resting", **own)  # type: ignore[arg-type]
    made.deploy()
    yield made
    made.remove()


def due(place: Place, *statuses: str) -> datetime:
    """Rows of one instant, which is now; the instant."""
    at = datetime.now(UTC).replace(tzinfo=None, microsecond=0) - timedelta(seconds=1)
    of = place.app.getElement("models.PauseItem")
    with Session(place.app.engine()) as session:
        for number, status in enumerate(statuses):
            session.add(of(id=100 + number, at=at, status=status))
        session.commit()
    place.sync()
    return at.replace(tzinfo=UTC)


def begun(place: Place) -> list[str]:
    file = place.app.path / "begun.txt"
    return file.read_text().split() if file.exists() else []


def minutes(place: Place) -> int:
    file = place.app.path / "minutes.txt"
    return len(file.read_text()) if file.exists() else 0


def statuses(place: Place) -> Counter[str]:
    mine = [e for e in place.entries(NAME) if e.app == place.app.name]
    return Counter(entry.status for entry in mine)


def at_work(place: Place) -> list[str]:
    """The flow runs of tasks that are at work, or that a worker could begin by now."""
    found = place.runs(NAME) + place.runs(MINUTELY)
    soon = clock.now() + timedelta(seconds=5)
    return [
        run.name
        for run in found
        if run.state_type in ("PENDING", "RUNNING")
        or (run.state_type == "SCHEDULED" and run.expected_start_time < soon)
    ]


def rests(place: Place) -> None:
    """Two syncs and twenty looks of the worker later nothing has begun."""
    # A task that began in the second of the pause may be at its end.
    until(lambda: not at_work(place), 60, what=str(at_work(place)))
    before = begun(place), minutes(place)
    for _ in range(2):
        until(place.sync, 60, every=1)
    until(lambda: not at_work(place), 60, what=str(at_work(place)))
    assert (begun(place), minutes(place)) == before, at_work(place)


def done_once(place: Place, table: str = "pauseitem") -> None:
    """All rows are done, each once."""
    until(lambda: statuses(place) == {"completed": ROWS}, 180, every=1)
    assert sorted(begun(place)) == sorted(str(100 + n) for n in range(ROWS))
    found = place.sql(f"SELECT count(*) FROM {table} WHERE done = 1")
    assert found == ROWS


def half_done(place: Place) -> None:
    """A batch whose sixth row is at work, when the app is paused; the row goes on and ends."""
    statuses_ = ["active"] * ROWS
    statuses_[5] = "wait"
    due(place, *statuses_)
    until(lambda: len(begun(place)) == 6, 120)
    said = place.jittask("pause")
    assert "is paused since now" in said.stdout, said.stderr
    (place.app.path / "go").touch()
    until(lambda: statuses(place) == {"completed": 6, "pending": ROWS - 6}, 60)


@contextmanager
def up(place: Place) -> Iterator[Path]:
    """`jittask up` meanwhile, on this server; the file of its output."""
    log = place.app.path.parent / "up.log"
    env = {**os.environ, "JITTASK_APP": str(place.app.path)}
    env["PREFECT_WORKER_QUERY_SECONDS"] = "1"
    with log.open("w") as output:
        process = subprocess.Popen(
            [SCRIPTS / "jittask", "up"],
            env=env,
            cwd=place.app.path.parent,
            stdout=output,
            stderr=output,
        )
    try:
        until(
            lambda: process.poll() is None and "is up: " in log.read_text(),
            120,
            what=log.read_text(),
        )
        yield log
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(90)


def test_a_pause_in_the_middle_of_a_batch_with_the_server_killed_and_up_in_the_pause(
    place: Place, server: Server
) -> None:
    home = place.app.path.parent
    with worker(home / ".jittask", cwd=home):
        half_done(place)
        rests(place)

        # The server is killed in the pause, and started again.
        server.kill()
        server.start()
        rests(place)

        # A row of which nobody knew at the beginning of the pause waits, too.
        assert statuses(place)["pending"] == ROWS - 6
    paused_at = minutes(place)
    with up(place) as log:
        told = re.sub(r"\s+", " ", log.read_text())
        assert "the app is paused since" in told, told
        rests(place)
        assert minutes(place) == paused_at
        said = place.jittask("resume")
        assert "and goes on" in said.stdout, said.stderr
        done_once(place)
        until(lambda: minutes(place) > paused_at, 120, every=1)
    found = [e for e in place.entries(MINUTELY) if e.nominal is not None]
    assert max(Counter(e.due for e in found).values()) == 1


def test_pause_and_resume_while_the_server_is_away(
    place: Place, server: Server
) -> None:
    """Both stand in the app's database; the next sync tells Prefect."""
    home = place.app.path.parent
    with worker(home / ".jittask", cwd=home):
        due(place, *["wait"], *["active"] * (ROWS - 1))
        until(lambda: begun(place), 120)
        server.kill()
        with pytest.raises(PrefectApiError):
            place.api.ping()
        said = place.jittask("pause")
        assert "is paused since now" in said.stdout
        assert "Prefect is told by the next sync" in re.sub(r"\s+", " ", said.stderr)
        (place.app.path / "go").touch()
        until(lambda: statuses(place)["completed"] == 1, 60)
        server.start()
        rests(place)
        assert statuses(place) == {"completed": 1, "pending": ROWS - 1}
        there = place.deployments()
        assert there[NAME]["paused"] and there[MINUTELY]["paused"]

        server.kill()
        said = place.jittask("resume")
        assert "and goes on" in said.stdout
        server.start()
        done_once(place)


def test_of_two_apps_on_one_database_one_is_paused(
    tmp_path: Path, server: Server
) -> None:
    address = {"database": f"sqlite:///{tmp_path / 'one.db'}"}
    tasks = {"tasks/PauseRows": rows("PauseItem", INNER, dispatch="batch")}
    left, right = (
        Place.build(
            tmp_path / name,
            {"models/PauseItem": model_of(name), **tasks},
            name=name,
            **address,
        )
        for name in ("left", "right")
    )
    try:
        for app in (left, right):
            app.deploy()
        assert "is paused since now" in left.jittask("pause").stdout
        with worker(tmp_path / ".jittask", cwd=tmp_path):
            for app in (left, right):
                due(app, *["active"] * ROWS)
            done_once(right, "pause_right")
            assert begun(left) == [] and statuses(left) == {"pending": ROWS}
            assert "and goes on" in left.jittask("resume").stdout
            done_once(left, "pause_left")
    finally:
        left.remove()
        right.remove()


def model_of(name: str) -> dict[str, object]:
    """The model of one of the apps, with a table of its own."""
    made = dict(model("PauseItem"))
    made["model.py"] = str(made["model.py"]).replace('"pauseitem"', f'"pause_{name}"')
    return made
