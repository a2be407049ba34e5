"""Three applications as teams write them, each from a request to the effect of a task."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
from shop import utc
from sqlalchemy import text

from jittask_prefect import App
from jittask_prefect.rows import hooks
from jittask_prefect.rows.databases import upgrade
from jittask_prefect.schedule import clock
from jittask_prefect.testing import FakePrefect, deploy

APPLICATIONS = Path(__file__).parents[2] / "data/own_models"


class Application:
    """An application in a folder of its own, its app of tasks, and a Prefect in memory; time stands still."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.now = folder, utc("2026-03-02 08:00")
        patch.setattr(clock, "now", lambda: self.now)
        patch.setattr(hooks, "_nudges", [])
        self.app = App(folder / "jobs")
        self.prefect = FakePrefect()

    def start(self) -> None:
        assert self.app.check() == []
        upgrade(self.app)
        deploy(self.app, self.prefect, self.now)

    def ledger(self) -> list[tuple[str, ...]]:
        query = "SELECT template, row_key, status, outcome FROM jittask_ledger ORDER BY due, template, row_key"
        with self.app.engine().connect() as connection:
            found = connection.execute(text(query)).all()
        return [(t.removeprefix("tasks."), k, o or s) for t, k, s, o in found]

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with self.app.engine().connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def work(self, instant: str) -> list[object]:
        self.now = utc(instant)
        self.prefect.sync(self.app, self.now)
        return [o.result for o in self.prefect.run_due(self.app, self.now)]


@pytest.fixture
def application(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Application]]:
    made: list[tuple[str, Application]] = []

    def make(name: str) -> Application:
        folder = tmp_path / name
        shutil.copytree(APPLICATIONS / name, folder)
        monkeypatch.setenv(f"{name.upper()}_DATABASE", str(tmp_path / "team.db"))
        monkeypatch.syspath_prepend(str(folder))
        made.append((name, Application(folder, monkeypatch)))
        return made[-1][1]

    yield make
    for name, each in made:
        each.app.close()
        for module in [m for m in sys.modules if m.partition(".")[0] == name]:
            del sys.modules[module]


def test_fastapi_with_async_sessions_and_alembic(
    application: Callable[[str], Application],
) -> None:
    from alembic import command
    from alembic.config import Config
    from fastapi.testclient import TestClient

    library = application("library")
    migrations = Config()
    migrations.set_main_option("script_location", str(library.folder / "migrations"))
    command.upgrade(migrations, "head")
    library.start()
    command.check(migrations)  # the ledger's tables are no change

    from library.web import web  # type: ignore[import-not-found]

    with TestClient(web) as client:
        client.post("/readers", params={"email": "ada@example.com"})
        lend = {"reader": 1, "due": "2026-03-10"}
        assert client.post("/loans", params=lend).json() == 1
        assert client.post("/loans", params={**lend, "device": True}).json() == 2
        client.post("/loans", params=lend)
        client.post("/loans/3/return")

    # A task of the base sees the rows of its subclasses, a task of the subclass its own only.
    assert library.ledger() == [
        ("RemindReader", "1", "pending"),
        ("RemindReader", "2", "pending"),
        ("RemindReader", "3", "superseded"),
        ("CheckDevice", "2", "pending"),
    ]
    assert sorted(map(str, library.work("2026-03-08 09:00"))) == ["book 1", "device 2"]
    assert library.work("2026-03-10 08:00") == [50]
    assert library.rows("SELECT id, reminders FROM loan") == [(1, 1), (2, 1), (3, 0)]


def test_flask_sqlalchemy(application: Callable[[str], Application]) -> None:
    pytest.importorskip("flask_sqlalchemy")
    bookings = application("bookings")
    from bookings.web import Room, db, web  # type: ignore[import-not-found]

    with web.app_context():
        db.create_all()
        db.session.add(Room(name="Blue"))
        db.session.commit()
    bookings.start()
    client = web.test_client()
    for begins in ("2026-03-02 10:00", "2026-03-02 11:00"):
        client.post("/bookings", json={"room": 1, "begins": begins})
    client.delete("/bookings/2")
    assert bookings.ledger() == [
        ("OpenRoom", "1", "pending"),
        ("OpenRoom", "2", "superseded"),
    ]
    assert bookings.work("2026-03-02 09:00") == ["rooms@example.com: Blue"]
    assert bookings.rows("SELECT id, mail FROM booking") == [
        (1, "rooms@example.com: Blue")
    ]


def test_sqlmodel_with_a_scoped_session(
    application: Callable[[str], Application],
) -> None:
    club = application("club")
    from club.database import engine  # type: ignore[import-not-found]
    from club.desk import join, prolong  # type: ignore[import-not-found]
    from club.models import Membership  # type: ignore[import-not-found]

    Membership.metadata.create_all(engine, tables=[Membership.__table__])
    club.start()
    assert club.app.engine() is engine
    join("north", 7, date(2026, 3, 10))
    prolong("north", 7, date(2026, 3, 12))
    assert club.ledger() == [
        ("WriteLetter", '["north",7]', "superseded"),
        ("WriteLetter", '["north",7]', "pending"),
    ]
    assert club.work("2026-03-08 09:00") == []
    assert club.work("2026-03-10 09:00") == [None]
    assert club.rows("SELECT letters FROM club_membership") == [(1,)]
    Membership.metadata.remove(Membership.__table__)
