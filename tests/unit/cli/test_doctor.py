"""`jittask doctor`: silent connections, the database that the server knows, and work queues that no worker takes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from jittask_prefect import App
from jittask_prefect.cli import doctor
from jittask_prefect.cli.doctor import _database, _guard, _queues, _timeouts
from jittask_prefect.errors import OtherDatabase
from jittask_prefect.ledger import guard
from jittask_prefect.prefect_api.answers import ServerDeployment
from jittask_prefect.testing import FakePrefect, build_app, deploy

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
PG, MY = (
    "postgresql+psycopg://shop@db.internal/shop",
    "mysql+pymysql://shop@db.internal/shop",
)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (PG, "tcp_user_timeout"),
        (MY, "read_timeout"),
        (f"{PG}?application_name=shop", "keepalives_idle"),
        (f"{PG}?tcp_user_timeout=60000", ""),
        (f"{PG}?keepalives_idle=30", ""),
        (f"{MY}?read_timeout=600", ""),
        (PG.replace("db.internal", "127.0.0.1"), ""),
        ("sqlite:///shop.db", ""),
    ],
)
def test_a_distant_database_without_timeouts_is_warned_of(url: str, said: str) -> None:
    """The warning names the keys to add; a database on this machine needs none."""
    found = [f.text for f in _timeouts("the app's database", make_url(url))]
    assert len(found) == bool(said) and all(
        said in text and "db.internal" in text for text in found
    )


def test_the_keys_are_added_to_a_url_as_they_stand() -> None:
    """A URL with keys of its own gets `&`."""
    for url, sign in ((PG, "?"), (f"{PG}?application_name=shop", "&")):
        [found] = _timeouts("the app's database", make_url(url))
        keys = found.text.partition("add to its URL: ")[2]
        assert keys.startswith(f"{sign}keepalives_idle=30&")
        assert make_url(f"{url}{keys}").query["tcp_user_timeout"] == "60000"


def test_a_database_that_does_not_answer_is_told_with_its_key(tmp_path: Path) -> None:
    away = "sqlite:////nowhere/at/all.db"
    cfg = {"name": "shop", "timezone": "UTC", "databases": {"crm": away}}
    (tmp_path / "app.json").write_text(json.dumps(cfg))
    app = App(tmp_path)
    [found] = _database(app, "crm", NOW)
    assert (found.state, found.about) == ("wrong", "database")
    assert found.text == (
        "database crm: OperationalError: unable to open database file; "
        "is databases.crm in app.json right, and can the database be reached?"
    )


def deployment(name: str, pool: str, queue: str) -> ServerDeployment:
    return ServerDeployment(
        name, name, (), (), work_pool_name=pool, work_queue_name=queue
    )


@pytest.fixture
def fake() -> FakePrefect:
    made = FakePrefect()
    made.ensure_queue("jittask", "shop.tasks", first=False)
    return made


def told(fake: FakePrefect, *there: ServerDeployment) -> list[tuple[str, str]]:
    return [(f.state, f.text) for f in _queues(fake, there)]


def test_a_work_queue_that_no_worker_takes_is_named(fake: FakePrefect) -> None:
    there = [deployment(n, "jittask", "shop.tasks") for n in ("tasks.A", "tasks.B")]
    assert told(fake, *there) == [
        (
            "warning",
            "no worker takes the work queue shop.tasks of the pool jittask (tasks.A and 1 more): "
            "start one: `jittask worker --pool jittask`, or `jittask up`",
        )
    ]
    fake.all_queues["jittask"]["shop.tasks"] = "READY"
    assert told(fake, *there) == [("ok", "workers take shop.tasks of jittask")]
    fake.all_queues["jittask"]["shop.tasks"] = "PAUSED"
    ((state, text),) = told(fake, *there)
    assert state == "warning" and "shop.tasks of jittask is paused" in text


def test_a_pool_that_is_missing_is_named(fake: FakePrefect) -> None:
    ((state, text),) = told(fake, deployment("tasks.A", "heavy", "shop.tasks"))
    assert state == "warning"
    assert "no worker takes the work queue shop.tasks of the pool heavy" in text


def test_a_pool_of_another_type_has_workers_of_that_type(fake: FakePrefect) -> None:
    fake.ensure_pool("heavy", "docker")
    ((state, text),) = told(fake, deployment("tasks.A", "heavy", "shop"))
    assert state == "warning"
    assert text == (
        "no worker takes the work queue shop of the pool heavy (tasks.A): "
        "start one of its type docker: `prefect worker start --pool heavy`"
    )


def test_a_pool_that_somebody_deleted_is_told_with_what_brings_it_back(
    fake: FakePrefect,
) -> None:
    """Prefect leaves a deployment without a pool then: no worker has a name to be started with."""
    there = [deployment(n, "", "shop.tasks") for n in ("tasks.A", "tasks.B")]
    ((state, text),) = told(fake, *there)
    assert (state, text) == (
        "warning",
        "the work pool of tasks.A and 1 more was deleted, and no worker takes them: `jittask deploy` gives the app's pool",
    )


def test_the_database_that_the_server_knows(tmp_path: Path, fake: FakePrefect) -> None:
    first, second = (
        build_app(folder, {}) for folder in (tmp_path / "one", tmp_path / "two")
    )
    assert _guard(first, fake).state == "warning"
    assert "knows no database of" in _guard(first, fake).text
    guard.claim(first, fake)
    assert _guard(first, fake).text == f"it knows {first.name} by this database"
    with pytest.raises(
        OtherDatabase, match="belongs to another database; nothing was changed"
    ):
        _guard(second, fake)


def test_no_step_towards_the_deployments_of_another_app_of_the_name(
    tmp_path: Path, fake: FakePrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`jittask deploy` and `jittask worker` would be refused: only the other name, or the take-over, helps."""
    monkeypatch.setattr(doctor, "connect", lambda folder: fake)
    timer = {"startTime": "2026-01-01 09:00:00", "repeat": {"repeatType": "day"}}
    daily = {"type": "tasks.NormalType", "title": "Daily", "timerCfg": timer}
    tasks = {
        "tasks/Daily": {"e.json": daily, "inner.py": "def customFunc():\n    pass\n"}
    }
    first, second = (build_app(tmp_path / n, tasks) for n in ("one", "two"))
    deploy(first, fake, NOW)
    said = [f.text for f in doctor._server(second, NOW)]
    assert any("belongs to another database" in text for text in said)
    wrong = ("is not deployed", "differs in", "start one:", "makes it known")
    assert [text for text in said if any(word in text for word in wrong)] == []
