"""The commands: what they print, where they exit with 1, and that no user ever sees a traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jittask_prefect import App
from jittask_prefect.cli import commands
from jittask_prefect.elements import app as app_module
from jittask_prefect.ledger.tables import entries
from jittask_prefect.schedule import clock

NOW = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
NOWHERE = "http://127.0.0.1:9/api"  # nobody listens at the discard port


class Done(NamedTuple):
    code: int
    out: str
    err: str


Jittask = Callable[..., Done]


@pytest.fixture
def jittask(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Jittask:
    """The command, in this process, as of `NOW`; each call is a new start."""
    monkeypatch.setattr(clock, "now", lambda: NOW)
    monkeypatch.delenv("JITTASK_APP", raising=False)
    monkeypatch.delenv("JITTASK_DATABASE_URL", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)  # set in processes of the test run
    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["jittask", *args])
        for app in app_module.apps_in_use():
            app.close()
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            commands.main()
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return Done(int(ended.value.code or 0), said.out, said.err)

    return call


@pytest.fixture
def shop(jittask: Jittask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new app, which is where we are."""
    assert jittask("init", "shop").code == 0
    monkeypatch.chdir(tmp_path / "shop")
    return tmp_path / "shop"


def edit(file: Path, **keys: Any) -> None:
    file.write_text(
        json.dumps(json.loads(file.read_text(encoding="utf-8")) | keys),
        encoding="utf-8",
    )


def add_contract(shop: Path, **values: Any) -> None:
    app = App(shop)
    Contract = app.getElement("models.Contract")
    with app.engine().begin() as connection:
        connection.execute(
            Contract.__table__.insert().values(status="active", reminders=0, **values)
        )
    app.close()


def count_of_ledger(shop: Path) -> int:
    app = App(shop)
    with app.engine().connect() as connection:
        return len(connection.execute(entries.select()).all())


# --- init, new, check ------------------------------------------------------------------------------------------------


def test_a_new_app_works_at_once(jittask: Jittask, shop: Path) -> None:
    assert jittask("check").code == 0
    assert jittask("compile").code == 0
    assert jittask("run", "tasks.DailyReport").code == 0
    assert json.loads(jittask("sync", "--dry-run", "--json").out) == []
    assert jittask("db", "upgrade").out.strip() == "the tables are current"


def test_init_where_something_is(jittask: Jittask, shop: Path) -> None:
    done = jittask("init", ".")
    assert (done.code, done.out) == (1, "")
    assert "not empty" in done.err


def test_check_says_that_all_is_well(jittask: Jittask, shop: Path) -> None:
    done = jittask("check")
    assert (done.code, done.out) == (0, "")
    assert "tasks: 2" in done.err


def test_check_lists_every_mistake_on_stdout_and_exits_with_1(
    jittask: Jittask, shop: Path
) -> None:
    edit(shop / "tasks/DailyReport/e.json", enable="yes", titel="x")
    (shop / "services/NoticeSvc/service.py").write_text("raise SystemExit\n")
    done = jittask("check")
    assert done.code == 1
    lines = done.out.splitlines()
    assert len(lines) == 3
    assert all(
        re.match(r"[a-z]+/\w+/[a-z.]+: .*found .*; allowed: .+", line) for line in lines
    ), lines
    assert lines[0].startswith(
        "services/NoticeSvc/service.py: line 1: found SystemExit"
    )
    assert {line.split(": ")[1] for line in lines[1:]} == {"enable", "titel"}


def test_check_of_a_broken_app_json(jittask: Jittask, shop: Path) -> None:
    (shop / "app.json").write_text('{"name": "shop",\n "timezone" "UTC"}')
    done = jittask("check")
    assert done.code == 1
    assert "app.json: found line 2, column 13" in done.out + done.err


def test_check_where_there_is_no_app(jittask: Jittask) -> None:
    done = jittask("check")
    assert done.code == 1
    assert "jittask init" in done.out + done.err


def test_new_tasks_with_titles_in_any_language(jittask: Jittask, shop: Path) -> None:
    assert (
        "tasks.HeTongDaoQiTiXing is made"
        in jittask("new", "scheduled", "合同到期提醒").out
    )
    assert (
        "tasks.HeTongDaoQiTiXing2 is made"
        in jittask("new", "date-field", "合同到期提醒").out
    )
    assert jittask("check").code == 0
    titles = [t.title for t in App(shop).templates()]
    assert titles.count("合同到期提醒") == 2


def test_new_with_what_does_not_belong(jittask: Jittask, shop: Path) -> None:
    assert jittask("new", "scheduled", "X", "--model", "models.Contract").code == 1
    assert jittask("new", "date-field", "X", "--model", "models.No").code == 1
    assert jittask("new", "hourly", "X").code == 2
    assert [p.name for p in sorted((shop / "tasks").iterdir())] == [
        "ContractReminder",
        "DailyReport",
    ]


# --- compile ---------------------------------------------------------------------------------------------------------


def test_compile_with_an_instant_and_a_file(jittask: Jittask, shop: Path) -> None:
    first, second = shop / "a" / "one.yaml", shop / "two.yaml"
    assert (
        jittask(
            "compile", "--now", "2026-05-01T00:00:00+00:00", "--out", str(first)
        ).code
        == 0
    )
    text = first.read_text(encoding="utf-8")
    recorded = text.splitlines()[0].partition("--now ")[2]
    assert recorded == "2026-05-01T00:00:00+00:00"
    assert jittask("compile", "--now", recorded, "--out", str(second)).code == 0
    assert second.read_text(encoding="utf-8") == text


def test_compile_twice_is_the_same_file(
    jittask: Jittask, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jittask("compile")
    before = (shop / "prefect.yaml").read_bytes()
    monkeypatch.setattr(clock, "now", lambda: datetime(2026, 3, 20, tzinfo=UTC))
    jittask("compile")
    assert (shop / "prefect.yaml").read_bytes() == before


def test_compile_as_of_a_time_that_is_none(jittask: Jittask, shop: Path) -> None:
    done = jittask("compile", "--now", "yesterday")
    assert done.code == 1
    assert "--now" in done.err
    assert "yesterday" in done.err


def test_compile_says_what_it_left_out(jittask: Jittask, shop: Path) -> None:
    edit(shop / "tasks/DailyReport/e.json", enable="yes")
    done = jittask("compile")
    assert done.code == 0
    assert "tasks/DailyReport/e.json: enable" in done.err


# --- sync, run, preview ----------------------------------------------------------------------------------------------


def test_a_dry_sync_prints_the_plan_and_writes_nothing(
    jittask: Jittask, shop: Path
) -> None:
    add_contract(shop, id=7, customer="Ada", endDate=date(2026, 3, 9))
    edit(shop / "app.json", timezone="Asia/Shanghai")
    now = "2026-03-01T12:00:00+08:00"
    (action,) = json.loads(jittask("sync", "--dry-run", "--json", "--now", now).out)
    assert action | {"reason": "", "taskId": ""} == {
        "fullName": "tasks.ContractReminder",
        "row": "7",
        "taskId": "",
        "dueTime": "2026-03-02T09:00:00+08:00",  # seven days before the 9th
        "action": "create",
        "reason": "",
    }
    assert action["reason"] == "due within the horizon"
    assert count_of_ledger(shop) == 0
    table = jittask("sync", "--dry-run", "--now", now)
    assert table.code == 0
    assert table.out.splitlines() == [
        "tasks.ContractReminder",
        "  due                       action  row  reason",
        f"  Mon 2026-03-02 09:00 CST  create  7    {action['reason']}",
        "Rows until Mon 2026-03-02 12:00 CST (the horizon): 1 to create.",
        "Nothing was written. Later ones: `jittask pending TASK --until DATE`.",
    ]
    early = jittask("sync", "--dry-run", "--now", "2026-02-20T12:00:00+08:00")
    assert (
        early.out.splitlines()[0]
        == "Rows until Sat 2026-02-21 12:00 CST (the horizon): nothing to do."
    )


def test_a_sync_without_a_server_says_where_it_tried(
    jittask: Jittask, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_contract(shop, id=7, customer="Ada", endDate=date(2026, 3, 9))
    monkeypatch.setenv("PREFECT_API_URL", NOWHERE)
    done = jittask("sync")
    assert done.code == 1
    assert NOWHERE in done.err
    assert "jittask up" in done.err


def test_run_here_and_now(jittask: Jittask, shop: Path) -> None:
    add_contract(shop, id=7, customer="Ada", endDate=date(2026, 3, 9))
    done = json.loads(
        jittask("run", "tasks.ContractReminder", "--row", "7", "--dry").out
    )
    assert done == {
        "fullName": "tasks.ContractReminder",
        "row": "7",
        "result": "sent to Ada",
        "dry": True,
    }
    app = App(shop)
    Contract = app.getElement("models.Contract")
    with app.session() as s:
        assert s.get(Contract, 7).reminders == 0
    app.close()
    assert (
        json.loads(jittask("run", "tasks.ContractReminder", "--row", "7").out)["dry"]
        is False
    )
    app = App(shop)
    with app.session() as s:
        assert s.get(app.getElement("models.Contract"), 7).reminders == 1
    assert json.loads(jittask("run", "tasks.DailyReport").out)["result"] == {
        "active contracts": 1
    }


@pytest.mark.parametrize(
    "args, said",
    [
        (["tasks.No"], "tasks.No"),
        (["models.Contract"], "models.Contract"),
        (["tasks.ContractReminder"], "--row"),
        (["tasks.ContractReminder", "--row", "99"], "99"),
        (["tasks.ContractReminder", "--row", "x"], "x"),
        (["tasks.DailyReport", "--row", "7"], "--row"),
    ],
)
def test_run_what_cannot_be_run(
    jittask: Jittask, shop: Path, args: list[str], said: str
) -> None:
    done = jittask("run", *args)
    assert (done.code, done.out) == (1, "")
    assert said in done.err


def test_preview(jittask: Jittask, shop: Path) -> None:
    report = json.loads((shop / "tasks/DailyReport/e.json").read_text())["timerCfg"]
    edit(shop / "app.json", timezone="Asia/Shanghai", calendar="CN")
    edit(shop / "tasks/DailyReport/e.json", timerCfg=report | {"skipHoliday": 1})
    window = ["--after", "2026-09-30 00:00:00", "--before", "2026-10-09 00:00:00"]
    done = jittask("preview", "tasks.DailyReport", *window)
    assert done.code == 0
    assert "2026-09-30 09:00" in done.out
    assert "2026-10-08 09:00" in done.out  # after the National Day holiday, 1–7 October
    assert "National Day" in done.out or "国庆" in done.out
    found = json.loads(jittask("preview", "tasks.DailyReport", *window, "--json").out)
    # What ran on the holiday arrives on the 8th, as one.
    assert sorted({e["due"][:10] for e in found if e["due"]}) == [
        "2026-09-30",
        "2026-10-08",
    ]
    assert (
        len(
            json.loads(
                jittask(
                    "preview", "tasks.DailyReport", *window, "--json", "--count", "1"
                ).out
            )
        )
        == 1
    )


def test_preview_of_a_row(jittask: Jittask, shop: Path) -> None:
    add_contract(shop, id=7, customer="Ada", endDate=date(2026, 3, 9))
    (found,) = json.loads(
        jittask("preview", "tasks.ContractReminder", "--row", "7", "--json").out
    )
    assert found["due"].startswith("2026-03-02T09:00:00")
    assert jittask("preview", "tasks.ContractReminder").code == 1


def test_preview_of_what_is_none(jittask: Jittask, shop: Path) -> None:
    assert jittask("preview", "tasks.No").code == 1
    assert jittask("preview", "tasks.DailyReport", "--after", "soon").code == 1


@pytest.fixture
def contracts(shop: Path) -> Path:
    """Two contracts, of which reminders are due on March 3 and March 22, at nine; no hook saw them."""
    edit(shop / "app.json", timezone="Asia/Shanghai")
    add_contract(shop, id=7, customer="Ada", endDate=date(2026, 3, 10))
    add_contract(shop, id=12, customer="Bo", endDate=date(2026, 3, 29))
    return shop


def test_pending_up_to_a_date(jittask: Jittask, contracts: Path) -> None:
    done = jittask(
        "pending", "tasks.ContractReminder", "--until", "2026-03-22"
    )  # that day included
    first, second = json.loads(
        jittask(
            "pending", "tasks.ContractReminder", "--until", "2026-03-22", "--json"
        ).out
    )
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "due                       row      taskId                                note",
        f"Tue 2026-03-03 09:00 CST  Ada (7)  {first['taskId']}",
        f"Sun 2026-03-22 09:00 CST  Bo (12)  {second['taskId']}",
        "Pending until Sun 2026-03-22 23:59 CST: 2.",
    ]
    assert [first["row"], first["dueTime"], first["status"]] == [
        "7",
        "2026-03-03T09:00:00+08:00",
        "pending",
    ]
    # A time is included, too; the horizon is a day.
    assert (
        len(json.loads(jittask("pending", "tasks.ContractReminder", "--json").out)) == 1
    )
    until = ["--until", "2026-03-22 09:00:00"]
    assert (
        len(
            json.loads(
                jittask("pending", "tasks.ContractReminder", *until, "--json").out
            )
        )
        == 2
    )
    until = ["--until", "2026-03-22 08:59:59"]
    assert (
        len(
            json.loads(
                jittask("pending", "tasks.ContractReminder", *until, "--json").out
            )
        )
        == 1
    )


def test_pending_says_when_there_is_more_or_none(
    jittask: Jittask, contracts: Path
) -> None:
    done = jittask(
        "pending", "tasks.ContractReminder", "--until", "2026-12-31", "--limit", "1"
    )
    assert "Pending until Thu 2026-12-31 23:59 CST: 1." in done.out
    assert "more than 1; --limit" in done.err
    assert (
        jittask(
            "pending", "tasks.ContractReminder", "--until", "2026-12-31", "--limit", "2"
        ).err
        == ""
    )
    edit(contracts / "tasks/ContractReminder/e.json", enable=0)
    done = jittask("pending", "tasks.ContractReminder", "--until", "2026-12-31")
    assert done.out == "Pending until Thu 2026-12-31 23:59 CST: none.\n"
    assert "disabled" in done.err


def test_pending_of_a_schedule(jittask: Jittask, contracts: Path) -> None:
    done = jittask("pending", "tasks.DailyReport", "--until", "2026-03-03")
    assert done.out.splitlines()[:2] == [
        "due                       note",
        "Mon 2026-03-02 09:00 CST",
    ]
    assert "jittask records tasks.DailyReport --status pending" in done.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["tasks.No"], "its templates are"),
        (["tasks.DailyReport", "--until", "soon"], "--until: 'soon' is no time"),
        (
            ["tasks.DailyReport", "--until", "2026-03-01"],
            "--until 2026-03-01; allowed: a time that is not past",
        ),
        (["tasks.DailyReport", "--until", "9999-12-31"], "--until"),
    ],
)
def test_pending_of_what_is_none(
    jittask: Jittask, contracts: Path, args: list[str], said: str
) -> None:
    done = jittask("pending", *args)
    assert (done.code, done.out) == (1, "")
    assert said in done.err


def test_a_row_seen_whole(jittask: Jittask, contracts: Path) -> None:
    done = jittask("row", "models.Contract", "12")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "models.Contract Bo (12)"
    assert "  From 7 days before `endDate` (2026-03-29), at 09:00." in lines
    assert (
        "  Sun 2026-03-22 09:00 CST  pending     beyond the horizon (24 hours)" in lines
    )
    data = json.loads(jittask("row", "models.Contract", "12", "--json").out)
    assert [t["dueTime"] for t in data["templates"][0]["tasks"]] == [
        "2026-03-22T09:00:00+08:00"
    ]
    done = jittask("row", "models.Contract", "99")
    assert (done.code, done.out) == (1, "")
    assert "has no row '99'" in done.err
    done = jittask("row", "models.No", "99")
    assert (done.code, done.out) == (1, "")
    assert "its models are models.Contract" in done.err


def test_doctor(jittask: Jittask, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", NOWHERE)
    edit(shop / "app.json", timezone="Asia/Shanghai", calendar="CN")
    report = json.loads((shop / "tasks/DailyReport/e.json").read_text())["timerCfg"]
    edit(shop / "tasks/DailyReport/e.json", timerCfg=report | {"skipHoliday": 1})
    done = jittask("doctor")
    assert done.code == 1  # nobody answers there
    lines = done.out.splitlines()
    assert any(
        line.startswith("ok versions: Python ") and ", sqlalchemy 2." in line
        for line in lines
    )
    assert any(line.startswith("ok app: ") for line in lines)
    known = r"warning app: tasks.DailyReport: holidays of CN are published until 20\d\d-12-31; later days are a forecast.*"
    assert any(re.fullmatch(known, line) for line in lines)
    assert "ok database: the app's database: the ledger's tables are current" in lines
    assert any(line.startswith("warning server: no sync has run yet") for line in lines)
    assert any(line.startswith("wrong server: ") and NOWHERE in line for line in lines)
    monkeypatch.setattr(commands, "edge", lambda: 40)
    folded = jittask("doctor").out.splitlines()
    assert max(map(len, folded)) <= 40
    words = " ".join(line.strip() for line in folded if NOWHERE not in line)
    assert "ok database: the app's database: the ledger's tables are current" in words


# --- a server that is not there --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ["records"],
        ["records", "--json"],
        ["deploy"],
        ["end", "00000000-0000-4000-8000-000000000000"],
    ],
    ids=" ".join,
)
def test_no_server_is_a_sentence(
    jittask: Jittask, shop: Path, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", NOWHERE)
    done = jittask(*args)
    assert (done.code, done.out) == (1, "")
    assert NOWHERE in done.err
    assert "jittask up" in done.err


def test_no_server_is_known(
    jittask: Jittask, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    done = jittask("records")
    assert done.code == 1
    assert "PREFECT_API_URL" in done.err
    assert "jittask up" in done.err


def test_end_what_is_no_task(jittask: Jittask, shop: Path) -> None:
    done = jittask("end", "task_uuid_12345")
    assert (done.code, done.out) == (1, "")
    assert "there is no such task" in done.err


# --- db upgrade ------------------------------------------------------------------------------------------------------


def test_db_upgrade_makes_what_is_missing_once(jittask: Jittask, shop: Path) -> None:
    (shop / "app.db").unlink()
    done = jittask("end", "task_uuid_12345")
    assert done.code == 1
    assert "jittask db upgrade" in done.err
    first = jittask("db", "upgrade")
    assert first.code == 0
    assert "ledger tables" in first.out
    assert jittask("db", "upgrade").out.strip() == "the tables are current"
    done = jittask("sync", "--dry-run")  # the models' tables are the team's own
    assert "contract" in done.err
    assert "table contract" in jittask("db", "upgrade", "--models").out
    assert jittask("db", "upgrade", "--models").out.strip() == "the tables are current"


def test_db_prune_says_how_many_are_gone(jittask: Jittask, shop: Path) -> None:
    done = jittask("db", "prune", "--before", "2020-01-01")
    assert (done.code, done.out.strip()) == (0, "default: 0 tasks removed")
    late = jittask("db", "prune", "--before", "2100-01-01")
    assert late.code == 1 and "--before: 2100-01-01 00:00 is too late" in late.err
    wrong = jittask("db", "prune", "--before", "yesterday")
    assert wrong.code == 1 and "--before" in wrong.err


@pytest.mark.parametrize(
    "args",
    [
        ["pending", "tasks.ContractReminder"],
        ["pending", "tasks.DailyReport"],
        ["row", "models.Contract", "1"],
        ["sync", "--dry-run"],
    ],
    ids=" ".join,
)
def test_a_ledger_of_an_older_version_is_a_sentence(
    jittask: Jittask, contracts: Path, args: list[str]
) -> None:
    with sqlite3.connect(contracts / "app.db") as connection:
        connection.execute("UPDATE jittask_state SET value = '1' WHERE name = 'schema'")
        for column in ("start_value", "end_value"):
            connection.execute("DROP INDEX IF EXISTS ix_jittask_ledger_planned")
            connection.execute(f"ALTER TABLE jittask_ledger DROP COLUMN {column}")
    done = jittask(*args)
    assert (done.code, done.out) == (1, "")
    said = " ".join(done.err.split())
    assert said.startswith("LedgerError: database ")
    assert "has ledger tables of version 1, and this jittask-prefect works with" in said
    assert "install the jittask-prefect that made them" in said


def test_a_database_that_cannot_be_opened_is_a_sentence(
    jittask: Jittask, shop: Path
) -> None:
    edit(shop / "app.json", database="sqlite:////nowhere/at/all.db")
    done = jittask("db", "upgrade")
    assert done.code == 1
    assert "unable to open database file" in done.err


# --- the real thing --------------------------------------------------------------------------------------------------


def test_the_console_script(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("jittask")
    env = {k: v for k, v in os.environ.items() if not k.startswith("JITTASK_")}

    def run(*args: str, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [command, *args],
            cwd=cwd,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert run("init", "shop").returncode == 0
    assert run("check", cwd=tmp_path / "shop").returncode == 0
    assert (
        run("check", cwd=tmp_path / "shop" / "tasks").returncode == 0
    )  # the nearest app.json
    done = run("check")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert run("nonsense").returncode == 2


def test_help_lists_the_commands_of_the_contract(jittask: Jittask) -> None:
    said = jittask("--help").out
    for name in (
        "init",
        "new",
        "check",
        "compile",
        "deploy",
        "sync",
        "up",
        "run",
        "end",
        "preview",
        "calendar",
        "pending",
        "row",
        "records",
        "doctor",
        "db",
    ):
        assert re.search(rf"\b{name}\b", said), name


# Bad input


def test_a_bad_element_keeps_no_command_from_working(
    jittask: Jittask, shop: Path
) -> None:
    """Half a surrogate pair, a number of thousands of digits, a limit beyond all clocks: told, and the rest works."""
    e_json = json.loads(
        (shop / "tasks/ContractReminder/e.json").read_text(encoding="utf-8")
    )
    hexed = {**e_json, "filter": f"Q(reminders=0x{'f' * 3900})"}
    for name, content in {
        "Half": {**e_json, "title": "\ud800"},
        "Hex": hexed,
        "Long": {**e_json, "timeout": 1e10},
    }.items():
        shutil.copytree(shop / "tasks/ContractReminder", shop / "tasks" / name)
        (shop / "tasks" / name / "e.json").write_text(
            json.dumps(content), encoding="utf-8"
        )
    add_contract(shop, customer="a", endDate=date(2026, 3, 9))
    checked = jittask("check")
    assert checked.code == 1
    assert sorted(line.split(":")[0] for line in checked.out.splitlines()) == [
        "tasks/Half/e.json",
        "tasks/Hex/e.json",
        "tasks/Long/e.json",
    ]
    assert jittask("compile").code == 0
    assert "tasks.ContractReminder" in (shop / "prefect.yaml").read_text(
        encoding="utf-8"
    )
    assert "ContractReminder" in jittask("sync", "--dry-run").out
    assert "3 mistakes" in jittask("doctor").out
    for look in ("preview", "pending", "stats"):
        assert jittask(look, "tasks.DailyReport").code == 0


LINES = [
    "row models.Contract {nines}", "row models.Contract \x00", "row models.Contract \ud800", "row \ud800 1",
    "preview tasks.ContractReminder --row {nines}", "preview tasks.\x1b[31m",
    "run tasks.ContractReminder --row {nines}",
    "preview tasks.DailyReport --after 9999-12-31", "preview tasks.DailyReport --after 0001-01-01T00:00:00+14:00",
    "preview tasks.DailyReport --before 9999-12-31", "pending tasks.DailyReport --until 9999-12-31",
    "pending tasks.DailyReport --until {nines}", "stats --from 0001-01-01", "stats --to 9999-12-31", "end \ud800",
    "end \x00", "end {nines}", "calendar \ud800 2026", "calendar CN 9999", "sync --dry-run --now 9999-12-31",
    "sync --dry-run --now 0001-01-01", "sync --dry-run --since 0001-01-03", "compile --now 9999-12-29",
    "compile --now 0001-01-03", "row models.Contract [[[[[[", "records --row {nines}",
    "preview tasks.DailyReport --after 9999-12-29",
    "new scheduled \ud800", "new scheduled \x1b[31m",
]  # fmt: skip


def test_what_a_command_is_given_is_answered_in_a_sentence(
    jittask: Jittask, shop: Path
) -> None:
    """Numbers of 400 digits, NUL, half a surrogate pair, the ends of the calendar."""
    for line in LINES:
        done = jittask(
            *(word.replace("{nines}", "9" * 400) for word in line.split(" "))
        )
        (done.out + done.err).encode()
        assert done.code in (0, 1), line
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", done.out + done.err), (
            line
        )
