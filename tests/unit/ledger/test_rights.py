"""A role with exactly the GRANTs of docs/production.md can save, work or sync; `jittask doctor` says what one lacks."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from shop import Shop, rows_task
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from jittask_prefect.cli import doctor
from jittask_prefect.elements.app_name import ENV_DATABASE
from jittask_prefect.errors import LedgerError
from jittask_prefect.ledger import hindrance, versions
from jittask_prefect.rows import handover
from jittask_prefect.rows.plan import Report
from jittask_prefect.rows.pruning import prune_all
from jittask_prefect.task_svc.service import TaskSvc

Make = Callable[..., Shop]
TEN, ELEVEN = datetime(2026, 3, 2, 10), datetime(2026, 3, 2, 11)
PAGE = Path(__file__).parents[3] / "docs" / "production.md"
GRANTS = re.findall(
    r"^GRANT (.+) ON (\w+) TO shop_(\w+);$",
    PAGE.read_text(encoding="utf-8"),
    re.MULTILINE,
)
DAILY = {
    "e.json": {
        "type": "tasks.NormalType", "title": "Daily",
        "timerCfg": {"startTime": "2026-03-02 08:30:00", "repeat": {"repeatType": "day"}},
    },
    "inner.py": "def customFunc():\n    return 1\n\ndef other(n):\n    return n\n",
}  # fmt: skip
FAILS = "def customFunc(row):\n    raise ValueError('no')\n"
HOURLY = {"repeat": {"repeatType": "hour"}, "concurrency": {"limit": 1}}


@contextmanager
def as_role(s: Shop, patch: pytest.MonkeyPatch, *grants: str) -> Iterator[str]:
    """The app's database is a role's from now on."""
    url, name = make_url(s.app.database_url()), f"jittask_grants_{os.getpid()}"
    for statement in (f"CREATE ROLE {name}", f"GRANT USAGE ON SCHEMA public TO {name}"):
        s.raw(statement)
    for grant in grants:
        s.raw(f"GRANT {grant} TO {name}")
    s.app.dispose()
    own = url.update_query_dict({"options": f"-crole={name}"})
    patch.setenv(ENV_DATABASE, own.render_as_string(hide_password=False))
    hindrance.forget()
    try:
        yield name
    finally:
        patch.delenv(ENV_DATABASE)
        s.app.dispose()
        s.raw(f"DROP OWNED BY {name}")
        s.raw(f"DROP ROLE {name}")


def of_page(who: str) -> list[str]:
    return [f"{rights} ON {table}" for rights, table, of in GRANTS if of == who]


@pytest.fixture
def shop_(shop: Make, url: Callable[[str], str]) -> Shop:
    tasks = {
        "tasks/Fails": rows_task(inner=FAILS, retries=1, retryDelay=0),
        "tasks/Hourly": rows_task(**HOURLY),
    }
    return shop(
        more={**tasks, "tasks/Daily": DAILY}, app_json={"database": url("postgresql")}
    )


def test_each_role_of_the_page_can_do_its_work(
    shop_: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    s = shop_
    assert {of for _, _, of in GRANTS} == {"web", "worker", "sync"}
    with as_role(s, monkeypatch, *of_page("web"), "ALL ON bill"):
        s.save(id=1, at=TEN)
        s.save(id=1, at=ELEVEN)
        s.save(id=2, at=TEN)
        s.drop(2)
        svc = TaskSvc(s.app, s.api)
        row = s.row(1)
        assert svc.saveDateFieldTask({"postData": row})["unchanged"] >= 3
        handover.hand_over(s.app, "", s.api, s.now, Report())
        svc.createTimerTask(
            "tasks.Daily", "2026-03-02 09:00", "other", "tasks.NormalType", {"n": 1}
        )
        assert svc.forcedEnd(
            s.entries(row_key="1", template="tasks.Task", status="pending")[0].task_id
        )["changed"]
        s.save(id=3, at=ELEVEN)
    s.insert(id=4, status="open", at=ELEVEN, count=0)
    with as_role(s, monkeypatch, *of_page("sync"), "SELECT ON bill"):
        assert s.sync("2026-03-02 08:01").problems == []
        s.config(enable=False)
        assert s.sync("2026-03-02 08:02").problems == []
        s.config(enable=True)
        assert s.sync("2026-03-02 08:03").problems == []
        assert s.sync("2026-03-02 08:04", since="2026-03-02 08:00").problems == []
    with as_role(s, monkeypatch, *of_page("worker"), "SELECT, UPDATE ON bill"):
        assert s.sync("2026-03-02 10:59").problems == []
        done = [o.outcome for o in s.work("2026-03-02 11:00")]
        assert set(done) == {"completed", "failed"}, done
        assert s.sync("2026-03-02 11:01").problems == []
        s.work("2026-03-02 12:00")
        assert s.sync("2026-03-02 12:01").problems == []
    said = [
        r.message
        for r in caplog.records
        if "denied" in r.getMessage() or "denied" in str(r.exc_info)
    ]
    assert said == []


def test_a_prune_names_the_grant_that_its_role_lacks(
    shop_: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    s, april = shop_, datetime(2026, 4, 1, tzinfo=UTC)
    s.save(id=1, at=TEN)
    s.sync("2026-03-02 09:00")
    s.work("2026-03-02 10:00")
    s.raw("DELETE FROM bill")
    s.sync("2026-05-15 08:00")
    rights = "SELECT, INSERT, UPDATE ON jittask_ledger", "ALL ON jittask_state"
    with as_role(s, monkeypatch, *rights, "SELECT ON bill") as name:
        with pytest.raises(LedgerError) as refused:
            prune_all(s.app, april, s.now, lambda database, removed: None)
        assert f"`GRANT DELETE ON jittask_ledger TO {name}`" in str(refused.value)


def told(s: Shop) -> list[tuple[str, str]]:
    """What the doctor says of rights."""
    found = [
        (f.state, f.text)
        for f in doctor.findings(s.app, s.now)
        if f.about == "database"
    ]
    return [(state, text) for state, text in found if "lacks" in text]


def test_the_doctor_names_what_the_role_lacks(
    shop_: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    s, bill = shop_, "SELECT ON bill"
    assert told(s) == []
    with as_role(s, monkeypatch, *of_page("worker"), bill):
        assert told(s) == []
    with as_role(s, monkeypatch, *of_page("web"), bill) as name:
        lacks = "; ".join(
            f"role {name} lacks DELETE ON {table}: `GRANT DELETE ON {table} TO {name}`"
            for table in ("jittask_ledger", "jittask_state")
        )
        said = (
            "the app's database: enough for a program that saves rows; for a worker, or a sync, "
            + lacks
        )
        assert told(s) == [("warning", said)]
    with as_role(
        s, monkeypatch, "SELECT ON jittask_ledger", "ALL ON jittask_state", bill
    ) as name:
        what = "INSERT, UPDATE ON jittask_ledger"
        assert told(s) == [
            (
                "wrong",
                f"the app's database: role {name} lacks {what}: `GRANT {what} TO {name}`",
            )
        ]
    with as_role(s, monkeypatch, "ALL ON jittask_ledger", bill) as name:
        assert (
            len(told(s)) == 1
            and f"GRANT SELECT ON jittask_state TO {name}" in told(s)[0][1]
        )
    with as_role(s, monkeypatch, *of_page("worker")) as name:
        [(state, said)] = told(s)
        assert state == "warning" and f"GRANT SELECT ON bill TO {name}" in said


def test_a_schema_without_usage_is_named(
    shop_: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL finds no table there: the tables are not missing, and nobody is told to make them again."""
    s, owner = shop_, create_engine(shop_.app.database_url())
    grants = ("ALL ON jittask_ledger", "ALL ON jittask_state", "ALL ON bill")
    with as_role(s, monkeypatch, *grants) as name:
        said = (
            f"the app's database: role {name} may not use schema public, where the ledger's tables are: "
            f"`GRANT USAGE ON SCHEMA public TO {name}`"
        )
        with owner.begin() as connection:
            connection.execute(
                text(f"REVOKE USAGE ON SCHEMA public FROM PUBLIC, {name}")
            )
        try:
            found = [f for f in doctor.findings(s.app, s.now) if f.about == "database"]
            with pytest.raises(LedgerError) as of_sync:
                s.sync()
            with (
                s.app.engine().begin() as connection,
                pytest.raises(LedgerError) as of_upgrade,
            ):
                versions.upgrade_ledger(connection)
        finally:
            with owner.begin() as connection:
                connection.execute(text("GRANT USAGE ON SCHEMA public TO PUBLIC"))
            owner.dispose()
    assert ("wrong", said) in [(f.state, f.text) for f in found]
    assert str(of_sync.value) == said
    grant = f"`GRANT USAGE ON SCHEMA public TO {name}`"
    assert str(of_upgrade.value).endswith(grant)


def test_a_worker_without_rights_is_told_the_grants(
    shop_: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its sync and its flow runs say."""
    s = shop_
    grants = ("SELECT ON jittask_ledger", "ALL ON jittask_state", "ALL ON bill")
    s.save(id=1, at=TEN)
    with as_role(s, monkeypatch, *grants) as name:
        with pytest.raises(LedgerError) as of_sync, hindrance.naming_rights(s.app):
            s.sync()
        with pytest.raises(DBAPIError) as of_run:
            s.work("2026-03-02 10:00")
        said = hindrance.told(s.app, of_run.value)
    lacks = "INSERT, UPDATE, DELETE ON jittask_ledger"
    for line in (str(of_sync.value), said):
        assert "permission denied for table jittask_ledger; " in line
        assert f"role {name} lacks {lacks}: `GRANT {lacks} TO {name}`" in line
    assert hindrance.told(s.app, ValueError("no")) == "ValueError: no"


@pytest.mark.parametrize("right", ["SELECT", "INSERT", "UPDATE"])
def test_on_mariadb(
    shop: Make,
    url: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    right: str,
) -> None:
    """The error names user, right and table; the row is saved, and the next sync plans it."""
    s = shop(app_json={"database": url("mariadb")})
    s.save(id=1, at=TEN)
    own = make_url(s.app.database_url())
    user = f"jittask_{os.getpid()}"
    others = ", ".join(r for r in ("SELECT", "INSERT", "UPDATE") if r != right)
    s.raw(f"CREATE USER {user} IDENTIFIED BY 'secret'")
    try:
        for grant in (
            "ALL ON bill",
            "SELECT ON jittask_state",
            f"{others} ON jittask_ledger",
        ):
            s.raw(f"GRANT {grant} TO {user}")
        engine = create_engine(own.set(username=user, password="secret"))
        with Session(engine) as session:
            session.get_one(s.element("models.Bill"), 1).at = ELEVEN
            session.add(s.element("models.Bill")(id=2, at=ELEVEN))
            session.commit()
        engine.dispose()
        assert len(caplog.messages) == 1
        assert (
            f"{right} command denied to user '{user}'" in caplog.text
            and "jittask_ledger" in caplog.text
        )
        with monkeypatch.context() as patch:
            patch.setenv(ENV_DATABASE, engine.url.render_as_string(hide_password=False))
            s.app.dispose()
            said = told(s)
        assert f"lacks {right}" in str(said) and "ON jittask_ledger" in str(said)
    finally:
        s.app.dispose()
        s.raw(f"DROP USER {user}")
    s.sync("2026-03-02 08:01")
    assert sorted(s.tasks(status="pending")) == [
        "1 03-02 11:00 #2 pending",
        "2 03-02 11:00 #1 pending",
    ]
