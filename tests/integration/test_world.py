"""The world around rows and runs: an unreliable way to the server, older copies of a database, and every change."""

from __future__ import annotations

import http.client
import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from place import Place, model, rows
from prefect_database import prepare

from jittask_prefect.errors import PrefectApiError
from jittask_prefect.prefect_api import client, connection
from jittask_prefect.prefect_api.answers import ServerDeployment
from jittask_prefect.prefect_api.client import PrefectApi
from jittask_prefect.running.outcome import Outcome, Run, label_of
from jittask_prefect.running.run import execute
from jittask_prefect.schedule import clock
from jittask_prefect.server.embedded import Embedded
from jittask_prefect.server.selection import refresh_settings
from jittask_prefect.server.service import ServiceInfo
from jittask_prefect.testing import build_app

NAME = "tasks.WorldReminder"
INSERT = "INSERT INTO worlditem (id, at, status, done) VALUES (:id, :at, 'active', 0)"
ELEMENTS = {
    "models/WorldItem": model("WorldItem"),
    "tasks/WorldReminder": rows("WorldItem"),
}


def hence(minutes: float) -> datetime:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).replace(
        second=0, microsecond=0
    )


def insert(place: Place, row: int, at: datetime) -> None:
    place.sql(INSERT, id=row, at=at.replace(tzinfo=None).isoformat(sep=" ") + ".000000")


def move(place: Place, row: int, at: datetime) -> None:
    place.sql(
        "UPDATE worlditem SET at = :at WHERE id = :id",
        id=row,
        at=f"{at.replace(tzinfo=None):%Y-%m-%d %H:%M:%S}.000000",
    )


def found(place: Place, *states: str, name: str = NAME) -> list[str]:
    """The flow runs as `row HH:MM`, by row."""
    runs = place.runs(name, *states)
    return sorted(f"{r.name.split()[-4]} {r.expected_start_time:%H:%M}" for r in runs)


# An unreliable way

SLOW = 7.0
"""Seconds of a slow answer. A client that is to give up waits a second less: a server on a busy machine may need some."""


class Way:
    """A proxy before the server that drops, delays or replaces answers: for each row the next of its troubles.

    Attributes:
        troubles: By row: `503`, `429`, `500` (an answer instead of the server's), `reset` (no answer at all), and
            `lost`, `slow`, `nonsense`, which reach the server and lose, delay or replace what it answered.
        tries: How many creations came by, by row.
    """

    def __init__(self, upstream: int, troubles: dict[str, list[str]]) -> None:
        self.troubles, self.tries, self.down = troubles, dict.fromkeys(troubles, 0), ""
        way = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                trouble = way.down or way._trouble(self.path, body)
                if trouble == "hang":
                    time.sleep(0.5)  # longer than the client waits
                if trouble in ("reset", "hang"):
                    self.close_connection = True
                    return
                if trouble in ("429", "500", "503"):
                    self._answer(int(trouble), b'{"detail": "database is locked"}')
                    return
                upstream_ = http.client.HTTPConnection(
                    "127.0.0.1", upstream, timeout=60
                )
                headers = {
                    k: v
                    for k, v in self.headers.items()
                    if k.lower() not in ("host", "accept-encoding")
                }
                upstream_.request(self.command, self.path, body, headers)
                answer = upstream_.getresponse()
                content = answer.read()
                upstream_.close()
                if trouble == "slow":
                    way.answered.wait(SLOW)
                if trouble in ("lost", "slow"):
                    self.close_connection = True
                    return
                self._answer(
                    answer.status, b"<html>" if trouble == "nonsense" else content
                )

            do_GET = do_POST = do_PATCH = do_DELETE = _pass

            def _answer(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.answered = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api"

    def _trouble(self, path: str, body: bytes) -> str:
        if not path.endswith("/create_flow_run"):
            return ""
        row = body.partition(b"WorldItem ")[2].split()[0].decode()
        self.tries[row] = self.tries.get(row, 0) + 1
        waiting = self.troubles.get(row)
        return waiting.pop(0) if waiting else ""

    @contextmanager
    def open(self) -> Iterator[Way]:
        thread = threading.Thread(
            target=self.server.serve_forever,
            kwargs={"poll_interval": 0.05},
            daemon=True,
        )
        thread.start()
        try:
            yield self
        finally:
            self.answered.set()
            self.server.shutdown()
            self.server.server_close()


@pytest.fixture
def place(tmp_path: Path, prefect_server: ServiceInfo) -> Iterator[Place]:
    made = Place.build(tmp_path / "app", ELEMENTS, name="world")
    made.deploy()
    yield made
    made.remove()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of the client between its attempts, in seconds, which take no time; an answer may take 0.3 s."""
    slept: list[float] = []
    monkeypatch.setattr(connection, "time", SimpleNamespace(sleep=slept.append))
    monkeypatch.setattr(connection, "TIMEOUT", 0.3)
    monkeypatch.setattr(client, "PING_TIMEOUT", 0.3)
    return slept


def test_through_every_trouble_each_task_has_one_run(
    place: Place,
    prefect_server: ServiceInfo,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    troubles = {
        "1": ["503", "429"],
        "2": ["reset", "lost"],
        "3": ["slow"],
        "4": ["500"],
        "5": ["503"] * 6,
        "6": ["lost"] * 3,
        "7": ["nonsense"],
        "8": ["lost", "503", "lost", "reset", "lost"],
    }
    due = {row: hence(100 + int(row)) for row in troubles}
    for row, at in due.items():
        insert(place, int(row), at)
    one_each = [f"{row} {at:%H:%M}" for row, at in due.items()]
    monkeypatch.setattr(connection, "TIMEOUT", SLOW - 1)
    with Way(prefect_server.port, troubles).open() as way:
        direct, place.api = place.api, PrefectApi(way.url)
        report = place.sync(clock.now())
        assert report and report.created == 3 and len(report.problems) == 5
        # The client tries three times, six after a 503; a 500, and an answer that is no JSON, end the call at once.
        assert way.tries == {
            "1": 3,
            "2": 3,
            "3": 2,
            "4": 1,
            "5": 6,
            "6": 3,
            "7": 1,
            "8": 3,
        }
        assert sorted(e.row_key for e in place.entries(NAME) if e.dirty) == [
            "4",
            "5",
            "6",
            "7",
            "8",
        ]
        report = place.sync(clock.now())
        assert report and report.created == 5 and not report.problems
    place.api = direct
    assert found(place) == one_each
    assert not [e for e in place.entries(NAME) if e.dirty]
    assert {e.flow_run_id for e in place.entries(NAME)} == {
        r.id for r in place.runs(NAME)
    }


# A creation and a ping, three attempts each: 2 and 4 s between them, at most a fifth more. After a 503 six attempts: 15.5 s.
@pytest.mark.parametrize(
    ("how", "times", "most"), [("503", 10, 38), ("reset", 4, 15), ("hang", 4, 15)]
)
def test_a_server_that_fails_is_given_up_soon(
    place: Place,
    prefect_server: ServiceInfo,
    waits: list[float],
    how: str,
    times: int,
    most: int,
) -> None:
    for row in range(1, 5):
        insert(place, row, hence(100))
    with Way(prefect_server.port, {}).open() as way:
        place.api, direct = PrefectApi(way.url), place.api
        deployments = place.api.deployments

        def then_down(tag: str) -> dict[str, ServerDeployment]:
            answer = deployments(tag)
            way.down = how
            return answer

        place.api.deployments = then_down  # type: ignore[method-assign]
        with pytest.raises(PrefectApiError):
            place.sync(clock.now())
        assert len(waits) == times and sum(waits) < most
        assert len([e for e in place.entries(NAME) if e.dirty]) == 4
        way.down = ""
        place.api = direct
        assert (report := place.sync(clock.now())) and report.created == 4


# Older copies


NOT_NINE = """
def customFunc(row):
    (app.path / "done").open("a").write(f"{row.id} ")
    row.done += 1
    assert row.id != 9
"""


class World:
    """A place with a server of its own, and copies of either database."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.embedded = Embedded(folder / "server")

    def start(self) -> PrefectApi:
        url = self.embedded.ensure()[0].url
        self.patch.setenv("PREFECT_API_URL", url)
        refresh_settings()
        return PrefectApi(url)

    @property
    def prefect_db(self) -> Path:
        return self.folder / "server" / "prefect" / "prefect.db"


def copy(database: Path, to: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("VACUUM INTO ?", (str(to),))


def restore(of: Path, database: Path) -> None:
    for log in database.parent.glob(database.name + "-*"):
        log.unlink()
    shutil.copy(of, database)


def ran(place: Place, row: int, at: datetime) -> Outcome:
    """Execute a row's task as a worker does, and tell Prefect: RUNNING, then how it ended."""
    [entry] = [
        e for e in place.entries(NAME, row) if e.status == "pending"
    ] or place.entries(NAME, row)[-1:]
    run_id = str(entry.flow_run_id)
    return ran_run(place, run_id, entry.task_id, at)


def ran_run(place: Place, run_id: str, task_id: str, at: datetime) -> Outcome:
    place.api.set_state(run_id, "PENDING", force=True)
    place.api.set_state(run_id, "RUNNING", force=True)
    outcome = execute(place.app, NAME, task_id, Run(run_id, at), lambda: at)
    kind = {"completed": "COMPLETED", "error": "FAILED", "ended": "CANCELLED"}[
        outcome.status
    ]
    if why := label_of(outcome):
        place.api.mark(run_id, why)
    place.api.set_state(run_id, kind, message=outcome.message, force=True)
    return outcome


def test_older_copies_of_either_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_database: Path
) -> None:
    prepare(tmp_path / "server", prefect_database)
    world = World(tmp_path, monkeypatch)
    with world.embedded:
        api = world.start()
        elements = {**ELEMENTS, "tasks/WorldReminder": rows("WorldItem", NOT_NINE)}
        place = Place(build_app(tmp_path / "app", elements, name="old"), api)
        place.deploy()
        database, now = tmp_path / "app" / "test.db", clock.now().replace(microsecond=0)
        due = {row: hence(100 + row) for row in range(1, 10)}
        for row in (1, 2, 3, 4, 9):
            insert(place, row, due[row])
        place.sync(now)
        copy(database, tmp_path / "rows.db")
        world.embedded.stop()
        copy(world.prefect_db, tmp_path / "prefect.db")
        place.api = world.start()

        # Since the copies: 1 done, 9 failed, 2 moved, 3 ended by a person, 5 new.
        later = due[9] + timedelta(minutes=1)
        assert (
            ran(place, 1, later).status == "completed"
            and ran(place, 9, later).status == "error"
        )
        move(place, 2, due[7])
        insert(place, 5, due[5])
        place.api.set_state(
            str(place.entries(NAME, 3)[0].flow_run_id),
            "CANCELLED",
            message="by hand",
            force=True,
        )
        place.sync(now + timedelta(minutes=1))
        place.sync(now + timedelta(minutes=2))
        assert found(place, "SCHEDULED") == [
            f"2 {due[7]:%H:%M}",
            f"4 {due[4]:%H:%M}",
            f"5 {due[5]:%H:%M}",
        ]
        after = tmp_path / "after.db"
        copy(database, after)

        # The business database as it was: what was done stays done, 2 is due as the row says.
        place.app.close()
        restore(tmp_path / "rows.db", database)
        place.again()
        assert {e.status for e in place.entries(NAME)} == {"pending"}
        place.sync(now + timedelta(minutes=10))
        place.sync(now + timedelta(minutes=11))
        assert {e.row_key: (e.status, e.outcome) for e in place.entries(NAME)} == {
            "1": ("completed", "completed"),
            "2": ("pending", None),
            "3": ("ended", "forced"),
            "4": ("pending", None),
            "9": ("error", "failed"),
        }
        # 5 and 2's other date are tasks that this ledger does not know: refused when they are due.
        assert set(found(place, "SCHEDULED")) >= {
            f"2 {due[2]:%H:%M}",
            f"4 {due[4]:%H:%M}",
        }
        assert (tmp_path / "app" / "done").read_text() == "1 9 "
        [one] = place.entries(NAME, 1)
        assert (
            one.message.startswith("done according to Prefect")
            and one.started
            and one.finished
        )

        # Both forward again, then Prefect's as it was.
        place.app.close()
        restore(after, database)
        place.again()
        world.embedded.stop()
        restore(tmp_path / "prefect.db", world.prefect_db)
        place.api = world.start()
        assert len(found(place, "SCHEDULED")) == 5
        place.sync(now + timedelta(minutes=20))
        place.sync(now + timedelta(minutes=21))
        # 5 and the later date of 2 are made again, the earlier one and 3 are cancelled again; 1 and 9 are refused.
        assert {f"2 {due[7]:%H:%M}", f"4 {due[4]:%H:%M}", f"5 {due[5]:%H:%M}"} <= set(
            found(place, "SCHEDULED")
        )
        assert found(place, "CANCELLED") == [f"2 {due[2]:%H:%M}", f"3 {due[3]:%H:%M}"]
        [again] = [r for r in place.runs(NAME, "SCHEDULED") if "WorldItem 1 " in r.name]
        assert ran_run(place, again.id, one.task_id, later).outcome == "skipped"
        assert (tmp_path / "app" / "done").read_text() == "1 9 "
        place.app.close()
    refresh_settings()


# Every change


def test_every_change_is_there_after_the_next_sync(
    tmp_path: Path, prefect_server: ServiceInfo
) -> None:
    office: dict[str, Any] = {"country": None, "closed": []}
    keys: dict[str, Any] = {"horizon": 72, "calendars": {"office": office}}
    place = Place.build(tmp_path / "app", ELEMENTS, name="changing", **keys)
    now = datetime(2031, 3, 3, 8, tzinfo=UTC)  # a Monday
    place.deploy(now)
    element, timer = (
        "tasks/WorldReminder",
        {"startField": "at", "repeat": {"repeatType": "normal"}},
    )
    minutes = iter(range(1, 100))

    def synced() -> list[str]:
        report = place.sync(now + timedelta(minutes=next(minutes)))
        assert report and not report.problems
        return found(place, "SCHEDULED")

    try:
        for row, hour in ((1, 18), (2, 19)):
            insert(place, row, now.replace(hour=hour))
        assert synced() == ["1 18:00", "2 19:00"]

        # the offset
        later = {"offsetType": 1, "offset": 30, "offsetUnit": "minute"}
        place.change(element, timerCfg={**timer, "startOffset": later})
        assert synced() == ["1 18:30", "2 19:30"]
        # the filter, and back
        place.change(element, filter="Q('id', '>', 1)")
        assert synced() == ["2 19:30"]
        place.change(element, filter=None, timerCfg=timer)
        assert synced() == ["1 18:00", "2 19:00"]
        # the repeat, and back
        hourly = {
            "repeat": {"repeatType": "hour"},
            "endTimeType": 1,
            "endTime": "2031-03-03 20:00:00",
        }
        place.change(element, timerCfg={**timer, **hourly})
        assert synced() == ["1 18:00", "1 19:00", "1 20:00", "2 19:00", "2 20:00"]
        place.change(element, timerCfg=timer)
        assert synced() == ["1 18:00", "2 19:00"]
        # the function: the same runs, which do something else
        before = {r.id for r in place.runs(NAME, "SCHEDULED")}
        (place.app.path / element / "inner.py").write_text(
            "def customFunc(row):\n    row.status = 'other'\n"
        )
        place.again()
        assert (
            synced() == ["1 18:00", "2 19:00"]
            and {r.id for r in place.runs(NAME, "SCHEDULED")} == before
        )
        assert ran(place, 2, now.replace(hour=19)).status == "completed"
        assert place.sql("SELECT status FROM worlditem WHERE id = 2") == "other"
        insert(place, 3, now.replace(hour=20))
        assert synced() == ["1 18:00", "3 20:00"]
        # disabled, and enabled again
        place.change(element, enable=0)
        assert synced() == []
        place.change(element, enable=1)
        assert synced() == ["1 18:00", "3 20:00"]
        # the calendar: the 3rd becomes a holiday, the 4th is a working day
        place.change(
            element, timerCfg={**timer, "skipHoliday": 1, "calendar": "office"}
        )
        assert synced() == ["1 18:00", "3 20:00"]
        about = {
            "name": "changing",
            "timezone": "UTC",
            "database": "sqlite:///test.db",
            "horizon": 72,
        }
        closed = {"office": {"country": None, "closed": ["2031-03-03"]}}
        (place.app.path / "app.json").write_text(
            json.dumps({**about, "calendars": closed})
        )
        place.again()
        assert synced() == ["1 18:00", "3 20:00"]
        assert {
            r.expected_start_time.date().isoformat()
            for r in place.runs(NAME, "SCHEDULED")
        } == {"2031-03-04"}
        # a run deleted in the UI
        first = place.runs(NAME, "SCHEDULED")[0].id
        place.api.delete_run(first)
        assert synced() == ["1 18:00", "3 20:00"] and place.api.run(first) is None
        # the deployment deleted in the UI, and its runs with it
        place.api.delete_deployment(place.deployments()[NAME]["id"])
        report = place.sync(now + timedelta(minutes=next(minutes)))
        assert report and report.problems == [
            f"{NAME}: no deployment of that name; run `jittask deploy`"
        ]
        place.deploy(now)
        assert synced() == ["1 18:00", "3 20:00"]
        # what is ended was ended by what changed, never twice and never by a person; 2 was done
        assert {e.outcome for e in place.entries(NAME)} == {
            None,
            "superseded",
            "completed",
        }
        # the template removed
        left = {r.id for r in place.runs(NAME, "SCHEDULED")}
        shutil.rmtree(place.app.path / element)
        place.again()
        assert synced() == [] and {place.api.run(i).state_type for i in left} == {
            "CANCELLED"
        }  # type: ignore[index]
    finally:
        place.remove()
